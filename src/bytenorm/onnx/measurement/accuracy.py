"""Whether an 8-bit model is far worse than it should be."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ...calibration.judging import FEWEST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .comparison import Comparison, OutputComparison

LOWEST = 10.0  # dB: the error is a third of the output
BEHIND = 6.0  # dB below what ONNX Runtime's quantizer alone reaches: twice its error
# Only below this the quantizer is run alone as well, which takes about as long as all the rest.
DOUBTFUL = 20.0


class QuantizationWarning(UserWarning):
    """An output of an 8-bit model is far from the float model's, or a node to be excluded is gone.

    Examples
    --------
    >>> import numpy as np, warnings
    >>> from bytenorm import onnx as bno
    >>> images = np.random.default_rng(0).random((8, 1, 28, 28), np.float32)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", bno.QuantizationWarning)  # a model that is far off is an error
    ...     model = bno.quantize(bno.digits_model(), [{"image": images}], fast=True)
    """


def is_doubtful(comparison: Comparison) -> bool:
    """Say whether it is worth the time to ask what ONNX Runtime's quantizer alone makes of the model."""
    return any(not out.problem and out.snr_db < DOUBTFUL for out in comparison.outputs)


def complaints(comparison: Comparison, alone: Comparison | None, lowest: float = LOWEST) -> tuple[str, ...]:
    """Say which outputs of an 8-bit model are far worse than the float model's.

    Parameters
    ----------
    comparison : Comparison
        Of the 8-bit model with the float one.
    alone : Comparison or None
        Of what ONNX Runtime's quantizer alone makes of it.
    lowest : float, optional
        In dB; an output below is far worse, and one that is :data:`BEHIND` below what `alone` says of it.
    """
    others = dict.fromkeys(range(len(comparison.outputs))) | dict(enumerate(alone.outputs if alone else ()))
    found = (_complaint(out, others[i], lowest) for i, out in enumerate(comparison.outputs))
    return tuple(text for text in found if text)


def _complaint(out: OutputComparison, alone: OutputComparison | None, lowest: float) -> str:
    if out.problem:
        return f"output {out.name!r}: {out.problem}" if out.broken else ""
    reaches = alone.snr_db if alone is not None and not alone.problem else out.snr_db
    if out.snr_db >= lowest and out.snr_db >= reaches - BEHIND:
        return ""
    text = f"output {out.name!r} has {out.snr_db:.1f} dB of the float model's"
    if reaches > out.snr_db:
        text += f", ONNX Runtime's quantizer alone reaches {reaches:.1f} dB"
    return text


def too_few_to_compare(samples: int) -> str:
    """Say what so few samples tell of a model that they calibrated; empty if they are enough."""
    if samples >= FEWEST:
        return ""
    return (
        f"{samples} sample{'s' * (samples != 1)} calibrated the model, and a comparison on the same tells little "
        "of others: calibrate with thirty or more, and compare on samples that calibrated nothing"
    )


def warn_of_accuracy(texts: Iterable[str]) -> None:
    """Warn of each complaint."""
    for text in texts:
        warnings.warn(text, QuantizationWarning, stacklevel=3)
