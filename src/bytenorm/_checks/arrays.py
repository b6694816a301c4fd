"""Whatever can be read as an array, over its own memory where it has one."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._errors import bad_type
from .numbers import in_storage
from .values import attribute, is_a, remedy, shown, without_data


def as_array(value: object, name: str, *, own_memory: bool = False) -> np.ndarray:
    """Return an ndarray over the value's own memory where it has one: arrays, DLPack on the CPU, buffers.

    With `own_memory` a copy is refused.
    """
    if is_a(value, np.ma.MaskedArray):
        raise bad_type(name, "must not be a masked array: its mask would be lost")
    array: Any = value
    if without_data(value):
        raise bad_type(name, f"cannot be read as an array: it is {shown(value)}")
    if is_a(value, np.ndarray):
        return array if type(array) is np.ndarray else array.view(np.ndarray)
    in_storage(value, name)
    try:
        array = _read_array(value, own_memory=own_memory)
    except _RefusedError as refused:
        raise bad_type(name, str(refused)) from None
    except Exception as error:  # whatever a foreign type raises: it is no array
        raise bad_type(name, f"cannot be read as an array: {error}{remedy(value)}") from None
    return array  # type: ignore[no-any-return]


class _RefusedError(Exception):
    """What the user is told of an object that could be read, but must not be."""


def _read_array(value: Any, *, own_memory: bool) -> np.ndarray:
    negated = attribute(value, "is_neg")
    if negated is not None and negated():  # torch's, by a bit that neither DLPack nor NumPy sees: conj().imag
        if own_memory:
            raise _RefusedError("must hold its numbers as they are, got a tensor that is negated lazily")
        value = value.resolve_neg()
    if attribute(value, "untyped_storage") is not None and value.numel() > 0 and value.data_ptr() == 0:
        raise _RefusedError("has no memory that can be read, as tensors of shapes or of zeros alone have none")
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        device = int(value.__dlpack_device__()[0])
        if device != 1:
            raise _RefusedError(f"must be in the memory of the CPU, got DLPack device type {device}")
        try:
            array = np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError, ValueError):
            pass  # a type or a state that DLPack does not carry: the array protocols may
        else:
            if own_memory and not array.flags.writeable:  # NumPy 1 makes every such array read-only
                other = np.asarray(value)
                return other if np.shares_memory(other, array) else array
            return array
    if own_memory and not hasattr(value, "__array_interface__"):
        raise _RefusedError(f"must be an array whose memory can be written, got {type(value).__name__}")
    return np.asarray(value)


def real_input(value: object) -> np.ndarray:
    """Return the input of a quantize function as float32, each number rounded once."""
    array = as_array(value, "input")
    if array.dtype.kind != "f":
        raise bad_type("input", f"must be float16, float32 or float64, got dtype {array.dtype}{remedy(array)}")
    with np.errstate(all="ignore"):
        return np.asarray(array, dtype=np.float32)


def frozen(values: np.ndarray, dtype: Any) -> np.ndarray:
    """Return a copy of a vector in memory that nobody can write to, resize or free."""
    return np.ndarray(values.shape, dtype, values.astype(dtype, copy=False).tobytes())
