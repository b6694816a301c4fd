"""Between real numbers and 8-bit codes: quantize, dequantize, requantize."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _checks, _core
from .._dtypes import DType, qint8
from .._errors import bad_type, bad_value
from .tensor import QuantizedTensor, _make, dense_like_empty

# torch 2.13: below it a dynamic scale is raised to it, and the range stretched alike.
SMALLEST_DYNAMIC_SCALE = np.float32(6.1e-5)


# How a number becomes a code, by whose rule.
ROUNDINGS = ("torch-2.13", "torch-2.14", "quantized_decomposed", "onnx")

# As native/kernels/structs.hpp has them.
_FUSED, _PRODUCT, _AFTER, _DIVIDED, _WIDE = range(5)


def quantize_per_tensor(
    input: Any, scale: float, zero_point: int, dtype: DType, *, rounding: str = "torch-2.13"
) -> QuantizedTensor:
    """Quantize real numbers with one scale and zero point.

    Computes ``clamp(rint(fma(x, 1 / scale, zero_point)))`` in float32 with one rounding, half to even, as
    ``torch.quantize_per_tensor`` does in torch 2.13. Later versions, exported graphs and ONNX add the zero point
    behind the rounding, which gives other codes where x lies between two steps; `rounding` names their rules.

    Parameters
    ----------
    input : array of float16, float32 or float64, any shape
        Infinities become the smallest and largest code.
    scale : float
        The quantization step in real units; rounded to float32 for the computation, kept as it is.
    zero_point : int
        The code of 0.
    dtype : DType
        `quint8` or `qint8`.
    rounding : str, optional
        Whose rule to follow, to the bit:

        - ``"torch-2.13"``: the default, as above.
        - ``"torch-2.14"``: ``rint(x * (1 / f32(scale))) + zero_point`` in float32, torch from 2.14 on.
        - ``"quantized_decomposed"``: ``rint(x * f32(1 / scale)) + zero_point``, the operator of that name in
          graphs that ``torch.export`` and PT2E make. Equal to the one above for scales that are float32 numbers.
        - ``"onnx"``: ``rint(x / f32(scale)) + zero_point``, ONNX's ``QuantizeLinear``; a division.

    Returns
    -------
    QuantizedTensor
        Of the input's shape and axis order in memory.

    Raises
    ------
    TypeError
        If the input is not real floating point, or dtype or zero_point is of the wrong kind.
    ValueError
        If the input holds a NaN, or scale or zero_point is out of range.

    Examples
    --------
    >>> import numpy as np, bytenorm as bn
    >>> bn.quantize_per_tensor(np.array([-1.0, 0.0, 0.26]), 0.1, 10, bn.quint8).int_repr()
    array([ 0, 10, 13], dtype=uint8)

    Half a step and a zero point that is odd: 11.5 is rounded to 12, but 0.5 to 0.

    >>> x = np.array([0.25])
    >>> [int(bn.quantize_per_tensor(x, 0.5, 11, bn.quint8, rounding=r).int_repr()[0])
    ...  for r in ("torch-2.13", "torch-2.14", "quantized_decomposed", "onnx")]
    [12, 11, 11, 11]
    """
    kind = _checks.dtype(dtype, "dtype")
    scale_ = _checks.scale(scale, "scale")
    zero_point_ = _checks.zero_point(zero_point, kind, "zero_point")
    rule = _checks.choice(rounding, ROUNDINGS, "rounding")
    data = _quantize(_checks.real_input(input), *_factor(np.array([scale_]), rule, -1),
                     np.array([zero_point_], np.float32), kind, -1)  # fmt: skip
    return _make(data, scale_, zero_point_, None)


def quantize_per_channel(
    input: Any, scales: Any, zero_points: Any, axis: int, dtype: DType, *, rounding: str = "torch-2.13"
) -> QuantizedTensor:
    """Quantize real numbers with a scale and zero point for each index of one axis.

    Computes ``clamp(rint(x * (1 / scale) + zero_point))`` in float32 with each operation rounded, as
    ``torch.quantize_per_channel`` does in torch 2.13; `rounding` names the rules of others.

    Parameters
    ----------
    input : array of float16, float32 or float64, at least 1-D
        Infinities become the smallest and largest code.
    scales : array of real numbers, shape (input.shape[axis],)
        The quantization steps in real units.
    zero_points : array of integers, shape (input.shape[axis],)
        The codes of 0.
    axis : int
        The axis along which they vary.
    dtype : DType
        `quint8` or `qint8`.
    rounding : str, optional
        As `quantize_per_tensor`. ``"quantized_decomposed"`` computes in the type of `scales`, float32 or float64,
        as torch does there.

    Returns
    -------
    QuantizedTensor
        Of the input's shape and axis order in memory, quantized per channel.

    Raises
    ------
    TypeError, ValueError
        As `quantize_per_tensor`, and if lengths differ or the axis is out of range.

    Examples
    --------
    >>> import numpy as np, bytenorm as bn
    >>> x = np.array([[1.0, 2.0], [1.0, 2.0]])
    >>> bn.quantize_per_channel(x, [0.1, 0.5], [0, 100], 0, bn.quint8).int_repr()
    array([[ 10,  20],
           [102, 104]], dtype=uint8)
    """
    kind = _checks.dtype(dtype, "dtype")
    real = _checks.real_input(input)
    at = _checks.axis(axis, real.ndim, "axis")
    names = ("scales", "zero_points")
    rule = _checks.choice(rounding, ROUNDINGS, "rounding")
    given = _checks.as_array(scales, "scales")
    scale, zero_point = _checks.channel_quantization(given, zero_points, kind, real.shape[at], names)
    if rule == "quantized_decomposed" and given.dtype.type not in (np.float32, np.float64):
        raise bad_type(
            "scales",
            f"must be float32 or float64 where rounding is {rule!r}, which computes in their type, "
            f"got {given.dtype}",
        )
    narrow = given.dtype.type is np.float32
    factor = _factor(scale.astype(np.float32) if narrow else scale, rule, at)
    data = _quantize(real, *factor, zero_point.astype(np.float32), kind, at)
    return _make(data, scale, zero_point, at)


def quantize_per_tensor_dynamic(
    input: Any, dtype: DType, reduce_range: bool = False, *, rounding: str = "torch-2.13"
) -> QuantizedTensor:
    """Quantize real numbers with the scale and zero point that cover their range.

    Follows ``torch.quantize_per_tensor_dynamic``: the range always includes 0, the scale is computed in double,
    the zero point comes from the end of the range with the smaller error.

    Parameters
    ----------
    input : array of float16, float32 or float64, any shape, not empty
        Finite numbers.
    dtype : DType
        `quint8` or `qint8`.
    reduce_range : bool, optional
        Use half of the codes (0 to 127, or -64 to 63), for kernels that would overflow with all of them.
    rounding : str, optional
        ``"torch-2.13"`` or ``"torch-2.14"``, as `quantize_per_tensor`; scale and zero point are the same in both.

    Returns
    -------
    QuantizedTensor
        Of the input's shape and axis order in memory.

    Raises
    ------
    TypeError
        If the input is not real floating point.
    ValueError
        If the input is empty or holds a NaN or an infinity.

    Examples
    --------
    >>> import numpy as np, bytenorm as bn
    >>> q = bn.quantize_per_tensor_dynamic(np.array([-1.0, 0.5, 1.55]), bn.quint8)
    >>> round(q.q_scale(), 6), q.q_zero_point()
    (0.01, 100)
    """
    kind = _checks.dtype(dtype, "dtype")
    reduced = _checks.flag(reduce_range, "reduce_range")
    rule = _checks.choice(rounding, ROUNDINGS[:2], "rounding")
    real = _checks.real_input(input)
    if real.size == 0:
        raise bad_value("input", f"must not be empty: it has no range, got shape {real.shape}")
    smallest, largest = np.float32(real.min()), np.float32(real.max())
    if not (np.isfinite(smallest) and np.isfinite(largest)):
        raise bad_value("input", f"must be finite in float32, got values from {smallest} to {largest}")
    scale, zero_point = dynamic_qparams(smallest, largest, kind, reduced)
    factor = _factor(np.array([scale]), rule, -1)
    data = _quantize(real, *factor, np.array([zero_point], np.float32), kind, -1)
    return _make(data, scale, zero_point, None)


def dynamic_qparams(
    smallest: np.float32, largest: np.float32, dtype: DType, reduce_range: bool = False
) -> tuple[float, int]:
    """Return the scale and zero point that cover a range of float32 numbers, by torch's rule."""
    low, high = np.minimum(smallest, np.float32(0)), np.maximum(largest, np.float32(0))
    qmin, qmax = dtype.qmin, dtype.qmax
    if reduce_range:
        qmin, qmax = (-64, 63) if dtype.qmin else (0, 127)
    scale = (float(high) - float(low)) / (qmax - qmin)
    with np.errstate(all="ignore"):
        if np.float32(scale) == 0 or np.isinf(np.float32(1) / np.float32(scale)):
            scale = 0.1
        if scale < float(SMALLEST_DYNAMIC_SCALE):
            # The range is stretched by the same factor, in float32.
            stretch = SMALLEST_DYNAMIC_SCALE / np.float32(scale)
            span = SMALLEST_DYNAMIC_SCALE * np.float32(qmax - qmin)
            if low == 0:
                high = span
            elif high == 0:
                low = -span
            else:
                low, high = low * stretch, high * stretch
            scale = float(SMALLEST_DYNAMIC_SCALE)
    from_low, from_high = qmin - float(low) / scale, qmax - float(high) / scale
    error_low = abs(qmin) + abs(float(low) / scale)
    error_high = abs(qmax) + abs(float(high) / scale)
    exact = from_low if error_low < error_high else from_high
    return scale, int(np.clip(np.rint(exact), qmin, qmax))


