"""The mean and the variance of tensors of a float network, channel by channel, without keeping one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...calibration.moments import Moments
from ..folding.backward import output_channels
from ..graph.cutting import cut, feed
from ..graph.graph import is_op, opset_of
from ..run.session import session_for_a_pass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..graph.graph import Graph
    from ..norms.norm import Norm

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
    watch = Watch(channels, frozenset(spread))
    made = _with_moments(graph, watch)
    run = session_for_a_pass(made)
    names = [v.name for v in made.graph.output]
    found = watch.start()
    for batch in batches:
        watch.add(found, dict(zip(names, run.run(names, feed(made, batch)), strict=True)))
    return found


@dataclass(frozen=True)
class Watch:
    """Tensors whose moments are wanted: nodes that make them, and what those have made.

    Attributes
    ----------
    channels : mapping of str to int
        The tensors, and how many channels each has on axis 1.
    spread : frozenset of str
        Those whose variance is wanted, too.
    """

    channels: Mapping[str, int]
    spread: frozenset[str]

    def start(self) -> dict[str, Moments]:
        """Return what batches are added to."""
        return {tensor: Moments() for tensor in self.channels}

    def add(self, found: Mapping[str, Moments], values: Mapping[str, np.ndarray]) -> None:
        """Add what the nodes have made of a batch."""
        for tensor, moments in found.items():
            mean = values[_name("mean", tensor)]
            variance = values[_name("variance", tensor)] if tensor in self.spread else np.full_like(mean, np.nan)
            moments.add(int(values[_name("size", tensor)]) // self.channels[tensor], mean, variance)

    def nodes(self, model: onnx.ModelProto, tensor: str) -> list[onnx.NodeProto]:
        """Return the nodes for a tensor of a model, none if it is not wanted; the model gets what they need."""
        if tensor not in self.channels:
            return []
        graph = model.graph
        as_input = opset_of(model) >= _AXES_ARE_INPUTS

        def constant(what: str, *values: int) -> str:
            graph.initializer.append(numpy_helper.from_array(np.array(values), _name(what, tensor)))
            return _name(what, tensor)

        def mean(x: str, y: str) -> onnx.NodeProto:
            x, y = _name(x, tensor), _name(y, tensor)
            if as_input:
                return helper.make_node("ReduceMean", [x, axes], [y], keepdims=1)
            return helper.make_node("ReduceMean", [x], [y], keepdims=1, axes=[0, 2])

        def make(operator: str, inputs: list[str], output: str) -> onnx.NodeProto:
            return helper.make_node(operator, [_name(name, tensor) for name in inputs], [_name(output, tensor)])

        axes = constant("axes", 0, 2) if as_input else ""
        shape = constant("shape", 0, self.channels[tensor], -1)
        constant("vector", -1)
        ends = ["size", "mean"]
        nodes = [
            helper.make_node("Reshape", [tensor, shape], [_name("flat", tensor)]),
            helper.make_node("Size", [tensor], [_name("size", tensor)]),
            mean("flat", "mean3"),
            make("Reshape", ["mean3", "vector"], "mean"),
        ]
        if tensor in self.spread:
            ends.append("variance")
            nodes += [
                make("Sub", ["flat", "mean3"], "from"),
                make("Mul", ["from", "from"], "square"),
                mean("square", "variance3"),
                make("Reshape", ["variance3", "vector"], "variance"),
            ]
        graph.output.extend(onnx.ValueInfoProto(name=_name(end, tensor)) for end in ends)
        return nodes


def all_that_are_corrected(graph: Graph, norms: Mapping[str, Norm]) -> Watch:
    """Return what the corrections of a float graph can want: what its norms read and its layers make.

    Parameters
    ----------
    graph : Graph
    norms : mapping of str to Norm
        By the name of the node that stands for one.
    """
    channels, spread = {}, {}
    for node in graph.nodes:
        norm = norms.get(node.name)
        if norm is not None and norm.parameters is not None:
            spread[node.input[0]] = norm.parameters.channels
        elif is_op(node, "Conv", "ConvTranspose", "Gemm"):
            weight = graph.constant(node.input[1])
            count = 0 if weight is None else output_channels(node.op_type, node, weight)
            if count:
                channels[node.output[0]] = count
    return Watch({**channels, **spread}, frozenset(spread))


def _name(what: str, tensor: str) -> str:
    return f"{_PREFIX}{what}/{tensor}"


def _with_moments(whole: Graph, watch: Watch) -> onnx.ModelProto:
    """Return a model whose outputs are the moments of tensors of a graph."""
    made = cut(whole, watch.channels)
    graph = made.graph
    del graph.output[:]
    nodes = list(graph.node)
    del graph.node[:]
    # Right behind a tensor, while it is there: see session_for_a_pass.
    for value in graph.input:
        graph.node.extend(watch.nodes(made, value.name))
    for node in nodes:
        graph.node.append(node)
        for output in node.output:
            graph.node.extend(watch.nodes(made, output))
    return made
