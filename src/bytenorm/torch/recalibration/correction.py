"""Norms and layers of an 8-bit program corrected relative to the float program.

The same samples go through both. Each norm gets the mean and the variance with which its output has the moments of
the float network's; each layer's bias takes the difference of the means of its output, before its activation. One
after the other, from the inputs on, since a correction changes all that follows; one run serves all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ...calibration.reestimation import reestimate
from ..pt2e.graph import arguments, operator_name
from ..pt2e.running import Runner
from .counting import count
from .reference import find_layers, in_8_bits
from .sites import NORMS, find_site, give

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import GraphModule, Node

    from ..pt2e.graph import Program
    from ..pt2e.running import Environment, Part
    from .fitting import Progress
    from .reference import Reference


def correct(
    program: Program,
    reference: Reference,
    parts: Sequence[Part],
    *,
    layers: bool,
    progress: Progress | None,
) -> tuple[GraphModule, dict[str, str]]:
    """Correct the norms, and the layers if asked for, of a program in place.

    Parameters
    ----------
    program : Program
        A copy.
    reference : Reference
    parts : list of Part
        Of the data.
    layers : bool
    progress : callable or None
        Called with the stage, how many norms and layers are done, and how many there are.

    Returns
    -------
    GraphModule
    dict of str to str
        By the names of nodes, why those of them that were not corrected stay as they are; empty for the others.
    """
    module: GraphModule = program.finish()
    matched = reference.match(program)
    axes = {layer.node: layer.axis for layer in find_layers(program) if layers and in_8_bits(layer)}
    sites = [node for node in program.graph.nodes if operator_name(node) in NORMS or node in axes]
    moments = reference.moments(parts, dict(matched[node] for node in sites if node in matched))
    outcomes, done = {}, 0
    runner = Runner(module)
    for node, envs in runner.walk(parts):
        if node not in sites:
            continue
        if progress is not None:
            progress("re-estimate: norms and layers", done, len(sites))
        done += 1
        if node not in matched:
            outcomes[node.name] = "the reference has none of its name"
            continue
        wanted = moments[matched[node][0]].pooled(len(envs))
        if node in axes:
            outcomes[node.name] = _correct_layer(module, program, node, envs, wanted[0], axes[node])
        else:
            outcomes[node.name] = _correct_norm(module, program, runner, node, envs, wanted)
    return program.finish(), outcomes


def _correct_layer(
    module: GraphModule, program: Program, node: Node, envs: list[Environment], wanted: np.ndarray, axis: int
) -> str:
    values = [env[node] for env in envs]
    counts = [value.numel() // value.shape[axis] for value in values]
    means = [value.double().movedim(axis, 0).flatten(1).mean(1).numpy() for value in values]
    seen = np.average(np.stack(means), axis=0, weights=counts)
    if seen.shape != wanted.shape:
        return "the reference's of its name has other channels"
    change = wanted - seen
    if not np.all(np.isfinite(change)):
        return "what it makes on the data is not finite"
    bias = _vector(program, node, "bias", len(change))
    if bias is None:
        return "its bias is not constant"
    made = (bias.double() + torch.from_numpy(change)).to(bias.dtype)
    if not bool(torch.isfinite(made).all()):
        return "its bias would not be finite"
    give(module, program, node, "bias", made)
    moved = (made.double() - bias.double()).to(values[0].dtype)
    shape = (-1,) if axis == -1 else (1, -1, *[1] * (values[0].ndim - 2))
    for env in envs:
        env[node] = env[node] + moved.reshape(shape)
    return ""


def _vector(program: Program, node: Node, which: str, channels: int) -> torch.Tensor | None:
    source = arguments(node)[which]
    if source is None:
        return torch.zeros(channels)
    value = program.tensor(source)
    return None if value is None else value.detach()


def _correct_norm(
    module: GraphModule,
    program: Program,
    runner: Runner,
    node: Node,
    envs: list[Environment],
    wanted: tuple[np.ndarray, np.ndarray],
) -> str:
    site = find_site(program, node, {})
    if site is None:
        return "its parameters are not constant"
    if len(wanted[0]) != len(site.norm.mean):
        return "the reference's of its name has other channels"
    try:
        statistics = count(runner, node, envs, histogram=False)
        made = reestimate(site.norm, statistics, reference=wanted)
    except ValueError as error:
        return " ".join(str(error).split())
    for which in ("mean", "var"):
        give(module, program, node, which, torch.from_numpy(getattr(made, which).copy()))
    for env in envs:
        runner.make(env, node)
    return ""
