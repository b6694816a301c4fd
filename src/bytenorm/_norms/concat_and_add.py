"""Batch norms that read a concatenation or a sum, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from .. import _checks, _core
from .._dtypes import dtype_of
from .._tensors.tensor import QuantizedTensor
from .batch_norm import BatchNorm


def concat_batch_norm(pieces: Sequence[QuantizedTensor], norm: BatchNorm, *, out: Any = None) -> QuantizedTensor:
    """Normalize the concatenation of 8-bit tensors along the channel axis, each with its own quantization.

    The same as ``norm(q)``, bit for bit, where ``q`` holds the codes of all pieces one after another and is
    quantized per channel: each channel with the scale and zero point of its piece. Nothing is concatenated or
    requantized on the way.

    Parameters
    ----------
    pieces : list or tuple of QuantizedTensor
        Quantized per tensor. Of one dtype and one shape but for the norm's channel axis, along which they have
        as many channels together as the norm. Any strides each.
    norm : BatchNorm
        What to apply. It remembers the fold of these quantizations.
    out : array of uint8 or int8, or QuantizedTensor, optional
        Where to write: the output's dtype and the concatenation's shape, any strides. A piece may be the very
        part of it that the piece's channels have; otherwise it lies apart from all pieces.

    Returns
    -------
    QuantizedTensor
        Of the concatenation's shape, the axes in memory in the order of the first piece's. Over `out`'s memory
        if that is given.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If there are no pieces, one is quantized per channel, types or shapes differ, the channels do not add up,
        or as `BatchNorm` raises it.

    Examples
    --------
    >>> import numpy as np, bytenorm as bn
    >>> a = bn.QuantizedTensor(np.array([[10, 20]], np.uint8), 0.1, 0)
    >>> b = bn.QuantizedTensor(np.array([[128]], np.uint8), 0.5, 120)
    >>> norm = bn.BatchNorm(None, None, [1.0, 1.0, 1.0], [4.0, 4.0, 4.0], output_scale=0.5, output_zero_point=9)
    >>> bn.concat_batch_norm([a, b], norm).int_repr()
    array([[ 9, 10, 12]], dtype=uint8)
    """
    if _checks.is_a(norm, BatchNorm):
        result = norm._operator.concat(pieces, out, False)
        if result is not None:
            return result
    norm = _checks.instance(norm, BatchNorm, "norm")
    checked, at = _checks.norm_pieces(pieces, norm.axis, len(norm.mean))
    kind = norm.output_dtype or dtype_of(checked[0].data)
    _checks.zero_point(norm.output_zero_point, kind, "output_zero_point")
    counts = [q.data.shape[at] for q in checked]
    scales = np.repeat([q.scale for q in checked], counts)
    zero_points = np.repeat([q.zero_point for q in checked], counts)
    like = QuantizedTensor(np.empty((0, len(scales)), checked[0].data.dtype), scales, zero_points, 1)
    _checks.overflow(*_core.fold(norm.weight, norm.bias, norm.mean, norm.var, norm.eps, norm.output_scale, like))
    out = _checks.concat_output(out, checked, at, kind, norm.output_scale, norm.output_zero_point)
    result = norm._operator.concat(checked, out, True)
    assert result is not None, "the checks let something through that the operator refuses"
    return result


@overload
def add_batch_norm(
    a: QuantizedTensor,
    b: QuantizedTensor,
    norm: BatchNorm,
    *,
    sum_scale: float,
    sum_zero_point: int,
    exact_sum: bool = False,
    out: Any = None,
    sum_out: Any = None,
) -> tuple[QuantizedTensor, QuantizedTensor]: ...
@overload
def add_batch_norm(
    a: QuantizedTensor,
    b: QuantizedTensor,
    norm: BatchNorm,
    *,
    sum_scale: None = None,
    sum_zero_point: None = None,
    exact_sum: bool = False,
    out: Any = None,
) -> QuantizedTensor: ...
def add_batch_norm(
    a: QuantizedTensor,
    b: QuantizedTensor,
    norm: BatchNorm,
    *,
    sum_scale: float | None = None,
    sum_zero_point: int | None = None,
    exact_sum: bool = False,
    out: Any = None,
    sum_out: Any = None,
) -> QuantizedTensor | tuple[QuantizedTensor, QuantizedTensor]:
    """Add two 8-bit tensors and normalize the sum, in one pass.

    With a quantization for the sum: the sum is that of the real numbers, rounded once, half to even. The norm is
    that of its codes, bit for bit ``norm(sum)``, as in a network of 8-bit operators; or, with `exact_sum`, that of
    the real numbers before they are rounded, which is closer to float. Both are returned.

    Without one there are no codes of a sum. The norm is that of the real numbers, and all that is returned.
    docs/numerics-fused.md gives every rounding.

    Parameters
    ----------
    a, b : QuantizedTensor, at least 2-D
        Of one shape and dtype, each quantized per tensor. Any strides each.
    norm : BatchNorm
        What to apply to the sum. It remembers what it prepares for these quantizations.
    sum_scale : float, optional
        The quantization step of the sum in real units. Given together with `sum_zero_point` or not at all.
    sum_zero_point : int, optional
        The code of 0 in the sum, which has the dtype of `a` and `b`.
    exact_sum : bool, optional
        Normalize the sum before it is rounded. Makes no difference without a quantization for the sum.
    out : array of uint8 or int8, or QuantizedTensor, optional
        Where to write the norm: the output's dtype and the shape of `a`, any strides. It may be the own memory
        of `a` or `b`, or apart from both.
    sum_out : array of uint8 or int8, or QuantizedTensor, optional
        Where to write the sum, apart from `out`: the dtype and shape of `a`, any strides. It may be the own memory
        of `a` or `b`, or apart from both, which it has to be with `exact_sum`. A residual network can keep its sum
        where it is: ``sum_out=a.data``; `a` then no longer describes its memory, what is returned does.

    Returns
    -------
    normalized : QuantizedTensor
        Of the shape of `a` and its axis order in memory. Over `out`'s memory if that is given.
    sum : QuantizedTensor
        Of the shape of `a` and its axis order in memory. Over `sum_out`'s memory if that is given. Only with a
        quantization for it.

    Raises
    ------
    TypeError
        If an argument is missing or of the wrong kind, half of the sum's quantization is, or `sum_out` comes
        without it.
    ValueError
        If shapes or types differ, a tensor is quantized per channel, a scale is too large for the sum's, or as
        `BatchNorm` raises it.

    Examples
    --------
    >>> import numpy as np, bytenorm as bn
    >>> a = bn.QuantizedTensor(np.array([[10, 20]], np.uint8), 0.1, 0)
    >>> b = bn.QuantizedTensor(np.array([[128, 130]], np.uint8), 0.5, 120)
    >>> norm = bn.BatchNorm(None, None, [1.0, 1.0], [4.0, 4.0], output_scale=0.25, output_zero_point=9)
    >>> y, total = bn.add_batch_norm(a, b, norm, sum_scale=0.75, sum_zero_point=0)
    >>> y.int_repr(), total.int_repr()
    (array([[17, 20]], dtype=uint8), array([[7, 9]], dtype=uint8))
    >>> bn.add_batch_norm(a, b, norm).int_repr()
    array([[17, 21]], dtype=uint8)

    In memory that is there already, the sum in the place of a summand:

    >>> y, total = bn.add_batch_norm(
    ...     a, b, norm, sum_scale=0.75, sum_zero_point=0, out=np.empty((1, 2), np.uint8), sum_out=a.data
    ... )
    >>> total.data is a.data, total.int_repr()
    (True, array([[7, 9]], dtype=uint8))
    """
    exact = exact_sum if type(exact_sum) is bool else _checks.flag(exact_sum, "exact_sum")
    with_sum = sum_scale is not None or sum_zero_point is not None
    exact = exact or not with_sum
    if _checks.is_a(norm, BatchNorm):
        result = norm._operator.add(a, b, sum_scale, sum_zero_point, exact, with_sum, out, sum_out, False)
        if result is not None:
            return result  # type: ignore[no-any-return]
    norm = _checks.instance(norm, BatchNorm, "norm")
    first, second = _checks.norm_summands(a, b, norm.axis, len(norm.mean))
    inputs = [("a", first), ("b", second)] if exact else []
    if with_sum:
        scale, zero_point = _checks.sum_quantization(first, second, sum_scale, sum_zero_point)
        sum_scale, sum_zero_point = scale, zero_point
        if not exact:
            inputs = [("", QuantizedTensor(first.data, scale, zero_point))]
    kind = norm.output_dtype or dtype_of(first.data)
    _checks.zero_point(norm.output_zero_point, kind, "output_zero_point")
    for of, like in inputs:
        fold = _core.fold(norm.weight, norm.bias, norm.mean, norm.var, norm.eps, norm.output_scale, like)
        _checks.overflow(*fold, of)
    out = _checks.add_output(out, first, second, kind, norm.output_scale, norm.output_zero_point)
    sum_out = _checks.sum_output(sum_out, first, second, out, sum_scale, sum_zero_point, exact=exact)
    result = norm._operator.add(first, second, sum_scale, sum_zero_point, exact, with_sum, out, sum_out, True)
    assert result is not None, "the checks let something through that the operator refuses"
    return result  # type: ignore[no-any-return]
