"""Draw the pictures of the documentation: channel, layouts, correction and networks (.svg), beside this file."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import bytenorm as bn
from bytenorm.calibration import ChannelStatistics, reestimate

INK, SOFT, GRID = "#1f2328", "#59636e", "#e4e7eb"
STEP, LINE, MARK = "#1f5fa8", "#d1730f", "#b3261e"
CHANNELS = ("#8fb8e8", "#f5c48a", "#a5d6a7")  # light enough for dark text

# One channel: uint8 codes in, uint8 codes out.
INPUT_SCALE, INPUT_ZERO_POINT = 0.04, 110
WEIGHT, BIAS, MEAN, VAR = 1.4, 0.5, -0.3, 1.1
OUTPUT_SCALE, OUTPUT_ZERO_POINT = 0.032, 90
CLOSE_UP = 150, 156

STYLE: dict[Any, Any] = {
    "font.size": 10.5,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "svg.hashsalt": "bytenorm",  # the same file every time
}


def one_channel() -> tuple[np.ndarray, np.ndarray, float, float]:
    """Return the 256 inputs of a channel, their codes, and the slope and intercept between them."""
    inputs = np.arange(256, dtype=np.uint8)
    q = bn.QuantizedTensor(inputs[:, np.newaxis], INPUT_SCALE, INPUT_ZERO_POINT)
    codes = bn.quantized_batch_norm(
        q, [WEIGHT], [BIAS], [MEAN], [VAR], 1e-5, OUTPUT_SCALE, OUTPUT_ZERO_POINT
    ).data[:, 0]
    inverse = 1 / np.sqrt(VAR + 1e-5)
    slope = inverse * WEIGHT * INPUT_SCALE / OUTPUT_SCALE
    intercept = (BIAS - MEAN * inverse * WEIGHT) / OUTPUT_SCALE
    return inputs, codes, slope, intercept


def plain(axes: Axes) -> None:
    """Leave only the two axes and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def draw_whole_channel(axes: Axes) -> None:
    """Draw all 256 inputs of a channel and what each part of the picture is called."""
    inputs, codes, slope, intercept = one_channel()
    line = slope * (inputs - float(INPUT_ZERO_POINT)) + intercept + OUTPUT_ZERO_POINT
    axes.axhspan(255, 330, color=GRID, alpha=0.6, linewidth=0)
    axes.axhspan(-75, 0, color=GRID, alpha=0.6, linewidth=0)
    axes.axvline(INPUT_ZERO_POINT, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.axhline(OUTPUT_ZERO_POINT, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.plot(inputs, line, color=LINE, linewidth=1.2)
    axes.step(inputs, codes, where="mid", color=STEP, linewidth=1.8)

    x, y = float(INPUT_ZERO_POINT), OUTPUT_ZERO_POINT + intercept
    axes.annotate("", (x, y), (x, OUTPUT_ZERO_POINT), arrowprops={"arrowstyle": "<->", "color": MARK, "shrinkA": 0,
                                                                  "shrinkB": 0})  # fmt: skip
    axes.text(x + 4, (y + OUTPUT_ZERO_POINT) / 2 - 3, "intercept", color=MARK, va="center")
    axes.text(63, (line[66] + line[96]) / 2, "slope", color=LINE, ha="right", va="center")
    axes.plot([66, 66, 96], [line[66], line[96], line[96]], color=LINE, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.text(253, OUTPUT_ZERO_POINT - 10, "output zero point", color=SOFT, ha="right", va="center")
    axes.text(INPUT_ZERO_POINT + 4, -40, "input zero point", color=SOFT, ha="left", va="center")
    axes.text(4, 292, "clamped to 255", color=SOFT, va="center")
    axes.text(253, -40, "clamped to 0", color=SOFT, ha="right", va="center")
    first, last = CLOSE_UP
    width, height = last - first + 3, line[last] - line[first] + 6
    frame = Rectangle((first - 2, line[first] - 4), width, height, fill=False, edgecolor=SOFT, linewidth=0.9)
    axes.add_patch(frame)
    axes.text(last + 4, line[first] - 2, "close up", color=SOFT, va="center")
    axes.set(xlim=(0, 255), ylim=(-75, 330), xticks=[0, 64, 128, 192, 255], yticks=[0, 64, 128, 192, 255])
    axes.set(xlabel="code in", ylabel="code out")
    axes.set_title("one channel: 256 codes in, each with one code out", fontsize=11)


def draw_close_up(axes: Axes) -> None:
    """Draw a few steps: the line, and the codes it is rounded to."""
    inputs, codes, slope, intercept = one_channel()
    part = slice(*CLOSE_UP)
    x = inputs[part].astype(float)
    line = slope * (x - INPUT_ZERO_POINT) + intercept + OUTPUT_ZERO_POINT
    axes.plot(x, line, color=LINE, linewidth=1.2)
    axes.vlines(x, np.minimum(line, codes[part]), np.maximum(line, codes[part]), color=MARK, linewidth=2.2)
    axes.plot(x, line, "o", color=LINE, markersize=3.5)
    axes.plot(x, codes[part], "s", color=STEP, markersize=6)
    low, high = int(codes[part].min()), int(codes[part].max())
    axes.set(xlim=(x[0] - 0.7, x[-1] + 0.7), ylim=(low - 1.5, high + 1.5))
    axes.set_xticks(x, [f"{v:.0f}" for v in x])
    axes.set_yticks(range(low, high + 1))
    axes.set(xlabel="code in")
    for line_number, (text, color) in enumerate(
        (("the exact value", LINE), ("its code", STEP), ("rounding, at most half a step", MARK))
    ):
        axes.text(0.03, 0.94 - 0.075 * line_number, text, color=color, transform=axes.transAxes, va="center",
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    axes.set_title("close up", fontsize=11)


def draw_channel() -> Figure:
    """Draw one channel as a whole and close up."""
    figure = Figure(figsize=(9.6, 4.1), facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    for axes, draw in ((left, draw_whole_channel), (right, draw_close_up)):
        plain(axes)
        draw(axes)
    figure.subplots_adjust(left=0.065, right=0.985, bottom=0.13, top=0.92, wspace=0.14)
    return figure


WIDTH = 24  # bytes shown of each layout


def strip(axes: Axes, y: float, channels: list[int | None]) -> None:
    """Draw bytes of memory side by side, each in the colour of its channel; None is a byte of something else."""
    for i, channel in enumerate(channels):
        color = "#f3f4f6" if channel is None else CHANNELS[channel]
        axes.add_patch(Rectangle((i, y), 1, 1, facecolor=color, edgecolor="white", linewidth=1.2))
        if channel is not None:
            axes.text(i + 0.5, y + 0.47, "abc"[channel], ha="center", va="center", fontsize=9)


def vector(axes: Axes, y: float, width: int, text: str) -> None:
    """Draw the bytes that one instruction loads, and say what their parameters are."""
    axes.add_patch(Rectangle((0, y - 0.12), width, 1.24, fill=False, edgecolor=INK, linewidth=1.5))
    axes.plot([width / 2, width / 2], [y - 0.15, y - 0.7], color=INK, linewidth=1)
    axes.text(0, y - 1.15, text, ha="left", va="center", fontsize=9.5, color=INK)


def draw_layouts() -> Figure:
    """Draw how the bytes of three channels lie in memory in each layout."""
    figure = Figure(figsize=(9.6, 4.2), facecolor="white")
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    rows: list[tuple[str, str, list[int | None], str]] = [
        (
            "planes",
            "channels first (NCHW): one channel's bytes lie together",
            [*[0] * 8, *[1] * 8, *[2] * 8],
            "a vector has one channel: its parameters or its table stay in registers for the whole plane",
        ),
        (
            "rows",
            "channels last (NHWC, and 2-D): one pixel's bytes lie together",
            [0, 1, 2] * 8,
            "a vector has many channels: the parameters are a vector too, one entry a lane",
        ),
        (
            "strided",
            "anything else, such as every second column",
            [cell for channel in (0, 1, 2) for _ in range(4) for cell in (channel, None)],
            "no vector: one byte after another through the table of its channel",
        ),
    ]
    for i, (name, title, channels, text) in enumerate(rows):
        y = 9.4 - 4.1 * i
        axes.text(0, y + 1.75, name, fontweight="bold", va="center")
        axes.text(2.6, y + 1.75, title, va="center", color=SOFT)
        strip(axes, y, channels)
        vector(axes, y, 8 if i < 2 else 1, text)
    axes.set(xlim=(-0.2, WIDTH + 0.2), ylim=(-0.6, 12.0))
    axes.axis("off")
    return figure


def draw_correction() -> Figure:
    """Draw a channel whose numbers quantization moved, and what a norm makes of them before and after."""
    rng = np.random.default_rng(0)
    real = np.abs(rng.normal(1.0, 0.5, (200_000, 1))) + 0.1  # in the float network, behind a Relu
    moved = bn.quantize_per_tensor(0.86 * real + 0.21 + rng.normal(0, 0.03, real.shape), 0.02, 0, bn.quint8)
    mean, var = real.mean(0), real.var(0)
    norm = bn.BatchNorm([1.0], [0.0], mean, var, output_scale=0.03, output_zero_point=100)
    seen = ChannelStatistics(1)
    seen.update(moved)
    corrected = reestimate(norm, seen, reference=(mean, var))
    panels = (
        ("what the norm reads", real, ((moved.dequantize(), "8 bits: moved and narrower", LINE),)),
        (
            "what the norm makes of it",
            (real - mean) / np.sqrt(var),
            (
                (norm(moved).dequantize(), "8 bits", LINE),
                (corrected(moved).dequantize(), "8 bits, corrected", STEP),
            ),
        ),
    )
    figure = Figure(figsize=(9.6, 3.3), facecolor="white")
    for axes, (title, wanted, others) in zip(figure.subplots(1, 2), panels, strict=True):
        plain(axes)
        edges = np.linspace(wanted.min() - 0.2, np.quantile(wanted, 0.9995), 44)  # wider than a step
        middles = (edges[:-1] + edges[1:]) / 2
        axes.fill_between(middles, np.histogram(wanted, edges)[0] / wanted.size, color=GRID, label="float")
        for values, label, color in others:
            # Codes are spread over a few steps, else their comb hides what the picture is about.
            spread = values + rng.normal(0, 0.06, values.shape)
            share = np.histogram(spread, edges)[0] / values.size
            axes.plot(middles, share, color=color, linewidth=1.8, label=label)
        axes.set(yticks=[], ylim=(0, None), xlim=(edges[0], edges[-1]))
        axes.set_title(title, fontsize=11)
        axes.legend(frameon=False, fontsize=9.5)
    figure.subplots_adjust(left=0.02, right=0.985, bottom=0.1, top=0.9, wspace=0.06)
    return figure


NETWORKS = {
    "densenet121": "DenseNet-121, 62 norms that stay",
    "resnet50v2": "pre-activation ResNet-50, 17 norms that stay",
}
CONTESTANTS = {
    "ORT float": "float",
    "ORT stock QDQ": "8 bits: ONNX Runtime's own",
    "bytenorm portable": "bytenorm, standard ONNX",
    "bytenorm fused": "bytenorm, own operators",
    "OpenVINO, NNCF": "NNCF in OpenVINO",
}


def draw_networks() -> Figure:
    """Draw how long whole networks take: the networks of benchmarks/cpus."""
    path = Path(__file__).parent.parent / "benchmarks" / "cpus" / "zen4-avx512vbmi" / "networks.json"
    measured = json.loads(path.read_text(encoding="utf-8"))["networks"]
    figure = Figure(figsize=(6.2, 4.2), facecolor="white")  # narrow, for telephones
    for axes, (network, title) in zip(figure.subplots(2, 1), NETWORKS.items(), strict=True):
        rows = {row["name"]: row for row in measured[network]["rows"]}
        milliseconds = [1000 * rows[name]["timing"]["median"] for name in CONTESTANTS]
        colors = [STEP if "bytenorm" in name else CHANNELS[1] if "NNCF" in name else GRID for name in CONTESTANTS]
        bars = axes.barh(list(CONTESTANTS.values()), milliseconds, color=colors, height=0.68)
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=9.5)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.set(xticks=[], xlim=(0, 1.12 * max(milliseconds)))
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_title(title, fontsize=11, loc="left")
        axes.invert_yaxis()
    figure.text(
        0.985,
        0.015,
        "milliseconds an image, one thread, ONNX Runtime unless said",
        ha="right",
        color=SOFT,
        fontsize=9,
    )
    figure.subplots_adjust(left=0.35, right=0.985, bottom=0.06, top=0.93, hspace=0.22)
    return figure


def main() -> None:
    """Write all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", default="svg", choices=("svg", "png"), help="file format (default: svg)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder (default: docs)")
    arguments = parser.parse_args()
    pictures = {
        "channel": draw_channel, "layouts": draw_layouts, "correction": draw_correction, "networks": draw_networks,
    }  # fmt: skip
    for name, draw in pictures.items():
        with rc_context(STYLE):
            path = arguments.output / f"{name}.{arguments.format}"
            metadata = {"Date": None} if arguments.format == "svg" else None
            draw().savefig(path, dpi=150, metadata=metadata)


if __name__ == "__main__":
    main()
