"""Carries batch norms through ONNX Runtime's quantizer.

The quantizer knows no batch norm. It would wrap one in QDQ format, with its gain rounded to 8 bits for all
channels together, and leave it in float in QOperator format. A depthwise 1x1 convolution computes the same, and
the quantizer gives it, with the Relu or Clip behind it, an 8-bit input and output in both formats. So each norm
becomes such a convolution, a mark, before; and behind the quantizer the mark becomes the norm again, with the
parameters it had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .norms import PARAMETER_NAMES

if TYPE_CHECKING:
    from onnx import NodeProto

    from .graph import Graph
    from .norms import Norm, Parameters

_PREFIX = "bytenorm.norm."
_SUFFIX = "_quant"  # of what the quantizer makes of a node in QOperator format


class Marks:
    """The norms of one graph as convolutions: made by :meth:`set`, undone by :meth:`lift`."""

    def __init__(self) -> None:
        self._norms: dict[str, tuple[str, Parameters]] = {}

    def set(self, graph: Graph, norm: Norm) -> None:
        """Write a norm as a depthwise convolution. A norm of vectors goes through a third axis."""
        assert norm.parameters is not None
        mark = f"{_PREFIX}{len(self._norms)}"
        self._norms[mark] = (norm.name, norm.parameters)
        gain, shift = norm.parameters.gain_and_shift()
        # Weights of 0, and others whose bias the quantizer could not write in 32 bits, are no weights for it.
        # The mark is lifted again; a part in a million moves no range.
        smallest = np.maximum(np.abs(shift) * 1e-6, 1e-12)
        gain = np.where(gain < 0, -1.0, 1.0) * np.maximum(np.abs(gain), smallest)
        shape = graph.type_of(norm.input)[1]
        rank = len(shape) if shape is not None else 4
        channels, spatial = len(gain), [1] * max(rank - 2, 1)
        for node in norm.nodes:
            graph.remove(node)
        x, y = norm.input, norm.output
        if rank == 2:
            x, y = graph.new_name(f"{norm.name}/as_image"), graph.new_name(f"{norm.name}/as_image/normalized")
            made, end = y, norm.output
            if norm.activation is not None:  # the quantizer must see it right behind the convolution
                made, end = graph.new_name(f"{norm.name}/as_image/activated"), norm.activation.output[0]
                graph.remove(norm.activation)
                norm.activation.input[0], norm.activation.output[0] = y, made
                graph.add(norm.activation)
            there = graph.add_constant(f"{norm.name}/image_shape", np.array([0, channels, 1], np.int64))
            back = graph.add_constant(f"{norm.name}/vector_shape", np.array([0, channels], np.int64))
            graph.make("Reshape", [norm.input, there], x, f"{mark}/there")
            graph.make("Reshape", [made, back], end, f"{mark}/back")
        weight = graph.add_constant(f"{mark}/weight", gain.astype(np.float32).reshape(-1, 1, *spatial))
        bias = graph.add_constant(f"{mark}/bias", shift.astype(np.float32))
        graph.make("Conv", [x, weight, bias], y, mark, group=channels, kernel_shape=spatial)

    def lift(self, graph: Graph) -> None:
        """Write every mark of a quantized graph as a norm in float between its conversions."""
        for node in graph.nodes:
            mark = node.name.removesuffix(_SUFFIX)
            if mark not in self._norms:
                continue
            name, parameters = self._norms[mark]
            graph.remove(node)
            if node.op_type == "QLinearConv":
                _lift_operator(graph, node, name, parameters)
            else:
                _make_norm(graph, node.input[0], node.output[0], name, parameters)


def _lift_operator(graph: Graph, node: NodeProto, name: str, parameters: Parameters) -> None:
    """QOperator format: x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, bias."""
    x, y = graph.new_name(f"{name}/dequantized"), graph.new_name(f"{name}/normalized")
    graph.make("DequantizeLinear", node.input[:3], x, f"{name}/dequantize")
    _make_norm(graph, x, y, name, parameters)
    graph.make("QuantizeLinear", [y, *node.input[6:8]], node.output[0], f"{name}/quantize")


def _make_norm(graph: Graph, x: str, y: str, name: str, p: Parameters) -> None:
    tensors = [graph.add_constant(f"{name}/{what}", getattr(p, what)) for what in PARAMETER_NAMES]
    graph.make("BatchNormalization", [x, *tensors], y, name, epsilon=p.epsilon)
