"""Lets the batch norms of a program that was quantized by export run in 8 bits."""

from __future__ import annotations

import math
import operator
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from ..operators import concat_and_add as _fused  # noqa: F401 - registers its operators
from ..operators.batch_norm import batch_norm
from .concats_and_sums import find_feed
from .graph import arguments, changes_in_place, label, open_program, operator_name
from .norms import activation_limits, find_norms
from .qparams import (
    QParams,
    UnusableError,
    is_dequantize,
    is_quantize,
    read_qparams,
    type_name,
)

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram
    from torch.fx import Graph

    from .concats_and_sums import Feed
    from .graph import Program
    from .norms import Norm

    AnyProgram = TypeVar("AnyProgram", GraphModule, ExportedProgram)

_OPERATOR = torch.ops.bytenorm.batch_norm
_CONCAT = torch.ops.bytenorm.concat_batch_norm.default
_ADD = torch.ops.bytenorm.add_batch_norm.default
_PARAMETERS = ("weight", "bias", "mean", "var")
_META = ("nn_module_stack", "stack_trace", "source_fn_stack", "torch_fn")  # of where a node comes from


class LoweringWarning(UserWarning):
    """A batch norm stays in float; the message says which one and why.

    Examples
    --------
    >>> import torch, warnings
    >>> from torch.ao.quantization.fx import _decomposed  # what convert_pt2e writes
    >>> from bytenorm.torch import LoweringWarning, lower
    >>> class Normalized(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.norm = torch.nn.BatchNorm2d(3)
    ...     def forward(self, codes):
    ...         q = torch.ops.quantized_decomposed
    ...         return self.norm(q.dequantize_per_tensor(codes, 0.02, 128, 0, 255, torch.uint8))
    >>> codes = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always", LoweringWarning)
    ...     made = lower(torch.export.export(Normalized().eval(), (codes,)))
    >>> [str(warning.message) for warning in caught]
    ['norm stays in float: its output is not quantized']
    """


@dataclass(frozen=True)
class Outcome:
    """What became of one norm: empty `problem` if it runs in 8 bits now."""

    name: str
    problem: str


def lower(program: AnyProgram) -> AnyProgram:
    """Let the batch norms of a quantized program run in 8 bits.

    Every norm, with the relu, relu6, hardtanh or clamp behind it, that reads a dequantized tensor and is quantized
    itself becomes ``torch.ops.bytenorm.batch_norm`` on the codes. Where it reads the quantized concatenation or
    sum of quantized tensors, ``concat_batch_norm`` or ``add_batch_norm`` does both; the pieces of a concatenation
    are then not quantized once more to a common scale.

    Parameters
    ----------
    program : torch.fx.GraphModule or torch.export.ExportedProgram
        As ``convert_pt2e`` returns it, or exported from that. Not changed, its tensors are not copied. A program
        that was trained is moved to evaluation before (``move_exported_model_to_eval``).

    Returns
    -------
    torch.fx.GraphModule or torch.export.ExportedProgram
        What came. The parameters of norms that were lowered require no gradient any more.

    Warns
    -----
    LoweringWarning
        For each norm that stays as it is.

    Raises
    ------
    TypeError
        If this is no such program.
    ValueError
        If nothing in it is quantized.

    Examples
    --------
    >>> import torch
    >>> from torch.ao.quantization.fx import _decomposed  # what convert_pt2e writes
    >>> from bytenorm.torch import lower
    >>> class Normalized(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.norm = torch.nn.BatchNorm2d(3)
    ...     def forward(self, codes):
    ...         q = torch.ops.quantized_decomposed
    ...         x = q.dequantize_per_tensor(codes, 0.02, 128, 0, 255, torch.uint8)
    ...         return q.quantize_per_tensor(self.norm(x).relu(), 0.01, 0, 0, 255, torch.uint8)
    >>> codes = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    >>> made = lower(torch.export.export(Normalized().eval(), (codes,)))
    >>> [str(node.target) for node in made.graph.nodes if node.op == "call_function"]
    ['bytenorm.batch_norm.default']
    """
    made, outcomes = lower_with_report(program)
    for outcome in outcomes:
        if outcome.problem:
            warnings.warn(f"{outcome.name} stays in float: {outcome.problem}", LoweringWarning, stacklevel=2)
    return made


