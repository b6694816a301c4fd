"""Norms' output scales and statistics by the codes that come to them, one after the other.

What a norm reads depends on the norms before it. So each is measured behind norms that are what they will be, in
one run of the program. A new scale is written wherever the codes are read.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..._errors import bad_value
from ..._outcomes import RecalibratedNorm
from ...calibration import choose_output_qparams
from ...calibration.reestimation import reestimate
from ..pt2e.graph import open_program, operator_name
from ..pt2e.running import Runner
from .counting import count
from .sites import NORMS, Reader, find_site, give, unchanged

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch.fx import GraphModule, Node

    from ..._norms.batch_norm import BatchNorm
    from ...calibration import ChannelStatistics
    from ...calibration.qparams.output_qparams import Method
    from ..pt2e.graph import Program
    from ..pt2e.running import Part
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


def fit_norms(
    program: GraphModule, parts: Sequence[Part], method: Method | None, *, fresh: bool, progress: Progress | None
) -> tuple[GraphModule, dict[str, Fit]]:
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
        Called with the stage, how many norms are done, and how many there are.

    Returns
    -------
    GraphModule
    dict of str to Fit
        By the names of the norms' nodes.
    """
    copied = open_program(program)
    made: GraphModule = copied.finish()
    norms = [node for node in copied.graph.nodes if operator_name(node) in NORMS]
    fits: dict[str, Fit] = {}
    runner = Runner(made)
    for node, envs in runner.walk(parts):
        if node not in norms:
            continue
        if progress is not None:
            progress("norms: run", len(fits), len(norms))
        outcomes: dict[Node, RecalibratedNorm] = {}
        site = find_site(copied, node, outcomes)
        if site is None or (site.problem and not fresh):
            fits[node.name] = Fit(outcomes[node])
            continue
        statistics = count(runner, node, envs, histogram=method is not None)
        fits[node.name] = _fit(made, copied, site, statistics, method, fresh=fresh)
        for env in envs:
            runner.make(env, node)
    return copied.finish(), fits


def warn_of_moves(found: Collection[Fit], level: int) -> None:
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
            raise bad_value("data_statistics", f": the norm {site.name}: {error}") from None
        for which in ("mean", "var"):
            give(module, program, site.node, which, torch.from_numpy(getattr(norm, which).copy()))
        made = replace(made, reestimated=True)
        moved, stretched = _way(site.norm, norm)
    if method is None or site.problem:
        return Fit(made if method is not None else replace(made, problem=""), moved, stretched)
    try:
        best = choose_output_qparams(norm, statistics, method=method)
    except ValueError as error:
        raise bad_value("method", f": the norm {site.name}: {error}") from None
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
