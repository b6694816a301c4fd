"""Finds the batch norms of a graph, however they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto

from ..graph.graph import all_graphs, attribute, is_op, label, subgraphs, type_name
from ..graph.qlinear_conv import codes_conv, is_norm
from ..operators.schema import ADD, CONCAT, SINGLE, SUM, norm_schema
from .norm import Norm
from .qparams import BYTES
from .spellings import standard, written_out
from .surroundings import look_around

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from onnx import ModelProto, NodeProto

    from ..graph.graph import Graph
    from .qparams import QParams

    Source = Callable[["Norm"], tuple["QParams | None", str]]


def find_norms(graph: Graph, apart: Container[str] = (), source: Source | None = None) -> list[Norm]:
    """Find every batch norm of the main graph, in its order, with what surrounds it.

    Parameters
    ----------
    graph : Graph
        Not changed.
    apart : container of str, optional
        Labels of nodes that a BatchNormalization beside them is not one norm with.
    source : callable, optional
        Says how what a norm reads is quantized, or why it is not; without it, what a DequantizeLinear says.

    Returns
    -------
    list of Norm
    """
    found: list[Norm] = []
    taken: set[int] = set()
    for node in graph.nodes:
        if id(node) in taken:
            continue
        norm = written_out(graph, node, apart) or standard(graph, node) or _lowered(graph, node)
        if norm is not None:
            taken.update(id(n) for n in norm.nodes)
            if not norm.lowered:
                _require_floats(graph, norm)
                look_around(graph, norm, source)
            found.append(norm)
    return found


def _require_floats(graph: Graph, norm: Norm) -> None:
    data_type = graph.type_of(norm.input)[0]
    if data_type not in (0, TensorProto.FLOAT, *BYTES):
        norm.problem, norm.in_float32 = norm.problem or f"it works in {type_name(data_type)}", False


def find_hidden(graph: Graph) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Yield batch norms inside subgraphs (of If, Loop, Scan), each with the node of the main graph it is in."""
    for node in graph.nodes:
        for subgraph in subgraphs(node):
            for inner in (inner for part in all_graphs(subgraph) for inner in part.node):
                if is_op(inner, "BatchNormalization"):
                    yield inner, node


# Norms that are lowered already

PREPARED = "bytenorm.prepared"  # what a model's metadata calls the norms in disguise
LOWERED = "bytenorm.lowering"  # what a model's metadata calls the way in which its norms were lowered


def is_prepared(model: ModelProto) -> bool:
    """Say whether a model holds norms in disguise."""
    return any(entry.key == PREPARED for entry in model.metadata_props)


def _has_lowered_norms(model: ModelProto) -> bool:
    return any(entry.key == LOWERED for entry in model.metadata_props)


_PATTERNS = {SINGLE: "single", CONCAT: "concat", ADD: "add", SUM: "add"}


def tensors_read(norm: Norm) -> list[str]:
    """Return what a norm reads: one tensor, or those that it joins or sums."""
    node = norm.nodes[0]
    schema = norm_schema(node)
    return [norm.input] if schema is None else schema.read(node)


def _lowered(graph: Graph, node: NodeProto) -> Norm | None:
    schema = norm_schema(node)
    if schema is not None:
        norm = Norm(label(node), node.op_type, [node], schema.read(node)[0], node.output[0], lowered=True)
        norm.pattern = _PATTERNS[schema] + (" + pool" if attribute(node, "pool", 0) else "")
        weight = graph.constant(schema.of(node, "scale"))
        norm.channels = None if weight is None else int(weight.size)
        return norm
    conv = codes_conv(graph, node)
    if conv is None or not is_norm(graph, node, conv):
        return None
    channels = attribute(node, "group", 1)
    # In a model that was not lowered it is more likely a convolution of its own.
    if (node.op_type == "Conv" or channels == 1) and not _has_lowered_norms(graph.model):
        return None
    written = f"depthwise {node.op_type}"
    return Norm(label(node), written, [node], conv.x.codes, conv.y.codes, channels, lowered=True)
