"""Timing: contestants take turns in one process, so that a slow moment of the machine hits all of them."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from timeit import Timer
from typing import Any, Literal

Role = Literal["own", "torch", "peer", "copy", "other"]


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Contestant:
    """One way to do the work.

    Attributes
    ----------
    name : str
    role : str
        "own" is bytenorm, "torch" its model, "peer" what else does the work, "copy" the limit, "other" no rival.
    statement : str
        What is timed, in Python, over `names`.
    elements : int
        How many elements one call handles.
    codes : callable, optional
        Makes an array in N, C, ... order out of the statement's value, to compare. None: nothing to compare.
    before : callable, optional
        Called before each turn, not timed.
    exact : bool, optional
        Whether the result has to equal bytenorm's.
    """

    name: str
    role: Role
    statement: str
    names: Mapping[str, Any]
    elements: int
    codes: Callable[[Any], Any] | None = None
    before: Callable[[], object] = nothing
    exact: bool = True

    def run(self) -> Any:
        """Run the statement once and return its value."""
        self.before()
        return eval(self.statement, dict(self.names))


@dataclass(frozen=True)
class Timing:
    """Seconds a call: the median, the 10th and 90th percentile and the minimum over the rounds."""

    median: float
    p10: float
    p90: float
    fastest: float
    rounds: int
    calls: int


@dataclass(frozen=True)
class Method:
    """How long to measure.

    Attributes
    ----------
    rounds, dropped : int
        Turns of each contestant that count, and turns before them that do not.
    turn : float
        Seconds that one turn lasts at least; a turn makes as many calls as that takes.
    warm : float
        Seconds that calls go on untimed before each turn; at least one call is made.
    clock : callable
        What time is: that on the wall, or `time.process_time`, which other work of the machine lengthens less.
    """

    rounds: int = 41
    dropped: int = 3
    turn: float = 2e-3
    warm: float = 0.0
    clock: Callable[[], float] = time.perf_counter


def measure(
    contestants: Sequence[Contestant], method: Method, progress: Callable[[int, int], None], seed: int = 0
) -> list[Timing]:
    """Time contestants in turns, in an order that is shuffled every round.

    Each turn begins with calls that are not timed, one at least: they bring the contestant's data into the
    caches that the others have filled with theirs.

    Parameters
    ----------
    contestants : sequence of Contestant
    method : Method
    progress : callable
        Called with the rounds done and the rounds there are.
    seed : int, optional
        Of the order.

    Returns
    -------
    list of Timing
        In the order of `contestants`.
    """
    timers = [Timer(c.statement, timer=method.clock, globals=dict(c.names)) for c in contestants]
    calls = [_calibrated(c, timer, method.turn) for c, timer in zip(contestants, timers, strict=True)]
    seconds: list[list[float]] = [[] for _ in contestants]
    order = list(range(len(contestants)))
    shuffle = random.Random(seed).shuffle
    total = method.dropped + method.rounds
    for turn in range(total):
        shuffle(order)
        for i in order:
            contestants[i].before()
            _warm(timers[i], method.warm)
            taken = timers[i].timeit(calls[i]) / calls[i]
            if turn >= method.dropped:
                seconds[i].append(taken)
        progress(turn + 1, total)
    return [_summary(s, n) for s, n in zip(seconds, calls, strict=True)]


def _warm(timer: Timer, seconds: float) -> None:
    end = time.perf_counter() + seconds
    timer.timeit(1)
    while time.perf_counter() < end:
        timer.timeit(1)


def _calibrated(contestant: Contestant, timer: Timer, turn: float) -> int:
    contestant.before()
    timer.timeit(1)
    calls = 1
    while (taken := timer.timeit(calls)) < turn:
        calls = max(calls + 1, min(10 * calls, int(calls * 1.1 * turn / taken)))
    return calls


def _summary(seconds: list[float], calls: int) -> Timing:
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return Timing(
        median=statistics.median(ordered),
        p10=ordered[round(0.1 * last)],
        p90=ordered[round(0.9 * last)],
        fastest=ordered[0],
        rounds=len(ordered),
        calls=calls,
    )
