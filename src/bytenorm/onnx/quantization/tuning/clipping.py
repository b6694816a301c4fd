"""Ranges of activations that leave out what is rare, from the distribution of each tensor of the float network.

The largest number that calibration met decides a range by minmax, and with it the step of all others. Two ways
find smaller ranges: by percentile, and by the least squared error of the codes. Which one a network gains by, if
any, only its outputs tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ....calibration.qparams.output_qparams import covering
from ...graph.cutting import cut, feed
from ...graph.graph import is_op
from ...graph.moves import KEEPING
from ...run.session import session_for_a_pass

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ...graph.graph import Graph
    from ...scales.rescaling import ActivationQParams

    Batch = Mapping[str, np.ndarray]

_BINS = 2048
_SMALLEST = float(np.finfo(np.float32).tiny)  # the least scale
_PART = 1 << 16  # numbers of a tensor that are counted in a batch: every k-th, where there are more
# Of fewer numbers nobody can tell which are rare: the network's last layers keep the range that they have.
_FEWEST = 20_000
# What keeps the quantization of what it reads.
_KEEPING = (*KEEPING, "Relu", "Clip")
_SHRINKS = np.linspace(0.2, 1.0, 81)  # of each end of a range, for the least error


@dataclass(frozen=True, eq=False)
class Distribution:
    """How often numbers fall into equal bins from `low` to `high`."""

    low: float
    high: float
    counts: np.ndarray

    @property
    def centres(self) -> np.ndarray:
        """The middles of the bins."""
        return self.low + (np.arange(_BINS) + 0.5) * (self.high - self.low) / _BINS

    def by_percentile(self, percentile: float) -> tuple[float, float]:
        """Return the range of the inner so many per cent of the numbers, with as many outside on both sides."""
        outside = 1 - percentile / 100
        share = np.cumsum(self.counts) / self.counts.sum()
        edges = self.low + np.arange(_BINS + 1) * (self.high - self.low) / _BINS
        first = int(np.searchsorted(share, outside / 2, side="right"))
        last = int(np.searchsorted(share, 1 - outside / 2, side="left"))
        return float(edges[first]), float(edges[min(last, _BINS - 1) + 1])

    def by_least_error(self) -> tuple[float, float]:
        """Return the range of least squared error: what is clipped, and the rounding of what is not."""
        x, n = self.centres, self.counts / self.counts.sum()
        lows = self.low * _SHRINKS if self.low < 0 else np.zeros(1)
        highs = self.high * _SHRINKS if self.high > 0 else np.zeros(1)
        below = np.array([np.sum(n * np.minimum(x - low, 0) ** 2) for low in lows])
        above = np.array([np.sum(n * np.maximum(x - high, 0) ** 2) for high in highs])
        steps = (highs[None, :] - lows[:, None]) / 255
        total = below[:, None] + above[None, :] + steps**2 / 12
        at = np.unravel_index(int(np.argmin(total)), total.shape)
        return float(lows[at[0]]), float(highs[at[1]])


def distributions(
    graph: Graph, known: Mapping[str, ActivationQParams], batches: Iterable[Batch]
) -> dict[str, Distribution]:
    """Count the numbers of tensors of a float network, within the ranges that they have by minmax.

    Inputs and outputs of the network are left out: nothing of them is to be clipped. So are tensors with too few
    numbers, and those that are always the same.

    Parameters
    ----------
    graph : Graph
        Not changed.
    known : mapping of str to ActivationQParams
        The tensors, and how they are quantized.
    batches : iterable of dict
        Of the inputs.
    """
    names = [name for name in known if graph.maker(name) is not None and name not in graph.outputs]
    if not names:
        return {}
    made = cut(graph, names)
    run = session_for_a_pass(made)
    ends = {name: known[name].range() for name in names}
    counts = {name: np.zeros(_BINS, np.int64) for name in names}
    for batch in batches:
        arrays = run.run(names, feed(made, batch))
        for name in reversed(names):
            numbers = arrays.pop().reshape(-1)  # which goes then: before the next batch comes, too
            numbers = numbers[:: max(1, numbers.size // _PART)]
            low, high = ends[name]
            at = ((numbers - low) * (_BINS / (high - low))).astype(np.intp)
            counts[name] += np.bincount(np.clip(at, 0, _BINS - 1, out=at), minlength=_BINS)
    return {
        name: Distribution(*ends[name], count)
        for name, count in counts.items()
        if count.sum() >= _FEWEST and np.count_nonzero(count) > 1
    }


def chosen_qparams(
    graph: Graph,
    known: Mapping[str, ActivationQParams],
    found: Mapping[str, Distribution],
    way: Callable[[Distribution], Range],
    qparams: Callable[..., tuple[float, int]] | None = None,
) -> dict[str, tuple[float, int]]:
    """Return scales and zero points for ranges found in a way.

    A Concat makes no numbers of its own: it covers what its pieces do, and cuts nothing off them.

    Parameters
    ----------
    graph : Graph
        The float network.
    known : mapping of str to ActivationQParams
        How its tensors are quantized now.
    found : mapping of str to Distribution
    way : callable
        From a distribution to a range.
    qparams : callable, optional
        From the ends of a range to a scale and a zero point, where those that cover it with all codes are not
        wanted; takes `signed`.
    """
    covered = qparams or _covering
    ranges = {name: q.range() for name, q in known.items()}
    chosen = {name: way(distribution) for name, distribution in found.items()}
    ranges.update(chosen)
    for node in graph.in_order():
        output = node.output[0] if node.output else ""
        if is_op(node, *_KEEPING) and output not in known and node.input[0] in ranges:
            ranges[output] = ranges[node.input[0]]
        elif is_op(node, "Concat") and output in chosen:
            pieces = [ranges.get(name) for name in node.input]
            there = [piece for piece in pieces if piece is not None]
            if len(there) == len(pieces):
                ranges[output] = chosen[output] = min(low for low, _ in there), max(high for _, high in there)
            else:
                del chosen[output]
                ranges[output] = known[output].range()
    return {name: covered(*ends, signed=known[name].signed) for name, ends in chosen.items()}


def _covering(low: float, high: float, *, signed: bool) -> tuple[float, int]:
    scale, lowest = covering(low, high, _SMALLEST)
    return scale, (-128 if signed else 0) - lowest


# Ways to find ranges that leave out what is rare: the first is ONNX Runtime's percentile.
Range = tuple[float, float]
Way = tuple[str, Callable[[Distribution], Range]]
RANGES: tuple[Way, ...] = (
    ("percentile 99.999", lambda found: found.by_percentile(99.999)),
    ("percentile 99.99", lambda found: found.by_percentile(99.99)),
    ("least squared error", Distribution.by_least_error),
)
# Standard errors that the mean gain by ranges, in decibels, has to have. They cut off what is rare, and
# that may not be among the samples kept aside: 8 of 32 sounds gained 1.1 dB, one standard error, and 512 others
# lost 1.8 dB.
SURE_OF_RANGES = 2.0
