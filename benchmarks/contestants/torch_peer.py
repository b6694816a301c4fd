"""PyTorch: its own quantized operator, and the same norm compiled from float operations on plain bytes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..problem import Problem
from ..timing import Contestant

warnings.filterwarnings("ignore", message=".*(quint8|quantiz).*")
torch.set_grad_enabled(False)

VECTORS = ("weight", "bias", "mean", "var")


def operator(p: Problem) -> Contestant:
    """Return torch.quantized_batch_norm on a quint8 tensor of the problem's memory format."""
    names = {
        "quantized_batch_norm": torch.quantized_batch_norm,
        "qx": quantized(p),
        **{name: torch.from_numpy(getattr(p, name)) for name in VECTORS},
        **{name: getattr(p, name) for name in ("eps", "output_scale", "output_zero_point")},
    }
    statement = "quantized_batch_norm(qx, weight, bias, mean, var, eps, output_scale, output_zero_point)"
    return Contestant("torch", "torch", statement, names, p.x.size, codes)


def compiled(p: Problem) -> Contestant:
    """Return dequantize, batch_norm and quantize on plain uint8, fused by torch.compile."""
    return _compiled(p, "torch.compile", lambda real: real)


def compiled_relu(p: Problem) -> Contestant:
    """Return the same with a relu."""
    return _compiled(p, "torch.compile with relu", torch.relu)


def _compiled(p: Problem, name: str, activation: Callable[[Any], Any]) -> Contestant:
    def normalize(x: Any, weight: Any, bias: Any, mean: Any, var: Any) -> Any:
        real = (x.to(torch.float32) - p.zero_point) * p.scale
        real = activation(torch.nn.functional.batch_norm(real, mean, var, weight, bias, False, 0.0, p.eps))
        return (torch.round(real * (1 / p.output_scale)) + p.output_zero_point).clamp(0, 255).to(torch.uint8)

    torch.compiler.reset()
    names = {
        "normalize": torch.compile(normalize, dynamic=False),
        "x": plain(p),
        **{name: torch.from_numpy(getattr(p, name)) for name in VECTORS},
    }
    statement = "normalize(x, weight, bias, mean, var)"
    return Contestant(name, "peer", statement, names, p.x.size, lambda y: y.numpy(), exact=False)


def plain(p: Problem) -> torch.Tensor:
    """Return the input as a uint8 tensor of its own, of the problem's memory format."""
    x = torch.from_numpy(p.x).clone()  # keeps the strides
    if x.stride() != p.x.strides:
        raise RuntimeError(f"torch changed the strides from {p.x.strides} to {x.stride()}")
    return x


def quantized(p: Problem) -> torch.Tensor:
    """Return the input as a quint8 tensor of the problem's memory format."""
    qx = torch._make_per_tensor_quantized_tensor(plain(p), p.scale, p.zero_point)
    if qx.stride() != p.x.strides:
        raise RuntimeError(f"torch changed the strides from {p.x.strides} to {qx.stride()}")
    return qx


def codes(q: torch.Tensor) -> Any:
    """Return the codes of a quantized tensor."""
    return np.asarray(q.int_repr())
