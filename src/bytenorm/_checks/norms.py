"""Norms: their parameters, their inputs, the numbers that they fold to."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._dtypes import dtype_of
from .._errors import bad_type, bad_value
from .arrays import as_array
from .numbers import axis, real
from .quantization import quantized, scale, zero_point
from .values import is_a, shown


def parameter(value: object, name: str) -> np.ndarray:
    """Return a vector of real numbers as contiguous float32, each rounded once."""
    array = as_array(value, name)
    if array.dtype.kind not in "fiu":
        raise bad_type(name, f"must be real numbers, got {shown(value)} of dtype {array.dtype}")
    if array.ndim != 1:
        raise bad_value(name, f"must be one-dimensional, one value a channel, got shape {array.shape}")
    with np.errstate(all="ignore"):
        narrow = np.require(array, np.float32, ["C", "ALIGNED"])
    bad = ~np.isfinite(narrow)
    if bad.any():
        at = int(np.argmax(bad))
        why = "overflows float32" if np.isfinite(array[at]) else "must be finite"
        raise bad_value(f"{name}[{at}]", f"{why}, got {array[at]!s}")
    return narrow


def epsilon(value: object, name: str) -> float:
    """Return what is added to a variance."""
    number = real(value, name)
    with np.errstate(all="ignore"):
        fits = number >= 0 and np.isfinite(np.float32(number))
    if not fits:
        raise bad_value(name, f"must not be negative and must be finite in float32, got {number}")
    return number


Parameters = tuple[np.ndarray | None, np.ndarray | None, np.ndarray, np.ndarray, float]


def norm_parameters(weight: object, bias: object, mean: object, var: object, eps: object) -> Parameters:
    """Return weight, bias, mean and var as float32 vectors of one length, and eps."""
    mean_ = parameter(mean, "mean")
    vectors: dict[str, np.ndarray | None] = {"mean": mean_}
    for name, value in (("weight", weight), ("bias", bias), ("var", var)):
        vectors[name] = None if value is None and name != "var" else parameter(value, name)
    for name, vector in vectors.items():
        if vector is not None and len(vector) != len(mean_):
            raise bad_value(name, f"has {len(vector)} values, but mean has {len(mean_)}: one a channel is wanted")
    eps_ = epsilon(eps, "eps")
    var_ = vectors["var"]
    assert var_ is not None
    if (var_ < 0).any():
        at = int(np.argmax(var_ < 0))
        raise bad_value(f"var[{at}]", f"must not be negative, got {var_[at]!s}")
    with np.errstate(all="ignore"):
        zero = var_ + np.float32(eps_) == 0
    if zero.any():
        at = int(np.argmax(zero))
        raise bad_value(f"var[{at}]", f"+ eps must be positive in float32, got var {var_[at]!s} and eps {eps_}")
    return vectors["weight"], vectors["bias"], mean_, var_, eps_


def norm_input(value: object, norm_axis: object, channels: int) -> tuple[Any, int]:
    """Return the input of a norm and its channel axis, counted from the front."""
    q = quantized(value)
    data = q.data
    if data.ndim < 2:
        raise bad_value("input", f"must have at least 2 dimensions, got shape {data.shape}")
    at = axis(norm_axis, data.ndim, "axis")
    if q.axis is not None and q.axis != at:
        raise bad_value(
            "input", f"is quantized per channel along axis {q.axis}, but its channels are on axis {at}"
        )
    if data.shape[at] != channels:
        others = [i for i, length in enumerate(data.shape) if length == channels and i > 0]
        where = f", as many as there are on axis {others[-1]}" if others else ""
        raise bad_value(
            "input",
            f"has {data.shape[at]} channels on axis {at} (shape {data.shape}), "
            f"but mean has {channels} values{where}",
        )
    return q, at


def overflow(slope: np.ndarray, intercept: np.ndarray, of: str = "") -> None:
    """Refuse a fold, that of the input named `of`, whose slope or intercept is no finite float32."""
    scale_ = f"scale of {of}" if of else "input scale"
    for name, values, what in (
        ("slope", slope, f"weight / sqrt(var + eps) * {scale_} / output_scale"),
        ("intercept", intercept, "(bias - mean * weight / sqrt(var + eps)) / output_scale"),
    ):
        finite = np.isfinite(values)
        if not finite.all():
            subject = f"the {name} of channel {int(np.argmin(finite))}, {what},"
            raise bad_value(subject, "overflows float32", argument="output_scale")


def norm_pieces(value: object, norm_axis: int, channels: int) -> tuple[list[Any], int]:
    """Return the pieces of a concatenation and its channel axis, counted from the front."""
    if not is_a(value, list, tuple):
        raise bad_type(
            "pieces", f"must be a list or tuple of bytenorm.QuantizedTensor, got {type(value).__name__}"
        )
    items: Any = value
    pieces = [_per_tensor(piece, f"pieces[{i}]") for i, piece in enumerate(items)]
    if not pieces:
        raise bad_value("pieces", "must hold at least one tensor, got none")
    first = pieces[0].data
    if first.ndim < 2:
        raise bad_value("pieces[0]", f"must have at least 2 dimensions, got shape {first.shape}")
    at = axis(norm_axis, first.ndim, "axis")
    for i, piece in enumerate(pieces):
        data = piece.data
        if data.dtype != first.dtype:
            raise bad_value(f"pieces[{i}]", f"must have the dtype of pieces[0], {first.dtype}, got {data.dtype}")
        wanted = (*first.shape[:at], *data.shape[at : at + 1], *first.shape[at + 1 :])
        if data.ndim != first.ndim or data.shape != wanted:
            raise bad_value(
                f"pieces[{i}]",
                f"must have the shape of pieces[0], {first.shape}, but for axis {at}, got {data.shape}",
            )
    counts = [piece.data.shape[at] for piece in pieces]
    if sum(counts) != channels:
        listed = shown(counts)
        raise bad_value("pieces", f"have {sum(counts)} channels on axis {at} ({listed}), but norm has {channels}")
    return pieces, at


def _per_tensor(value: object, name: str) -> Any:
    q = quantized(value, name)
    if q.axis is not None:
        raise bad_value(name, f"must be quantized per tensor, it is per channel along axis {q.axis}")
    return q


def norm_summands(a: object, b: object, norm_axis: int, channels: int) -> tuple[Any, Any]:
    """Return the two tensors whose sum a norm reads."""
    first, second = _per_tensor(a, "a"), _per_tensor(b, "b")
    data, other = first.data, second.data
    if data.ndim < 2:
        raise bad_value("a", f"must have at least 2 dimensions, got shape {data.shape}")
    if other.dtype != data.dtype:
        raise bad_value("b", f"must have the dtype of a, {data.dtype}, got {other.dtype}")
    if other.shape != data.shape:
        raise bad_value("b", f"must have the shape of a, {data.shape}, got {other.shape}")
    at = axis(norm_axis, data.ndim, "axis")
    if data.shape[at] != channels:
        raise bad_value(
            "a", f"and b have {data.shape[at]} channels on axis {at} (shape {data.shape}), but norm has {channels}"
        )
    return first, second


def sum_quantization(a: Any, b: Any, sum_scale: object, sum_zero_point: object) -> tuple[float, int]:
    """Return scale and zero point of a sum; neither scale of the summands may overflow float32 in steps of it."""
    for name, value, other in (
        ("sum_scale", sum_scale, "sum_zero_point"),
        ("sum_zero_point", sum_zero_point, "sum_scale"),
    ):
        if value is None:
            raise bad_type(name, f"must be given with {other}, or neither for no sum, got None")
    scale_ = scale(sum_scale, "sum_scale")
    zero = zero_point(sum_zero_point, dtype_of(a.data), "sum_zero_point")
    for name, q in (("a", a), ("b", b)):
        with np.errstate(over="ignore"):
            if not np.isfinite(np.float32(q.scale / scale_)):
                raise bad_value(
                    f"the scale of {name} over sum_scale,",
                    f"{q.scale} / {scale_}, overflows float32",
                    argument="sum_scale",
                )
    return scale_, zero
