"""Folds batch norms into the layers behind them, where every reader is one, or hands on to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..graph.graph import LAYERS, Graph, attribute, int_list, is_op, label
from .ways_forward import Spread, is_padded_by_itself, spread_behind

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt
    from onnx import NodeProto

    from ..norms.norm import Norm

    Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LayerAhead:
    """A layer that can take up a norm: its weight then, and what the norm's shifts add to its output.

    `addend` broadcasts against the output of a Gemm or MatMul; of the others it has one number a channel.
    """

    node: NodeProto
    weight: npt.NDArray[np.generic]
    addend: Numbers


@dataclass(frozen=True)
class WayForward:
    """From a norm to the layers that can take it up, with the nodes on the way; or why there is none."""

    layers: tuple[LayerAhead, ...] = ()
    between: tuple[NodeProto, ...] = ()
    reason: str = ""


def way_forward(graph: Graph, norm: Norm) -> WayForward:
    """Say which layers behind a norm can take it up together, or why they cannot.

    Parameters
    ----------
    graph : Graph
    norm : Norm

    Returns
    -------
    WayForward
    """
    if norm.lowered or norm.written.startswith("QLinear"):
        return WayForward(reason="it computes in 8 bits")
    if norm.parameters is None:
        return WayForward(reason=norm.problem)
    if not norm.in_float32:
        return WayForward(reason="it is not in float32")
    layers: list[LayerAhead] = []
    between: list[NodeProto] = []
    waiting = [(norm.output, Spread(1, *norm.parameters.gain_and_shift()))]
    while waiting:
        tensor, spread = waiting.pop()
        readers = graph.readers(tensor)
        if tensor in graph.outputs:
            return WayForward(reason="an output of the model needs it")
        if graph.is_captured(tensor):
            return WayForward(reason="a subgraph reads it")
        if not readers and tensor == norm.output:
            return WayForward(reason="nothing reads it")
        for node in readers:
            if list(node.input).index(tensor) or tensor in node.input[1:]:
                return WayForward(reason=f"the {node.op_type} {label(node)} reads it")
            found = _layer(graph, node, spread) if is_op(node, *LAYERS) else spread_behind(graph, node, spread)
            if isinstance(found, str):
                return WayForward(reason=found)
            if isinstance(found, LayerAhead):
                layers.append(found)
            else:
                between.append(node)
                waiting.append((node.output[0], found))
    if not layers:
        return WayForward(reason="nothing reads it")
    return WayForward(tuple(layers), tuple(between))


def fold_forward(graph: Graph, norm: Norm, way: WayForward, fixed: Iterable[NodeProto] = ()) -> None:
    """Fold a norm into the layers behind it; float64 inside, rounded once.

    Parameters
    ----------
    graph : Graph
        Changed in place; the caller finishes it.
    norm : Norm
    way : WayForward
        Of this norm, as the graph is now.
    fixed : iterable of node, optional
        Nodes of other norms, whose constants are known already: they stay.
    """
    kept = {id(node) for node in fixed}
    for node in norm.nodes:
        graph.remove(node)
    graph.redirect(norm.output, norm.input)
    for layer in way.layers:
        node, name = layer.node, label(layer.node)
        graph.set_input(node, 1, graph.add_constant(f"{node.input[1]}/folded", layer.weight))
        if not layer.addend.any():
            continue
        if node.op_type == "MatMul":
            _add_behind(graph, layer, kept)
            continue
        bias = layer.addend
        if len(node.input) > 2 and node.input[2]:
            old = np.asarray(graph.constant(node.input[2]), np.float64)
            bias = bias + old * (attribute(node, "beta", 1.0) if node.op_type == "Gemm" else 1.0)
        for a in [a for a in node.attribute if a.name == "beta"]:
            node.attribute.remove(a)
        graph.set_input(node, 2, graph.add_constant(f"{name}/bias/folded", bias.astype(layer.weight.dtype)))


def _add_behind(graph: Graph, layer: LayerAhead, kept: set[int]) -> None:
    """Add to what a MatMul makes: in the Add behind it, if that adds a constant, else in a new one."""
    kind, product = layer.weight.dtype, layer.node.output[0]
    add = graph.only_reader(product)
    if add is not None and is_op(add, "Add") and id(add) not in kept and set(add.input) != {product}:
        place = 1 - list(add.input).index(product)
        value = graph.constant(add.input[place])
        if value is not None:
            total = (np.asarray(value, np.float64) + layer.addend).astype(kind)
            graph.set_input(add, place, graph.add_constant(f"{add.input[place]}/folded", total))
            return
    node = layer.node
    graph.remove(node)
    node.output[0] = graph.new_name(f"{product}/product")
    graph.add(node)
    bias = graph.add_constant(f"{label(node)}/bias", layer.addend.astype(kind))
    graph.make("Add", [node.output[0], bias], product, f"{label(node)}/bias")


# --- layers ---------------------------------------------------------------------------------------------------


def _layer(graph: Graph, node: NodeProto, spread: Spread) -> LayerAhead | str:
    name = f"the {node.op_type} {label(node)}"
    weight = graph.constant(node.input[1])
    if weight is None:
        return f"the weight of {name} is not constant"
    if is_op(graph.maker(node.input[1]), "DequantizeLinear"):
        return f"the weight of {name} is quantized"
    if len(node.input) > 2 and node.input[2] and graph.constant(node.input[2]) is None:
        return f"the bias of {name} is not constant"
    wide, places = np.asarray(weight, np.float64), len(spread.gain)
    with np.errstate(over="ignore", invalid="ignore"):
        if node.op_type in ("Conv", "ConvTranspose"):
            group = int(attribute(node, "group", 1))
            if spread.axis != 1 or wide.ndim < 3 or _inputs(node, wide.shape, group) != places:
                return f"{name} does not read {places} channels on axis 1"
            if spread.shift.any() and not _reads_no_zeros(node, wide.shape[2:]):
                return f"{name} pads it with zeros" if node.op_type == "Conv" else f"{name} spreads it out"
            scaled, addend = _convolution(node, wide, group, spread)
        elif node.op_type == "Gemm":
            if attribute(node, "transA", 0) or spread.axis != 1:
                return f"{name} does not read its channels along rows"
            turned = bool(attribute(node, "transB", 0))
            rows = wide.T if turned else wide
            if rows.ndim != 2 or len(rows) != places:
                return f"{name} does not read {places} channels"
            scaled = spread.gain[:, None] * rows
            scaled = scaled.T if turned else scaled
            addend = attribute(node, "alpha", 1.0) * (spread.shift @ rows)
        else:
            shape = graph.type_of(node.input[0])[1]
            axis = None if shape is None else len(shape) - 1
            if spread.axis != axis or not wide.ndim or wide.shape[max(wide.ndim - 2, 0)] != places:
                return f"{name} does not sum over its channels"
            gain, shift = ((v[:, None] if wide.ndim > 1 else v) for v in (spread.gain, spread.shift))
            scaled, addend = wide * gain, (wide * shift).sum(axis=max(wide.ndim - 2, 0), keepdims=wide.ndim > 2)
        rounded = np.ascontiguousarray(scaled, weight.dtype)
        if not (np.isfinite(rounded).all() and np.isfinite(addend.astype(weight.dtype)).all()):
            return f"its gains are too large for the weight of {name}"
    return LayerAhead(node, rounded, np.asarray(addend, np.float64))


def _inputs(node: NodeProto, shape: tuple[int, ...], group: int) -> int:
    """Return how many channels a convolution reads; 0 if its groups do not divide them."""
    if group < 1 or shape[0] % group:
        return 0
    return shape[1] * group if node.op_type == "Conv" else shape[0]


def _reads_no_zeros(node: NodeProto, kernel: tuple[int, ...]) -> bool:
    """Say whether each output of a convolution is a sum over all of its kernel, with no zeros between the data."""
    one = all(size == 1 for size in kernel)
    if any(int_list(node, "pads") or ()) or (is_padded_by_itself(node) and not one):
        return False
    if node.op_type == "Conv":
        return True
    apart = any(step != 1 for step in int_list(node, "strides") or ())
    wider = any(int_list(node, "output_padding") or ()) or bool(int_list(node, "output_shape"))
    return one and not apart and not wider


def _convolution(node: NodeProto, weight: Numbers, group: int, spread: Spread) -> tuple[Numbers, Numbers]:
    """Return the scaled weight, and what the shifts add to each output; inputs are numbered group by group."""
    if node.op_type == "Conv":  # (outputs, inputs / group, ...)
        grouped = weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1)
        gain, shift = (v.reshape(group, 1, -1, 1) for v in (spread.gain, spread.shift))
        addend = (grouped * shift).sum(axis=(2, 3))
    else:  # (inputs, outputs / group, ...)
        grouped = weight.reshape(group, weight.shape[0] // group, weight.shape[1], -1)
        gain, shift = (v.reshape(group, -1, 1, 1) for v in (spread.gain, spread.shift))
        addend = (grouped * shift).sum(axis=(1, 3))
    return (grouped * gain).reshape(weight.shape), addend.reshape(-1)
