"""What `quantize` noted in a model about its correction: which steps were taken, and what was moved."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..onnx.quantizer_names import NODE
from ..onnx.tuning.steps import NOTE, RANGES, REESTIMATION

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from .accumulation import Accumulation, Drift

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Step:
    """A step that was tried: see `bytenorm.onnx.quantize`.

    Attributes
    ----------
    name : str
    taken : bool
    problem : str
        Why it is not taken, or is though nothing judged it.
    before_db, after_db : float or None
        The lowest SNR of the outputs on the samples kept aside.
    """

    name: str
    taken: bool
    problem: str
    before_db: float | None
    after_db: float | None


@dataclass(frozen=True)
class Corrected:
    """A norm or layer that was corrected.

    Attributes
    ----------
    name, kind : str
        The node, and ``"norm"`` or the operator of a layer.
    moved : float
        How far quantization had moved the mean, before: the root of the mean square over channels, in standard
        deviations (a norm) or real units (a layer).
    stretched : float or None
        A norm's factor of the standard deviation that is farthest from 1; None for a layer.
    moved_after : float or None
        How far the mean is moved now, on the report's data, behind the activation of the step; None if nothing
        tells.
    """

    name: str
    kind: str
    moved: float
    stretched: float | None
    moved_after: float | None = None


@dataclass(frozen=True)
class Correction:
    """What the note says.

    Attributes
    ----------
    samples : int
        How many samples it was made and judged with.
    steps : tuple of Step
    corrected : tuple of Corrected
    problem : str
        Why the note cannot be read; empty if it can.
    """

    samples: int = 0
    steps: tuple[Step, ...] = ()
    corrected: tuple[Corrected, ...] = ()
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    @property
    def reestimated(self) -> bool:
        """Whether means were corrected."""
        return any(step.taken and step.name.startswith(REESTIMATION) for step in self.steps)

    @property
    def narrowed(self) -> bool:
        """Whether ranges leave out what is rare."""
        names = {f"ranges by {name}" for name, _ in RANGES}
        return any(step.taken and step.name in names for step in self.steps)


def read_correction(model: onnx.ModelProto) -> Correction | None:
    """Return what a model's metadata says of its correction, None if nothing."""
    notes = [entry.value for entry in model.metadata_props if entry.key == NOTE]
    if not notes:
        return None
    try:
        found = json.loads(notes[-1])
        if _field(found, "version", int) != 1:
            return Correction(problem=f"its version is {found['version']}, not 1")
        steps = tuple(
            Step(
                _field(step, "name", str),
                _field(step, "taken", bool),
                _field(step, "problem", str),
                _number(step, "before_db"),
                _number(step, "after_db"),
            )
            for step in _field(found, "steps", list)
        )
        corrected = tuple(
            Corrected(
                _field(one, "name", str),
                _field(one, "kind", str),
                _field(one, "moved", float),
                _number(one, "stretched"),
            )
            for one in _field(found, "corrections", list)
        )
        return Correction(_field(found, "samples", int), steps, corrected)
    except (ValueError, TypeError, RecursionError) as error:
        return Correction(problem=f"it is not as quantize writes it: {' '.join(str(error).split())}")


def _field(found: object, name: str, kind: type[Kind]) -> Kind:
    """Return an entry of a JSON object that must be there, of a type."""
    value = found.get(name) if isinstance(found, Mapping) else None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(min(max(value, -(10**300)), 10**300))
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{name} is {str(value)[:40]!r}")
    return value


def _number(found: object, name: str) -> float | None:
    there = isinstance(found, Mapping) and found.get(name) is not None
    return _field(found, name, float) if there else None


def with_after(correction: Correction, drift: Sequence[Drift], beside: Accumulation) -> Correction:
    """Return a correction that says how far each mean is moved now."""
    places = {node: one for one in reversed(drift) for node in one.nodes if not one.problem}

    def after(one: Corrected) -> float | None:
        tensor = places.get(one.name) or places.get(one.name.removesuffix(NODE))
        if tensor is None:
            return None
        real, relative = beside.sums(tensor.name).means_moved()
        moved = relative if one.kind == "norm" else real
        return moved if math.isfinite(moved) else None

    return replace(correction, corrected=tuple(replace(c, moved_after=after(c)) for c in correction.corrected))
