"""Who competes: each module makes contestants out of a problem and imports its own library."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence

from ..problem import Problem
from ..timing import Contestant

Missing = tuple[str, str]

OWN = ("own.prepared_out", "own.prepared", "own.in_place", "own.one_shot")
TORCH = ("torch_peer.operator",)
PEERS = ("torch_peer.compiled", "onnx_peer.float_norm", "onnx_peer.depthwise", "numba_peer.loop")
TORCH_OWN = ("torch_own.module", "torch_own.function", "torch_own.operator", "torch_own.module_legacy",
             "torch_own.drop_in")  # fmt: skip
TORCH_RELU = ("torch_own.module_relu", "torch_peer.compiled_relu")
STATISTICS = ("statistics.histogram", "statistics.sums", "statistics.bincount", "statistics.float_moments")
COPY = ("copying.copyto", "copying.memmove")
LONG = {
    "torch_peer.operator": "torch",
    "torch_peer.compiled": "torch.compile",
    "torch_peer.compiled_relu": "torch.compile with relu",
    "onnx_peer.float_norm": "ORT DQ-BN-Q",
    "onnx_peer.depthwise": "ORT depthwise",
    "numba_peer.loop": "numba",
}


def gather(names: Sequence[str], problem: Problem) -> tuple[list[Contestant], list[Missing]]:
    """Return the contestants of these names that can compete, and why the others cannot.

    Parameters
    ----------
    names : sequence of str
        "module.function" in this package.
    problem : Problem

    Returns
    -------
    contestants : list of Contestant
        In the order of `names`.
    missing : list of (name, reason)
    """
    found, missing = [], []
    for name in names:
        module, function = name.split(".")
        try:
            contestant = getattr(importlib.import_module(f".{module}", __name__), function)(problem)
            contestant.run()
            found.append(contestant)
        except Exception as error:  # a peer fails in its own ways: a missing package, no compiler, a refused model
            if name in OWN:
                raise
            missing.append((LONG.get(name, name), reason(error)))
    return found, missing


def reason(error: Exception) -> str:
    """Return one line about an error, without paths."""
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return re.sub(r"\S*/\S+", "...", f"{type(error).__name__}: {text}")[:160]
