"""What one contestant makes of one network: how near it stays, what it costs, and what it is worth in the task."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .network import Network, Outputs
from .running import outputs_of


@dataclass(frozen=True)
class Result:
    """One contestant's network.

    Attributes
    ----------
    snr_db : float or None
        Of the outputs on the held-out samples against the float network's; of several outputs the worst. None
        where the contestant made none.
    figure : float or None
        The task's; None without a task.
    seconds : float
        CPU time of quantizing.
    note : str
        The steps that were taken, or why there is no network.
    """

    snr_db: float | None
    figure: float | None
    seconds: float
    note: str


def float_result(network: Network, reference: Outputs) -> Result:
    """Return what the float network itself comes to."""
    return Result(None, network.task.figure(reference) if network.task else None, 0.0, "")


def measure(network: Network, reference: Outputs, make: Callable[[Network], tuple[object, str]]) -> Result:
    """Quantize and judge; whatever a contestant raises is its result."""
    start = time.process_time()
    try:
        model, note = make(network)
        seconds = time.process_time() - start
        outputs = outputs_of(model, network.held_out)  # type: ignore[arg-type]
    except Exception as error:
        words = (str(error).strip().splitlines() or [""])[0]
        return Result(None, None, time.process_time() - start, f"{type(error).__name__}: {words}"[:120])
    pairs = zip(reference, outputs, strict=True)
    figure = network.task.figure(outputs) if network.task else None
    return Result(min(snr_db(*pair) for pair in pairs), figure, seconds, note)


def snr_db(wanted: np.ndarray, got: np.ndarray) -> float:
    """Return the ratio of signal to error in decibels."""
    signal, error = (float(np.sum(np.square(a, dtype=np.float64))) for a in (wanted, got - wanted))
    return 10 * float(np.log10(signal / error)) if error else float("inf")
