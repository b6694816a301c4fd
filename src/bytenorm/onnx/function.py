"""The model-local function: what ``bytenorm::QLinearBatchNormalization`` computes, in standard operators.

A model that uses the operator carries this function, so that it also runs where the native operator is absent:
in a stock ONNX Runtime, in ONNX's reference evaluator, in every tool that inlines functions. Where the native
operator is registered, it takes the function's place.

Standard operators have no fused multiply-add. In double its product is exact, but the sum is rounded twice, to
double and then to float32, and in rare channels that ends in another code than one rounding. A channel has only
256 inputs, so the function looks at all of them, exactly, and moves the intercept of such a channel by 2^-43 to
the side where its codes are right. docs/numerics.md proves that this is always enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto, helper

from .function_body import Body

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import FunctionProto, ModelProto, NodeProto

DOMAIN = "bytenorm"
OPERATOR = "QLinearBatchNormalization"
OPERATOR_VERSION = 1
OLDEST_OPSET = 13  # of the standard operators in the function
OLDEST_IR = 8  # functions in a model

INPUTS = (
    "X",
    "x_scale",
    "x_zero_point",
    "scale",
    "B",
    "input_mean",
    "input_var",
    "y_scale",
    "y_zero_point",
)
ATTRIBUTES = ("epsilon", "channels_last", "relu")


def batch_norm_function(opset: int) -> FunctionProto:
    """Return the function for a model that imports this version of the standard operators.

    Parameters
    ----------
    opset : int
        13 or newer.

    Returns
    -------
    onnx.FunctionProto
    """
    b = Body()
    int32, int64, real, double = TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT, TensorProto.DOUBLE
    column = b.constant(int64, [-1, 1])  # one row a channel; a parameter for all channels is one row
    flat, scalar = b.constant(int64, [-1]), b.constant(int64, [])

    # The fold: one float32 rounding an operation, the scales in double.
    epsilon, one = b.attribute("float", "epsilon"), b.constant(real, 1.0)
    weight, bias, mean, var = (b("Reshape", p, column) for p in ("scale", "B", "input_mean", "input_var"))
    x_scale = b.cast(b("Reshape", "x_scale", column), double)
    y_scale = b.cast(b("Reshape", "y_scale", scalar), double)
    inv = b("Div", one, b("Sqrt", b("Add", var, epsilon)))
    gain = b("Mul", inv, weight)
    constant = b("Sub", bias, b("Mul", b("Mul", mean, inv), weight))
    ratio = b("Div", x_scale, y_scale)
    slope = b.rounded(b("Mul", b.cast(gain, double), ratio))
    intercept = b.rounded(b("Div", b.cast(constant, double), y_scale))

    # All codes of X's type, from its lowest; saturation finds the lowest without naming the type.
    some_zero_point = b("Gather", b("Reshape", "x_zero_point", flat), b.constant(int64, 0), axis=0)
    lowest = b.cast(b("QuantizeLinear", b.constant(real, -512.0), one, some_zero_point), int32)
    zero, step, codes = (b.constant(int32, n) for n in (0, 1, 256))
    every_code = b("Add", b("Range", zero, codes, step), lowest)
    zero_point = b.cast(b("Reshape", "x_zero_point", column), int32)
    centred = b.cast(b("Sub", every_code, zero_point), double)

    # fma(slope, centred, intercept) with one rounding to float32. The product is exact in double. The sum is
    # rounded there, and what was rounded off is `lost` (Knuth's two-sum). Rounding the sum once more goes wrong
    # only if it lies half way between two floats and `lost` is on the side that was not chosen: witness slope
    # 1.16666663, centred 3, intercept -1e-20. There the other neighbour, as far beyond again, is right. What is
    # larger than any code needs no care, and left alone it could be infinite in float32.
    product = b("Mul", slope, centred)
    total = b("Add", product, intercept)
    part = b("Sub", total, product)
    lost = b("Add", b("Sub", product, b("Sub", total, part)), b("Sub", intercept, part))
    lower_bound, upper_bound = b.constant(double, -512.0), b.constant(double, 512.0)
    total = b("Clip", total, lower_bound, upper_bound)
    near = b.rounded(total)
    beyond = b("Sub", total, near)
    neighbour = b("Add", total, beyond)
    half_way = b("Equal", b.rounded(neighbour), neighbour)
    same_side = b("Greater", b("Mul", b("Sign", beyond), b("Sign", lost)), b.constant(double, 0.0))
    exact = b("Where", b("And", half_way, same_side), neighbour, near)

    # The difference of the codes says which way the intercept has to move: see docs/numerics.md.
    error = b("Sub", b("Round", exact), b("Round", near))
    row_sums = b("ReduceSum", error, b.constant(int64, [1]), keepdims=1)
    nudge = b("Mul", b("Sign", row_sums), b.constant(double, 2.0**-43))
    addend = b("Add", intercept, nudge)

    # One column a channel becomes a shape that fits X: the channels are axis 1 or the last one.
    rank = b("Size", b("Shape", "X"))
    channels_first = b("Sub", b.constant(int64, 1), b.attribute("int", "channels_last"))
    behind = b("Mul", b("Sub", rank, b.constant(int64, 2)), channels_first)  # axes behind the channels'
    ones = b("ConstantOfShape", b("Reshape", behind, flat), value=helper.make_tensor("", int64, [1], [1]))
    fitting = b("Concat", flat, ones, axis=0)
    slope, addend = (b("Reshape", p, fitting) for p in (slope, addend))
    zero_point = b("Reshape", b.cast("x_zero_point", double), fitting)

    # The elements. Half to even; clipped before the conversions, so that none overflows; relu is a floor of 0.
    floor = b("Sub", b("Mul", b.cast(b.attribute("int", "relu"), double), upper_bound), upper_bound)
    x = b("Sub", b.cast("X", double), zero_point)
    y = b("Clip", b("Add", b("Mul", slope, x), addend), floor, upper_bound)
    y = b("Round", b.cast(y, real))
    b("QuantizeLinear", y, one, b("Reshape", "y_zero_point", scalar), out="Y")
    return helper.make_function(
        DOMAIN,
        OPERATOR,
        list(INPUTS),
        ["Y"],
        b.nodes,
        [helper.make_opsetid("", opset)],
        list(ATTRIBUTES),
        doc_string="8-bit batch normalization as bytenorm.quantized_batch_norm computes it, bit for bit.",
    )


def require_operators(model: ModelProto, name: str = OPERATOR) -> int:
    """Give a model what functions of operators need: the import of the domain, an IR version with functions.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place.
    name : str
        The operator's, for the message.

    Returns
    -------
    int
        The version of its standard operators.

    Raises
    ------
    ValueError
        If the model's standard operators are older than the functions can use.
    """
    opset = next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < OLDEST_OPSET:
        raise ValueError(
            f"the model has opset {opset}; {DOMAIN}::{name} needs {OLDEST_OPSET} or newer "
            "(lowering='portable' does not)"
        )
    if not any(entry.domain == DOMAIN for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, OPERATOR_VERSION))
    model.ir_version = max(model.ir_version, OLDEST_IR)
    return opset


def add_function(model: ModelProto) -> None:
    """Give a model the function and what it needs.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place; a function that it has already is kept.

    Raises
    ------
    ValueError
        If the model's standard operators are older than the function can use.
    """
    opset = require_operators(model)
    if not any(f.domain == DOMAIN and f.name == OPERATOR for f in model.functions):
        model.functions.append(batch_norm_function(opset))


def operator_node(
    inputs: Sequence[str], output: str, name: str, *, epsilon: float, channels_last: bool, relu: bool
) -> NodeProto:
    """Return a node of the operator with every attribute written: some evaluators ignore defaults."""
    return helper.make_node(
        OPERATOR,
        list(inputs),
        [output],
        name=name,
        domain=DOMAIN,
        epsilon=epsilon,
        channels_last=int(channels_last),
        relu=int(relu),
    )
