"""Tensors that a branch or the body of a loop reads from the graph around it, behind codes.

ONNX Runtime (1.32) moves conversions past nodes that only move numbers. Where such a node's result is read within
another node, it ends the process while it makes a session. The smallest such model is a DequantizeLinear, then a
Reshape, then an If whose branch reads that. Of some twenty operators tried it did so with the six below. A pair of
conversions behind the node keeps it from moving any, and changes no number: the node makes numbers of that scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .conversion_pairs import add_pair
from .graph import captured_by, is_conversion, is_op

if TYPE_CHECKING:
    from onnx import NodeProto

    from ..model.soundness import Part
    from .graph import Graph

_MOVING = ("MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_NOTHING = ("Identity", "Dropout")  # which ONNX Runtime removes first


def captured_behind_codes(part: Part) -> Iterator[tuple[str, NodeProto]]:
    """Yield the tensors of a graph that end ONNX Runtime, with the DequantizeLinear that each comes from."""
    makers = {output: node for node in part.node for output in node.output if output}
    for tensor in sorted({name for node in part.node for name in captured_by(node)}):
        node, moved, steps = makers.get(tensor), False, 0
        while node is not None and is_op(node, *_MOVING, *_NOTHING) and node.input and steps < len(part.node):
            moved = moved or is_op(node, *_MOVING)
            node, steps = makers.get(node.input[0]), steps + 1
        if moved and node is not None and is_conversion(node, "DequantizeLinear"):
            yield tensor, node


def guard_captured(graph: Graph) -> bool:
    """Put a pair of conversions behind each of them, for :meth:`Graph.finish` to order; say if there was one."""
    found = False
    for tensor, source in captured_behind_codes(graph.proto):
        maker = graph.maker(tensor)
        scale = graph.constant(source.input[1])
        if maker is None or scale is None or scale.size != 1:  # only one scale for all codes is moved
            continue
        found = True
        before = graph.new_name(f"{tensor}/moved")
        graph.redirect(tensor, before)
        graph.remove(maker)
        maker.output[:] = [before if name == tensor else name for name in maker.output]
        graph.add(maker)
        add_pair(graph, before, source.input[1:], tensor, source)
    return found
