"""A program run node by node, on inputs that are given flat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_arg

from ..._errors import bad_value
from .graph import arguments, changes_in_place, is_written
from .qparams import is_dequantize

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Environment = dict[Node, Any]

ROOM = 192 << 20  # bytes that the parts of a walk hold together; the last ones are given up for it


@dataclass(frozen=True)
class Part:
    """Inputs, flat, and the item of the data that they come from."""

    item: int
    inputs: Sequence[Any]


class Runner(Interpreter):
    """Runs a program, and never changes what it has: each part finds the state that the program was given with.

    Parameters
    ----------
    module : GraphModule
        Arguments of its nodes may be changed between steps of a walk.
    argument, what : str
        What errors call the argument at fault, and the program.
    """

    def __init__(self, module: GraphModule, argument: str = "data", what: str = "program") -> None:
        super().__init__(module, garbage_collect_values=False)
        self._argument, self._what = argument, what
        self._state: set[int] = set()
        self._own: dict[int, torch.Tensor] = {}
        self._state = {id(self.fetch_attr(str(node.target))) for node in _state(module)}
        # Codes take a quarter of the memory of the numbers they stand for: those are made where they are read.
        self._late = {n for n in module.graph.nodes if is_dequantize(n) and not is_written(n)}
        self._last: dict[Node, list[Node]] = {}  # what nobody reads behind a node
        seen: set[Node] = set()
        for node in reversed(self._nodes()):
            new = [n for n in (node, *self._needed(node)) if n not in seen]
            self._last[node] = list(dict.fromkeys(new))
            seen.update(new)

    def _nodes(self) -> list[Node]:
        return [n for n in self.graph.nodes if not is_guard(n) and n not in self._late]

    def _needed(self, node: Node) -> Iterator[Node]:
        for source in node.all_input_nodes:
            if source in self._late:
                yield from self._needed(source)
            else:
                yield source

    def fetch_attr(self, target: str) -> Any:
        """Return what the program has; a part's own copy of what a run changes."""
        value = super().fetch_attr(target)
        return self._own.setdefault(id(value), value.clone()) if id(value) in self._state else value

    def make(self, env: Environment, node: Node) -> Any:
        """Run a node and what it reads that is not there."""
        late = [source for source in node.all_input_nodes if source not in env]
        for source in late:
            self.make(env, source)
        self.env = env
        env[node] = self.run_node(node)
        for source in late:
            if source in self._late:
                del env[source]
        return env[node]

    def read(self, env: Environment, node: Node) -> Any:
        """Return what a node that another one reads has made."""
        if node in env:
            return env[node]
        self.make(env, node)
        return env.pop(node)

    def values(self, env: Environment, node: Node) -> dict[str, Any]:
        """Return what a node calls its operator with, by the names in the schema."""
        return {name: map_arg(value, lambda n: self.read(env, n)) for name, value in arguments(node).items()}

    def outputs(self, part: Part) -> list[Any]:
        """Return what the program makes, flat."""
        from torch.utils._pytree import tree_leaves  # noqa: PLC0415 (no public name)

        made: list[Any] = []
        for node, (env,) in self.walk([part]):
            if node.op == "output":
                made = tree_leaves(env[node])
        return made

    def walk(self, parts: Sequence[Part]) -> Iterator[tuple[Node, list[Environment]]]:
        """Yield each node when all parts have gone through it, with the values of each part that are in use.

        Parts beyond the room that there is are given up on the way, the last ones first.

        Raises
        ------
        ValueError
            If the program cannot run a part.
        """
        envs: list[Environment] = [{} for _ in parts]
        inputs = [iter(part.inputs) for part in parts]
        states: list[dict[int, torch.Tensor]] = [{} for _ in parts]
        with torch.no_grad():
            for node in self._nodes():
                for at in range(len(envs)):
                    if at >= len(envs):
                        break
                    self.args_iter, self._own = inputs[at], states[at]
                    try:
                        self.make(envs[at], node)
                    except Exception as error:  # whatever the operators of a program raise
                        why = " ".join(str(error).split())
                        raise bad_value(
                            self._argument, f": the {self._what} cannot run item {parts[at].item}: {why}"
                        ) from None
                    if at == 0 and len(envs) > 1:
                        del envs[max(1, ROOM // max(1, _size(envs[0]))) :]
                yield node, envs
                for env in envs:
                    for gone in self._last[node]:
                        env.pop(gone, None)


def is_guard(node: Node) -> bool:
    """Say whether a node guards the shapes of the example that was exported; another batch is no other program."""
    return node.op == "call_module" and node.target == "_guards_fn"


def keeps_state(module: GraphModule) -> bool:
    """Say whether a run changes what a program has."""
    return bool(_state(module))


def _state(module: GraphModule) -> list[Node]:
    constants = (node for node in module.graph.nodes if node.op == "get_attr")
    return [node for node in constants if any(changes_in_place(user, node) for user in node.users)]


def _size(env: Environment) -> int:
    return sum(
        value.numel() * value.element_size()
        for node, value in env.items()
        if isinstance(value, torch.Tensor) and node.op != "get_attr"
    )
