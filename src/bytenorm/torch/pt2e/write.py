"""Writes the operator in the place of a norm and of what surrounds it."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch.fx.node import map_arg

from ..operators import concat_and_add as _fused  # noqa: F401 - registers its operators
from .surroundings import ADD, PARAMETERS, replaced_nodes, result_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Graph, Node

    from .concats_and_sums import Feed
    from .graph import Program
    from .norms import Norm
    from .qparams import TracedQParams
    from .surroundings import Exit, QuantizedNorm


_OPERATOR = torch.ops.bytenorm.batch_norm
_CONCAT = torch.ops.bytenorm.concat_batch_norm.default
_META = ("nn_module_stack", "stack_trace", "source_fn_stack", "torch_fn")  # of where a node comes from


def write(program: Program, site: QuantizedNorm) -> None:
    """Put the operator in the place of a norm and of what surrounds it."""
    graph, norm = program.graph, site.norm
    for name in PARAMETERS:
        vector = getattr(norm, name)
        if vector is not None:
            program.detach(vector)
    made: dict[tuple[object, ...], Node] = {}
    for way in site.exits:
        same = result_of(way)
        if same not in made:
            with graph.inserting_before(_place(site)):
                made[same] = _operator(program, site, way)
        way.quantize.replace_all_uses_with(made[same])
        program.replaced(way.quantize, made[same])

    needless: list[Node | None] = [*replaced_nodes(norm, site.exits)]
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


def _place(site: QuantizedNorm) -> Node:
    """Return the node before which the operator comes."""
    if site.feed is None or not site.feed.is_sum:
        return site.norm.node
    for name in PARAMETERS:
        vector = getattr(site.norm, name)
        if vector is not None and vector.op == "get_attr":
            site.feed.quantize.prepend(vector)
    return site.feed.quantize


def _operator(program: Program, site: QuantizedNorm, way: Exit) -> Node:
    graph, norm, source, target = program.graph, site.norm, site.source, way.target
    smallest, largest = torch.iinfo(target.dtype).min, torch.iinfo(target.dtype).max
    scale, zero_point = target.scalars
    relu = way.lowest == zero_point and (way.activation is not None or way.lowest > smallest)
    rest = (
        norm.weight, norm.bias, norm.mean, norm.var, norm.eps,
        scale, zero_point, target.dtype, relu,
    )  # fmt: skip
    if site.feed is not None:
        made = _with_feed(program, site.feed, norm, rest)
    elif source.per_tensor:
        made = _call(graph, norm, _OPERATOR.default, site.codes, *source.scalars, *rest)
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
        numbers = [piece.qparams.scalars for piece in pieces]
        scales, zero_points = [scale for scale, _ in numbers], [zero_point for _, zero_point in numbers]
        return _call(graph, norm, _CONCAT, [piece.codes for piece in pieces], scales, zero_points, *rest)
    given = [value for piece in pieces for value in (piece.codes, *piece.qparams.scalars)]
    both = _call(graph, norm, ADD, *given, *feed.qparams.scalars, *rest)
    if feed.read_elsewhere(norm):
        total = _call(graph, norm, operator.getitem, both, 1)
        feed.quantize.replace_all_uses_with(total)
        program.replaced(feed.quantize, total)
    return _call(graph, norm, operator.getitem, both, 0)


def _vectors(program: Program, norm: Norm, source: TracedQParams) -> tuple[Node, Node]:
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
