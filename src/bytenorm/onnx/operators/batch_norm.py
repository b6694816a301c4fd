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

from ..graph.graph import opset_of
from .function_nodes import Body

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


def fold(b: Body, x_scales: Sequence[str]) -> tuple[list[str], str]:
    """Add the fold to a body: one float32 rounding an operation, the scales in double.

    Parameters
    ----------
    b : Body
        Of a function with the inputs scale, B, input_mean, input_var and y_scale, and the attribute epsilon.
    x_scales : sequence of str
        Names of inputs' steps.

    Returns
    -------
    slopes : list of str
        For each step. Columns of doubles that are float32 numbers, one row a channel.
    intercept : str
        Such a column.
    """
    real, double = TensorProto.FLOAT, TensorProto.DOUBLE
    column = b.constant(TensorProto.INT64, [-1, 1])  # a parameter for all channels is one row
    epsilon, one = b.attribute("float", "epsilon"), b.constant(real, 1.0)
    weight, bias, mean, var = (b("Reshape", p, column) for p in ("scale", "B", "input_mean", "input_var"))
    y_scale = b.cast(b("Reshape", "y_scale", b.constant(TensorProto.INT64, [])), double)
    # With AVX-512 ONNX Runtime 1.17 to 1.20 are off in the last bit of 42 % of float32 roots: in a rare code, too.
    # A root of doubles, off in its last bit too, is right once rounded to float32: the root of a float32 number is
    # never closer to the middle of two than 2^-51 of itself, and that bit is 2^-52.
    inv = b("Div", one, b.cast(b("Sqrt", b.cast(b("Add", var, epsilon), double)), real))
    gain = b.cast(b("Mul", inv, weight), double)
    constant = b("Sub", bias, b("Mul", b("Mul", mean, inv), weight))
    steps = [b.cast(b("Reshape", x_scale, column), double) for x_scale in x_scales]
    slopes = [b.rounded(b("Mul", gain, b("Div", step, y_scale))) for step in steps]
    return slopes, b.rounded(b("Div", b.cast(constant, double), y_scale))


def every_code(b: Body, zero_point: str) -> str:
    """Add all codes of a zero point's type to a body, from its lowest, as int32. `zero_point` is one number."""
    # Saturation finds the lowest without naming the type.
    lowest = b(
        "QuantizeLinear", b.constant(TensorProto.FLOAT, -512.0), b.constant(TensorProto.FLOAT, 1.0), zero_point
    )
    zero, step, codes = (b.constant(TensorProto.INT32, n) for n in (0, 1, 256))
    return b("Add", b("Range", zero, codes, step), b.cast(lowest, TensorProto.INT32))


def channels_shape(b: Body, x: str) -> str:
    """Add the shape of parameters that fits `x`: the channels are axis 1 or the last one."""
    int64 = TensorProto.INT64
    flat = b.constant(int64, [-1])
    rank = b("Size", b("Shape", x))
    channels_first = b("Sub", b.constant(int64, 1), b.attribute("int", "channels_last"))
    behind = b("Mul", b("Sub", rank, b.constant(int64, 2)), channels_first)  # axes behind the channels'
    ones = b("ConstantOfShape", b("Reshape", behind, flat), value=helper.make_tensor("", int64, [1], [1]))
    return b("Concat", flat, ones, axis=0)


def relu_floor(b: Body) -> str:
    """Add the smallest double that steps are clipped to: 0 with relu, else below all codes."""
    bound = b.constant(TensorProto.DOUBLE, 512.0)
    return b("Sub", b("Mul", b.cast(b.attribute("int", "relu"), TensorProto.DOUBLE), bound), bound)


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

    (slope,), intercept = fold(b, ["x_scale"])
    one = b.constant(real, 1.0)
    some_zero_point = b("Gather", b("Reshape", "x_zero_point", flat), b.constant(int64, 0), axis=0)
    zero_point = b.cast(b("Reshape", "x_zero_point", column), int32)
    centred = b.cast(b("Sub", every_code(b, some_zero_point), zero_point), double)

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

    fitting = channels_shape(b, "X")
    slope, addend = (b("Reshape", p, fitting) for p in (slope, addend))
    zero_point = b("Reshape", b.cast("x_zero_point", double), fitting)

    # The elements. Half to even; clipped before the conversions, so that none overflows; relu is a floor of 0.
    x = b("Sub", b.cast("X", double), zero_point)
    y = b("Clip", b("Add", b("Mul", slope, x), addend), relu_floor(b), upper_bound)
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
    opset = opset_of(model)
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
