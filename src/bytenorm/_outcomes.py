"""What became of norms, and the warning of those that stay in float: in ONNX and in PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any


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
    """What became of one norm.

    Attributes
    ----------
    name : str
    problem : str
        Why it stays in float; empty if it runs in 8 bits now.
    pattern : str
        What the fused lowering of ONNX models computes together: ``concat``, ``concat + pool``, ``add`` or
        ``single``; ``qdq`` is a norm that stays in float between conversions. Empty with another lowering or a
        problem.
    unfused : str
        Why the pattern is ``single``.

    Examples
    --------
    >>> import numpy as np
    >>> from bytenorm import onnx as bno
    >>> images = [{"image": np.random.default_rng(0).random((8, 1, 28, 28), np.float32)}]
    >>> _, report = bno.quantize_with_report(
    ...     bno.digits_model(), images, fast=True, nodes_to_exclude=["head/norm"]
    ... )
    >>> [(norm.name, norm.problem) for norm in report.outcomes if norm.problem]
    [('head/norm', 'it is excluded')]
    """

    name: str
    problem: str
    pattern: str = ""
    unfused: str = ""


@dataclass(frozen=True)
class RecalibratedNorm:
    """What a norm, a layer or another activation got from the data.

    Attributes
    ----------
    name : str
    method : str or None
        How the scale and the zero point of its output were chosen; None: by the quantizer.
    reestimated : bool
        Whether it has another mean and variance, or bias, now.
    scale : float or None
        Of its output, in real units; None for a layer.
    zero_point : int or None
        In the type that activations were quantized to.
    clipped : float or None
        The share of its outputs on the data that lie more than half a step beyond the last code; None where
        nothing was chosen.
    mse : float or None
        The mean squared error of its quantized output, in real units squared; None where nothing was chosen.
    problem : str
        Why its scale, or all of it, stays what it was; empty if nothing does that was to change.
    kind : str
        ``"norm"``, the operator of a layer (``"conv2d"``, ``"linear"`` and so on), or ``"activation"``: what else
        is quantized. In ONNX models always ``"norm"``.
    """

    name: str
    method: str | None
    reestimated: bool
    scale: float | None
    zero_point: int | None
    clipped: float | None = None
    mse: float | None = None
    problem: str = ""
    kind: str = "norm"

    @property
    def qparams(self) -> tuple[float, int]:
        """The scale and the zero point of what has codes."""
        assert self.scale is not None and self.zero_point is not None
        return self.scale, self.zero_point

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


def counted(folded: Collection[str], outcomes: Collection[Outcome]) -> list[str]:
    """Return lines that say how many norms became what, and why some stay in float."""
    in_float = [outcome for outcome in outcomes if outcome.problem]
    count = len(folded) + len(outcomes)
    return [
        f"{count} batch norm{'s' * (count != 1)}: {len(folded)} folded, "
        f"{len(outcomes) - len(in_float)} in 8 bits, {len(in_float)} left in float",
        *(f"{outcome.name} stays in float: {outcome.problem}" for outcome in in_float),
    ]


def warn_of(outcomes: Iterable[Outcome]) -> None:
    """Warn of each norm that stays in float, in the name of the caller's caller."""
    for outcome in outcomes:
        if outcome.problem:
            warnings.warn(f"{outcome.name} stays in float: {outcome.problem}", LoweringWarning, stacklevel=3)


def warn_of_none(what: str) -> None:
    """Warn that a model or a program has no norm that could be lowered, in the name of the caller's caller."""
    message = f"nothing was lowered: the {what} has no batch norm in float, and computes what it did"
    warnings.warn(message, LoweringWarning, stacklevel=3)
