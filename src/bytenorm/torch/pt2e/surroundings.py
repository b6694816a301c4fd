"""What surrounds a norm of a traced program: the nodes that quantize what it reads and makes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..._norms import obstacles
from ..operators import concat_and_add as _fused  # noqa: F401 - registers its operators
from ..operators.batch_norm import batch_norm
from .concats_and_sums import find_feed
from .graph import arguments, changes_in_place, label
from .norms import activation_limits
from .qparams import UnusableError, is_dequantize, is_quantize, read_qparams, refuse, type_name

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from .concats_and_sums import Feed
    from .graph import Program
    from .norms import Norm
    from .qparams import TracedQParams


ADD = torch.ops.bytenorm.add_batch_norm.default
PARAMETERS = ("weight", "bias", "mean", "var")


@dataclass(frozen=True)
class Exit:
    """One way in which a normalized tensor is quantized: the node, and the activation before it."""

    quantize: Node
    activation: Node | None
    target: TracedQParams
    lowest: int
    highest: int


@dataclass(frozen=True)
class QuantizedNorm:
    """A norm between quantized tensors."""

    norm: Norm
    codes: Node
    source: TracedQParams
    exits: tuple[Exit, ...]
    feed: Feed | None


def surroundings(program: Program, norm: Norm) -> QuantizedNorm:
    """Return what surrounds a norm that can be lowered; raise the reason if it cannot."""
    if norm.training:
        raise UnusableError("it normalizes with the statistics of the batch (see move_exported_model_to_eval)")
    if norm.mean is None or norm.var is None:
        raise UnusableError("it has no running statistics")
    if any(item is not norm.output and item.users for item in _items(norm)):
        raise UnusableError("its statistics are read, too")
    weight, bias, mean, var = (_parameter(program, getattr(norm, name), name) for name in PARAMETERS)
    assert mean is not None and var is not None

    if not is_dequantize(norm.input):
        raise UnusableError(obstacles.INPUT_IN_FLOAT)
    codes = next(iter(arguments(norm.input).values()))
    for value in (codes, norm.input):
        _refuse_changes(value, "its input")
    source = read_qparams(norm.input, program.tensor, "its input")
    refuse(obstacles.of_channels(source.scale.size, len(mean)))

    exits = tuple(_exits(program, norm))
    if not program.kept.isdisjoint(node.name for node in replaced_nodes(norm, exits)):
        raise UnusableError("the preserved signature of a module refers to it")
    pixel = torch.zeros((1, len(mean)), dtype=source.dtype)
    x_scale, x_zero_point = source.scalars if source.per_tensor else _vectors(program, source)
    for way in exits:
        wanted = (*way.target.scalars, way.target.dtype)
        try:  # the operator knows best what it refuses
            batch_norm(pixel, x_scale, x_zero_point, weight, bias, mean, var, norm.eps, *wanted)
        except (TypeError, ValueError) as error:
            raise UnusableError(str(error)) from None
    feed = find_feed(program, norm, codes, source)
    return QuantizedNorm(
        norm, codes, source, exits, feed if feed is not None and _fits(norm, exits, feed) else None
    )


def _vectors(program: Program, source: TracedQParams) -> tuple[Tensor, Tensor]:
    """Return the scales of channels as the program has them, and their zero points."""
    assert source.scale_node is not None
    scales = program.tensor(source.scale_node)
    assert scales is not None, "its values were read before"
    return scales.detach().cpu().reshape(-1), torch.from_numpy(source.zero_point)


def _fits(norm: Norm, exits: tuple[Exit, ...], feed: Feed) -> bool:
    """Say whether one operator in the place of a norm and of what feeds it has all that both need."""
    if len({result_of(way) for way in exits}) > 1:
        return False
    if not feed.is_sum:
        return True
    # The sum may be read before the norm: the operator comes where the sum was.
    vectors = [getattr(norm, name) for name in PARAMETERS]
    if any(vector is not None and vector.op not in ("get_attr", "placeholder") for vector in vectors):
        return False
    a, b = feed.pieces
    pixel = [torch.zeros((1, 1), dtype=p.qparams.dtype) for p in feed.pieces]
    one = torch.ones(1)
    way = exits[0]
    try:
        ADD(
            pixel[0], *a.qparams.scalars, pixel[1], *b.qparams.scalars, *feed.qparams.scalars,
            None, None, one, one, 1.0, *way.target.scalars, way.target.dtype, False,
        )  # fmt: skip
    except (TypeError, ValueError):
        return False
    return True


def result_of(way: Exit) -> tuple[object, ...]:
    """Return what tells one way to quantize a normalized tensor from another."""
    return (way.activation, *way.target.scalars, way.target.dtype, way.lowest, way.highest)


def replaced_nodes(norm: Norm, exits: tuple[Exit, ...]) -> list[Node]:
    """Return the nodes in whose place the operator comes, readers first; others may read the last one, too."""
    nodes = [way.quantize for way in exits] + [way.activation for way in exits if way.activation is not None]
    return list(dict.fromkeys([*nodes, *_items(norm), norm.node, norm.input]))


def _items(norm: Norm) -> list[Node]:
    """Return what a norm gives: itself, or its items, of which only the first one is the normalized tensor."""
    return [norm.node] if norm.node is norm.output else list(norm.node.users)


def _parameter(program: Program, node: Node | None, name: str) -> Tensor | None:
    if node is None:
        return None
    value = program.tensor(node)
    if value is None:
        raise UnusableError(obstacles.of_parameter(name))
    if value.dtype != torch.float32:
        raise UnusableError(f"its {name} is {type_name(value.dtype)}")
    if value.device.type != "cpu":
        raise UnusableError(f"it is on {value.device}: lower the program on the CPU and move it then")
    return value.detach()


def _exits(program: Program, norm: Norm) -> list[Exit]:
    """Return the ways in which what a norm makes is quantized; raise the reason if it is read in float."""
    if len(norm.output.users) > 1:  # an activation in place that alone reads it does no harm
        _refuse_changes(norm.output, "its output")
    ways: list[tuple[Node, Node | None]] = []
    for reader in norm.output.users:
        if activation_limits(reader) is None:
            ways.append((reader, None))
        else:
            _refuse_changes(reader, "its output")
            ways += [(behind, reader) for behind in reader.users]
    others = [reader for reader, _ in ways if not is_quantize(reader)]
    where = [("an output of the program" if reader.op == "output" else label(reader)) for reader in others]
    refuse(obstacles.of_readers(len(ways) - len(others), next(iter(where), "")))
    return [_exit(program, reader, activation) for reader, activation in ways]


def _exit(program: Program, reader: Node, activation: Node | None) -> Exit:
    target = read_qparams(reader, program.tensor, "its output")
    refuse(obstacles.of_target(per_tensor=target.per_tensor))
    limits = activation_limits(activation) if activation is not None else None
    low, high = limits or (-math.inf, math.inf)
    return Exit(reader, activation, target, target.code(low), target.code(high))


def _refuse_changes(value: Node, what: str) -> None:
    writer = next((user for user in value.users if changes_in_place(user, value)), None)
    if writer is not None:
        raise UnusableError(f"{what} is changed in place by {label(writer)}")
