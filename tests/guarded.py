"""Memory with a page behind it that must not be touched."""

import ctypes
import mmap

import numpy as np


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
