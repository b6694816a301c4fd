"""The 8-bit weights of layers: where they stand, which are added up, and other codes for the same numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from ..graph.graph import CONTRIBUTED, Graph, attribute, is_conversion, is_op

if TYPE_CHECKING:
    from onnx import NodeProto

    from ..graph.graph import Array


@dataclass(frozen=True)
class Weight:
    """The weight of a layer that reads 8-bit activations, by the names of its tensors.

    Attributes
    ----------
    node : NodeProto
        The layer: an operator on codes, or one between conversions.
    codes, scale, zero_point : str
        Of the weight; an empty zero point is 0.
    beside : str
        The zero point of the activations; an empty one is 0 of uint8.
    real : NodeProto or None
        The DequantizeLinear of the weight; None for an operator on codes.
    """

    node: NodeProto
    codes: str
    scale: str
    zero_point: str
    beside: str
    real: NodeProto | None


def weight_of(graph: Graph, node: NodeProto) -> Weight | None:
    """Return the weight of a layer; None if it has none in 8 bits, or reads no 8-bit activations."""
    if is_op(node, "QLinearConv", "QLinearMatMul") or (node.op_type, node.domain) == ("QGemm", CONTRIBUTED):
        beside, codes, scale, zero_point = [*node.input[2:6], "", "", "", ""][:4]
        return Weight(node, codes, scale, zero_point, beside, None)
    if not is_op(node, "Conv", "Gemm", "MatMul"):
        return None
    before, real = (graph.maker(tensor) for tensor in node.input[:2])
    if before is None or real is None or not all(is_conversion(n, "DequantizeLinear") for n in (before, real)):
        return None
    codes, scale, zero_point = [*real.input, ""][:3]
    return Weight(node, codes, scale, zero_point, [*before.input, ""][2], real)


def channel_axis(node: NodeProto, rank: int) -> int:
    """Return which axis of a layer's weight of so many axes counts what the layer makes."""
    if node.op_type.endswith("Conv") or (node.op_type.endswith("Gemm") and attribute(node, "transB", 0)):
        return 0
    return rank - 1


def by_channel(node: NodeProto, weight: Array) -> Array:
    """Return a view of a layer's weight: what it makes in the first axis, what is added up in the last ones."""
    if weight.ndim == 1:
        return weight[np.newaxis]
    if node.op_type.endswith("Conv"):
        return np.moveaxis(weight, 1, -1)
    return weight if channel_axis(node, weight.ndim) == 0 else np.moveaxis(weight, (-1, -2), (0, -1))


def in_order_of_sums(node: NodeProto, view: Array) -> Array:
    """Return the weights of some channels in the order in which their products are added.

    A convolution adds all input channels of one position of its kernel, then those of the next. ONNX Runtime's
    kernels do so in models of either order of axes: tests/test_onnx_saturation.py sees it in what saturates.

    Parameters
    ----------
    node : NodeProto
    view : array
        Channels of :func:`by_channel`.

    Returns
    -------
    array, channels x sums x products
        With several sums a channel where the weights have a batch.
    """
    sums = 1 if node.op_type.endswith("Conv") else math.prod(view.shape[1:-1])
    return view.reshape(len(view), sums, math.prod(view.shape[1:]) // max(sums, 1))


def adds_nothing_in_16_bits(node: NodeProto, weight: Array) -> bool:
    """Say whether no products of a layer are added in 16 bits: it is depthwise, or has a single product."""
    if not node.op_type.endswith("Conv"):
        return False
    return weight.ndim == 0 or weight[0].size < 2 or weight.shape[:2] == (attribute(node, "group", 1), 1)


def is_unsigned(graph: Graph, zero_point: str) -> bool:
    """Say whether codes with such a zero point are uint8; without one they are."""
    if not zero_point:
        return True
    value = graph.constant(zero_point)
    return graph.type_of(zero_point)[0] == TensorProto.UINT8 if value is None else value.dtype == np.uint8


def shift(graph: Graph, weight: Weight, by: int, dtype: type[np.integer], made: dict[str, str]) -> bool:
    """Give a layer codes and zero points of its weight that are so much higher: the same numbers.

    Parameters
    ----------
    graph : Graph
        Changed in place.
    weight : Weight
        Of int8, in which the result fits `dtype`.
    by : int
    dtype : type
        Of the new codes.
    made : dict of str to str
        What was made of which tensors: what layers share stays shared.

    Returns
    -------
    bool
        Whether it could be: the codes and zero points are constants.
    """
    codes, scale = graph.constant(weight.codes), graph.constant(weight.scale)
    zeros = graph.constant(weight.zero_point) if weight.zero_point else None
    if zeros is None and not weight.zero_point and scale is not None:
        zeros = np.zeros(scale.shape, np.int8)
    if codes is None or zeros is None:
        return False

    def shifted(tensor: str, value: Array) -> str:
        if tensor not in made:
            made[tensor] = graph.add_constant(f"{tensor}/shifted", (value.astype(np.int16) + by).astype(dtype))
        return made[tensor]

    moved = shifted(weight.codes, codes), shifted(weight.zero_point or f"{weight.scale}/zero_point", zeros)
    if weight.real is None:
        graph.set_input(weight.node, 3, moved[0])
        graph.set_input(weight.node, 5, moved[1])
        return True
    real = weight.real.output[0]
    if real not in made:
        made[real] = graph.new_name(f"{real}/shifted")
        graph.make_like(weight.real, [moved[0], weight.scale, moved[1]], made[real])
    graph.set_input(weight.node, 1, made[real])
    return True
