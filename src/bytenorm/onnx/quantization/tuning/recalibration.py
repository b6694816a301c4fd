"""Norms with the statistics of the data in the quantized network they are in, level by level.

A norm can be measured when everything before it is final. So norms are taken by level: first those that depend on
no other norm, then those that depend on these alone, and so on. New statistics of a norm change the ranges behind
it: the network is quantized again after each level.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx

import bytenorm as bn

from ...._errors import bad_value
from ...._outcomes import RecalibratedNorm
from ....calibration import ChannelStatistics
from ....calibration.qparams.output_qparams import choose_within
from ....calibration.reestimation import reestimate as reestimated
from ...graph.cutting import cut, feed
from ...graph.graph import Graph, subgraphs
from ...norms.code_maps import every_code
from ...norms.find import find_norms
from ...norms.norm import Norm
from ...norms.qparams import QParams
from ...quantizer.reader import stage
from ...run.apart import run_session, runner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ....calibration.qparams.output_qparams import Method
    from ...data.dataset import Dataset
    from ...quantizer.reader import Progress
    from ...quantizer.static_quantizer import StaticQuantizer


def recalibrate(
    quantizer: StaticQuantizer, data: Dataset, method: Method | None, progress: Progress | None
) -> tuple[Graph, tuple[RecalibratedNorm, ...]]:
    """Quantize a network whose norms have the mean and the variance of their inputs on the data.

    Parameters
    ----------
    quantizer : StaticQuantizer
        Of the float network.
    data : Dataset
        What is counted.
    method : {"mse", "minmax", "percentile", "entropy"}, optional
        How the quantization of each norm's output is chosen; None leaves it to the quantizer.
    progress : callable, optional
        Called with the stage, how many batches of it are done, and how many there are.

    Returns
    -------
    graph : Graph
        In 8 bits, the norms in float between conversions.
    recalibrated : tuple of RecalibratedNorm
        In the order in which they were treated. A norm that cannot run in 8 bits is not among them.

    Raises
    ------
    ValueError
        If the data does not tell a variance of a norm's input; it names the norm. If ONNX Runtime cannot quantize
        or run the network, or takes another quantization than the chosen one.
    """
    wanted: dict[str, RecalibratedNorm] = {}
    graph, nodes = quantizer.run()
    order = _levels(graph, nodes)
    for number, level in enumerate(order, 1):
        sites = sites_of(graph, {mark: nodes[mark].output[0] for mark in level})
        name = f"norms {number}/{len(order)}"
        statistics = _gather(graph, sites, data, f"{name}: run", progress)
        for mark, norm in sites.items():
            original, operator = quantizer.norms[mark], operator_of(norm)
            fresh = original.written.startswith("BatchNormalization")
            if fresh:
                try:
                    operator = reestimated(operator, statistics[mark])
                except ValueError as error:
                    raise bad_value("data_statistics", f": the norm {original.name}: {error}") from None
                assert norm.parameters is not None
                changed = replace(norm.parameters, input_mean=operator.mean, input_var=operator.var)
                quantizer.set_parameters(mark, changed)
            if method is None:
                scale, zero_point = operator.output_scale, operator.output_zero_point
                wanted[mark] = RecalibratedNorm(original.name, None, fresh, scale, zero_point)
                continue
            wanted[mark] = replace(choose(quantizer, mark, operator, statistics[mark], method), reestimated=fresh)
            quantizer.set_output(mark, *wanted[mark].qparams)
        if sites:
            graph, nodes = quantizer.run(name)
    return graph, tuple(_checked(graph, nodes, wanted))


def choose(
    quantizer: StaticQuantizer, mark: str, operator: bn.BatchNorm, statistics: ChannelStatistics, method: Method
) -> RecalibratedNorm:
    """Choose the quantization of a norm's output, and of the activations right behind it."""
    name = quantizer.norms[mark].name
    try:
        limits, symmetric = quantizer.limits(mark), quantizer.symmetric
        best = choose_within(operator, statistics, limits, method, symmetric=symmetric)
    except ValueError as error:
        raise bad_value("method", f": the norm {name}: {error}") from None
    return RecalibratedNorm(name, method, False, *best, clipped=best.clipped, mse=best.mse)


