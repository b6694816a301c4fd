"""The exact lowering: bytenorm's own operator, which gives the library's bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .function import OLDEST_OPSET, OPERATOR, add_function, operator_node
from .graph import Graph, opset_of
from .norms import PARAMETER_NAMES

if TYPE_CHECKING:
    from .norms import QParams, Site


def obstacle(graph: Graph, _site: Site) -> str:
    """Say why a norm cannot be lowered this way, in a few words; empty if it can."""
    opset = opset_of(graph.model)
    if opset < OLDEST_OPSET:
        return f"the model has opset {opset}, the operator's function needs {OLDEST_OPSET} (portable does not)"
    return ""


def replace(graph: Graph, site: Site) -> QParams:
    """Put the operator in the place of a norm whose old nodes are gone; return how its output is quantized.

    Convolutions of ONNX Runtime run channels-last inside. An operator that did not would make it transpose around
    every norm; between two Transposes of its own, which the optimizer cancels against those of its neighbours,
    it joins the chain.
    """
    source, target, name = site.source, site.target, site.name
    add_function(graph.model)
    lowest, highest = site.limits()
    relu = lowest is not None and lowest == int(target.zero_point.ravel()[0])
    bounds = (None if relu else lowest, highest)
    made = target.codes if bounds == (None, None) else graph.new_name(f"{name}/unclipped")

    rank = site.rank(graph)
    channels_last = rank is not None and rank >= 3
    x, y = source.codes, made
    if channels_last and rank is not None:
        x, y = graph.new_name(f"{name}/channels_last"), graph.new_name(f"{name}/channels_last/normalized")
        to_last, to_first = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
        graph.make("Transpose", [source.codes], x, f"{name}/to_channels_last", perm=to_last)
        graph.make("Transpose", [y], made, f"{name}/to_channels_first", perm=to_first)
    inputs = [
        x,
        source.scale_name,
        source.zero_point_name or graph.add_constant(f"{name}/x_zero_point", source.zero_point),
        *(graph.add_constant(f"{name}/{p}", getattr(site.parameters, p)) for p in PARAMETER_NAMES),
        target.scale_name,
        target.zero_point_name or graph.add_constant(f"{name}/y_zero_point", target.zero_point),
    ]
    node_name = graph.new_node_name(f"{name}/{OPERATOR}")
    epsilon = site.parameters.epsilon
    graph.add(operator_node(inputs, y, node_name, epsilon=epsilon, channels_last=channels_last, relu=relu))
    if made != target.codes:
        tensors = [
            "" if code is None else graph.add_constant(f"{name}/{what}", np.asarray(code, target.zero_point.dtype))
            for what, code in zip(("lowest", "highest"), bounds, strict=True)
        ]
        graph.make("Clip", [made, *tensors], target.codes, f"{name}/Clip")
    return target
