"""Sums over the numbers of one tensor in three networks: in float, in 8 bits, and in float for one step alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from .matching import Codes

    Reals = npt.NDArray[np.float64]

_PIECE = 1 << 15  # numbers that are worked on at once: in float64 some of them fit the cache


class TensorSums:
    """Sums in float64 over all samples; no numbers are kept.

    Attributes
    ----------
    axis, rank : int
        The axis of the channels, and how many axes there are.
    count : int
        Numbers of each channel.
    energy, accumulated : float
        Of the float network's numbers, and of the difference of the 8-bit network's from them: sums of squares.
    own_energy, own : float
        The same with what the float operators make of the 8-bit network's input.
    rounding, clipping : float
        Of `own`, what rounding to the codes alone makes, and the part of it beyond the first and last code.
    """

    def __init__(self, codes: Codes, axis: int) -> None:
        self.axis, self.rank = axis, 0
        self._codes = codes
        self.count = 0
        self.energy = self.accumulated = self.own_energy = self.own = self.rounding = self.clipping = 0.0
        self._by_channel: Reals = np.zeros((4, 1))

    def add(self, real: np.ndarray, codes: np.ndarray, alone: np.ndarray) -> None:
        """Take in a tensor of the float network, the codes, and what the float operators alone make."""
        self.rank = real.ndim
        channels = real.shape[self.axis] if real.ndim > 1 else 1
        if self._by_channel.shape[1] != channels:
            self._by_channel = np.zeros((4, channels))
        self.count += real.size // max(channels, 1)
        scale, zero_point = self._codes.scale, self._codes.zero_point
        kind = np.iinfo(codes.dtype)
        low, high = kind.min - zero_point, kind.max - zero_point
        rounding = clipping = 0.0
        pieces = (_pieces(array, self.axis) for array in (real, codes, alone))
        for (at, wanted), (_, steps), (_, own) in zip(*pieces, strict=True):
            made = steps
            made -= zero_point
            made *= scale
            error = made - own
            self.own_energy += _energy(own)
            self.own += _energy(error)
            drift = made
            drift -= wanted
            self.accumulated += _energy(drift)
            for row, numbers in enumerate((wanted, drift, error)):
                self._by_channel[row, at] += numbers.sum(axis=(0, 2))
            squares = np.einsum("ijk,ijk->j", wanted, wanted)
            self._by_channel[3, at] += squares
            self.energy += float(squares.sum())
            in_steps = np.divide(own, scale, out=own)
            nearest = np.rint(in_steps, out=error)
            if nearest.min() < low or nearest.max() > high:
                np.clip(nearest, low, high, out=nearest)
                beyond = np.clip(in_steps, low, high, out=drift)
                beyond -= in_steps
                clipping += _energy(beyond)
            nearest -= in_steps
            rounding += _energy(nearest)
        self.rounding += rounding * scale**2
        self.clipping += clipping * scale**2

    def shares(self) -> tuple[float, float, float, float]:
        """Return what parts of `own` are clipped, rounded, means that are moved, and what is left, from 0 to 1."""
        if not self.own:
            return 0.0, 0.0, 0.0, 0.0
        moved = float(np.sum(self._by_channel[2] ** 2)) / self.count
        parts = [self.clipping, max(self.rounding - self.clipping, 0.0), moved]
        whole = max(self.own, sum(parts))
        clipped, rounded, moved = (float(part / whole) for part in parts)
        return clipped, rounded, moved, max(0.0, 1 - clipped - rounded - moved)

    def means_moved(self) -> tuple[float, float]:
        """Return how far the channels' means are from the float network's: in real units, in standard deviations.

        Each is the root of the mean square over the channels.
        """
        sums, drift, _, squares = self._by_channel / max(self.count, 1)
        deviation = np.sqrt(np.maximum(squares - sums**2, 0))
        in_deviations = drift / np.where(deviation > 0, deviation, 1)
        real, relative = np.sqrt(np.mean(drift**2)), np.sqrt(np.mean(in_deviations**2))
        return float(real), float(relative)


def _energy(numbers: Reals) -> float:
    # Not vdot: BLAS would share pieces this small among threads.
    return float(np.einsum("ijk,ijk->", numbers, numbers))


def _pieces(array: np.ndarray, axis: int) -> Iterator[tuple[slice, Reals]]:
    """Yield parts as (outer, channels, inner) in float64, each with its channels."""
    if array.ndim < 2:
        array, axis = array.reshape(1, 1, -1), 1
    axis %= array.ndim
    outer, channels = int(np.prod(array.shape[:axis])), array.shape[axis]
    flat = array.reshape(outer, channels, -1) if array.size else np.zeros((0, channels, 1), array.dtype)
    inner = flat.shape[2]
    wide = max(1, min(channels, _PIECE // max(inner, 1)))
    deep = max(1, _PIECE // max(wide * inner, 1))
    for start in range(0, channels, wide):
        for first in range(0, len(flat), deep):
            for left in range(0, inner, _PIECE):
                at = slice(start, start + wide)
                yield at, flat[first : first + deep, at, left : left + _PIECE].astype(np.float64)
