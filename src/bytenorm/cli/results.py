"""What became of each batch norm."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..onnx.lowering.qdq import PATTERN

if TYPE_CHECKING:
    from .._outcomes import Outcome
    from ..onnx.measurement.inspection import BatchNormInfo
    from .console import Screen


@dataclass(frozen=True)
class Fate:
    """What became of one norm: folded into a layer, in 8 bits, or in float because of a problem.

    `pattern` and `unfused` are those of an :class:`Outcome`.
    """

    FOLDED: ClassVar[str] = "folded"
    IN_8_BITS: ClassVar[str] = "8-bit"
    IN_FLOAT: ClassVar[str] = "float"

    name: str
    channels: int | None
    became: str
    folds_into: str = ""
    problem: str = ""
    pattern: str = ""
    unfused: str = ""

    @classmethod
    def of(cls, outcome: Outcome, channels: int | None) -> Fate:
        """Return what became of a norm that was not folded."""
        became = cls.IN_FLOAT if outcome.problem else cls.IN_8_BITS
        about = {"problem": outcome.problem, "pattern": outcome.pattern, "unfused": outcome.unfused}
        return cls(outcome.name, channels, became, **about)

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


MEANING = {
    "portable": "standard ONNX operators",
    "exact": "bytenorm's own operators",
    "fused": "bytenorm's own operators, with what norms read",
    "qdq": "norms in float between 8-bit conversions",
}  # of lowerings
KINDS = (Fate.FOLDED, Fate.IN_8_BITS, Fate.IN_FLOAT)


def fates(
    norms: Iterable[BatchNormInfo],
    outcomes: Iterable[Outcome],
    folded: Collection[str] = (),
) -> list[Fate]:
    """Tell of each norm what became of it.

    Parameters
    ----------
    norms : iterable of BatchNormInfo
        Of the model as it was.
    outcomes : iterable of Outcome
        Of those that were not folded.
    folded : collection of str, optional
        Names of the norms that layers took up.
    """
    known = {outcome.name: outcome for outcome in outcomes}
    made = []
    for norm in norms:
        if norm.name in folded:
            made.append(Fate(norm.name, norm.channels, Fate.FOLDED, folds_into=norm.folds_into))
        elif norm.name in known:
            made.append(Fate.of(known[norm.name], norm.channels))
        elif norm.runs_in == "8-bit":
            made.append(Fate(norm.name, norm.channels, Fate.IN_8_BITS))
        else:  # gone: ONNX Runtime found a way
            made.append(Fate(norm.name, norm.channels, Fate.FOLDED, folds_into=norm.folds_into))
    return made


def _words(fate: Fate) -> str:
    if fate.became == Fate.FOLDED:
        return f"folded into {fate.folds_into}" if fate.folds_into else "folded by ONNX Runtime"
    if fate.became == Fate.IN_FLOAT:
        return f"stays in float: {fate.problem}"
    if fate.pattern == PATTERN:
        return "stays a norm between 8-bit conversions"
    if fate.pattern in ("", "single"):
        return "runs in 8 bits" + (f", single: {fate.unfused}" if fate.unfused else "")
    return f"runs in 8 bits, fused: {fate.pattern}"


def show(made: Sequence[Fate], screen: Screen) -> dict[str, int]:
    """Write the norms as a table, and return how many became what."""
    counts = {kind: sum(fate.became == kind for fate in made) for kind in KINDS}
    if not made:
        screen.line("no batch norm found")
        return counts
    screen.table(
        ["norm", "channels", "what became of it"],
        [[f.name, "?" if f.channels is None else str(f.channels), _words(f)] for f in made],
    )
    screen.line(
        f"{len(made)} batch norm{'s' * (len(made) != 1)}: {counts[Fate.FOLDED]} folded, "
        f"{counts[Fate.IN_8_BITS]} in 8 bits, {counts[Fate.IN_FLOAT]} left in float"
    )
    if any(fate.unfused for fate in made):
        screen.line("single: an operator for the norm alone, which reads what a concat or an add has made")
    if any(fate.pattern not in ("", "single", PATTERN) for fate in made):
        screen.line("fused: one operator for the norm and the concat or the add that it reads")
    return counts
