"""Another scale and zero point for activations of a made 8-bit graph, without quantizing again.

ONNX Runtime's quantizer writes the scale of a tensor ``x`` once, as the initializer ``x_scale``. All that holds
codes of ``x`` reads it, and so does what only moves them: a MaxPool, a Reshape, a Transpose. A Relu or a Clip that
it dropped is in the range. What follows from a scale is the bias of each layer that reads ``x``: its codes are in
units of the input's scale times the weight's. They are made again of the bias in float, as the quantizer makes
them: rounding codes once more would add an error of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..._errors import bad_value
from ..._tensors.quantization import range_of_codes
from ..graph.quantizer_names import CODES
from ..run.layer_weights import channel_axis

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    import numpy.typing as npt
    from onnx import NodeProto

    from ..graph.graph import Graph

    Array = npt.NDArray[Any]
    Constants = Callable[[str], Array | None]

_LARGEST = np.iinfo(np.int32).max


class ActivationQParams(NamedTuple):
    """The quantization of an activation."""

    scale: float
    zero_point: int
    signed: bool

    def range(self) -> tuple[float, float]:
        """Return the numbers of the lowest and the highest code."""
        return range_of_codes(self.scale, self.zero_point, signed=self.signed)


@dataclass(frozen=True)
class _Layer:
    """A layer with a bias in 32 bits, and the names of the initializers that hold how it is quantized."""

    input_scale: str
    weight: str  # its codes; of another activation where it is no initializer
    weight_scale: str
    weight_zero_point: str
    axis: int | None  # of the weight's channels, where it has a scale for each
    bias: str
    bias_scale: str | None  # QOperator format has none


def activations(graph: Graph) -> dict[str, ActivationQParams]:
    """Return the quantization of each tensor that :func:`set_qparams` can change.

    Tensors are called as in the float graph that was quantized. One that takes the quantization of the tensor
    before it (behind a MaxPool, a Reshape) is not among them: it changes with that one. Nor is the output of a
    QLinearSoftmax, whose codes are for 0 to 1 always.
    """
    fixed = _fixed(graph)
    names = (t.name.removesuffix("_scale") for t in graph.proto.initializer if t.name.endswith("_scale"))
    found = ((name, _activation(graph, name, fixed)) for name in names)
    return {name: q for name, q in found if q is not None}


def _fixed(graph: Graph) -> set[str]:
    return {node.input[3] for node in graph.nodes if node.op_type == "QLinearSoftmax"}


def _activation(graph: Graph, name: str, fixed: Container[str]) -> ActivationQParams | None:
    """Return the quantization of a tensor that may be changed; `fixed` are names of scales that may not."""
    scale = f"{name}_scale"
    initializer = graph.initializer(scale)
    if (
        initializer is None
        or scale in fixed
        or initializer.dims
        or graph.initializer(f"{name}{CODES}") is not None
    ):
        return None
    if not graph.readers(scale) and not graph.is_captured(scale):
        return None
    step, zero = graph.constant(scale), graph.constant(f"{name}_zero_point")
    if step is None or zero is None or step.dtype != np.float32 or zero.dtype not in (np.int8, np.uint8):
        return None
    return ActivationQParams(float(step.item()), int(zero.item()), zero.dtype == np.int8)


def set_qparams(graph: Graph, qparams: Mapping[str, tuple[float, int]], constants: Constants) -> None:
    """Give activations of a made graph another scale and zero point, and biases the codes that follow.

    Where the codes of a bias would leave 32 bits, the scale of its weight grows, as in ONNX Runtime's quantizer,
    and the weight is rounded again.

    Parameters
    ----------
    graph : Graph
        As ONNX Runtime's quantizer made it, in either format. Changed in place, once all is checked.
    qparams : mapping of str to (float, int)
        Scale and zero point by tensor, as :func:`activations` calls it. The scale is rounded to float32.
    constants : callable
        Returns the value of a constant of the float graph by its name, or None: of a bias, and of a weight.

    Raises
    ------
    ValueError
        If a tensor has no quantization of its own, or a scale or a zero point is none. If a bias or a weight that
        has to be made again is not known in float.
    """
    fixed = _fixed(graph)
    values: dict[str, Array] = {}
    for tensor, (scale, zero_point) in qparams.items():
        known = _activation(graph, tensor, fixed)
        if known is None:
            raise bad_value("qparams", f": {tensor!r} is no activation with a quantization of its own")
        kind = np.iinfo(np.int8 if known.signed else np.uint8)
        with np.errstate(over="ignore"):
            step = np.float32(scale)
        if not (math.isfinite(step) and step >= np.finfo(np.float32).tiny):
            raise bad_value("qparams", f"must have a positive scale for {tensor!r}, got {scale!r}")
        if not kind.min <= zero_point <= kind.max:
            raise bad_value(
                "qparams",
                f"must have a zero point from {kind.min} to {kind.max} for {tensor!r}, got {zero_point!r}",
            )
        values[f"{tensor}_scale"] = np.array(step)
        values[f"{tensor}_zero_point"] = np.array(zero_point, kind.dtype)
    set_constants(graph, values, constants)


def set_constants(graph: Graph, values: Mapping[str, Array], constants: Constants) -> None:
    """Give initializers of a made graph other values, scales among them, and biases the codes that follow.

    Parameters
    ----------
    graph, constants : as for :func:`set_qparams`
    values : mapping of str to array
        By name.

    Raises
    ------
    ValueError
        As :func:`set_qparams`.
    """
    changed = dict(values)
    _follow(graph, changed, constants)
    for name, value in changed.items():
        graph.set_constant(name, value)


def _follow(graph: Graph, values: dict[str, Array], constants: Constants) -> None:
    """Add to the values of initializers that change those that follow: of biases, and of weights."""
    layers = _layers(graph, [name for name in values if name.endswith("_scale")])
    for layer in layers:
        _widen(graph, layer, values, constants)
    # Layers may share a weight: what makes it wider changes the bias of the other one too.
    layers = _layers(graph, [name for name in values if name.endswith("_scale")])
    for layer in layers:
        bias, scale = _bias(graph, layer, constants), _bias_scale(graph, layer, values)
        codes = (bias.astype(np.float64) / scale.astype(np.float64)).round().reshape(bias.shape)
        values[layer.bias] = np.clip(codes, -_LARGEST - 1, _LARGEST).astype(np.int32)
        if layer.bias_scale is not None:
            values[layer.bias_scale] = scale.reshape(-1)


def _layers(graph: Graph, scales: list[str]) -> list[_Layer]:
    """Return the layers with a bias in 32 bits that read any of these scales, each once."""
    nodes: dict[int, NodeProto] = {}
    for scale in scales:
        for node in graph.readers(scale):
            near = graph.readers(node.output[0]) if node.op_type == "DequantizeLinear" else [node]
            nodes.update((id(reader), reader) for reader in near)
    found: dict[str, _Layer] = {}
    for node in nodes.values():
        layer = _layer(graph, node)
        if layer is not None:
            found.setdefault(layer.bias, layer)
    return list(found.values())


def _layer(graph: Graph, node: NodeProto) -> _Layer | None:
    at = {"QLinearConv": 8, "QGemm": 6}.get(node.op_type)
    if at is not None:
        if len(node.input) <= at or not node.input[at]:
            return None
        axis = channel_axis(node, 2)  # of a QGemm; a convolution's is the same for any rank
        weight, steps, zero_point = node.input[3:6]
        return _Layer(node.input[1], weight, steps, zero_point, axis, node.input[at], None)
    if len(node.input) < 3:
        return None
    x, weight, bias = (graph.maker(tensor) for tensor in node.input[:3])
    if x is None or weight is None or bias is None:
        return None
    if any(maker.op_type != "DequantizeLinear" for maker in (x, weight, bias)):
        return None
    codes = graph.constant(bias.input[0])
    if codes is None or codes.dtype != np.int32 or len(weight.input) < 3:
        return None
    axis = next((a.i for a in weight.attribute if a.name == "axis"), 1)
    of_weight = weight.input[:3]
    return _Layer(x.input[1], of_weight[0], of_weight[1], of_weight[2], axis, bias.input[0], bias.input[1])


def _widen(graph: Graph, layer: _Layer, values: dict[str, Array], constants: Constants) -> None:
    """Let a weight have wider steps where its bias would not fit 32 bits."""
    bias, scale = _bias(graph, layer, constants).astype(np.float64), _bias_scale(graph, layer, values)
    # A part in 10,000 more, as in the quantizer: what is rounded to float32 again still fits.
    ratio = np.maximum(1.0001 * np.abs(bias).ravel() / _LARGEST / scale.astype(np.float64).ravel(), 1)
    step = _value(graph, layer.weight_scale, values)
    if step.size == 1:
        ratio = ratio.max(initial=1)
    if (ratio <= 1.0001).all():
        return
    if graph.initializer(layer.weight) is None:  # of another activation, or in float before a QuantizeLinear
        raise bad_value("qparams", f": the bias {layer.bias!r} would not fit 32 bits")
    weight, zero = _float(graph, layer.weight, constants), _value(graph, layer.weight_zero_point, values)
    wider = np.asarray(step * ratio, step.dtype).reshape(step.shape)
    wide, zeros = (along(v, layer.axis, weight.ndim) for v in (wider, zero))
    kind = np.iinfo(zero.dtype)
    codes = (weight / wide).round() + zeros
    values[layer.weight_scale] = wider
    values[layer.weight] = np.clip(codes, kind.min, kind.max).astype(zero.dtype)


def along(steps: Array, axis: int | None, rank: int) -> Array:
    """Return steps, or zero points, of one axis of a weight in the shape in which they stand beside it."""
    return steps.reshape([-1 if i == axis else 1 for i in range(rank)] if steps.size > 1 else [])


def _value(graph: Graph, name: str, values: Mapping[str, Array]) -> Array:
    value = values.get(name, graph.constant(name))
    assert value is not None  # the quantizer writes initializers
    return value


def _bias(graph: Graph, layer: _Layer, constants: Constants) -> Array:
    """Return a bias: as in float, or, where a step behind the quantizer wrote it, as its codes say."""
    if layer.bias.endswith(CODES):
        return _float(graph, layer.bias, constants)
    return np.asarray(_value(graph, layer.bias, {}) * _bias_scale(graph, layer, {}).astype(np.float64))


def _float(graph: Graph, codes: str, constants: Constants) -> Array:
    """Return a constant in float by the name of its codes."""
    name, made = codes.removesuffix(CODES), graph.constant(codes)
    value = constants(name)
    if value is None or made is None or value.shape != made.shape:
        raise bad_value("constants", f": {name!r} of the float graph is not known")
    return value


def _bias_scale(graph: Graph, layer: _Layer, values: Mapping[str, Array]) -> Array:
    """Return the scale of a bias as the quantizer computes it, in float32."""
    scale, step = _value(graph, layer.input_scale, values), _value(graph, layer.weight_scale, values)
    return np.asarray(scale.reshape(()) * step)
