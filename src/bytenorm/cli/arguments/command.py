"""A command, as the program and its help know it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


@dataclass(frozen=True)
class Command:
    """What a command is called, what its help says, and what it needs.

    The module of its name in ``commands`` does its work; that may import what needs an extra, this may not.
    """

    name: str
    usage: str  # behind its name, without options
    summary: str
    description: str
    epilog: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    extra: str = "onnx"
    packages: tuple[str, ...] = ("onnx", "onnxruntime", "rich")  # of the extra, before the work begins
