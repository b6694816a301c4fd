"""Where reports go: files that are whole or not there."""

from __future__ import annotations

import argparse
from pathlib import Path

from bytenorm._files import replacing


def target(text: str) -> Path:
    """Return a path that can be written to, for argparse."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file in a directory that exists")
    return path


def write(target: Path, text: str) -> None:
    """Write a file, all of it or nothing."""
    with replacing(target, str(target)) as file:
        file.write(text.encode())
