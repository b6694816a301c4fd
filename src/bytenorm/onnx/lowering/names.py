"""The ways to lower norms of ONNX models, by name."""

from __future__ import annotations

from typing import Literal, get_args

from ... import _checks
from ..._errors import Argument

QUANTIZE, LOWER, PREPARE, RESTORE = (
    Argument(name, detail="()") for name in ("quantize", "lower", "prepare", "restore")
)  # functions that messages name
Lowering = Literal["portable", "exact", "fused", "qdq"]


def check_lowering(lowering: str) -> None:
    """Refuse what is no lowering."""
    _checks.choice(lowering, get_args(Lowering), "lowering")
