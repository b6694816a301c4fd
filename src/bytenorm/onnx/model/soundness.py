"""What a model's graphs and functions must be before anything walks them: finite, and without circles.

Everything else looks at a model as if nothing in it came back to itself. ONNX's own checker does not look for
circles of functions, and writes out functions that call each other however many nodes come of it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import onnx

from ..._errors import bad_value

DEEPEST = 30  # graphs within graphs; protobuf reads 100 messages within messages, three for each of them
MOST_NODES = 1_000_000  # when all functions are written out; large language models have some ten thousand

Part = onnx.GraphProto | onnx.FunctionProto
Function = tuple[str, str, str]  # domain, name, overload


def require_sound(model: onnx.ModelProto, label: str) -> None:
    """Refuse names that are no text, malformed nodes, circles, and what is too deep or too large."""
    _require_text(model, label)
    for root in (model.graph, *model.functions):
        opsets = [*model.opset_import, *(root.opset_import if isinstance(root, onnx.FunctionProto) else [])]
        versions = {_domain(opset.domain): opset.version for opset in opsets}
        for part in parts(root, label):
            for node in part.node:
                _require_ends(node, versions, label)
            _require_order(part, label)
    _require_finite(model, label)


def _require_text(model: onnx.ModelProto, label: str) -> None:
    """Refuse text, documentation apart, that is no UTF-8: protobuf gives bytes for it."""
    waiting: list[Any] = [model]
    while waiting:
        message = waiting.pop()
        if isinstance(
            message, onnx.TensorProto
        ):  # its other fields are numbers, which would be copied to be listed
            waiting += message.external_data
            fields = [(onnx.TensorProto.DESCRIPTOR.fields_by_name["name"], message.name)]
        else:
            fields = message.ListFields()
        for field, value in fields:
            if field.type == field.TYPE_MESSAGE:
                waiting += [value] if hasattr(value, "ListFields") else value
            elif field.type == field.TYPE_STRING and field.name != "doc_string":
                texts = [value] if isinstance(value, str | bytes) else value
                if not all(isinstance(text, str) for text in texts):
                    raise bad_value(label, "is damaged: it has a name that is no text in UTF-8")


# Operators that onnx does not know: the least inputs that ONNX Runtime takes.
_LEAST_INPUTS = {
    ("com.microsoft", "QLinearAdd"): 7,
    ("com.microsoft", "QLinearMul"): 7,
    ("com.microsoft", "QLinearConcat"): 5,
    ("com.microsoft", "QLinearAveragePool"): 4,
    ("com.microsoft", "QLinearGlobalAveragePool"): 5,
    ("com.microsoft", "QLinearLeakyRelu"): 4,
    ("com.microsoft", "QLinearSigmoid"): 4,
    ("com.microsoft", "QLinearSoftmax"): 5,
    ("com.microsoft", "QGemm"): 6,
    ("com.microsoft", "QuantizeLinear"): 2,
    ("com.microsoft", "DequantizeLinear"): 2,
    ("bytenorm", "QLinearBatchNormalization"): 9,
    ("bytenorm", "QLinearConcatBatchNormalization"): 9,
    ("bytenorm", "QLinearAddBatchNormalization"): 14,
    ("bytenorm", "QLinearSumBatchNormalization"): 9,
}


def _require_ends(node: onnx.NodeProto, versions: dict[str, int], label: str) -> None:
    """Refuse a node with fewer or more inputs or outputs than its operator has, as ONNX Runtime does."""
    domain = _domain(node.domain)
    least, most, least_outputs, most_outputs = _ends(domain, node.op_type, versions.get(domain, 1))
    for what, n, low, high in (
        ("inputs", len(node.input), least, most),
        ("outputs", len(node.output), least_outputs, most_outputs),
    ):
        if not low <= n <= high:
            wanted = f"{low}" if low == high else f"at least {low}" if n < low else f"at most {high}"
            raise bad_value(label, f"has a node {node.op_type} {node.name!r} with {n} {what}: {wanted} are wanted")
    told = [a.i for a in node.attribute if a.name == "num_outputs"]
    if node.op_type == "Split" and not domain and told not in ([], [len(node.output)]):
        # Of more outputs than it tells onnx's inference dies; other numbers ONNX Runtime refuses.
        n = len(node.output)
        raise bad_value(label, f"has a node Split {node.name!r} with {n} outputs: its num_outputs is {told[0]}")


@functools.cache
def _ends(domain: str, op_type: str, version: int) -> tuple[int, int, int, int]:
    """Return how many inputs and outputs an operator has: the least and the most of each."""
    any_number = 2**31 - 1
    try:
        if onnx.defs.has(op_type, version, domain):
            schema = onnx.defs.get_schema(op_type, version, domain)
        else:  # it is newer than the opset: ONNX Runtime will not have it either
            schema = onnx.defs.get_schema(op_type, domain)
    except Exception:  # not known to onnx
        least = _LEAST_INPUTS.get((domain, op_type))
        return (0, any_number, 0, any_number) if least is None else (least, any_number, 1, any_number)
    return schema.min_input, schema.max_input, schema.min_output, schema.max_output


def parts(root: Part, label: str = "the model") -> Iterator[Part]:
    """Yield a graph or function and the graphs within its nodes."""
    waiting: list[tuple[Part, int]] = [(root, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > DEEPEST:
            raise bad_value(label, f"has graphs within graphs, more than {DEEPEST} deep")
        yield part
        waiting += [(graph, depth + 1) for node in part.node for graph in graphs_in(node)]


def graphs_in(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _require_order(part: Part, label: str) -> None:
    """Refuse a circle of nodes, and a tensor that two of them make; any order of the nodes will do."""
    maker: set[str] = set()
    for node in part.node:
        for output in filter(None, node.output):
            if output in maker:
                raise bad_value(label, f"makes its tensor {output!r} twice: one node must")
            maker.add(output)
    left = set(range(len(part.node))).difference(_in_order(part, label))
    if left:
        node = part.node[min(left)]
        raise bad_value(label, f"has a cycle: its node {node.op_type} {node.name!r} waits for what it feeds")


def _in_order(part: Part, label: str) -> list[int]:
    """Return the places of nodes, each behind those that it reads; without circles and what is behind them."""
    maker = {output: at for at, node in enumerate(part.node) for output in node.output if output}
    reads = [{maker[name] for name in names_read(node, label) if name in maker} for node in part.node]
    readers: list[list[int]] = [[] for _ in reads]
    for at, before in enumerate(reads):
        for other in before:
            readers[other].append(at)
    missing = [len(before) for before in reads]
    ready = [at for at, n in enumerate(missing) if n == 0]
    for place in ready:  # which grows
        for at in readers[place]:
            missing[at] -= 1
            if missing[at] == 0:
                ready.append(at)
    return ready


def in_order(part: Part) -> list[onnx.NodeProto]:
    """Return the nodes of a graph, each behind those that it reads, as ONNX Runtime sorts them."""
    nodes, there = list(part.node), set[str]()
    made = {output for node in nodes for output in node.output if output}
    for node in nodes:
        if not there >= made.intersection(names_read(node, "the model")):
            order = _in_order(part, "the model")
            return [nodes[at] for at in order] if len(order) == len(nodes) else nodes
        there.update(node.output)
    return nodes


def sort_nodes(root: Part) -> None:
    """Put the nodes of a graph, and of the graphs within, in this order."""
    for part in parts(root):
        nodes = in_order(part)  # kept, for the numbers of what is gone are given again
        place = {id(node): at for at, node in enumerate(nodes)}
        if [id(node) for node in part.node] != list(place):
            part.node.sort(key=lambda node, place=place: place[id(node)])


def names_read(node: onnx.NodeProto, label: str) -> Iterator[str]:
    """Yield the inputs of a node, and the names that its graphs do not make themselves."""
    yield from node.input
    for graph in graphs_in(node):
        inner = list(parts(graph, label))
        own = {output for part in inner for n in part.node for output in n.output}
        for part in inner:
            names = [name for n in part.node for name in n.input]
            names += [output.name for output in part.output] if isinstance(part, onnx.GraphProto) else []
            yield from (name for name in names if name not in own)


def _require_finite(model: onnx.ModelProto, label: str) -> None:
    """Refuse functions that call themselves, and more nodes than there is room for."""
    calls = {key: _calls(function, label) for function in model.functions for key in [_key(function)]}
    known = set(calls)
    nodes: dict[Function, int] = {}  # of a function, when all that it calls is written out
    for root in calls:
        waiting, opened = [root], set[Function]()
        while waiting:
            key = waiting[-1]
            before = [called for called in calls[key] if called in known and called not in nodes]
            circle = opened.intersection(before)
            if key not in nodes and circle:
                names = " and ".join(sorted({key[1], *(name for _, name, _ in circle)}))
                raise bad_value(label, f"has functions that call themselves: {names}")
            if before and key not in nodes:
                opened.add(key)
                waiting += before
                continue
            if key not in nodes:
                nodes[key] = _written_out(calls[key], nodes)
            opened.discard(key)
            waiting.pop()
    total = _written_out(_calls(model.graph, label), nodes)
    if total > MOST_NODES:
        raise bad_value(
            label, f"has functions of {total} nodes or more when written out: at most {MOST_NODES} are wanted"
        )


def _written_out(calls: dict[Function, int], nodes: dict[Function, int]) -> int:
    # Thirty functions can make 2^30 nodes of two, a thousand a number that nobody prints.
    return min(sum(count * nodes.get(called, 1) for called, count in calls.items()), 1000 * MOST_NODES)


def _calls(root: Part, label: str) -> dict[Function, int]:
    """Count the nodes of a graph or function by what they call."""
    counts: dict[Function, int] = {}
    for part in parts(root, label):
        for node in part.node:
            key = (_domain(node.domain), node.op_type, node.overload)
            counts[key] = counts.get(key, 0) + 1
    return counts


def _key(function: onnx.FunctionProto) -> Function:
    return _domain(function.domain), function.name, function.overload


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
