"""Folds batch norms into the layer before them, where there is nothing left to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .graph import Graph, attribute, is_op, label

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import NodeProto

    from .norms import Norm

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


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
    maker = graph.maker(norm.input)
    if maker is None:
        return None, "it reads an input of the model"
    if is_op(maker, "DequantizeLinear") or norm.written.startswith("QLinear") or norm.lowered:
        return None, "it reads 8-bit data"
    if not is_op(maker, *LAYERS):
        return None, f"it reads the {maker.op_type} {label(maker)}"
    name = f"the {maker.op_type} {label(maker)}"
    if norm.parameters is None:
        return None, norm.problem
    if graph.only_reader(norm.input) is None:
        return None, f"{name} has other readers too"
    weight = graph.constant(maker.input[1])
    if weight is None:
        return None, f"the weight of {name} is not constant"
    if is_op(graph.maker(maker.input[1]), "DequantizeLinear"):
        return None, f"the weight of {name} is quantized"
    if len(maker.input) > 2 and maker.input[2] and graph.constant(maker.input[2]) is None:
        return None, f"the bias of {name} is not constant"
    shape = graph.type_of(norm.input)[1]
    vectors = shape is not None and len(shape) == 2  # of channels: elsewhere a MatMul makes the last axis
    if _output_channels(maker, weight) != norm.parameters.channels or (maker.op_type == "MatMul" and not vectors):
        return None, f"{name} does not make {norm.parameters.channels} channels on axis 1"
    return maker, ""


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


def _output_channels(node: NodeProto, weight: npt.NDArray[np.generic]) -> int:
    if node.op_type == "Conv":
        return int(weight.shape[0]) if weight.ndim >= 3 else 0
    if node.op_type == "ConvTranspose":
        return int(weight.shape[1] * attribute(node, "group", 1)) if weight.ndim >= 3 else 0
    if weight.ndim != 2:
        return 0
    if node.op_type == "Gemm":
        return int(weight.shape[0 if attribute(node, "transB", 0) else 1])
    return int(weight.shape[1])


def _fold_into(graph: Graph, layer: NodeProto, norm: Norm) -> None:
    assert norm.parameters is not None
    gain, shift = norm.parameters.gain_and_shift()
    weight = np.asarray(graph.constant(layer.input[1]), np.float64)
    if layer.op_type == "Conv":
        scaled = weight * gain.reshape(-1, *[1] * (weight.ndim - 1))
    elif layer.op_type == "ConvTranspose":  # (inputs, outputs / group, ...): outputs are numbered group by group
        group = int(attribute(layer, "group", 1))
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
    value = (old * beta * gain + shift).astype(kind)
    name = label(layer)
    for node in (layer, *norm.nodes):
        graph.remove(node)
    del layer.input[1:]
    layer.input.append(folded_weight)
    # The layer makes what the norm made: whatever reads that, subgraphs and the next norm included, finds it.
    if layer.op_type == "MatMul":
        layer.output[0] = graph.new_name(f"{norm.input}/product")
        bias = graph.add_constant(f"{name}/bias", value)
        graph.make("Add", [layer.output[0], bias], norm.output, f"{name}/bias")
    else:
        layer.output[0] = norm.output
        layer.input.append(graph.add_constant(f"{name}/bias/folded", value))
        for a in [a for a in layer.attribute if layer.op_type == "Gemm" and a.name == "beta"]:
            layer.attribute.remove(a)
    graph.add(layer)


def _has_bias(layer: NodeProto) -> bool:
    return len(layer.input) > 2 and bool(layer.input[2])
