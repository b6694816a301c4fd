"""The ways to call bytenorm on tensors of torch."""

from __future__ import annotations

from typing import Any

import torch

import bytenorm.torch

from ..problem import Problem
from ..timing import Contestant
from .torch_peer import VECTORS, plain, quantized


def module(p: Problem) -> Contestant:
    """Return the module on a plain tensor."""
    return Contestant("module", "own", "module(x)", {"module": norm(p), "x": plain(p)}, p.x.size, codes)


def module_relu(p: Problem) -> Contestant:
    """Return the module with a relu on a plain tensor."""
    names = {"module": norm(p, bytenorm.torch.BNReLU2d), "x": plain(p)}
    return Contestant("module with relu", "own", "module(x)", names, p.x.size, codes)


def function(p: Problem) -> Contestant:
    """Return the function, which checks and folds the parameters in every call."""
    arguments = "scale, zero_point, weight, bias, mean, var, eps, output_scale, output_zero_point"
    names = {"batch_norm": bytenorm.torch.batch_norm, **_arguments(p)}
    return Contestant("function", "own", f"batch_norm(x, {arguments})", names, p.x.size, codes)


def operator(p: Problem) -> Contestant:
    """Return the same through torch's dispatcher."""
    arguments = "scale, zero_point, weight, bias, mean, var, eps, output_scale, output_zero_point, dtype, False"
    names = {"batch_norm": torch.ops.bytenorm.batch_norm.default, "dtype": torch.uint8, **_arguments(p)}
    return Contestant("torch.ops", "own", f"batch_norm(x, {arguments})", names, p.x.size, codes)


def module_legacy(p: Problem) -> Contestant:
    """Return the module on one of torch's quantized tensors, as in a model that was moved."""
    names = {"module": norm(p), "qx": quantized(p)}
    return Contestant("module, quint8", "own", "module(qx)", names, p.x.size, lambda q: q.int_repr().numpy())


def drop_in(p: Problem) -> Contestant:
    """Return the function in the place of torch's own, on one of torch's quantized tensors."""
    arguments = "weight, bias, mean, var, eps, output_scale, output_zero_point"
    names = {"quantized_batch_norm": bytenorm.torch.quantized_batch_norm, "qx": quantized(p), **_arguments(p)}
    statement = f"quantized_batch_norm(qx, {arguments})"
    return Contestant("drop-in", "own", statement, names, p.x.size, lambda q: q.int_repr().numpy())


def norm(
    p: Problem, kind: type[bytenorm.torch.BatchNorm2d] = bytenorm.torch.BatchNorm2d
) -> bytenorm.torch.BatchNorm2d:
    """Return the problem's norm as a module."""
    norm = torch.nn.BatchNorm2d(len(p.mean), eps=p.eps).eval()
    for own, given in zip((norm.weight, norm.bias, norm.running_mean, norm.running_var), VECTORS, strict=True):
        assert own is not None
        own.data = torch.from_numpy(getattr(p, given))
    return kind.from_float(
        norm, p.output_scale, p.output_zero_point, input_scale=p.scale, input_zero_point=p.zero_point
    )


def _arguments(p: Problem) -> dict[str, Any]:
    numbers = ("scale", "zero_point", "eps", "output_scale", "output_zero_point")
    return {
        "x": plain(p),
        **{name: torch.from_numpy(getattr(p, name)) for name in VECTORS},
        **{name: getattr(p, name) for name in numbers},
    }


def codes(y: torch.Tensor) -> Any:
    """Return the codes of a result."""
    return y.numpy()
