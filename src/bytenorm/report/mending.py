"""What makes the own error of a tensor, and which option of ``bytenorm quantize`` mends it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..calibration.output_qparams import covering
from ..onnx.tuning.clipping import Distribution

if TYPE_CHECKING:
    from .accumulation import Drift
    from .bench import Bench, Change
    from .correction import Correction

_SMALLEST = float(np.finfo(np.float32).tiny)
_BINS = 2048
_BETTER = 0.5  # dB of the tensor's own error; a range that brings less is no better
_CODES = 255


@dataclass(frozen=True)
class Mending:
    """What mends a tensor.

    Attributes
    ----------
    cause, option, advice : str
    share : float
        See `Finding`.
    change : callable or None
        From what the float step and the 8-bit network make to what the option would make of them; None if it is
        the tensor in float.
    """

    cause: str
    share: float
    option: str
    advice: str
    change: Change | None


def mend(bench: Bench, drift: Drift, correction: Correction | None) -> Mending:
    """Return what mends the own error of a tensor."""
    shares = {"range": drift.rounded + drift.clipped, "mean": drift.moved, "weights": drift.computed}
    cause = max(shares, key=lambda name: shares[name])
    if cause == "mean":
        return _mean(bench, drift, correction)
    if cause == "weights":
        return _weights(bench, drift)
    return _range(bench, drift, correction)


def in_float(bench: Bench, drift: Drift, before: Mending) -> Mending:
    """Return what is left where an option does not help: the tensor in float."""
    nodes = (*drift.nodes, *bench.beside.readers(drift.name))
    why = before.advice
    if before.change is not None:
        why = f"{before.option or 'more samples'} would bring less than a tenth of a decibel here"
    advice = f"{why}: leave what makes it and what reads it in float"
    return Mending(before.cause, before.share, _excluded(nodes), advice, None)


def _mean(bench: Bench, drift: Drift, correction: Correction | None) -> Mending:
    sums = bench.beside.sums(drift.name)
    mean = sums.mean_of_own()
    shape = [1] * sums.rank
    if sums.rank > 1:
        shape[sums.axis] = -1
    column = mean.reshape(shape)
    if correction is not None and correction.reestimated:
        option, advice = "", "re-estimation has moved it as far as it helped: more or other samples in --data"
    else:
        option, advice = "--reestimate", "the default without --fast: norms and biases are corrected"
    return Mending("mean", drift.moved, option, advice, lambda own, made: made - column)


def _weights(bench: Bench, drift: Drift) -> Mending:
    codes = bench.beside.codes[drift.name]
    kind = bench.kind(drift.name)
    low, high = kind.min - codes.zero_point, kind.max - codes.zero_point
    return Mending(
        "weights",
        drift.computed,
        _excluded(drift.nodes),
        "its weights and arithmetic in float; first without --per-tensor and --reduce-range, if they were given",
        lambda own, made: _rounded(own, codes.scale, low, high),
    )


def _range(bench: Bench, drift: Drift, correction: Correction | None) -> Mending:
    sums, codes, kind = bench.beside.sums(drift.name), bench.beside.codes[drift.name], bench.kind(drift.name)
    share = drift.rounded + drift.clipped
    steps = kind.min - codes.zero_point, kind.max - codes.zero_point
    if sums.low < sums.high:
        counts = np.zeros(_BINS, np.int64)
        for _, there in bench.numbers([drift.name]):
            counts += np.histogram(there[drift.name][0], _BINS, (sums.low, sums.high))[0]
        found = Distribution(sums.low, sums.high, counts)
        scale, lowest = covering(*found.by_least_error(), _SMALLEST)
        best = lowest, lowest + _CODES
        gain = _error(found, codes.scale, *steps) / max(_error(found, scale, *best), 1e-300)
        if 10 * math.log10(max(gain, 1e-300)) > _BETTER:
            wider = scale * _CODES > codes.scale * (steps[1] - steps[0])
            option, advice = _for_range(drift, correction, wider=wider)
            return Mending("range", share, option, advice, lambda own, made: _rounded(own, scale, *best))
    return in_float(bench, drift, Mending("rounding", share, "", "its range is as good as 8 bits allow", None))


def _for_range(drift: Drift, correction: Correction | None, *, wider: bool) -> tuple[str, str]:
    """Return the option and the advice for a range that is too narrow or too wide."""
    if wider:
        if correction is not None and correction.narrowed:
            return (
                "--method minmax",
                "its range leaves out what is rare, which was judged better for all tensors together",
            )
        return "", "numbers are beyond what calibration has seen: more or other samples in --data"
    if drift.kind.startswith("BatchNormalization"):
        return "--norm-method mse", "a smaller range for what a norm makes"
    return "--method best", "a smaller range: few numbers use the ends of this one"


def _excluded(nodes: tuple[str, ...]) -> str:
    return " ".join(f"--exclude {node}" for node in dict.fromkeys(nodes))


def _rounded(numbers: np.ndarray, scale: float, low: int, high: int) -> np.ndarray:
    return scale * np.clip(np.rint(numbers.astype(np.float64) / scale), low, high)


def _error(found: Distribution, scale: float, low: int, high: int) -> float:
    return float(np.sum(found.counts * (_rounded(found.centres, scale, low, high) - found.centres) ** 2))
