"""An ONNX graph as the rewritings see it: who makes a tensor, who reads it, which tensors are constant.

Long, for it is one class, and the few questions to a node that all of its users ask with it.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..._errors import bad_value
from ..model.constant_inputs import replaceable
from ..model.constants import (
    CONVERSIONS,
    LARGEST,
    are_real,
    array_of,
    constant_value,
    dense,
    is_computed,
    outputs_of,
)
from ..model.free_names import free_name
from ..model.weightless import inferred_types

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt
    from onnx import GraphProto

    from ..model.weightless import Types

    Array = npt.NDArray[np.generic]

Number = TypeVar("Number", int, float)

CONTRIBUTED = "com.microsoft"  # the domain of ONNX Runtime's operators
KEPT = 16 << 20  # bytes; larger values are not kept when they are known but made again when they are asked for
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # what has a weight, and sums of products with it


def attribute(node: NodeProto, name: str, default: Number) -> Number:
    """Return a node's attribute of the type of its default, float or int."""
    wanted = AttributeProto.FLOAT if isinstance(default, float) else AttributeProto.INT
    found = _attribute(node, name, wanted)
    if found is None:
        return default
    return type(default)(found.f if isinstance(default, float) else found.i)


def int_list(node: NodeProto, name: str) -> list[int] | None:
    """Return a node's attribute that is a list of integers, or None."""
    found = _attribute(node, name, AttributeProto.INTS)
    return None if found is None else list(found.ints)


def text(node: NodeProto, name: str, default: str) -> str:
    """Return a node's attribute that is a string."""
    found = _attribute(node, name, AttributeProto.STRING)
    return default if found is None else found.s.decode(errors="replace")


def _attribute(node: NodeProto, name: str, wanted: int) -> AttributeProto | None:
    """Return a node's attribute, or raise a ValueError if it has another type, which ONNX Runtime refuses too."""
    found = next((a for a in node.attribute if a.name == name), None)
    if found is not None and found.type not in (wanted, AttributeProto.UNDEFINED):  # the oldest models state none
        what, kind = f"the attribute {name} of {node.op_type} {label(node)}", AttributeProto.AttributeType.Name
        raise bad_value("model", f": {what} is of type {kind(found.type)}: {kind(wanted)} is wanted")
    return found


def is_op(node: NodeProto | None, *ops: str) -> bool:
    """Say whether a node is one of these standard operators."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in ops


def is_conversion(node: NodeProto | None, *ops: str) -> bool:
    """Say whether a node is a standard one of these, or ONNX Runtime's own, which says the same."""
    return node is not None and node.op_type in ops and node.domain in ("", "ai.onnx", CONTRIBUTED)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs in a node's attributes: the branches of an If, the body of a Loop."""
    for a in node.attribute:
        if a.type == AttributeProto.GRAPH:
            yield a.g
        yield from a.graphs


