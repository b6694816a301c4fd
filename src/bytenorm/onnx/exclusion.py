"""Which nodes ONNX Runtime's quantizer has to leave as they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .graph import all_graphs, is_op, label
from .norms import activation_limits

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx
    from onnx import NodeProto

    from .graph import Graph

# What has a range of its own behind it when it is quantized.
_OWN_RANGE = ("Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool")


def named_nodes(model: onnx.ModelProto, names: Collection[str]) -> list[NodeProto]:
    """Return the nodes of a model's main graph that messages call by one of these names.

    Raises
    ------
    ValueError
        If there is no such node, in subgraphs neither.
    """
    known = {label(node) for part in all_graphs(model.graph) for node in part.node}
    for name in names:
        if name not in known:
            raise ValueError(f"nodes_to_exclude: the model has no node {name!r}")
    return [node for node in model.graph.node if label(node) in names]


def needed_activations(
    graph: Graph, marks: Collection[str], quant_format: str, *, chosen: bool
) -> list[NodeProto]:
    """Return the Relu and Clip nodes that have to run as they are.

    ONNX Runtime's quantizer drops each behind a quantized tensor, and lets the range of its codes do the work.
    That fails where 0 is not within the limits, since every range has a code for 0; where limits are computed,
    since a range is not; and where a subgraph or an output of the model has what comes before the limits. In
    QOperator format it fails, too, where the tensor has other readers or takes its range from what is before it.

    Parameters
    ----------
    graph : Graph
        As the quantizer gets it.
    marks : collection of str
        The names of the nodes that stand for norms.
    quant_format : {"QDQ", "QOperator"}
    chosen : bool
        Whether the ranges behind norms are chosen for the least error: such a one begins at 0 behind a Relu, but
        may reach beyond the limits of a Clip, and knows nothing of a second activation.
    """
    needed = []
    for node in graph.nodes:
        if not is_op(node, "Relu", "Clip"):
            continue
        limits, maker = activation_limits(graph, node), graph.maker(node.input[0])
        if (
            limits is None
            or not limits[0] <= 0 <= limits[1]
            or graph.is_read_elsewhere(node.input[0])
            or graph.is_captured(node.output[0])
            or (chosen and is_op(maker, "Relu", "Clip"))
            or (chosen and maker is not None and maker.name in marks and limits != (0, math.inf))
            or (quant_format == "QOperator" and not _has_its_range(graph, node))
        ):
            needed.append(node)
    return needed


def _has_its_range(graph: Graph, activation: NodeProto) -> bool:
    tensor = activation.input[0]
    return graph.only_reader(tensor) is not None and is_op(graph.maker(tensor), *_OWN_RANGE)


def with_name(graph: Graph, node: NodeProto) -> str:
    """Return the name of a node; it gets what messages call it if it has none."""
    node.name = node.name or graph.new_node_name(label(node))
    return node.name
