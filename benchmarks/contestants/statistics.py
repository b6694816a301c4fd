"""Statistics of channels: bytenorm's integers, NumPy's float mean and variance, and NumPy's counts of codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from bytenorm.calibration import ChannelStatistics

from ..problem import Problem
from ..timing import Contestant
from . import own


def sums(p: Problem) -> Contestant:
    """Return gathering without a histogram."""
    return _gathering(p, "sums", histogram=False)


def histogram(p: Problem) -> Contestant:
    """Return gathering with a histogram."""
    return _gathering(p, "histogram", histogram=True)


def _gathering(p: Problem, name: str, histogram: bool) -> Contestant:
    qx, channels = own.tensor(p), p.x.shape[1]

    def counts(_: object) -> Any:
        statistics = ChannelStatistics(channels)
        statistics.update(qx)
        return statistics.histogram

    names = {"statistics": ChannelStatistics(channels, histogram=histogram), "qx": qx}
    return Contestant(name, "own", "statistics.update(qx)", names, p.x.size, counts if histogram else None)


def float_moments(p: Problem) -> Contestant:
    """Return NumPy's mean and variance of the codes as float32, in one conversion and two calls."""

    def moments(x: Any) -> tuple[Any, Any]:
        real = x.astype(np.float32)
        axes = (0, *range(2, x.ndim))
        return real.mean(axes), real.var(axes)

    return Contestant("NumPy mean, var", "other", "moments(x)", {"moments": moments, "x": p.x}, p.x.size)


def bincount(p: Problem) -> Contestant:
    """Return numpy.bincount for each channel."""

    def count(x: Any) -> Any:
        return np.stack([np.bincount(x[:, c].ravel(), minlength=256) for c in range(x.shape[1])])

    names = {"count": count, "x": p.x}
    return Contestant("NumPy bincount", "other", "count(x)", names, p.x.size, lambda counts: counts)
