"""The operator that normalizes a sum of many tensors, and the functions that say it in standard operators.

``bytenorm::QLinearSumBatchNormalization`` is for sums that nobody rounds to codes: of more tensors than the two of
``bytenorm::QLinearAddBatchNormalization``, or cut off by a Relu or Clip before the norm. There is a function for
each number of summands, with a limit on either side or without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import parser

from .function_text import FOLD, coded, fitting, normed, slope, write
from .schema import SUM, norm_node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import FunctionProto, NodeProto

_LIMITS = ("floor", "ceiling")


def sum_node(
    inputs: Sequence[str],
    output: str,
    name: str,
    *,
    epsilon: float,
    channels_last: bool,
    relu: bool,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> NodeProto:
    """Return a node of the operator with every attribute written, but for limits that there are not.

    Parameters
    ----------
    inputs : sequence of str
        The names of ``SUM.inputs``, then those of the summands.
    output, name : str
        Of the output, and of the node.
    epsilon : float
    channels_last, relu : bool
    limits : tuple of float
        The sum is cut off below and above them.

    Returns
    -------
    onnx.NodeProto
    """
    given = zip(_LIMITS, limits, strict=True)
    return norm_node(
        SUM,
        inputs,
        [output],
        name,
        epsilon=epsilon,
        channels_last=channels_last,
        relu=relu,
        **{what: limit for what, limit in given if np.isfinite(limit)},
    )


def _added(i: int, total: str) -> str:
    """Write the sum of one product and of all that is behind it."""
    return f"""
    zero_point_{i} = Gather <axis = 0> (x_zero_points, place_{i}){
        normed(f"x_{i}", f"zero_point_{i}", slope=f"slope_{i}")
    }
    total_{i} = Add (x_{i}_normed, {total})"""


def _bound(limit: str) -> str:
    """Write the norm of a limit."""
    return f"""
    {limit}_number = Constant <value_float: float = @{limit}> (){slope(f"{limit}_slope", f"{limit}_number")}
    {limit}_bound = Add ({limit}_slope, intercept)"""


def _cut_off(total: str, limits: Sequence[str]) -> str:
    """Write `cut`, a total between the norms of its limits. A channel of negative weight turns them round."""
    floor, ceiling = (f"{limit}_bound" if limit in limits else "" for limit in _LIMITS)
    return f"""{"".join(map(_bound, limits))}
    negative = Less (weight, float_0)
    lowest_column = Where (negative, {ceiling or "below"}, {floor or "below"})
    highest_column = Where (negative, {floor or "beyond"}, {ceiling or "beyond"})
    lowest_total = Reshape (lowest_column, fitting)
    highest_total = Reshape (highest_column, fitting)
    cut_below = Max ({total}, lowest_total)
    cut = Min (cut_below, highest_total)"""


def summing_function(opset: int, summands: int, limits: Sequence[str] = ()) -> FunctionProto:
    """Return the function for nodes of so many summands.

    Parameters
    ----------
    opset : int
        Of the model that it is for, 13 or newer.
    summands : int
        1 or more.
    limits : sequence of str
        Which of ``floor`` and ``ceiling`` the nodes have.

    Returns
    -------
    onnx.FunctionProto
    """
    slopes = "".join(
        f"""
    place_{i} = Constant <value = int64 {{{i}}}> ()
    scale_{i} = Gather <axis = 0> (x_scales, place_{i}){slope(f"slope_{i}", f"scale_{i}")}"""
        for i in range(summands)
    )
    # What is added last is the first summand, as the kernels have it.
    names = [*(f"total_{i}" for i in range(1, summands)), "intercepts"]
    totals = "".join(_added(i, names[i]) for i in reversed(range(summands)))
    cut = _cut_off("total_0", limits) if limits else ""
    attributes = (name for name in SUM.attributes if name in limits or name not in _LIMITS)
    text = write(
        SUM._replace(attributes=tuple(attributes)),  # ONNX's evaluator wants each that a function names
        [f"x_{i}" for i in range(summands)],
        ["y"],
        f"""{FOLD}{slopes}{fitting("x_0")}
    intercepts = Reshape (intercept, fitting){totals}{cut}{coded("cut" if limits else "total_0")}""",
        opset=opset,
        calls=False,
        description="8-bit batch normalization of a sum that is not rounded.",
    )
    return parser.parse_function(text)


def _limits_of(node: NodeProto) -> tuple[str, ...]:
    given = {a.name: a.f for a in node.attribute}
    return tuple(limit for limit in _LIMITS if limit in given)


def _summands(node: NodeProto) -> int:
    return len(SUM.read(node))


def kind(node: NodeProto) -> str:
    """Name the kind of a node, which has a function of its own."""
    return "_".join([str(_summands(node)), *_limits_of(node)])


def function_of(opset: int, node: NodeProto) -> FunctionProto:
    """Return the function of a node's kind."""
    return summing_function(opset, _summands(node), _limits_of(node))
