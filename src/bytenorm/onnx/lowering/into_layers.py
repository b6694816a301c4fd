"""Norms behind a layer whose output has no codes: the layer makes what they make, and runs in 8 bits.

NNCF quantizes what layers read, so nothing between a layer, its Relu and a norm. Gain and shift go into the scales
of the layer's weights and into its bias. A Relu or Clip between the two leaves numbers within limits; the norm
brings these to limits of each channel. Rounding keeps order: what is cut off at a number has codes cut off at its
code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..graph.graph import Graph, attribute, is_op, label, opset_of
from ..norms.find import find_norms
from ..norms.qparams import dequantized
from ..norms.surroundings import activation_limits

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    import numpy.typing as npt
    from onnx import NodeProto

    from ..norms.norm import Norm
    from ..norms.qparams import QParams

    Numbers = npt.NDArray[np.float64]

_OLDEST = 13  # opset, of one scale a channel
_FINEST = 8  # parts of a step of the output that one of the bias may be
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class _Layer:
    """A layer of codes by constant weights, and the activation between it and a norm.

    `codes` are its weights, with the output channels first, and `scales` one for each channel.
    """

    node: NodeProto
    x: QParams
    codes: npt.NDArray[np.int64]
    scales: Numbers
    axis: int  # of the output channels
    bias: Numbers
    activation: NodeProto | None
    limits: tuple[float, float]


@dataclass(frozen=True)
class _Held:
    """What a layer holds to make what a norm makes: weights, channels first, their scales, a bias, its steps."""

    codes: npt.NDArray[np.int64]
    scales: npt.NDArray[np.float32]
    bias: Numbers
    steps: Numbers


def move_into_layers(graph: Graph, excluded: Container[str]) -> tuple[Graph, set[str]]:
    """Let layers whose output only a norm reads make what the norm makes.

    Parameters
    ----------
    graph : Graph
        Its model is changed in place. Of no use any more.
    excluded : container of str
        Names of norms that stay as they are.

    Returns
    -------
    graph : Graph
        Of the same model.
    names : set of str
        Of the norms that are gone.
    """
    moves = list(_moves(graph, excluded))
    for norm, layer, held in moves:
        _move(graph, norm, layer, held)
    return (graph.finished() if moves else graph), {norm.name for norm, *_ in moves}


def movable(graph: Graph) -> set[str]:
    """Return the names of the norms that layers can take."""
    return {norm.name for norm, *_ in _moves(graph, ())}


def _moves(graph: Graph, excluded: Container[str]) -> Iterator[tuple[Norm, _Layer, _Held]]:
    if opset_of(graph.model) < _OLDEST:
        return
    for norm in find_norms(graph, source=lambda _norm: (None, "")):
        if norm.lowered or norm.problem or norm.cut is not None or norm.name in excluded:
            continue
        layer = _layer_before(graph, norm)
        held = None if layer is None else _held(norm, layer)
        if layer is not None and held is not None:
            yield norm, layer, held


def _layer_before(graph: Graph, norm: Norm) -> _Layer | None:
    """Return the layer whose output a norm alone reads, cut off perhaps; None if there is none to take it."""
    node, limits, activation = graph.maker(norm.input), (-np.inf, np.inf), None
    if len(graph.readers(norm.input)) != 1 or graph.is_read_elsewhere(norm.input):
        return None
    if node is not None and is_op(node, "Relu", "Clip"):
        found = activation_limits(graph, node)
        if found is None or found[0] > found[1] or graph.only_reader(node.input[0]) is not node:
            return None
        activation, limits = node, found
        node = graph.maker(node.input[0])
    if node is None or not is_op(node, "Conv", "Gemm") or not 2 <= len(node.input) <= 3:
        return None
    is_plain = attribute(node, "alpha", 1.0) == 1 == attribute(node, "beta", 1.0) and not attribute(
        node, "transA", 0
    )
    x, weight = (dequantized(graph, tensor)[0] for tensor in node.input[:2])
    if x is None or weight is None or not x.per_tensor or not is_plain:
        return None
    codes, axis = graph.constant(weight.codes), 0 if is_op(node, "Conv") or attribute(node, "transB", 0) else 1
    assert norm.parameters is not None
    channels = norm.parameters.channels
    if (
        codes is None
        or not weight.signed
        or codes.ndim < 2
        or codes.shape[axis] != channels
        or weight.zero_point.any()
    ):
        return None
    maker = graph.maker(node.input[1])
    along = attribute(maker, "axis", 1) if maker is not None else axis
    if not weight.per_tensor and (weight.scale.size != channels or along % codes.ndim != axis):
        return None
    bias = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    if bias is None or bias.size not in (1, channels) or not np.isfinite(bias).all():
        return None
    if bias.size != 1 and bias.shape[-1] != channels:  # a Gemm may have one for each row
        return None
    return _Layer(
        node,
        x,
        np.moveaxis(codes.astype(np.int64), axis, 0),
        np.broadcast_to(weight.scale.astype(np.float64).ravel(), channels),
        axis,
        np.broadcast_to(bias.astype(np.float64).ravel(), channels),
        activation,
        limits,
    )


def _held(norm: Norm, layer: _Layer) -> _Held | None:
    """Return a layer's numbers with those of a norm; None if 8-bit weights and 32-bit biases do not hold them."""
    assert norm.parameters is not None and norm.target is not None
    gain, shift = norm.parameters.gain_and_shift()
    codes = layer.codes * np.sign(gain).astype(np.int64).reshape(-1, *[1] * (layer.codes.ndim - 1))
    with np.errstate(over="ignore"):
        scales = np.where(gain == 0, layer.scales, layer.scales * np.abs(gain)).astype(np.float32)
        steps = (np.float32(layer.x.scalars[0]) * scales).astype(np.float64)
    if not np.isfinite(steps).all() or np.any(steps < np.finfo(np.float32).tiny) or codes.max(initial=0) > 127:
        return None
    bias = np.rint((layer.bias * gain + shift) / steps)
    sums = np.abs(codes).reshape(len(codes), -1).sum(axis=1) * 255 + np.abs(bias)
    if np.any(steps > norm.target.scalars[0] / _FINEST) or np.any(sums > _LARGEST):
        return None
    return _Held(codes, scales, bias, steps)


