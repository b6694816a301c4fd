"""Folds batch norms into the layer before them, where there is nothing left to run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..graph.graph import LAYERS, Graph, attribute, is_op, label, what_feeds
from ..graph.moves import axis_before

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import NodeProto

    from ..norms.norm import Norm


def layer_to_fold_into(graph: Graph, norm: Norm) -> tuple[NodeProto | None, str]:
    """Say which layer a norm can be folded into, or why into none.

    Parameters
    ----------
    graph : Graph
    norm : Norm

    Returns
    -------
    node or None, str
        The layer, or None and the reason in a few words.
    """
    way = _way_back(graph, norm)
    maker = graph.maker(way.tensor)
    if maker is None or not is_op(maker, *LAYERS):
        way = _Way(norm.input, 1, ())
        maker = graph.maker(norm.input)
    if maker is None:
        return None, "it reads an input of the model"
    if is_op(maker, "DequantizeLinear") or norm.written.startswith("QLinear") or norm.lowered:
        return None, "it reads 8-bit data"
    if not is_op(maker, *LAYERS):
        fed = what_feeds(graph, norm.input)  # beyond the Transposes that last_axis.py puts there
        return None, "it reads an input of the model" if fed.startswith("input ") else f"it reads the {fed}"
    name = f"the {maker.op_type} {label(maker)}"
    if norm.parameters is None:
        return None, norm.problem
    if graph.only_reader(way.tensor) is None:
        return None, f"{name} has other readers too"
    weight = graph.constant(maker.input[1])
    if weight is None:
        return None, f"the weight of {name} is not constant"
    if is_op(graph.maker(maker.input[1]), "DequantizeLinear"):
        return None, f"the weight of {name} is quantized"
    bias = graph.constant(maker.input[2]) if _has_bias(maker) else None
    if bias is None and _has_bias(maker):
        return None, f"the bias of {name} is not constant"
    shape = graph.type_of(way.tensor)[1]
    axis = 1 if maker.op_type != "MatMul" else None if shape is None else len(shape) - 1
    if output_channels(maker.op_type, maker, weight) != norm.parameters.channels or axis != way.axis:
        return None, f"{name} does not make {norm.parameters.channels} channels on axis 1"
    if bias is not None and not _fits(maker, bias, norm.parameters.channels):
        return None, f"the bias of {name} has the shape {list(bias.shape)}"
    return maker, ""


def _fits(layer: NodeProto, bias: npt.NDArray[np.generic], channels: int) -> bool:
    """Say whether a bias has a number for each channel, or what a Gemm repeats to have them."""
    if layer.op_type != "Gemm":
        return bias.shape == (channels,)
    return bias.ndim <= 2 and bias.shape[-1:] in ((), (1,), (channels,))


@dataclass(frozen=True)
class _Way:
    """From a norm back to the layer that feeds it.

    `tensor` is what the layer makes, `axis` that of its channels. `between` are the nodes on the way, the nearest
    to the norm first: they move axes, add or drop those of size 1, or add a bias. `added` is the sum of these
    biases.
    """

    tensor: str
    axis: int
    between: tuple[NodeProto, ...]
    added: npt.NDArray[np.float64] | float = 0.0


def _way_back(graph: Graph, norm: Norm) -> _Way:
    way = _Way(norm.input, 1, ())
    while graph.only_reader(way.tensor) is not None:
        maker = graph.maker(way.tensor)
        if maker is None:
            break
        before = axis_before(graph, maker, way.axis)
        if before is not None:
            way = replace(way, tensor=maker.input[0], axis=before, between=(*way.between, maker))
            continue
        bias = _bias(graph, maker, way)
        if bias is None:
            break
        way = replace(way, tensor=bias[0], between=(*way.between, maker), added=way.added + bias[1])
    return way


def _bias(graph: Graph, node: NodeProto, way: _Way) -> tuple[str, npt.NDArray[np.float64]] | None:
    """Return what an Add reads, and what it adds to each channel; None if it is none of one number a channel."""
    if not is_op(node, "Add"):
        return None
    for data, other in (node.input[:2], reversed(node.input[:2])):
        value, shape = graph.constant(other), graph.type_of(data)[1]
        if value is None or shape is None or graph.constant(data) is not None:
            continue
        if value.ndim > len(shape) or way.axis >= len(shape):
            continue
        padded = (1,) * (len(shape) - value.ndim) + value.shape
        if value.size == 1 or padded[way.axis] == value.size == shape[way.axis]:
            return data, np.asarray(value, np.float64).reshape(-1)
    return None


def fold(graph: Graph, norms: list[Norm]) -> list[Norm]:
    """Fold every norm that can be folded into the layer before it; float64 inside, rounded once.

    Parameters
    ----------
    graph : Graph
        Changed in place; the caller finishes it.
    norms : list of Norm

    Returns
    -------
    list of Norm
        Those that are gone.
    """
    gone = []
    for norm in norms:
        layer, _ = layer_to_fold_into(graph, norm)
        if layer is None:
            continue
        _fold_into(graph, layer, norm)
        gone.append(norm)
    return gone


def output_channels(operator: str, node: NodeProto, weight: npt.NDArray[np.generic]) -> int:
    """Return how many channels a layer makes, by the weight it has; 0 if such a weight makes none.

    `operator` is what the layer computes in float: `node` may do it on codes.
    """
    if operator == "Conv":
        return int(weight.shape[0]) if weight.ndim >= 3 else 0
    if operator == "ConvTranspose":
        group = attribute(node, "group", 1)
        fits = weight.ndim >= 3 and group > 0 and weight.shape[0] % group == 0
        return int(weight.shape[1]) * group if fits else 0
    if weight.ndim != 2:
        return 0
    if operator == "Gemm":
        return int(weight.shape[0 if attribute(node, "transB", 0) else 1])
    return int(weight.shape[1])


def _fold_into(graph: Graph, layer: NodeProto, norm: Norm) -> None:
    assert norm.parameters is not None
    gain, shift = norm.parameters.gain_and_shift()
    way = _Way(norm.input, 1, ()) if graph.maker(norm.input) is layer else _way_back(graph, norm)
    weight = np.asarray(graph.constant(layer.input[1]), np.float64)
    if layer.op_type == "Conv":
        scaled = weight * gain.reshape(-1, *[1] * (weight.ndim - 1))
    elif layer.op_type == "ConvTranspose":  # (inputs, outputs / group, ...): outputs are numbered group by group
        group = attribute(layer, "group", 1)
        grouped = weight.reshape(group, -1, *weight.shape[1:])
        factor = gain.reshape(group, 1, -1, *[1] * (weight.ndim - 2))
        scaled = (grouped * factor).reshape(weight.shape)
    elif layer.op_type == "Gemm" and attribute(layer, "transB", 0):
        scaled = weight * gain[:, None]
    else:
        scaled = weight * gain
    kind = np.asarray(graph.constant(layer.input[1])).dtype
    folded_weight = graph.add_constant(f"{layer.input[1]}/folded", scaled.astype(kind))

    beta = attribute(layer, "beta", 1.0) if layer.op_type == "Gemm" else 1.0
    old = np.asarray(graph.constant(layer.input[2]), np.float64) if _has_bias(layer) else np.zeros(1)
    value = ((old * beta + way.added) * gain + shift).astype(kind)
    name = label(layer)
    for node in (layer, *norm.nodes):
        graph.remove(node)
    # Whatever reads what the norm made, subgraphs and the next norm included, finds it.
    made = _joined(graph, way, norm.output)
    del layer.input[1:]
    layer.input.append(folded_weight)
    if layer.op_type == "MatMul":
        layer.output[0] = graph.new_name(f"{way.tensor}/product")
        bias = graph.add_constant(f"{name}/bias", value)
        graph.make("Add", [layer.output[0], bias], made, f"{name}/bias")
    else:
        layer.output[0] = made
        layer.input.append(graph.add_constant(f"{name}/bias/folded", value))
        for a in [a for a in layer.attribute if layer.op_type == "Gemm" and a.name == "beta"]:
            layer.attribute.remove(a)
    graph.add(layer)


def _joined(graph: Graph, way: _Way, output: str) -> str:
    """Take biases out of the way from a layer, let it end in `output`, and return what the layer has to make."""
    moves = [node for node in reversed(way.between) if not is_op(node, "Add")]
    for node in way.between:
        graph.remove(node)
    if not moves:
        return output
    tensors = [way.tensor, *(node.output[0] for node in moves[:-1]), output]
    for i, node in enumerate(moves):
        node.input[0], node.output[0] = tensors[i], tensors[i + 1]
        graph.add(node)
    return way.tensor


def _has_bias(layer: NodeProto) -> bool:
    return len(layer.input) > 2 and bool(layer.input[2])
