"""The quantized tensor: bytes, and the real numbers they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from types import EllipsisType
from typing import Any

import numpy as np

from .. import _checks, _core
from .._dtypes import DType, QScheme, dtype_of, per_channel_affine, per_tensor_affine
from .._errors import bad_value
from .text import format_tensor

Index = int | slice | EllipsisType | None


class QuantizedTensor(_core.Tensor):
    """An 8-bit array and its quantization: ``real = scale * (data - zero_point)``.

    The data is used, never copied; the quantization cannot change. Instances can be pickled, copied and sliced,
    and are compared by identity. `numpy.asarray` gives the real numbers. For another arrangement of the same
    codes wrap them again: ``QuantizedTensor(q.data.transpose(0, 2, 3, 1), q.scale, q.zero_point)``.

    Parameters
    ----------
    data : array of uint8 or int8, any shape and strides
        A NumPy array, or anything with the array interface or DLPack in the memory of the CPU.
    scale : float, or array of shape (data.shape[axis],)
        The quantization step in real units. Kept as float64.
    zero_point : int, or array of int of the same shape
        The code that stands for 0.
    axis : int, optional
        The axis along which scale and zero point vary. None: they hold for the whole tensor.

    Attributes
    ----------
    data : numpy.ndarray
        The codes.
    scale : float, or numpy.ndarray of float64
    zero_point : int, or numpy.ndarray of int64
    axis : int or None
        Counted from the front.

    Raises
    ------
    TypeError
        If data is not uint8 or int8, or a number is of another kind.
    ValueError
        If a scale is not positive and finite with a finite reciprocal in float32, a zero point lies outside the
        dtype, or lengths differ.

    Examples
    --------
    >>> import numpy as np, bytenorm as bn
    >>> q = bn.QuantizedTensor(np.array([[0, 128], [130, 255]], np.uint8), 0.5, 128)
    >>> q.dequantize()
    array([[-64. ,   0. ],
           [  1. ,  63.5]], dtype=float32)
    >>> q[1].int_repr()
    array([130, 255], dtype=uint8)
    """

    __slots__ = ()

    def __init__(self, data: Any, scale: Any, zero_point: Any, axis: int | None = None) -> None:
        if _core.is_tensor(self):
            raise TypeError("a QuantizedTensor is immutable: make a new one instead of calling __init__ again")
        array = _checks.tensor_data(data)
        quantization = _checks.tensor_quantization(array, scale, zero_point, axis, ("scale", "zero_point"))
        super().__init__(array, *quantization)

    @property
    def dtype(self) -> DType:
        """`quint8` or `qint8`."""
        return dtype_of(self.data)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the data."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.data.ndim

    def int_repr(self) -> np.ndarray:
        """Return the codes.

        Returns
        -------
        numpy.ndarray of uint8 or int8
            The data itself, not a copy.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> q = bn.QuantizedTensor(np.array([[0, 130]], np.uint8), 0.5, 128)
        >>> q.int_repr()
        array([[  0, 130]], dtype=uint8)
        """
        return self.data

    def dequantize(self) -> np.ndarray:
        """Return the real numbers, see `bytenorm.dequantize`.

        Returns
        -------
        numpy.ndarray of float32
            Of the data's shape and axis order in memory.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> q = bn.QuantizedTensor(np.array([[0, 130]], np.uint8), 0.5, 128)
        >>> q.dequantize()
        array([[-64.,   1.]], dtype=float32)
        """
        return _dequantize(self)

    def qscheme(self) -> QScheme:
        """Return how scale and zero point are laid out.

        Returns
        -------
        QScheme
            `per_tensor_affine` or `per_channel_affine`.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> q = bn.QuantizedTensor(np.array([[0, 130]], np.uint8), [0.5, 2.0], [128, 0], axis=1)
        >>> q.qscheme()
        bytenorm.per_channel_affine
        """
        return per_tensor_affine if self.axis is None else per_channel_affine

    def q_scale(self) -> float:
        """Return the scale of a tensor that is quantized per tensor.

        Returns
        -------
        float
            In real units.

        Raises
        ------
        ValueError
            If the tensor is quantized per channel.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> q = bn.QuantizedTensor(np.array([[0, 130]], np.uint8), 0.5, 128)
        >>> q.q_scale()
        0.5
        """
        self._require(per_channel=False, name="q_scale()")
        return float(self.scale)

    def q_zero_point(self) -> int:
        """Return the zero point of a tensor that is quantized per tensor.

        Returns
        -------
        int

        Raises
        ------
        ValueError
            If the tensor is quantized per channel.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> q = bn.QuantizedTensor(np.array([[0, 130]], np.uint8), 0.5, 128)
        >>> q.q_zero_point()
        128
        """
        self._require(per_channel=False, name="q_zero_point()")
        return int(self.zero_point)

    def q_per_channel_scales(self) -> np.ndarray:
        """Return the scales along the axis.

        Returns
        -------
        numpy.ndarray of float64, shape (data.shape[axis],)
            In real units; read-only.

        Raises
        ------
        ValueError
            If the tensor is quantized per tensor.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> q = bn.QuantizedTensor(np.array([[0, 130]], np.uint8), [0.5, 2.0], [128, 0], axis=1)
        >>> q.q_per_channel_scales()
        array([0.5, 2. ])
        """
        self._require(per_channel=True, name="q_per_channel_scales()")
        return np.asarray(self.scale)

    def q_per_channel_zero_points(self) -> np.ndarray:
        """Return the zero points along the axis.

        Returns
        -------
        numpy.ndarray of int64, shape (data.shape[axis],)
            Read-only.

        Raises
        ------
        ValueError
            If the tensor is quantized per tensor.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> q = bn.QuantizedTensor(np.array([[0, 130]], np.uint8), [0.5, 2.0], [128, 0], axis=1)
        >>> q.q_per_channel_zero_points()
        array([128,   0])
        """
        self._require(per_channel=True, name="q_per_channel_zero_points()")
        return np.asarray(self.zero_point)

    def q_per_channel_axis(self) -> int:
        """Return the axis of the scales and zero points.

        Returns
        -------
        int
            Counted from the front.

        Raises
        ------
        ValueError
            If the tensor is quantized per tensor.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> q = bn.QuantizedTensor(np.array([[0, 130]], np.uint8), [0.5, 2.0], [128, 0], axis=1)
        >>> q.q_per_channel_axis()
        1
        """
        self._require(per_channel=True, name="q_per_channel_axis()")
        assert self.axis is not None
        return self.axis

    def _require(self, *, per_channel: bool, name: str) -> None:
        if (self.axis is not None) != per_channel:
            wanted = per_channel_affine if per_channel else per_tensor_affine
            raise bad_value(name, f"needs a {wanted!r} tensor, this one is {self.qscheme()!r}")

    def __getitem__(self, index: Index | tuple[Index, ...]) -> QuantizedTensor:
        _checks.quantized(self, "self")
        items: tuple[Any, ...] = index if _checks.is_a(index, tuple) else (index,)  # type: ignore[assignment]
        for item in items:
            basic = item is None or _checks.is_a(item, int, np.integer, slice, EllipsisType)
            if not basic or _checks.is_a(item, bool, np.bool_):
                raise TypeError(
                    "a QuantizedTensor takes integers, slices, None and ... as an index, "
                    f"got {type(item).__name__}; index .data for anything else"
                )
        view = self.data[(*items, ...)] if Ellipsis not in items else self.data[items]
        if self.axis is None:
            return _make(view, self.scale, self.zero_point, None)
        before, after = self._follow(items)
        if isinstance(after, int):
            return _make(view, float(self.scale[after]), int(self.zero_point[after]), None)
        scale = _checks.frozen(self.scale[after], np.float64)
        return _make(view, scale, _checks.frozen(self.zero_point[after], np.int64), before)

    def _follow(self, items: tuple[Index, ...]) -> tuple[int, int | slice]:
        """Return where the channel axis is after indexing, and which index it met."""
        assert self.axis is not None
        used = sum(item is not None and item is not Ellipsis for item in items)
        expanded: list[Index] = []
        for item in items if Ellipsis in items else (*items, ...):
            expanded.extend([slice(None)] * (self.ndim - used) if item is Ellipsis else [item])
        source = target = 0
        for item in expanded:
            if item is None:
                target += 1
                continue
            if source == self.axis:
                return target, item if isinstance(item, slice) else int(item)  # type: ignore[arg-type]
            source += 1
            target += isinstance(item, slice)
        raise AssertionError("the axis lies inside the shape")

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("a QuantizedTensor of 0 dimensions has no length")
        return len(self.data)

    def __iter__(self) -> Iterator[QuantizedTensor]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the real numbers, as `dequantize` does: the codes are `data`."""
        if dtype is not None and np.dtype(dtype) in (np.uint8, np.int8):
            raise TypeError("the real numbers of a QuantizedTensor do not fit bytes: its codes are in .data")
        if copy is False:
            raise ValueError("the real numbers of a QuantizedTensor are computed: copy=False cannot be met")
        real = self.dequantize()
        return real if dtype is None else real.astype(dtype, copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.data, self.scale, self.zero_point, self.axis)

    def __repr__(self) -> str:
        return format_tensor(np.asarray(self), self.dtype, self.qscheme(), self.scale, self.zero_point, self.axis)


_core.register_tensor_type(QuantizedTensor)


def _make(data: np.ndarray, scale: Any, zero_point: Any, axis: int | None) -> QuantizedTensor:
    """Return a tensor of parts that are known to be good."""
    made = QuantizedTensor.__new__(QuantizedTensor)
    _core.Tensor.__init__(made, data, scale, zero_point, axis)
    return made


def _dequantize(q: QuantizedTensor) -> np.ndarray:
    _checks.quantized(q)
    data = q.data if dense_like_empty(q.data) else q.data.copy(order="K")
    real = np.empty_like(data, dtype=np.float32)
    scale = np.atleast_1d(np.asarray(q.scale, np.float64))
    zero_point = np.atleast_1d(np.asarray(q.zero_point, np.float32))
    _core.dequantize(data, real, scale, zero_point, -1 if q.axis is None else q.axis)
    return real


def dense_like_empty(array: np.ndarray) -> bool:
    """Whether `numpy.empty_like` has the same strides, up to the item size."""
    like = np.empty_like(array)
    return all(n <= 1 or a == b for n, a, b in zip(array.shape, array.strides, like.strides, strict=True))
