"""The codes that a norm reads, counted exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..._tensors.tensor import QuantizedTensor
from ...calibration import ChannelStatistics
from ..operators import tensor_checks as tensors
from ..pt2e.graph import operator_name
from ..pt2e.norms import BATCH_NORM
from .sites import ADD, CONCAT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import Node

    from ..pt2e.running import Environment, Runner

    Piece = Sequence[Any]  # codes, scale and zero point


def count(runner: Runner, node: Node, envs: Sequence[Environment], *, histogram: bool) -> ChannelStatistics:
    """Return the statistics of what a norm has read, when a walk is at it."""
    counts: list[ChannelStatistics] = []
    for env in envs:
        pieces = _read(runner, node, env)
        if not counts:
            counts += [ChannelStatistics(codes.shape[1], histogram=histogram) for codes, *_ in pieces]
        for (codes, *qparams), statistics in zip(pieces, counts, strict=True):
            scale, zero_point = (tensors.array(value, "x_scale") for value in qparams)
            axis = 1 if isinstance(scale, np.ndarray) else None
            statistics.update(QuantizedTensor(codes.numpy(), scale, zero_point, axis), axis=1)
    return ChannelStatistics.concatenate(counts)


def _read(runner: Runner, node: Node, env: Environment) -> list[Piece]:
    """Return the pieces that a norm normalizes."""
    name, given = operator_name(node), runner.values(env, node)
    if name == BATCH_NORM:
        return [(given["x"], given["x_scale"], given["x_zero_point"])]
    if name == CONCAT:
        return list(zip(given["pieces"], given["scales"], given["zero_points"], strict=True))
    assert name == ADD
    return [(env[node][1], given["sum_scale"], given["sum_zero_point"])]
