"""Samples kept aside, and what they say of a step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ....calibration.judging import EVERY, FEWEST, MOST, as_table, evenly, shortage, squared_errors
from ...measurement.comparison import Differences, lowest_snr_db
from ...run.apart import run_session, runner_for_a_pass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx

    from ...data.dataset import Dataset
    from ...measurement.comparison import Comparison

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


class Judge:
    """Tells which of two 8-bit networks is nearer to the float one, on samples kept aside.

    Parameters
    ----------
    reference : onnx.ModelProto
        The float network.
    aside : list of dict
        Of its inputs.
    count : callable
        Returns the number of samples in a batch.
    """

    def __init__(self, reference: onnx.ModelProto, aside: Sequence[Batch], count: Callable[[Batch], int]) -> None:
        self._aside, self._count = aside, count
        run = runner_for_a_pass(reference)
        self._names = [out.name for out in run.get_outputs() if "float" in out.type or "double" in out.type]
        self._wanted = [run.run(self._names, batch) for batch in aside] if self._names else []

    def errors(self, model: onnx.ModelProto) -> np.ndarray | None:
        """Return the squared errors of a network: a row a sample, a column an output.

        None if it makes NaN, an infinity, or outputs of another shape. Where outputs differ in how many rows they
        have, a row is a batch.
        """
        if not self._names:
            return None
        run = runner_for_a_pass(model)
        rows: list[list[np.ndarray]] = []
        for batch, wanted in zip(self._aside, self._wanted, strict=True):
            made = run.run(self._names, batch)
            if any(one.shape != other.shape for one, other in zip(wanted, made, strict=True)):
                return None
            rows.append([squared_errors(one, other) for one, other in zip(wanted, made, strict=True)])
        return as_table(rows)

    def compare(self, model: onnx.ModelProto, most: int) -> Comparison | None:
        """Compare a network with the float one on a few of the samples; None if an output is not judged."""
        run = runner_for_a_pass(model)
        if [out.name for out in run.get_outputs()] != self._names:
            return None
        found = Differences(self._names)
        for batch, wanted in zip(self._aside, self._wanted, strict=True):
            if found.samples < most:
                found.add(wanted, run_session(run, self._names, batch, "candidate"), self._count(batch))
        return found.result()

    def snr_db(self, errors: np.ndarray | None) -> float | None:
        """Return the lowest SNR of the outputs; None where there are no errors."""
        if errors is None:
            return None
        energy = np.sum([[np.sum(np.asarray(x, np.float64) ** 2) for x in row] for row in self._wanted], axis=0)
        noise = errors.sum(axis=0)
        return lowest_snr_db(zip(energy.tolist(), noise.tolist(), strict=True), default=math.inf)
