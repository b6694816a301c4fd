"""A quantized network in which one tensor is in float: what reads its codes reads numbers that are not rounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from ..._tensors.quantization import scalars
from ...onnx.graph.graph import attribute, is_op
from ...onnx.graph.moves import KEEPING
from ...onnx.graph.picks import PICKS
from ...onnx.operators.schema import ADD, CONCAT, NORMS, ON_CODES, PARAMETERS, SINGLE
from .matching import Codes

if TYPE_CHECKING:
    from onnx import NodeProto

    from ...onnx.graph.graph import Graph
    from ...onnx.operators.schema import Schema

_MOVES = (*KEEPING, *PICKS, "Relu")
# Operators on codes, and the one in float; of bytenorm's the norm comes behind that.
_IN_FLOAT = {
    "QLinearConv": "Conv",
    "QLinearMatMul": "MatMul",
    "QGemm": "Gemm",
    "QLinearAdd": "Add",
    "QLinearMul": "Mul",
    "QLinearSigmoid": "Sigmoid",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSoftmax": "Softmax",
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    SINGLE.operator: "",
    ADD.operator: "Add",
}
_OF_CODES = {"channels_last", "opset", "relu", "with_sum", "exact_sum", "pool"}  # attributes


class NotPossible(Exception):  # noqa: N818 - no error: it carries the reason
    """Why a tensor cannot be in float."""


def in_float(graph: Graph, codes: Codes) -> str:
    """Let all that reads the codes of a tensor read numbers in float; return the name under which they are read.

    Operators on codes are written out: what they read is dequantized, the operator is in float, and what it makes
    is quantized.

    Parameters
    ----------
    graph : Graph
        Changed in place. Nothing makes the numbers: they are to be fed.
    codes : Codes

    Raises
    ------
    NotPossible
        If something reads them that cannot be written out.
    """
    name = graph.new_name(f"{codes.tensor}/in float")
    waiting = [(codes.tensor, name)]
    while waiting:
        tensor, numbers = waiting.pop()
        if graph.is_read_elsewhere(tensor):
            raise NotPossible("its codes are an output of the model, or a subgraph reads them")
        for reader in graph.readers(tensor):
            if reader.op_type == "DequantizeLinear":
                graph.remove(reader)
                graph.make("Identity", [numbers], reader.output[0], reader.name)
            elif is_op(reader, *_MOVES, "Clip", "Concat") and len(reader.output) == 1:
                moved = graph.new_name(f"{reader.output[0]}/in float")
                waiting.append((reader.output[0], moved))
                _move(graph, reader, tensor, numbers, moved, codes)
            else:
                _write_out(graph, reader, tensor, numbers)
    return name


def _move(graph: Graph, node: NodeProto, tensor: str, numbers: str, moved: str, codes: Codes) -> None:
    """Do in float what a node does with codes, whose quantization it keeps."""
    if tensor not in node.input[: len(node.input) if is_op(node, "Concat") else 1]:
        raise NotPossible(f"{node.op_type} reads its codes as a number")
    inputs = [numbers if name == tensor else name for name in node.input]
    if is_op(node, "Concat"):
        inputs = [n if n == numbers else _dequantized(graph, n, codes.scale, codes.zero_point) for n in inputs]
    elif is_op(node, "Clip"):
        limits = [graph.constant(limit) if limit else None for limit in inputs[1:]]
        if any(limit is None for limit, given in zip(limits, inputs[1:], strict=True) if given):
            raise NotPossible("the limits of the Clip behind it are not constant")
        for i, limit in enumerate(limits, 1):
            if limit is not None:
                real = (limit.astype(np.float64) - codes.zero_point) * codes.scale
                inputs[i] = graph.add_constant(f"{node.name}/limit", real.astype(np.float32).reshape(()))
    elif is_op(node, "Pad"):
        raise NotPossible("a Pad reads its codes")
    elif is_op(node, "Relu") and codes.zero_point:
        raise NotPossible("a Relu reads its codes")
    made = graph.make(node.op_type, inputs, moved, f"{node.name}/in float")
    made.attribute.extend(node.attribute)


def _write_out(graph: Graph, node: NodeProto, tensor: str, numbers: str) -> None:
    """Replace an operator on codes by conversions and the operator in float."""
    if node.op_type in ("QLinearConcat", CONCAT.operator):
        read = _concatenated(graph, node, tensor, numbers)
    elif node.op_type in _IN_FLOAT:
        read = _computed(graph, node, tensor, numbers)
    else:
        raise NotPossible(f"{node.op_type} reads its codes")
    graph.remove(node)
    if len(node.output) > 1 and node.output[1]:  # a sum that is given out
        _quantize(graph, read, node.output[1], ADD.of(node, "s_scale"), ADD.of(node, "s_zero_point"))
    if node.op_type in NORMS:
        read = _normed(graph, node, read)
    schema = ON_CODES[node.op_type]
    scale = schema.of(node, "y_scale")
    if not scale:  # a QGemm that makes numbers
        graph.make("Identity", [read], node.output[0], node.name)
    else:
        _quantize(graph, read, node.output[0], scale, schema.of(node, "y_zero_point"))


def _computed(graph: Graph, node: NodeProto, tensor: str, numbers: str) -> str:
    operator, schema = _IN_FLOAT[node.op_type], ON_CODES[node.op_type]
    pools = node.op_type in ("QLinearAveragePool", "QLinearGlobalAveragePool")
    if pools and attribute(node, "channels_last", 0):
        raise NotPossible(f"{node.op_type} with its channels last reads its codes")
    if any(schema.of(node, name) == tensor for name in schema.inputs if name not in schema.codes):
        raise NotPossible(f"{node.op_type} reads its codes as a number")
    inputs = [numbers if schema.of(node, n) == tensor else _read(graph, node, schema, n) for n in schema.codes]
    if "bias" in schema.inputs:
        inputs += _bias(graph, node, schema)
    if not operator:
        return inputs[0]
    made = graph.new_name(f"{node.output[0]}/in float")
    plain = graph.make(operator, inputs, made, f"{node.name}/in float")
    plain.attribute.extend(a for a in node.attribute if a.name not in (*_OF_CODES, "epsilon"))
    if schema is ADD and not attribute(node, "exact_sum", 0):
        codes, behind = (graph.new_name(f"{made}/{what}") for what in ("codes", "rounded"))
        scale, zero_point = ADD.of(node, "s_scale"), ADD.of(node, "s_zero_point")
        _quantize(graph, made, codes, scale, zero_point)
        graph.make("DequantizeLinear", [codes, scale, zero_point], behind, f"{node.name}/rounded")
        made = behind
    return made


def _read(graph: Graph, node: NodeProto, schema: Schema, what: str) -> str:
    """Return in float what an operator reads as codes: a constant, or what a conversion makes."""
    tensor, scale_name, zero_name = (schema.of(node, f"{what}{of}") for of in ("", "_scale", "_zero_point"))
    value, scale, zero_point = (graph.constant(n) if n else np.zeros(1) for n in (tensor, scale_name, zero_name))
    if value is None:
        made = graph.new_name(f"{tensor}/numbers")
        given = [tensor, scale_name, zero_name] if zero_name else [tensor, scale_name]
        graph.make("DequantizeLinear", given, made, f"{node.name}/numbers")
        return made
    if scale is None or zero_point is None:
        raise NotPossible(f"the weights of {node.op_type} have a scale that is not constant")
    axis = 0 if node.op_type == "QLinearConv" or attribute(node, "transB", 0) else value.ndim - 1
    shape = [1] * value.ndim
    if value.ndim:
        shape[axis] = -1
    step, zero = (x.astype(np.float64).reshape(shape if x.size > 1 else []) for x in (scale, zero_point))
    return graph.add_constant(f"{tensor}/numbers", ((value.astype(np.float64) - zero) * step).astype(np.float32))


def _bias(graph: Graph, node: NodeProto, schema: Schema) -> list[str]:
    name = schema.of(node, "bias")
    if not name:
        return []
    bias, *scales = (graph.constant(schema.of(node, what)) for what in ("bias", "x_scale", "w_scale"))
    if bias is None or scales[0] is None or scales[1] is None:
        raise NotPossible(f"the bias of {node.op_type} is not constant")
    step = scales[0].astype(np.float64).ravel() * scales[1].astype(np.float64).ravel()
    step = step * attribute(node, "alpha", 1.0)
    return [graph.add_constant(f"{name}/numbers", (bias.astype(np.float64) * step).astype(np.float32))]


def _concatenated(graph: Graph, node: NodeProto, tensor: str, numbers: str) -> str:
    if node.op_type == "QLinearConcat":
        read = ON_CODES[node.op_type].read(node)
        pieces, axis = read[::3], attribute(node, "axis", 0)
        quantizations = [[graph.constant(n) for n in pair] for pair in zip(read[1::3], read[2::3], strict=True)]
    else:
        if attribute(node, "pool", 0):
            raise NotPossible("a norm that is averaged by its own operator reads its codes")
        pieces = CONCAT.read(node)
        axis = -1 if attribute(node, "channels_last", 0) else 1
        both = [graph.constant(CONCAT.of(node, n)) for n in ("x_scales", "x_zero_points")]
        if both[0] is None or both[1] is None:
            raise NotPossible(f"the scales of {node.op_type} are not constant")
        rows = [np.broadcast_to(x.ravel(), len(pieces)) for x in both if x is not None]
        quantizations = [[row[i] for row in rows] for i in range(len(pieces))]
    inputs = []
    for name, (scale, zero_point) in zip(pieces, quantizations, strict=True):
        if name == tensor:
            inputs.append(numbers)
        elif scale is None or zero_point is None or np.size(scale) != 1 or np.size(zero_point) != 1:
            raise NotPossible(f"the scales of {node.op_type} are not constant")
        else:
            inputs.append(_dequantized(graph, name, *scalars(np.asarray(scale), np.asarray(zero_point))))
    made = graph.new_name(f"{node.output[0]}/in float")
    graph.make("Concat", inputs, made, f"{node.name}/in float", axis=axis)
    return made


def _dequantized(graph: Graph, codes: str, scale: float, zero_point: int) -> str:
    """Return codes of any 8-bit type as numbers."""
    names = [graph.new_name(f"{codes}/{what}") for what in ("cast", "steps", "numbers")]
    graph.make("Cast", [codes], names[0], names[0], to=onnx.TensorProto.FLOAT)
    graph.make("Sub", [names[0], graph.add_constant("zero point", np.float32(zero_point))], names[1], names[1])
    graph.make("Mul", [names[1], graph.add_constant("scale", np.float32(scale))], names[2], names[2])
    return names[2]


def _normed(graph: Graph, node: NodeProto, read: str) -> str:
    """Return the norm of an operator of ours, with its Relu, in float."""
    values = [graph.constant(NORMS[node.op_type].of(node, name)) for name in PARAMETERS]
    if any(value is None for value in values):
        raise NotPossible("the parameters of a norm that reads its codes are not constant")
    weight, bias, mean, var = (np.asarray(value, np.float64).ravel() for value in values)
    slope = weight / np.sqrt(var + attribute(node, "epsilon", 1e-5))
    made = [graph.new_name(f"{node.output[0]}/{what}") for what in ("scaled", "normed", "active")]
    constants = [
        graph.add_constant(f"{node.name}/{what}", x.astype(np.float32))
        for what, x in (
            ("slope", slope),
            ("shift", bias - mean * slope),
            ("zeros", slope * 0),
            ("ones", slope * 0 + 1),
        )
    ]
    slope_name, shift_name, zeros, ones = constants
    if attribute(node, "channels_last", 0):
        graph.make("Mul", [read, slope_name], made[0], made[0])
        graph.make("Add", [made[0], shift_name], made[1], made[1])
    else:
        inputs = [read, slope_name, shift_name, zeros, ones]
        graph.make("BatchNormalization", inputs, made[1], made[1], epsilon=0.0)
    if not attribute(node, "relu", 0):
        return made[1]
    graph.make("Relu", [made[1]], made[2], made[2])
    return made[2]


def _quantize(graph: Graph, read: str, made: str, scale: str, zero_point: str) -> None:
    graph.make("QuantizeLinear", [read, scale, *([zero_point] if zero_point else [])], made, f"{made}/quantize")
