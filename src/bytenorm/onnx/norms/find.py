"""Finds the batch norms of a graph, however they are written."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from ..graph.graph import Graph, attribute, is_op, label, subgraphs, type_name
from ..graph.qlinear_conv import codes_conv, is_norm
from ..operators.add_batch_norm import ADD_OPERATOR
from ..operators.batch_norm import DOMAIN, OPERATOR
from ..operators.concat_batch_norm import CONCAT_OPERATOR

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    import numpy.typing as npt
    from onnx import ModelProto, NodeProto

    from .code_paths import Path

    Vector = npt.NDArray[np.float32]
    Source = Callable[["Norm"], tuple["QParams | None", str]]

BYTES = (TensorProto.UINT8, TensorProto.INT8)
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


def range_of_codes(scale: float, zero_point: int, *, signed: bool) -> tuple[float, float]:
    """Return the numbers of the lowest and the highest code."""
    lowest = -128 if signed else 0
    return (lowest - zero_point) * scale, (lowest + 255 - zero_point) * scale


@dataclass(frozen=True)
class QParams:
    """The quantization of a tensor of bytes, and the tensors that hold it.

    Where `path` says how the bytes are made, there is no such tensor yet, and `codes` is empty.
    """

    codes: str
    scale_name: str
    zero_point_name: str  # empty: there is none, it is 0
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.generic]
    path: Path | None = None

    @property
    def signed(self) -> bool:
        """Whether the bytes are int8."""
        return self.zero_point.dtype == np.int8

    @property
    def per_tensor(self) -> bool:
        """Whether one scale is for all channels."""
        return self.scale.size == 1 and self.zero_point.size == 1

    @property
    def scalars(self) -> tuple[float, int]:
        """The scale and the zero point, quantized per tensor."""
        return float(self.scale.ravel()[0]), int(self.zero_point.ravel()[0])

    def range(self) -> tuple[float, float]:
        """Return the numbers of the lowest and the highest code, quantized per tensor."""
        return range_of_codes(*self.scalars, signed=self.signed)

    def equals(self, other: QParams) -> bool:
        """Say whether codes mean the same in another quantization."""
        return (
            self.zero_point.dtype == other.zero_point.dtype
            and np.array_equal(self.scale.ravel(), other.scale.ravel())
            and np.array_equal(self.zero_point.ravel(), other.zero_point.ravel())
        )


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
    problem: str = ""

    def site(self) -> Site:
        """Return what a lowering needs of a norm that has no problem."""
        assert self.parameters is not None and self.source is not None and self.target is not None
        return Site(
            self.name,
            self.parameters,
            self.source,
            self.target,
            self.input,
            self.activation.op_type if self.activation is not None else "",
            self.floor,
            self.ceiling,
        )


@dataclass(frozen=True)
class Site:
    """A norm between two quantized tensors. `input` is what it read in float."""

    name: str
    parameters: Parameters
    source: QParams
    target: QParams
    input: str
    activation: str
    floor: float
    ceiling: float

    def rank(self, graph: Graph) -> int | None:
        """Return the rank of what the norm reads; None if the graph does not tell."""
        for tensor in (self.input, self.source.codes):
            shape = graph.type_of(tensor)[1]
            if shape is not None:
                return len(shape)
        return None

    def limits(self) -> tuple[int | None, int | None]:
        """Return the lowest and highest code that the activation leaves; None for those of the type itself."""
        zero_point, scale = int(self.target.zero_point.ravel()[0]), np.float32(self.target.scale.ravel()[0])
        smallest, largest = (-128, 127) if self.target.signed else (0, 255)
        codes = []
        for real in (self.floor, self.ceiling):
            with np.errstate(over="ignore"):  # of the largest floats, which exporters write for no limit
                steps = np.rint(np.clip(np.float64(np.float32(real) / scale), -1024, 1024))
            codes.append(int(np.clip(steps + zero_point, smallest, largest)))
        return (codes[0] if codes[0] > smallest else None), (codes[1] if codes[1] < largest else None)

    def relu_and_limits(self) -> tuple[bool, tuple[int | None, int | None]]:
        """Return whether bytenorm's operators do the activation's floor, and what of :meth:`limits` is left."""
        lowest, highest = self.limits()
        relu = lowest is not None and lowest == int(self.target.zero_point.ravel()[0])
        return relu, (None if relu else lowest, highest)


def find_norms(graph: Graph, apart: Container[str] = (), source: Source | None = None) -> list[Norm]:
    """Find every batch norm of the main graph, in its order, with what surrounds it.

    Parameters
    ----------
    graph : Graph
        Not changed.
    apart : container of str, optional
        Labels of nodes that a BatchNormalization beside them is not one norm with.
    source : callable, optional
        Says how what a norm reads is quantized, or why it is not; without it, what a DequantizeLinear says.

    Returns
    -------
    list of Norm
    """
    found: list[Norm] = []
    taken: set[int] = set()
    for node in graph.nodes:
        if id(node) in taken:
            continue
        norm = written_out(graph, node, apart) or _standard(graph, node) or _lowered(graph, node)
        if norm is not None:
            taken.update(id(n) for n in norm.nodes)
            if not norm.lowered:
                _require_floats(graph, norm)
                _look_around(graph, norm, source)
            found.append(norm)
    return found


def _require_floats(graph: Graph, norm: Norm) -> None:
    data_type = graph.type_of(norm.input)[0]
    if data_type not in (0, TensorProto.FLOAT, *BYTES):
        norm.problem, norm.in_float32 = norm.problem or f"it works in {type_name(data_type)}", False


def find_hidden(graph: Graph) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Yield batch norms inside subgraphs (of If, Loop, Scan), each with the node of the main graph it is in."""
    for node in graph.nodes:
        for inner in _inner_nodes(node):
            if is_op(inner, "BatchNormalization"):
                yield inner, node


