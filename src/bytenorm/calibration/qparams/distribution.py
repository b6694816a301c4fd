"""How a norm's float output is distributed: exactly, or as it is expected without data.

A channel sees only 256 inputs. So the output of a norm of C channels has at most 256 C values, and how often each
occurs is an integer that the histogram of the input holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np

# Of the normal distribution that stands for a channel without data: two points in 1e15 lie beyond 8 spreads.
REACH = 8.0
POINTS = 1 << 16
FEWEST_POINTS = 256

CODES = 256


@dataclass(frozen=True)
class Distribution:
    """Values and how often each occurs.

    Attributes
    ----------
    values : numpy.ndarray of float64
        In real units, rising, each once.
    weights : numpy.ndarray
        Positive counts: int64, or Python integers where their sum leaves int64; float64 where they are expected
        rather than counted.
    """

    values: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, weights: np.ndarray) -> Distribution:
        """Return the distribution of values in any order, repeated or with weights of 0."""
        seen = weights > 0
        values, weights = values[seen], weights[seen]
        order = np.argsort(values, kind="stable")
        values, weights = values[order], weights[order]
        if weights.dtype != np.float64 and weights.sum(dtype=np.float64) > 2.0**62:
            weights = weights.astype(object)
        first = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
        return cls(values[first] + 0.0, np.add.reduceat(weights, first))  # + 0.0: no negative zero

    def shares(self) -> np.ndarray:
        """Return the weights as float64 that sum to 1."""
        weights = self.weights.astype(np.float64)
        result: np.ndarray = weights / weights.sum()
        return result

    def quantile(self, share: Fraction) -> float:
        """Return the least value that this share of all values does not exceed."""
        cumulated = np.cumsum(self.weights)
        if cumulated.dtype == np.float64:
            at = np.searchsorted(cumulated, float(share) * cumulated[-1])
        else:
            at = np.searchsorted(cumulated, max(ceil(share * int(cumulated[-1])), 1))
        return float(self.values[at])

    def absolute(self) -> Distribution:
        """Return the distribution of the values without their sign."""
        return Distribution.of(np.abs(self.values), self.weights)

    def error(self, scale: float, lowest: int, highest: int) -> tuple[float, float]:
        """Return the mean squared error of `scale * code`, codes from `lowest` to `highest`, and what is clipped.

        That is the share that lies more than half a step beyond the last code.
        """
        shares = self.shares()
        steps = self.values / scale
        wrong = (steps - np.clip(np.rint(steps), lowest, highest)) * scale
        clipped = (steps < lowest - 0.5) | (steps > highest + 0.5)
        return float(shares @ (wrong * wrong)), float(shares[clipped].sum())


def measured(
    weight: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
    histogram: np.ndarray,
    inputs: np.ndarray,
    *,
    relu: bool,
) -> Distribution:
    """Return the exact distribution of a norm's output.

    Parameters
    ----------
    weight, bias, mean, var : numpy.ndarray of float64, shape (C,)
        `var` with eps added.
    histogram : numpy.ndarray of integers, shape (C, 256)
        How often each code came in.
    inputs : numpy.ndarray of float64, shape (C, 256)
        The real numbers of the codes.
    relu : bool
        Whether negative outputs become 0.

    Returns
    -------
    Distribution
    """
    gain = weight / np.sqrt(var)
    values = (inputs - mean[:, np.newaxis]) * gain[:, np.newaxis] + bias[:, np.newaxis]
    if relu:
        values = np.maximum(values, 0)
    return Distribution.of(values.ravel(), histogram.ravel())


def expected(centre: np.ndarray, spread: np.ndarray, *, relu: bool) -> Distribution:
    """Return a mixture of normal distributions, one a channel, as a fine sample of its density.

    Every channel counts alike. Sums over equidistant points of a normal density are exact to more digits than
    float64 has. Each channel's points are shifted by another fraction of their distance: in step, they would be
    a lattice, which some scale could hit.

    Parameters
    ----------
    centre, spread : numpy.ndarray of float64, shape (C,)
        In real units.
    relu : bool
        Whether negative outputs become 0.

    Returns
    -------
    Distribution
    """
    channels, repeats = np.unique(np.stack([centre, np.abs(spread)]), axis=1, return_counts=True)
    points = max(POINTS // len(repeats), FEWEST_POINTS)
    golden = (5**0.5 - 1) / 2
    shift = np.arange(len(repeats)) * golden % 1
    z = ((np.arange(points) + shift[:, np.newaxis]) / points * 2 - 1) * REACH
    weights = np.exp(-z * z / 2) * repeats[:, np.newaxis]
    values = channels[0][:, np.newaxis] + channels[1][:, np.newaxis] * z
    if relu:
        values = np.maximum(values, 0)
    return Distribution.of(values.ravel(), weights.ravel())
