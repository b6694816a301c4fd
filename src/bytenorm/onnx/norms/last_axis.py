"""Norms whose channels are the last axis, as dense and recurrent layers of Keras have them, between Transposes.

A norm of axis 1 between two Transposes computes the same, and is what the rest looks for: the Transposes move
codes then, and ONNX Runtime's optimizer cancels those that meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from ..graph.graph import Graph, is_op, label
from ..graph.moves import permutation
from ..graph.transposes import to_last
from .code_paths import CodePaths
from .qparams import qparams
from .spellings import written_out
from .surroundings import activation_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from .norm import Norm


def to_axis_1(graph: Graph, apart: Container[str] = ()) -> bool:
    """Put Transposes around the norms of the last axis that read and make 8-bit numbers.

    Parameters
    ----------
    graph : Graph
        Changed in place.
    apart : container of str, optional
        Labels of nodes that stay where they are.

    Returns
    -------
    bool
        Whether there was any.
    """
    paths = CodePaths(graph)  # what is put before a norm here changes none of those before it

    def runs_in_8_bits(norm: Norm) -> bool:
        if norm.written.startswith("QLinear"):
            return True
        return paths.is_per_tensor(norm.input) and _is_quantized(graph, norm.output)

    return _move(graph, apart, runs_in_8_bits)


def float_to_axis_1(graph: Graph, apart: Container[str] = ()) -> Graph:
    """Put Transposes around the norms of the last axis of a model in float.

    Parameters
    ----------
    graph : Graph
        Its model is changed in place. Of no use any more.
    apart : container of str, optional
        Labels of nodes that stay where they are.

    Returns
    -------
    Graph
        Of the same model.
    """

    def is_in_float32(norm: Norm) -> bool:
        return graph.type_of(norm.input)[0] == TensorProto.FLOAT

    return graph.finished() if _move(graph, apart, is_in_float32) else graph


def cancel_transposes(graph: Graph, norms: Iterable[Norm]) -> None:
    """Take out Transposes that undo the one before them, as are left where a norm is gone from between.

    Parameters
    ----------
    graph : Graph
        Changed in place; the caller finishes it.
    norms : iterable of Norm
        Of the graph; those that read such a Transpose read what was before both.
    """
    for node in graph.nodes:
        before = graph.maker(node.input[0]) if is_op(node, "Transpose") else None
        if before is None or not is_op(before, "Transpose") or graph.is_read_elsewhere(node.output[0]):
            continue
        shape = graph.type_of(before.input[0])[1]
        there, back = (permutation(one, None if shape is None else len(shape)) for one in (before, node))
        if there and back and len(there) == len(back) and all(there[i] == at for at, i in enumerate(back)):
            graph.remove(node)
            graph.redirect(node.output[0], before.input[0])
            for norm in norms:
                if norm.input == node.output[0]:
                    norm.input = before.input[0]


def _move(graph: Graph, apart: Container[str], is_wanted: Callable[[Norm], bool]) -> bool:
    """Put Transposes around wanted norms of the last axis; say whether there was any."""
    done: set[int] = set()
    changed = False
    for node in graph.nodes:
        norm = written_out(graph, node, axis=-1) if id(node) not in done else None
        shape = graph.type_of(norm.input)[1] if norm is not None else None
        if norm is None or shape is None or len(shape) < 3:
            continue
        done.update(id(n) for n in norm.nodes)
        if any(label(n) in apart for n in norm.nodes):
            continue
        if is_wanted(norm) and not _ends_layer_norm(graph, norm.input):
            _transpose(graph, norm, len(shape))
            changed = True
    return changed


def _ends_layer_norm(graph: Graph, tensor: str) -> bool:
    """Say whether a tensor is one divided by a number of its own for each place: gain and shift of that follow."""
    maker = graph.maker(tensor)
    while is_op(maker, "QuantizeLinear", "DequantizeLinear") and maker is not None:
        maker = graph.maker(maker.input[0])
    if maker is None or not is_op(maker, "Div", "Mul"):
        return False
    shapes = [graph.type_of(operand)[1] for operand in maker.input if graph.constant(operand) is None]
    return len(shapes) == 2 and any(shape is not None and shape[-1:] == (1,) for shape in shapes)


def _is_quantized(graph: Graph, tensor: str) -> bool:
    """Say whether a tensor, or what an activation makes of it, is quantized."""
    reader = graph.only_reader(tensor)
    if reader is not None and activation_limits(graph, reader) is not None:
        reader = graph.only_reader(reader.output[0])
    q = qparams(graph, reader, 1, reader.output[0], "")[0] if is_op(reader, "QuantizeLinear") and reader else None
    return q is not None and q.per_tensor


def _transpose(graph: Graph, norm: Norm, rank: int) -> None:
    first, last = norm.nodes[0], norm.nodes[-1]
    to_first = [int(axis) for axis in np.argsort(to_last(rank))]
    moved = graph.new_name(f"{norm.input}/channels_first")
    graph.make("Transpose", [norm.input], moved, f"{norm.input}/to_channels_first", perm=to_first)
    graph.set_input(first, list(first.input).index(norm.input), moved)
    for node in norm.nodes:
        for at, tensor in enumerate(node.input):
            value = graph.constant(tensor)
            if value is not None and value.size > 1:
                column = value.reshape(-1, *[1] * (rank - 2))
                graph.set_input(node, at, graph.add_constant(f"{tensor}/column", column))
    for node in (*norm.nodes, *norm.between):  # whoever looks for a tensor by its name finds none with turned axes
        turned = {made: graph.new_name(f"{made}/channels_first") for made in node.output}
        graph.remove(node)
        node.name = node.name or graph.new_node_name(label(node))
        node.output[:] = turned.values()
        graph.add(node)
        if node is not last:
            for made, name in turned.items():
                graph.redirect(made, name)
    graph.make("Transpose", [last.output[0]], norm.output, f"{norm.output}/to_channels_last", perm=to_last(rank))
