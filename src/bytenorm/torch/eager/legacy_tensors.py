"""Quantized tensors of torch, ``torch.quint8`` and ``torch.qint8``, while they exist: to and from ours."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
import torch

from ... import _checks
from ..._errors import bad_type
from ..._tensors.tensor import QuantizedTensor
from ..operators import tensor_checks

_LAYOUTS = {  # by the number of dimensions
    0: (torch.contiguous_format,),
    4: (torch.contiguous_format, torch.channels_last),
    5: (torch.contiguous_format, torch.channels_last_3d),
}


def is_legacy(value: object) -> TypeGuard[torch.Tensor]:
    """Whether this is one of torch's quantized tensors."""
    tensor: Any = value
    return _checks.is_a(value, torch.Tensor) and tensor_checks.is_quantized(tensor)


def is_per_tensor(tensor: torch.Tensor) -> bool:
    """Whether a quantized tensor has 8 bits, one scale and one zero point."""
    usual = tensor.dtype in tensor_checks.LEGACY_DTYPES and tensor.is_cpu  # others cannot say their scheme
    return usual and tensor.qscheme() == torch.per_tensor_affine


def check(tensor: torch.Tensor, name: str) -> None:
    """Refuse a quantized tensor whose codes are not 8 affine bits in the memory of the CPU."""
    if tensor.dtype not in tensor_checks.LEGACY_DTYPES:
        raise bad_type(name, f"must be torch.quint8 or torch.qint8, got {tensor.dtype}")
    tensor_checks.in_memory(tensor, name)
    if tensor.qscheme() not in (torch.per_tensor_affine, torch.per_channel_affine):
        raise bad_type(name, f"must be quantized per_tensor_affine or per_channel_affine, got {tensor.qscheme()}")


def quantization(tensor: torch.Tensor) -> tuple[Any, Any, int | None]:
    """Return scale, zero point and axis: numbers and None, or NumPy arrays of float64 and int64 and their axis."""
    if tensor.qscheme() == torch.per_tensor_affine:
        return tensor.q_scale(), tensor.q_zero_point(), None
    scales = tensor.q_per_channel_scales().numpy().astype(np.float64)
    return scales, tensor.q_per_channel_zero_points().numpy().astype(np.int64), tensor.q_per_channel_axis()


def empty_like(tensor: torch.Tensor, scale: float, zero_point: int) -> torch.Tensor:
    """Return a quantized tensor of the same dtype, shape and axis order in memory, quantized per tensor.

    The strides are those that `torch.empty_like` gives a plain tensor.
    """
    like = {"scale": scale, "zero_point": zero_point, "dtype": tensor.dtype}
    shape = tensor.shape
    for layout in _LAYOUTS.get(len(shape), _LAYOUTS[0]):
        if tensor.is_contiguous(memory_format=layout):
            made = torch._empty_affine_quantized(shape, **like, memory_format=layout)  # type: ignore[call-overload]
            return made  # type: ignore[no-any-return]  # noqa: RET504
    plain = torch.empty_strided(shape, tensor.stride(), dtype=torch.uint8, device="meta")
    strides = torch.empty_like(plain).stride()
    order = sorted(range(len(shape)), key=lambda d: (-strides[d], -shape[d]))
    made = torch._empty_affine_quantized([shape[d] for d in order], **like)  # type: ignore[call-overload]
    return made.permute([order.index(d) for d in range(len(order))])  # type: ignore[no-any-return]


def from_legacy(tensor: torch.Tensor) -> QuantizedTensor:
    """Convert a quantized tensor of torch to one of bytenorm.

    Parameters
    ----------
    tensor : torch.Tensor of torch.quint8 or torch.qint8, any shape
        Quantized per tensor or per channel, on the CPU.

    Returns
    -------
    QuantizedTensor
        The same codes in memory of its own, the same scale and zero point.

    Raises
    ------
    TypeError
        If `tensor` is no such tensor.
    ValueError
        If its scale or zero point is none that bytenorm takes: torch accepts any.

    See Also
    --------
    to_legacy : the other way.

    Examples
    --------
    >>> import warnings, torch, bytenorm.torch
    >>> with warnings.catch_warnings(action="ignore"):  # PyTorch's, about torch.quint8
    ...     t = torch.quantize_per_tensor(torch.tensor([0.0, 0.5, 1.0]), 0.25, 10, torch.quint8)
    >>> bytenorm.torch.from_legacy(t)
    tensor([0.0000, 0.5000, 1.0000], size=(3,), dtype=bytenorm.quint8,
           quantization_scheme=bytenorm.per_tensor_affine, scale=0.25, zero_point=10)
    """
    if not isinstance(tensor, torch.Tensor):
        raise bad_type("tensor", f"must be a quantized torch.Tensor, got {type(tensor).__name__}")
    if not tensor_checks.is_quantized(tensor):
        raise bad_type("tensor", f"must be torch.quint8 or torch.qint8, got {tensor.dtype}")
    check(tensor, "tensor")
    return QuantizedTensor(tensor.int_repr().numpy(), *quantization(tensor))


def to_legacy(q: QuantizedTensor) -> torch.Tensor:
    """Convert a quantized tensor of bytenorm to one of torch, for what still wants one.

    PyTorch warns once a process that such tensors will be removed.

    Parameters
    ----------
    q : QuantizedTensor

    Returns
    -------
    torch.Tensor of torch.quint8 or torch.qint8
        The same codes in memory of its own, the same scale and zero point.

    Raises
    ------
    TypeError
        If `q` is no QuantizedTensor.
    RuntimeError
        If this version of PyTorch has no such tensors any more.

    See Also
    --------
    from_legacy : the other way.

    Examples
    --------
    >>> import warnings, numpy as np, bytenorm as bn, bytenorm.torch
    >>> q = bn.QuantizedTensor(np.array([10, 12, 14], np.uint8), 0.25, 10)
    >>> with warnings.catch_warnings(action="ignore"):  # PyTorch's, about torch.quint8
    ...     bytenorm.torch.to_legacy(q)
    tensor([0.0000, 0.5000, 1.0000], size=(3,), dtype=torch.quint8,
           quantization_scheme=torch.per_tensor_affine, scale=0.25, zero_point=10)
    """
    codes = torch.from_numpy(np.array(_checks.quantized(q, "q").data))
    if not hasattr(torch, "_make_per_tensor_quantized_tensor"):
        raise RuntimeError(
            f"torch {torch.__version__} has no quantized tensors any more: the codes are q.data, "
            "and bytenorm.torch.batch_norm takes them"
        )
    if q.axis is None:
        return torch._make_per_tensor_quantized_tensor(codes, q.scale, q.zero_point)
    scales, zero_points = torch.from_numpy(np.array(q.scale)), torch.from_numpy(np.array(q.zero_point))
    return torch._make_per_channel_quantized_tensor(codes, scales, zero_points, q.axis)
