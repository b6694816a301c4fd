"""Samples kept aside, and what they say of a step."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from ....calibration.judging import as_table, squared_errors
from ...measurement.differences import Differences, lowest_snr_db
from ...run.apart import run_session, runner_for_a_pass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx

    from ...measurement.comparison import Comparison

    Batch = dict[str, np.ndarray]

_REAL = re.compile(r"tensor\((float|double)")  # not a sequence of these


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
        self._names = [out.name for out in run.get_outputs() if _REAL.match(out.type)]
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
