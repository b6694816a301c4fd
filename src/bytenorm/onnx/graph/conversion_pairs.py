"""Pairs of conversions: behind a tensor, and as options of the quantizer want them.

These want them of ONNX Runtime's domain, or one for each reader. Norms are found among the standard ones, of which
equal ones are merged: both is written behind all else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper

from .graph import CONTRIBUTED, Graph, is_op

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto, NodeProto


def add_pair(graph: Graph, tensor: str, numbers: Sequence[str], real: str, like: NodeProto) -> None:
    """Round a tensor in float to codes and back.

    Parameters
    ----------
    graph : Graph
        Changed in place.
    tensor, real : str
        What is read, and what is made.
    numbers : sequence of str
        Scale and zero point.
    like : NodeProto
        A conversion of the same domain, along the same axis.
    """
    codes = graph.new_name(f"{real}/codes")
    axis = {a.name: a.i for a in like.attribute if a.name == "axis"}
    for op, read, made in (("QuantizeLinear", tensor, codes), ("DequantizeLinear", codes, real)):
        graph.make(op, [read, *numbers], made, f"{made}/{op}", **axis).domain = like.domain


def contribute(model: ModelProto) -> None:
    """Write conversions as ONNX Runtime's own, in place."""
    for node in model.graph.node:
        if is_op(node, "QuantizeLinear", "DequantizeLinear") and all(a.name == "axis" for a in node.attribute):
            node.domain = CONTRIBUTED
    if CONTRIBUTED not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(CONTRIBUTED, 1))


def dedicate(model: ModelProto) -> None:
    """Give each reader of an activation a pair of conversions of its own, in place."""
    graph = Graph(model)
    for node in [n for n in graph.nodes if is_op(n, "DequantizeLinear") and graph.constant(n.input[0]) is None]:
        readers = graph.readers(node.output[0])
        for reader in readers if graph.is_read_elsewhere(node.output[0]) else readers[1:]:
            real = _again(graph, node)
            for at in [at for at, tensor in enumerate(reader.input) if tensor == node.output[0]]:
                graph.set_input(reader, at, real)
    for node in [n for n in graph.nodes if is_op(n, "QuantizeLinear")]:
        readers = graph.readers(node.output[0])
        pairs = [reader for reader in readers if is_op(reader, "DequantizeLinear")]
        read = graph.is_read_elsewhere(node.output[0]) or len(pairs) < len(readers)
        for pair in pairs if read else pairs[1:]:
            graph.set_input(pair, 0, _again(graph, node))
    graph.finish()


def _again(graph: Graph, node: NodeProto) -> str:
    """Make a node once more; return what it makes."""
    made = graph.new_name(f"{node.output[0]}/own")
    graph.make_like(node, node.input, made)
    return made
