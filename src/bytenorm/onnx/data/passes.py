"""Data that is gone through again and again, though it comes once: CalibrationDataReaders and generators."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from ..._errors import bad_value

IN_MEMORY = 256 << 20  # bytes of what comes once that are kept there; the rest goes to a temporary file


def is_reader(data: object) -> bool:
    """Say whether data is a CalibrationDataReader of ONNX Runtime's quantizer, or looks like one."""
    return callable(getattr(data, "get_next", None))


def batches_of(reader: Any, argument: str) -> Any:
    """Return what to go through: as often as is wanted if the reader has `rewind`, else once.

    ONNX Runtime asks for `get_next` alone; readers that can begin again have, by custom, `rewind`.
    """
    return _Rewound(reader, argument) if callable(getattr(reader, "rewind", None)) else _read(reader)


def _read(reader: Any) -> Iterator[object]:
    while True:
        batch = reader.get_next()
        if batch is None or (isinstance(batch, Mapping) and not batch):  # as ONNX Runtime's calibrator ends
            return
        yield batch


class _Rewound:
    """The batches of a reader, from its first in each pass."""

    def __init__(self, reader: Any, argument: str) -> None:
        self._reader, self._argument, self._passes = reader, argument, 0

    def __iter__(self) -> Iterator[object]:
        self._passes += 1
        this = self._passes
        self._reader.rewind()
        for batch in _read(self._reader):
            yield batch
            if this != self._passes:
                raise bad_value(self._argument, ": the reader was rewound in the middle of a pass")


class Kept:
    """What comes once: copies of its arrays, in memory as long as there is room, then in a temporary file."""

    def __init__(self, room: int | None = None) -> None:
        self._room = IN_MEMORY if room is None else room
        self._file: Any = None

    def keep(self, arrays: Mapping[str, Any], argument: str) -> Callable[[], Mapping[str, Any]]:
        """Keep arrays; return what gives them back."""
        made = {name: np.array(array, order="C") for name, array in arrays.items()}
        size = sum(array.nbytes for array in made.values())
        if size <= self._room or any(array.dtype.hasobject for array in made.values()):
            self._room -= size
            return partial(dict, made)
        try:
            places = {name: (self._write(array), array.shape, array.dtype) for name, array in made.items()}
        except OSError as error:
            raise bad_value(
                argument,
                f"comes once: what is more than the {IN_MEMORY >> 20} MiB that are kept in memory could"
                f" not be written to a temporary file: {error.strerror}",
            ) from None
        return partial(self._load, places)

    def _write(self, array: np.ndarray) -> int:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="bytenorm-")  # noqa: SIM115 (closed with what reads it)
            weakref.finalize(self, self._file.close)
        place = int(self._file.seek(0, 2))
        self._file.write(array.tobytes())
        self._file.flush()
        return place

    def _load(self, places: Mapping[str, tuple[int, tuple[int, ...], np.dtype[Any]]]) -> dict[str, np.ndarray]:
        found = {}
        for name, (place, shape, dtype) in places.items():
            self._file.seek(place)
            data = bytearray(self._file.read(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize))
            found[name] = np.frombuffer(data, dtype).reshape(shape)
        return found
