"""Hands data to ONNX Runtime's quantizer, and says how far it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from onnxruntime import quantization as ort_quantization

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..data.dataset import Dataset

    Batch = Mapping[str, np.ndarray]


Progress = Callable[[str, int, int], None]


class Reader(ort_quantization.CalibrationDataReader):  # type: ignore[misc]
    """Hands batches to the quantizer, or sample by sample: its histograms take no batches of different sizes."""

    def __init__(
        self,
        data: Dataset,
        progress: Callable[[int, int], None] | None,
        names: Mapping[str, str],
        *,
        one_by_one: bool = False,
    ) -> None:
        one_by_one = one_by_one and data.takes_any_number
        self._data, self._one_by_one = data, one_by_one
        self._all, self._progress = data.samples if one_by_one else len(data), progress
        self._names = names
        self.error: Exception | None = None  # of the data, which the quantizer may report as its own
        self.again()

    def again(self) -> Reader:
        """Begin with the first sample; return the reader."""
        self._batches = self._data.one_by_one() if self._one_by_one else iter(self._data)
        self._done, self._end = 0, math.inf
        return self

    def __len__(self) -> int:
        return self._all

    def set_range(self, start_index: int, end_index: int) -> None:
        """Hand out no more than those before an end, until the next call; those before `start_index` are out."""
        assert start_index == self._done
        self._end = end_index

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch by the names of the inputs; None behind the last one."""
        if self._done >= self._end:
            return None
        if self._progress is not None:
            self._progress(self._done, self._all)
        self._done += 1
        try:
            batch = next(self._batches, None)
        except Exception as error:
            self.error = error
            raise
        return None if batch is None else {self._names[name]: array for name, array in batch.items()}


def counted(batches: Sequence[Batch], progress: Callable[[int, int], None] | None) -> Iterator[Batch]:
    """Yield batches, and say how many are done."""
    for done, batch in enumerate(batches):
        if progress is not None:
            progress(done, len(batches))
        yield batch
    if progress is not None:
        progress(len(batches), len(batches))


def stage(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    """Return what takes how much of one stage is done, and how much there is."""
    return None if progress is None else lambda done, whole: progress(name, done, whole)
