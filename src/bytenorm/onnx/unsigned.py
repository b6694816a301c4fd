"""Writes int8 activations as uint8: codes and zero points 128 higher, the same numbers.

On x86 ONNX Runtime runs 8-bit layers on uint8 and turns pairs of QuantizeLinear and DequantizeLinear from int8 to
uint8 by itself, but not next to operators that name int8 bytes themselves, as a lowered norm does: the layers
around it would fall back to float, three times as slow as the whole network was before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .graph import Graph, is_op

if TYPE_CHECKING:
    from onnx import NodeProto


def make_unsigned(graph: Graph) -> None:
    """Rewrite every int8 tensor that QuantizeLinear makes and only its own DequantizeLinear reads.

    A graph with operators on bytes is left alone: there the types of neighbours are written down in many places.

    Parameters
    ----------
    graph : Graph
        Changed in place.
    """
    if any(node.op_type.startswith(("QLinear", "QGemm")) for node in graph.nodes):
        return
    for node in graph.nodes:
        zero_point = _signed_zero_point(graph, node)
        if zero_point is None or graph.is_read_elsewhere(node.output[0]):
            continue
        readers = graph.readers(node.output[0])
        if not all(_undoes(graph, reader, node, zero_point) for reader in readers):
            continue
        moved = graph.add_constant(f"{node.output[0]}/unsigned_zero_point", np.asarray(zero_point + 128, np.uint8))
        for n in (node, *readers):
            graph.set_input(n, 2, moved)
        graph.forget_type(node.output[0])


def _signed_zero_point(graph: Graph, node: NodeProto) -> int | None:
    if not is_op(node, "QuantizeLinear") or len(node.input) < 3:
        return None
    value = graph.constant(node.input[2])
    return int(value.ravel()[0]) if value is not None and value.dtype == np.int8 and value.size == 1 else None


def _undoes(graph: Graph, reader: NodeProto, quantize: NodeProto, zero_point: int) -> bool:
    if not is_op(reader, "DequantizeLinear") or len(reader.input) < 3 or reader.input[0] != quantize.output[0]:
        return False
    scales = [graph.constant(n.input[1]) for n in (quantize, reader)]
    value = graph.constant(reader.input[2])
    return (
        scales[0] is not None
        and scales[1] is not None
        and np.array_equal(scales[0].ravel(), scales[1].ravel())
        and value is not None
        and np.array_equal(value.ravel(), [zero_point])
    )
