"""Writes int8 weights as uint8 where sums would saturate: codes and zero points 128 higher, the same numbers.

For uint8 activations and uint8 weights ONNX Runtime has exact kernels everywhere, slower ones. Its own way to them
is the session option ``session.x64quantprecision``. It refuses models in which two layers share a weight or a zero
point, as PyTorch exports them. It has no kernels for int8 activations in QOperator format then, and refuses these,
too.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from ..graph.graph import Graph
from .layer_weights import shift, weight_of
from .saturation import find_saturating


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
    made: dict[str, str] = {}
    for node in find_saturating(graph):
        weight = weight_of(graph, node)
        if weight is not None:
            shift(graph, weight, 128, np.uint8, made)
    graph.finish()
    return copy
