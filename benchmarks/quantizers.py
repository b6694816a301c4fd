"""What other quantizers are called with: a reader of samples, and silence."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from onnxruntime.quantization import CalibrationDataReader


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Samples for ONNX Runtime's quantizer, once."""

    def __init__(self, feeds: Iterable[dict[str, Any]]) -> None:
        self._left = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next one."""
        return next(self._left, None)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back the quantizers' hints; their errors are exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
