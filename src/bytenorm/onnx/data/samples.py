"""Samples of the data, for steps that bring a network nearer, and others to judge these by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...calibration.judging import EVERY, FEWEST, MOST, evenly, shortage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .dataset import Dataset

    Batch = dict[str, np.ndarray]


_ROOM = 20 << 20  # bytes of samples that are kept
_AT_ONCE = 8  # samples in a batch, where the model leaves that open
_FEW = 12  # batches whose activations are counted


@dataclass(frozen=True)
class Samples:
    """Some of the data, spread over it evenly: those that are measured, and those that are kept aside."""

    measured: Sequence[Batch] = ()
    aside: Sequence[Batch] = ()
    few: Sequence[Batch] = ()  # of those that are measured, one at a time where the model leaves that open
    count: int = 0  # of measured and aside
    whole: bool = False  # whether measured and aside are all of the data

    @property
    def shortage(self) -> str:
        """Why no step can be judged; empty if it can."""
        return shortage(self.count, len(self.aside))


def pick(data: Dataset) -> Samples:
    """Choose the samples for steps and for judging them."""
    first = next(data.one_by_one() if data.takes_any_number else iter(data))
    rows, size = data.count(first), _bytes(first)
    most = max(FEWEST, 2 * rows, min(MOST, _ROOM * rows // max(1, size)))
    # Every fourth is kept aside; of a few batches that cannot be divided, the last one.
    every = min(EVERY, max(2, min(data.samples, most) // rows))
    room, samples = _ROOM, 0
    parts: tuple[list[Batch], list[Batch]] = ([], [])
    for i, batch in enumerate(data.spread(most)):
        room -= _bytes(batch)
        if room < 0 and samples >= FEWEST and parts[1]:  # they may be of different sizes
            break
        parts[i % every == every - 1].append(batch)
        samples += data.count(batch)
    few = _spread(parts[0])
    if data.takes_any_number:
        parts = _joined(parts[0], data), _joined(parts[1], data)
    return Samples(*parts, few, samples, samples == data.samples)


def _bytes(batch: Mapping[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in batch.values())


def _spread(batches: Sequence[Batch]) -> list[Batch]:
    """Return a few of many, evenly spread."""
    return [batches[i] for i in evenly(len(batches), _FEW)]


def _joined(samples: Sequence[Batch], data: Dataset) -> list[Batch]:
    """Return samples in batches; those of other shapes in batches of their own."""
    groups: list[list[Batch]] = []
    for sample in samples:
        last = groups[-1] if groups else []
        if last and len(last) < _AT_ONCE and _alike(last[0], sample, data):
            last.append(sample)
        else:
            groups.append([sample])
    return [_concatenated(group, data) for group in groups]


def _alike(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], data: Dataset) -> bool:
    return all(
        np.array_equal(array, other[name]) if data.batch_axes[name] is None else array.shape == other[name].shape
        for name, array in one.items()
    )


def _concatenated(group: Sequence[Batch], data: Dataset) -> Batch:
    axes = data.batch_axes
    return {
        name: array if (axis := axes[name]) is None else np.concatenate([s[name] for s in group], axis)
        for name, array in group[0].items()
    }
