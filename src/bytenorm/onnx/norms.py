"""Finds the batch norms of a graph, however they are written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from .function import DOMAIN, OPERATOR
from .graph import Graph, attribute, is_op, label, type_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from onnx import NodeProto

    Vector = npt.NDArray[np.float32]

BYTES = (TensorProto.UINT8, TensorProto.INT8)
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


@dataclass(frozen=True)
class QParams:
    """The quantization of a tensor of bytes, and the tensors that hold it."""

    codes: str
    scale_name: str
    zero_point_name: str  # empty: there is none, it is 0
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.generic]

    @property
    def signed(self) -> bool:
        """Whether the bytes are int8."""
        return self.zero_point.dtype == np.int8

    @property
    def per_tensor(self) -> bool:
        """Whether one scale is for all channels."""
        return self.scale.size == 1 and self.zero_point.size == 1


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
    activation: NodeProto | None = None
    floor: float = -np.inf  # of the activation
    ceiling: float = np.inf
    lowered: bool = False  # computes in 8 bits already
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
            steps = np.rint(np.clip(np.float64(np.float32(real) / scale), -1024, 1024))
            codes.append(int(np.clip(steps + zero_point, smallest, largest)))
        return (codes[0] if codes[0] > smallest else None), (codes[1] if codes[1] < largest else None)


def find_norms(graph: Graph) -> list[Norm]:
    """Find every batch norm of the main graph, in its order, with what surrounds it.

    Parameters
    ----------
    graph : Graph
        Not changed.

    Returns
    -------
    list of Norm
    """
    found: list[Norm] = []
    taken: set[int] = set()
    for node in graph.nodes:
        if id(node) in taken:
            continue
        norm = _standard(graph, node) or _written_out(graph, node) or _lowered(graph, node)
        if norm is not None:
            taken.update(id(n) for n in norm.nodes)
            if not norm.lowered:
                _look_around(graph, norm)
            found.append(norm)
    return found


def find_hidden(graph: Graph) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Yield batch norms inside subgraphs (of If, Loop, Scan), each with the node of the main graph it is in."""
    for node in graph.nodes:
        for inner in _inner_nodes(node):
            if is_op(inner, "BatchNormalization"):
                yield inner, node


def _inner_nodes(node: NodeProto) -> Iterator[NodeProto]:
    for a in node.attribute:
        for subgraph in ([a.g] if a.HasField("g") else []) + list(a.graphs):
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
        values.append(np.asarray(value, np.float32).ravel())
    sizes = [len(v) for v in values]
    epsilon = float(np.float32(attribute(node, "epsilon", 1e-5)))
    if len(values) < 4:
        norm.problem = f"it has {len(values)} parameters instead of 4"
    elif len(set(sizes)) > 1:
        lengths = ", ".join(f"{n} {size}" for n, size in zip(PARAMETER_NAMES, sizes, strict=True))
        norm.problem = f"its parameters have different lengths: {lengths}"
    elif attribute(node, "training_mode", 0):
        norm.problem = "it is in training mode"
    elif any(node.output[1:]):
        norm.problem = "its running statistics are outputs"
    else:
        parameters = Parameters(values[0], values[1], values[2], values[3], epsilon)
        norm.problem = _bad_values(parameters)
        norm.parameters = None if norm.problem else parameters
    norm.channels = sizes[0] if len(set(sizes)) == 1 else None
    return norm


def _bad_values(p: Parameters) -> str:
    for name in PARAMETER_NAMES:
        bad = np.flatnonzero(~np.isfinite(getattr(p, name)))
        if bad.size:
            return f"its {name} has {getattr(p, name)[bad[0]]} in channel {bad[0]}"
    bad = np.flatnonzero(~(p.input_var + np.float32(p.epsilon) > 0) | (p.input_var < 0))
    if bad.size:
        return f"its input_var is {p.input_var[bad[0]]} in channel {bad[0]}"
    return ""


# Norms written as arithmetic: a Mul or Div and an Add or Sub by per-channel constants, in either order.

_SCALING, _SHIFTING = ("Mul", "Div"), ("Add", "Sub")


@dataclass(frozen=True)
class _Step:
    """One arithmetic node with a constant: gain * x + shift."""

    node: NodeProto
    data: str
    gain: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]
    channels: int  # 1: one number for all channels
    scaling: bool


def _written_out(graph: Graph, node: NodeProto) -> Norm | None:
    first = _step(graph, node)
    if first is None:
        return None
    following, between = _only_follower(graph, node.output[0])
    second = _step(graph, following) if following is not None else None
    if second is None or following is None or second.scaling == first.scaling:
        return None
    if second.data not in (node.output[0], *(t for n in between for t in n.output)):
        return None
    sizes = {first.channels, second.channels} - {1}
    if len(sizes) != 1:
        return None
    gain = second.gain * first.gain
    shift = second.gain * first.shift + second.shift
    return Norm(
        label(following),
        f"{node.op_type}+{following.op_type}",
        [node, following],
        first.data,
        following.output[0],
        channels=sizes.pop(),
        parameters=Parameters.of(gain, shift),
        between=between,
    )


