"""Norms whose channels are the last axis, as dense and recurrent layers of Keras have them, between Transposes.

A norm of axis 1 between two Transposes computes the same, and is what the rest looks for: the Transposes move
codes then, and ONNX Runtime's optimizer cancels those that meet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .channels_last import to_last
from .code_paths import CodePaths
from .graph import Graph, is_op
from .norms import activation_limits, qparams

if TYPE_CHECKING:
    from onnx import NodeProto

    from .graph import Array

_SCALING, _SHIFTING = ("Mul", "Div"), ("Add", "Sub")


@dataclass
class _Chain:
    """Arithmetic with constants, in order; `constants` are its vectors: the node, which input, and the value."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[tuple[NodeProto, int, Array]] = field(default_factory=list)
    in_bytes: bool = False

    def is_norm(self) -> bool:
        """Say whether it scales and shifts the channels of one axis."""
        ops = {node.op_type.removeprefix("QLinear") for node in self.nodes}
        return bool(self.constants and ops & set(_SCALING) and ops & set(_SHIFTING))


def to_axis_1(graph: Graph) -> bool:
    """Put Transposes around the norms of the last axis that read and make 8-bit numbers.

    Parameters
    ----------
    graph : Graph
        Changed in place.

    Returns
    -------
    bool
        Whether there was any.
    """
    done: set[int] = set()
    changed = False
    paths = CodePaths(graph)  # what is put before a norm here changes none of those before it
    for node in graph.nodes:
        data = _data_of(graph, node)
        if id(node) in done or data is None or not _is_8_bit(paths, node, data):
            continue
        chain = _chain(graph, node)
        done.update(id(n) for n in chain.nodes)
        if chain.is_norm() and (chain.in_bytes or _is_quantized(graph, chain.nodes[-1].output[0])):
            _transpose(graph, chain, data, len(graph.type_of(data)[1] or ()))
            changed = True
    return changed


def _operands(node: NodeProto) -> tuple[int, int] | None:
    """Return which inputs of a node are its operands."""
    if is_op(node, *_SCALING, *_SHIFTING):
        return 0, 1
    if node.domain == "com.microsoft" and node.op_type in ("QLinearMul", "QLinearAdd") and len(node.input) > 6:
        return 0, 3
    return None


def _data_of(graph: Graph, node: NodeProto) -> str | None:
    """Return the one operand of a node that is not constant."""
    variable = [node.input[i] for i in _operands(node) or () if graph.constant(node.input[i]) is None]
    return variable[0] if len(variable) == 1 else None


def _is_8_bit(paths: CodePaths, node: NodeProto, data: str) -> bool:
    if node.op_type.startswith("QLinear"):
        return True
    return paths.is_per_tensor(data)


def _is_quantized(graph: Graph, tensor: str) -> bool:
    """Say whether a tensor, or what an activation makes of it, is quantized."""
    reader = graph.only_reader(tensor)
    if reader is not None and activation_limits(graph, reader) is not None:
        reader = graph.only_reader(reader.output[0])
    q = qparams(graph, reader, 1, reader.output[0], "")[0] if is_op(reader, "QuantizeLinear") and reader else None
    return q is not None and q.per_tensor


def _chain(graph: Graph, first: NodeProto) -> _Chain:
    """Follow arithmetic on the last axis, over pairs of conversions, as far as each has one reader."""
    chain = _Chain(in_bytes=first.op_type.startswith("QLinear"))
    node: NodeProto | None = first
    while node is not None:
        data = _data_of(graph, node)
        shape = graph.type_of(data)[1] if data is not None else None
        if data is None or shape is None or len(shape) < 3:
            break
        if chain.in_bytes != node.op_type.startswith("QLinear"):
            break
        at = next(i for i in _operands(node) or () if node.input[i] != data)
        value = graph.constant(node.input[at])
        assert value is not None
        if value.ndim > len(shape) or (value.size > 1 and value.shape[-1] != value.size):
            break
        if value.size > 1:
            if shape[-1] not in (None, value.size):
                break
            chain.constants.append((node, at, value))
        chain.nodes.append(node)
        node = _follower(graph, node)
    return chain


def _follower(graph: Graph, node: NodeProto) -> NodeProto | None:
    """Return the one reader of what a node makes, over a pair of conversions that stands for no Relu."""
    made, behind = node.output[0], graph.only_reader(node.output[0])
    if node.op_type.startswith("QLinear"):
        q, _ = qparams(graph, node, 6, made, "")
    elif behind is not None and is_op(behind, "QuantizeLinear"):
        q, _ = qparams(graph, behind, 1, behind.output[0], "")
        pair = graph.only_reader(behind.output[0])
        behind = (
            graph.only_reader(pair.output[0]) if pair is not None and is_op(pair, "DequantizeLinear") else None
        )
    else:
        return behind
    return behind if q is not None and q.per_tensor and 0 not in q.range() else None


def _transpose(graph: Graph, chain: _Chain, data: str, rank: int) -> None:
    first, last = chain.nodes[0], chain.nodes[-1]
    to_first = [int(axis) for axis in np.argsort(to_last(rank))]
    moved = graph.new_name(f"{data}/channels_first")
    graph.make("Transpose", [data], moved, f"{data}/to_channels_first", perm=to_first)
    graph.set_input(first, list(first.input).index(data), moved)
    for node, at, value in chain.constants:
        column = value.reshape(-1, *[1] * (rank - 2))
        graph.set_input(node, at, graph.add_constant(f"{node.input[at]}/column", column))
    made = last.output[0]
    graph.remove(last)
    last.output[0] = graph.new_name(f"{made}/channels_first")
    graph.add(last)
    graph.make("Transpose", [last.output[0]], made, f"{made}/to_channels_last", perm=to_last(rank))
