"""The layers of an 8-bit graph whose bias can be corrected: convolutions and products with a constant weight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...folding.backward import output_channels
from ...graph.graph import CONTRIBUTED, Graph, attribute, is_op
from ...norms.qparams import qparams
from ...run.session import session_for_a_pass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ...norms.qparams import QParams

_BETWEEN_CONVERSIONS = ("Conv", "ConvTranspose", "Gemm")
# Inputs by position: the scale of the codes, the weight's three, the bias.
_ON_CODES = {"QLinearConv": (1, (3, 4, 5), 8), "QGemm": (1, (3, 4, 5), 6)}


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer that reads codes.

    Attributes
    ----------
    node : NodeProto
    source : QParams
        Of its codes.
    operator : str
        What it computes, in float.
    weight : callable
        Returns it in real units, as it is in 8 bits: of a large one there is no copy in between.
    channels : int
        How many it makes; 0 if its weight does not fit it.
    bias : array
        In int32, or in float.
    steps : array
        The scale of the bias, one number or one a channel; of one in float 1.
    """

    node: onnx.NodeProto
    source: QParams
    operator: str
    weight: Callable[[], np.ndarray]
    channels: int
    bias: np.ndarray
    steps: np.ndarray

    def mean_of_output(self, sums: Mapping[tuple[int, ...], tuple[np.ndarray, int]]) -> np.ndarray:
        """Return the mean of each channel of what it makes, before any activation.

        The layer is linear: what it makes of the mean of samples is the mean of what it makes of each.

        Parameters
        ----------
        sums : mapping of shape to (array, int)
            By the shape of a sample, the sum of the samples' codes at each position, and how many there are.
        """
        scale, zero_point = self.source.scalars
        run = session_for_a_pass(self._alone(), threads=1)
        total, count = np.zeros(self.channels), 0
        for shape, (summed, samples) in sums.items():
            mean = ((summed / samples - zero_point) * scale).astype(np.float32)
            made = run.run(None, {"x": mean.reshape(1, *shape)})[0].astype(np.float64)
            positions = made.size // self.channels
            total += made.reshape(self.channels, -1).sum(axis=1) * samples
            count += positions * samples
        return total / count

    def _alone(self) -> onnx.ModelProto:
        inner = [a for a in self.node.attribute if a.name not in ("alpha", "beta")]
        node = helper.make_node(self.operator, ["x", "w", "b"], ["y"])
        node.attribute.extend(inner)
        bias = (self.bias * self.steps).astype(np.float32)
        constants = [
            numpy_helper.from_array(self.weight(), "w"),
            numpy_helper.from_array(bias, "b"),
        ]
        x, y = (onnx.ValueInfoProto(name=name) for name in "xy")
        x.type.tensor_type.elem_type = y.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        graph = helper.make_graph([node], "layer", [x], [y], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    def add_to_bias(self, graph: Graph, change: np.ndarray) -> bool:
        """Add to the bias, in real units; say whether it could be: int32 holds it and is not what it was."""
        if self.bias.dtype == np.float32:
            return self._add_in_float(graph, change)
        steps = np.rint(change / self.steps)
        value = self.bias.astype(np.float64) + steps
        limits = np.iinfo(np.int32)
        if not steps.any() or not np.all((value >= limits.min) & (value <= limits.max)):
            return False
        codes = graph.add_constant(f"{self.node.name}/bias/corrected", value.astype(np.int32))
        if self.node.op_type in _ON_CODES:
            graph.set_input(self.node, _ON_CODES[self.node.op_type][2], codes)
            return True
        one = self.steps.size == 1
        scale = graph.add_constant(
            f"{self.node.name}/bias/scale", self.steps.astype(np.float32).reshape(() if one else -1)
        )
        numbers = graph.new_name(f"{self.node.name}/bias")
        graph.make("DequantizeLinear", [codes, scale], numbers, f"{self.node.name}/bias/dequantize", axis=0)
        graph.set_input(self.node, 2, numbers)
        return True

    def _add_in_float(self, graph: Graph, change: np.ndarray) -> bool:
        with np.errstate(over="ignore"):
            value = (self.bias.astype(np.float64) + change).astype(np.float32)
        if not np.isfinite(value).all() or np.array_equal(value, self.bias):
            return False
        graph.set_input(self.node, 2, graph.add_constant(f"{self.node.name}/bias/corrected", value))
        return True


def find_layers(graph: Graph, *, quantized_biases: bool = True) -> Iterator[Layer]:
    """Yield the layers of an 8-bit graph whose bias can be corrected.

    A layer without a bias may get one in 32 bits, or, without `quantized_biases`, in float.
    """
    for node in graph.nodes:
        layer = _between_conversions(graph, node) or _on_codes(graph, node)
        if layer is not None and not quantized_biases and not any(layer.node.input[2:]):
            layer = replace(layer, bias=layer.bias.astype(np.float32), steps=np.ones(1))
        if layer is not None and np.all(np.isfinite(layer.steps)) and np.all(layer.steps > 0):
            yield layer


def _between_conversions(graph: Graph, node: onnx.NodeProto) -> Layer | None:
    if not is_op(node, *_BETWEEN_CONVERSIONS) or attribute(node, "transA", 0):
        return None
    if attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1:
        return None
    before, of_weight = graph.maker(node.input[0]), graph.maker(node.input[1])
    if not is_op(before, "DequantizeLinear") or not is_op(of_weight, "DequantizeLinear"):
        return None
    assert before is not None
    assert of_weight is not None
    source = qparams(graph, before, 1, before.input[0], "")[0]
    weight, scale = graph.constant(node.input[1]), graph.constant(of_weight.input[1])
    if source is None or weight is None or scale is None or graph.constant(before.input[0]) is not None:
        return None
    steps = scale.astype(np.float64).ravel() * source.scale.astype(np.float64).ravel()[:1]
    channels = output_channels(node.op_type, node, weight)
    numbers = partial(_in_float32, graph, node.input[1])
    made = Layer(node, source, node.op_type, numbers, channels, np.zeros(0, np.int32), steps)
    return _with_bias(graph, made, node.input[2] if len(node.input) > 2 else "")


def _with_bias(graph: Graph, layer: Layer, name: str) -> Layer | None:
    """Return the layer with its bias; None if that is none of 32 bits."""
    channels = layer.channels
    if not channels or not layer.source.per_tensor or layer.steps.size not in (1, channels):
        return None
    if not name:
        return replace(layer, bias=np.zeros(channels, np.int32))
    maker = graph.maker(name)
    if maker is not None and is_op(maker, "DequantizeLinear"):
        codes, scale = graph.constant(maker.input[0]), graph.constant(maker.input[1])
        steps = np.zeros(0) if scale is None else scale.astype(np.float64).ravel()
    else:
        codes, steps = graph.constant(name), layer.steps
    if codes is not None and codes.dtype == np.float32 and codes.size == channels and maker is None:
        return replace(layer, bias=codes.ravel(), steps=np.ones(1))
    if codes is None or codes.dtype != np.int32 or codes.size != channels or steps.size not in (1, channels):
        return None
    return replace(layer, bias=codes.ravel(), steps=steps)


def _on_codes(graph: Graph, node: onnx.NodeProto) -> Layer | None:
    if not is_op(node, "QLinearConv") and (node.domain, node.op_type) != (CONTRIBUTED, "QGemm"):
        return None
    if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1:
        return None
    scale_at, weight_at, bias_at = _ON_CODES[node.op_type]
    source = qparams(graph, node, scale_at, node.input[0], "")[0]
    codes, scale, zero_point = (graph.constant(node.input[i]) for i in weight_at)
    if source is None or codes is None or scale is None or zero_point is None or codes.ndim < 2:
        return None
    operator = "Conv" if node.op_type == "QLinearConv" else "Gemm"
    steps = scale.astype(np.float64).ravel()
    by_row = operator == "Conv" or bool(attribute(node, "transB", 0))
    if {scale.size, zero_point.size} - {1, codes.shape[0 if by_row else 1]}:
        return None
    shape = (-1, *[1] * (codes.ndim - 1)) if by_row else (1, -1)
    zeros, steps_of = (v.reshape(shape if v.size > 1 else -1) for v in (zero_point, scale))
    channels = output_channels(operator, node, codes)
    numbers = partial(_dequantized, graph, node.input[weight_at[0]], zeros, steps_of)
    layer = Layer(node, source, operator, numbers, channels, np.zeros(0, np.int32), steps * source.scalars[0])
    return _with_bias(graph, layer, node.input[bias_at] if len(node.input) > bias_at else "")


def _in_float32(graph: Graph, tensor: str) -> np.ndarray:
    value = graph.constant(tensor)
    assert value is not None
    return value.astype(np.float32, copy=False)


def _dequantized(graph: Graph, tensor: str, zeros: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return what codes of 8 bits stand for: differences of these are exact in float32, so one step rounds."""
    codes = graph.constant(tensor)
    assert codes is not None
    made = codes.astype(np.float32)
    made -= zeros.astype(np.float32)
    made *= steps.astype(np.float32)
    return made
