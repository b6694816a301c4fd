"""A norm whose mean and variance fit the data that it meets, or undo what quantization did to its input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import _checks
from .._norms.batch_norm import BatchNorm
from . import checks
from .statistics import ChannelStatistics

if TYPE_CHECKING:
    import numpy.typing as npt

    Vector = npt.NDArray[np.float64]


# How far a norm's deviation may be corrected, either way. What quantization does to a channel that spreads over a
# few steps is a few per cent: rounding adds 1/12 of a step squared. A factor beyond this is that of a channel that
# vanishes within a step, and tells of the rounding, not of the network.
_FURTHEST = 1.25


def reestimate(
    norm: BatchNorm,
    statistics: ChannelStatistics,
    *,
    momentum: float = 1.0,
    reference: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
) -> BatchNorm:
    """Give a norm the mean and the variance of the data that comes to it, or what corrects its 8-bit input.

    The statistics of all batches are pooled: the variance is that of the batches laid end to end, whatever their
    sizes, not the mean of their variances, which misses how their means differ.

    Without `reference` the norm gets the statistics of the data: for data unlike that of the training. As
    PyTorch's `running_var` the variance is unbiased, divided by n - 1: an estimate for the data to come.

    With `reference`, the moments of the norm's input in the float network on the same data, what quantization
    moved is put right and nothing else: the output gets the moments that the float network's has. With the
    reference's m and v, the measured m8 and v8, and the norm's own mean and var::

        k = sqrt(v8 / v);  var' + eps = (var + eps) k^2;  mean' = m8 - (m - mean) k

    Both networks see the same samples, so which ones they are hardly matters. k is held between 0.8 and 1.25, and
    where no variance is small enough for it, at what a variance of 0 gives; the output's mean is right all the
    same. A channel that never varies, in either network, keeps its mean and variance.

    Parameters
    ----------
    norm : BatchNorm
        Of C channels.
    statistics : ChannelStatistics
        Of the norm's input, C channels with at least 2 elements each. No histogram is needed.
    momentum : float, optional
        How much the measured values count, from 0 to 1: ``(1 - momentum) * old + momentum * measured``, as in
        PyTorch. 1 forgets the old ones.
    reference : tuple of two array-likes, optional
        The mean and the variance of each channel of the norm's input in the float network, on the same data, C
        numbers each, in real units. The variance is divided by n.

    Returns
    -------
    BatchNorm
        The same but for `mean` and `var`. Its output may need another scale: see `choose_output_qparams`.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the channels differ in number, a channel has fewer than 2 elements or `momentum` is out of range. If
        `reference` holds other than finite numbers or a negative variance. If a measured value overflows float32,
        or leaves a variance of 0 without eps.

    Examples
    --------
    >>> import numpy as np, bytenorm as bn
    >>> from bytenorm.calibration import ChannelStatistics, reestimate
    >>> statistics = ChannelStatistics(1)
    >>> statistics.update(bn.QuantizedTensor(np.array([[1], [3], [5]], np.uint8), 0.5, 1))
    >>> norm = bn.BatchNorm(None, None, [0.0], [1.0], output_scale=0.1, output_zero_point=128)
    >>> new = reestimate(norm, statistics)
    >>> new.mean, new.var
    (array([1.], dtype=float32), array([1.], dtype=float32))

    The same data had a mean of 0.9 and a variance of 0.6 before it was quantized:

    >>> corrected = reestimate(norm, statistics, reference=([0.9], [0.6]))
    >>> corrected.mean.round(4), corrected.var.round(4)
    (array([0.0513], dtype=float32), array([1.1111], dtype=float32))
    """
    norm = checks.batch_norm(norm)
    share = checks.momentum(momentum)
    measured = checks.spread(statistics, len(norm.mean))
    if reference is None:
        new = {"mean": measured.mean(), "var": measured.var(unbiased=True)}
    else:
        new = _corrected(norm, measured, *checks.moments(reference, len(norm.mean)))
    blended = {
        name: (1 - share) * getattr(norm, name).astype(np.float64) + share * value for name, value in new.items()
    }
    for name, value in blended.items():
        _checks.parameter(value, f"the re-estimated {name}")
    return norm.replace(**blended)


def _corrected(norm: BatchNorm, measured: ChannelStatistics, mean: Vector, var: Vector) -> dict[str, Vector]:
    """Return the mean and the variance with which a norm's output has the moments that the reference's has."""
    old_mean, old_var = norm.mean.astype(np.float64), norm.var.astype(np.float64)
    eps = float(np.float32(norm.eps))  # as the operator adds it
    seen_mean, seen_var = measured.mean(), measured.var()
    varies = (seen_var > 0) & (var > 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        k = np.clip(np.sqrt(seen_var) / np.sqrt(var), 1 / _FURTHEST, _FURTHEST)
        new_var = np.maximum((old_var + eps) * k**2 - eps, 0)
        k = np.sqrt((new_var + eps) / (old_var + eps))
        new_mean = seen_mean - (mean - old_mean) * k
    return {"mean": np.where(varies, new_mean, old_mean), "var": np.where(varies, new_var, old_var)}
