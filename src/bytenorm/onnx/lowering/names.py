"""The ways to lower norms of ONNX models, by name."""

from __future__ import annotations

from typing import Literal, get_args

Lowering = Literal["portable", "exact", "fused", "qdq"]


def check_lowering(lowering: str) -> None:
    """Refuse what is no lowering."""
    if lowering not in get_args(Lowering):
        raise ValueError(f"lowering: wanted {' or '.join(map(repr, get_args(Lowering)))}, got {lowering!r}")
