"""Nodes that only lose in 8 bits: they stay in float, whoever quantizes.

With a calibrated scale ONNX Runtime's Softmax of codes is off by up to 1.5 codes, where rounding alone is off by
half a one. A Sigmoid is right to the code, but at an output its codes are all that is left of the numbers: 0.998
and 0.9999 are one code. In float such a node takes no time worth naming, because nothing comes behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .graph import is_op

if TYPE_CHECKING:
    from onnx import NodeProto

    from .graph import Graph

_SQUASHING = ("Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Tanh", "Softplus", "Softsign", "Erf")
# What passes numbers on.
_MOVING = (
    "Identity",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Cast",
    "Slice",
    "Gather",
    "Split",
)


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
