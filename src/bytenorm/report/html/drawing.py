"""The pictures of a report: small SVG, which follows the light or dark scheme of who looks at it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..accuracy.accumulation import Drift
    from ..results import NormReport

STYLE = (
    "<style>svg{--t:#1f2328;--a:#59636e;--g:#d8dee4;--d:#1f5fa8;--e:#b9d1ec;--c:#b3261e;--b:#1a7f37}"
    "@media(prefers-color-scheme:dark){svg{--t:#e6edf3;--a:#9aa4af;--g:#30363d;--d:#6cb0f5;--e:#24507d;"
    "--c:#ff8a80;--b:#56d364}}text{font:13px sans-serif;fill:var(--t)}.y{text-anchor:end}.x{text-anchor:middle}"
    "path{fill:none}.g{stroke:var(--g)}.a{stroke:var(--a)}.d{fill:var(--d)}.e{fill:var(--e)}"
    ".c{stroke:var(--c);stroke-width:2}.b{stroke:var(--b);stroke-width:2;stroke-dasharray:6 4}"
    ".o{stroke:var(--c);stroke-width:1.5}.m{text-anchor:middle;font-weight:bold;fill:var(--c)}</style>"
)
WIDTH, HEIGHT = 430, 270
LEFT, RIGHT, TOP, BOTTOM = 72, 418, 10, 224  # of the axes
BINS = 128
WIDE = 900  # a picture of the whole network
TOP_SNR = 70.0  # dB; what is better is drawn there
MOST_COLUMNS = 96  # channels that are told apart; more are drawn in groups


def draw_input(norm: NormReport) -> str:
    """Draw how often each code came in, all channels together; return an SVG document."""
    assert norm.statistics.dtype is not None, "data has been gathered"
    lowest = norm.statistics.dtype.qmin
    counts = norm.counts.sum(axis=0).astype(np.float64)
    shares = 100 * counts / counts.sum()
    axes = _Axes((lowest - 0.5, lowest + 255.5), (0.0, 1.05 * float(shares.max())))
    axes.frame("input code", "% of the codes", [lowest, lowest + 64, lowest + 128, lowest + 192, lowest + 255])
    axes.steps("d", np.arange(lowest, lowest + 257) - 0.5, np.zeros(256), shares)
    return axes.svg()


def draw_output(norm: NormReport) -> str:
    """Draw the distribution of the float output, with the range of the codes and the best one."""
    values, shares = norm.distribution.values, norm.distribution.shares()
    low, high = float(values[0]), float(values[-1])
    if low == high:
        low, high = low - 0.5, high + 0.5
    heights, edges = np.histogram(values, BINS, (low, high), weights=shares)
    seen = np.log10(100 * heights[heights > 0])
    floor, ceiling = float(seen.min()) - 0.3, float(seen.max()) + 0.3
    with np.errstate(divide="ignore"):
        logarithms = np.maximum(np.log10(100 * heights), floor)
    ends = (*norm.range(), *norm.range(best=True), low, high)
    room = 0.03 * (max(ends) - min(ends))
    axes = _Axes((min(ends) - room, max(ends) + room), (floor, ceiling))
    axes.frame("float output", "% of the outputs", logarithmic=True)
    axes.steps("d", edges, np.full(BINS, floor), logarithms)
    axes.upright("c", norm.range())
    axes.upright("b", norm.range(best=True))
    return axes.svg()


def draw_channels(norm: NormReport) -> str:
    """Draw the range of each channel's float output against the range of the codes."""
    lowest, low, high, highest = channel_ranges(norm)
    starts = np.unique(np.linspace(0, norm.channels, min(norm.channels, MOST_COLUMNS) + 1).astype(int))
    lowest, low = (np.minimum.reduceat(part, starts[:-1]) for part in (lowest, low))
    high, highest = (np.maximum.reduceat(part, starts[:-1]) for part in (high, highest))
    ends = (*norm.range(), *norm.range(best=True), float(lowest.min()), float(highest.max()))
    room = 0.03 * (max(ends) - min(ends))
    axes = _Axes((-0.5, norm.channels - 0.5), (min(ends) - room, max(ends) + room))
    axes.frame("channel", "float output", [t for t in _ticks(0, norm.channels - 1) if t == round(t)])
    axes.steps("e", starts - 0.5, lowest, highest)
    axes.steps("d", starts - 0.5, low, high)
    axes.level("c", norm.range())
    axes.level("b", norm.range(best=True))
    return axes.svg()


def draw_drift(drift: Sequence[Drift], marked: Sequence[str] = ()) -> str:
    """Draw the accumulated and the own SNR along the network, a step a tensor; what has none leaves a gap.

    What is `marked` gets numbers, in that order.
    """
    numbers = np.array([[one.snr_db, one.own_snr_db] for one in drift])
    finite = numbers[np.isfinite(numbers)]
    top = min(1.1 * max([1.0, *finite]), TOP_SNR)
    low = max(min([0.0, *finite]), -TOP_SNR)
    axes = _Axes((0.5, len(drift) + 0.5), (low, top), width=WIDE)
    axes.frame("tensor, in the network's order", "SNR, dB", [t for t in _ticks(1, len(drift)) if t == round(t)])
    shown = np.clip(numbers, low, top)  # nan stays
    places = np.arange(1, len(drift) + 1)
    for i, level in zip(places, shown[:, 0], strict=True):
        if not np.isnan(level):
            axes.steps("e", np.array([i - 0.5, i + 0.5]), np.array([low]), np.array([level]))
    axes.line("o", places, shown[:, 1])
    by_name = {one.name: i for i, one in enumerate(drift)}
    for rank, name in enumerate(marked, 1):
        place = by_name[name]
        axes.mark(str(rank), place + 1, float(shown[place, 1]))
    return axes.svg()


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


