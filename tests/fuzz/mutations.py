"""Changes of a model that leave it a message protobuf reads: most changes of its bytes do not get past that."""

import random

import damages
from onnx import AttributeProto, ModelProto, TensorProto, helper

OPERATORS = (
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv",
    "ConvTranspose", "DequantizeLinear", "Div", "Expand", "Flatten", "Gather", "Gemm", "Identity", "If", "Loop",
    "MatMul", "MaxPool", "Mul", "Neg", "Pad", "QGemm", "QLinearAdd", "QLinearAddBatchNormalization",
    "QLinearAveragePool", "QLinearBatchNormalization", "QLinearConcat", "QLinearConcatBatchNormalization",
    "QLinearConv", "QLinearMatMul", "QLinearMul", "QLinearSumBatchNormalization", "QuantizeLinear", "Relu",
    "Reshape", "Scan", "Shape", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
)  # fmt: skip
ATTRIBUTES = (
    "alpha", "auto_pad", "axes", "axis", "beta", "block_size", "ceil_mode", "ceiling", "channels_last",
    "dilations", "epsilon", "exact_sum", "floor", "group", "kernel_shape", "keepdims", "max", "min", "mode",
    "output_dtype", "pads", "perm", "pool", "precision", "relu", "spatial", "strides", "to", "training_mode",
    "transA", "transB", "value", "with_sum",
)  # fmt: skip
NUMBERS = (-(2**63), -(2**31), -129, -1, 0, 1, 2, 3, 7, 31, 255, 2**31, 2**40, 2**63 - 1)
DOMAINS = ("", "ai.onnx", "com.microsoft", "bytenorm", "my")


def changed(content, seed):
    """Return the bytes of a model after one to four changes; None if it is no model."""
    pick = random.Random(seed)
    model = ModelProto()
    try:
        model.ParseFromString(content)
        for _ in range(pick.choice((1, 1, 2, 4))):
            pick.choice(CHANGES)(model, pick)
        return model.SerializeToString()
    except Exception:  # protobuf has its own, and names that are no text are in the way of most changes
        return None


def _graph(model, pick):
    """Return the graph, a function, or a graph within a node."""
    found = [model.graph, *model.functions]
    for part in list(found):
        for node in part.node:
            found += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return pick.choice(found) if pick.random() < 0.3 else model.graph


def _node(model, pick):
    nodes = _graph(model, pick).node
    return pick.choice(nodes) if nodes else None


def _name(model, pick):
    part = _graph(model, pick)
    names = [name for node in part.node for name in (*node.input, *node.output)] + [""]
    names += [tensor.name for tensor in model.graph.initializer]
    return pick.choice(names)


def _operator(model, pick):
    node = _node(model, pick)
    if node is not None:
        node.op_type, node.domain = pick.choice(OPERATORS), pick.choice(DOMAINS)


def _input(model, pick):
    node = _node(model, pick)
    if node is None:
        return
    if node.input and pick.random() < 0.7:
        node.input[pick.randrange(len(node.input))] = _name(model, pick)
    elif node.input and pick.random() < 0.5:
        del node.input[pick.randrange(len(node.input))]
    else:
        node.input.append(_name(model, pick))


def _output(model, pick):
    node = _node(model, pick)
    if node is None:
        return
    if node.output and pick.random() < 0.5:
        node.output[pick.randrange(len(node.output))] = _name(model, pick)
    elif node.output and pick.random() < 0.5:
        del node.output[pick.randrange(len(node.output))]
    else:
        node.output.append(f"new{pick.randrange(9)}")


def _remove(model, pick):
    part = _graph(model, pick)
    lists = [part.node, model.graph.initializer, model.graph.input, model.graph.output, model.graph.value_info]
    some = pick.choice([model.functions, model.opset_import, *lists, *lists])
    if some:
        del some[pick.randrange(len(some))]


def _copy(model, pick):
    part, node = _graph(model, pick), _node(model, pick)
    if node is not None and len(part.node) < 30:
        content = node.SerializeToString()  # `part` may lie within the node
        made = part.node.add()
        made.ParseFromString(content)
        if pick.random() < 0.7:
            for i, name in enumerate(made.output):
                made.output[i] = name + "_"


