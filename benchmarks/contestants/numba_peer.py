"""numba: the loop that one would write, compiled for this machine."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ..problem import Problem
from ..timing import Contestant

LOWEST, HIGHEST = np.float32(0), np.float32(255)


@numba.njit(nogil=True)
def planes(x: Any, y: Any, slope: Any, intercept: Any, zero_point: Any, output_zero_point: Any) -> None:
    """Norm (N, C, pixels)."""
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            a, b = slope[c], intercept[c]
            for i in range(x.shape[2]):
                q = np.rint(a * (np.float32(x[n, c, i]) - zero_point) + b) + output_zero_point
                y[n, c, i] = np.uint8(min(max(q, LOWEST), HIGHEST))


@numba.njit(nogil=True)
def rows(x: Any, y: Any, slope: Any, intercept: Any, zero_point: Any, output_zero_point: Any) -> None:
    """Norm (pixels, C)."""
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            q = np.rint(slope[c] * (np.float32(x[i, c]) - zero_point) + intercept[c]) + output_zero_point
            y[i, c] = np.uint8(min(max(q, LOWEST), HIGHEST))


def loop(p: Problem) -> Contestant:
    """Return the loop in the order of the problem's memory."""
    channels = p.x.shape[1]
    shape = (-1, channels) if p.channels_last else (len(p.x), channels, -1)
    names = {
        "loop": rows if p.channels_last else planes,
        "x": p.in_memory_order(p.x).reshape(shape),
        "y": p.in_memory_order(p.y).reshape(shape),
        "slope": p.slope,
        "intercept": p.intercept,
        "zero_point": np.float32(p.zero_point),
        "output_zero_point": np.float32(p.output_zero_point),
    }
    statement = "loop(x, y, slope, intercept, zero_point, output_zero_point)"
    return Contestant("numba", "peer", statement, names, p.x.size, lambda _: p.y, exact=False)
