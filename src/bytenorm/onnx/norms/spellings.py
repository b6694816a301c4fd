"""Norms as they are written in float: a BatchNormalization, or arithmetic with constants.

Mul or Div, and Add or Sub, by per-channel constants, in any order and number. Caffe writes BatchNormalization,
which normalizes only, with Mul and Add behind it: that is one norm, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..._norms import obstacles
from ..graph.graph import CONTRIBUTED, attribute, is_op, label
from .inner_codes import Cut
from .norm import CHANNELS, PARAMETER_NAMES, Norm, Parameters, bad_values
from .qparams import dequantized, qparams
from .surroundings import only_follower

if TYPE_CHECKING:
    from collections.abc import Container

    import numpy.typing as npt
    from onnx import NodeProto

    from ..graph.graph import Graph
    from .qparams import QParams


def standard(graph: Graph, node: NodeProto) -> Norm | None:
    """Return a BatchNormalization as a norm; None if a node is none."""
    if not is_op(node, "BatchNormalization"):
        return None
    norm = Norm(label(node), "BatchNormalization", [node], node.input[0], node.output[0])
    values = []
    for name, tensor in zip(PARAMETER_NAMES, node.input[1:5], strict=False):
        value = graph.constant(tensor)
        if value is None:
            norm.problem = obstacles.of_parameter(f"{name} ({tensor})")
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
    elif sizes[0] == 0:
        norm.problem = "it has no channels"
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
    cut: Cut | None = None
    while following is not None:
        step = _step(graph, following, axis)
        if step is None or len({s.channels for s in (*steps, step)} - {1}) > 1:
            break
        if steps and any(s.norm for s in (*steps, step)):
            if conversions:  # in 8 bits each has an output of its own
                break
            if any(label(s.node) in apart for s in (*steps, step)):
                break
        if steps and (conversions or step.reads is not None):
            codes, source = _codes_between(graph, steps, conversions, step), _codes_read(graph, steps[0])
            if codes is None or not codes.per_tensor or _stands_for_relu(codes, source, steps):
                break
            cut = (cut or Cut.nothing()).rounded(codes)
        cut = cut and cut.behind(step.gain, step.shift)
        steps.append(step)
        between += conversions
        following, conversions = only_follower(graph, following.output[0])
    channels = max((s.channels for s in steps), default=1)
    named = next((s.norm for s in steps if s.norm is not None), None)
    if named is not None:
        if len(steps) == 1 or named.channels != channels:
            return None
    elif channels <= 1 or len({s.scaling for s in steps}) == 1:
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
        cut=cut,
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


def _codes_between(graph: Graph, steps: list[_Step], conversions: list[NodeProto], step: _Step) -> QParams | None:
    """Return the codes between some steps and the next one; None where they are read in another quantization."""
    if step.reads is not None:  # in 8 bits
        made, _ = qparams(graph, steps[-1].node, 6, step.data, "")
        read, _ = qparams(graph, step.node, step.reads, step.data, "")
        return made if made is not None and read is not None and made.equals(read) else None
    return qparams(graph, conversions[0], 1, conversions[0].output[0], "")[0]


def _codes_read(graph: Graph, first: _Step) -> QParams | None:
    """Return the codes that a step reads; None if it reads what is in float."""
    if first.reads is not None:
        return qparams(graph, first.node, first.reads, first.data, "")[0]
    return dequantized(graph, first.data)[0]


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
    norm = standard(graph, node) if axis == CHANNELS else None
    if norm is not None:
        if norm.parameters is None or norm.channels is None:
            return None
        gain, shift = norm.parameters.gain_and_shift()
        return _Step(node, norm.input, gain, shift, norm.channels, True, None, norm)
    if is_op(node, *_SCALING, *_SHIFTING):
        op, operands = node.op_type, list(node.input[:2])
        values = [graph.constant(t) for t in operands]
    elif node.domain == CONTRIBUTED and node.op_type in ("QLinearMul", "QLinearAdd") and len(node.input) > 6:
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
