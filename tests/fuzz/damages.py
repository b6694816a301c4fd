"""Models of which one constant, input, attribute or shape is not what its operator wants."""

from functools import partial

import numpy as np
from onnx import AttributeProto, TensorProto, helper, numpy_helper

# Attributes that the package reads, by the operators that onnx does not know.
_ATTRIBUTES = {
    "QLinearConcat": ("axis",),
    "QLinearAveragePool": ("kernel_shape", "strides", "pads", "dilations", "ceil_mode", "channels_last"),
    "QuantizeLinear": ("axis", "block_size", "output_dtype", "precision"),
    "DequantizeLinear": ("axis", "block_size", "output_dtype"),
    "Conv": ("group", "strides", "pads", "dilations", "auto_pad"),
    "QLinearConv": ("group", "strides", "pads", "dilations", "auto_pad"),
    "BatchNormalization": ("epsilon", "spatial", "training_mode"),
    "AveragePool": ("dilations", "ceil_mode", "pads"),
    "Clip": ("min", "max"),
    "Squeeze": ("axes",),
    "Unsqueeze": ("axes",),
}  # fmt: skip


def constants(value):
    """Yield what may stand in the place of a constant, each with a name."""
    yield "none", np.zeros(0, value.dtype)
    yield "none-of-its-rank", np.zeros((0,) * max(value.ndim, 2), value.dtype)
    yield "two", np.resize(value, 2)
    yield "three", np.resize(value, (1, 3))
    yield "column", value.reshape(-1, 1)
    yield "rank-9", value.reshape(value.shape + (1,) * (9 - value.ndim))
    yield "text", np.full(value.shape, "text", object)
    for kind in (np.int8, np.uint8, np.int64, np.float16, np.float32, np.float64, np.complex64, np.bool_):
        if value.dtype != kind:
            yield kind.__name__, value.real.astype(kind)
    if value.dtype.kind == "f":
        for number in (np.nan, np.inf, -np.inf, 0, -1, 1e-45, 3e38):
            yield str(number), np.full_like(value, number)
    else:
        for number in (np.iinfo(value.dtype).min, np.iinfo(value.dtype).max, 0):
            yield str(number), np.full_like(value, number)


_LISTS = ([], [0], [-1], [5, 5], [1, 0], [2**63 - 1, -(2**63)], [1] * 9)
_NUMBERS = (-(2**63), -(2**31), -9, -1, 0, 1, 2, 9, 2**31, 2**63 - 1)
_REALS = (float("nan"), float("inf"), float("-inf"), 0.0, -1.0, 3e38)


def attributes(name):
    """Yield what an attribute may be, each with a name."""
    for numbers in _LISTS:
        made = AttributeProto(name=name, type=AttributeProto.INTS)
        made.ints.extend(numbers)
        yield str(numbers), made
    for value in (*_NUMBERS, *_REALS, "text"):
        yield str(value), helper.make_attribute(name, value)
    yield "tensor", helper.make_attribute(name, numpy_helper.from_array(np.zeros(0, np.float32)))
    yield "nothing", AttributeProto(name=name)


_SHAPES = (None, [], [2], [0, 0, 0, 0], [1, 1], [None] * 9, [3, 3, 3, 3], [2**62, 2, 2**62, 2**62])


def _set_input(at, i, value, model):
    node = model.graph.node[at]
    if isinstance(value, np.ndarray):
        node.input[i] = f"damaged_{at}_{i}"
        model.graph.initializer.append(numpy_helper.from_array(value, node.input[i]))
    elif value == "cut":
        del node.input[i:]
    else:
        node.input[i] = value


def _set_attribute(at, made, model):
    kept = [a for a in model.graph.node[at].attribute if a.name != made.name]
    del model.graph.node[at].attribute[:]
    model.graph.node[at].attribute.extend([*kept, made])


def _set_domain(at, domain, inputs, model):
    """Let a node be another operator of the same name, with fewer inputs."""
    model.graph.node[at].domain = domain
    del model.graph.node[at].input[inputs:]
    if domain not in [opset.domain for opset in model.opset_import]:
        model.opset_import.append(helper.make_opsetid(domain, 1))


def _set_shape(at, shape, model):
    info = model.graph.input[at]
    kind = info.type.tensor_type.elem_type
    info.CopyFrom(helper.make_tensor_value_info(info.name, kind, shape))


def _set_type(at, kind, model):
    model.graph.input[at].type.tensor_type.elem_type = kind


def places(model):
    """Return where a model can be damaged: the operator, what of it, and what yields damages, named functions."""
    found = []
    for at, node in enumerate(model.graph.node):
        found += [(node.op_type, i, partial(_of_input, at, i)) for i in range(len(node.input))]
        names = [a.name for a in node.attribute]
        for name in dict.fromkeys([*names, *_ATTRIBUTES.get(node.op_type, ())]):
            found.append((node.op_type, name, partial(_of_attribute, at, name)))
        found.append((node.op_type, "domain", partial(_of_domain, at)))
    return found + [("", value.name, partial(_of_shape, at)) for at, value in enumerate(model.graph.input)]


def _of_input(at, i, model):
    name = model.graph.node[at].input[i]
    for tensor in model.graph.initializer:
        if tensor.name == name:
            for what, value in constants(numpy_helper.to_array(tensor)):
                yield what, partial(_set_input, at, i, value)
    for what, value in (("missing", ""), ("unknown", "unknown"), ("cut", "cut")):
        yield what, partial(_set_input, at, i, value)


def _of_attribute(at, name, _model):
    for what, made in attributes(name):
        yield what, partial(_set_attribute, at, made)


def _of_domain(at, model):
    for domain in ("", "com.microsoft", "bytenorm", "my"):
        for inputs in range(0, len(model.graph.node[at].input) + 1, 2):
            yield f"{domain}-{inputs}", partial(_set_domain, at, domain, inputs)


def _of_shape(at, _model):
    for shape in _SHAPES:
        yield str(shape), partial(_set_shape, at, shape)
    for kind in (TensorProto.DOUBLE, TensorProto.STRING, TensorProto.INT64, TensorProto.UNDEFINED):
        yield TensorProto.DataType.Name(kind), partial(_set_type, at, kind)
