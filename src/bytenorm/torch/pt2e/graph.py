"""A traced program as the rewritings see it: what a node calls, and which tensors are constant.

Two kinds of program are told apart here and nowhere else: a ``torch.fx.GraphModule``, which reads its parameters
with ``get_attr``, and a ``torch.export.ExportedProgram``, which is given them as placeholders.
"""

from __future__ import annotations

import copy
import warnings
from types import MethodType
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx import Graph, GraphModule, Node

from ..._errors import bad_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

# What torch.ops holds; the names of these classes are not public.
_Packet: Any = type(torch.ops.aten.relu)
_Overload: Any = type(torch.ops.aten.relu.default)
_HANDED_ON = {"aten::lift_fresh_copy", "aten::lift_fresh", "aten::detach", "aten::detach_", "aten::alias"}


def operator_name(node: Node) -> str:
    """Return the operator that a node calls, as ``aten::batch_norm``; empty if it calls none."""
    if node.op != "call_function":
        return ""
    if isinstance(node.target, _Overload):
        return f"{node.target.namespace}::{node.target._opname}"
    if isinstance(node.target, _Packet):  # as torchao's observers write them
        return str(node.target).replace(".", "::", 1)
    return ""


def arguments(node: Node) -> dict[str, Any]:
    """Return what a node calls its operator with, by the names in the schema, defaults filled in."""
    schema = _schema(node)
    if schema is None:
        return {}
    given = dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | node.kwargs
    return {a.name: given.get(a.name, a.default_value) for a in schema.arguments}


def _schema(node: Node) -> Any:
    target: Any = node.target
    if isinstance(target, _Packet):
        target = target.default
    return target._schema if isinstance(target, _Overload) else None


def changes_in_place(node: Node, value: Node) -> bool:
    """Say whether a node writes to the memory of a value that it is given."""
    schema = _schema(node)
    if schema is None or operator_name(node) in _HANDED_ON:
        return False
    given = arguments(node)
    if given.get("training") is False:  # of a norm, which then leaves its running statistics alone
        return False
    written = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return any(given[name] is value for name in written)


def is_written(node: Node) -> bool:
    """Say whether somebody writes to the memory of what a node makes, through a view of it or itself."""
    return any(changes_in_place(user, node) or (_is_view(user, node) and is_written(user)) for user in node.users)


def _is_view(node: Node, value: Node) -> bool:
    schema, given = _schema(node), arguments(node)
    if schema is None:
        return False
    return any(given[a.name] is value for a in schema.arguments if a.alias_info is not None)


def original(node: Node) -> Node:
    """Return the node whose value another one hands on: what tracing writes behind constants."""
    while operator_name(node) in _HANDED_ON:
        node = node.args[0]  # type: ignore[assignment]
    return node


def label(node: Node) -> str:
    """Return how messages call a node: the module that it comes from, or its name."""
    stack = node.meta.get("nn_module_stack")
    path = str(next(reversed(stack.values()))[0]) if stack else ""
    return path.removeprefix("L['self'].") or node.name


class Program(Protocol):
    """A program of either kind, a copy that may be changed; its tensors are those of the original."""

    graph: Graph
    kept: set[str]  # names of nodes that something beside the graph refers to

    def tensor(self, node: Node) -> Tensor | None:
        """Return the tensor that a node stands for; None if it depends on the program's inputs or changes."""

    def name(self, node: Node) -> str:
        """Return what the program calls a parameter, buffer or constant; empty for other nodes."""

    def detach(self, node: Node) -> None:
        """Let the parameter that a node stands for require no gradient any more."""

    def replaced(self, old: Node, new: Node) -> None:
        """Take note that a node took the place of another."""

    def add_tensor(self, name: str, value: Tensor, user: Node) -> Node:
        """Return a node, in front of its user, of a new parameter that requires no gradient."""

    def finish(self) -> Any:
        """Return the changed program."""

    def subgraphs(self) -> Iterator[tuple[str, GraphModule]]:
        """Yield the graphs inside, of ``cond`` and the like, by name."""


