"""Scales of norms' outputs in a made 8-bit graph, each chosen from the codes that its norm reads.

What a norm reads depends on the norms before it. So norms are taken by level from the inputs on, each behind those
that have their scales already. A scale is written before what is behind the norm runs: nothing is run twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bytenorm as bn

from ....calibration import ChannelStatistics
from ...scales.rescaling import activations, set_qparams
from .recalibration import choose, operator_of, sites_of
from .stepwise import Stepwise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from ...._outcomes import RecalibratedNorm
    from ....calibration.qparams.output_qparams import Method
    from ...graph.graph import Graph
    from ...norms.qparams import QParams
    from ...quantizer.static_quantizer import StaticQuantizer


def choose_norm_scales(
    graph: Graph,
    quantizer: StaticQuantizer,
    batches: Sequence[dict[str, np.ndarray]],
    method: Method,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[RecalibratedNorm, ...]:
    """Choose the scale and the zero point of each norm's output, in place.

    Parameters
    ----------
    graph : Graph
        As the quantizer made it, its norms in float between conversions.
    quantizer : StaticQuantizer
        That made it.
    batches : list of dict
        Of the inputs.
    method : {"mse", "minmax", "percentile", "entropy"}
    progress : callable, optional
        Called with how many steps are done, and how many there are.

    Returns
    -------
    tuple of RecalibratedNorm
        In the order in which they were treated. A norm that cannot run in 8 bits is not among them.

    Raises
    ------
    ValueError
        If no scale can be chosen for a norm, or none written; names it.
    """
    norms = sites_of(graph, quantizer.made)
    marks = {norm.nodes[0].output[0]: mark for mark, norm in norms.items()}
    steps = Stepwise(graph, [norm.nodes[0] for norm in norms.values()], batches)
    known = activations(graph)
    made: dict[str, RecalibratedNorm] = {}
    for done, step in enumerate(steps):
        if progress is not None:
            progress(done, len(steps))
        wanted: dict[str, tuple[float, int]] = {}
        counted: dict[str, ChannelStatistics] = {}
        for mark in (marks[node.output[0]] for node in step):
            norm = norms[mark]
            assert norm.parameters is not None
            assert norm.source is not None
            codes = norm.source.codes
            if codes not in counted:
                counted[codes] = _count(graph, steps, norm.source, norm.parameters.channels)
            made[mark] = choose(quantizer, mark, operator_of(norm), counted[codes], method)
            wanted.update((tensor, made[mark].qparams) for tensor in quantizer.outputs(mark) if tensor in known)
        set_qparams(graph, wanted, quantizer.float_graph.constant)
    if progress is not None:
        progress(len(steps), len(steps))
    graph.finish()
    for mark, chosen in made.items():
        _check(graph, norms[mark].target, chosen)
    return tuple(made.values())


def _count(graph: Graph, steps: Stepwise, source: QParams, channels: int) -> ChannelStatistics:
    statistics = ChannelStatistics(channels)
    # Right behind another norm they are no longer what they were when the norms were found.
    scale = float(_now(graph, source.scale_name, source.scale))
    zero_point = int(_now(graph, source.zero_point_name, source.zero_point))
    for codes in steps.read(source.codes):
        statistics.update(bn.QuantizedTensor(codes, scale, zero_point), axis=1)
    return statistics


def _now(graph: Graph, name: str, before: np.ndarray) -> Any:
    value = graph.constant(name)
    return (before if value is None else value).ravel()[0]


def _check(graph: Graph, target: QParams | None, wanted: RecalibratedNorm) -> None:
    """Require that a norm has what was chosen: a scale may have another name than expected."""
    assert target is not None
    scale = float(_now(graph, target.scale_name, target.scale))
    got = scale, int(_now(graph, target.zero_point_name, target.zero_point))
    if got != wanted.qparams:
        raise ValueError(
            f"the output of the norm {wanted.name} has the scale and zero point {got}, not {wanted.qparams}"
        )
