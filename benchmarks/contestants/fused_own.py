"""The norms that read a concatenation or a sum, and what they are measured by: one norm, and copying."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import bytenorm as bn

from ..fused_problem import ConcatProblem, SumProblem
from ..timing import Contestant
from . import own


def concat(p: ConcatProblem) -> Contestant:
    """Return the norm of a concatenation with its output memory given."""
    pieces = [
        bn.QuantizedTensor(x, scale, zero_point)
        for x, scale, zero_point in zip(p.pieces, p.scales, p.zero_points, strict=True)
    ]
    qy = bn.QuantizedTensor(p.whole.y, p.whole.output_scale, p.whole.output_zero_point)
    names = {"concat_batch_norm": bn.concat_batch_norm, "pieces": pieces, "norm": own.norm(p.whole), "qy": qy}
    statement = "concat_batch_norm(pieces, norm, out=qy)"
    return Contestant("concat_batch_norm", "own", statement, names, p.whole.x.size, own.codes)


def add(p: SumProblem) -> Contestant:
    """Return the norm of a sum, and the sum, with memory given for both."""
    statement = (
        "add_batch_norm(a, b, norm, sum_scale=sum_scale, sum_zero_point=sum_zero_point, out=qy, sum_out=qs)"
    )
    return Contestant(
        "add_batch_norm", "own", statement, _names(p), p.whole.x.size, lambda pair: own.codes(pair[0])
    )


def add_with_ties(p: SumProblem) -> Contestant:
    """Return the same of scales with which some sums lie halfway between two codes."""
    made = add(replace(p, a_scale=0.0311, b_scale=0.0353))
    return replace(made, name="with ties", role="other", codes=None)


def add_exact_with_sum(p: SumProblem) -> Contestant:
    """Return the norm of the exact sum, and the sum's codes."""
    statement = (
        "add_batch_norm(a, b, norm, sum_scale=sum_scale, sum_zero_point=sum_zero_point, exact_sum=True, out=qy, "
        "sum_out=qs)"
    )
    return Contestant("of the exact sum, and the sum", "other", statement, _names(p), p.whole.x.size)


def add_exact(p: SumProblem) -> Contestant:
    """Return the norm of the exact sum, which is not kept."""
    statement = "add_batch_norm(a, b, norm, out=qy)"
    return Contestant("of the exact sum", "other", statement, _names(p), p.whole.x.size)


def one_norm(p: ConcatProblem | SumProblem) -> Contestant:
    """Return the norm of one tensor of as many bytes."""
    qy = bn.QuantizedTensor(p.whole.y, p.whole.output_scale, p.whole.output_zero_point)
    names = {"norm": own.norm(p.whole), "qx": own.tensor(p.whole), "qy": qy}
    return Contestant("one norm", "other", "norm(qx, out=qy)", names, p.whole.x.size)


def two_copies(p: SumProblem) -> Contestant:
    """Return the copies of as many bytes as a sum and its norm read and write: two tensors each."""
    names = {"copyto": np.copyto}
    for name, array in (("a", p.a), ("b", p.b), ("s", p.whole.z), ("y", p.whole.y)):
        names[name] = p.whole.flat(array)  # type: ignore[assignment]
    return Contestant("memcpy of both", "copy", "(copyto(s, a), copyto(y, b))", names, p.whole.x.size)


def _names(p: SumProblem) -> dict[str, object]:
    return {
        "add_batch_norm": bn.add_batch_norm,
        "a": bn.QuantizedTensor(p.a, p.a_scale, p.a_zero_point),
        "b": bn.QuantizedTensor(p.b, p.b_scale, p.b_zero_point),
        "norm": own.norm(p.whole),
        "sum_scale": p.whole.scale,
        "sum_zero_point": p.whole.zero_point,
        "qy": bn.QuantizedTensor(p.whole.y, p.whole.output_scale, p.whole.output_zero_point),
        "qs": bn.QuantizedTensor(p.whole.z, p.whole.scale, p.whole.zero_point),
    }
