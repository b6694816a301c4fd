"""The specification: every rule in NumPy, in the fewest readable lines. Slow on purpose, imported by nothing.

The tests hold every kernel, layout, instruction set and thread count to it bit for bit. It holds itself to
torch 2.13 and, where torch has no such operation, to exact rational arithmetic.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from ._dtypes import DType

Array = Any  # numbers and arrays of numbers alike

F32 = np.float32
F64 = np.float64


def fma(a: Array, b: Array, c: Array) -> Array:
    """Return a * b + c in float32 with a single rounding.

    The product of two float32 numbers is exact in float64, the sum is not: a result that was rounded to a tie
    of float32 would be rounded twice. So the sum is rounded to odd, from which the second rounding is right.
    """
    product, addend = F64(a) * F64(b), F64(c)
    with np.errstate(invalid="ignore", over="ignore"):
        total = product + addend
        part = total - product
        lost = (product - (total - part)) + (addend - part)  # exact: total + lost is the true sum
        even = total.view(np.int64) % 2 == 0
        odd = np.nextafter(total, np.where(lost > 0, np.inf, -np.inf))
        return F32(np.where(np.isfinite(total) & (lost != 0) & even, odd, total))


def fold(
    weight: Array, bias: Array, mean: Array, var: Array, eps: Array, input_scale: Array, output_scale: Array
) -> tuple[Array, Array]:
    """Return slope and intercept of each channel: float32, each operation rounded, scales in float64."""
    weight = np.ones_like(mean, F32) if weight is None else F32(weight)
    bias = np.zeros_like(mean, F32) if bias is None else F32(bias)
    inv = F32(1) / np.sqrt(F32(var) + F32(eps))
    slope = F32(F64(inv * weight) * (F64(input_scale) / F64(output_scale)))
    intercept = F32(F64(bias - (F32(mean) * inv) * weight) / F64(output_scale))
    return slope, intercept


def affine(
    q: Array,
    slope: Array,
    intercept: Array,
    zero_point: Array,
    output_zero_point: Array,
    dtype: DType,
    relu: bool = False,
) -> Array:
    """Return the output codes of input codes `q`; the parameters broadcast against it."""
    centred = F32(np.asarray(q, np.int64) - np.asarray(zero_point, np.int64))
    rounded = F64(np.rint(fma(slope, centred, intercept)))
    lowest = output_zero_point if relu else dtype.qmin
    return np.clip(rounded + output_zero_point, lowest, dtype.qmax).astype(dtype.numpy)


def batch_norm(
    q: Array,
    scale: Array,
    zero_point: Array,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    eps: Array,
    output_scale: Array,
    output_zero_point: Array,
    dtype: DType,
    relu: bool = False,
    axis: int = 1,
) -> Array:
    """Return the output codes of a batch norm over codes `q`; scale and zero_point may be arrays of C."""
    slope, intercept = fold(weight, bias, mean, var, eps, scale, output_scale)
    shape = [-1 if d == axis % q.ndim else 1 for d in range(q.ndim)]
    zero_point = np.broadcast_to(zero_point, slope.shape).reshape(shape)
    return affine(q, slope.reshape(shape), intercept.reshape(shape), zero_point, output_zero_point, dtype, relu)


def concat(pieces: Array, scales: Array, zero_points: Array, axis: int = 1) -> tuple[Array, Array, Array]:
    """Return codes, scales and zero points of a concatenation: each channel has those of its piece."""
    channels = [piece.shape[axis] for piece in pieces]
    return np.concatenate(pieces, axis), np.repeat(scales, channels), np.repeat(zero_points, channels)


def add(
    a: Array,
    a_scale: Array,
    a_zero_point: Array,
    b: Array,
    b_scale: Array,
    b_zero_point: Array,
    scale: Array,
    zero_point: Array,
    dtype: DType,
) -> Array:
    """Return the codes of a sum of two tensors in a third quantization: one rounding of the exact sum.

    The products are exact in float64. Rounding their sum may only move a number onto a tie, never across one.
    """
    p = F64(F32(F64(a_scale) / F64(scale))) * (np.asarray(a, np.int64) - a_zero_point)
    q = F64(F32(F64(b_scale) / F64(scale))) * (np.asarray(b, np.int64) - b_zero_point)
    total = p + q
    part = total - p
    lost = (p - (total - part)) + (q - part)  # exact: total + lost is the true sum
    tie = np.abs(total - np.rint(total)) == 0.5
    rounded = np.where(tie & (lost != 0), np.floor(total) + (lost > 0), np.rint(total))
    return np.clip(rounded + zero_point, dtype.qmin, dtype.qmax).astype(dtype.numpy)


def add_batch_norm_exact(
    a: Array,
    a_scale: Array,
    a_zero_point: Array,
    b: Array,
    b_scale: Array,
    b_zero_point: Array,
    weight: Array,
    bias: Array,
    mean: Array,
    var: Array,
    eps: Array,
    output_scale: Array,
    output_zero_point: Array,
    dtype: DType,
    relu: bool = False,
    axis: int = 1,
) -> Array:
    """Return the output codes of a batch norm over a sum that is not rounded: in float64, the products exact."""
    a_slope, intercept = fold(weight, bias, mean, var, eps, a_scale, output_scale)
    b_slope, _ = fold(weight, bias, mean, var, eps, b_scale, output_scale)
    shape = [-1 if d == axis % a.ndim else 1 for d in range(a.ndim)]
    a_part = F64(a_slope).reshape(shape) * (np.asarray(a, np.int64) - a_zero_point)
    b_part = F64(b_slope).reshape(shape) * (np.asarray(b, np.int64) - b_zero_point)
    rounded = np.rint(a_part + (b_part + F64(intercept).reshape(shape)))
    lowest = output_zero_point if relu else dtype.qmin
    return np.clip(rounded + output_zero_point, lowest, dtype.qmax).astype(dtype.numpy)


def average_pool(q: Array, axes: tuple[int, int], dtype: DType) -> Array:
    """Return the average of each 2x2 codes on two axes, half to even; an odd last row or column is left out."""
    total = np.asarray(q, np.int64)
    for axis in axes:
        first, second = (np.take(total, np.arange(total.shape[axis] // 2) * 2 + i, axis) for i in (0, 1))
        total = first + second
    return np.rint(total / 4).astype(dtype.numpy)


def requantize(
    q: Array, scale: Array, zero_point: Array, output_scale: Array, output_zero_point: Array, dtype: DType
) -> Array:
    """Return codes in another quantization; scale and zero_point broadcast against `q`."""
    factor = F32(F64(scale) / F64(output_scale))
    return affine(q, factor, F32(0), zero_point, output_zero_point, dtype)


def quantize_per_tensor(x: Array, scale: Array, zero_point: Array, dtype: DType) -> Array:
    """Return the codes of float32 numbers: one rounding."""
    y = np.rint(fma(F32(x), F32(1) / F32(scale), F32(zero_point)))
    return np.clip(y, dtype.qmin, dtype.qmax).astype(dtype.numpy)


def quantize_per_channel(x: Array, scale: Array, zero_point: Array, dtype: DType) -> Array:
    """Return the codes of float32 numbers: the product and the sum rounded; the parameters broadcast."""
    y = np.rint(F32(x) * (F32(1) / F32(scale)) + F32(zero_point))
    return np.clip(y, dtype.qmin, dtype.qmax).astype(dtype.numpy)


def quantize_behind(x: Array, scale: Array, zero_point: Array, dtype: DType, rounding: str) -> Array:
    """Return the codes of float32 numbers by a rule that adds the zero point behind the rounding.

    The rule is "torch-2.14", "quantized_decomposed" or "onnx"; the parameters broadcast. Scales that are an array
    of float64 make "quantized_decomposed" compute in float64, as torch's promotion of types does.
    """
    if rounding == "onnx":
        steps = F32(x) / F32(scale)
    elif rounding == "torch-2.14":
        steps = F32(x) * (F32(1) / F32(scale))
    elif np.ndim(scale) == 0:
        steps = F32(x) * F32(F64(1) / F64(scale))
    else:
        steps = F32(x) * (np.ones_like(scale) / scale)
    return np.clip(np.rint(steps) + zero_point, dtype.qmin, dtype.qmax).astype(dtype.numpy)


def dequantize(q: Array, scale: Array, zero_point: Array) -> Array:
    """Return the float32 numbers of codes: per tensor with the scale in float32, per channel in float64."""
    centred = np.asarray(q, np.int64) - np.asarray(zero_point, np.int64)
    return F32(centred) * F32(scale) if np.ndim(scale) == 0 else F32(F64(centred) * F64(scale))


def channel_statistics(q: Array, dtype: DType, axis: int = 1) -> list[tuple[int, Array, Array, int, int, Array]]:
    """Return count, minimum, maximum, sum, sum of squares and histogram of each channel, as Python integers."""
    channels = np.moveaxis(np.asarray(q, np.int64), axis, 0)
    found = []
    for codes in (channel.ravel().tolist() for channel in channels):
        histogram = np.bincount(np.array(codes, np.int64) - dtype.qmin, minlength=256).tolist()
        ends = min(codes, default=None), max(codes, default=None)
        found.append((len(codes), *ends, sum(codes), sum(code * code for code in codes), histogram))
    return found


def channel_moments(
    count: int, total: int, squares: int, scale: float, zero_point: int, unbiased: bool = False
) -> tuple[float, float]:
    """Return mean and variance of a channel in real units: exact, and each rounded once to float64."""
    step, mean = Fraction(scale), Fraction(total, count)
    spread = (squares - count * mean**2) / (count - unbiased)
    return float(step * (mean - int(zero_point))), float(step**2 * spread)
