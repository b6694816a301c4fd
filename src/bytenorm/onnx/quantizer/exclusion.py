"""Which nodes ONNX Runtime's quantizer has to leave as they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from onnx import numpy_helper
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from ..._tensors.quantization import range_of_codes, scalars
from ..graph.graph import CONTRIBUTED, is_op, label
from ..graph.quantizer_names import OUTPUT
from ..norms.surroundings import activation_limits

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx
    from onnx import NodeProto

    from ..graph.graph import Graph

# What has a range of its own behind it when it is quantized.
_OWN_RANGE = ("Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool")


def needed_activations(
    graph: Graph, marks: Collection[str], quant_format: str, *, chosen: bool
) -> list[NodeProto]:
    """Return the Relu and Clip nodes that have to run as they are.

    ONNX Runtime's quantizer drops each behind a quantized tensor, and lets the range of its codes do the work.
    That fails where 0 is not within the limits, since every range has a code for 0. It fails where limits are
    computed, since a range is not, and where a subgraph or an output of the model has what comes before the
    limits. In QOperator format it fails, too, where the tensor has other readers or takes its range from what is
    before it.

    Parameters
    ----------
    graph : Graph
        As the quantizer gets it.
    marks : collection of str
        The names of the nodes that stand for norms.
    quant_format : {"QDQ", "QOperator"}
    chosen : bool
        Whether the ranges behind norms are chosen for the least error. Such a range begins at 0 behind a Relu, but
        may reach beyond the limits of a Clip.
    """
    needed = []
    for node in graph.nodes:
        if not is_op(node, "Relu", "Clip"):
            continue
        limits, behind = activation_limits(graph, node), _maker_of_numbers(graph, node)
        if (
            limits is None
            or not limits[0] <= 0 <= limits[1]
            or graph.is_read_elsewhere(node.input[0])
            or graph.is_captured(node.output[0])
            or (chosen and behind is not None and behind.name in marks and limits != (0, math.inf))
            or (quant_format == "QOperator" and not _has_its_range(graph, node))
        ):
            needed.append(node)
    return needed


_BLOCKED = "com.microsoft.nchwc"


def namesakes(graph: Graph) -> list[NodeProto]:
    """Return the nodes of other domains that are called as operators which the quantizer takes.

    It asks for no domain. A Conv of ONNX Runtime's optimizer (com.microsoft.nchwc) has its weights in blocks, and
    perhaps an activation: a QLinearConv of these computes something else, if it loads. What reads its blocks is as
    bad in 8 bits: ONNX Runtime 1.32 wants to give the Conv 8-bit weights then, and does not load the model.
    """
    taken = {*QDQRegistry, *QLinearOpsRegistry}
    own = (CONTRIBUTED, "EmbedLayerNormalization")
    others = [n for n in graph.nodes if n.op_type in taken and not is_op(n, n.op_type)]
    found = [n for n in others if (n.domain, n.op_type) != own]
    blocks = [reader for n in found if n.domain == _BLOCKED for reader in graph.readers(n.output[0])]
    return [*found, *(reader for reader in blocks if is_op(reader, reader.op_type))]


def _maker_of_numbers(graph: Graph, activation: NodeProto) -> NodeProto | None:
    """Return what makes the numbers that one or more activations, one behind the other, limit."""
    maker = graph.maker(activation.input[0])
    while maker is not None and is_op(maker, "Relu", "Clip"):
        maker = graph.maker(maker.input[0])
    return maker


def _has_its_range(graph: Graph, activation: NodeProto) -> bool:
    tensor = activation.input[0]
    return graph.only_reader(tensor) is not None and is_op(graph.maker(tensor), *_OWN_RANGE)


def lost_activations(graph: Graph, made: onnx.ModelProto) -> list[NodeProto]:
    """Return the Relu and Clip nodes that the quantizer dropped though codes reach beyond their limits.

    Where nothing but 0 came in calibration it takes the scale 1 and the zero point 0: codes of int8 then stand for
    -128 to 127, and the limit at 0 is gone.

    Parameters
    ----------
    graph : Graph
        As the quantizer got it.
    made : onnx.ModelProto
        As it left it.
    """
    values = {t.name: t for t in made.graph.initializer}
    there = {output for node in made.graph.node for output in node.output}
    kept = {output for node in made.graph.node if is_op(node, "Relu", "Clip") for output in node.output}
    lost = []
    for node in graph.nodes:
        limits = activation_limits(graph, node)
        if limits is None:
            continue
        tensor = node.output[0]
        if kept & {tensor, tensor + OUTPUT}:
            continue
        # The one that the quantizer dropped leaves its name to the tensor in QDQ format, not in QOperator format;
        # of several behind one another the last one does.
        behind = graph.only_reader(tensor)
        while not there & {tensor, tensor + OUTPUT} and behind is not None and activation_limits(graph, behind):
            tensor = behind.output[0]
            behind = graph.only_reader(tensor)
        if not there & {tensor, tensor + OUTPUT} or f"{tensor}_scale" not in values:
            tensor = node.input[0]
        scale, zero_point = (values.get(f"{tensor}_{what}") for what in ("scale", "zero_point"))
        # Without a quantization of its own, as where the outputs of such nodes are not wanted, nothing is left.
        if scale is None or zero_point is None or not _stands_for(limits, scale, zero_point):
            lost.append(node)
    return lost


def _stands_for(limits: tuple[float, float], scale: onnx.TensorProto, zero_point: onnx.TensorProto) -> bool:
    """Say whether codes end where an activation does, or before."""
    steps, zeros = numpy_helper.to_array(scale), numpy_helper.to_array(zero_point)
    if steps.size != 1 or zeros.dtype not in (np.uint8, np.int8):
        return True
    step, zero = scalars(steps, zeros)
    low, high = range_of_codes(step, zero, signed=zeros.dtype == np.int8)
    return low > limits[0] - step and high < limits[1] + step


def with_name(graph: Graph, node: NodeProto) -> str:
    """Return the name of a node; it gets what messages call it if it has none."""
    node.name = node.name or graph.new_node_name(label(node))
    return node.name