def _inner_nodes(node: NodeProto) -> Iterator[NodeProto]:
    for subgraph in subgraphs(node):
        for inner in subgraph.node:
            yield inner
            yield from _inner_nodes(inner)


def _standard(graph: Graph, node: NodeProto) -> Norm | None:
    if not is_op(node, "BatchNormalization"):
        return None
    norm = Norm(label(node), "BatchNormalization", [node], node.input[0], node.output[0])
    values = []
    for name, tensor in zip(PARAMETER_NAMES, node.input[1:5], strict=False):
        value = graph.constant(tensor)
        if value is None:
            norm.problem = f"its {name} ({tensor}) is not constant"
            return norm
        with np.errstate(over="ignore"):  # of float64, which makes an infinity here
            values.append(np.asarray(value, np.float32).ravel())
    sizes = [len(v) for v in values]
    epsilon = float(np.float32(attribute(node, "epsilon", 1e-5)))
    shape = graph.type_of(norm.input)[1]
    if not attribute(node, "spatial", 1):  # before opset 9
        norm.problem = "it has parameters of its own for each position"
    elif len(set(sizes)) > 1:
        lengths = ", ".join(f"{n} {size}" for n, size in zip(PARAMETER_NAMES, sizes, strict=True))
        norm.problem = f"its parameters have different lengths: {lengths}"
    elif shape is not None and len(shape) < 2:
        norm.problem = "its input has no axis of channels"
    elif shape is not None and shape[1] not in (None, sizes[0]):
        norm.problem = f"its parameters are for {sizes[0]} channels, its input has {shape[1]}"
    elif attribute(node, "training_mode", 0):
        norm.problem = "it is in training mode"
    elif any(node.output[1:]):
        norm.problem = "its running statistics are outputs"
    else:
        parameters = Parameters(values[0], values[1], values[2], values[3], epsilon)
        norm.problem = bad_values(parameters)
        norm.parameters = None if norm.problem else parameters
    norm.channels = sizes[0] if len(set(sizes)) == 1 else None
    return norm


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