def _insert(model, pick):
    """Put a node between a tensor and one that reads it."""
    node = _node(model, pick)
    if node is not None and node.input:
        at = pick.randrange(len(node.input))
        name = f"new{pick.randrange(99)}"
        made = helper.make_node(pick.choice(OPERATORS), [node.input[at]], [name])
        node.input[at] = name
        model.graph.node.append(made)


def _attribute(model, pick):
    node = _node(model, pick)
    if node is None:
        return
    if node.attribute and pick.random() < 0.4:
        del node.attribute[pick.randrange(len(node.attribute))]
        return
    values = (
        pick.choice(NUMBERS),
        [pick.choice(NUMBERS) for _ in range(pick.randrange(5))],
        0.5,
        "text",
        [0.5],
        [],
    )
    value = pick.choice(values)
    made = (
        helper.make_attribute(pick.choice(ATTRIBUTES), value)
        if value != []
        else AttributeProto(name=pick.choice(ATTRIBUTES), type=AttributeProto.INTS)
    )
    if pick.random() < 0.2:
        made.type = pick.randrange(15)
    if pick.random() < 0.1 and model.graph.initializer:
        made.t.CopyFrom(pick.choice(model.graph.initializer))
        made.type = AttributeProto.TENSOR
    node.attribute.append(made)


def _tensor(model, pick):
    if not model.graph.initializer:
        return
    tensor = pick.choice(model.graph.initializer)
    kind = pick.randrange(6)
    if kind == 0:
        tensor.data_type = pick.randrange(27)
    elif kind == 1:
        if tensor.dims and pick.random() < 0.6:
            tensor.dims[pick.randrange(len(tensor.dims))] = pick.choice(NUMBERS)
        else:
            tensor.dims.append(pick.choice(NUMBERS))
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: pick.randrange(len(tensor.raw_data) + 1)]
    elif kind == 3:
        tensor.raw_data = pick.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * len(tensor.raw_data)
    elif kind == 4:
        tensor.data_location = TensorProto.EXTERNAL
        for key in ("location", "offset", "length"):
            if pick.random() < 0.7:
                tensor.external_data.add(
                    key=key, value=pick.choice(("m.onnx", "../m.onnx", "/etc/hosts", "0", "-1", "9" * 30, "", "."))
                )
    else:
        tensor.name = _name(model, pick)


def _damage(model, pick):
    """Change one constant, attribute or shape to what its operator does not want."""
    _, _, damages_of = pick.choice(damages.places(model))
    _, change = pick.choice(list(damages_of(model)))
    change(model)


def _shape(model, pick):
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    if values:
        value = pick.choice(values)
        if pick.random() < 0.2:
            value.ClearField("type")
        elif pick.random() < 0.3:
            value.type.tensor_type.elem_type = pick.randrange(27)
        elif value.type.tensor_type.shape.dim and pick.random() < 0.7:
            pick.choice(value.type.tensor_type.shape.dim).dim_value = pick.choice(NUMBERS)
        else:
            value.type.tensor_type.shape.dim.add()


def _nest(model, pick):
    """Put a graph into a node."""
    node = _node(model, pick)
    if node is not None and len(model.graph.node) < 30:
        inner = pick.choice(model.graph.node)
        graph = helper.make_graph([inner], "inner", [], [])
        graph.output.extend(helper.make_empty_tensor_value_info(name) for name in inner.output)
        node.attribute.append(helper.make_attribute(pick.choice(("then_branch", "else_branch", "body")), graph))


def _function(model, pick):
    """Make a function of some nodes, and call it."""
    node = _node(model, pick)
    if node is None or len(model.functions) > 5:
        return
    name = f"F{pick.randrange(4)}"
    body = [pick.choice(model.graph.node) for _ in range(2)]
    model.functions.append(
        helper.make_function(
            "my", name, ["a"], ["b"], body, [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
        )
    )
    node.op_type, node.domain = name, "my"


def _version(model, pick):
    if model.opset_import and pick.random() < 0.7:
        pick.choice(model.opset_import).version = pick.choice((1, 7, 9, 11, 13, 17, 19, 21, 23, *NUMBERS))
    else:
        model.ir_version = pick.choice((1, 3, 4, 8, 9, 10, 12, *NUMBERS))


CHANGES = (
    _operator, _input, _input, _input, _output, _remove, _copy, _insert, _insert, _attribute, _attribute, _tensor,
    _tensor, _damage, _damage, _damage, _shape, _nest, _function, _version,
)  # fmt: skip
