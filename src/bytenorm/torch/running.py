"""A program run node by node, on inputs that are given flat."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves

from .graph import arguments, changes_in_place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Environment = dict[Node, Any]

ROOM = 192 << 20  # bytes that the batches of a walk hold together; the last ones are given up for it


class Runner(Interpreter):
    """Runs a program, and never changes what it has."""

    def __init__(self, module: GraphModule) -> None:
        own = copy.deepcopy(module) if keeps_state(module) else module
        super().__init__(own, garbage_collect_values=False)
        self._graph = own.graph
        self._last: dict[Node, list[Node]] = {}  # what nobody reads behind a node
        seen: set[Node] = set()
        for node in reversed(self._nodes()):
            new = [n for n in (node, *node.all_input_nodes) if n not in seen]
            self._last[node] = list(dict.fromkeys(new))
            seen.update(new)

    def _nodes(self) -> list[Node]:
        return [node for node in self._graph.nodes if not is_guard(node)]

    def values(self, node: Node) -> dict[str, Any]:
        """Return what a node calls its operator with, by the names in the schema."""
        return {name: map_arg(value, self.env.__getitem__) for name, value in arguments(node).items()}

    def outputs(self, inputs: Sequence[Any]) -> list[Any]:
        """Return what the program makes, flat."""
        made: list[Any] = []
        for node, _ in self.walk([inputs]):
            if node.op == "output":
                made = tree_leaves(self.env[node])
        return made

    def walk(self, batches: Sequence[Sequence[Any]]) -> Iterator[tuple[Node, list[Environment]]]:
        """Yield each node when all batches have gone through it, with the values of each batch that are in use.

        Batches beyond the room that there is are given up on the way, the last ones first.
        """
        envs: list[Environment] = [{} for _ in batches]
        inputs = [iter(batch) for batch in batches]
        with torch.no_grad():
            for node in self._nodes():
                for at in range(len(envs)):
                    if at >= len(envs):
                        break
                    self.env, self.args_iter = envs[at], inputs[at]
                    self.env[node] = self.run_node(node)
                    if at == 0 and len(envs) > 1:
                        del envs[max(1, ROOM // max(1, _size(self.env))) :]
                self.env = envs[0]
                yield node, envs
                for env in envs:
                    for gone in self._last[node]:
                        env.pop(gone, None)


def is_guard(node: Node) -> bool:
    """Say whether a node guards the shapes of the example that was exported; another batch is no other program."""
    return node.op == "call_module" and node.target == "_guards_fn"


def keeps_state(module: GraphModule) -> bool:
    """Say whether a run changes what a program has."""
    constants = (node for node in module.graph.nodes if node.op == "get_attr")
    return any(changes_in_place(user, node) for node in constants for user in node.users)


def _size(env: Environment) -> int:
    return sum(
        value.numel() * value.element_size()
        for node, value in env.items()
        if isinstance(value, torch.Tensor) and node.op != "get_attr"
    )
