"""The pictures of a report: SVG by matplotlib, which follows the light or dark scheme of who looks at it."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .gathering import NormReport

# What matplotlib writes, which is right on white, and what takes its place on black. No two may be equal.
COLOURS = {
    "#1f2328": "#e6edf3",  # text
    "#59636e": "#9aa4af",  # axes
    "#d8dee4": "#30363d",  # grid
    "#1f5fa8": "#6cb0f5",  # data
    "#b9d1ec": "#24507d",  # extremes of the data
    "#b3261e": "#ff8a80",  # the model's range
    "#1a7f37": "#56d364",  # the best range
}
TEXT, AXES, GRID, DATA, EXTREMES, CHOSEN, BEST = COLOURS

STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "font.family": "sans-serif",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": AXES,
    "axes.labelcolor": TEXT,
    "text.color": TEXT,
    "xtick.color": AXES,
    "xtick.labelcolor": TEXT,
    "ytick.color": AXES,
    "ytick.labelcolor": TEXT,
    "svg.fonttype": "none",
    "svg.hashsalt": "bytenorm",  # the same page every time
}
SIZE = 4.3, 2.7  # inches
BINS = 128


def draw_input(norm: NormReport) -> str:
    """Draw how often each code came in, all channels together; return an SVG document."""
    figure, axes = _figure()
    assert norm.statistics.dtype is not None, "data has been gathered"
    lowest = norm.statistics.dtype.qmin
    edges = np.arange(lowest, lowest + 257) - 0.5
    axes.stairs(_percent(norm.counts.sum(axis=0)), edges, fill=True, color=DATA)
    axes.set(xlim=(edges[0], edges[-1]), xlabel="input code", ylabel="% of the codes")
    axes.set_xticks([lowest, lowest + 64, lowest + 128, lowest + 192, lowest + 255])
    axes.set_ylim(bottom=0)
    return _svg(figure)


def draw_output(norm: NormReport) -> str:
    """Draw the distribution of the float output, with the range of the codes and the best one."""
    figure, axes = _figure()
    values, shares = norm.distribution.values, norm.distribution.shares()
    low, high = float(values[0]), float(values[-1])
    if low == high:
        low, high = low - 0.5, high + 0.5
    heights, edges = np.histogram(values, BINS, (low, high), weights=shares)
    axes.stairs(100 * heights, edges, fill=True, color=DATA)
    seen = 100 * heights[heights > 0]
    axes.set_yscale("log")
    axes.set_ylim(float(seen.min()) / 2, float(seen.max()) * 2)
    for best, colour, style in ((False, CHOSEN, "solid"), (True, BEST, (0, (4, 2)))):
        for end in norm.range(best=best):
            axes.axvline(end, color=colour, linewidth=1.4, linestyle=style)
    ends = (*norm.range(), *norm.range(best=True), low, high)
    room = 0.03 * (max(ends) - min(ends))
    axes.set(xlim=(min(ends) - room, max(ends) + room), xlabel="float output", ylabel="% of the outputs")
    return _svg(figure)


def draw_channels(norm: NormReport) -> str:
    """Draw the range of each channel's float output against the range of the codes."""
    figure, axes = _figure()
    lowest, low, high, highest = channel_ranges(norm)
    edges = np.arange(norm.channels + 1) - 0.5
    axes.stairs(highest, edges, baseline=lowest, fill=True, color=EXTREMES)
    axes.stairs(high, edges, baseline=low, fill=True, color=DATA)
    for end in norm.range():
        axes.axhline(end, color=CHOSEN, linewidth=1.4)
    for end in norm.range(best=True):
        axes.axhline(end, color=BEST, linewidth=1.4, linestyle=(0, (4, 2)))
    axes.set(xlim=(edges[0], edges[-1]), xlabel="channel", ylabel="float output")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    return _svg(figure)


def channel_ranges(norm: NormReport) -> np.ndarray:
    """Return of each channel's float output the least, the 1st and 99th percentile, and the largest: (4, C)."""
    counts = norm.counts
    order = np.argsort(norm.outputs, axis=1, kind="stable")
    outputs = np.take_along_axis(norm.outputs, order, axis=1)
    cumulated = np.cumsum(np.take_along_axis(counts, order, axis=1), axis=1)
    whole = cumulated[:, -1:]
    # The first output that this share of all does not exceed; the first that occurs at all.
    places = [np.argmax(cumulated >= np.maximum(share * whole, 1), axis=1) for share in (0, 0.01, 0.99, 1)]
    return np.stack([outputs[np.arange(len(outputs)), place] for place in places])


def _percent(counts: np.ndarray) -> np.ndarray:
    percent: np.ndarray = 100 * counts.astype(np.float64) / float(counts.sum(dtype=np.float64))
    return percent


def _figure() -> tuple[Figure, Axes]:
    with rc_context(STYLE):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    with rc_context(STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]  # without the address of a document type
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\n *", "\n", text)
    for i, colour in enumerate(COLOURS):
        text = text.replace(colour, f"var(--c{i})")
    light, dark = (
        "".join(f"--c{i}:{colour};" for i, colour in enumerate(colours)) for colours in (COLOURS, COLOURS.values())
    )
    style = f"<style>svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    at = text.index(">") + 1
    return text[:at] + style + text[at:]