def _step(graph: Graph, node: NodeProto) -> _Step | None:
    if is_op(node, *_SCALING, *_SHIFTING):
        op, operands = node.op_type, [(node.input[0], ""), (node.input[1], "")]
        values = [graph.constant(t) for t, _ in operands]
    elif node.domain == "com.microsoft" and node.op_type in ("QLinearMul", "QLinearAdd"):
        op = node.op_type.removeprefix("QLinear")
        values = [_quantized_constant(graph, node, 0), _quantized_constant(graph, node, 3)]
        operands = [(node.input[0], ""), (node.input[3], "")]
    else:
        return None
    if (values[0] is None) == (values[1] is None):
        return None
    at = 0 if values[0] is None else 1  # where the data is
    value = values[1 - at]
    data = operands[at][0]
    if value is None or (op == "Div" and (at == 1 or not np.all(value))):
        return None
    vector = _per_channel(value, graph.type_of(data)[1])
    if vector is None or not np.all(np.isfinite(vector)):
        return None
    one, zero = np.ones(1), np.zeros(1)
    if op in _SCALING:
        return _Step(node, data, vector if op == "Mul" else 1 / vector, zero, len(vector), True)
    if op == "Sub" and at == 1:  # constant - x is a gain of -1 as well
        return None
    return _Step(node, data, one, vector if op == "Add" else -vector, len(vector), False)


def _quantized_constant(graph: Graph, node: NodeProto, first: int) -> npt.NDArray[np.generic] | None:
    codes, scale = graph.constant(node.input[first]), graph.constant(node.input[first + 1])
    zero_point = graph.constant(node.input[first + 2]) if node.input[first + 2] else np.zeros(1)
    if codes is None or scale is None or zero_point is None or scale.size != 1:
        return None
    return ((codes.astype(np.float64) - float(zero_point.ravel()[0])) * float(scale.ravel()[0])).astype(np.float32)


def _per_channel(
    value: npt.NDArray[np.generic], shape: tuple[int | None, ...] | None
) -> npt.NDArray[np.float64] | None:
    """Return a constant as a vector if it has one number, or one for each of the channels of axis 1."""
    numbers = np.asarray(value, np.float64)
    if numbers.size == 1:
        return numbers.reshape(1)
    rank = len(shape) if shape is not None else numbers.ndim  # a constant of full rank tells its axis
    if rank < 2 or numbers.ndim > rank or (shape is None and numbers.ndim < 3):
        return None
    padded = (1,) * (rank - numbers.ndim) + numbers.shape
    if padded[1] != numbers.size or (shape is not None and shape[1] not in (None, numbers.size)):
        return None
    return numbers.reshape(-1)


# What surrounds a norm


def _only_follower(graph: Graph, tensor: str) -> tuple[NodeProto | None, list[NodeProto]]:
    """Return the one reader of a tensor, behind a QuantizeLinear and DequantizeLinear if these come first."""
    reader = graph.only_reader(tensor)
    if not is_op(reader, "QuantizeLinear") or reader is None:
        return reader, []
    dequantize = graph.only_reader(reader.output[0])
    if not is_op(dequantize, "DequantizeLinear") or dequantize is None:
        return None, []
    return graph.only_reader(dequantize.output[0]), [reader, dequantize]


def _look_around(graph: Graph, norm: Norm) -> None:
    if norm.nodes[-1].op_type == "QLinearAdd" or norm.nodes[-1].op_type == "QLinearMul":
        _quantized_steps(graph, norm)
        return
    activation, between = _only_follower(graph, norm.output)
    if activation is not None and is_op(activation, "Relu", "Clip"):
        limits = _limits(graph, activation)
        if limits is not None:
            norm.activation, (norm.floor, norm.ceiling) = activation, limits
            norm.between = norm.between + between
    _find_quantization(graph, norm)


def _limits(graph: Graph, node: NodeProto) -> tuple[float, float] | None:
    if node.op_type == "Relu":
        return 0.0, np.inf
    limits = [attribute(node, "min", -np.inf), attribute(node, "max", np.inf)]
    for i, tensor in enumerate(node.input[1:3]):
        if tensor:
            value = graph.constant(tensor)
            if value is None or value.size != 1:
                return None
            limits[i] = float(np.asarray(value).ravel()[0])
    return limits[0], limits[1]


