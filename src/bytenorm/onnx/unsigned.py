"""Writes int8 activations as uint8: codes and zero points 128 higher, the same numbers.

On x86 ONNX Runtime runs 8-bit layers on uint8 and turns pairs of QuantizeLinear and DequantizeLinear from int8 to
uint8 by itself, but not next to operators that name int8 bytes themselves, as a lowered norm does: the layers
around it would fall back to float, three times as slow as the whole network was before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from .formats import has_operators_on_bytes
from .graph import Graph, is_op
from .norms import qparams

if TYPE_CHECKING:
    from onnx import NodeProto

    from .norms import QParams


def make_unsigned(graph: Graph) -> None:
    """Rewrite every int8 tensor that QuantizeLinear makes and only its own DequantizeLinear reads.

    A graph with operators on bytes is left alone: there the types of neighbours are written down in many places.

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
        if q is None or not q.per_tensor or not q.signed or graph.is_read_elsewhere(node.output[0]):
            continue
        readers = graph.readers(node.output[0])
        if not all(_undoes(graph, reader, q) for reader in readers):
            continue
        zero_point = np.asarray(q.zero_point.astype(np.int16) + 128, np.uint8)
        moved = graph.add_constant(f"{node.output[0]}/unsigned_zero_point", zero_point)
        for n in (node, *readers):
            graph.set_input(n, 2, moved)
        for a in [a for a in node.attribute if a.name == "output_dtype"]:  # the zero point says it
            node.attribute.remove(a)
        graph.change_type(node.output[0], TensorProto.UINT8)


def _undoes(graph: Graph, reader: NodeProto, q: QParams) -> bool:
    if not is_op(reader, "DequantizeLinear") or reader.input[0] != q.codes:
        return False
    read, _ = qparams(graph, reader, 1, q.codes, "")
    return read is not None and read.equals(q)
