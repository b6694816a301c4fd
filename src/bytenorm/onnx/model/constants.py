"""What nodes make of constants alone, bounded in size."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import GraphProto, NodeProto, SparseTensorProto, TensorProto, helper, numpy_helper, shape_inference

from ..._errors import bad_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.generic]

LARGEST = 2**29  # bytes; the largest layer of VGG-19, which ONNX's own copy makes by ConstantOfShape, has 2^28.6
_KNOWN_BY_INFERENCE = 1024  # elements; a longer tensor is no shape, and its numbers move no shape

# What is computed. Nothing that draws random numbers, runs subgraphs, or takes longer than its size tells.
COMPUTED = frozenset((
    "Abs", "Acos", "Acosh", "Add", "And", "ArgMax", "ArgMin", "Asin", "Asinh", "Atan", "Atanh", "BitShift",
    "Cast", "CastLike", "Ceil", "Celu", "Clip", "Concat", "ConstantOfShape", "Cos", "Cosh", "CumSum",
    "DepthToSpace", "Div", "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten",
    "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "Greater", "GreaterOrEqual", "HardSigmoid",
    "HardSwish", "Hardmax", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log",
    "LogSoftmax", "LpNormalization", "MatMul", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not",
    "OneHot", "Or", "PRelu", "Pad", "Pow", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
    "Relu", "Reshape", "Round", "ScatterElements", "ScatterND", "Selu", "Shape", "Sigmoid", "Sign", "Sin",
    "Sinh", "Size", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze",
    "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor",
))  # fmt: skip
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
# Where the evaluator goes through numbers one by one it takes some 100 times as long; a product of matrices takes
# as long as its factors are. So each takes more of the room that there is.
_ONE_BY_ONE, _SLOWER = ("Erf", "Gelu", "GatherND", "ScatterElements", "ScatterND", "OneHot"), 64
_EXACT = 2  # bytes of integers whose differences float32 holds
_PRODUCTS, _PER_BYTE = ("MatMul", "Gemm"), 16


def is_computed(node: NodeProto) -> bool:
    """Say whether :func:`outputs_of` may tell what a node makes of constants."""
    if node.op_type in CONVERSIONS:
        return node.domain in ("", "ai.onnx", "com.microsoft")
    return node.domain in ("", "ai.onnx") and node.op_type in COMPUTED


def outputs_of(
    node: NodeProto, values: Sequence[Array | None], opset: int, room: int
) -> tuple[dict[str, Array], int]:
    """Return what a node makes of constants, by name of its outputs, and how much of the room that takes.

    Parameters
    ----------
    node : NodeProto
        One for which :func:`is_computed`.
    values : sequence of array or None
        What it reads; None where an input is left out.
    opset : int
        The version of the standard operators.
    room : int
        How many bytes the outputs may have.

    Returns
    -------
    dict of array
        Nothing where the node does not fit what it reads, or makes more than there is room for.
    int
        In bytes; 0 for a conversion, which makes at most four times what it reads.
    """
    try:
        if node.op_type in CONVERSIONS:
            made = _converted(node, [*values, None, None][:3])
            return ({} if made is None else {node.output[0]: made}), 0
        return _evaluated(node, values, opset, room)
    except Exception:  # the evaluator has no class of its own for nodes that do not fit
        return {}, 0


def _price(node: NodeProto, read: list[Array], size: int) -> int:
    """Return how much room a node takes whose outputs have a size in bytes."""
    if node.op_type in _ONE_BY_ONE:
        return _SLOWER * max(size, *(value.nbytes for value in read))
    if node.op_type in _PRODUCTS:
        shared = int(read[0].shape[0 if any(a.name == "transA" and a.i for a in node.attribute) else -1])
        return size + int(read[0].size) * int(read[1].size) // max(shared, 1) // _PER_BYTE
    return size


def _evaluated(
    node: NodeProto, values: Sequence[Array | None], opset: int, room: int
) -> tuple[dict[str, Array], int]:
    """Run one node in ONNX's reference evaluator, after its type inference has told the size of what it makes."""
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415 (a tenth of a second that most models do without)

    read = {name: np.asarray(value) for name, value in zip(node.input, values, strict=True) if value is not None}
    graph = GraphProto(name="constants")
    graph.node.append(node)
    for name, value in read.items():
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        graph.input.append(helper.make_tensor_value_info(name, kind, value.shape))
        if value.size <= _KNOWN_BY_INFERENCE:
            graph.initializer.append(numpy_helper.from_array(value, name))
    outputs = [name for name in node.output if name]
    graph.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    size = 0
    for value_info in shape_inference.infer_shapes(model, data_prop=True).graph.output:
        tensor = value_info.type.tensor_type
        if not all(d.HasField("dim_value") for d in tensor.shape.dim) or not tensor.HasField("shape"):
            return {}, 0
        itemsize = helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
        size += math.prod(d.dim_value for d in tensor.shape.dim) * itemsize
    price = _price(node, list(read.values()), size)
    if price > room:
        return {}, 0
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        made = ReferenceEvaluator(model).run(outputs, read)
    return {name: np.asarray(value) for name, value in zip(outputs, made, strict=True)}, price