def _move(graph: Graph, norm: Norm, layer: _Layer, held: _Held) -> None:
    """Let a layer, with numbers of a norm in it, make what the norm made."""
    for node in (layer.node, layer.activation, *norm.nodes, *norm.between, norm.activation, norm.quantize):
        if node is not None:
            graph.remove(node)
    name, zeros = norm.name, np.zeros(len(held.codes))
    weights = np.moveaxis(held.codes, 0, layer.axis)
    inputs = [layer.node.input[0]]
    for what, array, scale, axis in (
        ("weight", weights, held.scales, layer.axis),
        ("bias", held.bias, held.steps, 0),
    ):
        byte = np.int8 if what == "weight" else np.int32
        given = {"": array.astype(byte), "_scale": scale.astype(np.float32), "_zero_point": zeros.astype(byte)}
        names = [graph.add_constant(f"{name}/{what}{of}", value) for of, value in given.items()]
        inputs.append(graph.new_name(f"{name}/{what}/real"))
        graph.make("DequantizeLinear", names, inputs[-1], inputs[-1], axis=axis)
    made = graph.new_name(f"{name}/of {layer.node.output[0]}")
    graph.make_like(layer.node, inputs, made, label(layer.node))
    _quantize(graph, norm, made, held.codes.ndim, _limits(norm, layer))


def _limits(norm: Norm, layer: _Layer) -> tuple[Numbers, Numbers]:
    """Return the lowest and the highest number of each channel, behind the activation of the norm as well."""
    assert norm.parameters is not None
    gain, shift = norm.parameters.gain_and_shift()
    some = gain != 0  # else the bias is all there is
    ends = [np.where(some, gain, 1.0) * limit + shift for limit in layer.limits]
    low, high = np.where(some, np.minimum(*ends), -np.inf), np.where(some, np.maximum(*ends), np.inf)
    return np.clip(low, norm.floor, norm.ceiling), np.clip(high, norm.floor, norm.ceiling)


def _quantize(graph: Graph, norm: Norm, real: str, rank: int, limits: tuple[Numbers, Numbers]) -> None:
    """Make the codes of a norm of what its layer makes, cut off at the codes of its limits."""
    assert norm.target is not None
    byte = np.int8 if norm.target.signed else np.uint8
    ends = np.iinfo(byte).min, np.iinfo(byte).max
    column = (-1, *[1] * (rank - 2))
    cuts = []
    for op, limit, end in zip(("Max", "Min"), limits, ends, strict=True):
        codes = norm.target.codes_of(limit).astype(byte)
        if np.any(codes != end):
            cuts.append((op, codes.reshape(column)))
    names = [norm.target.scale_name, *filter(None, [norm.target.zero_point_name])]
    made = [graph.new_name(f"{norm.target.codes}/before {op}") for op, _ in cuts] + [norm.target.codes]
    graph.make("QuantizeLinear", [real, *names], made[0], f"{norm.name}/QuantizeLinear")
    for (op, codes), before, behind in zip(cuts, made, made[1:], strict=False):
        bound = graph.add_constant(f"{norm.name}/{op}", codes)
        graph.make(op, [before, bound], behind, f"{norm.name}/{op}")
