"""What surrounds a norm: the conversions before and behind it, and its activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from ..._norms import obstacles
from ..graph.graph import attribute, is_conversion, is_op, label, type_name
from .qparams import dequantized, qparams

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import NodeProto

    from ..graph.graph import Graph
    from .norm import Norm
    from .qparams import Path, QParams

    Source = Callable[["Norm"], tuple["QParams | None", str]]


def only_follower(graph: Graph, tensor: str) -> tuple[NodeProto | None, list[NodeProto]]:
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


def look_around(graph: Graph, norm: Norm, source: Source | None) -> None:
    """Find the conversions and the activation of a norm, or its problem."""
    if norm.written.startswith("QLinear"):
        _quantized_steps(graph, norm)
        return
    data_type = graph.type_of(norm.input)[0]
    if data_type not in (0, TensorProto.FLOAT):
        norm.problem = norm.problem or f"it works in {type_name(data_type)}"
    norm.source, problem = quantized_input(graph, norm) if source is None else source(norm)
    found = _quantized_output(graph, norm.output)
    activation, between = only_follower(graph, norm.output)
    limits = activation_limits(graph, activation)
    if activation is not None and limits is not None:
        behind = _quantized_output(graph, activation.output[0])
        # An activation that stays in float, or whose input saturates before it, is not part of the norm.
        if not between or (behind.qparams is not None and _lets_pass(found.qparams, behind.qparams, limits)):
            norm.activation, (norm.floor, norm.ceiling), found = activation, limits, behind
            norm.between = norm.between + between
    norm.quantize, norm.target = found.quantize, found.qparams
    norm.problem = norm.problem or problem or found.problem or _misfit(graph, norm) or _saturates(norm)


def _lets_pass(before: QParams | None, behind: QParams, limits: tuple[float, float]) -> bool:
    """Say whether a conversion before an activation keeps every number that can be told apart behind it."""
    if before is None or not before.per_tensor or not behind.per_tensor:
        return False
    half = before.scalars[0] / 2 * (1 + 1e-6)  # what rounding moves
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


def quantized_input(graph: Graph, norm: Norm) -> tuple[QParams | None, str]:
    """Return how what a norm reads is quantized, or why it is not."""
    return dequantized(graph, norm.input, "its input")


@dataclass(frozen=True)
class _Output:
    """How what a norm makes is quantized, or why it is not."""

    quantize: NodeProto | None
    qparams: QParams | None
    problem: str


def _quantized_output(graph: Graph, tensor: str) -> _Output:
    readers = graph.readers(tensor)
    quantizers = [r for r in readers if is_conversion(r, "QuantizeLinear") and r.input[0] == tensor]
    others = [r for r in readers if r not in quantizers]
    reader = ""
    if graph.is_read_elsewhere(tensor):
        reader = "an output of the model" if tensor in graph.outputs else "a subgraph"
    if others:
        reader = f"{others[0].op_type} {label(others[0])}"
    problem = obstacles.of_readers(len(quantizers), reader)
    if problem:
        return _Output(None, None, problem)
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
            if norm.channels is not None and (problem := obstacles.of_channels(p.size, norm.channels, what)):
                return problem
        maker, shape = graph.maker(norm.input), graph.type_of(norm.input)[1]
        axis = 1 if maker is None else attribute(maker, "axis", 1)
        if axis != 1 and (shape is None or axis + len(shape) != 1):
            return "its input is quantized along another axis than that of the channels"
    return "" if norm.target is None else obstacles.of_target(per_tensor=norm.target.per_tensor)


def _off_limits(norm: Norm, path: Path) -> str:
    """Say whether a limit between two codes, moved to one of them, may change a result by more than one code."""
    if norm.parameters is None or norm.target is None or not norm.target.per_tensor:
        return ""
    gain, _ = norm.parameters.gain_and_shift()
    with np.errstate(over="ignore"):
        moved = np.max(np.abs(gain), initial=0.0) * path.off / norm.target.scalars[0]
    return "" if moved < 1 else "a limit in front of it lies between two codes, too far from either"


def _quantized_steps(graph: Graph, norm: Norm) -> None:
    """Find the quantization of QLinearMul and QLinearAdd in their inputs."""
    first, last = norm.nodes[0], norm.nodes[-1]
    at = 1 if first.input[0] == norm.input else 4
    norm.source, problem = qparams(graph, first, at, norm.input, "its input")
    norm.target, why = qparams(graph, last, 6, norm.output, "its output")
    norm.problem = norm.problem or problem or why or _misfit(graph, norm) or _saturates(norm)


def _saturates(norm: Norm) -> str:
    """Say whether the codes between the steps of a norm cut off numbers that its output tells apart."""
    source = norm.source
    if norm.cut is None or norm.parameters is None or source is None or norm.target is None:
        return ""
    if source.path is not None and source.path.is_sum:  # it has no codes of its own
        shows = norm.site().saturates_inside(-np.inf, np.inf)
    else:
        lowest = -128 if source.signed else 0
        scale, zero_point = (v.astype(np.float64).ravel() for v in (source.scale, source.zero_point))
        shows = norm.site().saturates_inside(*((code - zero_point) * scale for code in (lowest, lowest + 255)))
    return "codes between its steps cut off numbers" if shows else ""
