"""A command, as the program and its help know it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass


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

    def spellings(self) -> dict[str, str]:
        """Return the options by where their values lie: "--fast" by "fast"; by "compare=False" what sets that."""
        parser = argparse.ArgumentParser(add_help=False)
        self.add_arguments(parser)
        return {
            f"{action.dest}=False" if action.const is False else action.dest: action.option_strings[-1]
            for action in parser._actions
            if action.option_strings
        }
