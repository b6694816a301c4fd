"""Codes that say what a tensor in float says, where quantizers leave out conversions between them and a norm.

What moves or picks numbers, takes the largest, cuts them off or joins them does the same to their codes. So a norm
behind such nodes reads codes all the same, and behind a sum the codes of all that is summed. Here is found how;
the nodes on bytes are written where a norm is lowered, and not before: one that stays in float stays as it is.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..graph.graph import Graph, is_op, label, opset_of
from ..graph.moves import KEEPING, MOVES, axis_before, axis_named
from ..graph.picks import PICKS, axis_before_pick, pads_with_zero, pick_problem
from .norm import CHANNELS
from .qparams import SUMS, Path, QParams, qparams
from .surroundings import activation_limits, quantized_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from onnx import NodeProto

    from .norm import Norm

_CUTS = ("Relu", "Clip")
_MEETING = ("Max", "Min")
_ADDITIVE = tuple(op for op, pick in PICKS.items() if pick.additive)
_OLDEST_ON_BYTES = 12  # opset, of MaxPool, Clip, Max and Min
_MOST_PIECES, _MOST_CHANNELS, _MOST_SUMMANDS = 1000, 2**20, 100
_DEEPEST = 100  # nodes behind one another; each is a call within a call


class _NoCodes(Exception):  # noqa: N818 - no error: it carries the reason
    """There are no codes; why."""


class CodePaths:
    """Finds the codes behind tensors of a graph, as it is now.

    Parameters
    ----------
    graph : Graph
        Not changed.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._found: dict[tuple[str, int | None], QParams | str] = {}
        self.mixes = False  # whether uint8 and int8 that meet stood against any
        self.mixed: dict[int, NodeProto] = {}  # the nodes where they meet

    def source(self, norm: Norm) -> tuple[QParams | None, str]:
        """Return the codes that a norm reads, by a path or as they are, or why there are none."""
        graph, maker = self._graph, self._graph.maker(norm.input)
        if not is_op(maker, *KEEPING, *PICKS, *_CUTS, *_MEETING, *SUMS, "Concat"):
            return quantized_input(graph, norm)
        try:
            found = self._sum(norm.input) or self._codes(norm.input, CHANNELS, 0)
        except _NoCodes as why:
            return None, f"its input is not quantized: {why}"
        scale, zero_point = found.scale, found.zero_point
        if norm.channels is not None and not {scale.size, zero_point.size} <= {1, norm.channels}:
            return None, f"its input has {scale.size} channels, it has {norm.channels}"
        return found, ""

    def is_per_tensor(self, tensor: str) -> bool:
        """Say whether a tensor in float has codes of one scale."""
        try:
            return self._codes(tensor, None, 0).per_tensor
        except _NoCodes:
            return False

    def _codes(self, tensor: str, axis: int | None, depth: int) -> QParams:
        """Return the codes of a tensor, which may have a scale for each place along an axis, if one is given."""
        key = tensor, axis
        if key not in self._found:
            if depth > _DEEPEST:
                raise _NoCodes("too many nodes are between it and its codes")
            try:
                self._found[key] = self._made(tensor, axis, depth + 1)
            except _NoCodes as why:
                self._found[key] = str(why)
        found = self._found[key]
        if isinstance(found, str):
            raise _NoCodes(found)
        return found

    def _made(self, tensor: str, axis: int | None, depth: int) -> QParams:
        node = self._graph.maker(tensor)
        if node is None:
            raise _NoCodes(f"{tensor} is in float")
        if is_op(node, "DequantizeLinear"):
            return self._dequantized(node, axis)
        if is_op(node, "Concat"):
            return self._joined(node, axis, depth)
        if is_op(node, *_CUTS):
            return self._cut(node, axis, depth)
        if is_op(node, *PICKS):
            return self._picked(node, tensor, axis, depth)
        if is_op(node, *_MEETING):
            return self._met(node, depth)
        if is_op(node, *KEEPING) and tensor == node.output[0]:
            return self._moved(node, axis, depth)
        raise _NoCodes(f"the {node.op_type} {label(node)} is in float")

    def _dequantized(self, node: NodeProto, axis: int | None) -> QParams:
        q, problem = qparams(self._graph, node, 1, node.input[0], node.input[0])
        if q is None:
            raise _NoCodes(problem)
        if not q.per_tensor and (axis is None or self._along(node) != axis):
            raise _NoCodes(f"{node.input[0]} is quantized along another axis than that of the channels")
        return q

    def _moved(self, node: NodeProto, axis: int | None, depth: int) -> QParams:
        if is_op(node, "MaxPool"):
            self._require_bytes(node)
            if any(node.output[1:]):
                raise _NoCodes(f"the MaxPool {label(node)} gives places, too")
            part = self._codes(node.input[0], axis, depth)
            if not part.per_tensor and axis != CHANNELS:
                raise _NoCodes(f"the MaxPool {label(node)} takes the largest of numbers of several scales")

            def joins_channels(joint: NodeProto) -> bool:
                return self._along(joint) == CHANNELS

            return _of_each(part, (node.output[0],), partial(_moved_by, node), joins_channels)
        before = None if axis is None else axis_before(self._graph, node, axis)
        return _moved_by(node, self._codes(node.input[0], before, depth), (node.output[0],))

    def _picked(self, node: NodeProto, tensor: str, axis: int | None, depth: int) -> QParams:
        problem = pick_problem(self._graph, node)
        if problem:
            raise _NoCodes(problem)
        before = None if axis is None else axis_before_pick(self._graph, node, axis)
        part = self._codes(node.input[0], before, depth)

        def joins_what_stays(joint: NodeProto) -> bool:
            along = self._along(joint)
            stays = along is not None and axis_before_pick(self._graph, node, along) is not None
            return stays and PICKS[node.op_type].of_each

        return _of_each(part, (tensor,), partial(_moved_by, node), joins_what_stays)

    def _met(self, node: NodeProto, depth: int) -> QParams:
        """Return the codes of the largest or smallest of several tensors, whose codes mean the same."""
        what = f"the {node.op_type} {label(node)}"
        self._require_bytes(node)
        parts = tuple(self._codes(part, None, depth) for part in node.input)
        self._refuse_mixed(node, parts, f"{what} reads")
        if not all(part.equals(parts[0]) for part in parts):
            raise _NoCodes(f"{what} reads codes of several scales")
        return replace(parts[0], codes="", path=Path(node, (node.output[0],), parts, off=max(map(_off, parts))))

    def _refuse_mixed(self, node: NodeProto, parts: Iterable[QParams], what: str) -> None:
        if len({part.signed for part in parts}) > 1:
            self.mixes = True
            self.mixed[id(node)] = node
            raise _NoCodes(f"{what} uint8 and int8")

    def _cut(self, node: NodeProto, axis: int | None, depth: int) -> QParams:
        limits = activation_limits(self._graph, node)
        if limits is None or limits[0] > limits[1]:
            raise _NoCodes(f"the limits of the {node.op_type} {label(node)} are not constant, or in no order")
        part = self._codes(node.input[0], axis, depth)
        made = _of_each(part, (node.output[0],), partial(_cut_by, node, limits), lambda _joint: True)
        if made is not part:  # something is cut off
            self._require_bytes(node)
        return made

    def _along(self, node: NodeProto) -> int | None:
        """Return the axis of a Concat or DequantizeLinear; None if nobody knows which it is."""
        shape = self._graph.type_of(node.output[0])[1]
        return axis_named(node, None if shape is None else len(shape))

    def _joined(self, node: NodeProto, axis: int | None, depth: int) -> QParams:
        what, along = f"the Concat {label(node)}", self._along(node)
        parts = tuple(self._codes(part, axis, depth) for part in node.input)
        if len(parts) == 1:
            return parts[0]
        self._refuse_mixed(node, parts, f"{what} joins")
        pieces = sum(1 if part.path is None else part.path.pieces for part in parts)
        path = Path(node, (node.output[0],), parts, off=max(map(_off, parts)), pieces=pieces)
        if all(part.per_tensor and part.equals(parts[0]) for part in parts):
            return replace(parts[0], codes="", path=path)
        if along is None or along != axis:
            raise _NoCodes(f"{what} joins codes of several scales along another axis than that of the channels")
        sizes = [(self._graph.type_of(part)[1] or (None,) * (along + 1))[along] for part in node.input]
        scales, zero_points = [], []
        for part, size in zip(parts, sizes, strict=True):
            if size is None:
                raise _NoCodes(f"{what} joins unknown numbers of channels")
            scales.append(np.broadcast_to(part.scale.ravel(), size))
            zero_points.append(np.broadcast_to(part.zero_point.ravel(), size))
        if not 0 < sum(map(len, scales)) <= _MOST_CHANNELS:
            raise _NoCodes(f"{what} joins {sum(map(len, scales))} channels")
        return QParams(np.concatenate(scales), np.concatenate(zero_points), path=path)

    def _require_bytes(self, node: NodeProto) -> None:
        if opset_of(self._graph.model) < _OLDEST_ON_BYTES:
            raise _NoCodes(f"the {node.op_type} {label(node)} works on bytes from opset {_OLDEST_ON_BYTES} on")

    # Sums

    def _sum(self, tensor: str) -> QParams | None:
        """Return the sum that a tensor is, moved and cut off perhaps; None if it is none."""
        moves: list[tuple[NodeProto, str]] = []
        made, numbers, deep = tensor, (-np.inf, np.inf), 0
        node = self._graph.maker(made)
        while node is not None and is_op(node, *MOVES, *_ADDITIVE, *_CUTS) and deep < _DEEPEST:
            if is_op(node, *_CUTS):
                limits = activation_limits(self._graph, node)
                if limits is None or limits[0] > limits[1]:
                    return None  # which the way to codes says
                numbers = (_within(limits[0], numbers), _within(limits[1], numbers))
            elif is_op(node, *PICKS) and pick_problem(self._graph, node):
                return None
            else:
                moves.append((node, made))
            made, deep = node.input[0], deep + 1
            node = self._graph.maker(made)
        if node is None or not is_op(node, *SUMS):
            return None
        what = f"the {node.op_type} {label(node)}"
        summands = self._summands(node)
        parts = [self._codes(part, None, deep) for part in summands]
        shapes = [self._graph.type_of(part)[1] for part in summands]
        for shape in shapes[1:]:
            problem = unlike_shapes(shapes[0], shape)
            if problem:
                raise _NoCodes(f"{what} reads {problem}")
        self._refuse_mixed(node, parts, f"{what} mixes")
        for move, moved in reversed(moves):
            parts = [_moved_by(move, part, (moved, str(i))) for i, part in enumerate(parts)]
        path = Path(node, (tensor,), tuple(parts), off=sum(map(_off, parts)), numbers=numbers)
        scale = np.asarray([sum(part.scalars[0] for part in parts)], np.float32)
        return QParams(scale, parts[0].zero_point.ravel()[:1], path=path)

    def _summands(self, node: NodeProto) -> list[str]:
        """Return what a sum is of, and the sums that it is of, which are not rounded in between."""
        found: list[str] = []
        waiting = list(reversed(node.input))
        while waiting:
            tensor = waiting.pop()
            maker = self._graph.maker(tensor)
            if maker is not None and is_op(maker, *SUMS):
                waiting += reversed(maker.input)
            else:
                found.append(tensor)
            if len(found) + len(waiting) > _MOST_SUMMANDS:
                raise _NoCodes(f"the {node.op_type} {label(node)} is of more than {_MOST_SUMMANDS} tensors")
        return found


