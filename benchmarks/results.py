"""What a section hands back: cases, each with a row a contestant and figures to judge it by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from .timing import Contestant, Timing


@dataclass(frozen=True)
class Row:
    """One contestant's time in one case, and how its result differs from bytenorm's."""

    name: str
    role: str
    statement: str
    elements: int
    median_us: float
    p10_us: float
    p90_us: float
    fastest_us: float
    rounds: int
    calls: int
    exact: bool = True
    differing: int | None = None
    largest: float | None = None


@dataclass(frozen=True)
class Figure:
    """A number that sums a case up, and the floor it should reach, if there is one."""

    name: str
    value: float
    wanted: float | None = None
    at_most: bool = False
    unit: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the floor is reached; None without a floor."""
        if self.wanted is None:
            return None
        return self.value <= self.wanted if self.at_most else self.value >= self.wanted


@dataclass(frozen=True)
class Case:
    """One problem: who competed, who could not and why, and the figures."""

    label: str
    rows: list[Row]
    missing: list[tuple[str, str]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What a section came to; `failed` says why it stopped, if it did."""

    setup: dict[str, Any]
    cases: list[Case]
    failed: str | None = None


def to_json(case: Case) -> dict[str, Any]:
    """Return a case as JSON can hold it, with the verdicts."""
    return {**asdict(case), "figures": [{**asdict(f), "met": f.met} for f in case.figures]}


def from_json(case: dict[str, Any]) -> Case:
    """Return the case that `to_json` was given."""
    figures = [Figure(**{k: v for k, v in f.items() if k != "met"}) for f in case["figures"]]
    missing = [(name, why) for name, why in case["missing"]]
    return Case(case["label"], [Row(**r) for r in case["rows"]], missing, figures)


def row(contestant: Contestant, timing: Timing, difference: tuple[int, float] | None = None) -> Row:
    """Return a row in microseconds."""
    differing, largest = difference or (None, None)
    return Row(
        name=contestant.name,
        role=contestant.role,
        statement=contestant.statement,
        elements=contestant.elements,
        median_us=_us(timing.median),
        p10_us=_us(timing.p10),
        p90_us=_us(timing.p90),
        fastest_us=_us(timing.fastest),
        rounds=timing.rounds,
        calls=timing.calls,
        exact=contestant.exact,
        differing=differing,
        largest=largest,
    )


def named(rows: Iterable[Row], name: str) -> Row | None:
    """Return the row of a contestant, or None if it did not compete."""
    return next((r for r in rows if r.name == name), None)


def speed(rows: Iterable[Row], name: str, other: Row | None) -> float | None:
    """Return how many times as fast as another row a contestant is; None if one of them is missing."""
    own = named(rows, name)
    return other.median_us / own.median_us if own and other else None


def best_peer(rows: Iterable[Row]) -> Row | None:
    """Return the fastest of those that do the same work, bytenorm and torch's operator apart."""
    return min((r for r in rows if r.role == "peer"), key=lambda r: r.median_us, default=None)


def faster_than_bytenorm(case: Case) -> list[tuple[Row, Row]]:
    """Return (other, bytenorm's) wherever another's median is lower than one of bytenorm's."""
    own = [r for r in case.rows if r.role == "own"]
    others = [r for r in case.rows if r.role in {"torch", "peer"}]
    return [(other, mine) for other in others for mine in own if other.median_us < mine.median_us]


def _us(seconds: float) -> float:
    return float(f"{seconds * 1e6:.5g}")
