"""PyTorch's way: a quantized operator for the concatenation or sum, then the quantized norm of that."""

from __future__ import annotations

from typing import Any

import torch

from ..fused_problem import ConcatProblem, SumProblem
from ..problem import Codes
from ..timing import Contestant
from . import torch_peer

_NORM = "weight, bias, mean, var, eps, output_scale, output_zero_point"


def concat(p: ConcatProblem) -> Contestant:
    """Return torch.cat of quantized tensors, requantized to one scale, and the norm of that."""
    pieces = [
        _quantized(x, scale, zero_point)
        for x, scale, zero_point in zip(p.pieces, p.scales, p.zero_points, strict=True)
    ]
    names = {"cat": torch.ops.quantized.cat, "pieces": pieces, **_names(p)}
    statement = f"quantized_batch_norm(cat(pieces, 1, scale, zero_point), {_NORM})"
    # The common scale rounds once more.
    return Contestant("torch", "torch", statement, names, p.whole.x.size, torch_peer.codes, exact=False)


def add(p: SumProblem) -> Contestant:
    """Return torch's quantized sum and the norm of that."""
    names = {
        "add": torch.ops.quantized.add,
        "a": _quantized(p.a, p.a_scale, p.a_zero_point),
        "b": _quantized(p.b, p.b_scale, p.b_zero_point),
        **_names(p),
    }
    statement = f"quantized_batch_norm(add(a, b, scale, zero_point), {_NORM})"
    # torch rounds the summands to float32 and multiplies by a reciprocal.
    return Contestant("torch", "torch", statement, names, p.whole.x.size, torch_peer.codes, exact=False)


def _names(p: ConcatProblem | SumProblem) -> dict[str, Any]:
    whole = p.whole
    return {
        "quantized_batch_norm": torch.quantized_batch_norm,
        **{name: torch.from_numpy(getattr(whole, name)) for name in torch_peer.VECTORS},
        **{name: getattr(whole, name) for name in ("eps", "output_scale", "output_zero_point")},
        **{name: getattr(whole, name) for name in ("scale", "zero_point")},
    }


def _quantized(x: Codes, scale: float, zero_point: int) -> torch.Tensor:
    return torch._make_per_tensor_quantized_tensor(torch.from_numpy(x).clone(), scale, zero_point)
