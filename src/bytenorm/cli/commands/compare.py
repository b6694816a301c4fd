"""``bytenorm compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...onnx.measurement.compare import compare
from ...onnx.measurement.comparison import COLUMNS, Comparison
from ...onnx.model.files import load_model
from ..data import samples
from ..saturation_note import note
from ..wording import File, naming

if TYPE_CHECKING:
    import argparse

    from ..console import Screen


def run(options: argparse.Namespace, screen: Screen) -> None:
    """Tell how far the outputs of a model are from those of another."""
    reference, candidate = File("reference", options.reference), File("candidate", options.candidate)
    with naming(reference=reference, candidate=candidate), screen.progress() as progress:
        model = load_model(options.reference)
        remarks = [note(model, options.reference), note(load_model(options.candidate), options.candidate)]
        data = samples(options, model, options.limit, screen)
        del model
        found = compare(
            options.reference,
            options.candidate,
            data,
            progress=lambda done, whole: progress("comparing", done, whole),
        )
    screen.line(f"{options.candidate} against {options.reference}")
    show(found, screen)
    for remark in filter(None, remarks):
        screen.line(f"{remark}; the figures above are those of exact sums")
    screen.result(
        reference=options.reference,
        candidate=options.candidate,
        reference_saturates=bool(remarks[0]),
        candidate_saturates=bool(remarks[1]),
        **found.to_dict(),
    )


def show(found: Comparison, screen: Screen) -> None:
    """Write a comparison as a table."""
    screen.table(COLUMNS, found.rows())
    for remark in found.remarks():
        screen.line(remark)
    screen.line(f"on {found.samples} sample{'s' * (found.samples != 1)}")
