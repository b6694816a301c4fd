"""Every check of a tensor of torch and every message about one; what is no tensor is left to `bytenorm._checks`.

The usual call never comes here: the native code checks its numbers, and asks for words only when it refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.autograd import forward_ad

from ... import _checks, _core
from ..._dtypes import DType, qint8, quint8
from ..._errors import bad_type, bad_value
from ..._norms.batch_norm import BatchNorm
from ..._tensors.tensor import QuantizedTensor

MOST_DIMENSIONS = 64  # of the native code

DTYPES = {torch.uint8: quint8, torch.int8: qint8}
LEGACY_DTYPES = {getattr(torch, d.name): d for d in (quint8, qint8) if hasattr(torch, d.name)}  # while they exist

VECTORS = ("weight", "bias", "mean", "var")


class Names(NamedTuple):
    """What the arguments of a norm are called where the caller gave them."""

    x: str
    x_scale: str
    x_zero_point: str
    y_scale: str
    y_zero_point: str


class Numbers(NamedTuple):
    """The numbers of a norm in the form that the native code reads."""

    x_scale: float | np.ndarray
    x_zero_point: int | np.ndarray
    weight: np.ndarray | None
    bias: np.ndarray | None
    mean: np.ndarray
    var: np.ndarray
    eps: float
    y_scale: float
    y_zero_point: int
    relu: bool

    def apply(
        self, x: torch.Tensor, output_dtype: torch.dtype | None = None, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Normalize `x`, into `out` if that is given; everything was checked."""
        y: torch.Tensor | None = _core.batch_norm_torch(
            x, self.x_scale, self.x_zero_point, self.weight, self.bias, self.mean, self.var, self.eps,
            self.y_scale, self.y_zero_point, output_dtype, self.relu, out, False, True,
        )  # fmt: skip
        if y is None:  # every check was passed before
            raise bad_value("x", "or a parameter, or their memory, changed while the call worked")
        return y


def kind(dtype: object, name: str) -> DType:
    """Return the quantized type that a plain dtype of torch holds the codes of."""
    if isinstance(dtype, torch.dtype) and dtype in DTYPES:
        return DTYPES[dtype]
    raise bad_type(name, f"must be torch.uint8 or torch.int8, got {dtype}{_remedy(dtype)}")


def _remedy(dtype: object) -> str:
    if dtype in LEGACY_DTYPES:
        return "; see bytenorm.torch.quantized_batch_norm, or give x.int_repr()"
    return ""


def zero_point_of_any(value: object, name: str) -> int:
    """Return a zero point inside the range of one of the types, while the type depends on the input."""
    number = _checks.integer(value, name)
    if not qint8.qmin <= number <= quint8.qmax:
        raise bad_value(name, f"must be from {qint8.qmin} to {quint8.qmax}, got {number}")
    return number


def in_memory(tensor: torch.Tensor, name: str) -> None:
    """Refuse a tensor without memory that this process can read."""
    initialized(tensor, name)
    on_the_cpu(tensor, name)
    try:
        tensor.untyped_storage()
    except NotImplementedError:
        raise bad_type(name, "has no memory of its own, as inside torch.vmap, and must have") from None
    _checks.in_storage(tensor, name)
    if is_hidden(tensor) and not tensor._is_zerotensor():
        raise bad_type(name, "has no memory that can be read, as inside torch.func.functionalize, and must have")


def is_quantized(tensor: torch.Tensor) -> bool:
    """Whether this is one of torch's quantized tensors, while they exist."""
    return bool(getattr(tensor, "is_quantized", False))


def is_hidden(tensor: torch.Tensor) -> bool:
    """Whether torch keeps the numbers of a tensor elsewhere, or nowhere: it has elements and no address.

    NumPy would take memory of its own for one, and say nothing.
    """
    try:
        return tensor.numel() > 0 and tensor.data_ptr() == 0
    except Exception:  # without a storage, whose own words come later
        return False


def initialized(tensor: torch.Tensor, name: str) -> None:
    """Refuse a parameter or a buffer of a lazy module that has no shape yet."""
    if _checks.is_a(tensor, torch.nn.UninitializedParameter, torch.nn.parameter.UninitializedBuffer):
        raise bad_value(name, "is not initialized yet: run the lazy module that it belongs to first")


def given(tensor: object, name: str) -> None:
    """Refuse None in the place of a tensor: torch's dispatcher lets it through."""
    if not _checks.is_a(tensor, torch.Tensor):
        raise bad_type(name, f"must be a torch.Tensor of uint8 or int8, got {type(tensor).__name__}")


