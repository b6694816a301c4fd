"""Layers as ONNX Runtime's quantizer computes them: without factors, their bias a constant vector of its own.

The quantizer writes a bias in units of the input's scale times the weight's and leaves `alpha`, which then
multiplies the bias as well: with alpha 0.5 half of the bias is gone. It takes any bias for a vector. What two
layers share it writes once: the weight along the axis of the first, the bias, in QOperator format, in its units.

A bias that became an Add is added to the product itself and not to what was rounded of it. Both have nearly the
same step, so a bias of 1.49 steps would be one of 1 in each number alike, which a mean behind it does not smooth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..graph.graph import LAYERS, attribute, is_op, label

if TYPE_CHECKING:
    from collections.abc import Container

    from onnx import NodeProto

    from ..graph.graph import Graph


def make_layers_plain(graph: Graph, excluded: Container[str], *, split_groups: bool) -> list[str]:
    """Write alpha and beta into constants, and what is no vector of constants as an Add of its own.

    Layers get copies of the constants that others read too, and a Pad of its value.

    Parameters
    ----------
    graph : Graph
        Changed in place; the caller finishes it.
    excluded : container of str
        Names of nodes that stay as they are.
    split_groups : bool
        Whether a ConvTranspose in groups gets an Add as well. Where weights have a scale for each channel the
        quantizer has one for each of a group, and takes the bias for one of these.

    Returns
    -------
    list of str
        The names of these Adds: see :func:`add_to_products`.
    """
    adds = []
    for node in [node for node in graph.nodes if node.name not in excluded]:
        if is_op(node, "Gemm") and _is_float(graph, node):
            _write_alpha(graph, node)
            adds += _write_bias(graph, node)
        if split_groups and is_op(node, "ConvTranspose") and attribute(node, "group", 1) > 1:
            adds += _move_bias(graph, node)
        if is_op(node, *LAYERS, "Pad"):
            _own_constants(graph, node)
    return adds


def add_to_products(graph: Graph, adds: Container[str]) -> bool:
    """Let the Adds of a quantized graph that have these names read products as they are; say if there was one.

    Changed in place; the caller finishes it.
    """
    found = False
    for node in [node for node in graph.nodes if node.name in adds and is_op(node, "Add")]:
        real = graph.maker(node.input[0])
        codes = graph.maker(real.input[0]) if real is not None and is_op(real, "DequantizeLinear") else None
        if codes is not None and is_op(codes, "QuantizeLinear") and is_op(graph.maker(codes.input[0]), *LAYERS):
            graph.set_input(node, 0, codes.input[0])
            found = True
    return found


def _own_constants(graph: Graph, node: NodeProto) -> None:
    for at, tensor in enumerate(node.input):
        value = graph.constant(tensor)
        if value is None or value.dtype.kind != "f":
            continue
        others = [reader for reader in graph.readers(tensor) if reader is not node]
        of_all = at == 1 and node.op_type != "Pad" and all(_use(other) == _use(node) for other in others)
        if graph.is_read_elsewhere(tensor) or list(node.input).count(tensor) > 1 or (others and not of_all):
            graph.set_input(node, at, graph.add_constant(f"{tensor}/own", value))


def _use(node: NodeProto) -> tuple[str, float]:
    """Say how a layer uses its weight."""
    return node.op_type, attribute(node, "transB", 0)


def _move_bias(graph: Graph, node: NodeProto) -> list[str]:
    bias, weight = (graph.constant(node.input[at]) if len(node.input) > at else None for at in (2, 1))
    if bias is None or weight is None:
        return []
    column = graph.add_constant(f"{node.input[2]}/column", bias.reshape(-1, *[1] * (weight.ndim - 2)))
    return [_add_apart(graph, node, column, 1.0)]


def _is_float(graph: Graph, node: NodeProto) -> bool:
    return all(
        value is None or value.dtype in (np.float32, np.float16, np.float64)
        for value in map(graph.constant, node.input)
    )


def _write_alpha(graph: Graph, node: NodeProto) -> None:
    alpha, weight = attribute(node, "alpha", 1.0), graph.constant(node.input[1])
    if alpha == 1 or weight is None:
        return
    scaled = (weight.astype(np.float64) * alpha).astype(weight.dtype)
    graph.set_input(node, 1, graph.add_constant(f"{node.input[1]}/times_alpha", scaled))
    _drop(node, "alpha")


def _write_bias(graph: Graph, node: NodeProto) -> list[str]:
    if len(node.input) < 3 or not node.input[2]:
        return []
    bias, beta, units = graph.constant(node.input[2]), attribute(node, "beta", 1.0), _units(graph, node)
    if bias is None and attribute(node, "alpha", 1.0) == 1:
        return []  # the quantizer leaves it in float
    name = node.input[2]
    if bias is not None and (bias.ndim != 1 or beta != 1 or bias.size != units):
        value = (bias.astype(np.float64) * beta).astype(bias.dtype)
        if units is not None and (value.size == 1 or value.shape in ((units,), (1, units))):
            value = np.broadcast_to(value.reshape(-1), (units,))
        name = graph.add_constant(f"{name}/plain", value)
        bias = graph.constant(name)
    vector = bias is not None and bias.shape == (units,)
    if vector and attribute(node, "alpha", 1.0) == 1:
        graph.set_input(node, 2, name)
        _drop(node, "beta")
        return []
    return [_add_apart(graph, node, name, beta if bias is None else 1.0)]


def _add_apart(graph: Graph, node: NodeProto, bias: str, beta: float) -> str:
    """Let a layer have no bias, and an Add behind it have it; return the name of that."""
    graph.remove(node)
    of, output = label(node), node.output[0]
    product = graph.new_name(f"{output}/product")
    del node.input[2:]
    node.output[0] = product
    _drop(node, "beta")
    graph.add(node)
    if beta != 1:
        weight = graph.constant(node.input[1])
        factor = graph.add_constant(f"{of}/beta", np.array(beta, np.float32 if weight is None else weight.dtype))
        scaled = graph.new_name(f"{bias}/times_beta")
        graph.make("Mul", [bias, factor], scaled, f"{of}/beta")
        bias = scaled
    return graph.make("Add", [product, bias], output, f"{of}/bias").name


def _units(graph: Graph, node: NodeProto) -> int | None:
    """Return how many columns a Gemm makes."""
    weight = graph.constant(node.input[1])
    shape = graph.type_of(node.input[1])[1] if weight is None else weight.shape
    if shape is None or len(shape) != 2:
        return None
    return shape[0 if attribute(node, "transB", 0) else 1]


def _drop(node: NodeProto, name: str) -> None:
    for a in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(a)
