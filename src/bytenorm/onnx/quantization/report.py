"""What happened on the way to an 8-bit model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..._outcomes import counted

if TYPE_CHECKING:
    from ..._outcomes import Outcome, RecalibratedNorm
    from ..measurement.comparison import Comparison
    from .tuning.notes import Step


@dataclass(frozen=True)
class QuantizationReport:
    """What happened on the way to an 8-bit model. It prints as counts, remarks and figures.

    Attributes
    ----------
    folded : tuple of str
        Norms that the layer before them took up, or those behind them.
    outcomes : tuple of Outcome
        The other norms; with a problem where one stays in float.
    comparison : Comparison
        The result against the float model, on the calibration data; without `compare` on a few samples of it,
        :data:`JUDGED` or a batch.
    alone : Comparison or None
        What ONNX Runtime's quantizer alone makes of the model, where that was asked: with `compare`, if an output
        has less than 20 dB.
    recalibrated : tuple of RecalibratedNorm
        The norms that `method` or `data_statistics` treated, in the order in which that was done.
    gone : tuple of str
        Nodes of `nodes_to_exclude` that ONNX Runtime's preparation of the model left out, such as a Dropout.
    steps : tuple of Step
        What was tried to bring the 8-bit network nearer to the float one, and whether it is taken.
    stayed : tuple of str
        Norms that layers behind them could have taken up, and 8-bit weights could not: see docs/onnx-quantize.md.
    weak : tuple of str
        Nodes that stay in float because they only lose in 8 bits: a Softmax, a Sigmoid or the like at an output;
        those around infinite values; a mask that hides numbers behind very large ones, and the Softmax that reads
        it.
    unlike : str
        How far the data is from what the network's first norm was trained on, with the means and deviations of
        both. Empty, unless one is more than 20 times as wide as the other.
    ranges : str
        How the ranges of activations were found: ``"minmax"``, ``"percentile"`` or ``"entropy"`` by ONNX Runtime,
        or the way of the step that is taken, such as ``"percentile 99.999"``.
    few : str
        What is to be said of a comparison on fewer than 8 samples, which are those that calibrated; else empty.

    Examples
    --------
    >>> import numpy as np
    >>> from bytenorm import onnx as bno
    >>> images = np.random.default_rng(0).random((8, 1, 28, 28), np.float32)
    >>> model, report = bno.quantize_with_report(bno.digits_model(), [{"image": images}], fast=True)
    >>> len(report.folded), len(report.outcomes), report.ranges, report.comparison.samples
    (3, 9, 'minmax', 4)
    >>> print(str(report).splitlines()[0])
    12 batch norms: 3 folded, 9 in 8 bits, 0 left in float
    """

    folded: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    comparison: Comparison
    recalibrated: tuple[RecalibratedNorm, ...] = ()
    alone: Comparison | None = None
    gone: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    stayed: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    unlike: str = ""
    ranges: str = "minmax"
    few: str = ""

    def __str__(self) -> str:
        """Return the counts, what is not as one would expect, and the comparison."""
        lines = counted(self.folded, self.outcomes)
        lines += [f"not folded: {name}, whose gains 8-bit weights cannot hold" for name in self.stayed]
        lines += [f"in float: {name}, which only loses in 8 bits" for name in self.weak]
        lines += [f"not excluded: {name}, which ONNX Runtime's preparation left out" for name in self.gone]
        lines += [f"{step.name}: taken" if step.taken else f"{step.name}: {step.problem}" for step in self.steps]
        return "\n".join([*lines, *filter(None, [self.unlike, self.few]), str(self.comparison)])
