"""What `quantize` noted in a model about its correction: which steps were taken, and what was moved."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ...onnx.graph.quantizer_names import NODE
from ...onnx.quantization.tuning.clipping import RANGES
from ...onnx.quantization.tuning.correction import Correction as OneCorrection
from ...onnx.quantization.tuning.notes import Step, read_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from .accumulation import Accumulation, Drift


@dataclass(frozen=True)
class Corrected(OneCorrection):
    """A norm or layer that was corrected: how far its mean was moved before, and how far it is now.

    Attributes
    ----------
    moved_after : float or None
        On the report's data, behind the activation of the step, in the unit of `moved`; None if nothing tells.
    """

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
        found = asdict(self)
        for step in found["steps"]:
            del step["corrections"]  # they are in `corrected`
        return found

    def outcome(self, name: str) -> str:
        """Say what became of the steps whose names begin so: ``"taken"``, ``"refused"`` or empty: not judged."""
        steps = [step for step in self.steps if step.name.startswith(name)]
        if any(step.taken for step in steps):
            return "taken"
        return "refused" if any(step.before_db is not None for step in steps) else ""

    @property
    def noted_db(self) -> float | None:
        """The lowest SNR of the outputs when the model was made, on the samples kept aside; None: not measured."""
        known = [step for step in self.steps if step.before_db is not None]
        taken = [step.after_db for step in known if step.taken and step.after_db is not None]
        return taken[-1] if taken else known[0].before_db if known else None

    @property
    def narrowed(self) -> bool:
        """Whether ranges leave out what is rare."""
        names = {f"ranges by {name}" for name, _ in RANGES}
        return any(step.taken and step.name in names for step in self.steps)


def read_correction(model: onnx.ModelProto) -> Correction | None:
    """Return what a model's metadata says of its correction, None if nothing."""
    try:
        note = read_note(model)
    except ValueError as problem:
        return Correction(problem=str(problem))
    if note is None:
        return None
    corrected = tuple(Corrected(**asdict(one)) for one in note.corrections)
    return Correction(note.samples, note.steps, corrected)


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
