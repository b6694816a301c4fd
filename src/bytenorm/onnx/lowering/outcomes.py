"""What became of norms that were lowered, and the warning of those that were not."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

Lowering = Literal["portable", "exact", "fused", "qdq"]


class LoweringWarning(UserWarning):
    '''A batch norm stays in float; the message says which one and why.

    Examples
    --------
    >>> import onnx, warnings
    >>> from bytenorm import onnx as bno
    >>> model = onnx.parser.parse_model("""
    ...     <ir_version: 8, opset_import: ["": 17]>
    ...     net (uint8[1, 1, 2] x) => (float[1, 1, 2] y)
    ...     <float s = {0.5}, uint8 z = {0}, float[1] one = {1.0}, float[1] zero = {0.0}> {
    ...         real = DequantizeLinear (x, s, z)
    ...         y = BatchNormalization (real, one, zero, zero, one)
    ...     }""")
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always", bno.LoweringWarning)
    ...     lowered = bno.lower(model)
    >>> print(caught[0].message)
    y stays in float: its output is not quantized
    '''


@dataclass(frozen=True)
class Outcome:
    """What became of one norm: empty `problem` if it runs in 8 bits now.

    `pattern` is what the fused lowering computes together, ``concat``, ``concat + pool``, ``add`` or ``single``,
    and `unfused` why only the last; ``qdq`` is a norm that stays in float between conversions. Both are empty with
    another lowering or a problem.
    """

    name: str
    problem: str
    pattern: str = ""
    unfused: str = ""


def check_lowering(lowering: str) -> None:
    """Refuse what is no lowering."""
    if lowering not in get_args(Lowering):
        raise ValueError(f"lowering: wanted {' or '.join(map(repr, get_args(Lowering)))}, got {lowering!r}")


def warn_of(outcomes: list[Outcome]) -> None:
    """Warn of each norm that stays in float."""
    for outcome in outcomes:
        if outcome.problem:
            warnings.warn(f"{outcome.name} stays in float: {outcome.problem}", LoweringWarning, stacklevel=3)
