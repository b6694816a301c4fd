"""Statistics of Dask arrays, by a tree of exact sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed

from .._system.one_thread import one_thread
from ..calibration import ChannelStatistics
from .blocks import Quantization, codes_of
from .merging import TOGETHER, merged


def statistics(x: da.Array, scale: Any, zero_point: Any, axis: int = 1, *, histogram: bool = True) -> Delayed:
    """Gather the statistics of each channel of a Dask array of codes; nothing is computed yet.

    Each block is counted where it lies, in one native thread; what is counted is merged eight at a time. All of it
    is integers, so the result is the same bits for any chunks, any order and any number of workers. Nor does it
    matter whether a worker was lost on the way and its blocks were counted again.

    Parameters
    ----------
    x : dask.array.Array of uint8 or int8, at least 2-D
        Codes. Any chunks, along the channels too; their sizes must be known along the channel axis only.
    scale : float, or array of float, one a channel
        What the codes of `x` mean: its quantization step, in real units. A Dask array carries none.
    zero_point : int, or array of int, one a channel
        The code of 0 in `x`.
    axis : int, optional
        The channel axis.
    histogram : bool, optional
        Whether to count how often each code occurs, 2 KiB a channel, which choosing an output's quantization
        needs; without it sums and ranges alone.

    Returns
    -------
    dask.delayed.Delayed
        Its ``compute()``, or ``client.compute`` and ``dask.compute`` of several, gives a
        `bytenorm.calibration.ChannelStatistics`.

    Raises
    ------
    TypeError
        If `x` is no Dask array of codes, or an argument is of the wrong kind.
    ValueError
        If the axis, a scale or a zero point is out of range, or the number of channels is not known.

    Examples
    --------
    >>> import dask.array as da, numpy as np, bytenorm.dask
    >>> x = da.from_array(np.arange(24, dtype=np.uint8).reshape(3, 4, 2), chunks=(1, 2, 2))
    >>> found = bytenorm.dask.statistics(x, 0.5, 10).compute()
    >>> found.mean()
    array([-0.75,  0.25,  1.25,  2.25])
    """
    codes = codes_of(x, scale, zero_point, axis)
    blocks = da.map_blocks(
        _counted,
        x,
        axis=codes.axis,
        quantizations=codes.quantizations,
        histogram=histogram,
        chunks=tuple((1,) * n for n in x.numblocks),
        dtype=object,
        meta=np.empty((0,) * x.ndim, object),
        token="statistics",
    ).to_delayed()
    columns = np.moveaxis(blocks, codes.axis, 0).reshape(len(codes.channels), -1)
    found = [_tree(list(column)) for column in columns]
    return found[0] if len(found) == 1 else delayed(ChannelStatistics.concatenate, pure=True)(found)


def _counted(
    block: np.ndarray,
    axis: int,
    quantizations: Sequence[Quantization],
    histogram: bool,
    block_id: tuple[int, ...],
) -> np.ndarray:
    q = quantizations[block_id[axis]](block)
    found = ChannelStatistics(block.shape[axis], histogram=histogram)
    with one_thread():
        found.update(q, axis)
    cell = np.empty((1,) * block.ndim, object)
    cell[...] = found
    return cell


def _tree(parts: list[Delayed]) -> Delayed:
    merge = delayed(_merged_cells, pure=True)
    while True:
        parts = [merge(parts[i : i + TOGETHER]) for i in range(0, len(parts), TOGETHER)]
        if len(parts) == 1:
            return parts[0]
        merge = delayed(merged, pure=True)


def _merged_cells(cells: Sequence[np.ndarray]) -> ChannelStatistics:
    return merged([cell.item() for cell in cells])
