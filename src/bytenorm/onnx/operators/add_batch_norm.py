"""The operator that normalizes a sum, and the functions that say it in standard operators.

``bytenorm::QLinearAddBatchNormalization`` adds two 8-bit tensors and normalizes the sum's codes, or the sum before
it is rounded to them (`exact_sum`), and gives the codes out where somebody reads them. There is a function for
each of the four kinds of nodes. Double arithmetic says both norms to the bit: see docs/numerics-fused.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import parser

from .function_text import FOLD, PASSED_ON, coded, codes, fitting, normed, rounded, slope, two_sum, write
from .schema import ADD, DOMAIN, SINGLE, norm_node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import FunctionProto, NodeProto


def add_node(
    inputs: Sequence[str],
    output: str,
    name: str,
    *,
    sum_output: str = "",
    epsilon: float,
    channels_last: bool,
    relu: bool,
    exact_sum: bool = False,
) -> NodeProto:
    """Return a node of the operator with every attribute written.

    Parameters
    ----------
    inputs : sequence of str
        The names of ``ADD.inputs``.
    output, name : str
        Of the norm, and of the node.
    sum_output : str
        The name of the sum's codes, if somebody reads them.
    epsilon : float
    channels_last, relu, exact_sum : bool

    Returns
    -------
    onnx.NodeProto
    """
    return norm_node(
        ADD,
        inputs,
        [output, sum_output] if sum_output else [output],
        name,
        epsilon=epsilon,
        channels_last=channels_last,
        relu=relu,
        with_sum=int(bool(sum_output)),
        exact_sum=int(exact_sum),
    )


def _products(of: str, shape: str) -> str:
    """Write what each code of a or b is in steps of the sum, along an axis of its own."""
    return f"""
    {of}_scalar = Reshape ({of}_scale, scalar)
    {of}_step = Cast <to = 11> ({of}_scalar)
    {of}_ratio = Div ({of}_step, s_step){rounded(f"{of}_factor", f"{of}_ratio")}
    {of}_code_0 = Reshape ({of}_zero_point, scalar)
    {of}_code_0_int32 = Cast <to = 6> ({of}_code_0)
    {of}_codes = Sub (codes, {of}_code_0_int32)
    {of}_line = Reshape ({of}_codes, {shape})
    {of}_line_double = Cast <to = 11> ({of}_line)
    {of}_product = Mul ({of}_factor, {of}_line_double)"""


def _normed(of: str) -> str:
    """Write the product of a or b and its slope."""
    return f"""
    {of}_zero_point_scalar = Reshape ({of}_zero_point, scalar){
        normed(of, f"{of}_zero_point_scalar", slope=f"{of}_slope")
    }"""


# The codes of the sum are looked up in a table of all pairs; a runtime that folds constants makes it once.
_SUM_CODES = f"""
    s_scalar = Reshape (s_scale, scalar)
    s_step = Cast <to = 11> (s_scalar)
    a_zero = Reshape (a_zero_point, scalar){codes("a_zero")}{_products("a", "column")}{_products("b", "row")}
    # The products are exact. The sum may be rounded onto a tie: then what was rounded off says where to go.
{two_sum("a_product", "b_product").lstrip()}
    nearest = Round (total)
    distance = Sub (total, nearest)
    distance_abs = Abs (distance)
    tie = Equal (distance_abs, half)
    side = Sign (lost)
    way = Mul (half, side)
    whole = Add (total, way)
    decided = Where (tie, whole, total)
    s_rounded = Round (decided)
    s_clipped = Clip (s_rounded, below, beyond)
    s_steps = Cast <to = 1> (s_clipped)
    s_zero = Reshape (s_zero_point, scalar)
    table = QuantizeLinear (s_steps, float_1, s_zero)
    table_flat = Reshape (table, flat)
    first_code = Gather <axis = 0> (codes, zero)
    a_code = Cast <to = 6> (a)
    b_code = Cast <to = 6> (b)
    a_row = Sub (a_code, first_code)
    b_column = Sub (b_code, first_code)
    row_start = Mul (a_row, code_256)
    place = Add (row_start, b_column)
    s = Gather <axis = 0> (table_flat, place)"""

_NORM_OF_SUM_CODES = f"""
    y = {DOMAIN}.{SINGLE.operator} <{PASSED_ON}, channels_last: int = @channels_last>
        (s, s_scale, s_zero_point, scale, B, input_mean, input_var, y_scale, y_zero_point)"""


# Both products in double, where they are exact; the inner sum first.
_NORM_OF_EXACT_SUM = f"""{FOLD}{slope("a_slope", "a_scale")}{slope("b_slope", "b_scale")}{fitting("a")}
    intercepts = Reshape (intercept, fitting){_normed("a")}{_normed("b")}
    b_normed_moved = Add (b_normed, intercepts)
    normed = Add (a_normed, b_normed_moved){coded("normed")}"""


def sum_function(opset: int, *, with_sum: bool, exact_sum: bool) -> FunctionProto:
    """Return the function for nodes of one kind.

    Parameters
    ----------
    opset : int
        Of the model that it is for, 13 or newer.
    with_sum, exact_sum : bool
        As the nodes have them. A function has as many outputs as its nodes: type inference wants that.

    Returns
    -------
    onnx.FunctionProto
        Without `exact_sum` it calls the function of ``bytenorm::QLinearBatchNormalization``.
    """
    parts = [_SUM_CODES] if with_sum or not exact_sum else []
    text = write(
        ADD,
        [],
        ["y", "s"] if with_sum else ["y"],
        "".join([*parts, _NORM_OF_EXACT_SUM if exact_sum else _NORM_OF_SUM_CODES]),
        opset=opset,
        calls=True,
        description="8-bit batch normalization of a sum as bytenorm.add_batch_norm computes it, bit for bit.",
    )
    return parser.parse_function(text)


def _flags(node: NodeProto) -> dict[str, bool]:
    attributes = {a.name: a.i == 1 for a in node.attribute}
    return {name: attributes.get(name, False) for name in ("with_sum", "exact_sum")}


def kind(node: NodeProto) -> str:
    """Name the kind of a node, which has a function of its own."""
    return "_".join(name for name, is_set in _flags(node).items() if is_set) or "plain"


def function_of(opset: int, node: NodeProto) -> FunctionProto:
    """Return the function of a node's kind."""
    return sum_function(opset, **_flags(node))
