"""The function documented as ``torch.quantized_batch_norm``, for programs that still hold torch's tensors."""

from __future__ import annotations

from typing import Any, overload

import torch
from torch.autograd import forward_ad

from ... import _checks, _core
from ..._dtypes import qint8, quint8
from ..._errors import bad_type, bad_value
from ..._norms.quantized_batch_norm import REQUIRED
from ..._norms.quantized_batch_norm import quantized_batch_norm as _of_quantized_tensors
from ..._tensors.tensor import QuantizedTensor
from ..operators import tensor_checks
from ..operators.dispatcher import dispatch_modes, overridden, tracing_state
from . import legacy_tensors

_NAMES = tensor_checks.Names(
    "input", "input.q_scale()", "input.q_zero_point()", "output_scale", "output_zero_point"
)


@overload
def quantized_batch_norm(
    input: torch.Tensor,
    weight: Any = None,
    bias: Any = None,
    mean: Any = REQUIRED,
    var: Any = REQUIRED,
    eps: float = REQUIRED,
    output_scale: float = REQUIRED,
    output_zero_point: int = REQUIRED,
    *,
    relu: bool = False,
) -> torch.Tensor: ...
@overload
def quantized_batch_norm(
    input: QuantizedTensor,
    weight: Any = None,
    bias: Any = None,
    mean: Any = REQUIRED,
    var: Any = REQUIRED,
    eps: float = REQUIRED,
    output_scale: float = REQUIRED,
    output_zero_point: int = REQUIRED,
    *,
    relu: bool = False,
) -> QuantizedTensor: ...
def quantized_batch_norm(
    input: torch.Tensor | QuantizedTensor,
    weight: Any = None,
    bias: Any = None,
    mean: Any = REQUIRED,
    var: Any = REQUIRED,
    eps: float = REQUIRED,
    output_scale: float = REQUIRED,
    output_zero_point: int = REQUIRED,
    *,
    relu: bool = False,
) -> torch.Tensor | QuantizedTensor:
    """Normalize the channels of a quantized tensor: in the place of ``torch.quantized_batch_norm``.

    The same values as there. Contiguous input gives contiguous output, where torch answers in channels-last.

    Parameters
    ----------
    input : torch.Tensor of torch.quint8 or torch.qint8, or QuantizedTensor; at least 2-D, C channels on axis 1
        Any strides. Quantized per tensor, or per channel on axis 1. May be empty.
    weight, bias : torch.Tensor or array of C real numbers, optional
        In real units. None means ones and zeros.
    mean, var : torch.Tensor or array of C real numbers
        In real units; `var` is not negative.
    eps : float, or torch.Tensor of one number
        Added to `var`, not negative. No default, as documented.
    output_scale : float, or torch.Tensor of one number
        The quantization step of the output in real units.
    output_zero_point : int, or torch.Tensor of one whole number
        The code of 0 in the output.
    relu : bool, optional
        Replace negative results by 0, as ``torch.ops.quantized.batch_norm2d_relu`` does.

    Returns
    -------
    torch.Tensor or QuantizedTensor
        What came in: the same dtype, shape and axis order in memory.

    Raises
    ------
    TypeError
        If an argument is missing or of the wrong kind.
    ValueError
        If a value is out of range or shapes do not fit.
    RuntimeError
        If gradients are recorded and a tensor requires one: there is none.

    See Also
    --------
    batch_norm : the operator on plain tensors, where new programs belong.

    Examples
    --------
    >>> import warnings, torch, bytenorm.torch
    >>> with warnings.catch_warnings(action="ignore"):  # PyTorch's, about torch.quint8
    ...     x = torch.quantize_per_tensor(torch.tensor([[1.0, 3.0, 9.0]]).T, 1.0, 0, torch.quint8)
    >>> bytenorm.torch.quantized_batch_norm(x, None, None, torch.tensor([3.0]), torch.tensor([4.0]), 0.0, 0.5, 10)
    tensor([[-1.],
            [ 0.],
            [ 3.]], size=(3, 1), dtype=torch.quint8,
           quantization_scheme=torch.per_tensor_affine, scale=0.5, zero_point=10)
    """
    for name, value in (
        ("mean", mean),
        ("var", var),
        ("eps", eps),
        ("output_scale", output_scale),
        ("output_zero_point", output_zero_point),
    ):
        if value is None or value is REQUIRED:
            _checks.missing(name)
    if legacy_tensors.is_legacy(input):
        return _of_torch(input, (weight, bias, mean, var), eps, output_scale, output_zero_point, relu)
    if _checks.is_a(input, torch.Tensor):
        remedy = "; see bytenorm.torch.batch_norm" if input.dtype in tensor_checks.DTYPES else ""
        raise bad_type(
            "input",
            "must be a tensor of torch.quint8 or torch.qint8, or a bytenorm.QuantizedTensor, "
            f"got a tensor of {input.dtype}{remedy}",
        )
    tensors = {"weight": weight, "bias": bias, "mean": mean, "var": var}
    tensor_checks.gradients(**tensors, eps=eps, output_scale=output_scale)
    return _of_quantized_tensors(
        input,  # type: ignore[arg-type]
        tensor_checks.array(weight, "weight"),
        tensor_checks.array(bias, "bias"),
        tensor_checks.array(mean, "mean"),
        tensor_checks.array(var, "var"),
        tensor_checks.number(eps, "eps"),
        tensor_checks.number(output_scale, "output_scale"),
        tensor_checks.whole(output_zero_point, "output_zero_point"),
        relu=relu,
    )


def _of_torch(
    input: torch.Tensor,
    vectors: tuple[Any, Any, Any, Any],
    eps: float,
    output_scale: float,
    output_zero_point: int,
    relu: bool,
) -> torch.Tensor:
    usual = type(output_scale) is float and type(output_zero_point) is int and legacy_tensors.is_per_tensor(input)
    usual = usual and qint8.qmin <= output_zero_point <= quint8.qmax
    if (
        usual
        and not overridden(input, *vectors)
        and dispatch_modes() == 0
        and tracing_state() is None
        and forward_ad._current_level < 0
    ):
        out = legacy_tensors.empty_like(input, output_scale, output_zero_point)
        y: torch.Tensor | None = _core.batch_norm_torch(
            input, input.q_scale(), input.q_zero_point(), *vectors, eps, output_scale, output_zero_point,
            None, relu, out, torch.is_grad_enabled(), False,
        )  # fmt: skip
        if y is not None:
            return y
    if tracing_state() is not None:  # torch.jit.trace would record a constant
        raise RuntimeError(
            "input is a quantized tensor of torch, and what becomes of it here cannot be traced: "
            "trace bytenorm.torch.batch_norm on plain tensors"
        )
    legacy_tensors.check(input, "input")
    weight, bias, mean, var = vectors
    tensors = {"weight": weight, "bias": bias, "mean": mean, "var": var}
    tensor_checks.gradients(**tensors, eps=eps, output_scale=output_scale)
    scale, zero_point, axis = legacy_tensors.quantization(input)
    if axis not in (None, 1):
        raise bad_value("input", f"is quantized per channel along axis {axis}, but its channels are on axis 1")
    kind = tensor_checks.LEGACY_DTYPES[input.dtype]
    quantization = (output_scale, tensor_checks.whole(output_zero_point, "output_zero_point"))
    numbers = tensor_checks.numbers(
        input, kind, (scale, zero_point), vectors, eps, quantization, kind, relu, _NAMES
    )
    return numbers.apply(input, out=legacy_tensors.empty_like(input, numbers.y_scale, numbers.y_zero_point))
