"""Codes between the steps of a norm: what they cut off.

One norm made of the steps does not round between them, which is as good. Nor does it saturate, which is another
function: with a gain of 2, inputs up to 1 and codes up to 1 between, all above 0.5 are 1 before the shift is
added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

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
        ends = affine(gain, shift, self.low, self.high)
        return Cut(np.minimum(*ends), np.maximum(*ends), self.slack * np.abs(gain))

    def shows(self, ends: list[Numbers], low: float, high: float) -> bool:
        """Say whether numbers up to these ends, kept within a range, are others than without saturation."""
        ways = [(np.clip(end, low, high), np.clip(np.clip(end, self.low, self.high), low, high)) for end in ends]
        return any(bool(np.any(np.abs(a - b) > self.slack * (1 + 1e-6))) for a, b in ways)


def affine(gain: Numbers, shift: Numbers, *ends: Numbers) -> list[Numbers]:
    """Return gain * end + shift of each end of a range; a gain of 0 makes nothing of infinity."""
    with np.errstate(all="ignore"):  # of infinity times 0, and of the largest floats
        return [np.where(gain == 0, 0.0, gain * end) + shift for end in ends]