class _Module:
    def __init__(self, module: GraphModule) -> None:
        shared = [*module.parameters(), *module.buffers(), *_own_attributes(module)]
        # What deepcopy finds in its memo, it does not copy.
        self._module = copy.deepcopy(module, {id(value): value for value in shared})
        for name, copied in self._module.named_modules(remove_duplicate=False):
            _restore(module.get_submodule(name), copied)
        self.graph = self._module.graph
        self.kept: set[str] = set()

    def tensor(self, node: Node) -> Tensor | None:
        node = original(node)
        if node.op != "get_attr" or any(changes_in_place(user, node) for user in node.users):
            return None
        value: Any = self._module
        for name in str(node.target).split("."):
            value = getattr(value, name, None)
        return value if isinstance(value, torch.Tensor) else None

    def name(self, node: Node) -> str:
        return str(node.target) if node.op == "get_attr" else ""

    def detach(self, node: Node) -> None:
        value = self.tensor(node)
        if value is not None and value.requires_grad:
            path, _, name = str(node.target).rpartition(".")
            setattr(self._module.get_submodule(path), name, _detached(value))

    def replaced(self, old: Node, new: Node) -> None:
        pass

    def add_tensor(self, name: str, value: Tensor, user: Node) -> Node:
        name = free_name(name, lambda n: hasattr(self._module, n))
        self._module.register_parameter(name, torch.nn.Parameter(value, requires_grad=False))
        with self.graph.inserting_before(user):
            node = self.graph.get_attr(name)
        node.meta["val"] = _as_fake(value, user)
        return node

    def finish(self) -> GraphModule:
        self.graph.lint()
        self._module.recompile()
        return self._module

    def subgraphs(self) -> Iterator[tuple[str, GraphModule]]:
        return _graphs_inside(self._module)


class _Exported:
    def __init__(self, program: ExportedProgram) -> None:
        self._program = program
        self._module = GraphModule(program.graph_module, copy.deepcopy(program.graph))
        self._module.meta.update(program.graph_module.meta)
        self.graph = self._module.graph
        for node, copied in zip(program.graph.nodes, self.graph.nodes, strict=True):
            copied.name = node.name  # a copy calls `input`, as of a Sequential, `input_1`
        self._signature = copy.deepcopy(program.graph_signature)
        self._state = dict(program.state_dict)
        s = self._signature
        self._calls = copy.deepcopy(program.module_call_graph)
        preserved = [call.signature for call in self._calls if call.signature is not None]
        self.kept = {value.name for s in preserved for value in (*s.inputs, *s.outputs) if hasattr(value, "name")}
        self._names = {**s.inputs_to_parameters, **s.inputs_to_buffers, **s.inputs_to_lifted_tensor_constants}
        self._mutated = set(s.buffers_to_mutate.values())

    def tensor(self, node: Node) -> Tensor | None:
        node = original(node)
        name = self.name(node)
        if not name or name in self._mutated or any(changes_in_place(user, node) for user in node.users):
            return None
        value = self._state.get(name, self._program.constants.get(name))
        return value if isinstance(value, torch.Tensor) else None

    def name(self, node: Node) -> str:
        return str(self._names.get(node.name, "")) if node.op == "placeholder" else ""

    def detach(self, node: Node) -> None:
        value = self.tensor(node)
        if value is not None and value.requires_grad:
            self._state[self._names[node.name]] = _detached(value)
            node.meta["val"] = node.meta["val"].detach()

    def replaced(self, old: Node, new: Node) -> None:
        self._signature.replace_all_uses(old.name, new.name)

    def add_tensor(self, name: str, value: Tensor, user: Node) -> Node:
        name = free_name(name, lambda n: n in self._state or n in self._program.constants)
        with self.graph.inserting_before(next(iter(self.graph.nodes))):
            node = self.graph.placeholder(f"p_{name}")
        node.meta["val"] = _as_fake(value, user)
        spec = InputSpec(InputKind.PARAMETER, TensorArgument(node.name), name)
        self._signature.input_specs.insert(0, spec)
        self._state[name] = torch.nn.Parameter(value, requires_grad=False)
        self._names[node.name] = name
        return node

    def finish(self) -> ExportedProgram:
        self.graph.lint()
        p = self._program
        return ExportedProgram(
            self._module,
            self.graph,
            self._signature,
            self._state,
            copy.deepcopy(p.range_constraints),
            self._calls,
            p.example_inputs,
            p.constants,
            verifiers=p.verifiers,
        )

    def subgraphs(self) -> Iterator[tuple[str, GraphModule]]:
        return _graphs_inside(self._module)