def lower_with_report(program: AnyProgram) -> tuple[AnyProgram, tuple[Outcome, ...]]:
    """Do as :func:`lower`, and say what became of each norm instead of warning.

    Parameters
    ----------
    program : torch.fx.GraphModule or torch.export.ExportedProgram

    Returns
    -------
    program : torch.fx.GraphModule or torch.export.ExportedProgram
    outcomes : tuple of Outcome
        One for each batch norm, in the order of the program.

    Raises
    ------
    TypeError, ValueError
        As `lower`.
    """
    copied = open_program(program)
    nodes = list(copied.graph.nodes)
    if not any(is_quantize(n) or is_dequantize(n) or operator_name(n) == "bytenorm::batch_norm" for n in nodes):
        prepared = any(n.op == "call_module" and "activation_post_process" in str(n.target) for n in nodes)
        got = "one that is prepared (convert_pt2e" if prepared else "one in float (prepare_pt2e and convert_pt2e"
        raise ValueError(f"program: wanted a quantized one, got {got} quantize{'s' * prepared})")
    outcomes = []
    for norm in find_norms(copied.graph):
        name, problem = _name(copied, norm), ""
        try:
            site = _site(copied, norm)
        except UnusableError as reason:
            problem = str(reason)
        else:
            _replace(copied, site)
        outcomes.append(Outcome(name, problem))
    for name, inside in copied.subgraphs():
        outcomes += [
            Outcome(label(norm.node), f"it is in the subgraph {name}") for norm in find_norms(inside.graph)
        ]
    return copied.finish(), tuple(outcomes)


def _name(program: Program, norm: Norm) -> str:
    """Return how messages call a norm: by the module that has its statistics, or by where it comes from."""
    path = program.name(norm.mean).rpartition(".")[0] if norm.mean is not None else ""
    return path or label(norm.node)


# What surrounds a norm


@dataclass(frozen=True)
class _Exit:
    """One way in which a normalized tensor is quantized: the node, and the activation before it."""

    quantize: Node
    activation: Node | None
    target: QParams
    lowest: int
    highest: int


@dataclass(frozen=True)
class _Site:
    """A norm between quantized tensors."""

    norm: Norm
    codes: Node
    source: QParams
    exits: tuple[_Exit, ...]
    feed: Feed | None


def _site(program: Program, norm: Norm) -> _Site:
    """Return what surrounds a norm that can be lowered; raise the reason if it cannot."""
    if norm.training:
        raise UnusableError("it normalizes with the statistics of the batch (see move_exported_model_to_eval)")
    if norm.mean is None or norm.var is None:
        raise UnusableError("it has no running statistics")
    if any(item is not norm.output and item.users for item in _items(norm)):
        raise UnusableError("its statistics are read, too")
    weight, bias, mean, var = (_parameter(program, getattr(norm, name), name) for name in _PARAMETERS)
    assert mean is not None and var is not None

    if not is_dequantize(norm.input):
        raise UnusableError("its input is not quantized")
    codes = next(iter(arguments(norm.input).values()))
    for value in (codes, norm.input):
        _refuse_changes(value, "its input")
    source = read_qparams(norm.input, program.tensor, "its input")
    if not source.per_tensor and source.scale.numel() != len(mean):
        raise UnusableError(f"its input has {source.scale.numel()} scales, it has {len(mean)} channels")

    exits = tuple(_exits(program, norm))
    if not program.kept.isdisjoint(node.name for node in _replaced_nodes(norm, exits)):
        raise UnusableError("the preserved signature of a module refers to it")
    pixel = torch.zeros((1, len(mean)), dtype=source.dtype)
    x_scale = source.scale.item() if source.per_tensor else source.scale
    x_zero_point = int(source.zero_point) if source.per_tensor else source.zero_point
    for way in exits:
        scale, zero_point, dtype = way.target.scale.item(), int(way.target.zero_point), way.target.dtype
        try:  # the operator knows best what it refuses
            batch_norm(pixel, x_scale, x_zero_point, weight, bias, mean, var, norm.eps, scale, zero_point, dtype)
        except (TypeError, ValueError) as error:
            raise UnusableError(str(error)) from None
    feed = find_feed(program, norm, codes, source)
    return _Site(norm, codes, source, exits, feed if feed is not None and _fits(norm, exits, feed) else None)


