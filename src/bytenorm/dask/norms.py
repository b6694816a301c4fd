"""Batch norms of Dask arrays, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np

from .. import _checks
from .._errors import bad_value
from .._norms.batch_norm import BatchNorm
from .._system.one_thread import one_thread
from .blocks import Codes, Quantization, codes_of


def batch_norm(x: da.Array, norm: BatchNorm, scale: Any, zero_point: Any) -> da.Array:
    """Normalize the channels of a Dask array of codes; nothing is computed yet.

    Every block becomes ``norm(bytenorm.QuantizedTensor(block, scale, zero_point))``, in one native thread. A block
    that has only some of the channels meets a norm of these: nothing is rechunked, and the chunks stay what they
    are.

    Parameters
    ----------
    x : dask.array.Array of uint8 or int8, at least 2-D
        Codes, with the norm's channels on ``norm.axis``. Any chunks; their sizes must be known along that axis.
    norm : BatchNorm
    scale : float, or array of float, one a channel
        What the codes of `x` mean: its quantization step, in real units. A Dask array carries none.
    zero_point : int, or array of int, one a channel
        The code of 0 in `x`.

    Returns
    -------
    dask.array.Array of uint8 or int8
        Codes with the shape and chunks of `x`, to be read with ``norm.output_scale`` and
        ``norm.output_zero_point``, and of ``norm.output_dtype``.

    Raises
    ------
    TypeError
        If `x` is no Dask array of codes, or an argument is of the wrong kind.
    ValueError
        If the channels of `x` are not the norm's or not known, a scale or zero point is out of range, or a slope
        overflows float32.

    Examples
    --------
    >>> import dask.array as da, numpy as np, bytenorm as bn, bytenorm.dask
    >>> x = da.from_array(np.arange(24, dtype=np.uint8).reshape(3, 4, 2), chunks=(1, 2, 2))
    >>> norm = bn.BatchNorm(None, None, [1.0] * 4, [1.0] * 4, output_scale=0.5, output_zero_point=10)
    >>> y = bytenorm.dask.batch_norm(x, norm, 0.1, 0)
    >>> y.chunks == x.chunks, y.dtype
    (True, dtype('uint8'))
    >>> y[1:2, :, 0].compute()
    array([[10, 10, 10, 11]], dtype=uint8)
    """
    _checks.instance(norm, BatchNorm, "norm")
    codes = codes_of(x, scale, zero_point, norm.axis)
    channels = x.shape[codes.axis]
    if channels != len(norm.mean):
        raise bad_value(
            "x", f"has {channels} channels on axis {codes.axis} (shape {x.shape}), but norm has {len(norm.mean)}"
        )
    empty = np.empty([channels if i == codes.axis else 0 for i in range(x.ndim)], x.dtype)
    dtype = norm(Quantization(codes.scale, codes.zero_point, _axis(codes))(empty)).data.dtype  # checks the fold
    made: da.Array = da.map_blocks(
        _normalized,
        x,
        axis=codes.axis,
        norms=_norms(norm, codes),
        quantizations=codes.quantizations,
        dtype=dtype,
        meta=np.empty((0,) * x.ndim, dtype),
        token="batch_norm",
    )
    return made


def _axis(codes: Codes) -> int | None:
    return codes.axis if np.ndim(codes.scale) else None


def _norms(norm: BatchNorm, codes: Codes) -> list[BatchNorm]:
    """Return the norm of each block along the channel axis."""
    if len(codes.channels) == 1:
        return [norm]
    values = {name: getattr(norm, name) for name in ("weight", "bias", "mean", "var")}
    given = {name: value for name, value in values.items() if value is not None}
    return [norm.replace(**{name: value[at] for name, value in given.items()}) for at in codes.channels]


def _normalized(
    block: np.ndarray,
    axis: int,
    norms: Sequence[BatchNorm],
    quantizations: Sequence[Quantization],
    block_id: tuple[int, ...],
) -> np.ndarray:
    at = block_id[axis]
    with one_thread():
        return norms[at](quantizations[at](block)).data
