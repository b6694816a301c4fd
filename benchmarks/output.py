"""Where reports go: to the terminal, and to files that are whole or not there."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bytenorm._files.writing import replacing


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


def add_markdown(parser: argparse.ArgumentParser) -> None:
    """Add the option of a command that names a file for its report."""
    parser.add_argument("--markdown", type=target, metavar="FILE", help="write the report as Markdown")


def publish(report: str, markdown: Path | None) -> None:
    """Print a report, and write it to the file that was asked for."""
    if markdown is not None:
        write(markdown, report)
    sys.stdout.write(report)