def _converted(node: NodeProto, values: Sequence[Array | None]) -> Array | None:
    """Return what QuantizeLinear or DequantizeLinear makes of a constant, each operation rounded to float32."""
    value, scale, zero_point = values
    attributes = {a.name: a.i for a in node.attribute}
    if value is None or scale is None or attributes.get("block_size", 0):
        return None
    if zero_point is None and attributes.get("output_dtype", 0):
        return None
    shape = [1] * value.ndim
    if scale.size > 1:
        axis = attributes.get("axis", 1)
        if value.shape[axis] != scale.size:
            return None
        shape[axis] = -1
    zeros = np.zeros(scale.shape, np.uint8) if zero_point is None else zero_point
    step, real_zero = scale.astype(np.float32).reshape(shape), zeros.astype(np.float64).reshape(shape)
    with np.errstate(all="ignore"):
        if node.op_type == "DequantizeLinear":
            if value.dtype.itemsize <= _EXACT:
                centred = value.astype(np.float32)
                centred -= zeros.astype(np.float32).reshape(shape)
            else:
                centred = (value.astype(np.float64) - real_zero).astype(np.float32)
            centred *= step
            return np.asarray(centred, scale.dtype)
        if zeros.dtype not in (np.uint8, np.int8):
            return None
        codes = value.astype(np.float32)
        codes /= step
        np.rint(codes, out=codes)
        codes += zeros.astype(np.float32).reshape(shape)  # exact up to 2^24, and behind that it saturates
        lowest = -128 if zeros.dtype == np.int8 else 0
        return np.asarray(np.clip(codes, lowest, lowest + 255, out=codes), zeros.dtype)


def are_real(value: Array) -> bool:
    """Say whether an array is of numbers that can be compared: no text, and not complex."""
    return value.dtype.kind not in "OSUc"


def array_of(tensor: TensorProto) -> npt.NDArray[Any]:
    """Return a tensor of a model as an array, or raise a ValueError with its name if it is damaged."""
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:  # NumPy's and onnx's, which tell numbers without saying of what
        kind = TensorProto.DataType.Name(tensor.data_type).lower()
        raise bad_value(
            "model", f": the data of its tensor {tensor.name!r} do not make {kind} {list(tensor.dims)}: {error}"
        ) from None


def constant_value(node: NodeProto) -> Array | None:
    """Return the value of a Constant node; None if it is text, or too large."""
    for a in node.attribute:
        if a.name == "value":
            return array_of(a.t)
        if a.name == "sparse_value":
            return dense(a.sparse_tensor)
        if a.name in ("value_float", "value_floats"):
            return np.asarray(helper.get_attribute_value(a), np.float32)
        if a.name in ("value_int", "value_ints"):
            return np.asarray(helper.get_attribute_value(a), np.int64)
    return None


def dense(tensor: SparseTensorProto) -> Array | None:
    """Return a sparse tensor as an array; None if it is damaged, or too large."""
    values, indices = array_of(tensor.values), array_of(tensor.indices)
    dims = tuple(tensor.dims)
    if min(dims, default=0) < 0 or math.prod(dims) * values.itemsize > LARGEST or values.ndim != 1:
        return None
    made = np.zeros(math.prod(dims), values.dtype)
    try:
        where = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), dims)
        if np.any(indices < 0):
            return None
        made[where] = values
    except (ValueError, IndexError):
        return None
    return made.reshape(dims)
