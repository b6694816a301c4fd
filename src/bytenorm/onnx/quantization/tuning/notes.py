"""What was tried on an 8-bit network, and the note of it in the model's metadata, for those who ask later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ...._errors import bad_type
from .correction import Correction

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

Kind = TypeVar("Kind")

NOTE = "bytenorm.correction"  # what the metadata calls it
_VERSION = 1


@dataclass(frozen=True)
class Step:
    """What was tried to bring the 8-bit network nearer to the float one.

    Attributes
    ----------
    name : str
    taken : bool
        Whether the network has it.
    problem : str
        Why it was not tried, or is not taken, or is taken though nothing judged it; else empty.
    before_db, after_db : float or None
        The lowest SNR of the outputs on the samples kept aside, without and with it; None where it was not tried.
    corrections : tuple of Correction
        What a re-estimation that is taken changed.
    """

    name: str
    taken: bool
    problem: str = ""
    before_db: float | None = None
    after_db: float | None = None
    corrections: tuple[Correction, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


@dataclass(frozen=True)
class Note:
    """What a model says of its steps.

    Attributes
    ----------
    samples : int
        How many samples they were made and judged with.
    steps : tuple of Step
        Without their corrections.
    corrections : tuple of Correction
        Of all steps that are taken.
    """

    samples: int
    steps: tuple[Step, ...]
    corrections: tuple[Correction, ...]


def write_note(model: onnx.ModelProto, samples: int, steps: Sequence[Step]) -> None:
    """Write into a model's metadata what was tried with so many samples.

    Decibels to the hundredth: the float network's last bits differ from run to run (38.474576 and 38.474581 were
    seen), and the same data make the same model.
    """
    entries = [step.to_dict() for step in steps]
    for entry in entries:
        for key in ("before_db", "after_db"):
            entry[key] = None if entry[key] is None else round(entry[key], 2)
    corrections = [one for entry in entries for one in entry.pop("corrections")]
    found = {"version": _VERSION, "samples": samples, "steps": entries, "corrections": corrections}
    model.metadata_props.add(key=NOTE, value=json.dumps(found))


def read_note(model: onnx.ModelProto) -> Note | None:
    """Return what a model's metadata says of its steps, None if nothing.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    notes = [entry.value for entry in model.metadata_props if entry.key == NOTE]
    if not notes:
        return None
    try:
        found = json.loads(notes[-1])
        version = _field(found, "version", int)
        if version == _VERSION:
            steps, corrections = (_field(found, what, list) for what in ("steps", "corrections"))
            return Note(
                _field(found, "samples", int), tuple(map(_step, steps)), tuple(map(_correction, corrections))
            )
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"it is not as quantize writes it: {' '.join(str(error).split())}") from None
    raise ValueError(f"its version is {version}, not {_VERSION}")


def _step(entry: object) -> Step:
    return Step(
        _field(entry, "name", str),
        _field(entry, "taken", bool),
        _field(entry, "problem", str),
        _number(entry, "before_db"),
        _number(entry, "after_db"),
    )


def _correction(entry: object) -> Correction:
    return Correction(
        _field(entry, "name", str),
        _field(entry, "kind", str),
        _field(entry, "moved", float),
        _number(entry, "stretched"),
    )


def _field(found: object, name: str, kind: type[Kind]) -> Kind:
    """Return an entry of a JSON object that must be there, of a type."""
    value = found.get(name) if isinstance(found, Mapping) else None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(min(max(value, -(10**300)), 10**300))
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise bad_type(name, f"is {str(value)[:40]!r}")
    return value


def _number(found: object, name: str) -> float | None:
    there = isinstance(found, Mapping) and found.get(name) is not None
    return _field(found, name, float) if there else None
