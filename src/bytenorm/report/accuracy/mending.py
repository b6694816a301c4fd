"""What makes the own error of a tensor, and which option of ``bytenorm quantize`` mends it.

What an option would do is found on some samples, and measured on others: `Bench` has both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...calibration.qparams.output_qparams import covering
from ...onnx.quantization.tuning.clipping import RANGES, Distribution
from ...onnx.quantization.tuning.steps import REESTIMATION, norm_scales

if TYPE_CHECKING:
    from .accumulation import Drift
    from .bench import Bench, Change, Seen
    from .correction import Correction

_SMALLEST = float(np.finfo(np.float32).tiny)
_BINS = 2048
_BETTER = 0.5  # dB of the tensor's own error; a range that brings less is no better
_CODES = 255
# The steps of `quantize` that an option asks for; the one of several that it alone tries.
_STEPS = {
    "--reestimate": REESTIMATION,
    "--norm-method mse": norm_scales("mse"),
    "--calibrate-method best": f"ranges by {RANGES[-1][0]}",
}


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


def mend(bench: Bench, drift: Drift, seen: Seen, correction: Correction | None) -> Mending:
    """Return what mends the own error of a tensor, by what was seen of it on samples to choose by."""
    shares = {"range": drift.rounded + drift.clipped, "mean": drift.moved, "weights": drift.computed}
    cause = max(shares, key=lambda name: shares[name])
    if cause == "weights":
        return _weights(bench, drift)
    found = _mean(drift, seen) if cause == "mean" else _range(bench, drift, seen, correction)
    outcome = "" if correction is None else correction.outcome(_STEPS.get(found.option, "-"))
    if not outcome:
        return found
    if found.option == "--reestimate":  # more samples may tell more
        done = "has moved it as far as it helped" if outcome == "taken" else "brought the outputs no nearer"
        advice = f"re-estimation {done}: more or other samples in --data"
        return Mending(found.cause, found.share, "", advice, found.change)
    done = "was tried, and has left this" if outcome == "taken" else "was tried, and brought the outputs no nearer"
    return in_float(bench, drift, Mending(found.cause, found.share, "", f"{found.option} {done}", None))


def in_float(bench: Bench, drift: Drift, before: Mending) -> Mending:
    """Return what is left where an option does not help: the tensor in float."""
    nodes = (*drift.nodes, *bench.beside.readers(drift.name))
    why = before.advice
    if before.change is not None:
        what = before.option or "more samples"
        why = (
            f"{what} would bring less than a tenth of a decibel here"
            if bench.can_choose
            else f"one sample does not tell what {what} would bring"
        )
    advice = f"{why}: leave what makes it and what reads it in float, which takes longer"
    return Mending(before.cause, before.share, _excluded(nodes), advice, None)


def _mean(drift: Drift, seen: Seen) -> Mending:
    advice = "the default without --fast: norms and biases are corrected"
    return Mending("mean", drift.moved, "--reestimate", advice, lambda own, made: made - seen.mean)


def _weights(bench: Bench, drift: Drift) -> Mending:
    codes = bench.beside.codes[drift.name]
    kind = bench.kind(drift.name)
    low, high = kind.min - codes.zero_point, kind.max - codes.zero_point
    return Mending(
        "weights",
        drift.computed,
        _excluded(drift.nodes),
        "its weights and arithmetic in float, which takes longer; first without --per-tensor and --reduce-range, "
        "if they were given",
        lambda own, made: _rounded(own, codes.scale, low, high),
    )


def _range(bench: Bench, drift: Drift, seen: Seen, correction: Correction | None) -> Mending:
    codes, kind = bench.beside.codes[drift.name], bench.kind(drift.name)
    share = drift.rounded + drift.clipped
    steps = kind.min - codes.zero_point, kind.max - codes.zero_point
    cause, why = "rounding", "its range is as good as 8 bits allow"
    low, high = (float(end) for end in (seen.numbers.min(), seen.numbers.max()))
    if low < high:
        found = Distribution(low, high, np.histogram(seen.numbers, _BINS, (low, high))[0])
        scale, lowest = covering(*found.by_least_error(), _SMALLEST)
        best = lowest, lowest + _CODES
        gain = _error(found, codes.scale, *steps) / max(_error(found, scale, *best), 1e-300)
        if 10 * math.log10(max(gain, 1e-300)) > _BETTER:
            wider = scale * _CODES > codes.scale * (steps[1] - steps[0])
            if not wider or correction is None or not correction.narrowed:
                option, advice = _for_range(drift, wider=wider)
                return Mending("range", share, option, advice, lambda own, made: _rounded(own, scale, *best))
            cause = "range"
            why = "its range leaves out what is rare, which was judged better for all tensors together"
    return in_float(bench, drift, Mending(cause, share, "", why, None))


def _for_range(drift: Drift, *, wider: bool) -> tuple[str, str]:
    """Return the option and the advice for a range that is too narrow or too wide."""
    if wider:
        return "", "numbers are beyond what calibration has seen: more or other samples in --data"
    if drift.kind.startswith("BatchNormalization"):
        return "--norm-method mse", "a smaller range for what a norm makes"
    return "--calibrate-method best", "a smaller range: few numbers use the ends of this one"


def _excluded(nodes: tuple[str, ...]) -> str:
    return " ".join(f"--exclude {node}" for node in dict.fromkeys(nodes))


def _rounded(numbers: np.ndarray, scale: float, low: int, high: int) -> np.ndarray:
    return scale * np.clip(np.rint(numbers.astype(np.float64) / scale), low, high)


def _error(found: Distribution, scale: float, low: int, high: int) -> float:
    return float(np.sum(found.counts * (_rounded(found.centres, scale, low, high) - found.centres) ** 2))
