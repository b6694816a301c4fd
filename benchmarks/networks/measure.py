"""Measures a network: who can run it, how fast in turns, how close to float, and where the time goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bytenorm.onnx import Profile

from ..contestants import reason
from ..timing import Contestant, Method, Timing, measure
from . import onnxruntime_runs, openvino_peer
from .entry import Array, Entry
from .network import Network

Make = Callable[[Network], Entry]

FLOAT, STOCK = "ORT float", "ORT stock QDQ"
NEEDED: dict[str, Make] = {
    FLOAT: onnxruntime_runs.in_float,
    STOCK: onnxruntime_runs.stock_qdq,
    "bytenorm portable": onnxruntime_runs.portable,
    "bytenorm exact": onnxruntime_runs.exact,
    "bytenorm fused": onnxruntime_runs.fused,
}
PEERS: dict[str, Make] = {
    "OpenVINO, stock QDQ": openvino_peer.stock_qdq,
    "OpenVINO, NNCF": openvino_peer.nncf,
    "OpenVINO, NNCF on ONNX": openvino_peer.nncf_onnx,
}
ELSEWHERE: dict[str, Make] = {  # bytenorm's models in another runtime
    "OpenVINO, bytenorm portable": openvino_peer.portable,
    "OpenVINO, bytenorm qdq": openvino_peer.qdq,
}
CLOSE = 1e-3  # of the largest logit: how far two float32 computations of a network may be apart

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """What one contestant came to.

    Attributes
    ----------
    name : str
    peer : bool
        Whether it is another library's way to run 8 bits.
    timing : Timing
        Seconds a run.
    snr_db : list of float, optional
        Of the logits against those of the float model, for each held-out image; None for the float model.
    profile : Profile, optional
    """

    name: str
    peer: bool
    timing: Timing
    snr_db: list[float] | None
    profile: Profile | None


@dataclass(frozen=True)
class Result:
    """What a network came to.

    Attributes
    ----------
    network : str
    norms, norms_left : int
        All batch norms, and those that the stock quantizer could not fold.
    float_error : float
        The largest difference of a logit between ONNX Runtime in float and torch, over the largest logit.
    rows : list of Row
    missing : list of (name, reason)
    """

    network: str
    norms: int
    norms_left: int
    float_error: float
    rows: list[Row]
    missing: list[tuple[str, str]] = field(default_factory=list)

    def named(self, name: str) -> Row:
        """Return a contestant's row."""
        return next(row for row in self.rows if row.name == name)

    def best_peer(self) -> Row | None:
        """Return the row of the fastest peer, or None if none could compete."""
        return min((row for row in self.rows if row.peer), key=lambda row: row.timing.median, default=None)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)


def run(network: Network, method: Method, progress: Progress) -> Result:
    """Measure everyone who can run a network.

    Parameters
    ----------
    network : Network
    method : Method
    progress : callable
        Told in a few words what begins.

    Raises
    ------
    RuntimeError
        The float model does not give what torch computed while it was built.
    """
    entries, missing = _gather(network, progress)
    error = _relative_error(network.logits, _logits(entries[FLOAT], network.calibration))
    if error > CLOSE:
        raise RuntimeError(f"{network.name}: ONNX Runtime in float is {error:.1g} of the largest logit off torch")
    progress("accuracy")
    wanted = _logits(entries[FLOAT], network.held_out)
    snr = {name: snr_db(wanted, _logits(e, network.held_out)) for name, e in entries.items() if name != FLOAT}
    contestants = [Contestant(name, "other", "run()", {"run": e.timed}, 0) for name, e in entries.items()]
    timings = measure(contestants, method, lambda done, total: progress(f"times, round {done} of {total}"))
    progress("profiles")
    profiles = {name: e.profile() for name, e in entries.items() if e.profile}
    rows = [
        Row(name, name in PEERS, timing, snr.get(name), profiles.get(name))
        for name, timing in zip(entries, timings, strict=True)
    ]
    return Result(network.name, network.norms, network.norms_left, error, rows, missing)


def snr_db(wanted: Array, got: Array) -> list[float]:
    """Return the signal-to-noise ratio of each row in decibels."""
    signal = np.sum(np.square(wanted, dtype=np.float64), axis=1)
    noise = np.sum(np.square(wanted - got, dtype=np.float64), axis=1)
    with np.errstate(divide="ignore"):
        return [float(value) for value in 10 * np.log10(signal / noise)]


def _gather(network: Network, progress: Progress) -> tuple[dict[str, Entry], list[tuple[str, str]]]:
    """Return the contestants that are ready, and who is not and why: only other runtimes may be missing."""
    entries: dict[str, Entry] = {}
    missing: list[tuple[str, str]] = []
    for name, make in (NEEDED | PEERS | ELSEWHERE).items():
        progress(name)
        try:
            entry = make(network)
            entry.timed()
            entries[name] = entry
        except Exception as error:  # each library fails in its own ways
            if name in NEEDED:
                raise
            missing.append((name, reason(error)))
    return entries, missing


def _logits(entry: Entry, images: Array) -> Array:
    return np.concatenate([entry.logits(image[np.newaxis]) for image in images])


def _relative_error(wanted: Array, got: Array) -> float:
    return float(np.abs(wanted - got).max() / np.abs(wanted).max())


def ratios(row: Row, other: Row) -> tuple[float, float]:
    """Return how many times as fast as another a contestant is: by medians, and by the fastest runs."""
    return other.timing.median / row.timing.median, other.timing.fastest / row.timing.fastest
