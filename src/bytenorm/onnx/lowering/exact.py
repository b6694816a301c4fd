"""The exact lowering: bytenorm's own operator, which gives the library's bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..graph.graph import Graph, opset_of
from ..graph.transposes import read_in_order, to_last, write_in_order
from ..norms.norm import PARAMETER_NAMES
from ..operators.batch_norm import OLDEST_OPSET, add_function, operator_node
from ..operators.schema import SINGLE

if TYPE_CHECKING:
    from ..norms.norm import QuantizedNorm
    from ..norms.qparams import QParams


def obstacle(graph: Graph, _site: QuantizedNorm) -> str:
    """Say why a norm cannot be lowered this way, in a few words; empty if it can."""
    opset = opset_of(graph.model)
    if opset < OLDEST_OPSET:
        return f"the model has opset {opset}, the operator's function needs {OLDEST_OPSET} (portable does not)"
    return ""


def replace(graph: Graph, site: QuantizedNorm) -> QParams:
    """Put the operator in the place of a norm whose old nodes are gone; return how its output is quantized."""
    source, name = site.source, site.name
    add_function(graph.model)
    rank = site.rank(graph)
    channels_last = rank is not None and rank >= 3
    relu, made = activate(graph, site)
    x, y = source.codes, made
    if channels_last and rank is not None:
        x = read_in_order(graph, source.codes, to_last(rank), name)
        y = write_in_order(graph, made, to_last(rank), name)
    inputs = [
        x,
        source.scale_name,
        source.zero_point_name or graph.add_constant(f"{name}/x_zero_point", source.zero_point),
        *parameters(graph, site),
        *output_quantization(graph, site),
    ]
    node_name = graph.new_node_name(f"{name}/{SINGLE.operator}")
    epsilon = site.parameters.epsilon
    graph.add(operator_node(inputs, y, node_name, epsilon=epsilon, channels_last=channels_last, relu=relu))
    return site.target


def activate(graph: Graph, site: QuantizedNorm) -> tuple[bool, str]:
    """Return whether the operator does the activation, and the tensor that it makes: behind it may be a Clip."""
    target, name = site.target, site.name
    relu, limits = site.relu_and_limits()
    if limits == (None, None):
        return relu, target.codes
    made = graph.new_name(f"{name}/unclipped")
    tensors = [
        "" if code is None else graph.add_constant(f"{name}/{what}", np.asarray(code, target.zero_point.dtype))
        for what, code in zip(("lowest", "highest"), limits, strict=True)
    ]
    graph.make("Clip", [made, *tensors], target.codes, f"{name}/Clip")
    return relu, made


def parameters(graph: Graph, site: QuantizedNorm) -> list[str]:
    """Add a norm's own parameters as constants and return their names."""
    return [graph.add_constant(f"{site.name}/{p}", getattr(site.parameters, p)) for p in PARAMETER_NAMES]


def output_quantization(graph: Graph, site: QuantizedNorm) -> list[str]:
    """Return the names of the output's scale and zero point."""
    target = site.target
    zero_point = target.zero_point_name or graph.add_constant(f"{site.name}/y_zero_point", target.zero_point)
    return [target.scale_name, zero_point]
