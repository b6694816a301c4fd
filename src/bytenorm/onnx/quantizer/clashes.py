"""Names that ONNX Runtime's quantizer takes for its own.

What it makes of a tensor ``x`` it names ``x_scale``, ``x_QuantizeLinear_Input`` and so on, without a look at
whether the model has such a name. A tensor would then be defined twice, or one taken for the other. So such names
are changed before the quantizer sees them; those of inputs and outputs, and of nodes, are given back behind it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..graph.graph import all_graphs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

# How such a name goes on behind the name of the tensor or the node; what comes behind that is left open.
_GOES_ON = re.compile(r"_(?:scale|zero_point|quantized|quant|convert|QuantizeLinear|DequantizeLinear)(?![a-z])")
_PREFIX = "float/"


class Clashes:
    """The names of one model that its quantizer would use again: changed at once, given back by :meth:`undo`.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        tensors = set(_tensor_names(graph))
        nodes = {node.name for node in graph.node if node.name}
        every = tensors | nodes
        ends = {value.name for value in (*graph.input, *graph.output)}
        changes = {name: _free(name, every) for name in sorted(tensors) if _is_taken(name, every)}
        _rename(model, changes)
        self._ends = {new: old for old, new in changes.items() if old in ends}
        self._nodes = {}
        for node in graph.node:
            if _is_taken(node.name, every):
                new = _free(node.name, every)
                self._nodes[new], node.name = node.name, new

    def renamed(self, name: str) -> str:
        """Return what an input of the model is called now."""
        return next((new for new, old in self._ends.items() if old == name), name)

    def renamed_node(self, name: str) -> str:
        """Return what a node is called now."""
        return next((new for new, old in self._nodes.items() if old == name), name)

    def undo(self, model: onnx.ModelProto) -> None:
        """Give inputs, outputs and nodes of the quantized model the names that they had."""
        used = set(_tensor_names(model.graph))
        own = {old: _free(old, used) for old in self._ends.values() if old in used}
        _rename(model, own)  # of the quantizer's tensors, which nobody asks for by name
        _rename(model, self._ends)
        used = {node.name for node in model.graph.node}
        for node in model.graph.node:
            old = self._nodes.get(node.name)
            if old is not None and old not in used:
                node.name = old


def twice_defined(graph: onnx.GraphProto) -> str:
    """Return the name of a tensor that a graph defines more than once, empty if there is none."""
    seen = {value.name for value in graph.input}
    for name in (*(t.name for t in graph.initializer), *(t for node in graph.node for t in node.output if t)):
        if name in seen:
            return str(name)
        seen.add(name)
    return ""


def _is_taken(name: str, names: set[str]) -> bool:
    return any(name[: found.start()] in names for found in _GOES_ON.finditer(name) if found.start())


def _free(name: str, names: set[str]) -> str:
    new = _PREFIX + name
    while new in names or _is_taken(new, names):
        new = _PREFIX + new
    names.add(new)
    return new


def _tensor_names(graph: onnx.GraphProto) -> Iterator[str]:
    for part in all_graphs(graph):
        yield from (value.name for value in (*part.input, *part.output, *part.initializer))
        yield from (t.values.name for t in part.sparse_initializer)
        for node in part.node:
            yield from (name for name in (*node.input, *node.output) if name)


def _rename(model: onnx.ModelProto, changes: Mapping[str, str]) -> None:
    """Give tensors other names wherever they stand, in subgraphs too."""
    if not changes:
        return
    for part in all_graphs(model.graph):
        named = (*part.input, *part.output, *part.initializer, *part.value_info)
        for value in (*named, *(t.values for t in part.sparse_initializer)):
            value.name = changes.get(value.name, value.name)
        for annotation in part.quantization_annotation:
            annotation.tensor_name = changes.get(annotation.tensor_name, annotation.tensor_name)
            for entry in annotation.quant_parameter_tensor_names:
                entry.value = changes.get(entry.value, entry.value)
        for node in part.node:
            for tensors in (node.input, node.output):
                for i, name in enumerate(tensors):
                    if name in changes:
                        tensors[i] = changes[name]
