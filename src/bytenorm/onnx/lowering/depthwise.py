"""The numbers of a depthwise 1x1 QLinearConv that computes a norm.

The convolution computes ``(weight * x + bias) * (x_scale * weight_scale / y_scale)``, where weight and bias are
whole. Rounding the bias takes away up to half a unit, and a weight of W makes that one part in 2 W of the slope.
So the W of a channel is chosen, among 64 to 127, such that its bias is nearly whole. In some channels of a hundred
a code is missed even so; there weight, bias and scale are looked for together. What is left, two or three channels
of ten thousand, has a code that is one step off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..norms.code_maps import every_code

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..norms.code_maps import Codes
    from ..norms.norm import QuantizedNorm

    Reals = npt.NDArray[np.float64]

_WEIGHTS = np.arange(64.0, 128.0)
_LARGEST_BIAS = 2.0**30
_ROOM = 1e-6  # relative; float32 rounds four times on the way


class Depthwise(NamedTuple):
    """One number a channel, and the scale of the input."""

    weight: npt.NDArray[np.int8]
    weight_scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.int32]
    x_scale: np.float32

    @property
    def bias_scale(self) -> npt.NDArray[np.float32]:
        """The scale of the bias: that of the sums, in float32 as ONNX Runtime takes it."""
        return self.x_scale * self.weight_scale


def is_possible(site: QuantizedNorm) -> bool:
    """Say whether :func:`depthwise` finds numbers, without the search for the best of them."""
    scales = _begun(site).weight_scale
    with np.errstate(over="ignore", under="ignore"):
        products = site.source.scale.max() * scales  # of the sums, and of a bias between conversions
    return bool(np.all(np.isfinite(scales) & np.isfinite(products) & (products > 0)))


class _Begun(NamedTuple):
    """What each channel has by itself, and what is wanted of it."""

    gain: Reals
    shift: Reals
    weight: Reals
    weight_scale: npt.NDArray[np.float32]
    bias: Reals
    x: Codes
    wanted: Codes


def _begun(site: QuantizedNorm) -> _Begun:
    source, (y_scale, _) = site.source, site.target.scalars
    gain, shift = site.parameters.gain_and_shift()
    x_scale = source.scale.max()
    if not source.per_tensor:  # scales go into the gains, zero points into the shifts
        scale = source.scale.astype(np.float64).ravel()
        shift = shift - gain * scale * source.zero_point.astype(np.float64).ravel()
        gain = gain * scale / float(x_scale)
    shift = shift / float(x_scale)
    weight, weight_scale, bias = _nearest(gain, shift)

    # A channel that makes one code of all inputs, as with a slope of 0, has this code as its bias.
    x, wanted = every_code(site)
    if source.per_tensor:
        x = x - source.scalars[1]
    with np.errstate(over="ignore"):
        step = np.float32(y_scale / float(x_scale))
    constant = np.all(wanted == wanted[:, :1], axis=1) & (step > 0)
    weight = np.where(constant, 0, weight)
    weight_scale = np.where(constant, step, weight_scale)
    bias = np.where(constant, wanted[:, 0], bias)
    return _Begun(gain, shift, weight, weight_scale, bias, x, wanted)


def depthwise(site: QuantizedNorm) -> Depthwise | None:
    """Choose the numbers of the convolution.

    Parameters
    ----------
    site : QuantizedNorm

    Returns
    -------
    Depthwise or None
        For an input whose zero point is the norm's own, or 0 if it is quantized per channel. None if a scale is
        beyond float32.
    """
    gain, shift, weight, weight_scale, bias, x, wanted = _begun(site)
    if not np.all(np.isfinite(weight_scale)):
        return None
    x_scale, (step, zero_point) = site.source.scale.max(), site.target.scalars
    y_scale = np.float32(step)
    lowest = (-128 if site.target.signed else 0) - zero_point
    ends = lowest, lowest + 255
    with np.errstate(over="ignore", invalid="ignore"):
        factor = x_scale * weight_scale / y_scale  # in float32, as ONNX Runtime does it
        sums = (weight[:, None] * x + bias[:, None]).astype(np.float32)
        made = np.clip(np.rint(sums * factor[:, None]), *ends)
    for c in np.flatnonzero(np.any(made != wanted, axis=1) & (gain != 0)):
        low = np.where(wanted[c] > ends[0], wanted[c] - 0.5, -np.inf)
        high = np.where(wanted[c] < ends[1], wanted[c] + 0.5, np.inf)
        found = _fit(gain[c], shift[c], x, low, high)
        if found is not None:
            weight[c], bias[c], exact_factor = found
            weight_scale[c] = exact_factor * float(y_scale) / float(x_scale)
    return Depthwise(weight.astype(np.int8), weight_scale, bias.astype(np.int32), x_scale)


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _nearest(gain: Reals, shift: Reals) -> tuple[Reals, npt.NDArray[np.float32], Reals]:
    """Return the weights, their scales and the biases of ``gain * x + shift``, each channel for itself.

    A gain so small that the bias would not fit gets a scale that the bias decides.
    """
    # One row a channel, one column a candidate for the weight.
    scales = (np.abs(gain)[:, None] / _WEIGHTS).astype(np.float32)
    biases = shift[:, None] / scales.astype(np.float64)
    off = np.abs(biases - np.rint(biases)) / _WEIGHTS
    usable = np.all((np.abs(biases) <= _LARGEST_BIAS) & (scales > 0) & (scales < np.inf), axis=1)
    best = np.argmin(np.where(usable[:, None], off, 0), axis=1)
    rows = np.arange(len(gain))

    smallest = np.maximum(np.abs(shift) / _LARGEST_BIAS, float(np.finfo(np.float32).tiny))
    bounded = np.maximum(np.abs(gain) / _WEIGHTS[-1], smallest).astype(np.float32)
    weight = np.where(usable, np.sign(gain) * _WEIGHTS[best], np.rint(gain / bounded))
    bias = np.where(usable, biases[rows, best], shift / bounded.astype(np.float64))
    return weight, np.where(usable, scales[rows, best], bounded), np.rint(bias)


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def _fit(gain: float, shift: float, x: Codes, low: Reals, high: Reals) -> tuple[float, float, float] | None:
    """Find a weight, a bias and a factor with ``low < (weight * x + bias) * factor < high`` for all x.

    Each weight is tried with the two whole numbers at its bias. Each x then bounds the factor from both sides;
    the factor is the middle of what is left, for the weight and bias that leave most.
    """
    below = np.floor(_WEIGHTS * (shift / abs(gain)))
    biases = np.concatenate([below, below + 1])
    weights = np.tile(np.sign(gain) * _WEIGHTS, 2)
    if not np.max(np.abs(biases)) <= _LARGEST_BIAS:
        return None
    sums = weights[:, None] * x + biases[:, None]
    least = np.max(np.where(sums < 0, -high, low) / np.abs(sums), axis=1)
    most = np.min(np.where(sums < 0, -low, high) / np.abs(sums), axis=1)
    possible = np.isfinite(most) & (least > 0)
    middle = np.where(possible, (least + most) / 2, 1.0)
    room = np.where(possible, most - middle, -np.inf) / middle
    best = int(np.argmax(room))
    if room[best] < _ROOM:
        return None
    return float(weights[best]), float(biases[best]), float(middle[best])