# Norms written as arithmetic: Mul or Div, and Add or Sub, by per-channel constants, in any order and number. Caffe
# writes BatchNormalization, which normalizes only, with Mul and Add behind it: that is one norm, too.

_SCALING, _SHIFTING = ("Mul", "Div"), ("Add", "Sub")


@dataclass(frozen=True)
class _Step:
    """One arithmetic node with a constant, or a BatchNormalization: gain * x + shift."""

    node: NodeProto
    data: str
    gain: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    channels: int  # 1: one number for all channels
    scaling: bool
    reads: int | None  # in 8 bits: which input is the scale of the data
    norm: Norm | None = None  # what a BatchNormalization is by itself


def written_out(graph: Graph, node: NodeProto, apart: Container[str] = (), axis: int = CHANNELS) -> Norm | None:
    """Return the norm that begins with a node of arithmetic; None if none does.

    Parameters
    ----------
    graph : Graph
        Not changed.
    node : NodeProto
    apart : container of str, optional
        Labels of nodes that a BatchNormalization beside them is not one norm with.
    axis : int, optional
        That of the channels, -1 for the last one.

    Returns
    -------
    Norm or None
        Without what surrounds it.
    """
    steps: list[_Step] = []
    between: list[NodeProto] = []
    following: NodeProto | None = node
    conversions: list[NodeProto] = []
    while following is not None:
        step = _step(graph, following, axis)
        if step is None or len({s.channels for s in (*steps, step)} - {1}) > 1:
            break
        if steps and any(s.norm for s in (*steps, step)):
            if conversions:  # in 8 bits each has an output of its own
                break
            if any(label(s.node) in apart for s in (*steps, step)):
                break
        if not _passes_all(graph, steps, conversions, step):
            break
        steps.append(step)
        between += conversions
        following, conversions = _only_follower(graph, following.output[0])
    channels = max((s.channels for s in steps), default=1)
    named = next((s.norm for s in steps if s.norm is not None), None)
    if named is not None:
        if len(steps) == 1 or named.channels != channels:
            return None
    elif channels == 1 or len({s.scaling for s in steps}) == 1:
        return None
    with np.errstate(over="ignore"):
        parameters = _parameters(steps)
    if bad_values(parameters):
        return None
    last = steps[-1].node if named is None else named.nodes[0]
    # Of a constant alone nobody can tell which axis it is along: (1, 3, 1, 1) is along axis 2 of 5.
    of_unknown_rank = any(s.channels > 1 and graph.type_of(s.data)[1] is None for s in steps)
    return Norm(
        label(last),
        "+".join(s.node.op_type for s in steps),
        [s.node for s in steps],
        steps[0].data,
        steps[-1].node.output[0],
        channels=channels,
        parameters=None if of_unknown_rank else parameters,
        between=between,
        problem="the rank of its input is unknown" if of_unknown_rank else "",
    )


def _parameters(steps: list[_Step]) -> Parameters:
    """Return several steps as one norm. A BatchNormalization in front keeps its mean and variance."""
    first = steps[0].norm
    if first is None or first.parameters is None:
        return Parameters.of(*_combined(steps))
    p, (gain, shift) = first.parameters, _combined(steps[1:])
    scale, B = p.scale * gain, p.B * gain + shift  # noqa: N806 (as ONNX names it)
    return replace(p, scale=scale.astype(np.float32), B=B.astype(np.float32))


