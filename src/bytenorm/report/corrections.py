"""The part of a page that says what the correction of `quantize` did."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .wording import decibels, text

if TYPE_CHECKING:
    from .correction import Correction

_LONG = 40  # rows; a longer table is closed until somebody opens it


def corrections(correction: Correction | None) -> str:
    """Return the section about the correction; nothing where none is noted."""
    if correction is None:
        return ""
    if correction.problem:
        body = f"<p>The model's note of it cannot be read: {text(correction.problem)}.</p>"
    else:
        steps = "\n".join(
            f'<tr><th scope="row">{text(step.name)}</th><td>{"taken" if step.taken else "not taken"}</td>'
            f"<td>{_number(step.before_db)}</td><td>{_number(step.after_db)}</td><td>{text(step.problem)}</td></tr>"
            for step in correction.steps
        )
        body = f"""<p>What <code>bytenorm quantize</code> tried on {correction.samples} samples, a part of them
kept aside to judge.</p>
<div class="wide" role="region" aria-labelledby="correction" tabindex="0">
<table>
<caption>SNR of the outputs on the samples kept aside.</caption>
<thead><tr><th scope="col">step</th><th scope="col"></th><th scope="col">before, dB</th>
<th scope="col">after, dB</th><th scope="col">why</th></tr></thead>
<tbody>
{steps}
</tbody>
</table>
</div>
{_corrected(correction)}"""
    return f"""<section aria-labelledby="correction">
<h2 id="correction">What the correction did</h2>
{body}
</section>
"""


def _corrected(correction: Correction) -> str:
    if not correction.corrected:
        return ""
    rows = "\n".join(
        f'<tr><th scope="row">{text(one.name)}</th><td>{text(one.kind)}</td>'
        f"<td>{one.moved:.2g}{_unit(one.kind)}</td>"
        f"<td>{'-' if one.moved_after is None else f'{one.moved_after:.2g}{_unit(one.kind)}'}</td>"
        f"<td>{'' if one.stretched is None else f'{one.stretched:.4f}'}</td></tr>"
        for one in correction.corrected
    )
    return f"""<details{" open" * (len(correction.corrected) <= _LONG)}>
<summary>{len(correction.corrected)} norms and layers that were corrected</summary>
<div class="wide" role="region" aria-label="Norms and layers that were corrected" tabindex="0">
<table>
<caption>How far quantization had moved the mean, before, and how far it is moved now, on this data and behind the
activation: the root of the mean square over channels, in standard deviations (σ) or in the layer's unit.
Stretched: the factor of the standard deviation that is farthest from 1.</caption>
<thead><tr><th scope="col">corrected</th><th scope="col"></th><th scope="col">before</th><th scope="col">now</th>
<th scope="col">stretched</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
</details>"""


def _unit(kind: str) -> str:
    return " σ" if kind == "norm" else ""


def _number(value: float | None) -> str:
    return "-" if value is None else decibels(value)