def _fits(norm: Norm, exits: tuple[_Exit, ...], feed: Feed) -> bool:
    """Say whether one operator in the place of a norm and of what feeds it has all that both need."""
    if len({_result(way) for way in exits}) > 1:
        return False
    if not feed.is_sum:
        return True
    # The sum may be read before the norm: the operator comes where the sum was.
    vectors = [getattr(norm, name) for name in _PARAMETERS]
    if any(vector is not None and vector.op not in ("get_attr", "placeholder") for vector in vectors):
        return False
    a, b = feed.pieces
    pixel = [torch.zeros((1, 1), dtype=p.qparams.dtype) for p in feed.pieces]
    one = torch.ones(1)
    way = exits[0]
    try:
        _ADD(
            pixel[0], *_numbers(a.qparams), pixel[1], *_numbers(b.qparams), *_numbers(feed.qparams),
            None, None, one, one, 1.0, *_numbers(way.target), way.target.dtype, False,
        )  # fmt: skip
    except (TypeError, ValueError):
        return False
    return True


def _numbers(qparams: QParams) -> tuple[float, int]:
    return qparams.scale.item(), int(qparams.zero_point)


def _result(way: _Exit) -> tuple[object, ...]:
    """Return what tells one way to quantize a normalized tensor from another."""
    return (way.activation, *_numbers(way.target), way.target.dtype, way.lowest, way.highest)


def _replaced_nodes(norm: Norm, exits: tuple[_Exit, ...]) -> list[Node]:
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
        raise UnusableError(f"its {name} is not constant")
    if value.dtype != torch.float32:
        raise UnusableError(f"its {name} is {type_name(value.dtype)}")
    if value.device.type != "cpu":
        raise UnusableError(f"it is on {value.device}: lower the program on the CPU and move it then")
    return value.detach()


def _exits(program: Program, norm: Norm) -> list[_Exit]:
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
    if not any(is_quantize(reader) for reader, _ in ways):
        raise UnusableError("its output is not quantized")
    return [_exit(program, reader, activation) for reader, activation in ways]


def _exit(program: Program, reader: Node, activation: Node | None) -> _Exit:
    if not is_quantize(reader):
        where = "an output of the program" if reader.op == "output" else label(reader)
        raise UnusableError(f"its output is also read in float, by {where}")
    target = read_qparams(reader, program.tensor, "its output")
    if not target.per_tensor:
        raise UnusableError("its output is quantized per channel")
    limits = activation_limits(activation) if activation is not None else None
    low, high = limits or (-math.inf, math.inf)
    return _Exit(reader, activation, target, target.code(low), target.code(high))


def _refuse_changes(value: Node, what: str) -> None:
    writer = next((user for user in value.users if changes_in_place(user, value)), None)
    if writer is not None:
        raise UnusableError(f"{what} is changed in place by {label(writer)}")


# The rewriting


def _replace(program: Program, site: _Site) -> None:
    """Put the operator in the place of a norm and of what surrounds it."""
    graph, norm = program.graph, site.norm
    for name in _PARAMETERS:
        vector = getattr(norm, name)
        if vector is not None:
            program.detach(vector)
    made: dict[tuple[object, ...], Node] = {}
    for way in site.exits:
        same = _result(way)
        if same not in made:
            with graph.inserting_before(_place(site)):
                made[same] = _operator(program, site, way)
        way.quantize.replace_all_uses_with(made[same])
        program.replaced(way.quantize, made[same])

    needless: list[Node | None] = [*_replaced_nodes(norm, site.exits)]
    for qparams in (site.source, *(way.target for way in site.exits)):
        needless += [qparams.scale_node, qparams.zero_point_node]
    if site.feed is not None:
        needless += [site.feed.quantize, site.feed.join]
        for piece in site.feed.pieces:
            needless += [piece.dequantize, piece.qparams.scale_node, piece.qparams.zero_point_node]
        needless += [site.source.scale_node, site.source.zero_point_node]
    for node in reversed(list(dict.fromkeys(reversed(needless)))):  # each after its last reader
        if node is not None and not node.users and node.op != "placeholder":
            graph.erase_node(node)