def all_graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and all those inside."""
    yield graph
    for node in graph.node:
        for inside in subgraphs(node):
            yield from all_graphs(inside)


def opset_of(model: ModelProto) -> int:
    """Return the version of the standard operators that a model imports."""
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def label(node: NodeProto) -> str:
    """Return how messages call a node: its name, or what it makes."""
    return node.name or next(iter(node.output), node.op_type)


class Graph:
    """The main graph of a model, changed in place, with an index of its nodes.

    Nodes with a name that an earlier one has get another. The index follows :meth:`add`, :meth:`remove` and
    :meth:`redirect`; nodes are put in order, and what nothing reads any more is dropped, by :meth:`finish`.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.proto: GraphProto = model.graph
        tell_nodes_apart(self.proto)
        self._initializers = {t.name: t for t in self.proto.initializer}
        self._replaceable = set(replaceable(model))
        self._sparse = {t.values.name: t for t in self.proto.sparse_initializer}
        self._arrays: dict[str, Array] = {}  # the values that are known
        self._large: weakref.WeakValueDictionary[str, Array] = weakref.WeakValueDictionary()  # as long as read
        self._let_go: set[str] = set()  # the names of values that are or were among these
        self._variable: set[str] = set()  # tensors without one
        self._room = LARGEST  # bytes that values which are computed may still take
        self._nodes: dict[int, NodeProto] = {}
        self._maker: dict[str, NodeProto] = {}
        self._readers: dict[str, list[NodeProto]] = {}
        self._names = set(_all_names(self.proto))
        self._node_names = {n.name for n in self.proto.node}
        self.outputs = {v.name for v in self.proto.output}
        self.inputs = {v.name for v in self.proto.input} - {*self._initializers, *self._sparse}
        for node in self.proto.node:
            self._index(node)
        self.held = set(_captured(self.proto))
        self._types: Types | None = None

    @property
    def nodes(self) -> Iterator[NodeProto]:
        """The nodes, in the order of the model, added ones last."""
        return iter(list(self._nodes.values()))

    # What is there

    def in_order(self) -> list[NodeProto]:
        """Return the nodes, each after those whose results it reads."""
        return self._sorted(list(self._nodes.values()))

    def initializer(self, tensor: str) -> TensorProto | None:
        """Return the initializer of this name; None if it is none."""
        return self._initializers.get(tensor)

    def maker(self, tensor: str) -> NodeProto | None:
        """Return the node that makes a tensor; None for inputs, initializers and no tensor at all."""
        return self._maker.get(tensor) if tensor else None

    def readers(self, tensor: str) -> list[NodeProto]:
        """Return the nodes that read a tensor, each once."""
        return list(self._readers.get(tensor, ()))

    def is_read_elsewhere(self, tensor: str) -> bool:
        """Say whether something beside the nodes of this graph needs a tensor."""
        return tensor in self.outputs or tensor in self.held

    def is_captured(self, tensor: str) -> bool:
        """Say whether a subgraph reads a tensor."""
        return tensor in self.held

    def only_reader(self, tensor: str) -> NodeProto | None:
        """Return the node that alone reads a tensor; None if there are others, or if it is an output."""
        readers = self.readers(tensor)
        return readers[0] if len(readers) == 1 and not self.is_read_elsewhere(tensor) else None

    def is_needed(self, tensor: str) -> bool:
        """Say whether an output of the graph depends on a tensor."""
        wanted, seen = [tensor], {tensor}
        while wanted:
            name = wanted.pop()
            if self.is_read_elsewhere(name):
                return True
            made = {output for reader in self.readers(name) for output in reader.output if output}
            wanted += made - seen
            seen |= made
        return False

    def constant(self, tensor: str) -> Array | None:
        """Return the numbers of a tensor that depends on no input: initializers and what is made of them alone.

        None also where they are text or complex, and where they would take more memory than
        :data:`bytenorm.onnx.model.constants.LARGEST`.
        """
        found = self._large.get(tensor)
        if found is not None:
            return found
        waiting, opened = [tensor], set()
        while waiting:
            name = waiting[-1]
            if not name or name in self._arrays or name in self._variable:
                waiting.pop()
                continue
            before = [t for t in self._made_of(name) if t and t not in self._arrays]
            if name in opened or not before or any(t in self._variable for t in before):
                waiting.pop()
                self._evaluate(name)
            else:
                opened.add(name)
                waiting += before
        found = self._arrays.get(tensor)
        for name in self._let_go & self._arrays.keys():
            self._large[name] = self._arrays.pop(name)
        return found

    def _made_of(self, tensor: str) -> Sequence[str]:
        """Return what has to be known before the value of a tensor can be."""
        node = self._maker.get(tensor)
        return node.input if node is not None and is_computed(node) else ()

    def _evaluate(self, tensor: str) -> None:
        """Note the value of a tensor whose maker's inputs are looked at, or that there is none."""
        node = self._maker.get(tensor)
        made: Mapping[str, Array | None] = {}
        if tensor in self._replaceable:
            pass
        elif tensor in self._initializers:
            made = {tensor: array_of(self._initializers[tensor])}
        elif tensor in self._sparse:
            made = {tensor: dense(self._sparse[tensor])}
        elif node is not None and is_op(node, "Constant"):
            made = {tensor: constant_value(node)}
        elif node is not None and is_computed(node) and tensor not in self.inputs:
            values = [self._arrays.get(t) for t in node.input]
            if all(v is not None or not t for v, t in zip(values, node.input, strict=True)):
                made, price = outputs_of(node, values, opset_of(self.model), self._room)
                self._room -= price
        self._arrays.update((n, value) for n, value in made.items() if value is not None and are_real(value))
        # No second copy is kept of what is in the model, nor of what is made of that as fast as it can be copied.
        if node is None or node.op_type in ("Constant", *CONVERSIONS):
            self._let_go.update(n for n in made if n in self._arrays and self._arrays[n].nbytes > KEPT)
        if tensor not in self._arrays:
            self._variable.add(tensor)

    def _forget_values(self, node: NodeProto) -> None:
        """Drop what is known of the values that a node makes, and of all that is made of these."""
        self._variable.clear()
        waiting = [t for t in node.output if self._is_known(t)]
        while waiting:
            name = waiting.pop()
            self._forget_value(name)
            waiting += [t for reader in self.readers(name) for t in reader.output if self._is_known(t)]

    def _is_known(self, tensor: str) -> bool:
        return tensor in self._arrays or tensor in self._let_go

    def _forget_value(self, tensor: str) -> None:
        self._arrays.pop(tensor, None)
        self._large.pop(tensor, None)
        self._let_go.discard(tensor)

    def type_of(self, tensor: str) -> tuple[int, tuple[int | None, ...] | None]:
        """Return the element type of a tensor (0: unknown) and its shape (None: unknown)."""
        if self._types is None:
            self._types = inferred_types(self.model)
        return self._types.get(tensor, (0, None))

    # Changes

    def new_name(self, wanted: str) -> str:
        """Return a name that no tensor of the graph has, `wanted` itself if possible."""
        return free_name(wanted, self._names)

    def new_node_name(self, wanted: str) -> str:
        """Return a name that no node of the graph has, `wanted` itself if possible."""
        return free_name(wanted, self._node_names)

    def add_constant(self, wanted: str, value: npt.ArrayLike) -> str:
        """Add an initializer and return its name; the type is that of the array."""
        name = self.new_name(wanted)
        tensor = numpy_helper.from_array(np.asarray(value), name)
        self.proto.initializer.append(tensor)
        self._initializers[name] = tensor
        return name

    def set_constant(self, name: str, value: Array) -> None:
        """Give an initializer another value, for all that read it, subgraphs included."""
        self._initializers[name].CopyFrom(numpy_helper.from_array(value, name))
        self._forget_value(name)
        for reader in self.readers(name):
            self._forget_values(reader)

    def make(self, op: str, inputs: Sequence[str], output: str, name: str, **attributes: object) -> NodeProto:
        """Make a standard node, named `name` or alike, and add it."""
        node = helper.make_node(op, list(inputs), [output], name=self.new_node_name(name))
        for key, value in attributes.items():
            node.attribute.append(helper.make_attribute(key, value))
        self.add(node)
        return node

    def make_like(self, node: NodeProto, inputs: Sequence[str], output: str, name: str = "") -> NodeProto:
        """Make a node of the same operator and attributes, named as its output if no name is given, and add it."""
        made = NodeProto()
        made.CopyFrom(node)
        made.name = self.new_node_name(name or output)
        made.input[:], made.output[:] = inputs, [output]
        self.add(made)
        return made

    def add(self, node: NodeProto) -> None:
        """Add a node; :meth:`finish` finds its place."""
        self._index(node)
        self._names.update(node.output)
        self._node_names.add(node.name)

    def remove(self, node: NodeProto) -> None:
        """Take a node out."""
        del self._nodes[id(node)]
        self._node_names.discard(node.name)
        self._forget_values(node)
        for output in node.output:
            self._maker.pop(output, None)
        self._unindex_reader(node)

    def change_type(self, tensor: str, data_type: int) -> None:
        """Note that a tensor has another element type now, and the shape that it had."""
        shape = self.type_of(tensor)[1]
        self._forget_note(tensor)
        if self._types is not None:
            self._types[tensor] = (data_type, shape)

    def note_type(self, tensor: str, like: str) -> None:
        """Note that a new tensor has the type and the shape of another one."""
        found = self.type_of(like)
        if self._types is not None:
            self._types[tensor] = found

    def forget_type(self, tensor: str) -> None:
        """Drop what is known of a tensor's type and shape, because it has another one now."""
        self._forget_note(tensor)
        if self._types is not None:
            self._types.pop(tensor, None)

    def _forget_note(self, tensor: str) -> None:
        for info in [v for v in self.proto.value_info if v.name == tensor]:
            self.proto.value_info.remove(info)

    def set_input(self, node: NodeProto, index: int, tensor: str) -> None:
        """Make a node read another tensor; as an input more, if it has so few."""
        self._forget_values(node)
        self._unindex_reader(node)
        node.input.extend([""] * (index + 1 - len(node.input)))
        node.input[index] = tensor
        self._index_reader(node)

    def redirect(self, old: str, new: str) -> None:
        """Make all nodes that read `old` read `new`."""
        for node in self.readers(old):
            for i, tensor in enumerate(node.input):
                if tensor == old:
                    self.set_input(node, i, new)

    def finish(self) -> None:
        """Write nodes in an order in which all run after what they read; drop what nothing needs."""
        self._types = None
        ordered = self._sorted(self.needed())
        del self.proto.node[:]
        self.proto.node.extend(ordered)
        used = {tensor for node in ordered for tensor in node.input} | self.outputs | set(_captured(self.proto))
        used.update(v.name for v in self.proto.input)
        for i in reversed(range(len(self.proto.initializer))):
            if self.proto.initializer[i].name not in used:
                del self.proto.initializer[i]
        used.update(tensor for node in ordered for tensor in node.output)
        for i in reversed(range(len(self.proto.value_info))):
            if self.proto.value_info[i].name not in used:
                del self.proto.value_info[i]
        for i in reversed(range(len(self.proto.quantization_annotation))):
            if self.proto.quantization_annotation[i].tensor_name not in used:
                del self.proto.quantization_annotation[i]

    def finished(self) -> Graph:
        """Finish, and return a graph of the same model with a new index; this one is of no use any more."""
        self.finish()
        return Graph(self.model)

    def needed(self) -> list[NodeProto]:
        """Return the nodes that an output of the model depends on."""
        needed: set[int] = set()
        wanted = list(self.outputs)
        while wanted:
            node = self._maker.get(wanted.pop())
            if node is None or id(node) in needed:
                continue
            needed.add(id(node))
            wanted.extend(node.input)
            wanted.extend(captured_by(node))
        return [node for node in self._nodes.values() if id(node) in needed]

    def _sorted(self, nodes: list[NodeProto]) -> list[NodeProto]:
        place = {id(node): i for i, node in enumerate(nodes)}
        ordered: list[NodeProto] = []
        state: dict[int, bool] = {}  # False: its inputs are being placed, True: placed
        for root in nodes:
            stack = [root]
            while stack:
                node = stack[-1]
                if state.get(id(node)):
                    stack.pop()
                    continue
                first_visit = id(node) not in state
                state[id(node)] = False
                before = [self._maker.get(t) for t in (*node.input, *captured_by(node))]
                missing = [m for m in before if m is not None and id(m) in place and not state.get(id(m))]
                if missing and not first_visit:
                    raise ValueError(f"the graph has a cycle at node {label(node)}")
                if missing:
                    stack.extend(sorted(missing, key=lambda m: -place[id(m)]))
                else:
                    state[id(node)] = True
                    ordered.append(node)
                    stack.pop()
        return ordered

    def _index(self, node: NodeProto) -> None:
        self._nodes[id(node)] = node
        self._variable.clear()
        for output in node.output:
            if output:
                self._maker[output] = node
        self._index_reader(node)

    def _index_reader(self, node: NodeProto) -> None:
        for tensor in dict.fromkeys(node.input):
            if tensor:
                self._readers.setdefault(tensor, []).append(node)

    def _unindex_reader(self, node: NodeProto) -> None:
        for tensor in set(node.input):
            if tensor:
                self._readers[tensor] = [n for n in self._readers[tensor] if n is not node]


