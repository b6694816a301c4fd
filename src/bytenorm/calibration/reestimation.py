"""A norm whose mean and variance fit the data that it meets."""

from __future__ import annotations

import numpy as np

from .. import _checks
from ..batch_norm import BatchNorm
from . import arguments
from .statistics import ChannelStatistics


def reestimate(norm: BatchNorm, statistics: ChannelStatistics, *, momentum: float = 1.0) -> BatchNorm:
    """Give a norm the mean and the variance of the data that comes to it.

    Quantizing a network moves what its norms see; so does data unlike that of the training. The statistics of
    all batches are pooled: the variance is that of the batches laid end to end, whatever their sizes, not the
    mean of their variances, which misses how their means differ. As PyTorch's `running_var` it is unbiased,
    divided by n - 1: an estimate for the data to come.

    Parameters
    ----------
    norm : BatchNorm
        Of C channels.
    statistics : ChannelStatistics
        Of the norm's input, C channels with at least 2 elements each. No histogram is needed.
    momentum : float, optional
        How much the measured values count, from 0 to 1: ``(1 - momentum) * old + momentum * measured``, as in
        PyTorch. 1 forgets the old ones.

    Returns
    -------
    BatchNorm
        The same but for `mean` and `var`. Its output may need another scale: see `choose_output_qparams`.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If the channels differ in number, a channel has fewer than 2 elements, `momentum` is out of range, or a
        measured value overflows float32 or leaves a variance of 0 without eps.

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
    """
    norm = arguments.batch_norm(norm)
    share = arguments.momentum(momentum)
    measured = arguments.spread(statistics, len(norm.mean))
    new = {"mean": measured.mean(), "var": measured.var(unbiased=True)}
    blended = {
        name: (1 - share) * getattr(norm, name).astype(np.float64) + share * value for name, value in new.items()
    }
    for name, value in blended.items():
        _checks.parameter(value, f"the re-estimated {name}")
    return norm.replace(**blended)
