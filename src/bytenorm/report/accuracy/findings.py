"""Which tensors cost the outputs most, by running on from each with numbers in float, and what mends them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .accumulation import EXACT
from .bench import Bench
from .mending import in_float, mend

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx

    from .accumulation import Accumulation, Drift
    from .correction import Correction

FINDINGS = 3
_SAMPLES = 256
# Bytes of codes that may be made: by each tensor that is tried, and each sample, those of a network.
_ROOM = 1 << 29
_FEWEST = 4  # samples
_WORTH = 0.1  # dB at the output; less is chance


@dataclass(frozen=True)
class Finding:
    """A tensor that costs the outputs much, why, and what mends it.

    Attributes
    ----------
    name : str
        Of the tensor in the float network.
    cause : str
        ``"range"`` (its codes have a worse range than they could), ``"rounding"`` (the best range leaves no less),
        ``"mean"`` (means of channels are moved) or ``"weights"`` (8-bit weights and arithmetic of its step).
    share : float
        The part of the tensor's own error that the cause is, from 0 to 1.
    option : str
        Of ``bytenorm quantize``; empty where none helps.
    advice : str
        What to do, in a sentence.
    float_gain_db : float
        What the outputs would gain if the tensor stayed in float: its step in float, nothing rounded.
    option_gain_db : float
        What they would gain by the option in this tensor alone, on samples that it was not chosen by; no more than
        in float.
    """

    name: str
    cause: str
    share: float
    option: str
    advice: str
    float_gain_db: float
    option_gain_db: float


@dataclass(frozen=True)
class Findings:
    """What was found at the outputs.

    Attributes
    ----------
    snr_db : float
        The lowest SNR of the outputs against the float network's; nan if they cannot be compared.
    samples : int
        How many samples the outputs were measured on, spread over the data.
    tried : int
        How many tensors were put in float, one by one.
    found : tuple of Finding
        Those that cost the outputs most, the worst first.
    problems : tuple of (str, str)
        Tensors that could not be put in float, each with the reason.
    """

    snr_db: float
    samples: int
    tried: int
    found: tuple[Finding, ...]
    problems: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        problems = [{"name": name, "problem": why} for name, why in self.problems]
        return asdict(self) | {"found": [asdict(one) for one in self.found], "problems": problems}


def find(
    model: onnx.ModelProto,
    reference: onnx.ModelProto,
    beside: Accumulation,
    drift: Sequence[Drift],
    correction: Correction | None,
) -> Findings:
    """Put tensors in float, one by one, and measure what the outputs gain.

    Parameters
    ----------
    model, reference : onnx.ModelProto
        In 8 bits and in float.
    beside : Accumulation
        Of the two.
    drift : sequence of Drift
        What it has found.
    correction : Correction or None
        What corrected the model.
    """
    size = max(1, beside.bytes_of_a_sample)
    batches = list(beside.data.spread(max(_FEWEST, min(_SAMPLES, _ROOM // ((FINDINGS + 1) * size)))))
    samples = sum(map(beside.data.count, batches))
    bench = Bench(model, reference, beside, batches)
    most = max(FINDINGS, _ROOM // (samples * size))
    bench.prepare(_candidates(drift, bench.made_last(), most))
    gains = bench.gains(dict.fromkeys(bench.tried))
    order = sorted((name for name in gains if gains[name] > _WORTH), key=lambda name: -gains[name])
    by_name = {one.name: one for one in drift}
    seen = bench.look(order[:FINDINGS])
    mended = {name: mend(bench, by_name[name], seen[name], correction) for name in order[:FINDINGS]}
    changes = {name: one.change for name, one in mended.items() if one.change is not None}
    by_samples = {name: change for name, change in changes.items() if mended[name].cause != "weights"}
    measured = bench.gains({name: change for name, change in changes.items() if name not in by_samples})
    if bench.can_choose:
        measured |= bench.gains(by_samples, apart=True)
    found = []
    for name, one in mended.items():
        # A better range than the float network's own numbers would be chance.
        gain = min(measured.get(name, math.nan), gains[name]) if one.change is not None else gains[name]
        if not gain > _WORTH:
            one = in_float(bench, by_name[name], one)  # noqa: PLW2901 (what is left)
            gain = gains[name]
        found.append(Finding(name, one.cause, one.share, one.option, one.advice, gains[name], gain))
    return Findings(bench.snr_db, samples, len(bench.tried), tuple(found), tuple(bench.problems.items()))


def _candidates(drift: Sequence[Drift], last: set[str], most: int) -> list[str]:
    """Return the tensors to be tried: the last in 8 bits, and those of the largest own error."""
    there = [one for one in drift if one.nodes and not one.problem and one.own_snr_db < EXACT]
    there.sort(key=lambda one: (one.name not in last, one.own_snr_db))
    return [one.name for one in there[: most + len(last)]]
