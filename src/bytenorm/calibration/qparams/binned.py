"""How numbers are distributed that come in batches, of any range, in little memory."""

from __future__ import annotations

import numpy as np

from .distribution import Distribution

# Bins on either side of 0. The width of one doubles when a number lies beyond the last: numbers of one sign fill
# a quarter of all bins at least, 16 to a step of 8 bits.
HALF = 1 << 13
SAMPLED = 1 << 16  # numbers of a batch that are counted, where there are more


class BinnedNumbers:
    """Numbers, counted in bins of equal width; the ends of their range are kept as they are.

    Attributes
    ----------
    count : int
        How many there were.
    low, high : float
        The least and the largest of them, infinite ones and NaN included.
    """

    def __init__(self) -> None:
        self.count, self.low, self.high = 0, np.inf, -np.inf
        self._width = 0.0
        self._counts = np.zeros(2 * HALF, np.int64)
        self._sums = np.zeros(2 * HALF)

    def add(self, numbers: np.ndarray) -> None:
        """Count a batch: all for the ends, of more than 65,536 about so many, evenly spread, for the bins."""
        if not numbers.size:
            return
        low, high = float(numbers.min()), float(numbers.max())
        self.count += numbers.size
        # NaN stays: no number is less than it, or larger.
        self.low, self.high = float(np.minimum(self.low, low)), float(np.maximum(self.high, high))
        if not self.is_finite:
            return
        self._widen(max(-low, high))
        # An odd number of places apart: not always in the same channel.
        some = numbers.reshape(-1)[:: max(1, numbers.size // SAMPLED) | 1].astype(np.float64)
        at = np.clip(np.floor(some / self._width).astype(np.int64) + HALF, 0, 2 * HALF - 1)
        self._counts += np.bincount(at, minlength=2 * HALF)
        self._sums += np.bincount(at, some, 2 * HALF)

    @property
    def is_finite(self) -> bool:
        """Whether all were numbers."""
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def distribution(self) -> Distribution:
        """Return the means of the bins, and both ends, as often as they occurred."""
        counts, sums = self._counts.copy(), self._sums.copy()
        # An end is not counted twice: of a heavy tail that would be 3 % of the squared error.
        for at, end in ((0, self.low), (-1, self.high)):
            there = np.flatnonzero(counts)
            if there.size:
                counts[there[at]] -= 1
                sums[there[at]] -= end
        there = np.flatnonzero(counts)
        means = np.clip(sums[there] / counts[there], self.low, self.high)
        ends = np.array([self.low, self.high])
        return Distribution.of(np.concatenate([means, ends]), np.concatenate([counts[there], [1, 1]]))

    def _widen(self, reach: float) -> None:
        """Let the bins reach as far as a number."""
        if reach == 0 and self._width == 0:
            reach = float(np.finfo(np.float32).tiny)
        width = 2.0 ** np.ceil(np.log2(reach / HALF)) if reach > 0 else 0.0
        if self._width == 0:
            self._width = width
        # A bin twice as wide is two of before: their borders include its own.
        while self._width < width:
            self._width *= 2
            for array in (self._counts, self._sums):
                pairs = array.reshape(HALF, 2).sum(axis=1)
                array[:] = 0
                array[HALF // 2 : HALF // 2 + HALF] = pairs
