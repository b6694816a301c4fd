"""What a Dask array of codes is made of: blocks, and which channels each of them has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np

from .. import _checks
from .._dtypes import DType, qint8, quint8
from .._errors import bad_type, bad_value
from .._tensors.tensor import QuantizedTensor


@dataclass(frozen=True)
class Codes:
    """A checked Dask array of codes, its channel axis, and the quantization of each block along it.

    Attributes
    ----------
    array : dask.array.Array of uint8 or int8
    axis : int
        Counted from the front.
    channels : tuple of slice
        Of each block along the axis.
    """

    array: da.Array
    axis: int
    channels: tuple[slice, ...]
    scale: Any
    zero_point: Any

    @property
    def dtype(self) -> DType:
        """`quint8` or `qint8`."""
        return qint8 if self.array.dtype == np.int8 else quint8

    @property
    def quantizations(self) -> list[Quantization]:
        """The quantization of each block along the channel axis."""
        if np.ndim(self.scale) == 0:
            return [Quantization(self.scale, self.zero_point, None)] * len(self.channels)
        return [Quantization(self.scale[at], self.zero_point[at], self.axis) for at in self.channels]


@dataclass(frozen=True)
class Quantization:
    """Scale and zero point, of a tensor or of the channels along an axis."""

    scale: Any
    zero_point: Any
    axis: int | None

    def __call__(self, codes: np.ndarray) -> QuantizedTensor:
        """Return the tensor that these codes stand for."""
        return QuantizedTensor(codes, self.scale, self.zero_point, self.axis)


def codes_of(x: Any, scale: Any, zero_point: Any, axis: object) -> Codes:
    """Check a Dask array and its quantization, without computing anything."""
    if not isinstance(x, da.Array):
        raise bad_type("x", f"must be a dask.array.Array, got {type(x).__name__}: see dask.array.from_array")
    if x.dtype not in (np.uint8, np.int8):
        raise bad_type("x", f"must hold codes, uint8 or int8, got {x.dtype}")
    if x.ndim < 2:
        raise bad_value("x", f"must have at least 2 dimensions, got shape {x.shape}")
    at = _checks.axis(axis, x.ndim, "axis")
    if any(map(math.isnan, x.chunks[at])):
        raise bad_value(
            "x",
            f"must have chunks of known sizes along axis {at}, its channels, got shape {x.shape}: "
            "see x.compute_chunk_sizes()",
        )
    ends = [int(end) for end in np.cumsum(x.chunks[at])]
    channels = tuple(slice(end - size, end) for end, size in zip(ends, x.chunks[at], strict=True))
    per_channel = np.ndim(scale) > 0 or np.ndim(zero_point) > 0
    # An empty tensor has it checked, and brings it into the form that slices take.
    shape = tuple(x.shape[at] if i == at else 0 for i in range(x.ndim))
    whole = QuantizedTensor(np.empty(shape, x.dtype), scale, zero_point, at if per_channel else None)
    return Codes(x, at, channels, whole.scale, whole.zero_point)
