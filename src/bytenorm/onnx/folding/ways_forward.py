"""What a norm does to a tensor, and to what nodes that do not mix its channels make of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..graph.graph import Graph, attribute, int_list, is_op, label
from ..graph.moves import axis_before, named_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from onnx import NodeProto

    Shape = tuple[int | None, ...]

_MOVES = ("Transpose", "Squeeze", "Unsqueeze")


@dataclass(frozen=True)
class Spread:
    """A gain and a shift, in float64, for each place along one axis of a tensor."""

    axis: int
    gain: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]


def spread_behind(graph: Graph, node: NodeProto, spread: Spread) -> Spread | str:
    """Return what a norm does to the output of a node that reads what it makes, as its first input.

    Parameters
    ----------
    graph : Graph
    node : NodeProto
    spread : Spread
        Of what the node reads.

    Returns
    -------
    Spread or str
        Or why the norm cannot be moved behind the node, in a few words.
    """
    name = f"the {node.op_type} {label(node)}"
    if not is_op(node, node.op_type) or (any(node.output[1:]) and not is_op(node, "Dropout")):
        return f"{name} reads it"
    if is_op(node, "Identity"):
        return spread
    if is_op(node, "Dropout"):
        training = node.input[2] if len(node.input) > 2 else ""
        value = graph.constant(training)
        drops = training and (value is None or bool(value.any()))
        return f"{name} may drop some of it" if drops else spread
    if is_op(node, *_MOVES):
        axis = _axis_behind(graph, node, spread.axis)
        return f"{name} moves its channels nobody knows where" if axis is None else replace(spread, axis=axis)
    if is_op(node, "Reshape", "Flatten"):
        made = _reshaped(graph, node, spread)
        return f"{name} does not leave its channels on one axis" if made is None else made
    pools = is_op(node, "AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool")
    if pools and spread.axis != 1:
        return f"{name} reads it along its channels"
    if is_op(node, "AveragePool") and spread.shift.any() and _counts_zeros(node):
        return f"{name} counts the zeros around it"
    if is_op(node, "MaxPool", "GlobalMaxPool", "ReduceMax") and not np.all(spread.gain > 0):
        return f"{name} reads it, and not all of its gains are positive"
    if pools:
        return spread
    if is_op(node, "ReduceMean", "ReduceMax"):
        return _reduced(graph, node, spread)
    return f"{name} reads it"


def _axis_behind(graph: Graph, node: NodeProto, axis: int) -> int | None:
    """Return the axis of what a node makes that this axis of what it reads becomes."""
    perm = int_list(node, "perm")
    shape = graph.type_of(node.output[0])[1]
    rank = len(shape) if shape is not None else len(perm) if perm is not None else 0
    return next((i for i in range(rank) if axis_before(graph, node, i) == axis), None)


def _counts_zeros(node: NodeProto) -> bool:
    """Say whether an average may have zeros in it that are none of the data's."""
    if not attribute(node, "count_include_pad", 0):
        return False
    pads = any(int_list(node, "pads") or ()) or is_padded_by_itself(node)
    return pads or bool(attribute(node, "ceil_mode", 0))


def is_padded_by_itself(node: NodeProto) -> bool:
    """Say whether the attribute `auto_pad` may let a node pad what it reads."""
    return any(a.name == "auto_pad" and a.s not in (b"", b"NOTSET", b"VALID") for a in node.attribute)


def _reduced(graph: Graph, node: NodeProto, spread: Spread) -> Spread | str:
    shape = graph.type_of(node.input[0])[1]
    axes = None if shape is None else named_axes(graph, node, len(shape))
    if axes is None or not axes or spread.axis in axes:
        return f"the {node.op_type} {label(node)} reads all of its channels at once"
    gone = 0 if attribute(node, "keepdims", 1) else sum(axis < spread.axis for axis in axes)
    return replace(spread, axis=spread.axis - gone)


# --- Reshape and Flatten --------------------------------------------------------------------------------------


def _reshaped(graph: Graph, node: NodeProto, spread: Spread) -> Spread | None:
    """Return the spread behind a Reshape or Flatten: a channel becomes a run of places, again and again."""
    before = graph.type_of(node.input[0])[1]
    if before is None or before[spread.axis] not in (None, len(spread.gain)):
        return None
    if is_op(node, "Flatten"):
        first = int(attribute(node, "axis", 1))
        first += len(before) if first < 0 else 0
        start, end, axis = (0, first, 0) if spread.axis < first else (first, len(before), 1)
        return _joined(before[start:end], spread, spread.axis - start, axis)
    wanted = graph.constant(node.input[1])
    if wanted is not None and not attribute(node, "allowzero", 0) and not np.any(wanted[: spread.axis + 1]):
        return spread  # 0 keeps an axis as it is
    behind = graph.type_of(node.output[0])[1]
    for old, new in _groups(before, behind) if behind is not None else ():
        if spread.axis in old:
            long = [i for i in new if behind is not None and behind[i] != 1] or list(new)
            if len(long) != 1:
                return None
            return _joined([before[i] for i in old], spread, spread.axis - old.start, long[0])
    return None


def _joined(dims: Sequence[int | None], spread: Spread, place: int, axis: int) -> Spread | None:
    """Return the spread along an axis made of these dimensions, of which one, at `place`, has the channels."""
    around = [*dims[:place], *dims[place + 1 :]]
    if any(dim is None for dim in around):
        return None
    outer, inner = (math.prod(dim or 0 for dim in part) for part in (dims[:place], dims[place + 1 :]))
    gain, shift = (np.tile(np.repeat(v, inner), outer) for v in (spread.gain, spread.shift))
    return Spread(axis, gain, shift)


def _groups(before: Shape, behind: Shape) -> list[tuple[range, range]]:
    """Return which axes in a row become which, in the smallest groups; none where open sizes leave that open.

    An open size stands for one unknown number: that of one axis before, and, times a whole number, behind.
    """
    open_before, open_behind = (sum(dim is None for dim in shape) for shape in (before, behind))
    known_before, known_behind = (math.prod(dim for dim in s if dim is not None) for s in (before, behind))
    if open_before > 1 or open_before != open_behind or not known_behind or known_before % known_behind:
        return []
    if not open_before and known_before != known_behind:
        return []
    # Sizes as pairs: a known factor, and how often the unknown one.
    old = [(dim, 0) if dim is not None else (1, 1) for dim in before]
    new = [(dim, 0) if dim is not None else (known_before // known_behind, 1) for dim in behind]
    made, i, j = [], 0, 0
    while i < len(old) and j < len(new):
        start_old, start_new, left, right = i, j, old[i], new[j]
        i, j = i + 1, j + 1
        while left != right:
            if left[0] <= right[0] and left[1] <= right[1] and i < len(old):
                left, i = (left[0] * old[i][0], left[1] + old[i][1]), i + 1
            elif right[0] <= left[0] and right[1] <= left[1] and j < len(new):
                right, j = (right[0] * new[j][0], right[1] + new[j][1]), j + 1
            else:
                return []
        made.append((range(start_old, i), range(start_new, j)))
    return made
