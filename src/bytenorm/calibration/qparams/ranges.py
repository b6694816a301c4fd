"""The ranges that the known methods of calibration give an output: minmax, percentile, entropy."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .distribution import Distribution

# As in the source of the entropy method.
BINS = 2048
LEVELS = 128


def minmax(output: Distribution) -> tuple[float, float]:
    """Return the smallest and the largest value."""
    return float(output.values[0]), float(output.values[-1])


def percentile(output: Distribution, percent: Fraction, *, symmetric: bool) -> tuple[float, float]:
    """Return the range that leaves out the same share on both sides, `percent` of all values within.

    With `symmetric`, the least range around 0 that holds `percent` of all values.
    """
    if symmetric:
        reach = output.absolute().quantile(percent / 100)
        return -reach, reach
    outside = (100 - percent) / 200
    return output.quantile(outside), output.quantile(1 - outside)


def entropy(output: Distribution) -> tuple[float, float]:
    """Return the range within plus or minus the threshold that loses the least information.

    S. Migacz, "8-bit Inference with TensorRT", GPU Technology Conference 2017 (session S7310): count the
    magnitudes in 2048 bins of equal width. For i from 128 to 2048, P is the first i bins, with all that lies
    beyond counted in the last of them. Q is the first i bins, merged into 128 levels; each level is spread evenly
    over those of its bins that P does not leave empty. The threshold is the upper edge of the bins for which the
    Kullback-Leibler divergence of Q from P is least, the largest among equals. Level j merges the bins from
    floor(j i / 128) on.
    """
    magnitude = output.absolute()
    reach = float(magnitude.values[-1])
    at = np.minimum((magnitude.values / reach * BINS).astype(np.int64), BINS - 1)
    bins = np.bincount(at, magnitude.shares(), BINS)
    best, threshold = np.inf, BINS
    for i in range(LEVELS, BINS + 1):
        divergence = _divergence(bins, i)
        if divergence <= best:
            best, threshold = divergence, i
    high = reach * threshold / BINS
    low, most = minmax(output)
    return max(-high, low), min(high, most)


def _divergence(bins: np.ndarray, i: int) -> float:
    """Return the divergence of the quantized first `i` bins from these bins with the rest in the last one."""
    inside = bins[:i]
    p = inside.copy()
    p[-1] += bins[i:].sum()
    filled = p > 0
    starts = np.arange(LEVELS) * i // LEVELS
    level = np.add.reduceat(inside, starts)
    share = level / np.maximum(np.add.reduceat(filled, starts, dtype=np.int64), 1)
    q = np.repeat(share, np.diff(starts, append=i))[filled]
    if not q.all():
        return np.inf  # only outliers are in the last level: nothing of it is left in Q
    p = p[filled]
    return float(np.sum(p * np.log(p / (q / q.sum()))))
