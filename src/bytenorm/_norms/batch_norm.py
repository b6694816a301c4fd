"""Batch normalization on 8-bit data, prepared once for many calls."""

from __future__ import annotations

from inspect import signature
from typing import Any, Self

import numpy as np

from .. import _checks, _core
from .._dtypes import DType, dtype_of, qint8, quint8
from .._errors import bad_value
from .._tensors.tensor import QuantizedTensor
from .integer_batch_norm import IntegerBatchNorm, integers_for, refuse_unproved

MOST_DIMENSIONS = 64  # of a NumPy array
SIGNED: dict[DType | None, bool | None] = {None: None, quint8: False, qint8: True}


class BatchNorm:
    """A batch norm with its parameters folded once, to call on many 8-bit tensors.

    Immutable, picklable, safe to call from several threads. It remembers the fold of the last few input
    quantizations it met, at most 512 bytes a channel for each, and 64 KiB for each of the last few quantizations
    of a sum. Values are those of `quantized_batch_norm`.

    Parameters
    ----------
    weight, bias : array of C real numbers, or None
        In real units. None means ones and zeros.
    mean, var : array of C real numbers
        In real units; `var` is not negative: the square of a standard deviation.
    eps : float, optional
        Added to `var`, not negative.
    output_scale : float
        The quantization step of the output in real units: that of the network's next input, or from the range of
        the output, as `quantize_per_tensor_dynamic` has it.
    output_zero_point : int
        The code of 0 in the output, from the same.
    output_dtype : DType, optional
        `quint8` or `qint8`; None takes each input's.
    relu : bool, optional
        Replace negative results by 0.
    axis : int, optional
        The channel axis: 1 for NCHW, -1 for NHWC arrays.

    Attributes
    ----------
    weight, bias : numpy.ndarray of float32, shape (C,), or None
    mean, var : numpy.ndarray of float32, shape (C,)
    eps, output_scale : float
    output_zero_point, axis : int
    output_dtype : DType or None
    relu : bool

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a value is out of range or lengths differ.

    Examples
    --------
    >>> import numpy as np, bytenorm as bn
    >>> norm = bn.BatchNorm(None, None, [3.0], [4.0], output_scale=0.5, output_zero_point=0, output_dtype=bn.qint8)
    >>> norm(bn.QuantizedTensor(np.array([[1], [3], [9]], np.uint8), 1.0, 0)).int_repr()
    array([[-2],
           [ 0],
           [ 6]], dtype=int8)
    """

    __slots__ = (
        "_operator",
        "axis",
        "bias",
        "eps",
        "mean",
        "output_dtype",
        "output_scale",
        "output_zero_point",
        "relu",
        "var",
        "weight",
    )
    weight: np.ndarray | None
    bias: np.ndarray | None
    mean: np.ndarray
    var: np.ndarray
    eps: float
    output_scale: float
    output_zero_point: int
    output_dtype: DType | None
    relu: bool
    axis: int
    _operator: _core.Operator

    def __new__(cls, *_: Any, **named: Any) -> Self:
        if "std" in named:
            _checks.std_given()
        return super().__new__(cls)

    def __init__(
        self,
        weight: Any,
        bias: Any,
        mean: Any,
        var: Any,
        *,
        eps: float = 1e-5,
        output_scale: float,
        output_zero_point: int,
        output_dtype: DType | None = None,
        relu: bool = False,
        axis: int = 1,
    ) -> None:
        if hasattr(self, "_operator"):
            raise TypeError("a BatchNorm is immutable: use norm.replace() instead of calling __init__ again")
        parameters = _checks.norm_parameters(weight, bias, mean, var, eps)
        vectors = [None if p is None else _checks.frozen(p, np.float32) for p in parameters[:4]]
        if output_dtype is not None:
            _checks.dtype(output_dtype, "output_dtype")
        values = {
            **dict(zip(("weight", "bias", "mean", "var"), vectors, strict=True)),
            "eps": parameters[4],
            "output_scale": _checks.scale(output_scale, "output_scale"),
            "output_zero_point": _zero_point_of_any(output_zero_point, output_dtype),
            "output_dtype": output_dtype,
            "relu": _checks.flag(relu, "relu"),
            "axis": _checks.any_axis(axis, MOST_DIMENSIONS, "axis"),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        operator = _core.Operator(
            self.weight,
            self.bias,
            self.mean,
            self.var,
            self.eps,
            self.output_scale,
            self.output_zero_point,
            SIGNED[output_dtype],
            self.relu,
            self.axis,
        )
        object.__setattr__(self, "_operator", operator)

    vars(__new__)["__signature__"] = signature(__init__)

    def __call__(self, input: QuantizedTensor, out: Any = None) -> QuantizedTensor:
        """Normalize one tensor.

        Parameters
        ----------
        input : QuantizedTensor, at least 2-D, C channels on `axis`
            As in `quantized_batch_norm`.
        out : array of uint8 or int8, or QuantizedTensor, optional
            As in `quantized_batch_norm`.

        Returns
        -------
        QuantizedTensor
            Of the input's shape and axis order in memory. Over `out`'s memory if that is given.

        Raises
        ------
        TypeError, ValueError
            As `quantized_batch_norm`.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> norm = bn.BatchNorm(None, None, [0.0], [1.0], eps=0, output_scale=0.5, output_zero_point=10)
        >>> y = norm(bn.QuantizedTensor(np.array([[0], [4], [8]], np.uint8), 0.25, 0))
        >>> y.data.ravel()
        array([10, 12, 14], dtype=uint8)
        """
        result = self._operator.norm(input, out, False)
        return self._checked_call(input, out) if result is None else result

    def _checked_call(self, input: object, out: object) -> QuantizedTensor:
        q, _ = _checks.norm_input(input, self.axis, len(self.mean))
        kind = self.output_dtype or dtype_of(q.data)
        _checks.zero_point(self.output_zero_point, kind, "output_zero_point")
        slopes = _core.fold(self.weight, self.bias, self.mean, self.var, self.eps, self.output_scale, q)
        _checks.overflow(*slopes)
        out = _checks.output(out, q, kind, self.output_scale, self.output_zero_point)
        result = self._operator.norm(q, out, True)
        assert result is not None, "the checks let something through that the operator refuses"
        return result

    def replace(self, **changes: Any) -> BatchNorm:
        """Return a new norm with some of the constructor's arguments changed.

        Parameters
        ----------
        **changes
            Any arguments of `BatchNorm`.

        Returns
        -------
        BatchNorm

        Raises
        ------
        TypeError, ValueError
            As `BatchNorm`.

        Examples
        --------
        >>> import bytenorm as bn
        >>> norm = bn.BatchNorm(None, None, [0.0], [1.0], output_scale=0.1, output_zero_point=0)
        >>> norm.replace(relu=True).relu, norm.relu
        (True, False)
        """
        return BatchNorm(**{**self._arguments(), **changes})

    def to_integers(
        self, input_scale: Any, input_zero_point: Any, input_dtype: DType, *, partial: bool = False
    ) -> IntegerBatchNorm:
        """Return the norm of one input quantization in integers alone, proved for all 256 inputs of each channel.

        For hardware, C, Verilog and microcontrollers: docs/integers.md. A channel has such integers if its codes
        lie on a line, rounded down. They do unless results are ties in float32, which go to the even code.

        Parameters
        ----------
        input_scale : float, or array of C real numbers
            The quantization step of the input in real units, for the tensor or for each channel.
        input_zero_point : int, or array of C integers
            The code of 0 in the input.
        input_dtype : DType
            `quint8` or `qint8`.
        partial : bool, optional
            Return channels without such integers as well, with what is in their place in `codes`. Otherwise they
            are a ValueError.

        Returns
        -------
        IntegerBatchNorm

        Raises
        ------
        TypeError
            If an argument is of the wrong kind.
        ValueError
            If a value is out of range, lengths differ, a slope or intercept overflows float32, or a channel has no
            such integers and `partial` is False: the message says which and why.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> norm = bn.BatchNorm([1.0, -0.3], None, [3.0, 1.0], [4.0, 0.5], output_scale=0.06, output_zero_point=90)
        >>> n = norm.to_integers(0.05, 10, bn.quint8)
        >>> n.multiplier, n.addend, n.shift
        (array([ 853, -181], dtype=int32), array([125632,  51763], dtype=int32), array([11,  9], dtype=int32))
        >>> x = np.array([[0, 200], [31, 31]])
        >>> np.clip((x * n.multiplier + n.addend) >> n.shift, n.lowest, n.highest)
        array([[61, 30],
               [74, 90]])
        >>> norm(bn.QuantizedTensor(x.astype(np.uint8), 0.05, 10)).int_repr()
        array([[61, 30],
               [74, 90]], dtype=uint8)
        """
        kind = _checks.dtype(input_dtype, "input_dtype")
        partial = _checks.flag(partial, "partial")
        # Of a channel all codes; the channel axis in front, whatever it is in the tensors that the norm meets.
        every = np.arange(kind.qmin, kind.qmax + 1).astype(kind.numpy)
        data = np.broadcast_to(every, (len(self.mean), 256))
        names = ("input_scale", "input_zero_point")
        given = zip((input_scale, input_zero_point), names, strict=True)
        per_channel = any(_checks.as_array(value, name).ndim > 0 for value, name in given)
        quantization = _checks.tensor_quantization(
            data, input_scale, input_zero_point, 0 if per_channel else None, names
        )
        made = self.replace(axis=0)(QuantizedTensor(data, *quantization))
        lowest = self.output_zero_point if self.relu else made.dtype.qmin
        integers = integers_for(made.data, kind, made.dtype, lowest)
        if not partial:
            refuse_unproved(integers)
        return integers

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name != "_operator"}

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a BatchNorm is immutable: use norm.replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a BatchNorm is immutable")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._arguments(),)

    def __repr__(self) -> str:
        return (
            f"bytenorm.BatchNorm({len(self.mean)} channels, eps={self.eps}, output_scale={self.output_scale}, "
            f"output_zero_point={self.output_zero_point}, output_dtype={self.output_dtype}, relu={self.relu}, "
            f"axis={self.axis})"
        )


def _restore(arguments: dict[str, Any]) -> BatchNorm:
    return BatchNorm(**arguments)


def _zero_point_of_any(value: object, kind: DType | None) -> int:
    """Check a zero point against its dtype, or against both while the dtype depends on the input."""
    if kind is not None:
        return _checks.zero_point(value, kind, "output_zero_point")
    number = _checks.integer(value, "output_zero_point")
    if not qint8.qmin <= number <= quint8.qmax:
        raise bad_value("output_zero_point", f"must be from {qint8.qmin} to {quint8.qmax}, got {number}")
    return number
