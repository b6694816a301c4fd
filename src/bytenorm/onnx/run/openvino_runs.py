"""Models in OpenVINO, each in a process of its own: OpenVINO may end its process instead of raising an error."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

from ..operators.schema import DOMAIN
from .other_process import OtherProcess, ProcessEndedError

if TYPE_CHECKING:
    from collections.abc import Mapping

# What stands before the words that tell something: "Exception from src/inference/src/cpp/core.cpp:132:" and more.
_WHERE = re.compile(
    r"Exception from \S+:\d+:|Check '.*?' failed at \S+:\d+:|FrontEnd API failed with \w+:|Summary:"
)


class InOpenVINO:
    """A model that is compiled and has run once.

    Parameters
    ----------
    path : path
    feeds : mapping of str to ndarray
        A dimension that the model leaves open becomes that of these.
    threads : int
        Neither these nor ONNX Runtime's are bound to cores.

    Raises
    ------
    ValueError
        If OpenVINO cannot load or run it, or dies of it: says what to do.

    Attributes
    ----------
    version : str
        OpenVINO's.
    """

    def __init__(self, path: str | os.PathLike[str], feeds: Mapping[str, Any], threads: int) -> None:
        self._process = OtherProcess("openvino")
        self.version = str(self._ask((sys.path, os.fspath(path), dict(feeds), threads))).partition("-")[0]

    def timed(self) -> float:
        """Run twice, and return how many seconds the second run took."""
        return float(self._ask(()))

    def _ask(self, question: object) -> Any:
        try:
            return self._process.ask(question)
        except ProcessEndedError as end:
            raise ValueError(f"it ended its process ({end})") from None
        except ValueError as error:
            text = " ".join(_WHERE.sub("", str(error)).split())
            advice = f"; it has none of {DOMAIN}'s operators: use the lowering portable or qdq"
            raise ValueError(f"{text}{advice if f'{DOMAIN}.' in text else ''}") from None
