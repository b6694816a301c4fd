"""A float graph as norms are looked for in it: constants are constants, and what does nothing is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto, numpy_helper

from ..graph.graph import Graph, all_graphs, attribute, is_op, label, opset_of
from ..model.constants import dense
from .last_axis import float_to_axis_1

if TYPE_CHECKING:
    from collections.abc import Container

    from onnx import ModelProto, NodeProto

_FIRST_INFERRING = 7  # opset, of Dropout


def plain(graph: Graph, apart: Container[str] = ()) -> Graph:
    """Bring a float graph to the spelling in which norms are found; it computes the same.

    Weights that are only stored in 8 bits, behind a DequantizeLinear, become constants. Sparse ones are written
    out, since quantizers know none. Identity and the like go, and what no output needs. Norms of the last axis get
    Transposes around them.

    Parameters
    ----------
    graph : Graph
        Its model is changed in place. Of no use any more.
    apart : container of str, optional
        Labels of nodes that stay as they are.

    Returns
    -------
    Graph
        Of the same model.
    """
    if write_out_sparse(graph.model):
        graph = Graph(graph.model)
    changed = len(graph.needed()) < sum(1 for _ in graph.nodes)
    for node in graph.nodes:
        if label(node) in apart or not node.output or graph.is_read_elsewhere(node.output[0]):
            continue
        value = graph.constant(node.output[0]) if is_op(node, "DequantizeLinear") else None
        if value is not None:
            graph.redirect(node.output[0], graph.add_constant(f"{node.output[0]}/float", value))
        elif _does_nothing(graph, node):
            graph.redirect(node.output[0], node.input[0])
        else:
            continue
        graph.remove(node)
        changed = True
    if changed:
        graph = graph.finished()
    return float_to_axis_1(graph, apart)


def write_out_sparse(model: ModelProto) -> bool:
    """Write sparse initializers as others are, where that is not too large; say if there were any."""
    found = False
    for part in all_graphs(model.graph):
        for i in reversed(range(len(part.sparse_initializer))):
            value = dense(part.sparse_initializer[i])
            if value is not None:
                part.initializer.append(numpy_helper.from_array(value, part.sparse_initializer[i].values.name))
                del part.sparse_initializer[i]
                found = True
    return found


def _does_nothing(graph: Graph, node: NodeProto) -> bool:
    """Say whether a node hands on what it reads."""
    if not node.input or not node.input[0]:
        return False
    if is_op(node, "Identity"):
        return True
    if is_op(node, "Cast"):
        return graph.type_of(node.input[0])[0] == TensorProto.FLOAT == attribute(node, "to", 0)
    if not is_op(node, "Dropout") or any(node.output[1:]) or opset_of(graph.model) < _FIRST_INFERRING:
        return False
    training = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return not any(node.input[2:]) or (training is not None and not training.any())