def beside(tensor: torch.Tensor, device: torch.device, name: str) -> None:
    """Refuse a parameter neither on the device of the codes nor on the CPU.

    One on "meta" would have torch return memory that nobody wrote to.
    """
    strided(tensor, name)
    if tensor.device != device and tensor.device.type != "cpu":
        where = "in the memory of the CPU" if device.type == "cpu" else f"on {device} as x or on the CPU"
        raise bad_type(name, f"must be {where}, got a tensor on {tensor.device}")


def on_the_cpu(tensor: torch.Tensor, name: str) -> None:
    """Refuse a tensor on another device, or one that is not strided."""
    if tensor.device.type != "cpu":
        raise bad_type(name, f"must be in the memory of the CPU, got a tensor on {tensor.device}")
    strided(tensor, name)


def strided(tensor: torch.Tensor, name: str) -> None:
    """Refuse a tensor that is not strided."""
    if tensor.layout is not torch.strided or tensor.is_nested:
        raise bad_type(name, f"must be a strided tensor, got {'nested' if tensor.is_nested else tensor.layout}")


def forward_level() -> int | None:
    """Return the level of forward mode, -1 where it is off, None where this torch does not tell."""
    return getattr(forward_ad, "_current_level", None)


def gradients(**tensors: object) -> None:
    """Refuse to cut a gradient, of backward or forward mode, without a word."""
    backward, forward = torch.is_grad_enabled(), forward_level() != -1
    for name, given in tensors.items():
        tensor: Any = given
        if not _checks.is_a(tensor, torch.Tensor):
            continue
        tangent = forward_ad.unpack_dual(tensor).tangent if forward else None  # type: ignore[no-untyped-call]
        if (backward and tensor.requires_grad) or tangent is not None:
            raise RuntimeError(
                f"{name} requires a gradient and a norm on codes has none: "
                f"give {name}.detach(), or call inside torch.no_grad()"
            )


def norm_input(x: torch.Tensor, name: str) -> int:
    """Return how many channels an input has."""
    if not 2 <= x.dim() <= MOST_DIMENSIONS:
        raise bad_value(name, f"must have 2 to {MOST_DIMENSIONS} dimensions, got shape {tuple(x.shape)}")
    return x.shape[1]


def one_a_channel(vector: torch.Tensor, channels: int, name: str) -> None:
    """Refuse a vector of another length, or none, while a program is traced; lengths may be unknown."""
    if vector.dim() != 1:
        raise bad_value(name, f"must be one-dimensional, one value a channel, got shape {tuple(vector.shape)}")
    torch._check_value(  # type: ignore[no-untyped-call]
        vector.shape[0] == channels,
        lambda: f"x has {channels} channels on axis 1, but {name} has {vector.shape[0]} values",
    )


def pieces(given: Sequence[torch.Tensor], scales: Sequence[float], zero_points: Sequence[int]) -> None:
    """Refuse pieces of a concatenation without a quantization each."""
    if not given:
        raise bad_value("pieces", "must hold at least one tensor, got none")
    for name, values in (("scales", scales), ("zero_points", zero_points)):
        if len(values) != len(given):
            raise bad_value(name, f"must have one value for each of the {len(given)} pieces, got {len(values)}")


def quantization(scale: float, zero_point: int, kind_: DType, name: str) -> None:
    """Refuse a scale or a zero point of one of several inputs, "a", "b" or "pieces[i]"."""
    _checks.scale(scale, f"{name}_scale" if name in "ab" else f"the scale of {name}")
    _checks.zero_point(zero_point, kind_, f"{name}_zero_point" if name in "ab" else f"the zero point of {name}")


def norm(
    weight: Any, bias: Any, mean: Any, var: Any, eps: float, y_scale: float, y_zero_point: int,
    output_dtype: torch.dtype, relu: bool,
) -> BatchNorm:  # fmt: skip
    """Return the norm of the arguments that the operators end with."""
    kind_ = kind(output_dtype, "output_dtype")
    _checks.scale(y_scale, "y_scale")
    _checks.zero_point(y_zero_point, kind_, "y_zero_point")
    vectors = (array(v, name) for v, name in zip((weight, bias, mean, var), VECTORS, strict=True))
    return BatchNorm(
        *vectors, eps=eps, output_scale=y_scale, output_zero_point=y_zero_point, output_dtype=kind_, relu=relu
    )


