"""The operator ``torch.ops.bytenorm.batch_norm`` on plain uint8 and int8 tensors, and the function in front of it.

Importing this module registers the operator, its overload for inputs quantized per channel, and what torch needs
in order to trace both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.compiler import is_dynamo_compiling

from ... import _checks, _core
from ..._errors import bad_type
from . import devices, tensor_checks
from .dispatcher import (
    after_autograd,
    below_autograd,
    dispatch_modes,
    needs_dispatcher,
    overridden,
    tracing_state,
)

_NAMES = tensor_checks.Names("x", "x_scale", "x_zero_point", "y_scale", "y_zero_point")
_REST = (
    "Tensor? weight, Tensor? bias, Tensor mean, Tensor var, float eps, "
    "float y_scale, int y_zero_point, ScalarType output_dtype, bool relu) -> Tensor"
)
_SCHEMAS = {
    "batch_norm": f"(Tensor x, float x_scale, int x_zero_point, {_REST}",
    "batch_norm.per_channel": f"(Tensor x, Tensor x_scale, Tensor x_zero_point, {_REST}",
}


def batch_norm(
    x: torch.Tensor,
    x_scale: float | torch.Tensor,
    x_zero_point: int | torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    mean: torch.Tensor,
    var: torch.Tensor,
    eps: float,
    y_scale: float,
    y_zero_point: int,
    output_dtype: torch.dtype | None = None,
    relu: bool = False,
) -> torch.Tensor:
    """Normalize the channels of a tensor of 8-bit codes.

    The same as ``torch.ops.bytenorm.batch_norm``, and recorded as that by everything that traces: `torch.compile`,
    `torch.export`, modes, transforms. When nothing traces, the call goes past torch's dispatcher.

    Parameters
    ----------
    x : torch.Tensor of uint8 or int8, at least 2-D, C channels on axis 1
        The codes, with any strides. May be empty. On the CPU kernels normalize them; on other devices torch's
        own operators do, on integers that are proved to give the same codes, which is for correctness first.
    x_scale : float, or torch.Tensor of C real numbers
        The quantization step of `x` in real units, for the tensor or for each channel.
    x_zero_point : int, or torch.Tensor of C integers
        The code of 0 in `x`.
    weight, bias : torch.Tensor of C real numbers, or None
        In real units. None means ones and zeros.
    mean, var : torch.Tensor of C real numbers
        In real units; `var` is not negative.
    eps : float
        Added to `var`, not negative.
    y_scale : float
        The quantization step of the result in real units.
    y_zero_point : int
        The code of 0 in the result.
    output_dtype : torch.uint8 or torch.int8, optional
        None keeps the dtype of `x`.
    relu : bool, optional
        Replace negative results by 0.

    Returns
    -------
    torch.Tensor of `output_dtype`
        Of the shape and the axis order in memory of `x`: contiguous stays contiguous, channels-last stays
        channels-last.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or a parameter neither on the device of `x` nor on the CPU.
    ValueError
        If a value is out of range or shapes do not fit.
    RuntimeError
        If gradients are recorded and a tensor requires one: there is none.

    Examples
    --------
    >>> import torch, bytenorm.torch
    >>> x = torch.tensor([[[1, 3, 9]]], dtype=torch.uint8)
    >>> bytenorm.torch.batch_norm(x, 1.0, 0, None, None, torch.tensor([3.0]), torch.tensor([4.0]), 0.0, 0.5, 10)
    tensor([[[ 8, 10, 16]]], dtype=torch.uint8)
    """
    if (
        not is_dynamo_compiling()
        and not overridden(x, weight, bias, mean, var)
        and dispatch_modes() == 0
        and tracing_state() is None
        and forward_ad._current_level < 0
    ):
        y = _core.batch_norm_torch(
            x, x_scale, x_zero_point, weight, bias, mean, var, eps, y_scale, y_zero_point,
            output_dtype, relu, None, torch.is_grad_enabled(), False,
        )  # fmt: skip
        if y is not None:
            return y  # type: ignore[no-any-return]
        if not needs_dispatcher(x, weight, bias, mean, var):
            return _checked(
                x, x_scale, x_zero_point, weight, bias, mean, var, eps, y_scale, y_zero_point, output_dtype, relu
            )
    for name, tensor in {"x": x, "weight": weight, "bias": bias, "mean": mean, "var": var}.items():
        if tensor is not None and _checks.is_a(tensor, torch.Tensor):
            tensor_checks.initialized(tensor, name)
            if tensor.is_nested:  # its class does not know the operator, and says no more than that
                tensor_checks.strided(tensor, name)
    if output_dtype is None:
        output_dtype = x.dtype
    per_channel = isinstance(x_scale, torch.Tensor) and x_scale.dim() > 0
    for name, zero_point in (("x_zero_point", x_zero_point), ("y_zero_point", y_zero_point)):
        if isinstance(zero_point, torch.Tensor) and zero_point.is_floating_point() and zero_point.dim() == 0:
            raise bad_type(  # the dispatcher would cut a fraction off
                name, f"must be an integer, got a tensor of {zero_point.dtype}"
            )
    overload = torch.ops.bytenorm.batch_norm.per_channel if per_channel else torch.ops.bytenorm.batch_norm.default
    result: torch.Tensor = overload(
        x, x_scale, x_zero_point, weight, bias, mean, var, eps, y_scale, y_zero_point, output_dtype, relu
    )
    return result


def _checked(
    x: torch.Tensor,
    x_scale: Any,
    x_zero_point: Any,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    mean: torch.Tensor,
    var: torch.Tensor,
    eps: float,
    y_scale: float,
    y_zero_point: int,
    output_dtype: torch.dtype | None,
    relu: bool,
) -> torch.Tensor:
    """Compute what is unusual, or word what is wrong."""
    tensor_checks.given(x, "x")
    tensors = {"weight": weight, "bias": bias, "mean": mean, "var": var}
    tensor_checks.gradients(x_scale=x_scale, **tensors, eps=eps, y_scale=y_scale)
    tensor_checks.in_memory(x, "x")
    x_kind, x = tensor_checks.kind(x.dtype, "x"), x.resolve_neg()
    y_kind = x_kind if output_dtype is None else tensor_checks.kind(output_dtype, "output_dtype")
    numbers = tensor_checks.numbers(
        x,
        x_kind,
        (x_scale, x_zero_point),
        (weight, bias, mean, var),
        eps,
        (y_scale, y_zero_point),
        y_kind,
        relu,
        _NAMES,
    )
    return numbers.apply(x, output_dtype)


def _usual(*values: Any) -> torch.Tensor | None:
    """Compute the operator, or return None if something is unusual or wrong."""
    compute: Any = _core.batch_norm_torch
    return compute(*values, None, torch.is_grad_enabled(), False)  # type: ignore[no-any-return]


def _on_cpu(*values: Any) -> torch.Tensor:
    """Compute the operator: what the dispatcher calls for tensors on the CPU."""
    y = _usual(*values)
    return _checked(*values) if y is None else y


def _where_gradients_are_recorded(name: str) -> Callable[..., torch.Tensor]:
    """Return what the dispatcher calls first, unless tensors are of inference mode: nothing is to be recorded.

    Where nobody is between here and the CPU, it computes the result itself, which saves a second way through
    Python.
    """

    def refuse_or_compute(keyset: Any, *values: Any) -> torch.Tensor:
        if dispatch_modes() == 0 and forward_ad._current_level < 0:
            y = _usual(*values)
            if y is not None:
                return y
        _, x_scale, _, weight, bias, mean, var, *_ = values
        tensor_checks.gradients(x_scale=x_scale, weight=weight, bias=bias, mean=mean, var=var)
        with below_autograd():
            result: torch.Tensor = _overload(name).redispatch(keyset & after_autograd, *values)
        return result

    return refuse_or_compute


def _overload(name: str) -> Any:
    packet = torch.ops.bytenorm.batch_norm
    return packet.default if name == "batch_norm" else packet.per_channel


def _traced(
    x: torch.Tensor,
    x_scale: Any,
    x_zero_point: Any,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    mean: torch.Tensor,
    var: torch.Tensor,
    eps: float,
    y_scale: float,
    y_zero_point: int,
    output_dtype: torch.dtype,
    relu: bool,
) -> torch.Tensor:
    """Say what the operator would return, for tensors without data; refuse what can be known to be wrong."""
    tensors = {"weight": weight, "bias": bias, "mean": mean, "var": var}
    tensor_checks.gradients(x_scale=x_scale, **tensors)
    tensor_checks.given(x, "x")
    for name in ("mean", "var"):
        if tensors[name] is None:
            _checks.missing(name)
    tensor_checks.kind(x.dtype, "x")
    tensor_checks.kind(output_dtype, "output_dtype")
    channels = tensor_checks.norm_input(x, "x")
    if isinstance(x_scale, torch.Tensor):
        tensors |= {"x_scale": x_scale, "x_zero_point": x_zero_point}
    for name, tensor in {"x": x, **tensors}.items():
        if tensor is not None:
            tensor_checks.beside(tensor, x.device, name)
        if tensor is not None and tensor is not x:
            tensor_checks.one_a_channel(tensor, channels, name)
    return torch.empty_like(x, dtype=output_dtype)


_library: Any = torch.library.Library("bytenorm", "DEF")  # type: ignore[no-untyped-call]
# The input may have any strides; Inductor asks `_traced` once more when it has chosen them. Held to those of trace
# time it would copy each norm's input out of a channels-last chain and its result back, for twice the norms' time.
_TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.flexible_layout)
for _name, _schema in _SCHEMAS.items():
    _library.define(_name + _schema, tags=_TAGS)
    _library.impl(_name, _on_cpu, "CPU")
    for _key in devices.KEYS:
        _library.impl(_name, devices.batch_norm, _key)
    if (
        below_autograd is not None and after_autograd is not None
    ):  # without, the operator is called and refuses gradients as well
        _library.impl(_name, _where_gradients_are_recorded(_name), "Autograd", with_keyset=True)
    torch.library.register_fake(f"bytenorm::{_name}", _traced, lib=_library)
