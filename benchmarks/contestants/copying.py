"""The limit: copying the bytes, by NumPy and, to see that NumPy adds nothing, by the C library itself."""

from __future__ import annotations

import ctypes

import numpy as np

from ..problem import Problem
from ..timing import Contestant


def copyto(p: Problem) -> Contestant:
    """Return numpy.copyto between vectors of bytes."""
    names = {"copyto": np.copyto, "x": p.flat(p.x), "y": p.flat(p.y)}
    return Contestant("memcpy", "copy", "copyto(y, x)", names, p.x.size)


def memmove(p: Problem) -> Contestant:
    """Return the C library's memmove, which copies apart memory as memcpy does."""
    names = {
        "memmove": ctypes.memmove,
        "x": ctypes.c_void_p(p.flat(p.x).ctypes.data),
        "y": ctypes.c_void_p(p.flat(p.y).ctypes.data),
        "size": p.x.size,
        "memory": (p.x, p.y),
    }
    return Contestant("memmove (C)", "copy", "memmove(y, x, size)", names, p.x.size)
