"""Commands that have to succeed."""

from __future__ import annotations

import subprocess
import sys


def run(*command: object, **options: object) -> str:
    """Run a command; return what it prints, or end with it."""
    done = subprocess.run(
        [str(part) for part in command],
        text=True,
        capture_output=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return str(done.stdout)