def dequantize(q: QuantizedTensor) -> np.ndarray:
    """Return the real numbers that a quantized tensor stands for.

    Computes ``(code - zero_point) * scale`` as ``torch.dequantize`` does: per tensor in float32 with the scale
    rounded to float32, per channel in float64 and rounded once.

    Parameters
    ----------
    q : QuantizedTensor
        Of any shape, quantized per tensor or per channel.

    Returns
    -------
    numpy.ndarray of float32
        Of the same shape and axis order in memory.

    Raises
    ------
    TypeError
        If `q` is no QuantizedTensor.

    Examples
    --------
    >>> import numpy as np, bytenorm as bn
    >>> bn.dequantize(bn.QuantizedTensor(np.array([126, 130], np.uint8), 0.5, 128))
    array([-1.,  1.], dtype=float32)
    """
    return _checks.quantized(q, "q").dequantize()  # type: ignore[no-any-return]


def requantize(q: QuantizedTensor, scale: float, zero_point: int, dtype: DType | None = None) -> QuantizedTensor:
    """Express a quantized tensor in another quantization.

    Computes ``clamp(rint(f32((code - zero_point_in) * m)) + zero_point)`` with
    ``m = f32(f64(scale_in) / f64(scale))``, half to even. Without going through real numbers: 256 inputs a
    channel have 256 outputs.

    Parameters
    ----------
    q : QuantizedTensor
        Of any shape, quantized per tensor or per channel.
    scale : float
        The new quantization step in real units.
    zero_point : int
        The new code of 0.
    dtype : DType, optional
        The new type; None keeps the old.

    Returns
    -------
    QuantizedTensor
        Of the same shape and axis order in memory, quantized per tensor.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range, or the ratio of the scales overflows float32.

    Examples
    --------
    >>> import numpy as np, bytenorm as bn
    >>> q = bn.QuantizedTensor(np.array([126, 130], np.uint8), 0.5, 128)
    >>> bn.requantize(q, 0.25, 0, bn.qint8).int_repr()
    array([-4,  4], dtype=int8)
    """
    tensor = _checks.quantized(q, "q")
    kind = tensor.dtype if dtype is None else _checks.dtype(dtype, "dtype")
    scale_ = _checks.scale(scale, "scale")
    zero_point_ = _checks.zero_point(zero_point, kind, "zero_point")
    result = _core.requantize(tensor, scale_, zero_point_, kind is qint8)
    if result is None:
        raise bad_value(
            "the scale of q over scale", f"overflows float32, got {tensor.scale} and {scale_}", argument="scale"
        )
    return result


