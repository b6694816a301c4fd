"""The part of a page that says what the correction of `quantize` did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tables import foldable, table
from .texts import decibels, text

if TYPE_CHECKING:
    from ..accuracy.correction import Correction


def corrections(correction: Correction | None) -> str:
    """Return the section about the correction; nothing where none is noted."""
    if correction is None:
        return ""
    if correction.problem:
        body = f"<p>The model's note of it cannot be read: {text(correction.problem)}.</p>"
    else:
        rows = [
            f'<tr><th scope="row">{text(step.name)}</th><td>{"taken" if step.taken else "not taken"}</td>'
            f"<td>{_number(step.before_db)}</td><td>{_number(step.after_db)}</td><td>{text(step.problem)}</td></tr>"
            for step in correction.steps
        ]
        columns = ("step", "", "before, dB", "after, dB", "why")
        caption = "SNR of the outputs on the samples kept aside."
        body = f"""<p>What <code>bytenorm quantize</code> tried on {correction.samples} samples, a part of them
kept aside to judge.</p>
{table(columns, rows, caption=caption, about="#correction")}
{_corrected(correction)}"""
    return f"""<section aria-labelledby="correction">
<h2 id="correction">What the correction did</h2>
{body}
</section>
"""


def _corrected(correction: Correction) -> str:
    if not correction.corrected:
        return ""
    rows = [
        f'<tr><th scope="row">{text(one.name)}</th><td>{text(one.kind)}</td>'
        f"<td>{one.moved:.2g}{_unit(one.kind)}</td>"
        f"<td>{'-' if one.moved_after is None else f'{one.moved_after:.2g}{_unit(one.kind)}'}</td>"
        f"<td>{'' if one.stretched is None else f'{one.stretched:.4f}'}</td></tr>"
        for one in correction.corrected
    ]
    caption = """How far quantization had moved the mean, before, and how far it is moved now, on this data and
behind the activation: the root of the mean square over channels, in standard deviations (σ) or in the unit of
the layer. Stretched: the factor of the standard deviation that is farthest from 1."""
    return foldable(
        f"{len(rows)} norms and layers that were corrected",
        ("corrected", "", "before", "now", "stretched"),
        rows,
        caption=caption,
        about="Norms and layers that were corrected",
    )


def _unit(kind: str) -> str:
    return " σ" if kind == "norm" else ""


def _number(value: float | None) -> str:
    return "-" if value is None else decibels(value)