def concatenation(given: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """Return memory for the concatenation of pieces, its axes in memory in the order of the first piece's."""
    first = given[0]
    shape = [first.shape[0], sum(piece.shape[1] for piece in given), *first.shape[2:]]
    return torch.empty_permuted(shape, axis_order(first), dtype=dtype, device=first.device)


def axis_order(x: torch.Tensor) -> list[int]:
    """Return the axes of a tensor in the order in which they lie in memory."""
    axes = list(range(x.dim()))
    last = [0, *axes[2:], 1]
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if x.is_contiguous():
        return axes
    if x.dim() in formats and x.is_contiguous(memory_format=formats[x.dim()]):
        return last
    return sorted(axes, key=x.stride, reverse=True)


def array(value: Any, name: str) -> Any:
    """Return the memory of a tensor as NumPy sees it, and anything else as it is."""
    if not _checks.is_a(value, torch.Tensor):
        return value
    if is_quantized(value):
        raise bad_type(name, f"must be real numbers, got a tensor of {value.dtype}")
    in_memory(value, name)
    value = value.detach()
    try:
        if value.is_floating_point() and value.element_size() < 4:  # of these NumPy knows one
            return value.float().numpy(force=True)
        return value.numpy(force=True)  # resolves lazy signs, conjugates and zeros
    except (NotImplementedError, TypeError):
        raise bad_type(name, f"must be real numbers, got a tensor of {value.dtype}") from None
    except RuntimeError as error:  # a subclass that has no memory
        raise bad_type(name, f"cannot be read, {type(value).__name__} has no memory for it: {error}") from None


def number(value: Any, name: str) -> Any:
    """Return the number in a tensor of one, whatever its shape, and anything else as it is.

    Converted modules carry scale and zero point in tensors of shape (1,), and operators of torch take them so.
    """
    if not _checks.is_a(value, torch.Tensor) or value.numel() != 1:
        return value
    return array(value, name).reshape(())[()]


def whole(value: Any, name: str) -> Any:
    """Return the integer in a tensor of one, of integers or of floats, and anything else as it is.

    torch's operators cut the fraction of a float off; here one that has a fraction stays, and is refused later.
    """
    found = number(value, name)
    if _checks.is_a(value, torch.Tensor) and isinstance(found, np.floating) and found == np.rint(found):
        return int(found) if np.isfinite(found) else found
    return found


def numbers(
    x: torch.Tensor,
    x_kind: DType,
    x_quantization: tuple[Any, Any],
    vectors: tuple[Any, Any, Any, Any],
    eps: object,
    y_quantization: tuple[Any, Any],
    y_kind: DType,
    relu: object,
    names: Names,
) -> Numbers:
    """Return the numbers of a norm for the input `x`, each checked."""
    channels = norm_input(x, names.x)
    weight, bias, mean, var = (array(v, name) for v, name in zip(vectors, VECTORS, strict=True))
    for name, value in (("mean", mean), ("var", var)):
        if value is None:
            _checks.missing(name)
    parameters = _checks.norm_parameters(weight, bias, mean, var, number(eps, "eps"))
    if len(parameters[2]) != channels:
        raise bad_value(
            names.x,
            f"has {channels} channels on axis 1 (shape {tuple(x.shape)}), "
            f"but mean has {len(parameters[2])} values",
        )
    scale, zero_point, axis = _quantization(x_quantization, x_kind, channels, (names.x_scale, names.x_zero_point))
    y_scale = _checks.scale(number(y_quantization[0], names.y_scale), names.y_scale)
    y_zero_point = _checks.zero_point(number(y_quantization[1], names.y_zero_point), y_kind, names.y_zero_point)
    relu_ = _checks.flag(relu, "relu")
    nothing = QuantizedTensor(np.empty((0, channels), x_kind.numpy), scale, zero_point, axis)
    _checks.overflow(*_core.fold(*parameters, y_scale, nothing))
    return Numbers(scale, zero_point, *parameters, y_scale, y_zero_point, relu_)


def _quantization(
    given: tuple[Any, Any], kind_: DType, channels: int, names: tuple[str, str]
) -> tuple[Any, Any, int | None]:
    """Return scale, zero point and axis of an input: numbers, or arrays of one a channel and 1."""
    scale, zero_point = (array(value, name) for value, name in zip(given, names, strict=True))
    if not _checks.is_a(scale, np.ndarray, list, tuple) or np.ndim(scale) == 0:
        return _checks.scale(scale, names[0]), _checks.zero_point(zero_point, kind_, names[1]), None
    return *_checks.channel_quantization(scale, zero_point, kind_, channels, names), 1
