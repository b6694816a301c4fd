"""Runs sections, each in a process of its own, so that none inherits another's threads, pins or memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .results import Outcome, from_json
from .sections import SECTIONS

ROOT = Path(__file__).parent.parent
ONE_THREAD = dict.fromkeys(
    ("BYTENORM_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"),
    "1",
)

Progress = Callable[[str, int, int], None]


def run(name: str, quick: bool, progress: Progress) -> Outcome:
    """Run a section and return what it came to.

    Parameters
    ----------
    name : str
        A key of `SECTIONS`.
    quick : bool
        Fewer rounds and smaller problems.
    progress : callable
        Called with what is being measured, the rounds done and the rounds there are.
    """
    section = SECTIONS[name]
    environment = {**os.environ, **(ONE_THREAD if section.pinned else {}), **section.environment}
    command = [sys.executable, "-m", f"{__package__}.worker", name, *(["--quick"] if quick else [])]
    outcome = Outcome({}, [])
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as worker,
    ):
        assert worker.stdout is not None
        try:
            for line in worker.stdout:
                kind, *rest = json.loads(line)
                if kind == "progress":
                    progress(*rest)
                elif kind == "setup":
                    outcome.setup.update(rest[0])
                else:
                    outcome.cases.append(from_json(rest[0]))
        except BaseException:
            worker.kill()
            raise
        if worker.wait() == 0:
            return outcome
        errors.seek(0)
        text = errors.read().strip()
    print(text, file=sys.stderr)
    last = text.splitlines()[-1] if text else "no message"
    return Outcome(outcome.setup, outcome.cases, re.sub(r"\S*/\S+", "...", f"exit {worker.returncode}: {last}"))
