"""The work of norms that read a concatenation or a sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .problem import SEED, Codes, Problem, like, problem


@dataclass(frozen=True)
class ConcatProblem:
    """Pieces of one batch, each in its own quantization; `whole` holds their codes side by side."""

    whole: Problem
    pieces: list[Codes]
    scales: list[float]
    zero_points: list[int]


@dataclass(frozen=True)
class SumProblem:
    """Two summands; `whole` has the quantization of their sum.

    Scales are as calibration gives them. Sums of short decimals, 0.0311 and 0.0353 in steps of 0.047, have ties.
    """

    whole: Problem
    a: Codes
    b: Codes
    a_scale: float = 0.031104337
    a_zero_point: int = 118
    b_scale: float = 0.035318213
    b_zero_point: int = 126


def concat_problem(channels: tuple[int, ...], side: int, channels_last: bool) -> ConcatProblem:
    """Return pieces of so many channels, of `side` by `side` pixels.

    Parameters
    ----------
    channels : tuple of int
    side : int
    channels_last : bool
        Whether channels come last in memory.
    """
    whole = problem((1, sum(channels), side, side), channels_last)
    pieces = []
    for part in np.split(whole.x, np.cumsum(channels)[:-1], axis=1):
        shape = problem(part.shape, channels_last).x
        pieces.append(like(shape))
        np.copyto(pieces[-1], part)
    rng = np.random.default_rng(SEED)
    scales = (whole.scale * rng.uniform(0.7, 1, len(channels))).tolist()
    zero_points = rng.integers(115, 128, len(channels)).tolist()
    return ConcatProblem(whole, pieces, scales, zero_points)


def sum_problem(shape: tuple[int, ...], channels_last: bool) -> SumProblem:
    """Return summands whose sum rarely saturates."""
    whole = problem(shape, channels_last)
    a, b = like(whole.x), like(whole.x)
    np.copyto(a, whole.x)
    np.copyto(b, whole.x[:, ::-1])
    return SumProblem(whole, a, b)
