"""A report as one HTML page: no scripts, nothing that is elsewhere; pictures and style are within it."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING

from .corrections import corrections
from .drawing import draw_channels, draw_input, draw_output
from .losses import losses
from .tables import table
from .texts import as_uri, decibels, percent, text

if TYPE_CHECKING:
    from ..results import NormReport, Report

COLUMNS = (
    "norm",
    "channels",
    "SNR dB",
    "worst channel, dB",
    "mean squared error",
    "clipped %",
    "best scale brings, dB",
)
_QUANTIZATION = ("output", "scale", "zero point", "from", "to", "clipped %", "mean squared error")


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
    >>> from bytenorm.report import Report, page
    >>> "<h1>Quantization of a&lt;b.onnx</h1>" in page(Report((), (), 8), model="a<b.onnx", data="samples")
    True
    """
    sections = []
    for i, norm in enumerate(report.norms):
        if progress is not None:
            progress("drawing", i, len(report.norms))
        sections.append(_section(norm, i + 1))
    title = f"{'Batch norms' if report.norms else 'Quantization'} of {text(model)}"
    what = "each norm's output" if report.norms else "each tensor"
    unlike = (
        f'<p class="warning">{text(report.unlike[0].upper() + report.unlike[1:])}</p>' if report.unlike else ""
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{files(__package__).joinpath("page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>What the quantization of {what} costs, measured on {report.samples}
sample{"s" * (report.samples != 1)} of <code>{text(data)}</code>. Made by bytenorm {version("bytenorm")}.</p>
{unlike}
</header>
<main>
{losses(report)}
{_overview(report)}
{corrections(report.correction)}
{_left_out(report)}
{_legend(report)}
{"".join(sections)}
</main>
</body>
</html>
"""


def _overview(report: Report) -> str:
    if not report.norms:
        return ""
    rows = [_row(norm, i + 1) for i, norm in enumerate(report.norms)]
    caption = "The lowest signal-to-noise ratio first."
    return f"""<section aria-labelledby="norms">
<h2 id="norms">The norms by damage</h2>
{table(COLUMNS, rows, caption=caption, about="#norms")}
</section>"""


def _row(norm: NormReport, number: int) -> str:
    cells = (
        str(norm.channels),
        decibels(norm.snr_db),
        decibels(float(norm.channel_snr_db[norm.worst_channel])),
        f"{norm.mse:.3g}",
        percent(norm.clipped),
        decibels(norm.gain_db),
    )
    numbers = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row"><a href="#norm-{number}">{text(norm.name)}</a></th>{numbers}</tr>'


def _left_out(report: Report) -> str:
    if not report.left_out:
        return ""
    items = "\n".join(f"<li><code>{text(name)}</code>: {text(why)}</li>" for name, why in report.left_out)
    return f"""<section aria-labelledby="left-out">
<h2 id="left-out">Not measured</h2>
<ul>
{items}
</ul>
</section>"""


def _legend(report: Report) -> str:
    if not report.norms:
        return ""
    notes = dict.fromkeys(note for norm in report.norms for note in norm.notes)
    return f"""<details>
<summary>How to read this page</summary>
<ul>
<li>A channel reads only 256 codes. So these numbers are exact for the data, not estimated.</li>
<li><b>SNR</b>: the energy of the norm's float output over that of the error of its codes. 6 dB are one bit.</li>
<li><b>Clipped</b>: outputs more than half a step beyond the last code.</li>
<li><b>Best scale</b>: what <code>choose_output_qparams(..., method="mse")</code> chooses for this data, and how
much it would add to the SNR. A fraction of a decibel is not worth a change.</li>
<li>The error of a norm is measured on what it reads: what earlier layers did wrong is not counted again.</li>
<li>In the pictures, <span class="chosen">solid red lines</span> are the ends of the range that the model's codes
cover, <span class="best">dashed green lines</span> those of the best range. Of each channel the faint bar is the
whole range, the strong one all but 1 % at each end.</li>
{"".join(f"<li>{text(note)}</li>" for note in notes)}
</ul>
</details>"""


def _section(norm: NormReport, number: int) -> str:
    name = text(norm.name)
    written = text(norm.written + (f" + {norm.activation}" if norm.activation else ""))
    low, high = norm.range()
    best_low, best_high = norm.range(best=True)
    worst = norm.worst_channel
    pictures = (
        (
            draw_input(norm),
            "The codes that the norm reads, all channels together.",
            f"Histogram of the input codes of {name}.",
        ),
        (
            draw_output(norm),
            "The norm's output in float, exactly; the scale of the shares is logarithmic. Solid: the ends of the "
            "model's range; dashed: those of the best.",
            f"Distribution of the float output of {name}, from {norm.distribution.values[0]:.4g} to "
            f"{norm.distribution.values[-1]:.4g}; the codes cover {low:.4g} to {high:.4g}.",
        ),
        (
            draw_channels(norm),
            "The range of each channel's output against the same two; strong: all but 1 % at each end.",
            f"Range of the float output of each of the {norm.channels} channels of {name}; the codes cover "
            f"{low:.4g} to {high:.4g}.",
        ),
    )
    figures = "\n".join(
        f'<figure><img src="{as_uri(svg)}" alt="{alt}"><figcaption>{caption}</figcaption></figure>'
        for svg, caption, alt in pictures
    )
    this = (
        f'<tr><th scope="row">this model</th><td>{norm.scale:.6g}</td><td>{norm.zero_point}</td><td>{low:.4g}</td>'
        f"<td>{high:.4g}</td><td>{percent(norm.clipped)}</td><td>{norm.mse:.4g}</td></tr>"
    )
    best = (
        f'<tr><th scope="row">best scale</th><td>{norm.best_scale:.6g}</td><td>{norm.best_zero_point}</td>'
        f"<td>{best_low:.4g}</td><td>{best_high:.4g}</td><td>{percent(norm.best_clipped)}</td>"
        f"<td>{norm.best_mse:.4g}</td></tr>"
    )
    return f"""<section aria-labelledby="norm-{number}">
<h2 id="norm-{number}">{name}</h2>
<p>{written}, {norm.channels} channel{"s" * (norm.channels != 1)}, {norm.statistics.count * norm.channels:,} codes;
SNR {decibels(norm.snr_db)} dB, the lowest in channel {worst}:
{decibels(float(norm.channel_snr_db[worst]))} dB.</p>
{table(_QUANTIZATION, (this, best), about=f"Quantizations of {norm.name}")}
<div class="pictures">
{figures}
</div>
<p><a href="#norms">Back to the table</a></p>
</section>
"""
