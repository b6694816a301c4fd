"""The best scale and zero point for a norm's output."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal, overload

import numpy as np

from ... import _checks
from ..._dtypes import DType
from ..._errors import bad_type, bad_value
from ..._norms.batch_norm import BatchNorm
from .. import checks
from ..statistics import ChannelStatistics
from . import distribution, ranges
from .distribution import Distribution
from .least_error import SPAN, least_error

F32 = np.float32
F64 = np.float64
LARGEST = float(np.finfo(F32).max)
SMALLEST = float(np.nextafter(F32(2.0**-128), F32(1)))  # the reciprocal of 2^-128 overflows float32
PERCENTILE = 99.99
HALF = 127  # the largest code of a symmetric range: -128 has no counterpart

Method = Literal["mse", "minmax", "percentile", "entropy"]


class OutputQParams(tuple[float, int]):
    """A scale and a zero point, with what they cost.

    A tuple of exactly these two: ``scale, zero_point = choose_output_qparams(...)``.

    Attributes
    ----------
    scale : float
        In real units; a float32 number.
    zero_point : int
    mse : float
        The mean squared error of the quantized output, in real units squared.
    clipped : float
        The share of the outputs, from 0 to 1, that lie more than half a step beyond the last code.

    Examples
    --------
    >>> import bytenorm as bn
    >>> from bytenorm.calibration import choose_output_qparams
    >>> found = choose_output_qparams([1.0, 0.5], [0.0, 1.0], [3.0, 4.0], [1.0, 1.0], 1e-5, dtype=bn.quint8)
    >>> scale, zero_point = found  # two numbers, which know more
    >>> found.clipped < 0.001, found.mse < scale**2
    (True, True)
    """

    scale: float
    zero_point: int
    mse: float
    clipped: float

    def __new__(cls, scale: float, zero_point: int, *, mse: float, clipped: float) -> OutputQParams:
        """Return the pair with its attributes."""
        self = super().__new__(cls, (scale, zero_point))
        self.scale, self.zero_point, self.mse, self.clipped = scale, zero_point, mse, clipped
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[float, int], dict[str, float]]:
        return (self.scale, self.zero_point), {"mse": self.mse, "clipped": self.clipped}

    def __repr__(self) -> str:
        return (
            f"OutputQParams(scale={self.scale!r}, zero_point={self.zero_point}, "
            f"mse={self.mse!r}, clipped={self.clipped!r})"
        )


@overload
def choose_output_qparams(
    norm: BatchNorm,
    statistics: ChannelStatistics | None = None,
    /,
    *,
    method: Method = "mse",
    dtype: DType | None = None,
    symmetric: bool = False,
    relu: bool | None = None,
    percentile: float = PERCENTILE,
) -> OutputQParams: ...
@overload
def choose_output_qparams(
    norm: BatchNorm,
    /,
    *,
    statistics: ChannelStatistics,
    method: Method = "mse",
    dtype: DType | None = None,
    symmetric: bool = False,
    relu: bool | None = None,
    percentile: float = PERCENTILE,
) -> OutputQParams: ...
@overload
def choose_output_qparams(
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    eps: float,
    statistics: ChannelStatistics | None = None,
    *,
    method: Method = "mse",
    dtype: DType | None = None,
    symmetric: bool = False,
    relu: bool | None = None,
    percentile: float = PERCENTILE,
) -> OutputQParams: ...
def choose_output_qparams(
    weight: Any,
    bias: Any = None,
    mean: Any = None,
    var: Any = None,
    eps: Any = None,
    statistics: ChannelStatistics | None = None,
    *,
    method: Method = "mse",
    dtype: DType | None = None,
    symmetric: bool = False,
    relu: bool | None = None,
    percentile: float = PERCENTILE,
) -> OutputQParams:
    """Choose the scale and the zero point of a norm's output.

    With the statistics of the input, the distribution of the float output is known exactly: a channel has 256
    inputs, and their histogram says how often each came. Without, each channel's output is taken for normal with
    mean `bias` and spread ``abs(weight) * sqrt(var / (var + eps))``. That is what batch norm makes of data that
    its mean and variance describe. All channels count alike.

    Parameters
    ----------
    weight, bias : array of C real numbers, or None
        In real units. None means ones and zeros. Or one `BatchNorm` in place of `weight` to `eps`, whose own
        output scale and zero point are ignored; `statistics` then follows it.
    mean, var : array of C real numbers
        In real units; `var` is not negative.
    eps : float
        Added to `var`, not negative.
    statistics : ChannelStatistics, optional
        Of the norm's input, C channels, with a histogram.
    method : str, optional
        How to choose; ``low`` and ``high`` are the range that the codes will cover.

        - ``"mse"``: the least mean squared error of the quantized output, rounded and clamped as the operator
          does. The best of a fine search over all scales and all zero points.
        - ``"minmax"``: the smallest and the largest output. Needs statistics.
        - ``"percentile"``: as many outputs below the range as above it, `percentile` of them within (in the
          sense of ``numpy.quantile(..., method="inverted_cdf")``).
        - ``"entropy"``: the threshold on magnitudes that loses the least information: Migacz, "8-bit Inference
          with TensorRT" (GTC 2017), on 2048 bins and 128 levels.

        The last three give ``scale = (high - low) / 255`` and ``zero_point = qmin - round(low / scale)``, once
        the range is stretched to include 0.
    dtype : DType, optional
        `quint8` or `qint8`; None takes the norm's `output_dtype`, else that of the statistics.
    symmetric : bool, optional
        Put the zero point in the middle: 0 for `qint8`, 128 for `quint8`. A range then is stretched to
        ``scale = max(-low, high) / 127``.
    relu : bool, optional
        Whether negative outputs become 0. None takes the norm's, else False.
    percentile : float, optional
        For that method, above 0 and at most 100.

    Returns
    -------
    OutputQParams
        The tuple (scale, zero_point), with attributes `mse` and `clipped`: what the choice costs. A norm that
        gives nothing but zeros gets the scale 1.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or missing.
    ValueError
        If a value is out of range, numbers of channels differ, the statistics have no histogram or saw no data,
        `method` is ``"minmax"`` without statistics, or the norm overflows float32.

    Examples
    --------
    >>> from bytenorm.calibration import choose_output_qparams
    >>> import bytenorm as bn
    >>> best = choose_output_qparams([1.0, 0.5], [0.0, 1.0], [3.0, 4.0], [1.0, 1.0], 1e-5, dtype=bn.quint8)
    >>> scale, zero_point = best
    >>> round(scale, 4), zero_point, best.clipped < 0.001
    (0.0296, 127, True)
    """
    if isinstance(weight, BatchNorm):
        norm = weight
        if bias is not None and statistics is None:
            bias, statistics = None, bias
        if not (bias is None and mean is None and var is None and eps is None):
            raise bad_type("bias, mean, var and eps", "must be left out after a BatchNorm, which has its own")
        parameters: _checks.Parameters = (norm.weight, norm.bias, norm.mean, norm.var, norm.eps)
        norm_dtype, norm_relu = norm.output_dtype, norm.relu
    else:
        for name, value in (("mean", mean), ("var", var), ("eps", eps)):
            if value is None:
                _checks.missing(name)
        parameters = _checks.norm_parameters(weight, bias, mean, var, eps)
        norm_dtype, norm_relu = None, False
    way = checks.method(method)
    relu = norm_relu if relu is None else _checks.flag(relu, "relu")
    symmetric = _checks.flag(symmetric, "symmetric")
    percent = checks.percentile(percentile)
    if statistics is None:
        gathered = None
        if way == "minmax":
            raise bad_value("statistics", 'are needed for method "minmax": without data an output has no bounds')
    else:
        gathered = checks.counted(statistics, len(parameters[2]))
    kind = checks.output_dtype(dtype, norm_dtype, None if gathered is None else gathered[0].dtype)

    output, smallest = _output(parameters, gathered, relu=relu)
    return _choice(output, smallest, way, kind, relu=relu, symmetric=symmetric, percent=percent)


def choose_within(
    norm: BatchNorm,
    statistics: ChannelStatistics,
    limits: tuple[float, float],
    method: Method,
    *,
    symmetric: bool = False,
) -> OutputQParams:
    """Choose for the output of a norm and of an activation behind it that keeps it within limits.

    As `choose_output_qparams`, which is this for the limits of a relu, (0, inf), and for none, (-inf, inf). Codes
    may reach beyond other limits: it is for the activation to keep them.
    """
    relu = limits == (0, np.inf)
    gathered = checks.counted(statistics, len(norm.mean))
    kind = checks.output_dtype(norm.output_dtype, gathered[0].dtype)
    output, smallest = _output((norm.weight, norm.bias, norm.mean, norm.var, norm.eps), gathered, relu=relu)
    output = Distribution.of(np.clip(output.values, *limits), output.weights)
    percent = checks.percentile(PERCENTILE)
    chosen = checks.method(method)
    return _choice(output, smallest, chosen, kind, relu=relu, symmetric=symmetric, percent=percent)


def choose_for_numbers(numbers: Distribution, dtype: DType, method: Method, *, symmetric: bool) -> OutputQParams:
    """Choose for numbers that no norm makes, as `choose_output_qparams` does."""
    percent = checks.percentile(PERCENTILE)
    return _choice(
        numbers, SMALLEST, checks.method(method), dtype, relu=False, symmetric=symmetric, percent=percent
    )


def _choice(
    output: Distribution,
    smallest: float,
    way: str,
    kind: DType,
    *,
    relu: bool,
    symmetric: bool,
    percent: Fraction,
) -> OutputQParams:
    if not output.values.any():
        scale, low = 1.0, -(HALF + 1) if symmetric else 0
    elif way == "mse":
        scale, low = least_error(output, _lows(symmetric=symmetric, relu=relu), smallest, LARGEST)
    else:
        if way == "minmax":
            ends = ranges.minmax(output)
        elif way == "percentile":
            ends = ranges.percentile(output, percent, symmetric=symmetric)
        else:
            ends = ranges.entropy(output)
        scale, low = covering(*ends, smallest, symmetric=symmetric)
    mse, clipped = output.error(scale, low, low + SPAN)
    return OutputQParams(scale, kind.qmin - low, mse=mse, clipped=clipped)


def _output(
    parameters: _checks.Parameters, gathered: tuple[ChannelStatistics, np.ndarray] | None, *, relu: bool
) -> tuple[Distribution, float]:
    """Return the distribution of the output, and the smallest scale for which the operator does not overflow."""
    weight, bias, mean, var, eps = parameters
    weight = np.ones_like(mean) if weight is None else weight
    bias = np.zeros_like(mean) if bias is None else bias
    inverse = F32(1) / np.sqrt(var + F32(eps))
    with np.errstate(over="ignore", invalid="ignore"):
        slope = inverse * weight
        intercept = bias - (mean * inverse) * weight
    _checks.overflow(slope, intercept)
    largest = np.abs(intercept).astype(F64)

    variance = var.astype(F64) + F64(F32(eps))
    if gathered is None:
        spread = weight.astype(F64) * np.sqrt(var / variance)
        output = distribution.expected(bias.astype(F64), spread, relu=relu)
    else:
        statistics, histogram = gathered
        assert statistics.dtype is not None, "there is a type wherever there is data"
        channels = (len(mean),)
        scale = np.broadcast_to(np.asarray(statistics.scale, F64), channels)[:, np.newaxis]
        zero_point = np.broadcast_to(statistics.zero_point, channels)[:, np.newaxis]
        codes = np.arange(statistics.dtype.qmin, statistics.dtype.qmax + 1)
        largest = np.maximum(largest, np.abs(slope.astype(F64)) * scale[:, 0])
        output = distribution.measured(
            weight.astype(F64),
            bias.astype(F64),
            mean.astype(F64),
            variance,
            histogram,
            scale * (codes - zero_point),
            relu=relu,
        )
    return output, max(SMALLEST, _float32_above(float(largest.max()) / LARGEST))


def _lows(*, symmetric: bool, relu: bool) -> np.ndarray:
    """Return the lowest codes to choose from, counted from the code of 0."""
    if symmetric:
        return np.array([-(HALF + 1)])
    return np.array([0]) if relu else np.arange(-SPAN, 1)


def covering(low: float, high: float, smallest: float, *, symmetric: bool = False) -> tuple[float, int]:
    """Return the scale whose codes cover a range, and the lowest code, counted from the code of 0.

    The scale is rounded up to float32: rounded down, it would clip the ends. The zero point is that of the scale
    before, in exact numbers: the range of an odd number of steps around 0 lies halfway between two.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        return _between(max(-low, high) / HALF, smallest), -(HALF + 1)
    scale = _between((high - low) / SPAN, smallest)
    step = max((Fraction(high) - Fraction(low)) / SPAN, Fraction(smallest))
    return scale, round(Fraction(low) / step)


def _between(wanted: float, smallest: float) -> float:
    """Return a scale rounded up to float32 that the operator takes."""
    return min(max(_float32_above(wanted), smallest), LARGEST)


def _float32_above(value: float) -> float:
    """Return the least float32 number that is not below a value, or the largest there is."""
    nearest = F32(min(value, LARGEST))
    # Compared as float64: NumPy 2 would round a Python number to float32 first.
    return float(nearest if float(nearest) >= value else np.nextafter(nearest, F32(np.inf)))
