"""Functions written as ONNX's own text, and the lines that several of them share.

The text of a function says all but its constants, which are written above its lines for it, those that these name.
ONNX's parser has read it so since 1.16.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .schema import DOMAIN, OPERATOR_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .schema import Schema

PASSED_ON = "epsilon: float = @epsilon, relu: int = @relu"  # attributes, to the function of the single norm

CONSTANTS = {
    "scalar": "int64[0] {}",  # a shape, as the next three
    "flat": "int64[1] {-1}",
    "column": "int64[2] {-1, 1}",  # one row a channel; a parameter for all channels is one row
    "row": "int64[2] {1, -1}",
    "zero": "int64 {0}",
    "one": "int64 {1}",
    "two": "int64 {2}",
    "axis_1": "int64[1] {1}",
    "axis_2": "int64[1] {2}",
    "axis_3": "int64[1] {3}",
    "last_axis": "int64[1] {-1}",
    "at_0": "int64[1] {0}",
    "at_1": "int64[1] {1}",
    "steps_of_2": "int64[1] {2}",
    "code_0": "int32 {0}",
    "code_1": "int32 {1}",
    "code_256": "int32 {256}",
    "float_0": "float {0.0}",
    "float_1": "float {1.0}",
    "float_quarter": "float {0.25}",
    "float_below": "float {-512.0}",  # all codes
    "nothing": "double {0.0}",
    "half": "double {0.5}",
    "below": "double {-512.0}",
    "beyond": "double {512.0}",
    "nudge": "double {1.1368683772161603e-13}",  # 2^-43
}


def rounded(result: str, doubles: str) -> str:
    """Write the rounding of doubles to float32. ONNX Runtime may drop a Cast behind another: here none is."""
    return f"""
    {result}_float = Cast <to = 1> ({doubles})
    {result}_minus_float = Neg ({result}_float)
    {result}_minus = Cast <to = 11> ({result}_minus_float)
    {result} = Neg ({result}_minus)"""


# The fold: one float32 rounding an operation, the scales in double. Columns, one row a channel.
FOLD = f"""
    epsilon = Constant <value_float: float = @epsilon> ()
    weight = Reshape (scale, column)
    bias = Reshape (B, column)
    mean = Reshape (input_mean, column)
    var = Reshape (input_var, column)
    y_scalar = Reshape (y_scale, scalar)
    y_step = Cast <to = 11> (y_scalar)
    # With AVX-512 ONNX Runtime 1.17 to 1.20 are off in the last bit of 42 % of float32 roots: in a rare code, too.
    # A root of doubles, off in its last bit too, is right once rounded to float32: the root of a float32 number is
    # never closer to the middle of two than 2^-51 of itself, and that bit is 2^-52.
    var_eps = Add (var, epsilon)
    var_eps_double = Cast <to = 11> (var_eps)
    root_double = Sqrt (var_eps_double)
    root = Cast <to = 1> (root_double)
    inv = Div (float_1, root)
    gain_float = Mul (inv, weight)
    gain = Cast <to = 11> (gain_float)
    mean_inv = Mul (mean, inv)
    shift = Mul (mean_inv, weight)
    moved = Sub (bias, shift)
    moved_double = Cast <to = 11> (moved)
    intercept_double = Div (moved_double, y_step){rounded("intercept", "intercept_double")}"""


def slope(result: str, x_scale: str) -> str:
    """Write the slope of an input behind `FOLD`: doubles that are float32 numbers."""
    return f"""
    {x_scale}_column = Reshape ({x_scale}, column)
    {x_scale}_step = Cast <to = 11> ({x_scale}_column)
    {x_scale}_ratio = Div ({x_scale}_step, y_step)
    {result}_double = Mul (gain, {x_scale}_ratio){rounded(result, f"{result}_double")}"""


def codes(zero_point: str) -> str:
    """Write `codes`, all of a zero point's type from its lowest, as int32. Saturation finds that one."""
    return f"""
    lowest_code = QuantizeLinear (float_below, float_1, {zero_point})
    lowest = Cast <to = 6> (lowest_code)
    from_0 = Range (code_0, code_256, code_1)
    codes = Add (from_0, lowest)"""