def _factor(scales: np.ndarray, rule: str, axis: int) -> tuple[np.ndarray, int]:
    """Return what a rule multiplies by, or divides by, and which of the native roundings it is.

    `scales` are checked, in float32 only where they came so; `axis` is -1 per tensor.
    """
    narrow = scales.astype(np.float32)
    with np.errstate(all="ignore"):
        if rule == "onnx":
            return narrow, _DIVIDED
        if rule == "quantized_decomposed":
            inverse = scales.dtype.type(1) / scales
            if axis >= 0 and scales.dtype.type is np.float64:
                return inverse, _WIDE
            return inverse.astype(np.float32), _AFTER
        inverse = np.float32(1) / narrow
    if rule == "torch-2.14":
        return inverse, _AFTER
    return inverse, _FUSED if axis < 0 else _PRODUCT


def _quantize(
    real: np.ndarray, factor: np.ndarray, rounding: int, zero_point: np.ndarray, kind: DType, axis: int
) -> np.ndarray:
    dense = real.flags.aligned and real.dtype.isnative and dense_like_empty(real)
    source = real if dense else real.astype(np.float32, order="K", copy=True)
    data = np.empty_like(source, dtype=kind.numpy)
    if _core.quantize(source, data, factor, zero_point, axis, rounding):
        raise bad_value("input", "must not hold NaN: there is no code for it")
    return data