def _place(site: _Site) -> Node:
    """Return the node before which the operator comes."""
    if site.feed is None or not site.feed.is_sum:
        return site.norm.node
    for name in _PARAMETERS:
        vector = getattr(site.norm, name)
        if vector is not None and vector.op == "get_attr":
            site.feed.quantize.prepend(vector)
    return site.feed.quantize


def _operator(program: Program, site: _Site, way: _Exit) -> Node:
    graph, norm, source, target = program.graph, site.norm, site.source, way.target
    smallest, largest = torch.iinfo(target.dtype).min, torch.iinfo(target.dtype).max
    zero_point = int(target.zero_point)
    relu = way.lowest == zero_point and (way.activation is not None or way.lowest > smallest)
    rest = (
        norm.weight, norm.bias, norm.mean, norm.var, norm.eps,
        target.scale.item(), zero_point, target.dtype, relu,
    )  # fmt: skip
    if site.feed is not None:
        made = _with_feed(program, site.feed, norm, rest)
    elif source.per_tensor:
        made = _call(graph, norm, _OPERATOR.default, site.codes, *_numbers(source), *rest)
    else:
        made = _call(graph, norm, _OPERATOR.per_channel, site.codes, *_vectors(program, norm, source), *rest)
    low = None if relu or way.lowest == smallest else way.lowest
    high = None if way.highest == largest else way.highest
    if (low, high) == (None, None):
        return made
    return _call(graph, norm, torch.ops.aten.clamp.default, made, low, high)


def _with_feed(program: Program, feed: Feed, norm: Norm, rest: tuple[Any, ...]) -> Node:
    """Add the operator that concatenates or adds, too; whoever else reads the sum reads it from there."""
    graph, pieces = program.graph, feed.pieces
    if not feed.is_sum:
        numbers = [_numbers(piece.qparams) for piece in pieces]
        scales, zero_points = [scale for scale, _ in numbers], [zero_point for _, zero_point in numbers]
        return _call(graph, norm, _CONCAT, [piece.codes for piece in pieces], scales, zero_points, *rest)
    given = [value for piece in pieces for value in (piece.codes, *_numbers(piece.qparams))]
    both = _call(graph, norm, _ADD, *given, *_numbers(feed.qparams), *rest)
    if feed.read_elsewhere(norm):
        total = _call(graph, norm, operator.getitem, both, 1)
        feed.quantize.replace_all_uses_with(total)
        program.replaced(feed.quantize, total)
    return _call(graph, norm, operator.getitem, both, 0)


def _vectors(program: Program, norm: Norm, source: QParams) -> tuple[Node, Node]:
    """Return the scales and zero points of channels as the operator takes them: vectors, the latter whole."""
    scale, zero_point = source.scale_node, source.zero_point_node
    assert scale is not None
    if _constant(program, scale).dim() != 1:
        scale = _call(program.graph, norm, torch.ops.aten.reshape.default, scale, [-1])
    if zero_point is None or (given := _constant(program, zero_point)).numel() == 0:
        return scale, _call(program.graph, norm, torch.ops.aten.zeros_like.default, scale, dtype=torch.int64)
    if given.dim() != 1:
        zero_point = _call(program.graph, norm, torch.ops.aten.reshape.default, zero_point, [-1])
    if given.is_floating_point():
        zero_point = _call(program.graph, norm, torch.ops.aten.to.dtype, zero_point, torch.int64)
    return scale, zero_point


def _constant(program: Program, node: Node) -> Tensor:
    value = program.tensor(node)
    assert value is not None, "its values were read before"
    return value


def _call(graph: Graph, norm: Norm, target: Any, *given: Any, **named: Any) -> Node:
    """Add a node that comes from where a norm came from."""
    made = graph.call_function(target, given, named)
    made.meta = {key: norm.node.meta[key] for key in _META if key in norm.node.meta}
    if all("val" in node.meta for node in made.all_input_nodes):
        with torch.no_grad():
            made.meta["val"] = target(*map_arg(given, lambda node: node.meta["val"]), **named)
    return made
