"""What becomes of the nodes of a float graph before it is quantized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from ..disguise.norms_as_convs import Marks, markable
from ..folding.backward import fold
from ..folding.judgement import fold_where_weights_hold
from ..graph.graph import label
from ..norms.find import find_norms
from ..norms.float_graph import plain
from ..norms.last_axis import cancel_transposes
from ..observation.data_scale import unlike_statistics
from ..observation.ranks import with_ranks
from ..quantizer.exclusion import with_name

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..graph.graph import Graph
    from ..norms.norm import Norm
    from ..quantizer.chosen_nodes import ChosenNodes
    from ..quantizer.extra_options import ExtraOptions


@dataclass(frozen=True)
class Plan:
    """What becomes of the nodes of a float graph before it is quantized.

    Attributes
    ----------
    marks : Marks
        Of the norms that get 8 bits.
    borders : set of str
        The tensors around these and around the nodes that stay in float.
    left_out : list of str
        The names of the nodes that stay in float.
    told : set of str
        Those of them that the caller named.
    excluded, folded, stayed : names of norms
    unlike : str
    """

    marks: Marks
    borders: set[str]
    left_out: list[str]
    told: set[str]
    excluded: set[str]
    folded: tuple[str, ...]
    stayed: tuple[str, ...]
    unlike: str


def plan_of(
    graph: Graph,
    data: Dataset,
    apart: set[str],
    asked: ChosenNodes,
    extra: ExtraOptions,
    *,
    per_channel: bool,
    reduce_range: bool,
) -> Plan:
    """Fold norms of a float graph, and disguise those that get 8 bits; nodes of the names `apart` get none."""
    graph = plain(graph, apart)
    graph = with_ranks(graph, find_norms(graph, apart), data)
    left_out = [node for node in graph.nodes if label(node) in apart]
    norms = find_norms(graph, apart)
    unlike = unlike_statistics(graph, norms, data)
    excluded, included = _split(norms, left_out)
    folded, stayed = _folded(graph, included, data, per_channel=per_channel, reduce_range=reduce_range)
    cancel_transposes(graph, included)
    kept, odd = markable(graph, included, folded)
    told = {with_name(graph, node) for node in left_out}
    excluded += [norm for norm in kept if not asked.has_norm(norm)]
    kept = [norm for norm in kept if asked.has_norm(norm)]
    left_out = [*left_out, *asked.others(graph, kept)]
    left_out += [node for n in (*excluded, *odd) for node in n.nodes]
    left_out += _makers_of_parameters(graph, odd)
    left_names = [with_name(graph, node) for node in left_out]
    marks = Marks("ConvTranspose" if "Conv" in extra.without_output else "Conv")
    for norm in kept:
        marks.set(graph, norm)
    borders = _borders(graph, kept, left_out)
    graph.finish()
    names = tuple(norm.name for norm in folded)
    return Plan(marks, borders, left_names, told, {n.name for n in excluded}, names, stayed, unlike)


def _borders(graph: Graph, norms: list[Norm], nodes: list[onnx.NodeProto]) -> set[str]:
    """Return the tensors around norms and around nodes that stay in float, without inputs and constants."""
    around = {tensor for norm in norms for tensor in (norm.input, norm.output)}
    around.update(tensor for node in nodes for tensor in (*node.input, *node.output))
    return {tensor for tensor in around if graph.maker(tensor) is not None and graph.constant(tensor) is None}


def _split(norms: list[Norm], nodes: list[onnx.NodeProto]) -> tuple[list[Norm], list[Norm]]:
    """Return the norms that have any of these nodes, and those that have none."""
    wanted = {id(node) for node in nodes}
    having = [any(id(node) in wanted for node in norm.nodes) for norm in norms]
    ours, others = ([n for n, has in zip(norms, having, strict=True) if has is which] for which in (True, False))
    return ours, others


def _folded(
    graph: Graph, norms: list[Norm], data: Dataset, *, per_channel: bool, reduce_range: bool
) -> tuple[list[Norm], tuple[str, ...]]:
    """Fold norms back, else forward; return those that are gone, and names of those that weights cannot hold."""
    back = fold(graph, norms)
    gone = {id(norm) for norm in back}
    left = [norm for norm in norms if id(norm) not in gone]
    forward, stayed = fold_where_weights_hold(
        graph, left, data, per_channel=per_channel, reduce_range=reduce_range
    )
    return [*back, *forward], tuple(norm.name for norm in stayed)


def _makers_of_parameters(graph: Graph, norms: list[Norm]) -> list[onnx.NodeProto]:
    """Return the nodes that make parameters which are not constant: 8 bits for all channels would be too few."""
    tensors = dict.fromkeys(t for n in norms for node in n.nodes for t in node.input if t and t != n.input)
    makers = [graph.maker(tensor) for tensor in tensors if graph.constant(tensor) is None]
    return [maker for maker in makers if maker is not None]
