"""What happened on the way to a program in 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..._outcomes import counted
from ..._text_table import text_table

if TYPE_CHECKING:
    from ..._outcomes import Outcome, RecalibratedNorm


@dataclass(frozen=True)
class QuantizationReport:
    """What happened on the way to a program in 8 bits. It prints as counts, remarks and figures.

    Attributes
    ----------
    folded : tuple of str
        Norms that the convolution before them took up.
    outcomes : tuple of Outcome
        The other norms; with a problem where one stays in float.
    snr_db : tuple of float
        The signal-to-noise ratio of each float output, in decibels, against the float network, on the data that
        calibrated.
    recalibrated : tuple of RecalibratedNorm
        As `recalibrate` returns them; none with `fast`, and where no norm runs in 8 bits.

    Examples
    --------
    >>> import bytenorm.torch as bt
    >>> print(bt.QuantizationReport(("conv.norm",), (bt.Outcome("norm", ""),), (31.5,)))
    2 batch norms: 1 folded, 1 in 8 bits, 0 left in float
    on the data that calibrated:
    output  SNR dB
         0   31.50
    """

    folded: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    snr_db: tuple[float, ...]
    recalibrated: tuple[RecalibratedNorm, ...] = ()

    def __str__(self) -> str:
        """Return the counts, why norms stay in float, and how far the outputs are from the float ones."""
        lines = counted(self.folded, self.outcomes)
        rows = [(str(i), f"{snr:.2f}") for i, snr in enumerate(self.snr_db)]
        return "\n".join([*lines, "on the data that calibrated:", text_table(("output", "SNR dB"), rows)])
