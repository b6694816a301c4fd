"""The scale and zero point with the least mean squared error over a distribution of outputs.

The error has many local minima in the scale: a narrow one wherever many values come close to codes. So many scales
are tried, 1 % apart: from the coarsest that can be best down to where clipping alone costs more than the best so
far. Those near the best are tried again, 0.05 % apart, and the best of these are improved by least squares. For
each scale all zero points are weighed at once. The values are sorted once and their moments cumulated; a scale
then costs 512 look-ups, however many values there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .distribution import Distribution

SPAN = 255  # steps from the lowest code to the highest

COARSE = 1.01
FINE = 1.0005
FINE_EACH = 20  # fine scales to a coarse one
MOST_FINE = 400  # coarse scales that are looked at closely
NEAR = 1.1  # in errors of the best, where many values make the error smooth
MANY = 1000.0  # values of equal weight: the error of so many varies by a few per cent between neighbours
BATCH = 64  # scales at a time: what they need stays in the cache
IMPROVED = 64
IMPROVEMENTS = 8
FINALISTS = 8
SMOOTH_FINALISTS = 2
SAME = 1e-9  # the relative difference of two errors that counts as none


def least_error(output: Distribution, lows: np.ndarray, smallest: float, largest: float) -> tuple[float, int]:
    """Return the best scale, a float32 number, and the lowest code, counted from the code of 0.

    Parameters
    ----------
    output : Distribution
        Not all zeros.
    lows : numpy.ndarray of int64
        The lowest codes to choose from, counted from the code of 0: consecutive, within -255 to 0.
    smallest, largest : float
        The scales to choose from, float32 numbers.
    """
    # Where nothing is clipped, a scale divided by an integer is no worse: its marks include the old ones.
    highest = float(np.clip(2.02 * _fitting(output, lows), smallest, largest))
    search = _Search(output, lows)
    scales, errors = search.descend(highest, smallest)

    close = np.argsort(errors, kind="stable")[:MOST_FINE]
    rounded = search.shares[search.values != 0]  # 0 is a code of every scale: its error is none
    smooth = bool(np.sum(rounded) ** 2 / np.sum(rounded**2) > MANY)
    if smooth:
        close = close[errors[close] <= NEAR * errors[close[0]]]
    steps = FINE ** np.arange(-(FINE_EACH // 2), FINE_EACH // 2 + 1)
    fine = np.unique(np.clip(scales[close, np.newaxis] * steps, smallest, largest))
    scales, errors = np.concatenate([scales, fine]), np.concatenate([errors, search.errors(fine)])

    order = np.argsort(scales, kind="stable")
    scales, errors = scales[order], errors[order]
    walls = np.concatenate(([np.inf], errors, [np.inf]))
    valleys = np.flatnonzero((errors <= walls[:-2]) & (errors <= walls[2:]))
    valleys = valleys[np.argsort(errors[valleys], kind="stable")][:IMPROVED]
    scales = np.clip(search.improve(scales[valleys]), smallest, largest)

    # From here on every value is looked at itself, in steps of the scale as it is returned.
    narrow = np.unique(scales.astype(np.float32))
    narrow = narrow[np.argsort(search.errors(narrow.astype(np.float64)), kind="stable")]
    if smooth:  # no digit of a scale matters
        return search.best(np.sort(narrow[:SMOOTH_FINALISTS].astype(np.float64)))
    narrow = narrow[:FINALISTS]
    around = [np.nextafter(narrow, np.float32(0)), narrow, np.nextafter(narrow, np.float32(np.inf))]
    return search.best(np.unique(np.clip(np.concatenate(around).astype(np.float64), smallest, largest)))


def _fitting(output: Distribution, lows: np.ndarray) -> float:
    """Return the least scale for which some choice of lowest code clips nothing."""
    lowest, highest = min(output.values[0], 0.0), max(output.values[-1], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.where(lowest < 0, lowest / lows, 0.0)
        above = np.where(highest > 0, highest / (lows + SPAN), 0.0)
    return float(np.min(np.maximum(np.abs(below), above)))


class _Bins(NamedTuple):
    """What the values that round to each code sum to, for some scales: arrays of shape (scales, codes).

    Lengths are in steps of the scale; the first and the last bin hold all that lies beyond.
    """

    shares: np.ndarray
    distance: np.ndarray  # sum of value - code
    square: np.ndarray  # sum of its square


class _Search:
    def __init__(self, output: Distribution, lows: np.ndarray) -> None:
        self.values, self.shares, self.lows = output.values, output.shares(), lows
        self.codes = np.arange(lows[0], lows[-1] + SPAN + 1)
        # Cumulated from 0 outwards: small values are not lost beside large ones.
        zero = int(np.searchsorted(self.values, 0.0))
        moments = self.shares * self.values ** np.arange(3)[:, np.newaxis]
        self.moments = np.zeros((3, len(self.values) + 1))
        self.moments[:, zero + 1 :] = np.cumsum(moments[:, zero:], axis=1)
        self.moments[:, :zero] = -np.cumsum(moments[:, :zero][:, ::-1], axis=1)[:, ::-1]

    def bins(self, scales: np.ndarray) -> _Bins:
        """Return the bins of a few scales from the cumulated moments."""
        scales = scales[:, np.newaxis]
        at = np.empty((len(scales), len(self.codes) + 1), np.int64)
        at[:, 0], at[:, -1] = 0, len(self.values)
        at[:, 1:-1] = np.searchsorted(self.values, (self.codes[:-1] + 0.5) * scales)
        shares, sums, squares = (np.diff(moment[at], axis=1) for moment in self.moments)
        sums /= scales
        squares /= scales
        squares /= scales
        distance = sums - self.codes * shares
        square = squares - self.codes * (sums + distance)
        return _Bins(shares, distance, np.maximum(square, 0, out=square))

    def exact_bins(self, scale: float) -> _Bins:
        """Return the bins of one scale from every value."""
        steps = self.values / scale
        code = np.clip(np.rint(steps), self.codes[0], self.codes[-1])
        wrong = steps - code
        at = code.astype(np.int64) - self.codes[0]
        weights = (self.shares, self.shares * wrong, self.shares * wrong * wrong)
        return _Bins(*(np.bincount(at, w, len(self.codes))[np.newaxis] for w in weights))

    def clipping(self, bins: _Bins) -> tuple[np.ndarray, np.ndarray]:
        """Return the squared errors of what is clipped below and above, for each choice of lowest code.

        Summed code by code from the outside: every term is positive, so none is lost in a difference.
        """
        count = len(self.lows)
        below = _beyond(*(part[:, : count - 1] for part in bins))
        flipped = _Bins(bins.shares[:, ::-1], -bins.distance[:, ::-1], bins.square[:, ::-1])
        above = _beyond(*(part[:, : count - 1] for part in flipped))
        return below, above[:, ::-1]

    def totals(self, bins: _Bins) -> tuple[np.ndarray, np.ndarray]:
        """Return the squared error, and no more than its part from clipping, for each scale and lowest code."""
        below, above = self.clipping(bins)
        inner = bins.square[:, 1:-1]
        sums = np.zeros((len(inner), inner.shape[1] + 1))
        np.cumsum(inner, axis=1, out=sums[:, 1:])
        count = len(self.lows)
        # The codes of choice j are bins j to j + SPAN; without the two outermost bins, which may be huge:
        first = np.maximum(np.arange(count) - 1, 0)
        last = np.minimum(np.arange(count) + SPAN, len(self.codes) - 2)
        rounding = sums[:, last] - sums[:, first]
        rounding[:, 0] += bins.square[:, 0]
        rounding[:, -1] += bins.square[:, -1]
        clipped = below + above
        totals = rounding + clipped
        # The outermost bins hold what only rounds to the last code, too: no more than half a step each.
        clipped[:, 0] += np.maximum(bins.square[:, 0] - bins.shares[:, 0] / 4, 0)
        clipped[:, -1] += np.maximum(bins.square[:, -1] - bins.shares[:, -1] / 4, 0)
        return totals, clipped

    def errors(self, scales: np.ndarray) -> np.ndarray:
        """Return the least mean squared error of each scale."""
        return np.concatenate([self._batch(part)[0] for part in _batches(scales)])

    def _batch(self, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        totals, clipped = self.totals(self.bins(scales))
        return totals.min(axis=1) * scales * scales, clipped.min(axis=1) * scales * scales

    def descend(self, highest: float, smallest: float) -> tuple[np.ndarray, np.ndarray]:
        """Return scales from the highest down to where clipping alone is worse than the best, and their errors."""
        all_scales: list[np.ndarray] = []
        all_errors: list[np.ndarray] = []
        best, scale = np.inf, highest
        while True:
            scales = np.maximum(scale / COARSE ** np.arange(BATCH), smallest)
            errors, clipped = self._batch(scales)
            all_scales.append(scales)
            all_errors.append(errors)
            best = min(best, float(errors.min()))
            if clipped[-1] > best or scales[-1] <= smallest:
                return np.concatenate(all_scales), np.concatenate(all_errors)
            scale = scales[-1] / COARSE

    def improve(self, scales: np.ndarray) -> np.ndarray:
        """Return scales of no larger error: with the codes held, the best scale is that of least squares."""
        for _ in range(IMPROVEMENTS):
            scales = np.concatenate([self._improved(part) for part in _batches(scales)])
        return scales

    def _improved(self, scales: np.ndarray) -> np.ndarray:
        bins = self.bins(scales)
        low = self.lows[np.argmin(self.totals(bins)[0], axis=1)][:, np.newaxis]
        held = np.clip(self.codes, low, low + SPAN)
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.sum((bins.distance + self.codes * bins.shares) * held, axis=1)
            factor /= np.sum(bins.shares * held * held, axis=1)
        return scales * np.where(np.isfinite(factor) & (factor > 0), factor, 1.0)

    def best(self, scales: np.ndarray) -> tuple[float, int]:
        """Return the best of some scales and its lowest code; among equals the largest scale, then the middle."""
        found: tuple[float, float, int] | None = None
        for scale in scales[::-1]:
            errors = self.totals(self.exact_bins(scale))[0][0] * scale * scale
            least = errors.min()
            if found is None or least < found[0] * (1 - SAME):
                centre = (self.values[0] + self.values[-1]) / (2 * scale)
                equal = self.lows[errors <= least * (1 + SAME)]
                found = (least, scale, int(equal[np.argmin(np.abs(equal + SPAN / 2 - centre))]))
        assert found is not None
        return float(found[1]), found[2]


def _beyond(shares: np.ndarray, distance: np.ndarray, square: np.ndarray) -> np.ndarray:
    """Return for each code, and for one more, the sum of (code - value)^2 over the bins before it."""
    count, first, second = (np.zeros((len(shares), shares.shape[1] + 1)) for _ in range(3))
    np.cumsum(shares, axis=1, out=count[:, 1:])
    np.cumsum(count[:, 1:] - distance, axis=1, out=first[:, 1:])
    own = np.maximum(square - 2 * distance + shares, 0)
    np.cumsum(2 * first[:, :-1] + count[:, :-1] + own, axis=1, out=second[:, 1:])
    return second


def _batches(scales: np.ndarray) -> list[np.ndarray]:
    return [scales[i : i + BATCH] for i in range(0, len(scales), BATCH)]
