"""A runtime that may die of a model, in a process of its own: what is asked there, and how it ended."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

_SCRIPT = Path(__file__).with_name("runtime_process.py")


class ProcessEndedError(Exception):
    """The process is gone; the message is the signal's name or the exit code."""


class OtherProcess:
    """A process that answers questions about one model.

    Parameters
    ----------
    runtime : {"onnxruntime", "openvino"}
        What the process runs the model with: see ``runtime_process.py``, also for what the first question says.
    """

    def __init__(self, runtime: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_SCRIPT), runtime],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, question: object) -> Any:
        """Return the answer.

        Raises
        ------
        ValueError
            With what the runtime says of the model.
        ProcessEndedError
            The runtime died.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            pickle.dump(question, self._process.stdin, protocol=5)
            self._process.stdin.flush()
            answer, error = pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            code = self._process.wait()
            raise ProcessEndedError(signal.Signals(-code).name if code < 0 else f"exit code {code}") from None
        if error:
            raise ValueError(error)
        return answer

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except OSError:  # what it was told it had not read
                    continue
        self._process.wait()

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self.close()
