"""Constants where onnx's type inference looks for them: all that ONNX Runtime knows when it infers types.

ONNX Runtime computes what depends on constants alone, and on lengths that are known. Then it infers types again
with these numbers, also within the graphs of nodes. onnx looks at no number of the graph around one, and computes
little. So they are written down for it: computed ones as Constants, and in graphs within nodes as initializers.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from .constants import are_real, array_of, constant_value, is_computed, outputs_of
from .soundness import graphs_in, names_read

if TYPE_CHECKING:
    from .constants import Array

MOST = 512  # numbers of a tensor that is told; shapes, pads and axes are few
_ROOM = 2**18  # bytes that one node may take, where it takes more than it makes
_OF_NUMBERS = ("ConstantOfShape", "Range")  # whose first input tells lengths
_STANDARD = ("", "ai.onnx")


def tell_constants(model: ModelProto, inferred: GraphProto, failed: set[bytes]) -> bool:
    """Write down small numbers that are known; say if there were any that were not told before.

    Parameters
    ----------
    model : ModelProto
        Changed in place; its nodes in order.
    inferred : GraphProto
        Its graph with types, as far as they are known.
    failed : set of bytes
        Nodes that were tried before and told nothing; changed in place.
    """
    opset = max((entry.version for entry in model.opset_import if entry.domain in _STANDARD), default=1)
    return _Telling(opset, failed).tell(model.graph, inferred, {}, {}, ())[0]


class _Telling:
    def __init__(self, opset: int, failed: set[bytes]) -> None:
        self._opset, self._failed = opset, failed

    def tell(
        self,
        graph: GraphProto,
        inferred: GraphProto,
        outer: MutableMapping[str, Array],
        outer_shapes: MutableMapping[str, tuple[int, ...]],
        wanted: Iterable[str],
    ) -> tuple[bool, Mapping[str, Array]]:
        """Tell the numbers of a graph; return if there were new ones, and all that are known in it."""
        inputs = {value.name for value in graph.input}
        own: dict[str, Array] = {}
        for tensor in graph.initializer:
            small = math.prod(tensor.dims) <= MOST and tensor.data_location != TensorProto.EXTERNAL
            if small and tensor.name not in inputs:
                with suppress(ValueError):  # damaged ones are said where they are read
                    own |= _real({tensor.name: array_of(tensor)})
        hidden = inputs | {t.name for t in graph.initializer} | {t for node in graph.node for t in node.output}
        around = {name: value for name, value in outer.items() if name not in hidden}
        known: MutableMapping[str, Array] = ChainMap(own, around)
        values = (*inferred.input, *inferred.value_info, *inferred.output)
        shapes = ChainMap(dict(_shapes(values)), outer_shapes)
        needed = _needed(graph, wanted)
        new, added = False, list[tuple[int, NodeProto]]()
        for at, (node, typed) in enumerate(zip(graph.node, inferred.node, strict=True)):
            made: Mapping[str, Array] = {}
            branches = []
            for inner, inner_typed in zip(graphs_in(node), graphs_in(typed), strict=True):
                told = _hand_down(inner, known)
                more, found = self.tell(inner, inner_typed, known, shapes, [v.name for v in inner.output])
                new = new or told or more
                branches.append(found)
            if needed.intersection(node.output):
                made = self._made(node, known, shapes, branches)
            made = _real(made)
            own.update(made)
            outputs = [name for name in node.output if name]
            if outputs and made.keys() >= set(outputs) and node.op_type != "Constant":
                added += ((at + 1, _constant(name, made[name])) for name in outputs[1:])
                node.CopyFrom(_constant(outputs[0], made[outputs[0]]))
                new = True
        for at, node in reversed(added):
            graph.node.insert(at, node)
        return new, known

    def _made(
        self,
        node: NodeProto,
        known: Mapping[str, Array],
        shapes: Mapping[str, tuple[int, ...]],
        branches: list[Mapping[str, Array]],
    ) -> Mapping[str, Array]:
        """Return what a node makes, by name, as far as that is known."""
        if node.domain not in _STANDARD:
            return {}
        if node.op_type == "Constant":
            value = None
            with suppress(ValueError):
                value = constant_value(node)
            return {} if value is None else {node.output[0]: value}
        if node.op_type == "Shape" and node.input[0] in shapes:
            bounds = {a.name: a.i for a in node.attribute}
            shape = shapes[node.input[0]][bounds.get("start") : bounds.get("end")]
            return {node.output[0]: np.array(shape, np.int64)}
        if node.op_type == "If" and len(branches) == 2 and node.input[0] in known:
            graphs = [a.g for a in node.attribute if a.HasField("g")]
            name = "then_branch" if known[node.input[0]].all() else "else_branch"
            at = [a.name for a in node.attribute if a.HasField("g")].index(name)
            ends = zip(node.output, (value.name for value in graphs[at].output), strict=True)
            return {output: branches[at][end] for output, end in ends if end in branches[at]}
        if not is_computed(node) or not node.input or not all(name in known for name in node.input if name):
            return {}
        written = node.SerializeToString()
        if written in self._failed:
            return {}
        made = outputs_of(node, [known.get(name) for name in node.input], self._opset, _ROOM)[0]
        if not made:
            self._failed.add(written)
        return made


def _needed(graph: GraphProto, wanted: Iterable[str]) -> set[str]:
    """Return what may tell a length: inputs but first ones, what graphs within nodes read, all before these."""
    needed = set(wanted)
    for node in reversed(graph.node):
        whole = node.op_type in _OF_NUMBERS or bool(needed.intersection(node.output))
        needed.update(node.input if whole else node.input[1:])
        if any(True for _ in graphs_in(node)):
            needed.update(names_read(node, "model"))
    return needed


def _hand_down(inner: GraphProto, known: Mapping[str, Array]) -> bool:
    """Write what is known around a graph into it, as far as it reads that; say if there was any."""
    hidden = {t.name for t in (*inner.input, *inner.initializer)} | {t for node in inner.node for t in node.output}
    read = {name for node in inner.node for name in names_read(node, "model")} - hidden
    names = sorted(read.intersection(known))
    inner.initializer.extend(numpy_helper.from_array(known[name], name) for name in names)
    return bool(names)


def _real(values: Mapping[str, Array]) -> dict[str, Array]:
    """Return those that are of few numbers."""
    return {name: value for name, value in values.items() if value.size <= MOST and are_real(value)}


def _constant(name: str, value: Array) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))


def _shapes(values: Iterable[ValueInfoProto]) -> Iterable[tuple[str, tuple[int, ...]]]:
    for value in values:
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            yield value.name, tuple(dim.dim_value for dim in tensor.shape.dim)
