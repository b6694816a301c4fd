"""The text of a quantized tensor, laid out as PyTorch's default print options lay it out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

PRECISION = 4
THRESHOLD = 1000  # elements; larger tensors are summarised
EDGE_ITEMS = 3
LINE_WIDTH = 80
INT64 = ", dtype=bytenorm.int64"  # said of an empty array only, whose numbers do not show it


def format_tensor(
    numbers: np.ndarray, kind: object, scheme: object, scale: object, zero_point: object, axis: int | None
) -> str:
    """Return the text of a tensor: its real numbers, then what they are made of."""
    start = "tensor("
    text = start + _array(numbers, len(start))
    parts = [f"size={numbers.shape}", f"dtype={kind!r}", f"quantization_scheme={scheme!r}"]
    if axis is None:
        parts += [f"scale={scale}", f"zero_point={zero_point}"]
    else:
        zero_points = np.asarray(zero_point)
        parts += [
            f"scale=tensor({_array(np.asarray(scale), 0)}, dtype=bytenorm.float64)",
            f"zero_point=tensor({_array(zero_points, 0)}{'' if len(zero_points) else INT64})",
            f"axis={axis}",
        ]
    column = len(text) - text.rfind("\n") - 1
    for part in parts:
        if column + len(part) + 2 > LINE_WIDTH:
            text += ",\n" + " " * len(start) + part
            column = len(start) + len(part)
        else:
            text += ", " + part
            column += len(part) + 2
    return text + ")"


class _Numbers:
    """How all numbers of one array are written: in one width, as integers, decimals or with exponents."""

    def __init__(self, values: np.ndarray) -> None:
        self.real = values.dtype.kind == "f"
        self.width = 1
        self.whole, self.scientific = True, False
        if not self.real:
            self.width = max((len(str(v)) for v in values.flat), default=1)
            return
        shown = values[np.isfinite(values) & (values != 0)]
        if shown.size == 0:
            return
        size = np.abs(shown.astype(np.float64))
        self.whole = bool((shown == np.ceil(shown)).all())
        self.scientific = bool(size.max() / size.min() > 1000.0 or size.max() > 1.0e8 or size.min() < 1.0e-4)
        self.width = max(len(self._text(v)) for v in shown.tolist())

    def _text(self, value: Any) -> str:
        if not self.real:
            return str(value)
        if self.scientific:
            return f"{value:.{PRECISION}e}"
        if self.whole:
            return f"{value:.0f}." if math.isfinite(value) else f"{value:.0f}"
        return f"{value:.{PRECISION}f}"

    def __call__(self, value: Any) -> str:
        return self._text(value).rjust(self.width)


def _array(values: np.ndarray, indent: int) -> str:
    if values.size == 0:
        return "[]"
    summarise = values.size > THRESHOLD
    return _nested(values, indent, summarise, _Numbers(_edges(values) if summarise else values))


def _edges(values: np.ndarray) -> np.ndarray:
    """Return the part of an array that a summary shows."""
    for axis, n in enumerate(values.shape):
        if n > 2 * EDGE_ITEMS:
            values = np.take(values, [*range(EDGE_ITEMS), *range(n - EDGE_ITEMS, n)], axis=axis)
    return values


def _nested(values: np.ndarray, indent: int, summarise: bool, numbers: _Numbers) -> str:
    if values.ndim == 0:
        return numbers(values.item())
    cut = summarise and len(values) > 2 * EDGE_ITEMS
    shown = [*values[:EDGE_ITEMS], *values[-EDGE_ITEMS:]] if cut else list(values)
    if values.ndim == 1:
        items = [numbers(v.item()) for v in shown]
        if cut:
            items.insert(EDGE_ITEMS, " ...")
        a_line = max(1, (LINE_WIDTH - indent) // (numbers.width + 2))
        lines = [", ".join(items[i : i + a_line]) for i in range(0, len(items), a_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    items = [_nested(v, indent + 1, summarise, numbers) for v in shown]
    if cut:
        items.insert(EDGE_ITEMS, "...")
    return "[" + ("," + "\n" * (values.ndim - 1) + " " * (indent + 1)).join(items) + "]"
