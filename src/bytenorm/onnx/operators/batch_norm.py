"""The model-local function: what ``bytenorm::QLinearBatchNormalization`` computes, in standard operators.

A model that uses the operator carries this function, so that it also runs where the native operator is absent:
in a stock ONNX Runtime, in ONNX's reference evaluator, in every tool that inlines functions. Where the native
operator is registered, it takes the function's place.

Standard operators have no fused multiply-add. In double its product is exact, but the sum is rounded twice, to
double and then to float32, and in rare channels that ends in another code than one rounding. A channel has only
256 inputs, so the function looks at all of them, exactly, and moves the intercept of such a channel by 2^-43 to
the side where its codes are right. docs/numerics-onnx.md proves that this is always enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper, parser

from ..._errors import Argument, bad_value
from ..graph.graph import opset_of
from .function_text import FLOOR, FOLD, codes, fitting, rounded, slope, two_sum, write
from .schema import DOMAIN, OPERATOR_VERSION, SINGLE, norm_node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import FunctionProto, ModelProto, NodeProto

OLDEST_OPSET = 13  # of the standard operators in the function
OLDEST_IR = 8  # functions in a model

_BODY = f"""{FOLD}{slope("slope", "x_scale")}
    # The steps from the zero point to each code.
    x_zero_points = Reshape (x_zero_point, flat)
    some_zero_point = Gather <axis = 0> (x_zero_points, zero){codes("some_zero_point")}
    zero_point_column = Reshape (x_zero_point, column)
    zero_point_int32 = Cast <to = 6> (zero_point_column)
    centred_int32 = Sub (codes, zero_point_int32)
    centred = Cast <to = 11> (centred_int32)
    # fma(slope, centred, intercept) with one rounding to float32. The product is exact in double. The sum is
    # rounded there, and what was rounded off is `lost`. Rounding the sum once more goes wrong only if it lies half
    # way between two floats and `lost` is on the side that was not chosen: witness slope 1.16666663, centred 3,
    # intercept -1e-20. There the other neighbour, as far beyond again, is right. What is larger than any code
    # needs no care, and left alone it could be infinite in float32.
    product = Mul (slope, centred){two_sum("product", "intercept")}
    clipped = Clip (total, below, beyond){rounded("near", "clipped")}
    excess = Sub (clipped, near)
    neighbour = Add (clipped, excess){rounded("neighbour_rounded", "neighbour")}
    half_way = Equal (neighbour_rounded, neighbour)
    side_of_excess = Sign (excess)
    side_of_lost = Sign (lost)
    sides = Mul (side_of_excess, side_of_lost)
    same_side = Greater (sides, nothing)
    wrong = And (half_way, same_side)
    exact = Where (wrong, neighbour, near)
    # The difference of the codes says which way the intercept has to move: see docs/numerics-onnx.md.
    exact_code = Round (exact)
    near_code = Round (near)
    error = Sub (exact_code, near_code)
    errors = ReduceSum <keepdims = 1> (error, axis_1)
    direction = Sign (errors)
    correction = Mul (direction, nudge)
    addend_column = Add (intercept, correction){fitting("X")}
    slopes = Reshape (slope, fitting)
    addend = Reshape (addend_column, fitting)
    # The elements. Half to even; clipped before the conversions, so that none overflows; relu is a floor of 0.
    zero_point_double = Cast <to = 11> (x_zero_point)
    zero_point = Reshape (zero_point_double, fitting)
    x_double = Cast <to = 11> (X)
    x = Sub (x_double, zero_point){FLOOR}
    scaled = Mul (slopes, x)
    sum = Add (scaled, addend)
    y_double = Clip (sum, floor, beyond)
    y = Cast <to = 1> (y_double)
    y_steps = Round (y)
    y_zero = Reshape (y_zero_point, scalar)
    Y = QuantizeLinear (y_steps, float_1, y_zero)"""


def batch_norm_text(opset: int) -> str:
    """Return the function in ONNX's text, for a model that imports this version of the standard operators."""
    return write(
        SINGLE,
        [],
        ["Y"],
        _BODY,
        opset=opset,
        calls=False,
        description="8-bit batch normalization as bytenorm.quantized_batch_norm computes it, bit for bit.",
    )


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
    return parser.parse_function(batch_norm_text(opset))


def require_operators(model: ModelProto, name: str = SINGLE.operator) -> int:
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
        raise bad_value(
            "model",
            f": it has opset {opset}; {DOMAIN}::{name} needs {OLDEST_OPSET} or newer (",
            Argument("lowering", "portable"),
            " does not)",
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
    if not any(f.domain == DOMAIN and f.name == SINGLE.operator for f in model.functions):
        model.functions.append(batch_norm_function(opset))


def operator_node(
    inputs: Sequence[str], output: str, name: str, *, epsilon: float, channels_last: bool, relu: bool
) -> NodeProto:
    """Return a node of the operator with every attribute written."""
    return norm_node(SINGLE, inputs, [output], name, epsilon=epsilon, channels_last=channels_last, relu=relu)
