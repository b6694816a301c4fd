"""Finds what of a norm can be measured: the codes that it reads, those that it makes, and the norm in float."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..onnx.graph.graph import Graph, attribute, is_op
from ..onnx.graph.qlinear_conv import codes_conv
from ..onnx.norms.norm import PARAMETER_NAMES, Norm, Parameters
from ..onnx.norms.qparams import QParams, qparams
from ..onnx.norms.surroundings import activation_limits
from ..onnx.operators.functions import add_functions
from ..onnx.operators.schema import ADD, CONCAT, NORMS, PARAMETERS, SINGLE, SUM

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import NodeProto

    from ..onnx.graph.qlinear_conv import CodesConv, Place
    from ..onnx.operators.schema import Schema

    Reals = npt.NDArray[np.float64]

CONVOLUTION = (
    "A norm written as a depthwise convolution: its own parameters are no longer in the model. The float norm "
    "here is what the convolution computes before it rounds, which is the norm's own to a fraction of a step."
)
CUT = (
    "An output whose range begins or ends at 0: the range does the work of a Relu, which quantizers drop. What is "
    "beyond 0 counts neither as clipped nor as an error."
)


class NotMeasured(Exception):  # noqa: N818 - no error: it carries the reason
    """Why a norm cannot be measured."""


@dataclass(frozen=True)
class Spot:
    """A norm between tensors of codes, and what it computes in float: ``gain * x + shift``, then limits.

    `pieces` are the tensors that it reads, side by side on the axis of the channels; more than one only for a norm
    that is one operator with a concatenation.
    """

    name: str
    written: str
    activation: str
    notes: tuple[str, ...]  # what to know when reading its numbers
    pieces: tuple[QParams, ...]
    target: QParams
    gain: Reals
    shift: Reals
    floor: float
    ceiling: float
    axis: int
    limits: tuple[int | None, int | None] = (None, None)  # of the codes, by a Clip behind the target


def spot_of(graph: Graph, norm: Norm) -> Spot:
    """Return what of a norm can be measured.

    Parameters
    ----------
    graph : Graph
        Its sums get an output if they have none and a norm is one operator with them.
    norm : Norm
        Of the graph, as `find_norms` gives it.

    Raises
    ------
    NotMeasured
        If it runs in float, or its own input or output is nowhere in the model.
    """
    if norm.lowered:
        found = _lowered(graph, norm)
    elif norm.problem:
        raise NotMeasured(norm.problem)
    else:
        site = norm.site()
        gain, shift = site.parameters.gain_and_shift()
        pieces, activation = (site.source,), site.activation
        found = Spot(
            norm.name, norm.written, activation, (), pieces, site.target, gain, shift, site.floor, site.ceiling, 1
        )
    return _with_saturation(found)


def _with_saturation(spot: Spot) -> Spot:
    """Let a range that begins or ends at 0 be a limit: a quantizer drops a Relu in front of such a range."""
    low, high = spot.target.range()
    notes = (*spot.notes, CUT)
    if low == 0 and spot.floor < 0:
        return replace(spot, floor=0.0, notes=notes)
    if high == 0 and spot.ceiling > 0:
        return replace(spot, ceiling=0.0, notes=notes)
    return spot


# Norms that are lowered already


def _lowered(graph: Graph, norm: Norm) -> Spot:
    node = norm.nodes[0]
    conv = codes_conv(graph, node)
    if conv is not None:
        return _convolution(graph, norm, conv)
    relu = bool(attribute(node, "relu", 0))
    axis = -1 if attribute(node, "channels_last", 0) else 1
    schema = NORMS[node.op_type]
    if schema is SUM:
        raise NotMeasured("it reads a sum that nobody rounds to codes")
    if attribute(node, "pool", 0):
        raise NotMeasured("it averages what it makes before anyone sees it: report before lowering")
    if schema is CONCAT:
        pieces = _pieces(graph, node)
    elif schema is ADD:
        pieces = (_sum(graph, node),)
    else:
        pieces = (_known(graph, node, SINGLE.place("x_scale"), SINGLE.of(node, "X"), "its input"),)
    target = _known_output(graph, node, schema.place("y_scale"), node.output[0])
    limits = _behind(graph, target)
    floor, ceiling = _real(target, limits)
    gain, shift = _parameters(graph, node, schema).gain_and_shift()
    floor = max(floor, 0.0) if relu else floor
    activation = "Clip" if limits != (None, None) else "Relu" if relu else ""
    return Spot(norm.name, norm.written, activation, (), pieces, target, gain, shift, floor, ceiling, axis, limits)


def _parameters(graph: Graph, node: NodeProto, schema: Schema) -> Parameters:
    values = []
    for name, given in zip(PARAMETER_NAMES, PARAMETERS, strict=True):
        value = graph.constant(schema.of(node, given))
        if value is None:
            raise NotMeasured(f"its {name} is not constant")
        values.append(np.asarray(value, np.float32).ravel())
    if len({value.size for value in values}) > 1:
        raise NotMeasured("its parameters have different lengths")
    return Parameters(values[0], values[1], values[2], values[3], attribute(node, "epsilon", 1e-5))


def _known(graph: Graph, node: NodeProto, at: int, codes: str, what: str) -> QParams:
    found, problem = qparams(graph, node, at, codes, what)
    if found is None:
        raise NotMeasured(problem)
    return found


def _known_output(graph: Graph, node: NodeProto, at: int, codes: str) -> QParams:
    found = _known(graph, node, at, codes, "its output")
    if not found.per_tensor:
        raise NotMeasured("its output is quantized per channel")
    return found


def _pieces(graph: Graph, node: NodeProto) -> tuple[QParams, ...]:
    tensors = CONCAT.read(node)
    joint = _known(graph, node, CONCAT.place("x_scales"), tensors[0], "its input")
    if {joint.scale.size, joint.zero_point.size} - {1, len(tensors)}:
        raise NotMeasured(f"it has {joint.scale.size} scales of its input, and {len(tensors)} pieces")
    scales, zero_points = (np.broadcast_to(v.ravel(), len(tensors)) for v in (joint.scale, joint.zero_point))
    return tuple(
        replace(joint, codes=tensor, scale=scales[i : i + 1], zero_point=zero_points[i : i + 1])
        for i, tensor in enumerate(tensors)
    )


def _sum(graph: Graph, node: NodeProto) -> QParams:
    """Return the sum that a norm reads, which its operator gives only if it is asked to.

    Counts want codes: a norm that would read the sum before it is rounded reads its codes here.
    """
    if len(node.output) < 2 or not node.output[1]:
        del node.output[1:]
        node.output.append(graph.new_name(f"{node.name}/sum"))
    for given in node.attribute:
        if given.name in ("with_sum", "exact_sum"):
            given.i = int(given.name == "with_sum")
    add_functions(graph.model)
    return _known(graph, node, ADD.place("s_scale"), node.output[1], "its sum")


def _convolution(graph: Graph, norm: Norm, conv: CodesConv) -> Spot:
    """Return a norm as the portable lowering writes it."""
    source, target = _known(graph, *conv.x, "its input"), _known_output(graph, *conv.y)
    names = (conv.weight.codes, *_scale_and_zero_point(conv.weight), conv.bias)
    weight, scale, zero_point, bias = (graph.constant(name) if name else np.zeros(1) for name in names)
    if weight is None or scale is None or zero_point is None or bias is None or not source.per_tensor:
        raise NotMeasured("its numbers are not constant")
    channels = np.ones(weight.shape[0])
    if {numbers.size for numbers in (scale, zero_point, bias)} - {1, channels.size}:
        raise NotMeasured(f"its numbers are not for {channels.size} channels")
    step = scale.astype(np.float64).ravel()
    gain = channels * (weight.astype(np.float64).ravel() - zero_point.astype(np.float64).ravel()) * step
    shift = channels * bias.astype(np.float64).ravel() * step * source.scalars[0]
    limits = _behind(graph, target)
    floor, ceiling = _real(target, limits)
    activation = "Clip" if limits != (None, None) else ""
    return Spot(
        norm.name,
        norm.written,
        activation,
        (CONVOLUTION,),
        (source,),
        target,
        gain,
        shift,
        floor,
        ceiling,
        1,
        limits,
    )


def _scale_and_zero_point(place: Place) -> tuple[str, str]:
    """Return the names of a quantization; the second is empty where there is none."""
    names = [*place.node.input, ""]
    return names[place.at], names[place.at + 1]


def _behind(graph: Graph, made: QParams) -> tuple[int | None, int | None]:
    """Return the lowest and the highest code that a Clip behind an operator leaves; None for no limit."""
    reader = graph.only_reader(made.codes)
    while reader is not None and is_op(reader, "Transpose", "Reshape"):
        reader = graph.only_reader(reader.output[0])
    if reader is None or not is_op(reader, "Clip"):
        return None, None
    limits = activation_limits(graph, reader)
    if limits is None:
        raise NotMeasured("the limits of the Clip behind it are not constant")
    lowest, highest = (int(limit) if np.isfinite(limit) else None for limit in limits)
    return lowest, highest


def _real(made: QParams, limits: tuple[int | None, int | None]) -> tuple[float, float]:
    """Return limits of codes as floor and ceiling of the numbers."""
    scale, zero_point = made.scalars
    lowest, highest = limits
    floor = -np.inf if lowest is None else (lowest - zero_point) * scale
    ceiling = np.inf if highest is None else (highest - zero_point) * scale
    return floor, ceiling
