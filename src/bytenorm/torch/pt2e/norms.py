"""Finds the batch norms of a traced program, however they are spelled, and the activations behind them."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .graph import arguments, operator_name

if TYPE_CHECKING:
    from torch.fx import Graph, Node

BATCH_NORM = "bytenorm::batch_norm"  # what a norm becomes

# All but the first give more than the normalized tensor, which is then their item 0.
_NORMS = {
    "aten::batch_norm",
    "aten::native_batch_norm",
    "aten::_native_batch_norm_legit",
    "aten::_native_batch_norm_legit_functional",
    "aten::_native_batch_norm_legit_no_training",
    "aten::_batch_norm_with_update",
    "aten::_batch_norm_no_update",
}
_ALWAYS_TRAINING = "aten::_batch_norm_with_update"

# The lowest and highest number that an activation leaves: a number, or the argument that has it.
_ACTIVATIONS: dict[str, tuple[float | str, float | str]] = {
    "aten::relu": (0.0, math.inf),
    "aten::relu6": (0.0, 6.0),
    "aten::hardtanh": ("min_val", "max_val"),
    "aten::clamp": ("min", "max"),
    "aten::clamp_min": ("min", math.inf),
    "aten::clamp_max": (-math.inf, "max"),
}


@dataclass(frozen=True)
class Norm:
    """A batch norm: the node that computes it, the one that holds the normalized tensor, and what it is given."""

    node: Node
    output: Node
    input: Node
    weight: Node | None
    bias: Node | None
    mean: Node | None
    var: Node | None
    eps: float
    training: bool


def find_norms(graph: Graph) -> list[Norm]:
    """Return every batch norm of a graph whose result is read, in the order of the graph."""
    found = []
    for node in graph.nodes:
        name = operator_name(node)
        if name not in _NORMS:
            continue
        output = node if name == "aten::batch_norm" else _first_item(node)
        if output is None or not output.users:
            continue
        a = arguments(node)
        training = name == _ALWAYS_TRAINING or bool(a.get("training", False))
        found.append(
            Norm(
                node, output, a["input"], a["weight"], a["bias"], a["running_mean"], a["running_var"],
                float(a["eps"]), training,
            )
        )  # fmt: skip
    return found


def is_norm(node: Node) -> bool:
    """Say whether a node is a batch norm."""
    return operator_name(node) in _NORMS


def _first_item(node: Node) -> Node | None:
    return next((user for user in node.users if user.target is operator.getitem and user.args[1] == 0), None)


def activation_limits(node: Node) -> tuple[float, float] | None:
    """Return the lowest and highest number that a relu, relu6, hardtanh or clamp leaves; None for other nodes."""
    limits = _ACTIVATIONS.get(operator_name(node).removesuffix("_"))
    if limits is None:
        return None
    given = arguments(node)
    values = [given[limit] if isinstance(limit, str) else limit for limit in limits]
    numbers = [
        default if value is None else value for value, default in zip(values, (-math.inf, math.inf), strict=True)
    ]
    if not all(isinstance(number, int | float) for number in numbers):  # clamp takes tensors, too
        return None
    if any(math.isnan(number) for number in numbers):
        return None
    return float(numbers[0]), float(numbers[1])
