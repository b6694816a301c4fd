"""Whether 8-bit weights can hold the gains of the norms that layers behind them would take up.

One scale stands for all weights of an output channel, or for all of a layer. A norm whose gains are far apart
makes some of its layer's weights so small that they have no step left, where the norm itself has exact parameters:
that norm stays. It is judged in the layer alone, in float, with what 8 bits round simulated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..graph.cutting import cut, feed
from ..graph.graph import Graph, attribute
from ..run.apart import run_session, runner
from .forward import fold_forward, way_forward

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from ..data.dataset import Dataset
    from ..norms.norm import Norm
    from .forward import WayForward

    Array = npt.NDArray[Any]

SAMPLES = 16
# Equal errors fold: that saves the norm. Two roundings of the same few weights differ by as much as this, 1 dB.
_MARGIN = 10**0.1


def fold_where_weights_hold(
    graph: Graph, norms: Sequence[Norm], data: Dataset, *, per_channel: bool, reduce_range: bool
) -> tuple[list[Norm], list[Norm]]:
    """Fold norms into the layers behind them, except where 8-bit weights lose more by it than the norm's output.

    Parameters
    ----------
    graph : Graph
        Changed in place; the caller finishes it.
    norms : sequence of Norm
        Those that no layer before them took up.
    data : Dataset
        Of whose first samples inputs of the norms are taken.
    per_channel, reduce_range : bool
        As weights will be quantized.

    Returns
    -------
    gone, stayed : list of Norm
        Those that are folded, and those that could have been.
    """
    gone: list[Norm] = []
    stayed: list[Norm] = []
    nodes = [node for norm in norms for node in norm.nodes]
    while True:  # of norms in a row the last is asked first, then it is one less
        known = {id(norm) for norm in (*gone, *stayed)}
        left = [norm for norm in norms if id(norm) not in known]
        ways = [(norm, way) for norm in left if (way := way_forward(graph, norm)).layers]
        if not ways:
            return gone, stayed
        judges = [_Judge(graph, norm, way, per_channel, 63 if reduce_range else 127) for norm, way in ways]
        _show(graph, judges, data.first(SAMPLES))
        for judge in judges:
            if judge.holds():
                fold_forward(graph, judge.norm, judge.way, nodes)
                gone.append(judge.norm)
            else:
                stayed.append(judge.norm)


def _show(graph: Graph, judges: list[_Judge], data: Dataset) -> None:
    """Show each judge what its norm reads, batch by batch."""
    made = sorted({judge.norm.input for judge in judges if graph.maker(judge.norm.input) is not None})
    probe = cut(graph, made)
    session = runner(probe) if made else None
    for batch in data:
        values = (
            dict(zip(made, run_session(session, made, feed(probe, batch), "model"), strict=True))
            if session
            else {}
        )
        for judge in judges:
            judge.see(values.get(judge.norm.input, batch.get(judge.norm.input)))


class _Judge:
    """Adds up how far what the layers behind a norm make is from the float network's, folded and not."""

    def __init__(self, graph: Graph, norm: Norm, way: WayForward, per_channel: bool, steps: int) -> None:
        self.norm, self.way = norm, way
        assert norm.parameters is not None
        self._gain, self._shift = norm.parameters.gain_and_shift()
        kept = {layer.node.input[1]: np.asarray(graph.constant(layer.node.input[1])) for layer in way.layers}
        folded = {layer.node.output[0]: layer.weight for layer in way.layers}
        own = {layer.node.output[0]: kept[layer.node.input[1]] for layer in way.layers}

        def coarse(weights: Mapping[str, Array]) -> dict[str, Array]:
            nodes = {layer.node.output[0]: layer.node for layer in way.layers}
            return {name: _rounded_weight(nodes[name], w, per_channel, steps) for name, w in weights.items()}

        self._true, self._kept, self._folded = (
            runner(_part(graph, norm, way, weights)) for weights in (own, coarse(own), coarse(folded))
        )
        self._names = [layer.node.output[0] for layer in way.layers]
        self._errors = np.zeros((2, len(way.layers)))  # of the norm kept, and folded

    @np.errstate(over="ignore", invalid="ignore")  # of numbers that are none the norm stays
    def see(self, x: Array | None) -> None:
        """Take up some of what the norm reads."""
        if x is None or not x.size:
            return
        column = (-1, *[1] * (x.ndim - 2))
        gain, shift = self._gain.reshape(column), self._shift.reshape(column)
        true = (x * gain + shift).astype(x.dtype)
        coarse = _rounded(x)
        kept = _rounded((coarse * gain + shift).astype(x.dtype))
        outputs = (
            session.run(self._names, {self.norm.output: fed})
            for session, fed in ((self._true, true), (self._kept, kept), (self._folded, coarse))
        )
        for i, (layer, want, by_norm, by_fold) in enumerate(zip(self.way.layers, *outputs, strict=True)):
            moved = (by_fold + _addend(layer.node, layer.addend, want.ndim)).astype(want.dtype)
            for which, got in enumerate((by_norm, moved)):
                self._errors[which, i] += np.sum((_rounded(got) - want.astype(np.float64)) ** 2)

    def holds(self) -> bool:
        """Say whether no layer loses by the fold."""
        return bool(np.all(self._errors[1] <= _MARGIN * self._errors[0]))


def _part(graph: Graph, norm: Norm, way: WayForward, weights: Mapping[str, Array]) -> onnx.ModelProto:
    """Return a model from what a norm makes to its layers, these with other weights, by what they make."""
    part = helper.make_graph(
        [*way.between, *(layer.node for layer in way.layers)],
        "part",
        [helper.make_tensor_value_info(norm.output, onnx.TensorProto.FLOAT, None)],
        [onnx.ValueInfoProto(name=name) for name in weights],
    )
    made = helper.make_model(part, opset_imports=graph.model.opset_import, ir_version=graph.model.ir_version)
    known: set[str] = set()
    for node in made.graph.node:
        if node.output[0] in weights:
            node.input[1] = f"{node.output[0]}/weight"
            made.graph.initializer.append(numpy_helper.from_array(weights[node.output[0]], node.input[1]))
        for name in node.input:
            value = graph.constant(name) if name and name not in known else None
            if value is not None:
                made.graph.initializer.append(numpy_helper.from_array(value, name))
                known.add(name)
    Graph(made).finish()  # puts the nodes in order
    return made


def _rounded(x: Array) -> Array:
    """Return what 8 bits leave of numbers: 255 steps from the lowest to the highest, 0 one of them."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    step = (high - low) / 255 or 1.0
    zero = np.rint(-low / step)
    made: Array = ((np.clip(np.rint(x / step) + zero, 0, 255) - zero) * step).astype(x.dtype)
    return made


def _rounded_weight(node: onnx.NodeProto, weight: Array, per_channel: bool, steps: int) -> Array:
    """Return what 8 bits leave of a weight, with a scale for each output channel or for all."""
    axis = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0 if attribute(node, "transB", 0) else 1}.get(node.op_type, -1)
    others = tuple(i for i in range(weight.ndim) if i != axis % weight.ndim) if per_channel else None
    largest = np.abs(weight).max(axis=others, keepdims=True, initial=0)
    step = np.where(largest == 0, 1, largest / steps)
    made: Array = (np.rint(weight / step) * step).astype(weight.dtype)
    return made


def _addend(node: onnx.NodeProto, addend: Array, rank: int) -> Array:
    return addend.reshape(-1, *[1] * (rank - 2)) if node.op_type in ("Conv", "ConvTranspose") else addend
