"""Where reports go: files that are whole or not there."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def target(text: str) -> Path:
    """Return a path that can be written to, for argparse."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file in a directory that exists")
    return path


def write(target: Path, text: str) -> None:
    """Write beside the target and rename: nobody meets half a file."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        part.write_text(text)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
