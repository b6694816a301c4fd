"""The part of a page that says where accuracy is lost, with the float network beside the quantized one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..accuracy.accumulation import EXACT
from .drawing import draw_drift
from .tables import foldable
from .texts import as_uri, decibels, text

if TYPE_CHECKING:
    from ..accuracy.accumulation import Drift
    from ..results import Report

_COLUMNS = (
    "tensor",
    "made by",
    "accumulated, dB",
    "own, dB",
    "rounded %",
    "clipped %",
    "mean moved %",
    "computed %",
)
_CAUSES = {
    "range": "its range",
    "rounding": "rounding to 8 bits",
    "mean": "means of channels that are moved",
    "weights": "8-bit weights and arithmetic",
}


def losses(report: Report) -> str:
    """Return the section about the error along the network; nothing without a float model."""
    if not report.drift:
        return ""
    marked = [one.name for one in report.findings.found] if report.findings else []
    return f"""<section aria-labelledby="losses">
<h2 id="losses">Where accuracy is lost</h2>
{_findings(report)}
<figure><img alt="Accumulated and own SNR of {len(report.drift)} tensors along the network."
src="{as_uri(draw_drift(report.drift, marked))}"><figcaption>Each 8-bit tensor against the float network's, in its
order. Area: with all errors before it (accumulated). Line: its own share alone, for which the float network's
operators read the same 8-bit numbers. Numbers: what is named above.</figcaption></figure>
{_table(report)}
{_unmatched(report)}
</section>
"""


def _findings(report: Report) -> str:
    findings = report.findings
    if findings is None:
        return ""
    n = findings.samples
    items = []
    numbers = {one.name: i for i, one in enumerate(report.drift, 1)}
    for one in findings.found:
        option = ""
        if one.option:
            option = f"<br><code>bytenorm quantize {text(one.option)}</code> brings {_gain(one.option_gain_db)}"
        items.append(
            f'<li><a href="#tensor-{numbers[one.name]}"><code>{text(one.name)}</code></a>: in float the outputs '
            f"would gain {_gain(one.float_gain_db)}. "
            f"{100 * one.share:.0f} % of its own error: {_CAUSES[one.cause]}. "
            f"{text(one.advice[0].upper() + one.advice[1:])}.{option}</li>"
        )
    listed = f"<ol>{''.join(items)}</ol>" if items else "<p>None costs a tenth of a decibel alone.</p>"
    problems = "".join(f"<li><code>{text(name)}</code>: {text(why)}</li>" for name, why in findings.problems)
    return f"""<p>The outputs have <b>{decibels(findings.snr_db)} dB</b> against the float network's, on {n}
sample{"s" * (n != 1)}. {findings.tried} of {len(report.drift)} tensors were put in float, one by one, and the
rest run on from there. These of them cost the outputs most; an option's gain is that of this tensor alone.</p>
{listed}
{f"<details><summary>Not tried in float</summary><ul>{problems}</ul></details>" if problems else ""}"""


def _gain(value: float) -> str:
    return f"{decibels(value)} dB"


def _table(report: Report) -> str:
    rows = [_row(one, i) for i, one in enumerate(report.drift, 1)]
    caption = """What the own error is made of: rounding to the codes, numbers beyond their range, means of
channels that are moved, and what 8-bit weights and arithmetic do beside."""
    about = "Tensors in the network's order"
    return foldable(f"All {len(rows)} tensors", _COLUMNS, rows, caption=caption, about=about)


def _row(one: Drift, number: int) -> str:
    head = f'<tr id="tensor-{number}"><th scope="row">{number}. {text(one.name)}</th><td>{text(one.kind)}</td>'
    if one.problem:
        return f'{head}<td colspan="6">{text(one.problem)}</td></tr>'
    own = f"&gt; {EXACT:.0f}" if one.own_snr_db >= EXACT else decibels(one.own_snr_db)
    shares = (
        [f"{100 * share:.1f}" for share in (one.rounded, one.clipped, one.moved, one.computed)]
        if one.own_snr_db < EXACT
        else [""] * 4
    )
    cells = "".join(f"<td>{cell}</td>" for cell in (decibels(one.snr_db), own, *shares))
    return f"{head}{cells}</tr>"


def _unmatched(report: Report) -> str:
    if not report.unmatched:
        return ""
    by_reason: dict[str, list[str]] = {}
    for name, why in report.unmatched:
        by_reason.setdefault(why, []).append(f"<code>{text(name)}</code>")
    lists = "\n".join(
        f"<li>{len(names)}: {text(why)}: {', '.join(names)}</li>" for why, names in by_reason.items()
    )
    one = len(report.unmatched) == 1
    return f"""<details>
<summary>{len(report.unmatched)} tensor{"" if one else "s"} of one network without a partner in the other</summary>
<ul>
{lists}
</ul>
</details>"""
