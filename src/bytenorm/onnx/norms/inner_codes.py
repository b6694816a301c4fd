"""Codes between the steps of a norm: what they cut off, and whether its own output would show it.

One norm made of the steps does not round between them, which is as good, nor saturate, which is another function:
with a gain of 2, inputs up to 1 and codes up to 1 between, all above 0.5 are 1 before the shift is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from .norm import Norm
    from .qparams import QParams

    Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cut:
    """What is left of the numbers within a norm, for each channel.

    `slack` is by how much rounding to the codes moves a number at most.
    """

    low: Numbers
    high: Numbers
    slack: Numbers

    @classmethod
    def nothing(cls) -> Cut:
        """Return that everything is left."""
        return cls(np.full(1, -np.inf), np.full(1, np.inf), np.zeros(1))

    def rounded(self, q: QParams) -> Cut:
        """Return what is left behind codes, quantized per tensor."""
        low, high = (np.clip(end, *q.range()) for end in (self.low, self.high))
        return Cut(low, high, self.slack + q.scalars[0] / 2)

    def behind(self, gain: Numbers, shift: Numbers) -> Cut:
        """Return what is left behind gain * x + shift."""
        ends = _affine(gain, shift, self.low, self.high)
        return Cut(np.minimum(*ends), np.maximum(*ends), self.slack * np.abs(gain))

    def shows(self, ends: list[Numbers], low: float, high: float) -> bool:
        """Say whether numbers up to these ends, kept within a range, are others than without saturation."""
        ways = [(np.clip(end, low, high), np.clip(np.clip(end, self.low, self.high), low, high)) for end in ends]
        return any(bool(np.any(np.abs(a - b) > self.slack * (1 + 1e-6))) for a, b in ways)


def _affine(gain: Numbers, shift: Numbers, *ends: Numbers) -> list[Numbers]:
    with np.errstate(all="ignore"):  # of infinity times 0, and of the largest floats
        return [np.where(gain == 0, 0.0, gain * end) + shift for end in ends]


def saturates(norm: Norm) -> str:
    """Say whether the codes between the steps of a norm cut off numbers that its output tells apart."""
    source, target = norm.source, norm.target
    if norm.cut is None or norm.parameters is None or source is None or target is None:
        return ""
    if source.path is not None and source.path.is_sum:  # it has no codes of its own
        ends = [np.full(1, -np.inf), np.full(1, np.inf)]
    else:
        lowest = -128 if source.signed else 0
        scale, zero_point = (v.astype(np.float64).ravel() for v in (source.scale, source.zero_point))
        ends = [(code - zero_point) * scale for code in (lowest, lowest + 255)]
    reached = _affine(*norm.parameters.gain_and_shift(), *ends)
    low, high = target.range()
    low = max(low, norm.floor)
    shows = norm.cut.shows(reached, low, max(low, min(high, norm.ceiling)))
    return "codes between its steps cut off numbers" if shows else ""
