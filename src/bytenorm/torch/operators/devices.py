"""The operators on tensors that are not on the CPU: torch's own operators there, on constants made here.

Parameters are read in every call, which waits for the device; what was made of the last few is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ... import _checks
from ..._dtypes import DType
from ..._errors import bad_type
from ..._norms.batch_norm import BatchNorm
from ..._tensors.tensor import QuantizedTensor
from . import tensor_checks
from .composite import NormConstants, SumConstants

KEYS = ("CUDA", "MPS", "XPU", "HPU", "MTIA", "XLA", "Lazy", "PrivateUse1")  # of torch's dispatcher

_NAMES = tensor_checks.Names("x", "x_scale", "x_zero_point", "y_scale", "y_zero_point")


def batch_norm(
    x: torch.Tensor, x_scale: Any, x_zero_point: Any, weight: Any, bias: Any, mean: Any, var: Any,
    eps: float, y_scale: float, y_zero_point: int, output_dtype: torch.dtype | None, relu: bool,
) -> torch.Tensor:  # fmt: skip
    """Compute ``torch.ops.bytenorm.batch_norm``, both overloads."""
    vectors = dict(zip(tensor_checks.VECTORS, (weight, bias, mean, var), strict=True))
    tensor_checks.gradients(x_scale=x_scale, **vectors)
    tensor_checks.given(x, "x")
    tensor_checks.strided(x, "x")
    x_kind = tensor_checks.kind(x.dtype, "x")
    y_kind = tensor_checks.kind(x.dtype if output_dtype is None else output_dtype, "output_dtype")
    scale, zero_point = _brought(x_scale, "x_scale", x.device), _brought(x_zero_point, "x_zero_point", x.device)
    brought = tuple(_brought(value, name, x.device) for name, value in vectors.items())
    quantization = (y_scale, y_zero_point)
    numbers = tensor_checks.numbers(
        x, x_kind, (scale, zero_point), brought, eps, quantization, y_kind, relu, _NAMES
    )
    return _like(x, _normalized(x, _constants(numbers, x_kind, y_kind)))


def concat_batch_norm(
    pieces: Sequence[torch.Tensor], scales: Sequence[float], zero_points: Sequence[int], *rest: Any
) -> torch.Tensor:
    """Compute ``torch.ops.bytenorm.concat_batch_norm``."""
    tensor_checks.pieces(pieces, scales, zero_points)
    stand_ins = [
        _stand_in(piece, scale, zero_point, f"pieces[{i}]", pieces[0].device)
        for i, (piece, scale, zero_point) in enumerate(zip(pieces, scales, zero_points, strict=True))
    ]
    norm = _norm(rest, pieces[0].device)
    _checks.norm_pieces(stand_ins, 1, len(norm.mean))
    counts = [piece.shape[1] for piece in pieces]
    numbers = _numbers(norm, np.repeat(scales, counts), np.repeat(zero_points, counts))
    constants = _constants(numbers, stand_ins[0].dtype, norm.output_dtype)
    ends = np.cumsum([0, *counts]).tolist()
    parts = [
        _normalized(piece, constants, *part) for piece, part in zip(pieces, itertools.pairwise(ends), strict=True)
    ]
    y, order = torch.cat(parts, 1), tensor_checks.axis_order(pieces[0])
    if order == sorted(order):
        return y.contiguous()
    return y.permute(order).contiguous().permute([order.index(axis) for axis in range(y.dim())])


def add_batch_norm(
    a: torch.Tensor, a_scale: float, a_zero_point: int, b: torch.Tensor, b_scale: float, b_zero_point: int,
    sum_scale: float, sum_zero_point: int, *rest: Any,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Compute ``torch.ops.bytenorm.add_batch_norm``."""
    tensor_checks.given(a, "a")
    first = _stand_in(a, a_scale, a_zero_point, "a", a.device)
    second = _stand_in(b, b_scale, b_zero_point, "b", a.device)
    norm = _norm(rest, a.device)
    _checks.norm_summands(first, second, 1, len(norm.mean))
    total = _checks.sum_quantization(first, second, sum_scale, sum_zero_point)
    made = _sum(first.dtype, (a_scale, a_zero_point), (b_scale, b_zero_point), total)
    summed = made.apply(a, b, table=None if made.table is None else made.table.to(a.device))
    constants = _constants(_numbers(norm, *total), first.dtype, norm.output_dtype)
    return _like(a, _normalized(summed, constants)), _like(a, summed)


