"""The four ways to call bytenorm."""

from __future__ import annotations

from typing import Any

import numpy as np

import bytenorm as bn

from ..problem import Problem
from ..timing import Contestant


def prepared_out(p: Problem) -> Contestant:
    """Return the prepared norm with its output memory given."""
    qy = bn.QuantizedTensor(p.y, p.output_scale, p.output_zero_point)
    names = {"norm": norm(p), "qx": tensor(p), "qy": qy}
    return Contestant("bytenorm out=", "own", "norm(qx, out=qy)", names, p.x.size, codes)


def prepared(p: Problem) -> Contestant:
    """Return the prepared norm that makes new output memory in every call."""
    names = {"norm": norm(p), "qx": tensor(p)}
    return Contestant("bytenorm", "own", "norm(qx)", names, p.x.size, codes)


def in_place(p: Problem) -> Contestant:
    """Return the prepared norm with its output over its input, which is fresh in every turn."""
    names = {"norm": norm(p), "qz": bn.QuantizedTensor(p.z, p.scale, p.zero_point), "z": p.z}
    restore = lambda: np.copyto(p.z, p.x)  # noqa: E731
    return Contestant("bytenorm in place", "own", "norm(qz, out=z)", names, p.x.size, codes, restore)


def one_shot(p: Problem) -> Contestant:
    """Return the documented function: it checks and folds the parameters in every call."""
    arguments = "weight, bias, mean, var, eps, output_scale, output_zero_point"
    names = {"quantized_batch_norm": bn.quantized_batch_norm, "qx": tensor(p)}
    names |= {name: getattr(p, name) for name in arguments.split(", ")}
    statement = f"quantized_batch_norm(qx, {arguments})"
    return Contestant("bytenorm one-shot", "own", statement, names, p.x.size, codes)


def norm(p: Problem) -> bn.BatchNorm:
    """Return the problem's prepared operator."""
    return bn.BatchNorm(
        p.weight,
        p.bias,
        p.mean,
        p.var,
        eps=p.eps,
        output_scale=p.output_scale,
        output_zero_point=p.output_zero_point,
    )


def tensor(p: Problem) -> bn.QuantizedTensor:
    """Return the problem's input."""
    return bn.QuantizedTensor(p.x, p.scale, p.zero_point)


def codes(q: bn.QuantizedTensor) -> Any:
    """Return the codes of a result."""
    return q.data
