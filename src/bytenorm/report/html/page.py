"""A report as one HTML page: no scripts, nothing that is elsewhere; pictures and style are within it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, FunctionLoader, StrictUndefined

from ..accuracy.accumulation import EXACT
from .drawing import draw_channels, draw_drift, draw_input, draw_output
from .texts import as_uri, decibels, percent, plural, printable

if TYPE_CHECKING:
    from ..results import NormReport, Report

_CAUSES = {
    "range": "its range",
    "rounding": "rounding to 8 bits",
    "mean": "means of channels that are moved",
    "weights": "8-bit weights and arithmetic",
}


def page(report: Report, *, model: str, data: str, progress: Callable[[str, int, int], None] | None = None) -> str:
    """Return a report as an HTML document.

    Parameters
    ----------
    report : Report
    model, data : str
        What the page calls them.
    progress : callable, optional
        Called with ``"drawing"`` and the numbers of norms.

    Returns
    -------
    str

    Examples
    --------
    >>> import numpy as np
    >>> from bytenorm import onnx as bno
    >>> from bytenorm.report import gather, page
    >>> images = [{"image": np.random.default_rng(0).random((8, 1, 28, 28), np.float32)}]
    >>> small = bno.quantize(bno.digits_model(), images, fast=True)
    >>> text = page(gather(small, images), model="digits.int8.onnx", data="8 images of noise")
    >>> "<h1>Batch norms of digits.int8.onnx</h1>" in text
    True
    """
    norms = []
    for i, norm in enumerate(report.norms):
        if progress is not None:
            progress("drawing", i, len(report.norms))
        norms.append((norm, _pictures(norm)))
    marked = [one.name for one in report.findings.found] if report.findings else []
    unmatched: dict[str, list[str]] = {}
    for name, why in report.unmatched:
        unmatched.setdefault(why, []).append(name)
    return (
        _environment()
        .get_template("page.html")
        .render(
            report=report,
            model=model,
            data=data,
            version=version("bytenorm"),
            norms=norms,
            notes=list(dict.fromkeys(note for norm in report.norms for note in norm.notes)),
            numbers={one.name: i for i, one in enumerate(report.drift, 1)},
            drift_picture=as_uri(draw_drift(report.drift, marked)) if report.drift else "",
            unmatched=unmatched,
            causes=_CAUSES,
            exact=EXACT,
        )
    )


def _pictures(norm: NormReport) -> dict[str, str]:
    drawn = {"input": draw_input(norm), "output": draw_output(norm), "channels": draw_channels(norm)}
    return {name: as_uri(svg) for name, svg in drawn.items()}


def _environment() -> Environment:
    """Return what fills templates in: every text is escaped, and one that is missing is an error."""
    folder = files(__package__)
    made = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(decibels=decibels, percent=percent, s=plural)
    return made
