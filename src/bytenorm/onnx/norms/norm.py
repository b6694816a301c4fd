"""A batch norm of a graph: its parameters, its nodes, and how what it reads and makes is quantized."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .inner_codes import affine

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import NodeProto

    from ..graph.graph import Graph
    from .inner_codes import Cut
    from .qparams import QParams

    Vector = npt.NDArray[np.float32]


CHANNELS = 1  # the axis of a norm's channels
PARAMETER_NAMES = ("scale", "B", "input_mean", "input_var")


@dataclass(frozen=True)
class Parameters:
    """A norm's own parameters, float32 vectors of one entry a channel, named as ONNX names them."""

    scale: Vector
    B: Vector
    input_mean: Vector
    input_var: Vector
    epsilon: float

    @property
    def channels(self) -> int:
        """How many channels the norm has."""
        return len(self.scale)

    def gain_and_shift(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return what the norm does as gain * x + shift, in float64."""
        gain = self.scale.astype(np.float64) / np.sqrt(self.input_var.astype(np.float64) + self.epsilon)
        return gain, self.B - self.input_mean * gain

    @classmethod
    def of(cls, gain: npt.NDArray[np.float64], shift: npt.NDArray[np.float64]) -> Parameters:
        """Return the parameters of gain * x + shift: mean 0, variance 1, epsilon 0."""
        gain, shift = np.broadcast_arrays(np.atleast_1d(gain), np.atleast_1d(shift))
        zeros, ones = np.zeros(len(gain), np.float32), np.ones(len(gain), np.float32)
        return cls(gain.astype(np.float32), shift.astype(np.float32), zeros, ones, 0.0)


@dataclass
class Norm:
    """A batch norm of a graph.

    `input` and `output` are the tensors that it reads and makes, `nodes` all of its nodes, without the
    activation and without the conversions around it. `problem` says why it cannot run in 8 bits as it is;
    where its own parameters are the problem, `parameters` is None.
    """

    name: str
    written: str
    nodes: list[NodeProto]
    input: str
    output: str
    channels: int | None = None
    parameters: Parameters | None = None
    in_float32: bool = True
    activation: NodeProto | None = None
    floor: float = -np.inf  # of the activation
    ceiling: float = np.inf
    lowered: bool = False  # computes in 8 bits already
    pattern: str = ""  # of a lowered one: what its operator computes together, see concats_and_sums.py
    quantize: NodeProto | None = None  # the QuantizeLinear behind it
    source: QParams | None = None
    target: QParams | None = None
    between: list[NodeProto] = field(default_factory=list)  # conversions inside that fusing makes needless
    cut: Cut | None = None  # what codes inside leave, if there are any
    problem: str = ""

    def site(self) -> QuantizedNorm:
        """Return what a lowering needs of a norm that has no problem."""
        assert self.parameters is not None and self.source is not None and self.target is not None
        return QuantizedNorm(
            self.name,
            self.parameters,
            self.source,
            self.target,
            self.input,
            self.activation.op_type if self.activation is not None else "",
            self.floor,
            self.ceiling,
            self.cut,
        )


@dataclass(frozen=True)
class QuantizedNorm:
    """A norm between two quantized tensors. `input` is what it read in float, `cut` what codes inside leave."""

    name: str
    parameters: Parameters
    source: QParams
    target: QParams
    input: str
    activation: str
    floor: float
    ceiling: float
    cut: Cut | None = None

    def rank(self, graph: Graph) -> int | None:
        """Return the rank of what the norm reads; None if the graph does not tell."""
        for tensor in (self.input, self.source.codes):
            shape = graph.type_of(tensor)[1]
            if shape is not None:
                return len(shape)
        return None

    def saturates_inside(self, *ends: npt.ArrayLike) -> bool:
        """Say whether codes between its steps cut off numbers that its output tells apart, up to `ends`."""
        if self.cut is None:
            return False
        numbers = [np.atleast_1d(np.asarray(end, np.float64)) for end in ends]
        reached = affine(*self.parameters.gain_and_shift(), *numbers)
        lowest, highest = self.target.range()
        lowest = max(lowest, self.floor)
        return self.cut.shows(reached, lowest, max(lowest, min(highest, self.ceiling)))

    def limits(self) -> tuple[int | None, int | None]:
        """Return the lowest and highest code that the activation leaves; None for those of the type itself."""
        smallest, largest = (-128, 127) if self.target.signed else (0, 255)
        low, high = (int(code) for code in self.target.codes_of([self.floor, self.ceiling]))
        return (low if low > smallest else None), (high if high < largest else None)

    def relu_and_limits(self) -> tuple[bool, tuple[int | None, int | None]]:
        """Return whether bytenorm's operators do the activation's floor, and what of :meth:`limits` is left."""
        lowest, highest = self.limits()
        relu = lowest is not None and lowest == self.target.scalars[1]
        return relu, (None if relu else lowest, highest)


def bad_values(p: Parameters) -> str:
    """Say which parameter of a norm is no number to compute with; empty if all are."""
    if not np.isfinite(p.epsilon):
        return f"its epsilon is {p.epsilon}"
    for name in PARAMETER_NAMES:
        bad = np.flatnonzero(~np.isfinite(getattr(p, name)))
        if bad.size:
            return f"its {name} has {getattr(p, name)[bad[0]]!s} in channel {bad[0]}"
    bad = np.flatnonzero(~(p.input_var + np.float32(p.epsilon) > 0) | (p.input_var < 0))
    if bad.size:
        return f"its input_var is {p.input_var[bad[0]]!s} in channel {bad[0]}"
    return ""
