"""Whether a graph is quantized."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .graph import is_op

if TYPE_CHECKING:
    from .graph import Graph


_QUANTIZED = (
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeMatMul",
    "MatMulIntegerToFloat",
)


def is_quantized(graph: Graph) -> bool:
    """Say whether anything in a graph is quantized but constants, which some models only store in 8 bits."""
    for node in graph.nodes:
        if node.op_type not in _QUANTIZED and not node.op_type.startswith("QLinear"):
            continue
        if not is_op(node, "QuantizeLinear", "DequantizeLinear") or not _is_stored(graph, node.input[0]):
            return True
    return False


def _is_stored(graph: Graph, tensor: str) -> bool:
    """Say whether a tensor is a constant of the model, rounded perhaps."""
    maker = graph.maker(tensor)
    if maker is not None and is_op(maker, "QuantizeLinear"):
        tensor = maker.input[0]
    return graph.initializer(tensor) is not None or is_op(graph.maker(tensor), "Constant")
