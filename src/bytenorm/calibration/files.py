"""Files of arrays that no single memory holds: looked at, cut into pieces, and counted a piece at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import _checks
from .._dtypes import DType, dtype_of, quint8
from .._errors import bad_value
from .._files.npy import header, map_array, reading, size_of
from .._files.writing import require_file
from .._system.one_thread import one_thread
from .._tensors.quantize import quantize_per_channel, quantize_per_tensor
from .._tensors.tensor import QuantizedTensor
from .statistics import ChannelStatistics

SHARE = 32 << 20  # bytes of files that one task reads: some milliseconds of work, next to the scheduler's one


@dataclass(frozen=True)
class ArrayFile:
    """A .npy file as it was when it was looked at."""

    path: str
    label: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def size(self) -> int:
        """The bytes of its array."""
        return size_of(self.shape, self.dtype)


@dataclass(frozen=True)
class Piece:
    """A box of a file's array: all channels, a part of the other axes."""

    file: ArrayFile
    box: tuple[slice, ...]

    @property
    def size(self) -> int:
        """Its bytes."""
        return size_of(tuple(at.stop - at.start for at in self.box), self.file.dtype)

    def read(self) -> np.ndarray:
        """Return its array, mapped."""
        path, label = Path(self.file.path), self.file.label
        if not path.exists():  # here; it was there for whoever looked at it
            raise bad_value(label, f"is not there for a worker: all of them must see it as {str(path)!r}")
        whole = map_array(path, label)
        if whole.shape != self.file.shape or whole.dtype != self.file.dtype:
            raise bad_value(label, "was changed while it was read")
        return whole[self.box]


@dataclass(frozen=True)
class Reading:
    """How arrays become codes, and on which axis their channels are.

    Parameters
    ----------
    scale : float, or array of float, one a channel
    zero_point : int, or array of int, one a channel
    axis : int
        The channel axis.
    dtype : DType or None
        To which codes arrays of floats are quantized; arrays of codes have to agree with it. None: `quint8`.
    """

    scale: Any
    zero_point: Any
    axis: int = 1
    dtype: DType | None = None

    def look_at(self, paths: Sequence[str], names: Sequence[str]) -> list[ArrayFile]:
        """Return the files' headers, after checking that one statistics can be of them all.

        Parameters
        ----------
        paths : sequence of str
            Where they are, as workers see them.
        names : sequence of str
            What messages call them.

        Raises
        ------
        ValueError
            If a file is no .npy file, truncated, or of other channels, dimensions or another dtype than the first.
        """
        files = [_look_at(path, name) for path, name in zip(paths, names, strict=True)]
        first = files[0]
        at = self._check(first)
        for file in files:
            came = f"has {_layout(file)}, {first.label} {_layout(first)}"
            if file.dtype != first.dtype:
                raise bad_value(file.label, f"{came}: one dtype is wanted")
            if len(file.shape) != len(first.shape):
                raise bad_value(file.label, f"{came}: the same number of dimensions is wanted")
            if file.shape[at] != first.shape[at]:
                raise bad_value(file.label, f"{came}: the same number of channels is wanted, on axis {at}")
        return files

    def _check(self, file: ArrayFile) -> int:
        if file.dtype.kind != "f" and file.dtype not in (np.uint8, np.int8):
            raise bad_value(file.label, f"holds {file.dtype}: uint8 or int8 codes, or floats are wanted")
        if len(file.shape) < 2:
            raise bad_value(file.label, f"must have at least 2 dimensions, got shape {file.shape}")
        at = _checks.axis(self.axis, len(file.shape), "axis")
        kind = self.codes(file)
        if self.dtype is not None and kind is not self.dtype:
            raise bad_value("dtype", f"must be that of the codes: {file.label} holds {kind}, got {self.dtype}")
        shape = tuple(n if i == at else 0 for i, n in enumerate(file.shape))
        self._tensor(np.empty(shape, kind.numpy), at)
        return at

    def codes(self, file: ArrayFile) -> DType:
        """Return the dtype of a file's codes."""
        if file.dtype.kind == "f":
            return self.dtype or quint8
        return dtype_of(np.empty(0, file.dtype))

    def _tensor(self, codes: np.ndarray, at: int) -> QuantizedTensor:
        per_channel = np.ndim(self.scale) > 0 or np.ndim(self.zero_point) > 0
        return QuantizedTensor(codes, self.scale, self.zero_point, at if per_channel else None)

    def tensor(self, piece: Piece) -> QuantizedTensor:
        """Return what a piece holds, quantized if it is floats.

        Raises
        ------
        ValueError
            If there is NaN in it: the message names the file and the place.
        """
        array, at = piece.read(), self.axis % len(piece.file.shape)
        if array.dtype.kind != "f":
            return self._tensor(array, at)
        kind = self.codes(piece.file)
        try:
            if np.ndim(self.scale) > 0 or np.ndim(self.zero_point) > 0:
                return quantize_per_channel(array, self.scale, self.zero_point, at, kind)
            return quantize_per_tensor(array, self.scale, self.zero_point, kind)
        except ValueError:
            nan = np.isnan(array)
            if not nan.any():
                raise
            place = np.unravel_index(int(np.argmax(nan)), nan.shape)
        where = [int(i) + side.start for i, side in zip(place, piece.box, strict=True)]
        raise bad_value(piece.file.label, f"holds NaN at {where}")


