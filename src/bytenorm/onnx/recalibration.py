"""Norms that fit the quantized network they are in: its own output scales and statistics, layer by layer.

A norm's input is that of the finished network only once everything before it is what it will be. So norms are
taken by level: those that depend on no other norm first, then those that depend on these; the network is
quantized again behind each level. Scales are given to ONNX Runtime's quantizer rather than written into what it
made: the bias of a convolution is in units of its input's scale.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

import bytenorm as bn

from ..calibration import ChannelStatistics
from ..calibration.output_qparams import choose_within
from ..calibration.reestimation import reestimate as reestimated
from .apart import runner
from .every_code import every_code
from .graph import Graph, subgraphs
from .norms import Norm, QParams, find_norms
from .static_quantizer import stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..calibration.output_qparams import Method
    from .data import Dataset
    from .static_quantizer import Progress, StaticQuantizer


@dataclass(frozen=True)
class RecalibratedNorm:
    """What a norm got from the data.

    Attributes
    ----------
    name : str
    method : str or None
        How the scale and the zero point of its output were chosen; None: by ONNX Runtime.
    reestimated : bool
        Whether it has the mean and the variance of its input now.
    scale : float
        Of its output, in real units.
    zero_point : int
        In the type that activations were quantized to.
    clipped : float or None
        The share of its outputs on the calibration data that lie more than half a step beyond the last code; None
        without a method.
    mse : float or None
        The mean squared error of its quantized output, in real units squared; None without a method.
    """

    name: str
    method: str | None
    reestimated: bool
    scale: float
    zero_point: int
    clipped: float | None = None
    mse: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


def recalibrate(
    quantizer: StaticQuantizer,
    data: Dataset,
    method: Method | None,
    *,
    data_statistics: bool,
    progress: Progress | None,
) -> tuple[Graph, tuple[RecalibratedNorm, ...]]:
    """Quantize a network whose norms fit it.

    Parameters
    ----------
    quantizer : StaticQuantizer
        Of the float network.
    data : Dataset
        What is counted.
    method : {"mse", "minmax", "percentile", "entropy"}, optional
        How the quantization of each norm's output is chosen; None leaves it to the quantizer.
    data_statistics : bool
        Whether norms get the mean and the variance of their inputs.
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
        If the data does not tell a variance of a norm's input, names the norm; or if ONNX Runtime cannot quantize
        or run the network, or takes another quantization than the chosen one.
    """
    wanted: dict[str, RecalibratedNorm] = {}
    graph, nodes = quantizer.run()
    if method is None and not data_statistics:
        return graph, ()
    order = _levels(graph, nodes)
    for number, level in enumerate(order, 1):
        sites = _sites(graph, nodes, level)
        name = f"norms {number}/{len(order)}"
        statistics = _gather(graph, sites, data, f"{name}: run", progress)
        for mark, norm in sites.items():
            assert norm.parameters is not None and norm.target is not None
            original = quantizer.norms[mark]
            fresh = data_statistics and original.written.startswith("BatchNormalization")
            operator = _operator(norm)
            if fresh:
                try:
                    operator = reestimated(operator, statistics[mark])
                except ValueError as error:
                    raise ValueError(f"data_statistics: the norm {original.name}: {error}") from None
                changed = replace(norm.parameters, input_mean=operator.mean, input_var=operator.var)
                quantizer.set_parameters(mark, changed)
            scale, zero_point, clipped, mse = operator.output_scale, operator.output_zero_point, None, None
            if method is not None:
                try:
                    best = choose_within(operator, statistics[mark], quantizer.limits(mark), method)
                except ValueError as error:
                    raise ValueError(f"method: the norm {original.name}: {error}") from None
                (scale, zero_point), clipped, mse = best, best.clipped, best.mse
                zeros = np.array(zero_point, np.int8 if norm.target.signed else np.uint8)
                quantizer.set_output(mark, np.array(scale, np.float32), zeros)
            wanted[mark] = RecalibratedNorm(original.name, method, fresh, scale, zero_point, clipped, mse)
        if sites:
            graph, nodes = quantizer.run(name)
    return graph, tuple(_checked(graph, nodes, wanted))


def _operator(norm: Norm) -> bn.BatchNorm:
    p, target = norm.parameters, norm.target
    assert p is not None and target is not None
    return bn.BatchNorm(
        p.scale,
        p.B,
        p.input_mean,
        p.input_var,
        eps=p.epsilon,
        output_scale=float(target.scale.ravel()[0]),
        output_zero_point=int(target.zero_point.ravel()[0]),
        output_dtype=bn.qint8 if target.signed else bn.quint8,
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


def _sites(graph: Graph, nodes: Mapping[str, onnx.NodeProto], marks: Sequence[str]) -> dict[str, Norm]:
    """Return those norms of a graph that can run in 8 bits."""
    found = {norm.output: norm for norm in find_norms(graph)}
    sites = {}
    for mark in marks:
        norm = found.get(nodes[mark].output[0])
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
    made = runner(_cut(graph, list(sources)))
    inputs = {value.name for value in made.get_inputs()}
    for done, batch in enumerate(data):
        if report is not None:
            report(done, len(data))
        read = {tensor: array for tensor, array in batch.items() if tensor in inputs}
        try:
            outputs = made.run(list(sources), read)
        except Exception as error:  # ONNX Runtime has a class for each of its codes, without a common parent
            why = " ".join(str(error).split())
            raise ValueError(f"model: ONNX Runtime cannot run it quantized: {why}") from None
        for codes, (q, statistics) in zip(outputs, sources.values(), strict=True):
            scale, zero_point = float(q.scale.ravel()[0]), int(q.zero_point.ravel()[0])
            statistics.update(bn.QuantizedTensor(codes, scale, zero_point), axis=1)
    return found


def _cut(graph: Graph, tensors: Sequence[str]) -> onnx.ModelProto:
    """Return what makes these tensors, as a model of its own."""
    graph.finish()
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in tensors)
    Graph(model).finish()
    return model


def _checked(
    graph: Graph, nodes: Mapping[str, onnx.NodeProto], wanted: Mapping[str, RecalibratedNorm]
) -> list[RecalibratedNorm]:
    """Return what norms got, and require that the finished network has the quantization that was chosen."""
    made = []
    sites = _sites(graph, nodes, list(wanted))
    for mark, one in wanted.items():
        target = sites[mark].target if mark in sites else None
        if target is None:  # re-estimated beyond what float32 holds: lowering reports it
            continue
        got = float(target.scale.ravel()[0]), int(target.zero_point.ravel()[0])
        if one.method is None:
            made.append(replace(one, scale=got[0], zero_point=got[1]))
            continue
        if got != (float(np.float32(one.scale)), one.zero_point):
            raise ValueError(
                f"model: ONNX Runtime's quantizer gave the norm {one.name} the scale and zero point {got}, "
                f"not {(one.scale, one.zero_point)}: a newer one may take them"
            )
        made.append(one)
    return made
