"""Arrays in NumPy's format: headers are believed only as far as the file goes, data is mapped, not read."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from .._errors import bad_value


@contextmanager
def reading(label: str, kind: str) -> Iterator[None]:
    """Turn whatever a damaged file raises into one line that names it."""
    try:
        yield
    except Exception as error:
        why = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        raise bad_value(label, f"cannot be read as {kind}: {why[:200]}") from None


NUMBERS = "biufc"  # kinds of dtype


def header(file: IO[bytes], kinds: str = NUMBERS) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, Fortran order and dtype of an array in NumPy's format; the data comes next in the file."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"its format {version} is not known")
    if any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"its shape is {shape}")
    if dtype.hasobject:
        raise ValueError("it holds Python objects, numbers are wanted")
    if dtype.kind not in kinds or dtype.itemsize == 0:
        raise ValueError(f"it holds {dtype}, numbers are wanted")
    return shape, fortran, dtype


def size_of(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the bytes of an array's data."""
    count = dtype.itemsize
    for n in shape:
        count *= n
    return count


def map_array(path: Path, label: str) -> np.ndarray:
    """Return the array of a .npy file, mapped, so that only what is in use is in memory."""
    with reading(label, "a .npy file"), path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        if length == 0:
            raise ValueError("it is empty")
        shape, fortran, dtype = header(file)
        begin = file.tell()
        size, wanted = length - begin, size_of(shape, dtype)
        if size < wanted:
            raise ValueError(f"it is truncated: it has {size} bytes of data, {wanted} are wanted")
        order = "F" if fortran else "C"
        if wanted == 0:  # of which there is nothing to be mapped
            return np.empty(shape, dtype)
        return np.memmap(file, dtype, "r", begin, shape, order)  # type: ignore[call-overload,no-any-return]


def let_go(array: object) -> None:
    """Let go of what was read of a mapped array: it counts as the process's memory, and is read again at need."""
    # What is mapped to be changed stays: of a copy on write that would be the changes.
    if isinstance(array, np.memmap) and array.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
