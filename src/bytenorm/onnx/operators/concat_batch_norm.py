"""The operator that normalizes a concatenation, and the functions that say it in standard operators.

``bytenorm::QLinearConcatBatchNormalization`` takes any number of pieces. A function cannot, nor can it choose an
axis for ``Concat``. So a model carries a function for each number of pieces, layout and pool that its nodes have.

Each concatenates the codes, gives every channel the quantization of its piece, and leaves the rest to the function
of the single norm, whose bits these are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import parser

from .function_text import PASSED_ON, write
from .schema import CONCAT, DOMAIN, SINGLE, norm_node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import FunctionProto, NodeProto


def concat_node(
    inputs: Sequence[str],
    output: str,
    name: str,
    *,
    epsilon: float,
    channels_last: bool,
    relu: bool,
    pool: int = 0,
) -> NodeProto:
    """Return a node of the operator with every attribute written.

    Parameters
    ----------
    inputs : sequence of str
        The names of ``CONCAT.inputs``, then those of the pieces.
    output, name : str
        Of the output, and of the node.
    epsilon : float
    channels_last, relu : bool
    pool : int
        0, or 2 for the average of 2x2 pixels.

    Returns
    -------
    onnx.NodeProto
    """
    return norm_node(
        CONCAT,
        inputs,
        [output],
        name,
        epsilon=epsilon,
        channels_last=channels_last,
        relu=relu,
        pool=int(pool),
    )


def concat_function(opset: int, pieces: int, *, channels_last: bool, pool: int = 0) -> FunctionProto:
    """Return the function for nodes of so many pieces, of this layout and pool.

    Parameters
    ----------
    opset : int
        Of the model that it is for, 13 or newer.
    pieces : int
        1 or more.
    channels_last : bool
    pool : int
        0 or 2.

    Returns
    -------
    onnx.FunctionProto
        It calls the function of ``bytenorm::QLinearBatchNormalization``.
    """
    names = [f"x_{i}" for i in range(pieces)]
    axis, made = -1 if channels_last else 1, "normalized" if pool else "y"
    counts = "".join(
        f"""
    shape_{i} = Shape (x_{i})
    count_{i} = Gather <axis = 0> (shape_{i}, {"last_axis" if channels_last else "axis_1"})"""
        for i in range(pieces)
    )
    body = f"""
    joined = Concat <axis = {axis}> ({", ".join(names)})
    # Channel c belongs to the piece that as many pieces as it has before it end at or before c.{counts}
    counts = Concat <axis = 0> ({", ".join(f"count_{i}" for i in range(pieces))})
    ends = CumSum (counts, zero)
    all_channels = Size (scale)
    channels = Range (zero, all_channels, one)
    channel = Reshape (channels, column)
    before_end = Less (channel, ends)
    behind_end = Not (before_end)
    over = Cast <to = 7> (behind_end)
    piece = ReduceSum <keepdims = 0> (over, axis_1)
    x_scale = Gather <axis = 0> (x_scales, piece)
    x_zero_point = Gather <axis = 0> (x_zero_points, piece)
    {made} = {DOMAIN}.{SINGLE.operator} <channels_last = {int(channels_last)}, {PASSED_ON}>
        (joined, x_scale, x_zero_point, scale, B, input_mean, input_var, y_scale, y_zero_point)"""
    text = write(
        CONCAT,
        names,
        ["y"],
        body + (_average(channels_last) if pool else ""),
        opset=opset,
        calls=True,
        description="8-bit batch normalization of a concatenation as bytenorm.concat_batch_norm computes it.",
    )
    return parser.parse_function(text)


def _average(channels_last: bool) -> str:
    """Write the average of 2x2 codes, rounded half to even. Four add up exactly in float32."""
    rows, columns = ("axis_1", "axis_2") if channels_last else ("axis_2", "axis_3")
    return f"""
    all = Cast <to = 1> (normalized){_pairs("row_pairs", "all", rows)}{_pairs("squares", "row_pairs", columns)}
    mean = Mul (squares, float_quarter)
    mean_code = Round (mean)
    y_zero = Reshape (y_zero_point, scalar)
    # QuantizeLinear knows the type of the codes, and adds what is subtracted here: whole numbers.
    y_zero_float = Cast <to = 1> (y_zero)
    centred = Sub (mean_code, y_zero_float)
    y = QuantizeLinear (centred, float_1, y_zero)"""


def _pairs(result: str, x: str, axis: str) -> str:
    """Write the sums of neighbours along an axis, without an odd last one."""
    return f"""
    {x}_shape = Shape ({x})
    {x}_size = Gather <axis = 0> ({x}_shape, {axis})
    {x}_half = Div ({x}_size, steps_of_2)
    {x}_end = Mul ({x}_half, steps_of_2)
    {x}_even = Slice ({x}, at_0, {x}_end, {axis}, steps_of_2)
    {x}_odd = Slice ({x}, at_1, {x}_end, {axis}, steps_of_2)
    {result} = Add ({x}_even, {x}_odd)"""


def _layout_and_pool(node: NodeProto) -> tuple[bool, int]:
    attributes = {a.name: a.i for a in node.attribute}
    return attributes.get("channels_last", 0) == 1, attributes.get("pool", 0)


def _pieces(node: NodeProto) -> int:
    return len(CONCAT.read(node))


def kind(node: NodeProto) -> str:
    """Name the kind of a node, which has a function of its own."""
    channels_last, pool = _layout_and_pool(node)
    return f"{_pieces(node)}{'_channels_last' if channels_last else ''}{f'_pool{pool}' if pool else ''}"


def function_of(opset: int, node: NodeProto) -> FunctionProto:
    """Return the function of a node's kind."""
    channels_last, pool = _layout_and_pool(node)
    return concat_function(opset, _pieces(node), channels_last=channels_last, pool=pool)