def two_sum(first: str, second: str) -> str:
    """Write the `total` of doubles, and what was rounded off, `lost` (Knuth's two-sum)."""
    return f"""
    total = Add ({first}, {second})
    part = Sub (total, {first})
    rest = Sub (total, part)
    lost_of_first = Sub ({first}, rest)
    lost_of_second = Sub ({second}, part)
    lost = Add (lost_of_first, lost_of_second)"""


def fitting(x: str) -> str:
    """Write `fitting`, the shape of parameters that fits `x`: the channels are axis 1 or the last one."""
    return f"""
    channels_last = Constant <value_int: int = @channels_last> ()
    x_shape = Shape ({x})
    rank = Size (x_shape)
    channels_first = Sub (one, channels_last)
    other_axes = Sub (rank, two)
    axes_behind = Mul (other_axes, channels_first)
    axes_behind_flat = Reshape (axes_behind, flat)
    ones = ConstantOfShape <value = int64[1] {{1}}> (axes_behind_flat)
    fitting = Concat <axis = 0> (flat, ones)"""


# The smallest double that steps are clipped to: 0 with relu, else below all codes.
FLOOR = """
    relu = Constant <value_int: int = @relu> ()
    relu_double = Cast <to = 11> (relu)
    relu_beyond = Mul (relu_double, beyond)
    floor = Sub (relu_beyond, beyond)"""


def normed(of: str, zero_point: str, *, slope: str) -> str:
    """Write the product of a tensor and its slope behind `fitting`: `{of}_normed`, exact in double."""
    return f"""
    {zero_point}_double = Cast <to = 11> ({zero_point})
    {of}_double = Cast <to = 11> ({of})
    {of}_centred = Sub ({of}_double, {zero_point}_double)
    {of}_slopes = Reshape ({slope}, fitting)
    {of}_normed = Mul ({of}_slopes, {of}_centred)"""


def coded(total: str) -> str:
    """Write `y`, the codes of a total in double. Clipped before the conversions, so that none overflows."""
    return f"""
    total_rounded = Round ({total}){FLOOR}
    y_double = Clip (total_rounded, floor, beyond)
    y_steps = Cast <to = 1> (y_double)
    y_zero = Reshape (y_zero_point, scalar)
    y = QuantizeLinear (y_steps, float_1, y_zero)"""


def write(
    schema: Schema,
    pieces: Sequence[str],
    outputs: Sequence[str],
    body: str,
    *,
    opset: int,
    calls: bool,
    description: str,
) -> str:
    """Write the text of a function.

    Parameters
    ----------
    schema : Schema
        Of the operator that it says.
    pieces, outputs : sequence of str
        Names of inputs behind those of the schema, and of what it makes.
    body : str
        A line a node, and comments; `CONSTANTS` that it names need no line.
    opset : int
        Of the model that it is for.
    calls : bool
        Whether it calls another function of the domain.
    description : str

    Returns
    -------
    str
        `onnx.parser.parse_function` makes the function of it.
    """
    words = set(re.findall(r"\w+", re.sub(r"#.*|<[^>]*>", "", body)))
    constants = "".join(
        f"    {name} = Constant <value = {value}> ()\n" for name, value in CONSTANTS.items() if name in words
    )
    own = f', "{DOMAIN}": {OPERATOR_VERSION}' if calls else ""
    inputs = ", ".join([*schema.inputs, *pieces])
    return (
        f'<domain: "{DOMAIN}", opset_import: ["": {opset}{own}], doc_string: "{description}">\n'
        f"{schema.operator} <{', '.join(schema.attributes)}> ({inputs}) => ({', '.join(outputs)})\n"
        f"{{\n{constants}{body.lstrip(chr(10))}\n}}\n"
    )