class _Axes:
    """Axes from numbers to places, in whole pixels, and what is drawn on them."""

    def __init__(self, across: tuple[float, float], up: tuple[float, float], *, width: int = WIDTH) -> None:
        self._across, self._up, self._width = across, up, width
        self._right = width - (WIDTH - RIGHT)
        self._parts: list[str] = []

    def frame(
        self, x_label: str, y_label: str, x_ticks: Sequence[float] | None = None, *, logarithmic: bool = False
    ) -> None:
        """Draw the grid, the axes and what is written at them."""
        x_ticks = _ticks(*self._across) if x_ticks is None else x_ticks
        y_ticks = _decades(*self._up) if logarithmic else _ticks(*self._up)
        places = [(self._x(t), t) for t in x_ticks], [(self._y(t), t) for t in y_ticks]
        grid = "".join(f"M{x} {TOP}V{BOTTOM}" for x, _ in places[0])
        grid += "".join(f"M{LEFT} {y}H{self._right}" for y, _ in places[1])
        self._parts.append(f'<path class="g" d="{grid}"/>')
        self._parts.append(f'<path class="a" d="M{LEFT} {TOP}V{BOTTOM}H{self._right}"/>')
        for x, tick in places[0]:
            self._parts.append(f'<text class="x" x="{x}" y="{BOTTOM + 18}">{tick:.4g}</text>')
        for y, tick in places[1]:
            text = f"{10.0**tick if logarithmic else tick:.3g}"
            self._parts.append(f'<text class="y" x="{LEFT - 6}" y="{y + 4}">{text}</text>')
        middle = (TOP + BOTTOM) // 2
        self._parts.append(f'<text class="x" x="{(LEFT + self._right) // 2}" y="{HEIGHT - 8}">{x_label}</text>')
        turned = f'transform="rotate(-90 14 {middle})"'
        self._parts.append(f'<text class="x" x="14" y="{middle}" {turned}>{y_label}</text>')

    def steps(self, kind: str, edges: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
        """Fill what lies between two step functions."""
        places = [self._x(edge) for edge in edges]
        there = "".join(f"V{self._y(y)}H{x}" for y, x in zip(high, places[1:], strict=True))
        back = "".join(f"V{self._y(y)}H{x}" for y, x in zip(low[::-1], places[-2::-1], strict=True))
        self._parts.append(f'<path class="{kind}" d="M{places[0]} {self._y(low[0])}{there}{back}z"/>')

    def upright(self, kind: str, ends: Iterable[float]) -> None:
        """Draw lines from bottom to top."""
        path = "".join(f"M{self._x(end)} {TOP}V{BOTTOM}" for end in ends)
        self._parts.append(f'<path class="{kind}" d="{path}"/>')

    def level(self, kind: str, ends: Iterable[float]) -> None:
        """Draw lines from left to right."""
        path = "".join(f"M{LEFT} {self._y(end)}H{self._right}" for end in ends)
        self._parts.append(f'<path class="{kind}" d="{path}"/>')

    def line(self, kind: str, places: np.ndarray, levels: np.ndarray) -> None:
        """Draw a line through points; one that is nan interrupts it."""
        path, command = "", "M"
        for x, y in zip(places, levels, strict=True):
            if np.isnan(y):
                command = "M"
            else:
                path += f"{command}{self._x(x)} {self._y(y)}"
                # A point alone is a line of no length, whose round ends show.
                path, command = (path + "h0", "L") if command == "M" else (path, "L")
        self._parts.append(f'<path class="{kind}" stroke-linecap="round" d="{path}"/>')

    def mark(self, label: str, x: float, y: float) -> None:
        """Write a short label under a point, or over it where there is no room."""
        below = self._y(y) + 16
        place = below if below < BOTTOM else self._y(y) - 8
        self._parts.append(f'<text class="m" x="{self._x(x)}" y="{place}">{label}</text>')

    def svg(self) -> str:
        """Return the document."""
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self._width} {HEIGHT}">'
        return "".join((head, STYLE, *self._parts, "</svg>"))

    def _x(self, value: float) -> int:
        return round(LEFT + (self._right - LEFT) * _share(value, *self._across))

    def _y(self, value: float) -> int:
        return round(BOTTOM - (BOTTOM - TOP) * _share(value, *self._up))


def _share(value: float, low: float, high: float) -> float:
    return (float(value) - low) / (high - low) if high > low else 0.5


def _ticks(low: float, high: float) -> list[float]:
    """Return some round numbers within a range."""
    if not high > low:
        return [low]
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Return whole powers of ten within a range of powers, not too many."""
    first, last = math.ceil(low), math.floor(high)
    step = max(1, -(-(last - first) // 4))
    return [float(i) for i in range(first, last + 1, step)]
