"""What operators on codes read, each input by its name: bytenorm's, those of ONNX and of ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from onnx import helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import NodeProto

DOMAIN = "bytenorm"
OPERATOR_VERSION = 1

PARAMETERS = ("scale", "B", "input_mean", "input_var")  # of a norm, beside each other, as ONNX calls them


class Schema(NamedTuple):
    """An operator that makes codes."""

    operator: str
    inputs: tuple[str, ...]  # the scale and zero point of what it makes are y_scale and y_zero_point
    codes: tuple[str, ...]  # the inputs that it computes with; none: those behind the others, any number of them
    attributes: tuple[str, ...] = ()

    def place(self, name: str) -> int:
        """Return where an input is among those of a node."""
        return self.inputs.index(name)

    def of(self, node: NodeProto, name: str) -> str:
        """Return the tensor that a node reads as this input, empty if none."""
        place = self.place(name)
        return node.input[place] if place < len(node.input) else ""

    def read(self, node: NodeProto) -> list[str]:
        """Return the codes that a node computes with."""
        if not self.codes:
            return list(node.input[len(self.inputs) :])
        return [self.of(node, name) for name in self.codes]


def _quantized(*tensors: str) -> tuple[str, ...]:
    return tuple(f"{tensor}{what}" for tensor in tensors for what in ("", "_scale", "_zero_point"))


_Y = ("y_scale", "y_zero_point")

SINGLE = Schema(
    "QLinearBatchNormalization",
    ("X", "x_scale", "x_zero_point", *PARAMETERS, *_Y),
    ("X",),
    ("epsilon", "channels_last", "relu"),
)
CONCAT = Schema(
    "QLinearConcatBatchNormalization",
    (*PARAMETERS, *_Y, "x_scales", "x_zero_points"),  # and the pieces
    (),
    ("epsilon", "channels_last", "relu", "pool"),
)
ADD = Schema(
    "QLinearAddBatchNormalization",
    (*_quantized("a", "b"), *PARAMETERS, "s_scale", "s_zero_point", *_Y),
    ("a", "b"),
    ("epsilon", "channels_last", "relu", "with_sum", "exact_sum"),
)
SUM = Schema(
    "QLinearSumBatchNormalization",
    CONCAT.inputs,  # and the summands
    (),
    ("epsilon", "channels_last", "relu", "floor", "ceiling"),
)
NORMS = {schema.operator: schema for schema in (SINGLE, CONCAT, ADD, SUM)}

_OTHERS = (
    Schema("QLinearConv", (*_quantized("x", "w"), *_Y, "bias"), ("x", "w")),
    *(Schema(f"QLinear{name}", (*_quantized("x", "w"), *_Y), ("x", "w")) for name in ("MatMul", "Add", "Mul")),
    Schema("QGemm", (*_quantized("x", "w"), "bias", *_Y), ("x", "w")),
    *(
        Schema(f"QLinear{name}", (*_quantized("x"), *_Y), ("x",))
        for name in ("GlobalAveragePool", "AveragePool", "Sigmoid", "LeakyRelu", "Softmax", "ReduceMean")
    ),
    Schema("QLinearWhere", ("condition", *_quantized("x", "w"), *_Y), ("x", "w")),
    Schema("QLinearConcat", _Y, ()),  # behind them three inputs a piece
    Schema("QuantizeLinear", ("x", *_Y), ()),
)
ON_CODES = {**{schema.operator: schema for schema in _OTHERS}, **NORMS}


def norm_schema(node: NodeProto | None) -> Schema | None:
    """Return the schema of a node that is one of bytenorm's operators; None if it is not."""
    return NORMS.get(node.op_type) if node is not None and node.domain == DOMAIN else None


def norm_node(
    schema: Schema,
    inputs: Sequence[str],
    outputs: Sequence[str],
    name: str,
    *,
    epsilon: float,
    channels_last: bool,
    relu: bool,
    **others: Any,
) -> NodeProto:
    """Return a node of one of bytenorm's operators. It says every attribute: some evaluators ignore defaults.

    Its function comes into the model by `functions.add_functions`.
    """
    return helper.make_node(
        schema.operator,
        list(inputs),
        list(outputs),
        name=name,
        domain=DOMAIN,
        epsilon=epsilon,
        channels_last=int(channels_last),
        relu=int(relu),
        **others,
    )