def _combined(steps: list[_Step]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return several steps as one gain and one shift."""
    gain, shift = np.ones(1), np.zeros(1)
    with np.errstate(all="ignore"):
        for step in steps:
            gain, shift = step.gain * gain, step.gain * shift + step.shift
    return gain, shift


def _passes_all(graph: Graph, steps: list[_Step], conversions: list[NodeProto], step: _Step) -> bool:
    """Say whether the codes between some steps and the next one, if there are any, only round."""
    if not steps:
        return True
    if step.reads is not None:  # in 8 bits
        made, _ = qparams(graph, steps[-1].node, 6, step.data, "")
        read, _ = qparams(graph, step.node, step.reads, step.data, "")
        if made is None or read is None or not made.equals(read):
            return False
        source, _ = qparams(graph, steps[0].node, steps[0].reads or 1, steps[0].data, "")
    elif conversions:
        made, _ = qparams(graph, conversions[0], 1, conversions[0].output[0], "")
        maker = graph.maker(steps[0].data)
        source = None
        if maker is not None and is_op(maker, "DequantizeLinear"):
            source, _ = qparams(graph, maker, 1, maker.input[0], "")
    else:
        return True
    return made is not None and made.per_tensor and not _stands_for_relu(made, source, steps)


def _stands_for_relu(q: QParams, source: QParams | None, steps: list[_Step]) -> bool:
    """Say whether codes between two steps cut off all numbers of a sign that do come.

    A quantizer drops a Relu in front of a conversion whose zero point is the lowest code: it saturates there.
    """
    low, high = q.range()
    if source is None or not source.per_tensor:
        return low == 0 or high == 0
    gain, shift = _combined(steps)
    ends = [gain * end + shift for end in source.range()]
    half = q.scalars[0] / 2
    return bool((low == 0 and np.min(ends) < -half) or (high == 0 and np.max(ends) > half))


def _step(graph: Graph, node: NodeProto, axis: int) -> _Step | None:
    scales: tuple[int | None, int | None] = (None, None)
    norm = _standard(graph, node) if axis == CHANNELS else None
    if norm is not None:
        if norm.parameters is None or norm.channels is None:
            return None
        gain, shift = norm.parameters.gain_and_shift()
        return _Step(node, norm.input, gain, shift, norm.channels, True, None, norm)
    if is_op(node, *_SCALING, *_SHIFTING):
        op, operands = node.op_type, list(node.input[:2])
        values = [graph.constant(t) for t in operands]
    elif node.domain == "com.microsoft" and node.op_type in ("QLinearMul", "QLinearAdd") and len(node.input) > 6:
        op = node.op_type.removeprefix("QLinear")
        values = [_quantized_constant(graph, node, 0), _quantized_constant(graph, node, 3)]
        operands, scales = [node.input[0], node.input[3]], (1, 4)
    else:
        return None
    if (values[0] is None) == (values[1] is None):
        return None
    at = 0 if values[0] is None else 1  # where the data is
    value = values[1 - at]
    data, reads = operands[at], scales[at]
    if value is None or not np.issubdtype(value.dtype, np.floating):
        return None
    if op == "Div" and (at == 1 or not np.all(value)):
        return None
    vector = _per_channel(value, graph.type_of(data)[1], axis)
    if vector is None or not np.all(np.isfinite(vector)):
        return None
    one, zero = np.ones(1), np.zeros(1)
    if op in _SCALING:
        return _Step(node, data, vector if op == "Mul" else 1 / vector, zero, len(vector), True, reads)
    if op == "Sub" and at == 1:  # constant - x is a gain of -1 as well
        return None
    return _Step(node, data, one, vector if op == "Add" else -vector, len(vector), False, reads)


def _quantized_constant(graph: Graph, node: NodeProto, first: int) -> npt.NDArray[np.generic] | None:
    """Return the numbers of a QLinearMul's or QLinearAdd's constant operand: input `first`, and two behind it."""
    codes, (q, _) = graph.constant(node.input[first]), qparams(graph, node, first + 1, node.input[first], "")
    if codes is None or q is None or not q.per_tensor or codes.dtype != q.zero_point.dtype:
        return None
    with np.errstate(all="ignore"):
        scale, zero_point = q.scalars
        real = (codes.astype(np.float64) - zero_point) * scale
        return real.astype(np.float32)


def _per_channel(
    value: npt.NDArray[np.generic], shape: tuple[int | None, ...] | None, axis: int
) -> npt.NDArray[np.float64] | None:
    """Return a constant as a vector if it has one number, or one for each of the channels of an axis."""
    numbers = np.asarray(value, np.float64)
    if shape is not None and numbers.ndim > len(shape):  # the result has more axes
        return None
    if numbers.size == 1:
        return numbers.reshape(1)
    rank = len(shape) if shape is not None else numbers.ndim  # a constant of full rank tells its axis
    if rank < 2 or numbers.ndim > rank or (shape is None and numbers.ndim < 3):
        return None
    padded = (1,) * (rank - numbers.ndim) + numbers.shape
    if padded[axis] != numbers.size or (shape is not None and shape[axis] not in (None, numbers.size)):
        return None
    return numbers.reshape(-1)


# What surrounds a norm


def _only_follower(graph: Graph, tensor: str) -> tuple[NodeProto | None, list[NodeProto]]:
    """Return the one reader of a tensor, behind a QuantizeLinear and its DequantizeLinear if these come first."""
    reader = graph.only_reader(tensor)
    if not is_op(reader, "QuantizeLinear") or reader is None:
        return reader, []
    dequantize = graph.only_reader(reader.output[0])
    if not is_op(dequantize, "DequantizeLinear") or dequantize is None:
        return None, []
    made, read = (qparams(graph, n, 1, reader.output[0], "")[0] for n in (reader, dequantize))
    if made is None or read is None or not made.equals(read):  # together they multiply, too
        return None, []
    return graph.only_reader(dequantize.output[0]), [reader, dequantize]


def _look_around(graph: Graph, norm: Norm, source: Source | None) -> None:
    if norm.written.startswith("QLinear"):
        _quantized_steps(graph, norm)
        return
    data_type = graph.type_of(norm.input)[0]
    if data_type not in (0, TensorProto.FLOAT):
        norm.problem = norm.problem or f"it works in {type_name(data_type)}"
    norm.source, problem = quantized_input(graph, norm) if source is None else source(norm)
    found = _quantized_output(graph, norm.output)
    activation, between = _only_follower(graph, norm.output)
    limits = activation_limits(graph, activation)
    if activation is not None and limits is not None:
        behind = _quantized_output(graph, activation.output[0])
        # An activation that stays in float, or whose input saturates before it, is not part of the norm.
        if not between or (behind.qparams is not None and _lets_pass(found.qparams, behind.qparams, limits)):
            norm.activation, (norm.floor, norm.ceiling), found = activation, limits, behind
            norm.between = norm.between + between
    norm.quantize, norm.target = found.quantize, found.qparams
    norm.problem = norm.problem or problem or found.problem or _misfit(graph, norm)


def _lets_pass(before: QParams | None, behind: QParams, limits: tuple[float, float]) -> bool:
    """Say whether a conversion before an activation keeps every number that can be told apart behind it."""
    if before is None or not before.per_tensor or not behind.per_tensor:
        return False
    half = behind.scalars[0] / 2
    low, high = before.range()
    lowest, highest = behind.range()
    return low <= max(lowest, limits[0]) + half and high >= min(highest, limits[1]) - half


def activation_limits(graph: Graph, node: NodeProto | None) -> tuple[float, float] | None:
    """Return the bounds that a Relu or Clip sets; None if it is neither, or they are not constant."""
    if node is None or not is_op(node, "Relu", "Clip"):
        return None
    if node.op_type == "Relu":
        return 0.0, np.inf
    limits = [attribute(node, "min", -np.inf), attribute(node, "max", np.inf)]
    for i, tensor in enumerate(node.input[1:3]):
        if tensor:
            value = graph.constant(tensor)
            if value is None or value.size != 1:
                return None
            limits[i] = float(np.asarray(value).ravel()[0])
    return None if np.isnan(limits).any() else (limits[0], limits[1])


def _is_conversion(node: NodeProto, op: str) -> bool:
    """Say whether a node is this conversion, the standard one or ONNX Runtime's, which knows other types too."""
    return node.op_type == op and node.domain in ("", "ai.onnx", "com.microsoft")


def quantized_input(graph: Graph, norm: Norm) -> tuple[QParams | None, str]:
    """Return how what a norm reads is quantized, or why it is not."""
    maker = graph.maker(norm.input)
    if maker is None or not _is_conversion(maker, "DequantizeLinear"):
        return None, "its input is not quantized"
    return qparams(graph, maker, 1, maker.input[0], "its input")


@dataclass(frozen=True)
class _Output:
    """How what a norm makes is quantized, or why it is not."""

    quantize: NodeProto | None
    qparams: QParams | None
    problem: str


def _quantized_output(graph: Graph, tensor: str) -> _Output:
    readers = graph.readers(tensor)
    quantizers = [r for r in readers if _is_conversion(r, "QuantizeLinear") and r.input[0] == tensor]
    others = [r for r in readers if r not in quantizers]
    if not quantizers:
        return _Output(None, None, "its output is not quantized")
    if others or graph.is_read_elsewhere(tensor):
        reader = "an output of the model" if tensor in graph.outputs else "a subgraph"
        if others:
            reader = f"{others[0].op_type} {label(others[0])}"
        return _Output(None, None, f"its output is also read in float, by {reader}")
    if len(quantizers) > 1:
        return _Output(None, None, "its output is quantized in several ways")
    return _Output(quantizers[0], *qparams(graph, quantizers[0], 1, quantizers[0].output[0], "its output"))


def _misfit(graph: Graph, norm: Norm) -> str:
    if norm.source is not None and norm.source.path is not None:
        problem = _off_limits(norm, norm.source.path)
        if problem:
            return problem
    elif norm.source is not None and not norm.source.per_tensor:
        for what, p in (("scales", norm.source.scale), ("zero points", norm.source.zero_point)):
            if p.size not in (1, norm.channels):
                return f"its input has {p.size} {what}, it has {norm.channels} channels"
        maker, shape = graph.maker(norm.input), graph.type_of(norm.input)[1]
        axis = 1 if maker is None else attribute(maker, "axis", 1)
        if axis != 1 and (shape is None or axis + len(shape) != 1):
            return "its input is quantized along another axis than that of the channels"
    if norm.target is not None and not norm.target.per_tensor:
        return "its output is quantized per channel"
    return ""


def _off_limits(norm: Norm, path: Path) -> str:
    """Say whether a limit between two codes, moved to one of them, may change a result by more than one code."""
    if norm.parameters is None or norm.target is None or not norm.target.per_tensor:
        return ""
    gain, _ = norm.parameters.gain_and_shift()
    with np.errstate(over="ignore"):
        moved = np.max(np.abs(gain), initial=0.0) * path.off / norm.target.scalars[0]
    return "" if moved < 1 else "a limit in front of it lies between two codes, too far from either"


def qparams(graph: Graph, node: NodeProto, at: int, codes: str, what: str) -> tuple[QParams | None, str]:
    """Return the quantization of a tensor whose scale is input `at` of a node, or why it is of no use.

    `what` is what the reason calls the tensor.
    """
    if len(node.input) <= at:  # of an operator that has any number of inputs
        return None, f"{what} has no scale"
    scale_name = node.input[at]
    zero_point_name = node.input[at + 1] if len(node.input) > at + 1 else ""
    scale = graph.constant(scale_name)
    if scale is None:
        return None, f"the scale of {what} is not constant"
    if attribute(node, "block_size", 0):
        return None, f"{what} is quantized in blocks"
    precision = attribute(node, "precision", int(TensorProto.FLOAT))
    if precision not in (0, TensorProto.FLOAT):
        return None, f"{what} is quantized in {type_name(precision)}"
    zero_point: npt.NDArray[np.generic] | None
    if zero_point_name:
        zero_point = graph.constant(zero_point_name)
        if zero_point is None:
            return None, f"the zero point of {what} is not constant"
    else:
        data_type = graph.type_of(codes)[0] or attribute(node, "output_dtype", 0) or TensorProto.UINT8
        if data_type not in BYTES:
            return None, f"{what} is quantized to {type_name(data_type)}"
        zero_point = np.zeros((), np.int8 if data_type == TensorProto.INT8 else np.uint8)
    if zero_point.dtype not in (np.uint8, np.int8):
        return None, f"{what} is quantized to {zero_point.dtype}"
    scale = np.asarray(scale)
    sizes = scale.size, zero_point.size
    if 0 in sizes or (sizes[0] != sizes[1] and 1 not in sizes):
        return None, f"{what} has {sizes[0]} scales and {sizes[1]} zero points"
    if scale.dtype != np.float32:
        return None, f"the scale of {what} is {scale.dtype}"
    numbers = scale.astype(np.float32)
    with np.errstate(divide="ignore", over="ignore"):
        usable = np.isfinite(numbers) & (numbers > 0) & np.isfinite(np.float32(1) / numbers)
    if not np.all(usable):
        return None, f"the scale of {what} is {scale.ravel()[np.flatnonzero(~usable.ravel())[0]]!s}"
    return QParams(codes, scale_name, zero_point_name, numbers, zero_point), ""


def _quantized_steps(graph: Graph, norm: Norm) -> None:
    """Find the quantization of QLinearMul and QLinearAdd in their inputs."""
    first, last = norm.nodes[0], norm.nodes[-1]
    at = 1 if first.input[0] == norm.input else 4
    norm.source, problem = qparams(graph, first, at, norm.input, "its input")
    norm.target, why = qparams(graph, last, 6, norm.output, "its output")
    norm.problem = norm.problem or problem or why or _misfit(graph, norm)


# Norms that are lowered already

PREPARED = "bytenorm.prepared"  # what a model's metadata calls the norms in disguise
LOWERED = "bytenorm.lowering"  # what a model's metadata calls the way in which its norms were lowered


def is_prepared(model: ModelProto) -> bool:
    """Say whether a model holds norms in disguise."""
    return any(entry.key == PREPARED for entry in model.metadata_props)


def _has_lowered_norms(model: ModelProto) -> bool:
    return any(entry.key == LOWERED for entry in model.metadata_props)


# bytenorm's operators: what they compute, where the (first) tensor that they read is, and where their scale.
_OPERATORS = {
    OPERATOR: ("single", 0, 3),
    CONCAT_OPERATOR: ("concat", 8, 0),
    ADD_OPERATOR: ("add", 0, 6),
}


def _lowered(graph: Graph, node: NodeProto) -> Norm | None:
    if node.domain == DOMAIN and node.op_type in _OPERATORS:
        pattern, data, weight_at = _OPERATORS[node.op_type]
        norm = Norm(label(node), node.op_type, [node], node.input[data], node.output[0], lowered=True)
        norm.pattern = pattern + (" + pool" if attribute(node, "pool", 0) else "")
        weight = graph.constant(node.input[weight_at])
        norm.channels = None if weight is None else int(weight.size)
        return norm
    conv = codes_conv(graph, node)
    if conv is None or not is_norm(graph, node, conv):
        return None
    channels = attribute(node, "group", 1)
    # In a model that was not lowered it is more likely a convolution of its own.
    if (node.op_type == "Conv" or channels == 1) and not _has_lowered_norms(graph.model):
        return None
    written = f"depthwise {node.op_type}"
    return Norm(label(node), written, [node], conv.x.codes, conv.y.codes, channels, lowered=True)
