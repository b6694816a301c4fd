"""Codes that are moved before they become numbers, where ONNX Runtime does not load the model otherwise.

Between an int8 DequantizeLinear and an operator in float that only moves numbers, ONNX Runtime 1.32 puts a pair of
conversions of its own behind the operator. From opset 21 on that pair says its type twice, and the step that makes
int8 codes uint8 changes one of them: "output_dtype INT8 does not match y_zero_point type UINT8". The operator does
the same with codes, and nothing is left to put a pair behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..graph.graph import Graph, is_conversion, is_op, opset_of
from ..graph.moves import KEEPING

if TYPE_CHECKING:
    from onnx import NodeProto

_SAID_TWICE = 21  # the opset whose QuantizeLinear has output_dtype
_MOVERS = (*KEEPING, "Slice")  # it puts a pair behind most of them


def move_codes_first(graph: Graph) -> None:
    """Let operators that only move numbers read int8 codes, in place, where what they make is not quantized."""
    if opset_of(graph.model) < _SAID_TWICE:
        return
    waiting = [node for node in graph.nodes if is_conversion(node, "DequantizeLinear")]
    while waiting:
        real = waiting.pop()
        if not _is_of_int8(graph, real):
            continue
        for mover in graph.readers(real.output[0]):
            if _moves(graph, mover, real.output[0]):
                waiting.append(_swapped(graph, real, mover))
    graph.finish()


def _is_of_int8(graph: Graph, real: NodeProto) -> bool:
    """Say whether codes are int8 with one scale, and no constant."""
    scale = graph.constant(real.input[1])
    zero = graph.constant(real.input[2]) if len(real.input) > 2 else None
    one = scale is not None and scale.size == 1
    return one and zero is not None and zero.dtype == np.int8 and graph.constant(real.input[0]) is None


def _moves(graph: Graph, node: NodeProto, tensor: str) -> bool:
    """Say whether a node does nothing but move a tensor, and something reads it in float."""
    if not is_op(node, *_MOVERS) or node.input[0] != tensor or len(node.output) > 1:
        return False
    behind = graph.readers(node.output[0])
    if graph.is_read_elsewhere(node.output[0]) or not behind:
        return True
    return not all(is_conversion(reader, "QuantizeLinear") for reader in behind)


def _swapped(graph: Graph, real: NodeProto, mover: NodeProto) -> NodeProto:
    """Let a mover read codes and the conversion what it makes; return the conversion."""
    made = mover.output[0]
    codes = graph.new_name(f"{made}/codes")
    graph.remove(mover)
    graph.make_like(mover, [real.input[0], *mover.input[1:]], codes, mover.name)
    return graph.make_like(real, [codes, *real.input[1:]], made, f"{made}/DequantizeLinear")
