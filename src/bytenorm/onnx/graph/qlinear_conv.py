"""Convolutions of codes, in either format: a QLinearConv, or a Conv between the conversions that make it one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .graph import Graph, attribute, int_list, is_op

if TYPE_CHECKING:
    from onnx import NodeProto


class Place(NamedTuple):
    """A tensor of codes, and where its scale is, the zero point behind it: input `at` of a node."""

    node: NodeProto
    at: int
    codes: str


class CodesConv(NamedTuple):
    """A convolution of codes; its bias is empty if it has none."""

    x: Place
    weight: Place
    bias: str
    y: Place


def codes_conv(graph: Graph, node: NodeProto) -> CodesConv | None:
    """Return what a node computes of codes; None if it is no convolution of codes."""
    if is_op(node, "QLinearConv"):
        inputs = [*node.input, *[""] * 9]
        x, weight, y = Place(node, 1, inputs[0]), Place(node, 4, inputs[3]), Place(node, 6, node.output[0])
        return CodesConv(x, weight, inputs[8], y)
    if not is_op(node, "Conv") or not 2 <= len(node.input) <= 3:
        return None
    before = [graph.maker(tensor) for tensor in node.input]
    read = [
        Place(maker, 1, maker.input[0])
        for maker in before
        if maker is not None and is_op(maker, "DequantizeLinear")
    ]
    behind = graph.only_reader(node.output[0])
    if len(read) < len(before) or behind is None or not is_op(behind, "QuantizeLinear"):
        return None
    return CodesConv(read[0], read[1], read[2].codes if len(read) > 2 else "", Place(behind, 1, behind.output[0]))


def is_norm(graph: Graph, node: NodeProto, conv: CodesConv) -> bool:
    """Say whether a convolution has one weight for each channel and moves nothing, as a norm has it."""
    weight = graph.constant(conv.weight.codes)
    if weight is None or weight.ndim < 3 or weight.shape[1:] != (1,) * (weight.ndim - 1):
        return False
    return attribute(node, "group", 1) == weight.shape[0] and not moves(node)


def moves(node: NodeProto) -> bool:
    """Say whether a convolution of single pixels pads what it reads, or leaves some of it out."""
    return any([*(n - 1 for n in int_list(node, "strides") or []), *(int_list(node, "pads") or [])])
