"""Carries batch norms through ONNX Runtime's quantizer.

The quantizer knows no batch norm. It would wrap one in QDQ format, with its gain rounded to 8 bits for all
channels together, and leave it in float in QOperator format. A depthwise 1x1 convolution computes the same, and
the quantizer gives it, with the Relu or Clip behind it, an 8-bit input and output in both formats. So each norm
becomes such a convolution, a mark, before; and behind the quantizer the mark becomes the norm again, with the
parameters it had.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from onnx import NodeProto

from ..graph.graph import int_list, is_op
from ..graph.quantizer_names import NODE
from ..norms.norm import PARAMETER_NAMES
from ..norms.qparams import qparams

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..graph.graph import Graph
    from ..norms.norm import Norm, Parameters

_PREFIX = "bytenorm.norm."


def markable(graph: Graph, norms: Iterable[Norm], folded: Iterable[Norm]) -> tuple[list[Norm], list[Norm]]:
    """Return, of norms that are not folded, those that can be marked, and the others, which lowering reports."""
    gone = {id(norm) for norm in folded}
    left = [norm for norm in norms if id(norm) not in gone]
    # A convolution has as many axes as what it reads.
    able = [n.parameters is not None and n.in_float32 and graph.type_of(n.input)[1] is not None for n in left]
    return [n for n, a in zip(left, able, strict=True) if a], [n for n, a in zip(left, able, strict=True) if not a]


class Marks:
    """The norms of one graph as convolutions: made by :meth:`set`, undone by :meth:`lift`.

    Parameters
    ----------
    operator : {"Conv", "ConvTranspose"}, optional
        Of single pixels and one channel a group both compute the same.
    """

    def __init__(self, operator: str = "Conv") -> None:
        self._operator = operator
        self._norms: dict[str, Norm] = {}
        self._parameters: dict[str, Parameters] = {}

    @classmethod
    def of(cls, norms: Mapping[str, Norm]) -> Marks:
        """Return marks that are set in a graph already, by the norms that they stand for."""
        marks = cls()
        marks._norms.update(norms)
        marks._parameters.update((mark, norm.parameters) for mark, norm in norms.items() if norm.parameters)
        return marks

    def set(self, graph: Graph, norm: Norm) -> None:
        """Write a norm as a depthwise convolution. A norm of vectors goes through a third axis."""
        assert norm.parameters is not None
        mark = self._free_mark(graph)
        self._parameters[mark] = norm.parameters
        shape = graph.type_of(norm.input)[1]
        assert shape is not None
        rank = len(shape)
        channels, spatial = norm.parameters.channels, [1] * max(rank - 2, 1)
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
        constants = _add_constants(graph, mark, norm.parameters, spatial)
        graph.make(self._operator, [x, *constants], y, mark, group=channels, kernel_shape=spatial)
        self._norms[mark] = _by_itself(norm)

    @property
    def norms(self) -> Mapping[str, Norm]:
        """The norms, as they were in float, by mark."""
        return self._norms

    def _free_mark(self, graph: Graph) -> str:
        """Return a name that :meth:`lift` cannot take for a node of the model's own."""
        names = {node.name for node in graph.nodes}
        marks = (f"{_PREFIX}{n}" for n in itertools.count(len(self._norms)))
        return next(mark for mark in marks if not names & {mark, mark + NODE})

    def node(self, graph: Graph, mark: str) -> NodeProto:
        """Return the convolution that stands for a norm in a float graph."""
        return next(node for node in graph.nodes if node.name == mark)

    def weights(self, graph: Graph) -> list[str]:
        """Return the weights of the convolutions that stand for norms in a float graph, if they are there."""
        return [node.input[1] for node in graph.nodes if node.name in self._norms]

    def makes_vectors(self, mark: str, node: NodeProto) -> bool:
        """Say whether a node of a float graph takes the third axis away behind this mark."""
        return mark in self._norms and node.name == f"{mark}/back"

    def change(self, graph: Graph, mark: str, parameters: Parameters) -> None:
        """Give a norm other parameters, those of the convolution that stands for it in a float graph included."""
        self._parameters[mark] = parameters
        node = self.node(graph, mark)
        spatial = [1] * len(int_list(node, "kernel_shape") or [1])
        for at, constant in enumerate(_add_constants(graph, mark, parameters, spatial), 1):
            graph.set_input(node, at, constant)
        graph.finish()

    def lift(self, graph: Graph) -> dict[str, NodeProto]:
        """Write every mark of a quantized graph as a norm in float between its conversions; return the norms."""
        norms = {}
        for node in graph.nodes:
            mark = node.name.removesuffix(NODE)
            if mark not in self._norms:
                continue
            name, parameters = self._norms[mark].name, self._parameters[mark]
            graph.remove(node)
            if node.op_type == "QLinearConv":
                norms[mark] = _lift_operator(graph, node, name, parameters)
            else:
                norms[mark] = _make_norm(graph, node.input[0], node.output[0], name, parameters)
        flat = [node for mark, node in norms.items() if _drop_third_axis(graph, mark)]
        for node in flat:
            _forget_types(graph, node)
        if flat:
            graph.finish()
        return norms


