"""The operator that normalizes a concatenation, and the functions that say it in standard operators.

``bytenorm::QLinearConcatBatchNormalization`` takes any number of pieces. A function cannot, nor can it choose an
axis for ``Concat``. So a model carries a function for each number of pieces, layout and pool that its nodes have.

Each concatenates the codes, gives every channel the quantization of its piece, and leaves the rest to the function
of the single norm, whose bits these are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto, helper

from .batch_norm import DOMAIN, OPERATOR, OPERATOR_VERSION
from .function_nodes import Body
from .variants import add_variants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import FunctionProto, ModelProto, NodeProto

CONCAT_OPERATOR = "QLinearConcatBatchNormalization"
CONCAT_INPUTS = (
    "scale",
    "B",
    "input_mean",
    "input_var",
    "y_scale",
    "y_zero_point",
    "x_scales",
    "x_zero_points",
)  # and the pieces
CONCAT_ATTRIBUTES = ("epsilon", "channels_last", "relu", "pool")


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
    """Return a node of the operator with every attribute written: some evaluators ignore defaults.

    Parameters
    ----------
    inputs : sequence of str
        The names of ``CONCAT_INPUTS``, then those of the pieces.
    output, name : str
        Of the output, and of the node.
    epsilon : float
    channels_last, relu : bool
    pool : int
        0, or 2 for the average of 2x2 pixels.

    Returns
    -------
    onnx.NodeProto
        `add_concat_functions` makes its function once it is in a model.
    """
    return helper.make_node(
        CONCAT_OPERATOR,
        list(inputs),
        [output],
        name=name,
        domain=DOMAIN,
        epsilon=epsilon,
        channels_last=int(channels_last),
        relu=int(relu),
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
    b = Body()
    int64 = TensorProto.INT64
    axis = -1 if channels_last else 1
    names = [f"x_{i}" for i in range(pieces)]
    joined = b("Concat", *names, axis=axis)

    # Channel c belongs to the piece that as many pieces as it has before it end at or before c.
    counts = [b("Gather", b("Shape", x), b.constant(int64, [axis]), axis=0) for x in names]
    ends = b("CumSum", b("Concat", *counts, axis=0), b.constant(int64, 0))
    channels = b("Range", b.constant(int64, 0), b("Size", "scale"), b.constant(int64, 1))
    column = b("Reshape", channels, b.constant(int64, [-1, 1]))
    over = b("Cast", b("Not", b("Less", column, ends)), to=int64)
    piece = b("ReduceSum", over, b.constant(int64, [1]), keepdims=0)
    x_scale = b("Gather", "x_scales", piece, axis=0)
    x_zero_point = b("Gather", "x_zero_points", piece, axis=0)

    y = "y" if pool == 0 else "normalized"
    parameters = (x_scale, x_zero_point, "scale", "B", "input_mean", "input_var", "y_scale", "y_zero_point")
    b.node(
        OPERATOR,
        [joined, *parameters],
        y,
        domain=DOMAIN,
        channels_last=int(channels_last),
        passed_on={"epsilon": "float", "relu": "int"},
    )
    if pool:
        _average(b, y, channels_last)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, OPERATOR_VERSION)]
    return helper.make_function(
        DOMAIN,
        CONCAT_OPERATOR,
        [*CONCAT_INPUTS, *names],
        ["y"],
        b.nodes,
        opsets,
        list(CONCAT_ATTRIBUTES),
        doc_string="8-bit batch normalization of a concatenation as bytenorm.concat_batch_norm computes it.",
    )


def _average(b: Body, codes: str, channels_last: bool) -> None:
    """Average 2x2 codes, rounding half to even. Sums of four codes and their quarters are exact in float32."""
    int64, real = TensorProto.INT64, TensorProto.FLOAT
    scalar, two = b.constant(int64, []), b.constant(int64, [2])
    axes = [1, 2] if channels_last else [2, 3]
    total = b.cast(codes, real)
    for axis in axes:
        along = b.constant(int64, [axis])
        size = b("Gather", b("Shape", total), along, axis=0)
        end = b("Mul", b("Div", size, two), two)  # without an odd last one
        even, odd = (b("Slice", total, b.constant(int64, [first]), end, along, two) for first in (0, 1))
        total = b("Add", even, odd)
    mean = b("Round", b("Mul", total, b.constant(real, 0.25)))
    zero_point = b("Reshape", "y_zero_point", scalar)
    # QuantizeLinear knows the type of the codes, and adds what is subtracted here: whole numbers.
    centred = b("Sub", mean, b.cast(zero_point, real))
    b("QuantizeLinear", centred, b.constant(real, 1.0), zero_point, out="y")


def _layout_and_pool(node: NodeProto) -> tuple[bool, int]:
    attributes = {a.name: a.i for a in node.attribute}
    return attributes.get("channels_last", 0) == 1, attributes.get("pool", 0)


def _pieces(node: NodeProto) -> int:
    return len(node.input) - len(CONCAT_INPUTS)


def _kind(node: NodeProto) -> str:
    channels_last, pool = _layout_and_pool(node)
    return f"{_pieces(node)}{'_channels_last' if channels_last else ''}{f'_pool{pool}' if pool else ''}"


def _function_of(opset: int, node: NodeProto) -> FunctionProto:
    channels_last, pool = _layout_and_pool(node)
    return concat_function(opset, _pieces(node), channels_last=channels_last, pool=pool)


def add_concat_functions(model: ModelProto) -> None:
    """Give a model the functions of its concatenating nodes, once they are all in it.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place: functions, the nodes' `overload`, imports, and the IR version if it has to rise.

    Raises
    ------
    ValueError
        If the model's standard operators are older than the functions can use.
    """
    add_variants(model, CONCAT_OPERATOR, _kind, _function_of)
