"""Writes int8 weights as uint8 where sums would saturate: codes and zero points 128 higher, the same numbers.

For uint8 activations and uint8 weights ONNX Runtime has exact kernels everywhere, slower ones. Its own way to
them, the session option ``session.x64quantprecision``, refuses models in which two layers share a weight or a zero
point, as PyTorch exports them, and int8 activations in QOperator format, for which it then has no kernels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import ModelProto

from .graph import Graph, attribute
from .saturation import find_saturating

if TYPE_CHECKING:
    from onnx import NodeProto

    from .graph import Array


def unsigned_weights(model: ModelProto) -> ModelProto:
    """Return a model whose sums are exact on every CPU.

    Parameters
    ----------
    model : ModelProto
        In QDQ or QOperator format, or in float. Not changed.

    Returns
    -------
    ModelProto
        The model itself if there is nothing to change.
    """
    if not find_saturating(Graph(model)):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = Graph(copy)
    for node in find_saturating(graph):
        _rewrite(graph, node)
    graph.finish()
    return copy


def _rewrite(graph: Graph, node: NodeProto) -> None:
    before = None if node.op_type.startswith("Q") else graph.maker(node.input[1])
    tensors = list(node.input[3:6]) if before is None else list(before.input)
    codes, scale = graph.constant(tensors[0]), tensors[1]
    assert codes is not None
    zero_point = graph.constant(tensors[2]) if len(tensors) > 2 else np.zeros_like(graph.constant(scale), np.int8)
    if zero_point is None:
        return
    name = tensors[0]
    weight = graph.add_constant(f"{name}/unsigned", _moved(codes))
    zero = graph.add_constant(f"{name}/unsigned_zero_point", _moved(zero_point))
    if before is None:
        graph.set_input(node, 3, weight)
        graph.set_input(node, 5, zero)
        return
    real = graph.new_name(f"{name}/unsigned_real")
    axis = attribute(before, "axis", 1)
    made = graph.make("DequantizeLinear", [weight, scale, zero], real, f"{name}/DequantizeLinear", axis=axis)
    made.domain = before.domain
    graph.set_input(node, 1, real)


def _moved(codes: Array) -> Array:
    return np.asarray(codes.astype(np.int16) + 128, np.uint8)
