"""The difference of outputs, added up batch by batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._decibels import snr_db
from .comparison import Comparison, OutputComparison, uncomparable

if TYPE_CHECKING:
    from collections.abc import Iterable


_KINDS = ("float16", "float", "double", "bool", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)))
_NUMBERS = frozenset(f"tensor({kind})" for kind in _KINDS)


class Differences:
    """What is kept of the outputs of two models.

    Attributes
    ----------
    numbers : list of int
        The positions of outputs that can be compared by their types.
    samples : int
        How many were added.
    """

    def __init__(self, names: list[str]) -> None:
        self._pairs = [_Difference(name) for name in names]
        self.numbers = list(range(len(names)))
        self.samples = 0

    def require_numbers(self, position: int, reference: str, candidate: str) -> None:
        """Look at the types of an output, as ONNX Runtime writes them."""
        self._pairs[position].require_numbers(reference, candidate)
        if self._pairs[position].problem:
            self.numbers.remove(position)

    def add(self, reference: Iterable[Any], candidate: Iterable[Any], samples: int) -> None:
        """Take in the outputs of :attr:`numbers` for a batch of so many samples."""
        for position, wanted, got in zip(self.numbers, reference, candidate, strict=True):
            self._pairs[position].add(wanted, got, self.samples, samples)
        self.samples += samples

    def result(self) -> Comparison:
        """Return what came out."""
        return Comparison(tuple(pair.result() for pair in self._pairs), self.samples)


class _Difference:
    """What is kept of two outputs: sums, no samples."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reference = self._candidate = self._product = self._error = 0.0  # sums of squares and of products
        self._largest = 0.0
        self._same = self._ranked = 0  # samples with the same largest value, samples with a largest value
        self._worst = (math.inf, 0)
        self._elements = 0
        self.problem, self._broken = "", False

    def require_numbers(self, reference: str, candidate: str) -> None:
        """Look at the types, as ONNX Runtime writes them."""
        for which, kind in (("reference", reference), ("candidate", candidate)):
            if kind not in _NUMBERS and not self.problem:
                self.problem = f"the {which}'s is {kind}, no tensor of numbers"

    def _give_up(self, problem: str, sample: int, *, broken: bool = False) -> None:
        self.problem, self._broken, self._worst = problem, broken, (math.nan, sample)

    def add(self, reference: Any, candidate: Any, done: int, rows: int) -> None:
        """Take in the outputs for `rows` samples, after `done` earlier ones."""
        if self.problem:
            return
        if reference.shape != candidate.shape:
            shapes = f"the candidate's has shape {candidate.shape}, the reference's {reference.shape}"
            self._give_up(f"{shapes}, for samples {done} to {done + rows - 1}", done)
            return
        by_sample = reference.ndim > 0 and len(reference) == rows
        ranked = by_sample and reference.ndim == 2 and reference.shape[1] >= 2 and reference.dtype.kind == "f"
        if not by_sample:
            reference, candidate = reference[None], candidate[None]
        self._elements += reference.size
        for row in range(len(reference)):  # one at a time: in float64 they are large
            if self.problem:
                return
            wanted, got = (np.asarray(out[row], np.float64).reshape(-1) for out in (reference, candidate))
            self._add_sample(wanted, got, done + row)
            if ranked:
                self._ranked += 1
                self._same += int(wanted.argmax() == got.argmax())

    def _add_sample(self, wanted: np.ndarray, got: np.ndarray, sample: int) -> None:
        for which, values in (("reference", wanted), ("candidate", got)):
            bad = ~np.isfinite(values)
            if bad.any():
                text = f"the {which}'s holds {values[bad][0]} for sample {sample}"
                self._give_up(text, sample, broken=which == "candidate")
                return
        with np.errstate(over="ignore"):
            error = wanted - got
            signal, noise = float(wanted @ wanted), float(error @ error)
            other, product = float(got @ got), float(wanted @ got)
        if not math.isfinite(signal + noise + other):
            self._give_up(f"it is too large to be squared in float64 for sample {sample}", sample)
            return
        self._reference += signal
        self._candidate += other
        self._product += product
        self._error += noise
        self._largest = max(self._largest, float(np.abs(error).max(initial=0.0)))
        self._worst = min(self._worst, (snr_db(signal, noise), sample))

    def result(self) -> OutputComparison:
        """Return what came out."""
        snr, sample = self._worst
        if not self.problem and not self._elements:
            self.problem = "it is empty"
        if self.problem:
            return uncomparable(self._name, self.problem, sample, broken=self._broken)
        return OutputComparison(
            name=self._name,
            snr_db=snr_db(self._reference, self._error),
            cosine=self._cosine(),
            top1_agreement=self._same / self._ranked if self._ranked else None,
            max_abs_error=self._largest,
            worst_sample=sample,
            worst_sample_snr_db=snr,
        )

    def _cosine(self) -> float:
        if self._error == 0:
            return 1.0
        length = math.sqrt(self._reference) * math.sqrt(self._candidate)
        return max(-1.0, min(1.0, self._product / length)) if length else 0.0


def lowest_snr_db(outputs: Iterable[tuple[float, float]], *, default: float) -> float:
    """Return the lowest ratio of outputs' energies and their errors'; an output of zeros does not count."""
    return min((snr_db(signal, noise) for signal, noise in outputs if signal), default=default)
