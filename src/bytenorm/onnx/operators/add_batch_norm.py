"""The operator that normalizes a sum, and the functions that say it in standard operators.

``bytenorm::QLinearAddBatchNormalization`` adds two 8-bit tensors and normalizes the sum's codes, or the sum before
it is rounded to them (`exact_sum`), and gives the codes out where somebody reads them. There is a function for
each of the four kinds of nodes. Double arithmetic says both norms to the bit: see docs/numerics.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto, helper

from .batch_norm import (
    DOMAIN,
    OPERATOR,
    OPERATOR_VERSION,
    channels_shape,
    every_code,
    fold,
    relu_floor,
)
from .function_nodes import Body
from .variants import add_variants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import FunctionProto, ModelProto, NodeProto

ADD_OPERATOR = "QLinearAddBatchNormalization"
ADD_INPUTS = (
    "a",
    "a_scale",
    "a_zero_point",
    "b",
    "b_scale",
    "b_zero_point",
    "scale",
    "B",
    "input_mean",
    "input_var",
    "s_scale",
    "s_zero_point",
    "y_scale",
    "y_zero_point",
)
ADD_ATTRIBUTES = ("epsilon", "channels_last", "relu", "with_sum", "exact_sum")


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
    """Return a node of the operator with every attribute written: some evaluators ignore defaults.

    Parameters
    ----------
    inputs : sequence of str
        The names of ``ADD_INPUTS``.
    output, name : str
        Of the norm, and of the node.
    sum_output : str
        The name of the sum's codes, if somebody reads them.
    epsilon : float
    channels_last, relu, exact_sum : bool

    Returns
    -------
    onnx.NodeProto
        `add_sum_functions` makes its function once it is in a model.
    """
    return helper.make_node(
        ADD_OPERATOR,
        list(inputs),
        [output, sum_output] if sum_output else [output],
        name=name,
        domain=DOMAIN,
        epsilon=epsilon,
        channels_last=int(channels_last),
        relu=int(relu),
        with_sum=int(bool(sum_output)),
        exact_sum=int(exact_sum),
    )


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
    b = Body()
    if with_sum or not exact_sum:
        _sum_codes(b)
    if exact_sum:
        _norm_of_exact_sum(b)
    else:
        parameters = ("scale", "B", "input_mean", "input_var", "y_scale", "y_zero_point")
        passed_on = {"epsilon": "float", "channels_last": "int", "relu": "int"}
        inputs = ["s", "s_scale", "s_zero_point", *parameters]
        b.node(OPERATOR, inputs, "y", domain=DOMAIN, passed_on=passed_on)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, OPERATOR_VERSION)]
    return helper.make_function(
        DOMAIN,
        ADD_OPERATOR,
        list(ADD_INPUTS),
        ["y", "s"] if with_sum else ["y"],
        b.nodes,
        opsets,
        list(ADD_ATTRIBUTES),
        doc_string="8-bit batch normalization of a sum as bytenorm.add_batch_norm computes it, bit for bit.",
    )


def _sum_codes(b: Body) -> None:
    """Look the codes of the sum up in a table of all pairs; a runtime that folds constants makes it once."""
    int32, int64, real, double = TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT, TensorProto.DOUBLE
    scalar = b.constant(int64, [])
    step = b.cast(b("Reshape", "s_scale", scalar), double)
    codes = every_code(b, b("Reshape", "a_zero_point", scalar))
    products = []
    for of, shape in (("a", [-1, 1]), ("b", [1, -1])):
        factor = b.rounded(b("Div", b.cast(b("Reshape", f"{of}_scale", scalar), double), step))
        zero_point = b.cast(b("Reshape", f"{of}_zero_point", scalar), int32)
        centred = b("Reshape", b("Sub", codes, zero_point), b.constant(int64, shape))
        products.append(b("Mul", factor, b.cast(centred, double)))

    # The products are exact. The sum may be rounded onto a tie: then what was rounded off says where to go.
    first, second = products
    total = b("Add", first, second)
    part = b("Sub", total, first)
    lost = b("Add", b("Sub", first, b("Sub", total, part)), b("Sub", second, part))
    half = b.constant(double, 0.5)
    tie = b("Equal", b("Abs", b("Sub", total, b("Round", total))), half)
    whole = b("Add", total, b("Mul", half, b("Sign", lost)))  # at a tie
    rounded = b("Round", b("Where", tie, whole, total))
    bounds = (b.constant(double, bound) for bound in (-512.0, 512.0))
    steps = b.cast(b("Clip", rounded, *bounds), real)
    table = b("QuantizeLinear", steps, b.constant(real, 1.0), b("Reshape", "s_zero_point", scalar))

    lowest = b("Gather", codes, b.constant(int64, 0), axis=0)
    row, column = (b("Sub", b.cast(of, int32), lowest) for of in ("a", "b"))
    at = b("Add", b("Mul", row, b.constant(int32, 256)), column)
    b("Gather", b("Reshape", table, b.constant(int64, [-1])), at, axis=0, out="s")


def _norm_of_exact_sum(b: Body) -> None:
    """Both products in double, where they are exact; the inner sum first."""
    real, double = TensorProto.FLOAT, TensorProto.DOUBLE
    scalar = b.constant(TensorProto.INT64, [])
    slopes, intercept = fold(b, ["a_scale", "b_scale"])
    fitting = channels_shape(b, "a")
    products = []
    for of, slope in zip("ab", slopes, strict=True):
        zero_point = b.cast(b("Reshape", f"{of}_zero_point", scalar), double)
        centred = b("Sub", b.cast(of, double), zero_point)
        products.append(b("Mul", b("Reshape", slope, fitting), centred))
    total = b("Add", products[0], b("Add", products[1], b("Reshape", intercept, fitting)))
    steps = b("Clip", b("Round", total), relu_floor(b), b.constant(double, 512.0))
    zero_point = b("Reshape", "y_zero_point", scalar)
    b("QuantizeLinear", b.cast(steps, real), b.constant(real, 1.0), zero_point, out="y")


def _flags(node: NodeProto) -> dict[str, bool]:
    attributes = {a.name: a.i == 1 for a in node.attribute}
    return {name: attributes.get(name, False) for name in ("with_sum", "exact_sum")}


def add_sum_functions(model: ModelProto) -> None:
    """Give a model the functions of its adding nodes, once they are all in it.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place: functions, the nodes' `overload`, imports, and the IR version if it has to rise.

    Raises
    ------
    ValueError
        If the model's standard operators are older than the functions can use.
    """
    add_variants(
        model,
        ADD_OPERATOR,
        lambda node: "_".join(name for name, is_set in _flags(node).items() if is_set) or "plain",
        lambda opset, node: sum_function(opset, **_flags(node)),
    )
