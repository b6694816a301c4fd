"""Between real numbers and codes: bytenorm and torch on the same data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import bytenorm as bn

from ..problem import Problem
from ..timing import Contestant
from . import own

Maker = Callable[[Problem], Contestant]


def quantize(p: Problem) -> Contestant:
    """Return bytenorm's quantize_per_tensor on float32."""
    names = {"quantize_per_tensor": bn.quantize_per_tensor, "x": _real(p), "quint8": bn.quint8, **_target(p)}
    statement = "quantize_per_tensor(x, scale, zero_point, quint8)"
    return Contestant("bytenorm", "own", statement, names, p.x.size, own.codes)


def torch_quantize(p: Problem) -> Contestant:
    """Return torch's quantize_per_tensor on float32."""
    import torch

    from . import torch_peer

    names = {
        "quantize_per_tensor": torch.quantize_per_tensor,
        "x": torch.from_numpy(_real(p)),
        "quint8": torch.quint8,
        **_target(p),
    }
    statement = "quantize_per_tensor(x, scale, zero_point, quint8)"
    return Contestant("torch", "torch", statement, names, p.x.size, torch_peer.codes)


def dequantize(p: Problem) -> Contestant:
    """Return bytenorm's dequantize."""
    names = {"dequantize": bn.dequantize, "qx": own.tensor(p)}
    return Contestant("bytenorm", "own", "dequantize(qx)", names, p.x.size, np.asarray)


def torch_dequantize(p: Problem) -> Contestant:
    """Return torch's dequantize."""
    import torch

    from . import torch_peer

    names = {"dequantize": torch.dequantize, "qx": torch_peer.quantized(p)}
    return Contestant("torch", "torch", "dequantize(qx)", names, p.x.size, np.asarray)


def requantize(p: Problem) -> Contestant:
    """Return bytenorm's requantize."""
    names = {"requantize": bn.requantize, "qx": own.tensor(p), **_target(p)}
    return Contestant("bytenorm", "own", "requantize(qx, scale, zero_point)", names, p.x.size, own.codes)


def torch_requantize(p: Problem) -> Contestant:
    """Return torch's way from one quantization to another: through float32, which may round otherwise."""
    import torch

    from . import torch_peer

    names = {
        "dequantize": torch.dequantize,
        "quantize_per_tensor": torch.quantize_per_tensor,
        "qx": torch_peer.quantized(p),
        "quint8": torch.quint8,
        **_target(p),
    }
    statement = "quantize_per_tensor(dequantize(qx), scale, zero_point, quint8)"
    return Contestant("torch", "torch", statement, names, p.x.size, torch_peer.codes, exact=False)


OPERATIONS: tuple[tuple[str, Maker, Maker], ...] = (
    ("quantize_per_tensor", quantize, torch_quantize),
    ("dequantize", dequantize, torch_dequantize),
    ("requantize", requantize, torch_requantize),
)


def _real(p: Problem) -> Any:
    return np.random.default_rng(0).standard_normal(p.x.shape, np.float32)


def _target(p: Problem) -> dict[str, Any]:
    return {"scale": p.output_scale, "zero_point": p.output_zero_point}
