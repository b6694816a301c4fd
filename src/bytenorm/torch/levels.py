"""Norms' output scales and statistics by the codes that come to them, level by level.

What a norm reads depends on the norms before it. So norms are taken by level: those that depend on no other norm
first, then those that depend on these, each measured behind norms that are what they will be. A new scale is
written wherever the codes are read.
"""

from __future__ import annotations

import copy
import math
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.fx import Graph, GraphModule, Node

from ..calibration import ChannelStatistics, choose_output_qparams
from ..calibration.reestimation import reestimate
from .counting import codes_read, count
from .graph import arguments, open_program, operator_name
from .running import is_guard, keeps_state
from .sites import ADD, NORMS, Reader, RecalibratedNorm, find_site, give, unchanged

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..batch_norm import BatchNorm
    from ..calibration.output_qparams import Method
    from .graph import Program
    from .judging import Part
    from .sites import Site

Progress = Callable[[str, int, int], None]

# From where on statistics of the data are another network's than those of the training: half a deviation, or one
# and a half times as wide.
_FAR = 0.5
_FAR_STRETCHED = 1.5


@dataclass(frozen=True)
class Fit:
    """What became of a norm, and how far its statistics moved: its mean in deviations, its deviation's factor."""

    norm: RecalibratedNorm
    moved: float = 0.0
    stretched: float = 1.0


def fit_levels(
    program: GraphModule, parts: Sequence[Part], method: Method | None, *, fresh: bool, progress: Progress | None
) -> tuple[GraphModule, list[Fit]]:
    """Return a program whose norms got scales by a method, the statistics of the data, or both.

    Parameters
    ----------
    program : GraphModule
        Not changed.
    parts : list of Part
        Of the data.
    method : str or None
    fresh : bool
        Whether they get the statistics.
    progress : callable or None

    Returns
    -------
    GraphModule
    list of Fit
        For each norm, in the order of the program.
    """
    copied = open_program(program)
    made: GraphModule = copied.finish()
    order = _levels(copied.graph)
    outcomes: dict[Node, RecalibratedNorm] = {}
    fits: dict[Node, Fit] = {}
    for number, level in enumerate(order, 1):
        sites = [site for node in level if (site := find_site(copied, node, outcomes)) is not None]
        chosen = [site for site in sites if fresh or not site.problem]
        counted = _gather(made, chosen, parts, f"norms {number}/{len(order)}: run", progress)
        for site, statistics in zip(chosen, counted, strict=True):
            fits[site.node] = _fit(made, copied, site, statistics, method, fresh=fresh)
        made = copied.finish()
    return made, [fits.get(node, Fit(outcomes[node])) for node in copied.graph.nodes if node in outcomes]


def warn_of_moves(found: Sequence[Fit], level: int) -> None:
    """Warn of statistics that moved far: then they are not those that the network was trained to."""
    far = [fit for fit in found if fit.moved > _FAR or not 1 / _FAR_STRETCHED < fit.stretched < _FAR_STRETCHED]
    if far:
        worst = max(far, key=lambda fit: max(fit.moved, abs(math.log(fit.stretched))))
        warnings.warn(
            f"data_statistics: the statistics of {len(far)} of {len(found)} norms move far, most those of "
            f"{worst.norm.name}: its mean by {worst.moved:.2g} standard deviations, its standard deviation by a "
            f"factor of {worst.stretched:.2g}. That takes a network away from what it was trained to do",
            UserWarning,
            stacklevel=level,
        )


def _levels(graph: Graph) -> list[list[Node]]:
    """Return norms by how many norms, one behind the other, come before them."""
    depths: dict[Node, int] = {}
    levels: dict[int, list[Node]] = {}
    for node in graph.nodes:
        depth = max((depths[before] for before in node.all_input_nodes), default=0)
        if operator_name(node) in NORMS:
            levels.setdefault(depth, []).append(node)
            depth += 1
        depths[node] = depth
    return [levels[depth] for depth in sorted(levels)]


def _gather(
    module: GraphModule, sites: list[Site], parts: Sequence[Part], stage: str, progress: Progress | None
) -> list[ChannelStatistics]:
    """Run a program on samples, up to some norms, and count what comes to them."""
    if not sites:
        return []
    runner = _cut(module, [site.node for site in sites])
    gathered: list[list[ChannelStatistics]] = [[] for _ in sites]
    for done, part in enumerate(parts):
        if progress is not None:
            progress(stage, done, len(parts))
        try:
            with torch.no_grad():
                read = runner(*part.inputs)
        except Exception as error:  # whatever the operators of a program raise
            why = " ".join(str(error).split())
            raise ValueError(f"data: the program cannot run item {part.item}: {why}") from None
        for pieces, counts in zip(read, gathered, strict=True):
            count(pieces, counts)
    return [ChannelStatistics.concatenate(counts) for counts in gathered]


def _cut(module: GraphModule, norms: list[Node]) -> GraphModule:
    """Return a program that gives what norms read: for each, codes, scale and zero point of each piece."""
    graph, copies = Graph(), dict[Node, Node]()
    graph.graph_copy(module.graph, copies)
    for node in list(graph.nodes):
        if is_guard(node):
            graph.erase_node(node)
    graph.output([_read(graph, copies[norm]) for norm in norms])
    made = GraphModule(module, graph)
    made.graph.eliminate_dead_code()
    made.recompile()
    return copy.deepcopy(made) if keeps_state(made) else made  # a run must not change what the given program has


def _read(graph: Graph, norm: Node) -> list[Any]:
    name = operator_name(norm)
    total = graph.call_function(operator.getitem, (norm, 1)) if name == ADD else None
    return codes_read(name, arguments(norm), total)


def _fit(
    module: GraphModule,
    program: Program,
    site: Site,
    statistics: ChannelStatistics,
    method: Method | None,
    *,
    fresh: bool,
) -> Fit:
    """Give a norm what its statistics say."""
    norm, made = site.norm, unchanged(site.name, site.node, site.problem)
    moved, stretched = 0.0, 1.0
    if fresh:
        try:
            norm = reestimate(norm, statistics)
        except ValueError as error:
            raise ValueError(f"data_statistics: the norm {site.name}: {error}") from None
        for which in ("mean", "var"):
            give(module, program, site.node, which, torch.from_numpy(getattr(norm, which).copy()))
        made = replace(made, reestimated=True)
        moved, stretched = _way(site.norm, norm)
    if method is None or site.problem:
        return Fit(made if method is not None else replace(made, problem=""), moved, stretched)
    try:
        best = choose_output_qparams(norm, statistics, method=method)
    except ValueError as error:
        raise ValueError(f"method: the norm {site.name}: {error}") from None
    scale, zero_point = best
    for reader in (Reader(site.node, "y_scale", "y_zero_point", None), *site.readers):
        reader.tell(scale, zero_point)
    made = replace(made, method=method, scale=scale, zero_point=zero_point, clipped=best.clipped, mse=best.mse)
    return Fit(made, moved, stretched)


def _way(old: BatchNorm, new: BatchNorm) -> tuple[float, float]:
    """Return how far a norm's mean moved, in deviations, and by which factor its deviation changed."""
    before, after = (np.sqrt(norm.var.astype(np.float64) + norm.eps) for norm in (old, new))
    moved = (new.mean.astype(np.float64) - old.mean) / before
    return float(np.sqrt(np.mean(moved**2))), float(np.exp(np.mean(np.log(after / before))))
