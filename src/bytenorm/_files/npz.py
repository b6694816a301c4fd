"""Archives of arrays, as `numpy.savez` writes them: looked at before anything is unpacked, and read row by row.

An archive of a few megabytes may hold thousands of times as much. What it says of its arrays is looked at first,
and no more of them is unpacked than is asked for.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from .._system.machine import memory
from .npy import NUMBERS, header, reading, size_of

COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes; others have memory of their own
LARGEST_TURNED = 1 << 28  # bytes of an array in Fortran order, which has no rows to be read one by one
CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Layout:
    """What the header of an array in an archive says, and where the array is."""

    filename: str
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    begin: int  # bytes of the header

    @property
    def size(self) -> int:
        """The bytes of its data."""
        return size_of(self.shape, self.dtype)


def layouts(source: Path | IO[bytes], kinds: str = NUMBERS) -> dict[str, Layout]:
    """Return what an archive holds, by name, without its data.

    Parameters
    ----------
    source : path or file
    kinds : str, optional
        The kinds of dtype that are wanted.
    """
    found: dict[str, Layout] = {}
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            if member.compress_type not in COMPRESSIONS:
                raise ValueError(f"its array {member.filename!r} is compressed in a way that NumPy does not use")
            with archive.open(member) as file:
                shape, fortran, dtype = header(file, kinds)
                layout = Layout(member.filename, shape, fortran, dtype, file.tell())
            if member.file_size - layout.begin != layout.size:
                raise ValueError(f"its array {member.filename!r} is damaged")
            name = member.filename.removesuffix(".npy")
            if name in found:
                raise ValueError(f"its array {name!r} is there twice")
            found[name] = layout
    return found


def whole(source: Path | IO[bytes], layout: Layout) -> np.ndarray:
    """Return an array of an archive, in C order."""
    with zipfile.ZipFile(source) as archive, archive.open(layout.filename) as file:
        _skip(file, layout.begin)
        shape = layout.shape[::-1] if layout.fortran else layout.shape
        data = _filled(file, shape, layout.dtype)
        return np.ascontiguousarray(data.T) if layout.fortran else data


class Rows:
    """An array of an archive, of which any rows can be had; from the front on, each is unpacked once.

    Parameters
    ----------
    path : Path
    layout : Layout
        Of at least one dimension.
    label : str
        What messages call the file.
    """

    def __init__(self, path: Path, layout: Layout, label: str) -> None:
        self.shape, self.dtype, self.ndim = layout.shape, layout.dtype, len(layout.shape)
        self._path, self._layout, self._label = path, layout, label
        self._archive: zipfile.ZipFile | None = None
        self._file: IO[bytes] | None = None
        self._row = 0  # the next in the file
        self._turned: np.ndarray | None = None

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        with reading(self._label, "a .npz file"):
            if self._layout.fortran and self.ndim > 1:
                return self._all()[start:stop]
            if self._file is None or start < self._row:
                self._open()
            assert self._file is not None
            _skip(self._file, (start - self._row) * size_of(self.shape[1:], self.dtype))
            found = _filled(self._file, (stop - start, *self.shape[1:]), self.dtype)
            self._row = stop
            return found

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        for opened in (self._file, self._archive):
            if opened is not None:
                opened.close()

    def _open(self) -> None:
        self._close()
        self._archive = zipfile.ZipFile(self._path)
        self._file = self._archive.open(self._layout.filename)
        self._row = 0
        _skip(self._file, self._layout.begin)

    def _all(self) -> np.ndarray:
        if self._turned is None:
            if self._layout.size > LARGEST_TURNED:
                raise ValueError(
                    f"its array {self._layout.filename!r} is in Fortran order and has {self._layout.size} bytes: "
                    "C order is wanted of so many"
                )
            self._turned = whole(self._path, self._layout)
        return self._turned


def _skip(file: IO[bytes], n: int) -> None:
    while n > 0:
        some = len(file.read(min(n, CHUNK)))
        if some == 0:
            raise ValueError("it is truncated")
        n -= some


def _filled(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array that is read from a file; what the computer cannot hold is not begun with."""
    wanted, there_is = size_of(shape, dtype), memory()
    if wanted > there_is:
        raise ValueError(f"it has {wanted} bytes, more than this computer's memory, {there_is}")
    array = np.empty(shape, dtype)
    flat = array.reshape(-1).view(np.uint8) if wanted else np.empty(0, np.uint8)
    done = 0
    while done < wanted:
        some = file.read(min(wanted - done, CHUNK))
        if not some:
            raise ValueError("it is truncated")
        flat[done : done + len(some)] = np.frombuffer(some, np.uint8)
        done += len(some)
    return array
