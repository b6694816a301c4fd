"""The documented operator: batch normalization of one 8-bit tensor."""

from __future__ import annotations

from typing import Any, overload

from .. import _checks, _core
from .._dtypes import DType, qint8, quint8
from .._signatures import hide
from .._tensors.tensor import QuantizedTensor
from .batch_norm import MOST_DIMENSIONS, SIGNED


class Required:
    """The default of an argument that has none; the documented order puts optional ones before it."""

    def __repr__(self) -> str:
        return "<required>"


REQUIRED: Any = Required()


@overload
def quantized_batch_norm(
    input: QuantizedTensor,
    weight: Any,
    bias: Any,
    mean: Any,
    var: Any,
    eps: float,
    output_scale: float,
    output_zero_point: int,
    *,
    axis: int = 1,
    output_dtype: DType | None = None,
    relu: bool = False,
    out: Any = None,
) -> QuantizedTensor: ...
@overload
def quantized_batch_norm(
    input: QuantizedTensor,
    weight: Any = None,
    bias: Any = None,
    *,
    mean: Any,
    var: Any,
    eps: float,
    output_scale: float,
    output_zero_point: int,
    axis: int = 1,
    output_dtype: DType | None = None,
    relu: bool = False,
    out: Any = None,
) -> QuantizedTensor: ...
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
    axis: int = 1,
    output_dtype: DType | None = None,
    relu: bool = False,
    out: Any = None,
    std: Any = None,
) -> QuantizedTensor:
    """Normalize the channels of an 8-bit tensor.

    Computes ``(x - mean) / sqrt(var + eps) * weight + bias`` for each channel and quantizes it, bit for bit as
    ``torch.quantized_batch_norm`` of torch 2.13 does. The parameters are folded to a slope and an intercept in
    float32; an element is one fused multiply-add, rounded half to even. docs/numerics.md gives every rounding.

    Parameters
    ----------
    input : QuantizedTensor, at least 2-D, C channels on `axis`
        Any strides. Quantized per tensor, or per channel on the channel axis. May be empty.
    weight, bias : array of C real numbers, optional
        In real units. None means ones and zeros.
    mean, var : array of C real numbers
        In real units; `var` is not negative: the square of a standard deviation.
    eps : float
        Added to `var`, not negative. No default, as documented.
    output_scale : float
        The quantization step of the output in real units: that of the network's next input, or from the range of
        the output, as `quantize_per_tensor_dynamic` has it.
    output_zero_point : int
        The code of 0 in the output, from the same.
    axis : int, optional
        The channel axis: 1 for NCHW, -1 for NHWC arrays.
    output_dtype : DType, optional
        `quint8` or `qint8`; None keeps the input's.
    relu : bool, optional
        Replace negative results by 0.
    out : array of uint8 or int8, or QuantizedTensor, optional
        Where to write: the output's dtype and the input's shape, any strides. It may be the input's own memory
        (``out=input.data``), or apart from it; `input` then no longer describes its memory.

    Returns
    -------
    QuantizedTensor
        Of the input's shape and axis order in memory. Over `out`'s memory if that is given.

    Raises
    ------
    TypeError
        If an argument is missing or of the wrong kind.
    ValueError
        If a value is out of range, shapes do not fit, a slope or intercept overflows float32, or `out` cannot
        take the result.

    See Also
    --------
    BatchNorm : the same with the parameters folded once.

    Examples
    --------
    >>> import numpy as np, bytenorm as bn
    >>> x = np.arange(8.0).reshape(1, 2, 2, 2)
    >>> qx = bn.quantize_per_tensor(x, 0.1, 0, bn.quint8)
    >>> bn.quantized_batch_norm(qx, np.ones(2), np.zeros(2), [1.5, 5.5], [1.25, 1.25], 1e-5, 0.1, 20)[0, 1]
    tensor([[-1.3000, -0.4000],
            [ 0.4000,  1.3000]], size=(2, 2), dtype=bytenorm.quint8,
           quantization_scheme=bytenorm.per_tensor_affine, scale=0.1, zero_point=20)
    """
    if std is not None:
        _checks.std_given()
    usual = type(axis) is int and abs(axis) <= MOST_DIMENSIONS and type(relu) is bool
    if usual and (output_dtype is None or output_dtype is quint8 or output_dtype is qint8):
        result = _core.batch_norm_once(
            input, weight, bias, mean, var, eps, output_scale, output_zero_point, axis, SIGNED[output_dtype],
            relu, out, False,
        )  # fmt: skip
        if result is not None:
            return result

    for name, value in (
        ("mean", mean),
        ("var", var),
        ("eps", eps),
        ("output_scale", output_scale),
        ("output_zero_point", output_zero_point),
    ):
        if value is None or value is REQUIRED:
            _checks.missing(name)
    parameters = _checks.norm_parameters(weight, bias, mean, var, eps)
    q, at = _checks.norm_input(input, axis, len(parameters[2]))
    kind = q.dtype if output_dtype is None else _checks.dtype(output_dtype, "output_dtype")
    scale = _checks.scale(output_scale, "output_scale")
    zero_point = _checks.zero_point(output_zero_point, kind, "output_zero_point")
    relu = _checks.flag(relu, "relu")
    _checks.overflow(*_core.fold(*parameters, scale, q))
    out = _checks.output(out, q, kind, scale, zero_point)
    result = _core.batch_norm_once(q, *parameters, scale, zero_point, at, SIGNED[kind], relu, out, True)
    assert result is not None, "the checks let something through that the operator refuses"
    return result


hide(quantized_batch_norm, "std")
