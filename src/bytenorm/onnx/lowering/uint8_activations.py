"""Writes int8 activations as uint8: codes and zero points 128 higher, the same numbers.

On x86 ONNX Runtime runs 8-bit layers on uint8. It turns pairs of QuantizeLinear and DequantizeLinear from int8 to
uint8 by itself, but not next to operators that name int8 bytes themselves, as a lowered norm does. The layers
around it would fall back to float, three times as slow as the whole network was before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from ..graph.conversion_pairs import add_pair
from ..graph.graph import Graph, is_op
from ..graph.moves import KEEPING
from ..graph.picks import PICKS, pads_with_zero, pick_problem
from ..norms.qparams import qparams
from ..operators.formats import has_operators_on_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnx import NodeProto

    from ..norms.qparams import QParams


@dataclass
class Reached:
    """Where codes go: conversions that undo theirs, what only moves or picks them, and `bounded`, by constants.

    `stubborn` is the first node that reads them in another way, `leaves` whether they leave the graph.
    """

    tensors: list[str] = field(default_factory=list)
    undo: list[NodeProto] = field(default_factory=list)
    bounded: list[NodeProto] = field(default_factory=list)
    stubborn: NodeProto | None = None
    leaves: bool = False

    def shift(self, graph: Graph, by: int, zero_point: str, data_type: int) -> None:
        """Let these nodes take the codes for others, `by` higher, of another type, with this zero point."""
        byte = np.uint8 if data_type == TensorProto.UINT8 else np.int8
        for node in self.undo:
            graph.set_input(node, 2, zero_point)
        for node in self.bounded:
            for at, bound in _bounds(node).items():
                value = graph.constant(bound)
                assert value is not None  # it was looked at
                moved = np.asarray(value.astype(np.int16) + by, byte)
                graph.set_input(node, at, graph.add_constant(f"{bound}/moved", moved))
        for tensor in self.tensors:
            graph.change_type(tensor, data_type)


def reached(graph: Graph, q: QParams) -> Reached:
    """Find where codes go, over nodes that may as well work on other codes.

    Parameters
    ----------
    graph : Graph
        Not changed.
    q : QParams
        Of the codes, per tensor.
    """
    found = Reached()
    waiting = [q.codes]
    while waiting:
        tensor = waiting.pop()
        found.tensors.append(tensor)
        found.leaves = found.leaves or graph.is_read_elsewhere(tensor)
        for node in graph.readers(tensor):
            if is_op(node, "DequantizeLinear") and _undoes(graph, node, q, tensor):
                found.undo.append(node)
            elif node.input[0] == tensor and _can_shift(graph, node):
                if _bounds(node):
                    found.bounded.append(node)
                waiting += filter(None, node.output)
            else:
                found.stubborn = found.stubborn or node
    return found


def make_unsigned(graph: Graph) -> None:
    """Rewrite every int8 tensor that QuantizeLinear makes and only its own DequantizeLinear reads.

    Between the two may be what moves codes or cuts them off. A graph with operators on bytes is left alone: there
    the types of neighbours are written down in many places.

    Parameters
    ----------
    graph : Graph
        Changed in place.
    """
    if has_operators_on_bytes(graph):
        return
    for node in graph.nodes:
        # What is quantized of a constant is a weight: int8 is the fast type for it.
        if not is_op(node, "QuantizeLinear") or graph.constant(node.input[0]) is not None:
            continue
        q, _ = qparams(graph, node, 1, node.output[0], "")
        if q is None or not q.per_tensor or not q.signed:
            continue
        readers = reached(graph, q)
        if readers.stubborn is not None or readers.leaves:
            continue
        zero_point = np.asarray(q.zero_point.astype(np.int16) + 128, np.uint8)
        moved = graph.add_constant(f"{node.output[0]}/unsigned_zero_point", zero_point)
        graph.set_input(node, 2, moved)
        readers.shift(graph, 128, moved, TensorProto.UINT8)
        for a in [a for a in node.attribute if a.name == "output_dtype"]:  # the zero point says it
            node.attribute.remove(a)


def convert_mixed(graph: Graph, nodes: Iterable[NodeProto]) -> bool:
    """Let nodes that read uint8 and int8 codes, in float, read these as uint8; say whether any was changed.

    The int8 codes themselves stay: behind the numbers that they stand for come codes 128 higher, which stand for
    the same ones. NNCF gives what a depthwise convolution reads a scale a channel, in uint8 or int8; a convolution
    that makes such in uint8 ONNX Runtime joins with its conversions, and then cannot load.

    Parameters
    ----------
    graph : Graph
        Changed in place.
    nodes : iterable of NodeProto
        Concats and sums.
    """
    changed = False
    for node in nodes:
        pieces = [(at, graph.maker(tensor)) for at, tensor in enumerate(node.input)]
        wanted: list[tuple[int, NodeProto, QParams]] = []
        for at, maker in pieces:
            if maker is None or not is_op(maker, "DequantizeLinear"):
                continue
            q, _ = qparams(graph, maker, 1, maker.input[0], "")
            if q is not None and q.signed:
                wanted.append((at, maker, q))
        # Nor does it load a concatenation of codes of several scales a piece.
        behind = graph.readers(node.output[0])
        if any(not q.per_tensor for _, _, q in wanted) and any(is_op(one, "QuantizeLinear") for one in behind):
            continue
        for at, maker, q in wanted:
            zeros = np.asarray(q.zero_point.astype(np.int16) + 128, np.uint8)
            zero_point = graph.add_constant(f"{maker.output[0]}/unsigned_zero_point", zeros)
            real = graph.new_name(f"{maker.output[0]}/unsigned")
            add_pair(graph, maker.output[0], [maker.input[1], zero_point], real, maker)
            graph.note_type(real, maker.output[0])
            graph.set_input(node, at, real)
            changed = True
    return changed


def _bounds(node: NodeProto) -> dict[int, str]:
    """Return what a Clip, Pad, Max or Min reads beside codes that are codes as well, by their places."""
    places = {"Clip": (1, 2), "Pad": (2,), "Max": range(1, len(node.input)), "Min": range(1, len(node.input))}
    return {at: node.input[at] for at in places.get(node.op_type, ()) if len(node.input) > at and node.input[at]}


def _can_shift(graph: Graph, node: NodeProto) -> bool:
    """Say whether a node does with codes what it does with the same ones so many higher."""
    if is_op(node, "Pad"):
        if pads_with_zero(node) and not _bounds(node):  # with the code 0
            return False
    elif is_op(node, *PICKS):
        if pick_problem(graph, node):
            return False
    elif not is_op(node, "Clip", "Max", "Min") and (not is_op(node, *KEEPING) or any(node.output[1:])):
        return False
    return all(graph.constant(bound) is not None for bound in _bounds(node).values())


def _undoes(graph: Graph, reader: NodeProto, q: QParams, codes: str) -> bool:
    if reader.input[0] != codes:
        return False
    read, _ = qparams(graph, reader, 1, codes, "")
    return read is not None and read.equals(q)