def _of_each(
    q: QParams,
    real: tuple[str, ...],
    make: Callable[[QParams, tuple[str, ...]], QParams],
    may_part: Callable[[NodeProto], bool],
) -> QParams:
    """Return what is made of codes or, where a concatenation that may be parted joins them, of each piece."""
    path = q.path
    if path is None or not is_op(path.node, "Concat") or path.pieces > _MOST_PIECES or not may_part(path.node):
        return make(q, real)
    parts = tuple(_of_each(part, (*real, str(i)), make, may_part) for i, part in enumerate(path.parts))
    return replace(q, path=replace(path, real=real, parts=parts, off=max(map(_off, parts))))


def _within(number: float, limits: tuple[float, float]) -> float:
    return min(max(number, limits[0]), limits[1])


def _moved_by(node: NodeProto, part: QParams, real: tuple[str, ...]) -> QParams:
    if pads_with_zero(node) and np.any(part.zero_point != part.zero_point.ravel()[0]):
        raise _NoCodes(f"the Pad {label(node)} adds zeros of several codes")
    return replace(part, codes="", path=Path(node, real, (part,), off=_off(part)))


def _cut_by(node: NodeProto, limits: tuple[float, float], part: QParams, real: tuple[str, ...]) -> QParams:
    lowest = -128 if part.signed else 0
    scale, zero_point = part.scale.astype(np.float64).ravel(), part.zero_point.astype(np.int64).ravel()
    codes: list[int | None] = [None, None]
    off = 0.0
    for i, limit in enumerate(limits):
        ends = (lowest + 255 * i - zero_point) * scale
        if np.all(limit <= ends if i == 0 else limit >= ends):
            continue
        code = part.codes_of(limit)
        if np.any(code != code[0]):
            raise _NoCodes(f"the {node.op_type} {label(node)} has limits of different codes in different channels")
        codes[i] = int(code[0])
        real_limit = ((code - zero_point).astype(np.float32) * part.scale.ravel()).astype(np.float64)
        off = max(off, float(np.max(np.abs(real_limit - limit))))
    if codes == [None, None]:
        return part
    return replace(part, codes="", path=Path(node, real, (part,), (codes[0], codes[1]), _off(part) + off))


def _off(q: QParams) -> float:
    return 0.0 if q.path is None else q.path.off


def unlike_shapes(a: tuple[int | None, ...] | None, b: tuple[int | None, ...] | None) -> str:
    """Say what keeps two tensors from being added number by number; empty if nothing does."""
    if a is None or b is None:
        return "tensors of unknown shapes"
    # Sizes that nobody knows are taken to be equal, but for one that is repeated where it meets anything else.
    if len(a) != len(b) or any(m != n and (None not in (m, n) or 1 in (m, n)) for m, n in zip(a, b, strict=True)):
        return "tensors of different shapes"
    return ""
