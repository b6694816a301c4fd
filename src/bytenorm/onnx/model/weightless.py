"""A model without its larger weights, for what looks at types and structure only.

ONNX's inference and its checker take models as bytes, of which protobuf allows 2 GiB, and copy all that they get.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, helper, shape_inference

from ..._errors import bad_value
from .constant_inputs import CONSTANTS_APART
from .fatal_rules import (
    DIES_OF_SLICES,
    all_hidden,
    blind_nodes,
    has_length_below_0,
    has_slices,
    hide,
    is_blind,
    show,
    unsure_slices,
)
from .soundness import parts, sort_nodes
from .told_constants import tell_constants

LARGEST = 4096  # bytes of a tensor that stays: what inference reads, shapes, axes and scales, is small
LONGEST_SHAPE = 64  # axes of a tensor whose rank is told; ONNX Runtime takes no more
LONGEST_VECTOR = 2**20  # elements whose values inference may follow; shapes have a few

Types = dict[str, tuple[int, tuple[int | None, ...] | None]]


def bytes_of(tensor: TensorProto) -> int:
    """Return how many bytes the numbers of a tensor take in a model; protobuf measures no tensor above 2 GiB."""
    if tensor.data_location == TensorProto.EXTERNAL:
        return 0
    if tensor.data_type in (TensorProto.UNDEFINED, TensorProto.STRING):
        return int(tensor.ByteSize())
    try:
        itemsize = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, TypeError, ValueError):  # of a newer ONNX
        return int(tensor.ByteSize())
    return int(math.prod(tensor.dims) * itemsize)


def weightless(model: ModelProto) -> ModelProto:
    """Return a copy of a model whose larger initializers, and Constants of the main graph, are inputs."""
    made = ModelProto(ir_version=max(model.ir_version, CONSTANTS_APART))
    made.opset_import.extend(model.opset_import)
    made.functions.extend(model.functions)
    graph, light = model.graph, made.graph
    light.name = graph.name
    light.input.extend(graph.input)
    light.output.extend(graph.output)
    light.value_info.extend(graph.value_info)
    light.sparse_initializer.extend(graph.sparse_initializer)
    known = {v.name for v in graph.input}
    for tensor in graph.initializer:
        if bytes_of(tensor) <= LARGEST:
            light.initializer.append(tensor)
        elif tensor.name not in known:
            light.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for node in graph.node:
        tensor = _large_constant(node)
        if tensor is None:
            light.node.append(node)
        else:
            light.input.append(helper.make_tensor_value_info(node.output[0], tensor.data_type, tensor.dims))
    return made


def _large_constant(node: NodeProto) -> TensorProto | None:
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    tensors = (a.t for a in node.attribute if a.name == "value" and a.HasField("t"))
    return next((tensor for tensor in tensors if bytes_of(tensor) > LARGEST), None)


# Operators of ONNX Runtime, each with a standard operator whose output has the same shape, and which inputs that
# one reads. ONNX's shape inference stops at operators that it does not know.
_SAME_SHAPE: dict[str, tuple[str, slice]] = {
    "QLinearAdd": ("Add", slice(0, 4, 3)),
    "QLinearMul": ("Mul", slice(0, 4, 3)),
    "QLinearConcat": ("Concat", slice(2, None, 3)),
    "QLinearAveragePool": ("AveragePool", slice(0, 1)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", slice(0, 1)),
    "QLinearLeakyRelu": ("Relu", slice(0, 1)),
    "QLinearSigmoid": ("Relu", slice(0, 1)),
    "QLinearSoftmax": ("Relu", slice(0, 1)),
    "QGemm": ("Gemm", slice(0, 4, 3)),
    "QuantizeLinear": ("QuantizeLinear", slice(0, 3)),
    "DequantizeLinear": ("DequantizeLinear", slice(0, 3)),
    "FusedConv": ("Conv", slice(0, 3)),
    "FusedGemm": ("Gemm", slice(0, 3)),
    "Gelu": ("Relu", slice(0, 1)),
    "FastGelu": ("Relu", slice(0, 1)),
    "QuickGelu": ("Relu", slice(0, 1)),
}


def inferred_model(model: ModelProto, label: str = "model") -> ModelProto:
    """Return a model with the types that can be inferred; where onnx fails, those that it states are all.

    `model` is a copy, as `weightless` makes it, `label` what a ValueError calls it: of a Slice of a length below 0
    both onnx and ONNX Runtime die.
    """
    _forget_negative_lengths(model)
    if has_slices(model.graph):
        sort_nodes(model.graph)
    slices = unsure_slices(model.graph)
    hide(blind_nodes(model))
    if DIES_OF_SLICES:
        hide([node for nodes in slices for node in nodes])
    failed = set[bytes]() if slices else None
    made = _inferred_with(model, failed)
    for nodes in slices:
        if has_length_below_0(made.graph):
            _refuse(made.graph, nodes, label)
        if DIES_OF_SLICES:
            show(nodes)
            made = _inferred_with(model, failed)
    show(all_hidden(made))
    return made


def _inferred_with(model: ModelProto, failed: set[bytes] | None) -> ModelProto:
    """Return a model with its types, having told onnx what it does not find out: without `failed` no constants."""
    made = _inferred(model)
    while _tell_ranks(model, made) or (failed is not None and tell_constants(model, made.graph, failed)):
        made = _inferred(model)
    return made


def _tell_ranks(model: ModelProto, inferred: ModelProto) -> bool:
    """Say in a model how many axes its Reshapes make where onnx does not know; return whether there were such.

    Up to opset 13 it follows no shape that another tensor has. How many numbers that is, it knows.
    """
    values = [*_values(model.graph), *_values(inferred.graph)]
    told = {value.name: value.type.tensor_type for value in values}
    shapes = {v.name: _shape(v.type.tensor_type) for v in values if v.type.tensor_type.HasField("shape")}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in inferred.graph.initializer}
    found = {}
    for node in inferred.graph.node:
        if node.domain in ("", "ai.onnx") and node.op_type == "Reshape" and len(node.input) > 1:
            rank = (shapes.get(node.input[1]) or (None,))[0]
            read, made = told.get(node.input[0]), node.output[0]
            if rank and rank <= LONGEST_SHAPE and read and read.elem_type and made not in shapes:
                found[made] = helper.make_tensor_value_info(made, read.elem_type, [None] * rank)
    stated = {value.name: value for value in (*model.graph.value_info, *model.graph.output)}
    for name, value in found.items():
        (stated.get(name) or model.graph.value_info.add()).CopyFrom(value)
    return bool(found)


def _shape(kind: TypeProto.Tensor) -> tuple[int | None, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)


def _refuse(graph: GraphProto, slices: list[NodeProto], label: str) -> None:
    """Raise a ValueError if one of these, which may be in graphs within the graph, reads a length below 0."""
    read = {node.input[0] for node in slices if node.input}
    for value in _values(graph):
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if value.name in read and min(shape, default=0) < 0:
            raise bad_value(
                label, f"has a Slice of its tensor {value.name!r}, of the impossible shape {tuple(shape)}"
            )


def _inferred(model: ModelProto) -> ModelProto:
    found = model
    for data_prop in (False, True):
        if data_prop and _has_long_vector(found.graph):
            break
        try:
            found = shape_inference.infer_shapes(model, data_prop=data_prop)
        except Exception:  # the model is wrong, or onnx: ONNX Runtime runs some that onnx cannot infer
            continue
    return found


def _values(graph: GraphProto) -> Iterator[ValueInfoProto]:
    for part in parts(graph):
        assert isinstance(part, GraphProto)
        yield from (*part.input, *part.value_info, *part.output)


def _forget_negative_lengths(model: ModelProto) -> None:
    """Make lengths below 0, as some exporters write those that are not known, unknown ones."""
    for value in _values(model.graph):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0:
                dim.ClearField("dim_value")


def _has_long_vector(graph: GraphProto) -> bool:
    """Say whether onnx would follow the elements of some vector one by one: of 2^40, it fills all memory."""
    values = (*graph.input, *graph.value_info, *graph.output)
    shapes = [value.type.tensor_type.shape.dim for value in values]
    return any(len(shape) == 1 and shape[0].dim_value > LONGEST_VECTOR for shape in shapes)


def inferred_graph(model: ModelProto, label: str = "model") -> GraphProto:
    """Return a model's graph without weights, with the types that can be inferred.

    Raises
    ------
    ValueError
        If it has a Slice of a length below 0, of which ONNX Runtime dies; `label` is what it calls the model.
    """
    light = weightless(model)
    for node in light.graph.node:
        if node.domain == "com.microsoft" and node.op_type in _SAME_SHAPE:
            node.op_type, wanted = _SAME_SHAPE[node.op_type]
            node.domain = ""
            inputs = list(node.input[wanted])
            del node.input[:]
            node.input.extend(inputs)
    return inferred_model(light, label).graph


def require_told(model: ModelProto, label: str) -> None:
    """Raise ValueError if onnx's inference would die of a node because it has no type for what the node reads."""
    blind = [node for node in model.graph.node if is_blind(node)]
    types = inferred_types(model) if blind else {}
    for node in blind:
        if types.get(node.input[0], (0, None))[0] == 0:
            told = f"a node {node.op_type} {node.name!r} that reads {node.input[0]!r}, whose type is not known"
            raise bad_value(label, f"has {told}")


def inferred_types(model: ModelProto) -> Types:
    """Return the element type (0: unknown) and the shape (None: unknown) of each tensor of the main graph."""
    inferred = inferred_graph(model)
    found: Types = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        tensor = value.type.tensor_type
        shape = None
        if tensor.HasField("shape"):
            shape = _shape(tensor)
        found[value.name] = (tensor.elem_type, shape)
    for t in inferred.initializer:
        found[t.name] = (t.data_type, tuple(t.dims))
    return found