def operator_of(norm: Norm) -> bn.BatchNorm:
    """Return the norm of a quantized graph as an operator; its output does not count where it has no codes."""
    p, target = norm.parameters, norm.target
    assert p is not None
    scale, zero_point = (1.0, 0) if target is None else target.scalars
    return bn.BatchNorm(
        p.scale,
        p.B,
        p.input_mean,
        p.input_var,
        eps=p.epsilon,
        output_scale=scale,
        output_zero_point=zero_point,
        output_dtype=bn.qint8 if target is not None and target.signed else bn.quint8,
    )


def _levels(graph: Graph, nodes: Mapping[str, onnx.NodeProto]) -> list[list[str]]:
    """Return the marks of norms by how many norms, one behind the other, come before them."""
    graph.finish()  # puts nodes in order
    marks = {node.output[0]: mark for mark, node in nodes.items()}
    depths: dict[str, int] = {}
    levels: dict[int, list[str]] = {}
    for node in graph.proto.node:
        # A branch or a loop may read anything that is there.
        read = depths if next(subgraphs(node), None) is not None else node.input
        depth = max((depths.get(tensor, 0) for tensor in read), default=0)
        if node.output[0] in marks:
            levels.setdefault(depth, []).append(marks[node.output[0]])
            depth += 1
        depths.update(dict.fromkeys(node.output, depth))
    return [levels[depth] for depth in sorted(levels)]


def sites_of(graph: Graph, outputs: Mapping[str, str]) -> dict[str, Norm]:
    """Return those norms of a graph that can run in 8 bits, by mark; `outputs` says what each makes."""
    found = {norm.output: norm for norm in find_norms(graph)}
    sites = {}
    for mark, output in outputs.items():
        norm = found.get(output)
        if norm is not None and not norm.problem:
            try:
                every_code(norm.site())
            except ValueError:  # lowering reports it
                continue
            sites[mark] = norm
    return sites


def _gather(
    graph: Graph, sites: Mapping[str, Norm], data: Dataset, name: str, progress: Progress | None
) -> dict[str, ChannelStatistics]:
    """Run a quantized network on all data, up to some norms, and count what comes to them."""
    sources: dict[str, tuple[QParams, ChannelStatistics]] = {}
    found = {}
    for mark, norm in sites.items():
        assert norm.parameters is not None and norm.source is not None
        one = (norm.source, ChannelStatistics(norm.parameters.channels))
        found[mark] = sources.setdefault(norm.source.codes, one)[1]
    if not sources:
        return found
    report = stage(progress, name)
    part = cut(graph, sources)
    made = runner(part)
    for done, batch in enumerate(data):
        if report is not None:
            report(done, len(data))
        outputs = run_session(made, list(sources), feed(part, batch), "model (quantized)")
        for codes, (q, statistics) in zip(outputs, sources.values(), strict=True):
            statistics.update(bn.QuantizedTensor(codes, *q.scalars), axis=1)
    return found


def _checked(
    graph: Graph, nodes: Mapping[str, onnx.NodeProto], wanted: Mapping[str, RecalibratedNorm]
) -> list[RecalibratedNorm]:
    """Return what norms got, and require that the finished network has the quantization that was chosen."""
    made = []
    sites = sites_of(graph, {mark: nodes[mark].output[0] for mark in wanted})
    for mark, one in wanted.items():
        target = sites[mark].target if mark in sites else None
        if target is None:  # re-estimated beyond what float32 holds: lowering reports it
            continue
        got = target.scalars
        if one.method is None:
            made.append(replace(one, scale=got[0], zero_point=got[1]))
            continue
        scale, zero_point = one.qparams
        if got != (float(np.float32(scale)), zero_point):
            raise bad_value(
                "model",
                f": ONNX Runtime's quantizer gave the norm {one.name} the scale and zero point {got}, "
                f"not {one.qparams}: a newer one may take them",
            )
        made.append(one)
    return made
