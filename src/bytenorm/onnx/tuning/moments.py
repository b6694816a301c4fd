"""The mean and the variance of tensors of a float network, channel by channel, without keeping one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..graph import opset_of
from ..runtime import session_for_a_pass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Batch = Mapping[str, np.ndarray]
    Vector = np.ndarray

_AXES_ARE_INPUTS = 18  # the opset from which on ReduceMean reads its axes
_PREFIX = "bytenorm.moments/"


@dataclass(frozen=True)
class Moments:
    """Of one tensor: for each batch how many numbers a channel has, their mean and variance (divided by n)."""

    counts: Sequence[int]
    means: Sequence[Vector]
    variances: Sequence[Vector]

    def pooled(self, batches: int) -> tuple[Vector, Vector]:
        """Return the mean and the variance of the first batches laid end to end, in float64."""
        weights = np.array(self.counts[:batches], np.float64) / sum(self.counts[:batches])
        means = np.array(self.means[:batches], np.float64)
        mean = weights @ means
        if not self.variances:
            return mean, np.full_like(mean, np.nan)
        spread = np.array(self.variances[:batches], np.float64) + (means - mean) ** 2
        return mean, weights @ spread


def measure(
    model: onnx.ModelProto, channels: Mapping[str, int], spread: Iterable[str], batches: Iterable[Batch]
) -> dict[str, Moments]:
    """Run a float network and return the moments of some of its tensors.

    Parameters
    ----------
    model : onnx.ModelProto
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
    wanted = set(spread)
    made = _with_moments(model, channels, wanted)
    run = session_for_a_pass(made)
    names = [v.name for v in made.graph.output]
    found: dict[str, dict[str, list[np.ndarray]]] = {t: {"size": [], "mean": [], "variance": []} for t in channels}
    for batch in batches:
        for name, value in zip(names, run.run(names, dict(batch)), strict=True):
            what, _, tensor = name.removeprefix(_PREFIX).partition("/")
            found[tensor][what].append(value)
    return {
        tensor: Moments([int(n) // channels[tensor] for n in one["size"]], one["mean"], one["variance"])
        for tensor, one in found.items()
    }


def _with_moments(model: onnx.ModelProto, channels: Mapping[str, int], spread: set[str]) -> onnx.ModelProto:
    """Return a model whose outputs are the moments of tensors of another."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    del graph.output[:]
    as_input = opset_of(model) >= _AXES_ARE_INPUTS
    if as_input:
        graph.initializer.append(numpy_helper.from_array(np.array([0, 2]), f"{_PREFIX}axes"))

    def mean(x: str, y: str) -> onnx.NodeProto:
        if as_input:
            return helper.make_node("ReduceMean", [x, f"{_PREFIX}axes"], [y], keepdims=1)
        return helper.make_node("ReduceMean", [x], [y], keepdims=1, axes=[0, 2])

    behind: dict[str, list[onnx.NodeProto]] = {}
    for tensor, count in channels.items():

        def name(what: str, tensor: str = tensor) -> str:
            return f"{_PREFIX}{what}/{tensor}"

        shape = numpy_helper.from_array(np.array([0, count, -1]), name("shape"))
        graph.initializer.append(shape)
        steps = [
            helper.make_node("Reshape", [tensor, shape.name], [name("flat")]),
            helper.make_node("Size", [tensor], [name("size")]),
            mean(name("flat"), name("mean3")),
            helper.make_node("Reshape", [name("mean3"), f"{_PREFIX}vector"], [name("mean")]),
        ]
        ends = ["size", "mean"]
        if tensor in spread:
            steps += [
                helper.make_node("Sub", [name("flat"), name("mean3")], [name("from")]),
                helper.make_node("Mul", [name("from"), name("from")], [name("square")]),
                mean(name("square"), name("variance3")),
                helper.make_node("Reshape", [name("variance3"), f"{_PREFIX}vector"], [name("variance")]),
            ]
            ends.append("variance")
        behind[tensor] = steps
        graph.output.extend(onnx.ValueInfoProto(name=name(end)) for end in ends)
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), f"{_PREFIX}vector"))
    nodes = list(graph.node)
    del graph.node[:]
    for value in graph.input:
        graph.node.extend(behind.get(value.name, ()))
    for node in nodes:
        graph.node.append(node)
        for output in node.output:
            graph.node.extend(behind.get(output, ()))
    return made
