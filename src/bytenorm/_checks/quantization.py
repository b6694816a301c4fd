"""Quantized tensors and what they are made of: codes, scales and zero points."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _core
from .._dtypes import DType, dtype_of
from .._errors import bad_type, bad_value
from .arrays import as_array, frozen
from .numbers import axis, integer, real
from .values import attribute, remedy, shown, without_data


def scale(value: object, name: str) -> float:
    """Return a quantization scale: positive, finite, and invertible in float32."""
    number = real(value, name)
    if not 2.0**-126 <= number <= 2.0**126:  # within these a number needs no look at its float32
        scales(np.array([number]), name, scalar=True)
    return number


def scales(values: np.ndarray, name: str, *, scalar: bool = False) -> None:
    """Check scales in float64: positive, finite, and invertible in float32."""
    with np.errstate(all="ignore"):
        narrow = values.astype(np.float32)
        good = np.isfinite(narrow) & (narrow > 0) & np.isfinite(np.float32(1) / narrow)
    if not good.all():
        at = int(np.argmin(good))
        which = name if scalar else f"{name}[{at}]"
        raise bad_value(
            which, f"must be positive and finite in float32, and so must its reciprocal, got {values[at]!s}"
        )


def zero_point(value: object, kind: DType, name: str) -> int:
    """Return a zero point inside the range of its type."""
    number = integer(value, name)
    if not kind.qmin <= number <= kind.qmax:
        raise bad_value(name, f"must be from {kind.qmin} to {kind.qmax} for {kind!r}, got {number}")
    return number


def quantized(value: object, name: str = "input") -> Any:
    """Return a QuantizedTensor."""
    if _core.is_tensor(value):
        tensor: Any = value
        if not tensor._fits:
            raise bad_value(name, "has other channels than scales: the shape of its data was assigned to")
        return tensor
    wanted = "must be a bytenorm.QuantizedTensor"
    if without_data(value):
        raise bad_type(name, f"{wanted}, got one without data: its __init__ was not called")
    kind = attribute(value, "dtype")
    came = type(value).__name__ if kind is None else f"{type(value).__name__} of {shown(kind)}"
    mend = remedy(value)
    if "codes" in mend:
        raise bad_type(name, f"{wanted}, got plain {kind} data without scale and zero point{mend}")
    raise bad_type(name, f"{wanted}, got {came}{mend or '; see bytenorm.quantize_per_tensor'}")


def tensor_data(value: object, name: str = "data") -> np.ndarray:
    """Return an ndarray of bytes, never a copy of one."""
    array = as_array(value, name)
    if array.dtype not in (np.uint8, np.int8):
        raise bad_type(name, f"must be uint8 or int8, got dtype {array.dtype}")
    return array.view()  # an object of our own: its shape does not change with the caller's


def tensor_quantization(
    data: np.ndarray, scale_: object, zero_point_: object, axis_: object, names: tuple[str, str]
) -> tuple[Any, Any, int | None]:
    """Return scale, zero point and axis of a quantized tensor: numbers, or arrays along the axis."""
    kind = dtype_of(data)
    if axis_ is None:
        return scale(scale_, names[0]), zero_point(zero_point_, kind, names[1]), None
    at = axis(axis_, data.ndim, "axis")
    scale_array, zero_point_array = channel_quantization(scale_, zero_point_, kind, data.shape[at], names)
    return scale_array, zero_point_array, at


def channel_quantization(
    scales_: object, zero_points: object, kind: DType, channels: int, names: tuple[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Return per-channel scales in float64 and zero points in int64, read-only."""
    scale_array = as_array(scales_, names[0])
    if scale_array.dtype.kind not in "fiu":
        raise bad_type(names[0], f"must be real numbers, got dtype {scale_array.dtype}")
    zero_point_array = as_array(zero_points, names[1])
    if zero_point_array.dtype.kind not in "iu" and zero_point_array.size > 0:
        raise bad_type(names[1], f"must be integers, got dtype {zero_point_array.dtype}")
    for name, array in zip(names, (scale_array, zero_point_array), strict=True):
        if array.shape != (channels,):
            raise bad_value(name, f"must have one value for each of {channels} channels, got shape {array.shape}")
    scale_array = frozen(scale_array, np.float64)
    scales(scale_array, names[0])
    bad = (zero_point_array < kind.qmin) | (zero_point_array > kind.qmax)
    if bad.any():
        at = int(np.argmax(bad))
        raise bad_value(
            f"{names[1]}[{at}]",
            f"must be from {kind.qmin} to {kind.qmax} for {kind!r}, got {zero_point_array[at]}",
        )
    return scale_array, frozen(zero_point_array, np.int64)
