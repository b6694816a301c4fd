"""The operators ``torch.ops.bytenorm.concat_batch_norm`` and ``add_batch_norm`` on plain uint8 and int8 tensors.

Importing this module registers them and what torch needs in order to trace them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ... import _checks
from ..._errors import bad_type, bad_value
from ..._norms.concat_and_add import add_batch_norm, concat_batch_norm
from ..._tensors.tensor import QuantizedTensor
from . import devices, tensor_checks
from .dispatcher import after_autograd, below_autograd

_REST = (
    "Tensor? weight, Tensor? bias, Tensor mean, Tensor var, float eps, "
    "float y_scale, int y_zero_point, ScalarType output_dtype, bool relu)"
)
_CONCAT = f"concat_batch_norm(Tensor[] pieces, float[] scales, int[] zero_points, {_REST} -> Tensor"
_ADD = (
    "add_batch_norm(Tensor a, float a_scale, int a_zero_point, Tensor b, float b_scale, int b_zero_point, "
    f"float sum_scale, int sum_zero_point, {_REST} -> (Tensor, Tensor)"
)


def _concat(
    pieces: Sequence[torch.Tensor], scales: Sequence[float], zero_points: Sequence[int], *rest: Any
) -> torch.Tensor:
    """Compute the norm of the concatenation of `pieces` along axis 1."""
    tensor_checks.pieces(pieces, scales, zero_points)
    _check_gradients(rest)
    qs = [
        _quantized(piece, scale, zero_point, f"pieces[{i}]")
        for i, (piece, scale, zero_point) in enumerate(zip(pieces, scales, zero_points, strict=True))
    ]
    norm = tensor_checks.norm(*rest)
    _checks.norm_pieces(qs, 1, len(norm.mean))  # before memory is taken
    y = tensor_checks.concatenation(pieces, rest[7])
    concat_batch_norm(qs, norm, out=y.numpy())
    return y


def _add(
    a: torch.Tensor,
    a_scale: float,
    a_zero_point: int,
    b: torch.Tensor,
    b_scale: float,
    b_zero_point: int,
    sum_scale: float,
    sum_zero_point: int,
    *rest: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the norm of a + b and the sum."""
    _check_gradients(rest)
    first, second = _quantized(a, a_scale, a_zero_point, "a"), _quantized(b, b_scale, b_zero_point, "b")
    norm = tensor_checks.norm(*rest)
    y, total = add_batch_norm(first, second, norm, sum_scale=sum_scale, sum_zero_point=sum_zero_point)
    return _like(a, y), _like(a, total)


def _quantized(x: torch.Tensor, scale: float, zero_point: int, name: str) -> QuantizedTensor:
    tensor_checks.given(x, name)
    tensor_checks.in_memory(x, name)
    tensor_checks.norm_input(x, name)  # of more dimensions NumPy has no arrays
    tensor_checks.quantization(scale, zero_point, tensor_checks.kind(x.dtype, name), name)
    return QuantizedTensor(x.detach().resolve_neg().numpy(), scale, zero_point)


def _check_gradients(rest: tuple[Any, ...]) -> None:
    for name, vector in zip(("mean", "var"), rest[2:4], strict=True):
        if vector is None:
            _checks.missing(name)
    tensor_checks.gradients(**dict(zip(tensor_checks.VECTORS, rest[:4], strict=True)))


def _like(x: torch.Tensor, q: QuantizedTensor) -> torch.Tensor:
    """Return a result as a tensor with the strides that `torch.empty_like` gives."""
    y = torch.from_numpy(q.data)
    wanted = torch.empty_like(x, dtype=y.dtype)
    return y if y.stride() == wanted.stride() else wanted.copy_(y)


