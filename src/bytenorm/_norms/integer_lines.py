"""Straight lines through the 256 codes of a channel: integers that give them, or inputs that no line fits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

# A line that gives the codes has steepnesses between two fractions with divisors of at most 255 and 254, which are
# 1 / (255 * 254) apart or more. Of that open interval, multiples of 2^-18 lie at least 2^-18 from both ends, where
# room for an addend is left: 3 * 2^-18 < 1 / (255 * 254). docs/integers.md has the whole proof.
MOST_SHIFT = 18
_FAR = 2**40  # no bound: 2^18 times what the steepest line needs is less
_BLOCK = 64  # channels at a time: what is computed of them stays in the cache


class Lines:
    """The smallest integers with ``clip((x * multiplier + addend) >> shift, lowest, highest)`` equal to codes.

    Parameters
    ----------
    codes : numpy.ndarray of integers, shape (C, 256)
        Of the inputs `first` to `first` + 255, within the limits.
    first, lowest, highest : int

    Attributes
    ----------
    multiplier, addend, shift : numpy.ndarray of int64, shape (C,)
        Of all such integers those with the smallest shift, then the multiplier and then the addend nearest to 0.
        They are 0 in channels where `proved` is False.
    proved : numpy.ndarray of bool, shape (C,)
        Where all 256 inputs were tried: they give the codes, and nothing leaves int32.
    """

    def __init__(self, codes: np.ndarray, first: int, lowest: int, highest: int) -> None:
        channels = len(codes)
        self.multiplier, self.addend, self.shift = (np.zeros(channels, np.int64) for _ in range(3))
        self.proved = np.zeros(channels, np.bool_)
        inputs = np.arange(first, first + 256)
        for start in range(0, channels, _BLOCK):
            part = slice(start, start + _BLOCK)
            found = _fit(codes[part].astype(np.int64), inputs, lowest, highest)
            proved = _holds(codes[part], inputs, lowest, highest, *found)
            self.proved[part] = proved
            for name, values in zip(("multiplier", "addend", "shift"), found, strict=True):
                getattr(self, name)[part] = np.where(proved, values, 0)


def _fit(codes: Integers, inputs: Integers, lowest: int, highest: int) -> tuple[Integers, Integers, Integers]:
    """Return multipliers, addends and shifts; what a shift allows, all larger ones do."""
    too_small = np.full(len(codes), -1)
    shift = np.full(len(codes), MOST_SHIFT)
    best, addend, good = _solve(codes, inputs, lowest, highest, shift)
    while (open_ := good & (shift - too_small > 1)).any():
        at = np.flatnonzero(open_)
        middle = (shift[at] + too_small[at]) // 2
        multiplier, addends, enough = _solve(codes[at], inputs, lowest, highest, middle)
        too_small[at[~enough]] = middle[~enough]
        done = at[enough]
        shift[done], best[done], addend[done] = middle[enough], multiplier[enough], addends[enough]
    return best, addend, shift


def _solve(
    codes: Integers, inputs: Integers, lowest: int, highest: int, shift: Integers
) -> tuple[Integers, Integers, NDArray[np.bool_]]:
    """Return for given shifts the multipliers and addends nearest to 0, and where there are some.

    Each input pins ``x * multiplier + addend`` between two numbers. With a multiplier that leaves no addend, two
    inputs contradict each other: how far it has to move until they do not is known, and no nearer one will do. So
    it goes from 0 in one direction, to the first that all inputs leave, unless two of them want it back.
    """
    count = shift[:, np.newaxis]
    at_least = np.where(codes > lowest, codes << count, -_FAR)
    at_most = np.where(codes < highest, (codes + 1 << count) - 1, _FAR)
    multiplier, addend = np.zeros_like(shift), np.zeros_like(shift)
    way = np.zeros_like(shift)
    good = np.zeros(len(codes), np.bool_)
    open_ = np.arange(len(codes))
    while len(open_):
        product = inputs * multiplier[open_, np.newaxis]
        low, high = at_least[open_] - product, at_most[open_] - product
        one, other = low.argmax(axis=1), high.argmin(axis=1)
        row = np.arange(len(open_))
        least, most = low[row, one], high[row, other]
        fits = least <= most
        good[open_[fits]] = True
        addend[open_[fits]] = np.clip(0, least, most)[fits]

        apart, wanting = inputs[other] - inputs[one], least - most
        steps = -(-wanting // np.maximum(abs(apart), 1))  # rounded up
        back = way[open_] == np.sign(apart)  # a positive distance wants a smaller multiplier
        goes_on = ~fits & ~back
        way[open_] = -np.sign(apart)
        multiplier[open_[goes_on]] += (-np.sign(apart) * steps)[goes_on]
        open_ = open_[goes_on]
    return multiplier, addend, good


def _holds(
    codes: np.ndarray,
    inputs: Integers,
    lowest: int,
    highest: int,
    multiplier: Integers,
    addend: Integers,
    shift: Integers,
) -> NDArray[np.bool_]:
    """Say which channels the integers give, with no number outside int32 on the way: the proof."""
    products = inputs * multiplier[:, np.newaxis]
    sums = products + addend[:, np.newaxis]
    made = np.clip(sums >> shift[:, np.newaxis], lowest, highest)
    fits = (abs(products) < 2**31) & (abs(sums) < 2**31)
    good: NDArray[np.bool_] = (made == codes).all(axis=1) & fits.all(axis=1) & (abs(addend) < 2**31)
    return good


def contradiction(codes: np.ndarray, first: int, lowest: int, highest: int) -> list[int] | None:
    """Return three or four inputs of one channel whose codes no line gives, None if one does.

    The quotients are those of small integers, so float64 tells any two apart, and equal ones are equal.
    """
    inputs = np.arange(first, first + 256)
    values = codes.astype(np.float64)
    at_least = np.where(codes > lowest, values, -np.inf)
    below = np.where(codes < highest, values + 1, np.inf)
    apart = inputs - inputs[:, np.newaxis]
    with np.errstate(all="ignore"):
        steeper = np.where(apart > 0, (at_least - below[:, np.newaxis]) / apart, -np.inf)
        flatter = np.where(apart > 0, (below - at_least[:, np.newaxis]) / apart, np.inf)
    one, other = int(steeper.argmax()), int(flatter.argmin())
    if steeper.flat[one] < flatter.flat[other]:
        return None
    return sorted({first + int(i) for pair in (one, other) for i in divmod(pair, 256)})