def _find_quantization(graph: Graph, norm: Norm) -> None:
    maker = graph.maker(norm.input)
    problem = ""
    if maker is None or not is_op(maker, "DequantizeLinear"):
        problem = "its input is not quantized"
    else:
        norm.source, problem = _qparams(graph, maker, maker.input[0], "its input")
    last = norm.activation.output[0] if norm.activation is not None else norm.output
    readers = graph.readers(last)
    quantizers = [r for r in readers if is_op(r, "QuantizeLinear") and r.input[0] == last]
    others = [r for r in readers if r not in quantizers]
    if problem:
        pass
    elif not quantizers:
        problem = "its output is not quantized"
    elif others or graph.is_read_elsewhere(last):
        reader = f"{others[0].op_type} {label(others[0])}" if others else "an output of the model"
        problem = f"its output is also read in float, by {reader}"
    elif len(quantizers) > 1:
        problem = "its output is quantized in several ways"
    else:
        norm.quantize = quantizers[0]
        norm.target, problem = _qparams(graph, norm.quantize, norm.quantize.output[0], "its output")
    norm.problem = norm.problem or problem or _misfit(graph, norm)


def _misfit(graph: Graph, norm: Norm) -> str:
    if norm.source is not None and not norm.source.per_tensor:
        for what, p in (("scales", norm.source.scale), ("zero points", norm.source.zero_point)):
            if p.size not in (1, norm.channels):
                return f"its input has {p.size} {what}, it has {norm.channels} channels"
        maker = graph.maker(norm.input)
        if maker is not None and int(attribute(maker, "axis", 1)) != 1:
            return "its input is quantized along another axis than that of the channels"
    if norm.target is not None and not norm.target.per_tensor:
        return "its output is quantized per channel"
    return ""


def _qparams(graph: Graph, node: NodeProto, codes: str, what: str) -> tuple[QParams | None, str]:
    scale_name = node.input[1]
    zero_point_name = node.input[2] if len(node.input) > 2 else ""
    scale = graph.constant(scale_name)
    if scale is None:
        return None, f"the scale of {what} is not constant"
    if attribute(node, "block_size", 0):
        return None, f"{what} is quantized in blocks"
    zero_point: npt.NDArray[np.generic] | None
    if zero_point_name:
        zero_point = graph.constant(zero_point_name)
        if zero_point is None:
            return None, f"the zero point of {what} is not constant"
    else:
        data_type = graph.type_of(codes)[0] or int(attribute(node, "output_dtype", 0)) or TensorProto.UINT8
        if data_type not in BYTES:
            return None, f"{what} is quantized to {type_name(data_type)}"
        zero_point = np.zeros((), np.int8 if data_type == TensorProto.INT8 else np.uint8)
    if zero_point.dtype not in (np.uint8, np.int8):
        return None, f"{what} is quantized to {zero_point.dtype}"
    scale = np.asarray(scale)
    if scale.dtype != np.float32:
        return None, f"the scale of {what} is {scale.dtype}"
    numbers = scale.astype(np.float32)
    with np.errstate(divide="ignore", over="ignore"):
        usable = np.isfinite(numbers) & (numbers > 0) & np.isfinite(np.float32(1) / numbers)
    if not np.all(usable):
        return None, f"the scale of {what} is {scale.ravel()[np.flatnonzero(~usable.ravel())[0]]}"
    return QParams(codes, scale_name, zero_point_name, numbers, zero_point), ""


def _quantized_steps(graph: Graph, norm: Norm) -> None:
    """QLinearMul then QLinearAdd: the quantization is in their inputs."""
    first, last = norm.nodes
    at = 0 if first.input[0] == norm.input else 3
    names = (
        [first.input[at + 1], first.input[at + 2]],
        [last.input[6], last.input[7] if len(last.input) > 7 else ""],
    )
    found = []
    for (scale_name, zero_point_name), codes in zip(names, (norm.input, norm.output), strict=True):
        scale, zero_point = graph.constant(scale_name), graph.constant(zero_point_name)
        if scale is None or zero_point is None or zero_point.dtype not in (np.uint8, np.int8):
            norm.problem = "its quantization is not constant"
            return
        found.append(QParams(codes, scale_name, zero_point_name, np.asarray(scale, np.float32), zero_point))
    norm.source, norm.target = found


# Norms that are lowered already


def _lowered(graph: Graph, node: NodeProto) -> Norm | None:
    if node.domain == DOMAIN and node.op_type == OPERATOR:
        norm = Norm(label(node), OPERATOR, [node], node.input[0], node.output[0], lowered=True)
        weight = graph.constant(node.input[3])
        norm.channels = None if weight is None else int(weight.size)
        return norm
    if is_op(node, "QLinearConv") and len(node.input) > 3:
        weight = graph.constant(node.input[3])
        if weight is None or weight.ndim < 3 or weight.shape[1:] != (1,) * (weight.ndim - 1):
            return None
        if int(attribute(node, "group", 1)) != weight.shape[0]:
            return None
        norm = Norm(label(node), "depthwise QLinearConv", [node], node.input[0], node.output[0], lowered=True)
        norm.channels = int(weight.shape[0])
        return norm
    return None