def _forget_types(graph: Graph, norm: NodeProto) -> None:
    """Drop the shapes with a third axis that are noted around a norm, as far as they are the norm's."""
    wanted, seen = [norm.input[0], norm.output[0]], set[str]()
    while wanted:
        tensor = wanted.pop()
        if tensor in seen:
            continue
        seen.add(tensor)
        graph.forget_type(tensor)
        for node in (graph.maker(tensor), *graph.readers(tensor)):
            if node is not None and is_op(node, "QuantizeLinear", "DequantizeLinear", "Relu", "Clip"):
                wanted += [node.input[0], node.output[0]]


def _drop_third_axis(graph: Graph, mark: str) -> bool:
    """Take out the Reshapes that carried a norm of vectors through the quantizer; say whether there were any."""
    reshapes = [node for node in graph.nodes if node.name in (f"{mark}/there", f"{mark}/back")]
    for node in reshapes:
        before, behind = node.input[0], node.output[0]
        maker = graph.maker(before)
        graph.remove(node)
        if graph.is_read_elsewhere(behind) and maker is not None:
            graph.remove(maker)
            maker.output[0] = behind
            graph.add(maker)
            before, behind = behind, before
        graph.redirect(behind, before)
        for other in (before, behind):
            graph.forget_type(other)
        _merge_conversions(graph, before)
    return bool(reshapes)


def _merge_conversions(graph: Graph, real: str) -> None:
    """Let who reads codes that a QuantizeLinear makes of equal ones, by way of numbers, read these."""
    maker = graph.maker(real)
    if maker is None or not is_op(maker, "DequantizeLinear"):
        return
    q, _ = qparams(graph, maker, 1, maker.input[0], "")
    for node in graph.readers(real):
        if is_op(node, "QuantizeLinear") and not graph.is_read_elsewhere(node.output[0]):
            again, _ = qparams(graph, node, 1, node.output[0], "")
            if q is not None and again is not None and again.equals(q):
                graph.remove(node)
                for reader in graph.readers(node.output[0]):
                    for output in reader.output:
                        graph.forget_type(output)
                graph.redirect(node.output[0], q.codes)


def _by_itself(norm: Norm) -> Norm:
    """Return a norm whose nodes are copies: a part of a model keeps all of it in memory."""

    def copied(node: NodeProto | None) -> NodeProto | None:
        made = NodeProto()
        if node is not None:
            made.CopyFrom(node)
        return None if node is None else made

    nodes = [made for made in map(copied, norm.nodes) if made is not None]
    return replace(norm, nodes=nodes, activation=copied(norm.activation), quantize=copied(norm.quantize))


def _add_constants(graph: Graph, mark: str, parameters: Parameters, spatial: list[int]) -> tuple[str, str]:
    """Add the weight and the bias of a mark."""
    gain, shift = parameters.gain_and_shift()
    # Weights of 0, and others whose bias the quantizer could not write in 32 bits, are no weights for it.
    # The mark is lifted again; a part in a million moves no range.
    smallest = np.maximum(np.abs(shift) * 1e-6, 1e-12)
    gain = np.where(gain < 0, -1.0, 1.0) * np.maximum(np.abs(gain), smallest)
    weight = graph.add_constant(f"{mark}/weight", gain.astype(np.float32).reshape(-1, 1, *spatial))
    return weight, graph.add_constant(f"{mark}/bias", shift.astype(np.float32))


def _lift_operator(graph: Graph, node: NodeProto, name: str, parameters: Parameters) -> NodeProto:
    """QOperator format: x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, bias."""
    x, y = graph.new_name(f"{name}/dequantized"), graph.new_name(f"{name}/normalized")
    graph.make("DequantizeLinear", node.input[:3], x, f"{name}/dequantize")
    norm = _make_norm(graph, x, y, name, parameters)
    graph.make("QuantizeLinear", [y, *node.input[6:8]], node.output[0], f"{name}/quantize")
    return norm


def _make_norm(graph: Graph, x: str, y: str, name: str, p: Parameters) -> NodeProto:
    tensors = [graph.add_constant(f"{name}/{what}", getattr(p, what)) for what in PARAMETER_NAMES]
    return graph.make("BatchNormalization", [x, *tensors], y, name, epsilon=p.epsilon)