def tell_nodes_apart(graph: GraphProto) -> None:
    """Let :func:`label` give each node of a graph a text of its own: names need not be unique, nor be there.

    ONNX Runtime refuses a model with two nodes of one name.
    """
    for part in all_graphs(graph):
        names = {node.name for node in part.node if node.name}
        seen: set[str] = set()
        for node in sorted(part.node, key=lambda node: not node.name):  # what has a name keeps it, if it can
            if label(node) in seen:
                node.name = free_name(label(node), names)
            seen.add(label(node))


def _captured(graph: GraphProto) -> Iterable[str]:
    for node in graph.node:
        yield from captured_by(node)


def captured_by(node: NodeProto) -> Iterable[str]:
    """Yield the names that a node's subgraphs read from the graph around them.

    A subgraph may use a name of its own that the graph around it uses later.
    """
    for inner in subgraphs(node):
        own = {v.name for v in inner.input} | {t.name for t in inner.initializer}
        for n in inner.node:
            yield from (name for name in (*n.input, *captured_by(n)) if name not in own)
            own.update(n.output)
        yield from (v.name for v in inner.output if v.name not in own)


def _all_names(graph: GraphProto) -> Iterable[str]:
    """Yield the names of a graph's tensors and of those in its subgraphs."""
    yield from (v.name for v in (*graph.input, *graph.output, *graph.initializer))
    for node in graph.node:
        yield from (*node.input, *node.output)
        for inner in subgraphs(node):
            yield from _all_names(inner)


def what_feeds(graph: Graph, tensor: str) -> str:
    """Return what makes a tensor, conversions between float and 8 bits and moves of axes apart."""
    maker = graph.maker(tensor)
    while maker is not None and is_op(maker, "DequantizeLinear", "QuantizeLinear", "Transpose", "Identity"):
        tensor = maker.input[0]
        maker = graph.maker(tensor)
    return f"{maker.op_type} {label(maker)}" if maker is not None else f"input {tensor}"


def type_name(data_type: int) -> str:
    """Return the name of an ONNX element type as messages write it."""
    if data_type not in TensorProto.DataType.values():  # a model may state any number
        return f"element type {data_type}"
    return TensorProto.DataType.Name(data_type).lower() if data_type else "of unknown type"