def _traced_concat(
    pieces: Sequence[torch.Tensor], scales: Sequence[float], zero_points: Sequence[int], *rest: Any
) -> torch.Tensor:
    """Say what the operator would return, for tensors without data; refuse what can be known to be wrong."""
    tensor_checks.pieces(pieces, scales, zero_points)
    _check_gradients(rest)
    first = pieces[0]
    for i, piece in enumerate(pieces):
        _check_traced(piece, f"pieces[{i}]", first.device)
        if piece.dtype != first.dtype:
            raise bad_value(f"pieces[{i}]", f"must have the dtype of pieces[0], {first.dtype}, got {piece.dtype}")
        if piece.dim() != first.dim():
            raise bad_value(f"pieces[{i}]", f"must have {first.dim()} dimensions as pieces[0], got {piece.dim()}")
        for axis in (0, *range(2, first.dim())):
            torch._check(  # type: ignore[no-untyped-call]
                piece.shape[axis] == first.shape[axis],
                lambda i=i, axis=axis: (
                    f"pieces[{i}] must have the shape of pieces[0] but for axis 1, not on {axis}"
                ),
            )
    _check_traced_rest(rest, first.device)
    return tensor_checks.concatenation(pieces, rest[7])


def _traced_add(
    a: torch.Tensor,
    a_scale: float,
    a_zero_point: int,
    b: torch.Tensor,
    b_scale: float,
    b_zero_point: int,
    sum_scale: float,
    sum_zero_point: int,
    *rest: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Say what the operator would return, for tensors without data; refuse what can be known to be wrong."""
    _check_gradients(rest)
    tensor_checks.given(a, "a")
    for name, x in (("a", a), ("b", b)):
        _check_traced(x, name, a.device)
    if b.dtype != a.dtype:
        raise bad_value("b", f"must have the dtype of a, {a.dtype}, got {b.dtype}")
    if b.dim() != a.dim():
        raise bad_value("b", f"must have {a.dim()} dimensions as a, got {b.dim()}")
    for axis in range(a.dim()):
        torch._check(  # type: ignore[no-untyped-call]
            a.shape[axis] == b.shape[axis], lambda axis=axis: f"b must have the shape of a, not on {axis}"
        )
    _check_traced_rest(rest, a.device)
    return torch.empty_like(a, dtype=rest[7]), torch.empty_like(a)


def _check_traced(x: torch.Tensor, name: str, device: torch.device) -> None:
    tensor_checks.given(x, name)
    tensor_checks.strided(x, name)
    if x.device != device:
        raise bad_type(name, f"must be on {device} as the others, got a tensor on {x.device}")
    tensor_checks.kind(x.dtype, name)
    tensor_checks.norm_input(x, name)


def _check_traced_rest(rest: tuple[Any, ...], device: torch.device) -> None:
    for name, vector in zip(tensor_checks.VECTORS, rest[:4], strict=True):
        if vector is not None:
            tensor_checks.beside(vector, device, name)
    tensor_checks.kind(rest[7], "output_dtype")


def _where_gradients_are_recorded(name: str) -> Callable[..., Any]:
    """Return what the dispatcher calls first: nothing is to be recorded, and nothing cut."""

    def refuse_or_compute(keyset: Any, *values: Any) -> Any:
        _check_gradients(values[-9:])
        with below_autograd():
            overload = getattr(torch.ops.bytenorm, name).default
            return overload.redispatch(keyset & after_autograd, *values)

    return refuse_or_compute


_library: Any = torch.library.Library("bytenorm", "FRAGMENT")  # type: ignore[no-untyped-call]
for _schema, _on_cpu, _traced in ((_CONCAT, _concat, _traced_concat), (_ADD, _add, _traced_add)):
    _name = _schema.partition("(")[0]
    _library.define(_schema, tags=(torch.Tag.pt2_compliant_tag, torch.Tag.flexible_layout))
    _library.impl(_name, _on_cpu, "CPU")
    for _key in devices.KEYS:
        _library.impl(_name, getattr(devices, _name), _key)
    if below_autograd is not None and after_autograd is not None:
        _library.impl(_name, _where_gradients_are_recorded(_name), "Autograd", with_keyset=True)
    torch.library.register_fake(f"bytenorm::{_name}", _traced, lib=_library)