def _layout(file: ArrayFile) -> str:
    return f"{file.dtype} of shape {file.shape}"


def _look_at(path: str, name: str) -> ArrayFile:
    require_file(Path(path), name)
    with reading(name, "a .npy file"), Path(path).open("rb") as file:
        shape, fortran, dtype = header(file)
    if size_of(shape, dtype):  # there is nothing to map of an empty array
        map_array(Path(path), name)
    return ArrayFile(path, name, shape, dtype, fortran)


def cut(file: ArrayFile, axis: int, most: int = SHARE) -> Iterator[Piece]:
    """Yield pieces of a file: the axes are cut, but the channels' one, from the slowest on.

    So a piece lies on few pages more than it has bytes.

    Parameters
    ----------
    file : ArrayFile
    axis : int
        The channel axis, which stays whole.
    most : int, optional
        Bytes that a piece has at most, unless the channels alone have more.
    """
    if not file.size:
        return
    order = list(range(len(file.shape)))
    order.remove(axis % len(order))
    if file.fortran:
        order.reverse()
    sides = list(file.shape)
    for at in order:
        if size_of(tuple(sides), file.dtype) <= most:
            break
        sides[at] = max(1, most // (size_of(tuple(sides), file.dtype) // sides[at]))
    counts = [math.ceil(n / side) for n, side in zip(file.shape, sides, strict=True)]
    for index in np.ndindex(*counts):
        starts = [i * side for i, side in zip(index, sides, strict=True)]
        ends = [min(start + side, n) for start, side, n in zip(starts, sides, file.shape, strict=True)]
        yield Piece(file, tuple(map(slice, starts, ends)))


def shares(files: Sequence[ArrayFile], axis: int, most: int = SHARE) -> Iterator[tuple[Piece, ...]]:
    """Yield what single tasks count: a piece of a large file, or many small files."""
    share: list[Piece] = []
    size = 0
    for file in files:
        for piece in cut(file, axis, most):
            if share and size + piece.size > most:
                yield tuple(share)
                share, size = [], 0
            share.append(piece)
            size += piece.size
    if share:
        yield tuple(share)


def work_of(files: Sequence[ArrayFile], how: Reading, most: int = SHARE) -> list[tuple[Piece, ...]]:
    """Return the :func:`shares` of files, or raise a ValueError if they hold no values."""
    work = list(shares(files, how.axis % len(files[0].shape), most))
    if not work:
        raise bad_value(files[0].label, "and the others hold no values")
    return work


def count_here(
    files: Sequence[ArrayFile], how: Reading, progress: Callable[[int, int], None]
) -> ChannelStatistics:
    """Return the statistics of files, counted by this process with all its threads, a piece in memory at a time.

    `progress` is told the bytes that are done, and all of them.
    """
    found = ChannelStatistics(files[0].shape[how.axis])
    done, whole = 0, sum(file.size for file in files)
    for share in work_of(files, how):
        for piece in share:
            progress(done, whole)
            found.update(how.tensor(piece), how.axis)
            done += piece.size
    progress(done, whole)
    return found


def count(share: Sequence[Piece], how: Reading, channels: int) -> ChannelStatistics:
    """Return the statistics of some pieces, in one thread, with one of them in memory at a time."""
    found = ChannelStatistics(channels)
    with one_thread():
        for piece in share:
            found.update(how.tensor(piece), how.axis)
    return found
