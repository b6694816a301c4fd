"""How long models take in ONNX Runtime, side by side, and what their batch norms take of it."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Hashable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import onnxruntime

from ... import _checks
from ..._errors import bad_value
from ..run.apart import run_session
from .feeds import at_least_one

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


Turn = Callable[[], float]
Name = TypeVar("Name", bound=Hashable)

FEWEST_ROUNDS = 5


@dataclass(frozen=True)
class Timing:
    """How long one run takes, in milliseconds.

    Attributes
    ----------
    median_ms : float
    q1_ms, q3_ms : float
        The quartiles: half of the runs took a time between them.
    fastest_ms : float
    runs : int
        How many there were.

    Examples
    --------
    >>> from bytenorm import onnx as bno
    >>> model = bno.digits_model()
    >>> timing = bno.measure({"float": bno.session(model)}, bno.random_feeds(model), repeats=5)["float"]
    >>> timing.runs, timing.q1_ms <= timing.median_ms <= timing.q3_ms
    (5, True)
    """

    median_ms: float
    q1_ms: float
    q3_ms: float
    fastest_ms: float
    runs: int

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold.

        Returns
        -------
        dict

        Examples
        --------
        >>> from bytenorm import onnx as bno
        >>> bno.Timing(median_ms=2.0, q1_ms=1.9, q3_ms=2.2, fastest_ms=1.8, runs=50).to_dict()["runs"]
        50
        """
        return asdict(self)


# --- side by side -----------------------------------------------------------------------------------------------


def measure(
    sessions: Mapping[str, onnxruntime.InferenceSession],
    feeds: Mapping[str, Any],
    *,
    repeats: int | None = None,
    seconds: float = 3.0,
    dropped: int = 3,
    seed: int = 0,
    progress: Callable[[float, float], None] | None = None,
) -> dict[str, Timing]:
    """Time sessions in turns, so that a slow moment of the machine hits all of them.

    In each round every session has its turn, in an order that is shuffled anew. A turn is one run that does not
    count, then one that does: the first brings the session's data back into caches that the others have filled.

    Parameters
    ----------
    sessions : mapping of str to InferenceSession
    feeds : mapping of str to ndarray
        What all of them are fed.
    repeats : int, optional
        Rounds that count.
    seconds : float, optional
        Without `repeats`: rounds go on until they have taken so many seconds a session, and at least 5 times.
    dropped : int, optional
        Rounds before these, which do not count.
    seed : int, optional
        Of the order.
    progress : callable, optional
        Called after each round with how much is done and how much there is; rounds, or seconds.

    Returns
    -------
    dict of str to Timing
        In the order of `sessions`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described; if ONNX Runtime fails to run a session, names which.

    Examples
    --------
    >>> from bytenorm import onnx as bno
    >>> model = bno.digits_model()
    >>> took = bno.measure({"float": bno.session(model)}, bno.random_feeds(model), repeats=5)
    >>> took["float"].runs
    5
    """
    turns = {name: in_onnxruntime(made, feeds, f"sessions[{name!r}]") for name, made in sessions.items()}
    return measure_turns(turns, repeats=repeats, seconds=seconds, dropped=dropped, seed=seed, progress=progress)


def in_onnxruntime(made: onnxruntime.InferenceSession, feeds: Mapping[str, Any], what: str) -> Turn:
    """Return a session's turn: a run that does not count, then the seconds of one that does.

    The session runs once here; `what` is what a ValueError calls the model.
    """
    run_session(made, None, feeds, what)
    run, clock = made.run, time.perf_counter

    def turn() -> float:
        run(None, feeds)
        begin = clock()
        run(None, feeds)
        return clock() - begin

    return turn


def measure_turns(
    turns: Mapping[Name, Turn],
    *,
    repeats: int | None = None,
    seconds: float = 3.0,
    dropped: int = 3,
    seed: int = 0,
    progress: Callable[[float, float], None] | None = None,
) -> dict[Name, Timing]:
    """Do as :func:`measure` with whatever runs models: each turn returns the seconds of the run that counts."""
    repeats = None if repeats is None else at_least_one(repeats, "repeats")
    seconds = _checks.real(seconds, "seconds")
    if not 0 < seconds < math.inf:
        raise bad_value("seconds", f"must be positive and finite, got {seconds}")
    taken: dict[Name, list[float]] = {name: [] for name in turns}
    order = list(turns)
    shuffle = random.Random(seed).shuffle
    limit = seconds * len(turns)
    rounds, begin = 0, time.perf_counter()
    with _without_collections():
        for turn in range(dropped + repeats if repeats is not None else 2**62):
            if turn == dropped:
                begin = time.perf_counter()
            shuffle(order)
            for name in order:
                took = turns[name]()
                if turn >= dropped:
                    taken[name].append(took)
            rounds = max(0, turn + 1 - dropped)
            gone = time.perf_counter() - begin if rounds else 0.0
            if progress is not None:
                progress(*((min(gone, limit), limit) if repeats is None else (rounds, repeats)))
            if repeats is None and rounds >= FEWEST_ROUNDS and gone >= limit:
                break
    return {name: _summary(times) for name, times in taken.items()}


@contextmanager
def _without_collections() -> Iterator[None]:
    """Keep Python from looking for garbage."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _summary(seconds: list[float]) -> Timing:
    q1, median, q3 = np.quantile(seconds, (0.25, 0.5, 0.75))
    return Timing(1e3 * median.item(), 1e3 * q1.item(), 1e3 * q3.item(), 1e3 * min(seconds), len(seconds))
