"""Nodes of which onnx's type inference ends the process, in ONNX Runtime, too, which has its own copy of it.

It computes lengths below 0, as of a `Pad` that takes away more than there is, and its rule for `Slice` dies of
one. Its rules for some operators die of an input of unknown type. So such nodes are hidden from it, by another
name, until it is known that what they read can be.
"""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import MutableMapping

import onnx
from onnx import GraphProto, ModelProto, NodeProto

from .soundness import graphs_in, in_order, parts

# What makes no length below 0 of lengths of at least 0. All others may, those with a window unless it is padded.
_NEVER_BELOW_0 = {
    "Abs", "Add", "And", "ArgMax", "ArgMin", "BatchNormalization", "BitShift", "Cast", "CastLike", "Ceil",
    "Celu", "Clip", "Concat", "Constant", "Cos", "DequantizeLinear", "Div", "Dropout", "Elu", "Equal", "Erf",
    "Exp", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool",
    "GlobalMaxPool", "Greater", "GreaterOrEqual", "GroupNormalization", "HardSigmoid", "HardSwish", "Hardmax",
    "Identity", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log",
    "LogSoftmax", "LpNormalization", "MatMul", "MatMulInteger", "Max", "Mean", "Min", "Mish", "Mod", "Mul",
    "Neg", "Not", "Or", "PRelu", "Pow", "QLinearMatMul", "QuantizeLinear", "RMSNormalization", "Reciprocal",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round", "ScatterElements", "ScatterND",
    "Selu", "Shape", "Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax", "Softplus", "Softsign", "Sqrt",
    "Squeeze", "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu", "Transpose", "Unsqueeze", "Where", "Xor",
}  # fmt: skip
_WINDOWS = ("AveragePool", "Conv", "ConvInteger", "LpPool", "MaxPool", "QLinearConv")
_STANDARD = ("", "ai.onnx")
# Older ones do not, but of a graph in a node, as of an If, that reads a tensor whose type they do not know.
DIES_OF_SLICES = tuple(int(n) for n in onnx.__version__.split(".")[:2]) >= (1, 21)
# Operators whose rule dies of a first input of unknown type, as that of an operator of one's own.
_BLIND = ("EyeLike", "RegexFullMatch")
_HIDDEN = "bytenorm.hidden."  # begins the names of hidden operators

# How many Slices of lengths that may be below 0 come before a tensor, and whether one may be since the last.
_State = tuple[int, bool]


def has_slices(graph: GraphProto) -> bool:
    """Say whether there are any, in graphs within nodes, too."""
    return any(node.op_type == "Slice" for part in parts(graph) for node in part.node)


def unsure_slices(graph: GraphProto) -> list[list[NodeProto]]:
    """Return the Slices whose inputs may have a length below 0: those of a list depend on lists before it only."""
    found: defaultdict[int, list[NodeProto]] = defaultdict(list)
    _follow(graph, {}, found)
    return [found[depth] for depth in sorted(found) if depth > 0]


def _follow(
    graph: GraphProto, known: MutableMapping[str, _State], found: defaultdict[int, list[NodeProto]]
) -> _State:
    """Note the state of each tensor of a graph, and its Slices by how many come before; return the last state."""
    most = (0, False)
    for node in in_order(graph):
        depth, unsure = max((known.get(name, (0, False)) for name in node.input), default=(0, False))
        for inner in graphs_in(node):
            ends = {value.name: (depth, unsure) for value in inner.input}
            depth, unsure = max((depth, unsure), _follow(inner, ChainMap(ends, known), found))
        if node.op_type == "Slice" and node.domain in _STANDARD:
            found[depth + unsure].append(node)
            depth, unsure = depth + unsure, False
        state = depth, unsure or _may_be_below_0(node)
        known.update(dict.fromkeys(node.output, state))
        most = max(most, state)
    return most


def _may_be_below_0(node: NodeProto) -> bool:
    if node.domain not in _STANDARD:
        return True
    if node.op_type not in _WINDOWS:
        return node.op_type not in _NEVER_BELOW_0
    given = {a.name: a for a in node.attribute}
    if "auto_pad" in given and given["auto_pad"].s.startswith(b"SAME"):
        return False
    if "kernel_shape" not in given:
        return True
    kernel = list(given["kernel_shape"].ints)
    dilations = list(given["dilations"].ints) if "dilations" in given else [1] * len(kernel)
    pads = list(given["pads"].ints) if "pads" in given else [0] * (2 * len(kernel))
    if len(pads) != 2 * len(kernel) or len(dilations) != len(kernel):
        return True
    ends = zip(pads, pads[len(kernel) :], strict=False)
    return any(a + b < d * (k - 1) for (a, b), d, k in zip(ends, dilations, kernel, strict=True))


def has_length_below_0(graph: GraphProto) -> bool:
    """Say whether a stated or inferred type has a length that no tensor has."""
    values = (v for part in parts(graph) for v in (*part.input, *part.value_info, *part.output))
    return any(dim.dim_value < 0 for value in values for dim in value.type.tensor_type.shape.dim)


def is_blind(node: NodeProto) -> bool:
    """Say whether the rule for a node dies of a first input of unknown type."""
    return node.domain in _STANDARD and node.op_type in _BLIND


def blind_nodes(model: ModelProto) -> list[NodeProto]:
    """Return nodes whose rules die of what is not known, and the Slices of functions, whose types are not told."""
    of_functions = [node for function in model.functions for part in parts(function) for node in part.node]
    nodes = [node for part in parts(model.graph) for node in part.node]
    return [
        *filter(is_blind, nodes),
        *(node for node in of_functions if is_blind(node) or (DIES_OF_SLICES and node.op_type == "Slice")),
    ]


def all_hidden(model: ModelProto) -> list[NodeProto]:
    """Return the nodes of a model that are hidden."""
    nodes = (node for root in (model.graph, *model.functions) for part in parts(root) for node in part.node)
    return [node for node in nodes if node.op_type.startswith(_HIDDEN)]


def hide(nodes: list[NodeProto]) -> None:
    """Give nodes an operator that onnx does not know."""
    for node in nodes:
        node.op_type = _HIDDEN + node.op_type


def show(nodes: list[NodeProto]) -> None:
    """Give hidden nodes their operator again."""
    for node in nodes:
        node.op_type = node.op_type.removeprefix(_HIDDEN)