def _brought(value: Any, name: str, device: torch.device) -> Any:
    """Return a parameter from the device of the codes in the memory of the CPU, and anything else as it is."""
    if not _checks.is_a(value, torch.Tensor) or value.device != device:
        return value
    tensor_checks.strided(value, name)
    return value.detach().cpu()


def _stand_in(x: torch.Tensor, scale: float, zero_point: int, name: str, device: torch.device) -> QuantizedTensor:
    """Return a tensor of the shape of one elsewhere, for the checks: it has no memory of its own."""
    tensor_checks.given(x, name)
    tensor_checks.strided(x, name)
    if x.device != device:
        raise bad_type(name, f"must be on {device} as the others, got a tensor on {x.device}")
    kind = tensor_checks.kind(x.dtype, name)
    tensor_checks.quantization(scale, zero_point, kind, name)
    return QuantizedTensor(np.broadcast_to(np.zeros((), kind.numpy), tuple(x.shape)), scale, zero_point)


def _norm(rest: tuple[Any, ...], device: torch.device) -> BatchNorm:
    tensor_checks.gradients(**dict(zip(tensor_checks.VECTORS, rest[:4], strict=True)))
    vectors = [_brought(v, name, device) for v, name in zip(rest[:4], tensor_checks.VECTORS, strict=True)]
    return tensor_checks.norm(*vectors, *rest[4:])


def _numbers(norm: BatchNorm, x_scale: Any, x_zero_point: Any) -> tensor_checks.Numbers:
    return tensor_checks.Numbers(
        x_scale, x_zero_point, norm.weight, norm.bias, norm.mean, norm.var, norm.eps,
        norm.output_scale, norm.output_zero_point, norm.relu,
    )  # fmt: skip


def _constants(n: tensor_checks.Numbers, x_kind: DType, y_kind: DType | None) -> NormConstants:
    arrays = (n.weight, n.bias, n.mean, n.var)
    vectors = tuple(None if v is None else np.asarray(v, np.float32).tobytes() for v in arrays)
    source = tuple(v.tobytes() if isinstance(v, np.ndarray) else v for v in (n.x_scale, n.x_zero_point))
    return _constants_of(vectors, source, x_kind, (n.eps, n.y_scale, n.y_zero_point, n.relu), y_kind)


@lru_cache(maxsize=256)
def _constants_of(
    vectors: tuple[bytes | None, ...],
    source: tuple[Any, Any],
    x_kind: DType,
    rest: tuple[float, float, int, bool],
    y_kind: DType | None,
) -> NormConstants:
    weight, bias, mean, var = (None if v is None else np.frombuffer(v, np.float32) for v in vectors)
    eps, y_scale, y_zero_point, relu = rest
    norm = BatchNorm(
        weight, bias, mean, var, eps=eps, output_scale=y_scale, output_zero_point=y_zero_point,
        output_dtype=y_kind, relu=relu,
    )  # fmt: skip
    scale, zero_point = source
    if isinstance(scale, bytes):
        scale, zero_point = np.frombuffer(scale, np.float64), np.frombuffer(zero_point, np.int64)
    return NormConstants.of(norm, scale, zero_point, x_kind)


_sum = lru_cache(maxsize=256)(SumConstants.of)
_placed = lru_cache(maxsize=256)(NormConstants.placed)


def _normalized(
    x: torch.Tensor, constants: NormConstants, start: int = 0, stop: int | None = None
) -> torch.Tensor:
    y: torch.Tensor = constants.apply(x, _placed(constants, x.dim(), x.device, start, stop))
    return y


def _like(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return a result with the strides that `torch.empty_like` gives."""
    wanted = torch.empty_like(x, dtype=y.dtype)
    return y if y.stride() == wanted.stride() else wanted.copy_(y)