def open_program(program: GraphModule | ExportedProgram) -> Program:
    """Return a copy of a program that may be changed; its tensors are not copied.

    Raises
    ------
    TypeError
        If it is neither a graph module nor an exported program.
    """
    with warnings.catch_warnings():  # of torch when it copies its own trees
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        if isinstance(program, ExportedProgram):
            return _Exported(program)
        if isinstance(program, GraphModule):
            return _Module(program)
    raise bad_type(
        "program",
        "must be a torch.export.ExportedProgram or a torch.fx.GraphModule, as convert_pt2e returns it, "
        f"got {type(program).__name__}",
    )


def free_name(name: str, is_taken: Callable[[str], bool]) -> str:
    """Return a name that is not taken, `name` itself if possible."""
    free, n = name, 0
    while is_taken(free):
        n += 1
        free = f"{name}_{n}"
    return free


def _as_fake(value: Tensor, like: Node) -> Tensor:
    """Return what a tensor is to tracing, where that was noted of another node."""
    noted = like.meta.get("val")
    mode = getattr(noted, "fake_mode", None)  # their class is not public
    if mode is None:
        return value
    made: Tensor = mode.from_tensor(value, static_shapes=True)
    return made


def _detached(value: Tensor) -> Tensor:
    same = value.detach()
    return torch.nn.Parameter(same, requires_grad=False) if isinstance(value, torch.nn.Parameter) else same


def _own_attributes(module: GraphModule) -> Iterator[Any]:
    """Yield what somebody set on a program or one inside, and tensors that are no buffers."""
    usual = vars(GraphModule(torch.nn.Module(), Graph())).keys()
    for inner in module.modules():
        own = vars(inner)
        for name, value in own.items():
            if isinstance(value, torch.Tensor) or (isinstance(inner, GraphModule) and name not in usual):
                yield value
            elif "_hooks" in name:
                yield from value.values() if isinstance(value, dict) else value


def _restore(module: torch.nn.Module, copied: torch.nn.Module) -> None:
    """Give the copy of a module what a copy of a GraphModule leaves out.

    It makes every tensor a buffer and every buffer one of the state dict. It drops hooks and what was set on the
    module itself: its flags, and its own `train` and `eval`, with which torchao refuses or replaces the usual.
    """
    own, made = vars(module), vars(copied)
    for name in own.keys() & copied._buffers.keys():
        made[name] = copied._buffers.pop(name)
    copied._non_persistent_buffers_set = module._non_persistent_buffers_set & copied._buffers.keys()
    if not isinstance(module, GraphModule):
        return
    for name, value in own.items():
        if name not in made and name not in copied._buffers:
            bound = isinstance(value, MethodType) and value.__self__ is module
            made[name] = MethodType(value.__func__, copied) if bound else value
        elif "_hooks" in name and isinstance(value, dict) and not made[name]:
            made[name].update(value)


def _graphs_inside(module: GraphModule) -> Iterator[tuple[str, GraphModule]]:
    for name, inner in module.named_modules():
        if name and isinstance(inner, GraphModule):
            yield name, inner
