"""Nodes that only lose in 8 bits: they stay in float, whoever quantizes.

With a calibrated scale ONNX Runtime's Softmax of codes is off by up to 1.5 codes, where rounding alone is off by
half a one. A Sigmoid is right to the code, but at an output its codes are all that is left of the numbers: 0.998
and 0.9999 are one code. In float such a node takes no time worth naming, because nothing comes behind it.

A mask of -inf has no range at all, and one of -1e9 leaves one code for all that it does not hide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..graph.graph import is_op
from ..graph.moves import MOVES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import NodeProto

    from ..graph.graph import Graph

_SQUASHING = ("Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Tanh", "Softplus", "Softsign", "Erf")
_MOVING = (*MOVES, "Cast", "Slice", "Gather", "Split")  # what passes numbers on


def squashing_ends(graph: Graph) -> list[NodeProto]:
    """Return the nodes that squash numbers and whose results go to outputs of the model alone.

    Parameters
    ----------
    graph : Graph
        In float.
    """
    return [node for node in graph.nodes if is_op(node, *_SQUASHING) and _ends(graph, node)]


def _ends(graph: Graph, node: NodeProto) -> bool:
    """Say whether what a node makes goes to outputs alone, by way of what moves it."""
    waiting, arrives = list(node.output), False
    while waiting:
        tensor = waiting.pop()
        if graph.is_captured(tensor):
            return False
        arrives = arrives or tensor in graph.outputs
        for reader in graph.readers(tensor):
            if not is_op(reader, *_MOVING) or reader.input[0] != tensor:
                return False
            waiting += reader.output
    return arrives


# --- ranges ---------------------------------------------------------------------------------------------------

_MASKING = ("Add", "Sub", "Where")
_STEPS = 255


def without_range(ranges: Mapping[str, tuple[float, float]]) -> set[str]:
    """Return the tensors with a value that is infinite, or nothing but NaN: they have no codes.

    Parameters
    ----------
    ranges : mapping
        By tensor, its smallest and its largest value.
    """
    return {tensor for tensor, ends in ranges.items() if not np.all(np.isfinite(ends))}


def around(graph: Graph, tensors: set[str]) -> list[NodeProto]:
    """Return the nodes that make or read one of these tensors."""
    return [node for node in graph.nodes if not tensors.isdisjoint((*node.input, *node.output))]


def masks(graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> list[NodeProto]:
    """Return the nodes that hide numbers behind very large ones, and the Softmax that reads each.

    Parameters
    ----------
    graph : Graph
        In float.
    ranges : mapping
        By tensor, its smallest and its largest value.
    """
    found: dict[int, NodeProto] = {}
    for node in graph.nodes:
        if is_op(node, *_MASKING) and _hides(graph, node, ranges):
            behind = _squashed(graph, node)
            found.update((id(one), one) for one in ([node, *behind] if behind else ()))
    return list(found.values())


def _hides(graph: Graph, node: NodeProto, ranges: Mapping[str, tuple[float, float]]) -> bool:
    """Say whether one step of what a node makes is wider than all of something that it reads."""
    made = ranges.get(node.output[0])
    read = [ranges[tensor] for tensor in node.input if tensor in ranges and graph.constant(tensor) is None]
    return made is not None and any(_width(ends) < _width(made) / _STEPS for ends in read)


def _width(ends: tuple[float, float]) -> float:
    return max(float(ends[1]), 0.0) - min(float(ends[0]), 0.0)


def _squashed(graph: Graph, node: NodeProto) -> list[NodeProto]:
    """Return the nodes from behind a node to the Softmax that alone reads it, moved perhaps; none if none does."""
    way: list[NodeProto] = []
    reader = graph.only_reader(node.output[0])
    while reader is not None and is_op(reader, *_MOVING):
        way.append(reader)
        reader = graph.only_reader(reader.output[0])
    return [*way, reader] if reader is not None and is_op(reader, "Softmax", "LogSoftmax") else []
