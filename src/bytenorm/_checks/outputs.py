"""Memory that results go to: of the right type and shape, and apart from what is read."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._dtypes import DType, dtype_of
from .._errors import bad_type, bad_value
from .arrays import as_array
from .quantization import quantized
from .values import is_a


def output(value: object, q: Any, kind: DType, out_scale: float, out_zero_point: int) -> Any:
    """Return `out`: None, an ndarray or a QuantizedTensor that can take the result for input `q`."""
    if value is None:
        return None
    result, array = _output(value, q.data.shape, "input's", kind, out_scale, out_zero_point)
    if not _same_memory(array, q.data) and _share_memory(array, q.data):
        raise bad_value("out", "must be the input's own memory or apart from it, got a partial overlap")
    return result


def _output(
    value: object,
    shape: tuple[int, ...],
    whose: str,
    kind: DType,
    out_scale: float,
    out_zero_point: int,
    name: str = "out",
    what: str = "output's",
) -> tuple[Any, np.ndarray]:
    """Return `out`, or the argument called `name`, as it came, or an ndarray over its memory, and that memory."""
    if is_a(value, _core.Tensor):
        result: Any = quantized(value, name)
        have = (result.dtype, result.scale if result.axis is None else "per channel", result.zero_point)
        wanted = (kind, out_scale, out_zero_point)
        if result.axis is not None or have != wanted:
            raise bad_value(
                name,
                f"must have the {what} dtype, scale and zero point "
                f"{wanted}, got {have if result.axis is None else (have[0], 'per channel')}; "
                f"give its data to overwrite it: {name}=q.data",
            )
        array = result.data
    else:
        result = array = as_array(value, name, own_memory=True)
    if array.dtype != kind.numpy:
        raise bad_value(name, f"must have dtype {kind.numpy} for {kind!r}, got {array.dtype}")
    if array.shape != shape:
        raise bad_value(name, f"must have the {whose} shape {shape}, got {array.shape}")
    if not array.flags.writeable:
        raise bad_value(name, "must be writable, got a read-only array")
    if _overlaps_itself(array):
        raise bad_value(name, f"must not overlap itself, got shape {array.shape} with strides {array.strides}")
    return result, array


def add_output(value: object, a: Any, b: Any, kind: DType, out_scale: float, out_zero_point: int) -> Any:
    """Return `out`: None, an ndarray or a QuantizedTensor that can take the norm of the sum of `a` and `b`."""
    if value is None:
        return None
    result, array = _output(value, a.data.shape, "input's", kind, out_scale, out_zero_point)
    for name, q in (("a", a), ("b", b)):
        _same_or_apart(array, q.data, "out", name)
    return result


def sum_output(
    value: object, a: Any, b: Any, out: Any, sum_scale: float | None, sum_zero_point: int | None, *, exact: bool
) -> Any:
    """Return `sum_out`: None, an ndarray or a QuantizedTensor that can take the sum of `a` and `b`.

    `out` is what takes the norm, as `add_output` returned it.
    """
    if value is None:
        return None
    if sum_scale is None or sum_zero_point is None:
        raise bad_type("sum_out", "needs sum_scale and sum_zero_point: without them there are no codes of a sum")
    kind = dtype_of(a.data)
    result, array = _output(value, a.data.shape, "input's", kind, sum_scale, sum_zero_point, "sum_out", "sum's")
    for name, q in (("a", a), ("b", b)):
        if exact and _share_memory(array, q.data):
            raise bad_value(
                "sum_out", f"must be apart from {name} with exact_sum: it is read again; got an overlap"
            )
        _same_or_apart(array, q.data, "sum_out", name)
    norm = out.data if is_a(out, _core.Tensor) else out
    if norm is not None and _share_memory(array, norm):
        raise bad_value("sum_out", "must be apart from out, got an overlap")
    return result


def _same_or_apart(array: np.ndarray, data: np.ndarray, name: str, other: str) -> None:
    if not _same_memory(array, data) and _share_memory(array, data):
        raise bad_value(name, f"must be the own memory of {other} or apart from it, got a partial overlap")


def concat_output(value: object, pieces: list[Any], at: int, kind: DType, out_scale: float, zero: int) -> Any:
    """Return `out`: None, an ndarray or a QuantizedTensor that can take the norm of concatenated pieces."""
    if value is None:
        return None
    shape = list(pieces[0].data.shape)
    shape[at] = sum(piece.data.shape[at] for piece in pieces)
    result, array = _output(value, tuple(shape), "concatenation's", kind, out_scale, zero)
    start = 0
    for i, piece in enumerate(pieces):
        end = start + piece.data.shape[at]
        own = array[(slice(None),) * at + (slice(start, end),)]
        if not _same_memory(own, piece.data) and _share_memory(array, piece.data):
            raise bad_value(
                "out", f"must be apart from pieces[{i}] or hold it at its own channels, got another overlap"
            )
        start = end
    return result


def _same_memory(array: np.ndarray, data: np.ndarray) -> bool:
    return array.__array_interface__["data"][0] == data.__array_interface__["data"][0] and all(
        n <= 1 or a == b for n, a, b in zip(data.shape, array.strides, data.strides, strict=True)
    )


def _overlaps_itself(array: np.ndarray) -> bool:
    reach = 0
    for stride, n in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride <= reach:
            break
        reach += stride * (n - 1)
    else:
        return False
    if array.size == 0:
        return False
    offsets = np.zeros((1,), np.int64)  # strides that interleave: count the bytes
    for stride, n in zip(array.strides, array.shape, strict=True):
        offsets = (offsets[:, None] + stride * np.arange(n)).reshape(-1)
    return len(np.unique(offsets)) != array.size


def _share_memory(a: np.ndarray, b: np.ndarray) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10**6)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True  # not proved apart
