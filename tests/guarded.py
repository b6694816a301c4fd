"""Memory beside pages that must not be touched: a byte too far ends the process."""

import ctypes
import mmap

import numpy as np

MARGIN = 64  # bytes around rows whose values are looked at, too


class Guarded:
    """Bytes that end right before a page that must not be touched."""

    libc = ctypes.CDLL(None, use_errno=True)

    def __init__(self, n):
        page = mmap.PAGESIZE
        size = (n + page - 1) // page * page
        self.map = mmap.mmap(-1, size + page)
        self.guard = ctypes.addressof(ctypes.c_char.from_buffer(self.map)) + size
        self.array = np.frombuffer(self.map, np.uint8, n, size - n)

    def _protect(self, flags):
        assert self.libc.mprotect(ctypes.c_void_p(self.guard), mmap.PAGESIZE, flags) == 0

    def __enter__(self):
        self._protect(0)
        return self

    def __exit__(self, *_):
        self._protect(mmap.PROT_READ | mmap.PROT_WRITE)


class Arena:
    """Room for rows of bytes between two pages that must not be touched, at any place in it.

    A place is "first" or "last", right at one of these pages, or an offset from a cache line.
    """

    PLACES = ("first", "last", 64, 1, 17, 32, 63)

    def __init__(self, most):
        page = mmap.PAGESIZE
        self.size = (most + 4 * MARGIN + page - 1) // page * page
        self.map = mmap.mmap(-1, self.size + 2 * page)
        first = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.guards = first, first + page + self.size
        self.array = np.frombuffer(self.map, np.uint8, self.size, page)

    def _protect(self, flags):
        for guard in self.guards:
            assert Guarded.libc.mprotect(ctypes.c_void_p(guard), mmap.PAGESIZE, flags) == 0

    def __enter__(self):
        self._protect(0)
        return self

    def __exit__(self, *_):
        self._protect(mmap.PROT_READ | mmap.PROT_WRITE)

    def put(self, picture, place):
        """Put a picture there, clipped at the ends of the arena, and return where its rows begin."""
        n = len(picture) - 2 * MARGIN
        start = {"first": 0, "last": self.size - n}.get(place)
        if start is None:
            start = MARGIN + place
        window, part = self._clipped(picture, start)
        self.array[window] = picture[part]
        return start

    def holds(self, picture, start):
        """Whether the picture is there, rows, gaps and margins."""
        window, part = self._clipped(picture, start)
        return np.array_equal(self.array[window], picture[part])

    def rows(self, start, shape, gap, dtype=np.uint8):
        """Return the rows that begin there."""
        return np.ndarray(shape, dtype, self.array, start, (shape[1] + gap, 1))

    def _clipped(self, picture, start):
        low, high = max(start - MARGIN, 0), min(start - MARGIN + len(picture), self.size)
        return slice(low, high), slice(low - start + MARGIN, high - start + MARGIN)


def picture(codes, gap, rng):
    """Return rows with gaps between them and margins around them, these of random bytes."""
    count, n = codes.shape
    span = (count - 1) * (n + gap) + n if codes.size else 0
    made = rng.integers(0, 256, span + 2 * MARGIN, np.uint8)
    return painted(made, codes, gap)


def painted(picture, codes, gap):
    """Return the picture with other codes in its rows."""
    made = picture.copy()
    if codes.size:
        np.ndarray(codes.shape, np.uint8, made, MARGIN, (codes.shape[1] + gap, 1))[:] = codes.view(np.uint8)
    return made
