"""The codes that a norm reads, counted exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..calibration import ChannelStatistics
from ..tensor import QuantizedTensor
from . import arguments as tensors
from .sites import BATCH_NORM, CONCAT

if TYPE_CHECKING:
    from collections.abc import Sequence

    Piece = Sequence[Any]  # codes, scale and zero point


def codes_read(name: str, given: dict[str, Any], total: Any) -> list[Piece]:
    """Return the pieces that a norm of this operator normalizes; `total` is the sum that it makes, if it adds."""
    if name == BATCH_NORM:
        return [(given["x"], given["x_scale"], given["x_zero_point"])]
    if name == CONCAT:
        return list(zip(given["pieces"], given["scales"], given["zero_points"], strict=True))
    return [(total, given["sum_scale"], given["sum_zero_point"])]


def count(pieces: Sequence[Piece], counts: list[ChannelStatistics], *, histogram: bool = True) -> None:
    """Count what a norm read in one run; `counts` is empty before the first."""
    if not counts:
        counts += [ChannelStatistics(codes.shape[1], histogram=histogram) for codes, *_ in pieces]
    for (codes, *qparams), statistics in zip(pieces, counts, strict=True):
        scale, zero_point = (tensors.array(value, "x_scale") for value in qparams)
        axis = 1 if isinstance(scale, np.ndarray) else None
        statistics.update(QuantizedTensor(codes.numpy(), scale, zero_point, axis), axis=1)
