"""What a report says of norms and of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import bytenorm as bn

from .._decibels import snr_db

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..calibration import ChannelStatistics
    from ..calibration.qparams.distribution import Distribution
    from .accuracy.accumulation import Drift
    from .accuracy.correction import Correction
    from .accuracy.findings import Findings

    Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NormReport:
    """What a norm of C channels made of the data.

    Attributes
    ----------
    name, written : str
        The node, and how the graph spells the norm; see :class:`bytenorm.onnx.BatchNormInfo`.
    activation : str
        ``Relu``, ``Clip`` or empty.
    notes : tuple of str
        What to know when reading the numbers.
    statistics : ChannelStatistics
        Of the codes that the norm read.
    outputs : numpy.ndarray of float64, shape (C, 256)
        The norm in float of each code, with its activation, in real units.
    errors : numpy.ndarray of float64, shape (C, 256)
        How far the number of the code that the model made is from that; 0 for codes that did not occur.
    distribution : Distribution
        Of the float output.
    dtype : DType
        Of the output.
    scale, zero_point : float, int
        Of the output, as the model has them.
    clipped : float
        The share of the outputs, 0 to 1, that lie more than half a step beyond the last code.
    mse : float
        The mean squared error of the quantized output, in real units squared.
    snr_db : float
        ``10 log10(sum(float**2) / sum(error**2))``; inf without an error.
    channel_snr_db : numpy.ndarray of float64, shape (C,)
        The same of each channel.
    best_scale, best_zero_point : float, int
        What ``method="mse"`` of `choose_output_qparams` chooses for this data.
    best_mse, best_clipped : float
        What that would cost.

    Examples
    --------
    >>> import numpy as np
    >>> from bytenorm import onnx as bno
    >>> from bytenorm.report import gather
    >>> images = [{"image": np.random.default_rng(0).random((8, 1, 28, 28), np.float32)}]
    >>> small = bno.quantize(bno.digits_model(), images, fast=True)
    >>> worst = gather(small, images).norms[0]  # they are sorted
    >>> worst.dtype, worst.outputs.shape == (worst.channels, 256)
    (bytenorm.quint8, True)
    """

    name: str
    written: str
    activation: str
    notes: tuple[str, ...]
    statistics: ChannelStatistics
    outputs: Reals
    errors: Reals
    distribution: Distribution
    dtype: bn.DType
    scale: float
    zero_point: int
    clipped: float
    mse: float
    snr_db: float
    channel_snr_db: Reals
    best_scale: float
    best_zero_point: int
    best_mse: float
    best_clipped: float

    @property
    def channels(self) -> int:
        """How many channels the norm has."""
        return len(self.outputs)

    @property
    def worst_channel(self) -> int:
        """The channel with the lowest SNR, the first of equals."""
        return int(np.argmin(self.channel_snr_db))

    @property
    def gain_db(self) -> float:
        """What the best scale would add to the SNR; inf if it leaves no error, 0 if there is none now."""
        return snr_db(self.mse, self.best_mse) if self.mse > 0 else 0.0

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How often each channel read each code, from the smallest of its type on: shape (C, 256)."""
        counts = self.statistics.histogram
        assert counts is not None, "it is counted here"
        return counts

    def range(self, *, best: bool = False) -> tuple[float, float]:
        """Return the numbers of the lowest and the highest code.

        Parameters
        ----------
        best : bool, optional
            Of the best scale and zero point rather than the model's.

        Returns
        -------
        tuple of (float, float)
            In real units.

        Examples
        --------
        >>> import numpy as np
        >>> from bytenorm import onnx as bno
        >>> from bytenorm.report import gather
        >>> images = [{"image": np.random.default_rng(0).random((8, 1, 28, 28), np.float32)}]
        >>> norm = gather(bno.quantize(bno.digits_model(), images, fast=True), images).norms[0]
        >>> lowest, highest = norm.range()
        >>> bool(lowest <= 0 < highest)
        True
        """
        scale = self.best_scale if best else self.scale
        zero_point = self.best_zero_point if best else self.zero_point
        return (self.dtype.qmin - zero_point) * scale, (self.dtype.qmax - zero_point) * scale

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers without the distributions, as plain data for JSON.

        Returns
        -------
        dict

        Examples
        --------
        >>> import numpy as np
        >>> from bytenorm import onnx as bno
        >>> from bytenorm.report import gather
        >>> images = [{"image": np.random.default_rng(0).random((8, 1, 28, 28), np.float32)}]
        >>> norm = gather(bno.quantize(bno.digits_model(), images, fast=True), images).norms[0]
        >>> norm.to_dict()["channels"] == norm.channels
        True
        """
        return {
            "name": self.name,
            "written": self.written,
            "activation": self.activation,
            "channels": self.channels,
            "codes": self.statistics.count * self.channels,
            "snr_db": self.snr_db,
            "worst_channel": self.worst_channel,
            "worst_channel_snr_db": float(self.channel_snr_db[self.worst_channel]),
            "mse": self.mse,
            "clipped": self.clipped,
            "scale": self.scale,
            "zero_point": self.zero_point,
            "best_scale": self.best_scale,
            "best_zero_point": self.best_zero_point,
            "best_mse": self.best_mse,
            "best_clipped": self.best_clipped,
            "gain_db": self.gain_db,
        }


@dataclass(frozen=True)
class Report:
    """What the norms of a model made of the data. It prints as a line a norm, the most damaged first.

    Attributes
    ----------
    norms : tuple of NormReport
        The most damaged first: by SNR, equals in the order of the graph.
    left_out : tuple of (str, str)
        The norms that could not be measured, each with the reason.
    samples : int
        How many samples the model was run on.
    drift : tuple of Drift
        How far each 8-bit tensor is from the float model's, and what its own share is, in the float model's order;
        empty without a `reference`.
    unmatched : tuple of (str, str)
        The tensors of either model that have no partner in the other, each with the reason.
    correction : Correction or None
        What `bytenorm.onnx.quantize` noted of its steps; None without a note.
    findings : Findings or None
        Which tensors cost the outputs most, and what mends them; None without a `reference`.
    unlike : str
        How far the data is from what the network was trained on, or from what calibrated it, and the outputs from
        where they were when the model was made; else empty.

    Examples
    --------
    >>> import numpy as np
    >>> from bytenorm import onnx as bno
    >>> from bytenorm.report import gather
    >>> images = [{"image": np.random.default_rng(0).random((8, 1, 28, 28), np.float32)}]
    >>> small = bno.quantize(bno.digits_model(), images, fast=True)
    >>> report = gather(small, images)
    >>> len(report.norms), report.left_out, report.samples
    (9, (), 8)
    >>> print(str(report).splitlines()[0])
    9 batch norms measured on 8 samples
    """

    norms: tuple[NormReport, ...]
    left_out: tuple[tuple[str, str], ...]
    samples: int
    drift: tuple[Drift, ...] = ()
    unmatched: tuple[tuple[str, str], ...] = ()
    correction: Correction | None = None
    findings: Findings | None = None
    unlike: str = ""

    def __str__(self) -> str:
        """Return what the norms lose, what could not be measured, and what the outputs have, a line each."""
        count = len(self.norms)
        lines = [
            f"{count} batch norm{'s' * (count != 1)} measured on {self.samples} sample{'s' * (self.samples != 1)}"
        ]
        lines += [
            f"{norm.name}: {norm.snr_db:.2f} dB, {100 * norm.clipped:.3g} % clipped, the best scale brings "
            f"{norm.gain_db:.2f} dB"
            for norm in self.norms
        ]
        lines += [f"{name} was not measured: {why}" for name, why in self.left_out]
        if self.findings is not None:
            lines.append(f"outputs: {self.findings.snr_db:.2f} dB against the float model's")
        return "\n".join([*lines, *filter(None, [self.unlike])])
