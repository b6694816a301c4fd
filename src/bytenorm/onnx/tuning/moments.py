"""The mean and the variance of tensors of a float network, channel by channel, without keeping one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...calibration.moments import Moments
from ..cutting import cut, feed
from ..graph import opset_of
from ..runtime import session_for_a_pass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..graph import Graph

    Batch = Mapping[str, np.ndarray]

_AXES_ARE_INPUTS = 18  # the opset from which on ReduceMean reads its axes
_PREFIX = "bytenorm.moments/"


def measure(
    graph: Graph, channels: Mapping[str, int], spread: Iterable[str], batches: Iterable[Batch]
) -> dict[str, Moments]:
    """Run a float network and return the moments of some of its tensors.

    Parameters
    ----------
    graph : Graph
        Not changed.
    channels : mapping of str to int
        The tensors, and how many channels each has on axis 1.
    spread : iterable of str
        Those whose variance is wanted, too.
    batches : iterable of dict
        Of the inputs.

    Returns
    -------
    dict of str to Moments
    """
    wide = set(spread)
    made = _with_moments(graph, channels, wide)
    run = session_for_a_pass(made)
    names = [v.name for v in made.graph.output]
    found = {tensor: Moments() for tensor in channels}
    for batch in batches:
        values = dict(zip(names, run.run(names, feed(made, batch)), strict=True))
        for tensor, moments in found.items():
            mean = values[_name("mean", tensor)]
            variance = values[_name("variance", tensor)] if tensor in wide else np.full_like(mean, np.nan)
            moments.add(int(values[_name("size", tensor)]) // channels[tensor], mean, variance)
    return found


def _name(what: str, tensor: str) -> str:
    return f"{_PREFIX}{what}/{tensor}"


def _with_moments(whole: Graph, channels: Mapping[str, int], spread: set[str]) -> onnx.ModelProto:
    """Return a model whose outputs are the moments of tensors of a graph."""
    made = cut(whole, channels)
    graph = made.graph
    del graph.output[:]
    as_input = opset_of(made) >= _AXES_ARE_INPUTS
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), f"{_PREFIX}vector"))
    if as_input:
        graph.initializer.append(numpy_helper.from_array(np.array([0, 2]), f"{_PREFIX}axes"))

    def mean(x: str, y: str) -> onnx.NodeProto:
        if as_input:
            return helper.make_node("ReduceMean", [x, f"{_PREFIX}axes"], [y], keepdims=1)
        return helper.make_node("ReduceMean", [x], [y], keepdims=1, axes=[0, 2])

    def steps(tensor: str) -> list[onnx.NodeProto]:
        def name(what: str) -> str:
            return _name(what, tensor)

        shape = numpy_helper.from_array(np.array([0, channels[tensor], -1]), name("shape"))
        graph.initializer.append(shape)
        ends = ["size", "mean"]
        nodes = [
            helper.make_node("Reshape", [tensor, shape.name], [name("flat")]),
            helper.make_node("Size", [tensor], [name("size")]),
            mean(name("flat"), name("mean3")),
            helper.make_node("Reshape", [name("mean3"), f"{_PREFIX}vector"], [name("mean")]),
        ]
        if tensor in spread:
            ends.append("variance")
            nodes += [
                helper.make_node("Sub", [name("flat"), name("mean3")], [name("from")]),
                helper.make_node("Mul", [name("from"), name("from")], [name("square")]),
                mean(name("square"), name("variance3")),
                helper.make_node("Reshape", [name("variance3"), f"{_PREFIX}vector"], [name("variance")]),
            ]
        graph.output.extend(onnx.ValueInfoProto(name=name(end)) for end in ends)
        return nodes

    nodes = list(graph.node)
    del graph.node[:]
    # Right behind a tensor, while it is there: see session_for_a_pass.
    for value in graph.input:
        graph.node.extend(steps(value.name) if value.name in channels else ())
    for node in nodes:
        graph.node.append(node)
        for output in node.output:
            graph.node.extend(steps(output) if output in channels else ())
    return made
