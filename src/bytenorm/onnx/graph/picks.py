"""Nodes that pick numbers: what they make are numbers that they read, at other places, or the largest of some.

Of the codes of these numbers they make the codes of what they make. A new one is an entry of `PICKS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .graph import Graph, attribute, int_list, is_op, label, opset_of, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from onnx import NodeProto

    Axes = Iterable[int] | None
    Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Pick:
    """What is asked of such a node.

    `oldest` is the opset from which it works on bytes. `along` returns the axes along which it moves numbers, of
    what it reads and makes alike, negative ones from the last; None if it has other axes, or nobody knows.
    `of_each`: of pieces along an axis that it leaves alone it makes pieces of what it makes; `additive`: of
    summands, summands.
    """

    oldest: int
    along: Callable[[Graph, NodeProto], Axes]
    of_each: bool = True
    additive: bool = True


def pick_problem(graph: Graph, node: NodeProto) -> str:
    """Say why a node of :data:`PICKS` cannot work on codes; empty if it can."""
    what = f"the {node.op_type} {label(node)}"
    oldest = PICKS[node.op_type].oldest
    if opset_of(graph.model) < oldest:
        return f"{what} works on bytes from opset {oldest} on"
    if is_op(node, "Resize") and (
        text(node, "mode", "nearest") != "nearest"
        or text(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize"
    ):
        return f"{what} makes other numbers than it reads"
    if pads_with_zero(node) and len(node.input) > 2 and node.input[2]:
        value = graph.constant(node.input[2])
        if value is None or np.any(value != 0):
            return f"{what} adds numbers that are not 0"
    shape = graph.type_of(node.input[0])[1]
    if is_op(node, "Split") and (
        shape is None or None in [_size(graph, made, _split_axis(node, shape)) for made in node.output]
    ):
        return f"{what} parts its numbers nobody knows where"
    if is_op(node, *_LARGEST) and (shape is None or 0 in shape):
        return f"{what} takes the largest of nothing, or nobody knows of what"
    return ""


def axis_before_pick(graph: Graph, node: NodeProto, axis: int) -> int | None:
    """Return the axis of what a node of :data:`PICKS` reads that it leaves alone, as this axis; None if not so."""
    along, shape = PICKS[node.op_type].along(graph, node), graph.type_of(node.input[0])[1]
    if along is None or shape is None or axis in {i + len(shape) if i < 0 else i for i in along}:
        return None
    return axis


def pads_with_zero(node: NodeProto) -> bool:
    """Say whether a node adds zeros, whose code is the zero point."""
    return is_op(node, "Pad") and text(node, "mode", "constant") == "constant"


def pick_codes(graph: Graph, node: NodeProto, real: str, codes: tuple[str, str], zero_point: np.generic) -> None:
    """Add the node on bytes that makes of codes what a node makes of their numbers.

    Parameters
    ----------
    graph : Graph
    node : NodeProto
        Of :data:`PICKS`, without a problem.
    real : str
        What it makes in float.
    codes : tuple of str
        What is read and made.
    zero_point : numpy.uint8 or numpy.int8
    """
    read, made = codes
    shape = graph.type_of(node.input[0])[1] or ()
    if is_op(node, "Split"):
        axis = _split_axis(node, shape)
        sizes = [_size(graph, output, axis) or 0 for output in node.output]
        start = sum(sizes[: list(node.output).index(real)])
        ends = start, start + sizes[list(node.output).index(real)], axis
        names = [graph.add_constant(f"{made}/slice", np.asarray([end], np.int64)) for end in ends]
        graph.make("Slice", [read, *names], made, label(node))
    elif is_op(node, "GlobalMaxPool"):
        axes = np.arange(2, len(shape))
        if opset_of(graph.model) < _AXES_AS_INPUT:
            graph.make("ReduceMax", [read], made, label(node), axes=axes.tolist())
        else:
            graph.make("ReduceMax", [read, graph.add_constant(f"{made}/axes", axes)], made, label(node))
    else:
        more = list(node.input[1:])
        if pads_with_zero(node):
            more[1:2] = [graph.add_constant(f"{made}/zero_point", np.asarray(zero_point))]
        graph.make_like(node, [read, *more], made, label(node))


def _size(graph: Graph, tensor: str, axis: int) -> int | None:
    shape = graph.type_of(tensor)[1]
    return None if shape is None or axis >= len(shape) else shape[axis]


def _split_axis(node: NodeProto, shape: Shape) -> int:
    axis: int = attribute(node, "axis", 0)
    return axis + len(shape) if axis < 0 else axis


def _ints(graph: Graph, node: NodeProto, at: int) -> list[int] | None:
    """Return the integers that a node reads at a place; None if nobody knows them, or there are none."""
    value = graph.constant(node.input[at]) if _is_given(node, at) else None
    return None if value is None or value.dtype.kind != "i" else [int(i) for i in value.ravel()]


def _is_given(node: NodeProto, at: int) -> bool:
    return len(node.input) > at and bool(node.input[at])


def _slice(graph: Graph, node: NodeProto) -> Axes:
    axes, starts = _ints(graph, node, 3), _ints(graph, node, 1)
    if _is_given(node, 3) or starts is None:
        return axes
    return range(len(starts))


def _named(_graph: Graph, node: NodeProto) -> Axes:
    return [attribute(node, "axis", 0)]


def _gather(graph: Graph, node: NodeProto) -> Axes:
    indices = graph.type_of(node.input[1])[1]
    return None if indices is None or len(indices) != 1 else [attribute(node, "axis", 0)]


def _pad(graph: Graph, node: NodeProto) -> Axes:
    pads, axes = _ints(graph, node, 1), _ints(graph, node, 3)
    if pads is None or (axes is None and _is_given(node, 3)):
        return None
    half = len(pads) // 2
    axes = list(range(half)) if axes is None else axes
    if len(pads) != 2 * len(axes):
        return None
    return [axis for axis, *ends in zip(axes, pads[:half], pads[half:], strict=True) if any(ends)]


def _resize(graph: Graph, node: NodeProto) -> Axes:
    at = 1 if len(node.input) == 2 else 2  # of opset 10, and later
    scales = graph.constant(node.input[at]) if _is_given(node, at) else None
    if scales is None or not scales.size:
        return _unlike(graph, node) if text(node, "keep_aspect_ratio_policy", "stretch") == "stretch" else None
    axes = int_list(node, "axes") or list(range(scales.size))
    return (
        None
        if len(axes) != scales.size
        else [axis for axis, scale in zip(axes, scales.ravel(), strict=True) if scale != 1]
    )


def _unlike(graph: Graph, node: NodeProto) -> Axes:
    """Return the axes of another size than before, or of none that is known."""
    before, behind = (graph.type_of(tensor)[1] for tensor in (node.input[0], node.output[0]))
    if before is None or behind is None or len(before) != len(behind):
        return None
    return [
        axis for axis, sizes in enumerate(zip(before, behind, strict=True)) if None in sizes or len({*sizes}) > 1
    ]


def _tile(graph: Graph, node: NodeProto) -> Axes:
    repeats = _ints(graph, node, 1)
    return None if repeats is None else [axis for axis, n in enumerate(repeats) if n != 1]


def _blocks(_graph: Graph, _node: NodeProto) -> Axes:
    return 1, 2, 3


def _behind_channels(graph: Graph, node: NodeProto) -> Axes:
    return range(2, len(graph.type_of(node.input[0])[1] or ()))


def _reduced(graph: Graph, node: NodeProto) -> Axes:
    if not attribute(node, "keepdims", 1):
        return None
    axes = int_list(node, "axes") or _ints(graph, node, 1)
    if axes is None and not _is_given(node, 1) and not attribute(node, "noop_with_empty_axes", 0):
        return range(len(graph.type_of(node.input[0])[1] or ()))
    return axes


_AXES_AS_INPUT = 18  # opset, of ReduceMax
_LARGEST = ("GlobalMaxPool", "ReduceMax", "ReduceMin")
PICKS = {
    "Slice": Pick(10, _slice),
    "Split": Pick(10, _named),  # written as a Slice
    "Gather": Pick(10, _gather),
    "Pad": Pick(11, _pad),
    "Tile": Pick(10, _tile),
    "Expand": Pick(10, _unlike, of_each=False),
    "Resize": Pick(10, _resize, of_each=False),  # may name the size of every axis
    "DepthToSpace": Pick(11, _blocks),
    "SpaceToDepth": Pick(10, _blocks),
    "GlobalMaxPool": Pick(12, _behind_channels, additive=False),
    "ReduceMax": Pick(12, _reduced, additive=False),
    "ReduceMin": Pick(12, _reduced, additive=False),
}
