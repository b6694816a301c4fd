"""The 8-bit weights of layers: where they stand, and other codes for the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from ..graph.graph import CONTRIBUTED, Graph, is_conversion, is_op

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
