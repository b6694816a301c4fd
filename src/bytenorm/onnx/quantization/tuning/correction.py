"""Norms and layers of an 8-bit network corrected relative to the float network.

Quantization moves the mean and the spread of what comes to a norm, and the mean of what a layer makes; what is
behind it sees other numbers than it was trained for. The same samples go through both networks. Each norm gets the
mean and the variance with which its output has the moments of the float network's. Each layer's bias takes the
difference of the means of its output, before its activation. Level by level from the inputs on: a correction
changes all that follows.

Corrected biases are known from post-training quantization (Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019), and so are norms re-estimated on the quantized network (Sun et al.,
"Hybrid 8-bit Floating Point Training and Inference for Deep Neural Networks", 2019). Here both moments of norms
that stay in the network are corrected, relative to the float network. Statistics of the data alone would take a
norm away from what it was trained to do.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import bytenorm as bn

from ....calibration import ChannelStatistics
from ....calibration.reestimation import reestimate
from ...graph.graph import is_op
from ...norms.find import find_norms
from ...norms.norm import PARAMETER_NAMES
from ...observation.moments import measure
from .layers import find_layers
from .recalibration import operator_of
from .stepwise import Stepwise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx

    from ....calibration.moments import Moments
    from ...graph.graph import Graph
    from ...norms.norm import Norm
    from .layers import Layer

    Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Correction:
    """What was corrected in one norm or layer.

    Attributes
    ----------
    name : str
    kind : str
        ``"norm"``, or the operator of a layer.
    moved : float
        How far quantization had moved the mean of what a norm reads, in standard deviations, or a layer makes, in
        real units: the root of the mean square over channels.
    stretched : float or None
        A norm's factor of the standard deviation that is farthest from 1; None for a layer.
    """

    name: str
    kind: str
    moved: float
    stretched: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


def correct(
    graph: Graph,
    reference: Graph,
    counterpart: Callable[[onnx.NodeProto], onnx.NodeProto | None],
    feed: Callable[[Batch], Batch],
    batches: Sequence[Batch],
    *,
    known: Mapping[str, Moments] | None = None,
    quantized_biases: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Correction, ...]:
    """Correct the norms and layers of an 8-bit graph, in place.

    Parameters
    ----------
    graph : Graph
        In 8 bits, its norms in float between conversions.
    reference : Graph
        The float network of the same layers and norms.
    counterpart : callable
        Returns the node of `reference` that computes in float what a layer or a norm of `graph` does, if there is
        one.
    feed : callable
        Returns what `reference` is fed for a batch.
    batches : list of dict
        Of the inputs of `graph`.
    known : mapping of str to Moments, optional
        What is known of tensors of `reference` on these batches, and on others after them. What is missing is
        measured.
    quantized_biases : bool
        Whether a layer without a bias gets one in 32 bits, not in float.
    progress : callable, optional
        Called with how many steps are done, and how many there are.

    Returns
    -------
    tuple of Correction
        In the order in which they were made.
    """
    norms, layers, means = {}, {}, {}  # by what the node of each makes
    for norm in find_norms(graph):
        other = counterpart(norm.nodes[0]) if _can_be_corrected(norm) else None
        if other is not None:
            norms[norm.output], means[norm.output] = norm, other.input[0]
    for layer in find_layers(graph, quantized_biases=quantized_biases):
        other = counterpart(layer.node)
        if other is not None:
            made = layer.node.output[0]
            layers[made], means[made] = layer, other.output[0]
    channels = {means[made]: layer.channels for made, layer in layers.items()}
    channels |= {
        means[made]: norm.parameters.channels for made, norm in norms.items() if norm.parameters is not None
    }
    spread = {means[made] for made in norms}
    moments = dict(known or {})
    missing = {
        tensor: count
        for tensor, count in channels.items()
        if tensor not in moments or not moments[tensor].covers(len(batches), count, spread=tensor in spread)
    }
    if missing:
        moments |= measure(reference, missing, spread & missing.keys(), map(feed, batches))
    sites = [*(n.nodes[0] for n in norms.values()), *(layer.node for layer in layers.values())]
    steps = Stepwise(graph, sites, batches)
    corrections = []
    for done, step in enumerate(steps):
        if progress is not None:
            progress(done, len(steps))
        for node in step:
            made = node.output[0]
            wanted = moments[means[made]].pooled(steps.batches)
            if made in norms:
                correction = _correct_norm(graph, norms[made], steps, wanted)
            else:
                correction = _correct_layer(graph, layers[made], steps, wanted[0])
            if correction is not None:
                corrections.append(correction)
    if progress is not None:
        progress(len(steps), len(steps))
    graph.finish()
    return tuple(corrections)


def _can_be_corrected(norm: Norm) -> bool:
    one = len(norm.nodes) == 1 and is_op(norm.nodes[0], "BatchNormalization")
    source = norm.source
    return one and norm.parameters is not None and source is not None and source.per_tensor


def _correct_norm(
    graph: Graph, norm: Norm, steps: Stepwise, wanted: tuple[np.ndarray, np.ndarray]
) -> Correction | None:
    p, source = norm.parameters, norm.source
    assert p is not None
    assert source is not None
    statistics = ChannelStatistics(p.channels, histogram=False)
    for codes in steps.read(source.codes):
        statistics.update(bn.QuantizedTensor(codes, *source.scalars), axis=1)
    if statistics.count < 2 or not np.all(np.isfinite(wanted)):
        return None
    try:
        made = reestimate(operator_of(norm), statistics, reference=wanted)
    except ValueError:  # beyond what float32 holds
        return None
    for name, value in (("input_mean", made.mean), ("input_var", made.var)):
        tensor = graph.add_constant(f"{norm.name}/{name}/corrected", value)
        graph.set_input(norm.nodes[0], 1 + PARAMETER_NAMES.index(name), tensor)
    old, new = (np.sqrt(x.astype(np.float64) + p.epsilon) for x in (p.input_var, made.var))
    stretch = new / np.where(old > 0, old, 1)
    deviation = np.sqrt(wanted[1])
    moved = (statistics.mean() - wanted[0]) / np.where(deviation > 0, deviation, 1)
    return Correction(
        norm.name, "norm", float(np.sqrt(np.mean(moved**2))), float(stretch[np.argmax(np.abs(np.log(stretch)))])
    )


def _correct_layer(graph: Graph, layer: Layer, steps: Stepwise, wanted: np.ndarray) -> Correction | None:
    sums: dict[tuple[int, ...], tuple[np.ndarray, int]] = {}
    for codes in steps.read(layer.source.codes):
        before, count = sums.get(codes.shape[1:], (np.zeros(codes.shape[1:], np.int64), 0))
        sums[codes.shape[1:]] = before + codes.sum(axis=0, dtype=np.int64), count + len(codes)
    change = wanted - layer.mean_of_output(sums)
    if not np.all(np.isfinite(change)) or not layer.add_to_bias(graph, change):
        return None
    return Correction(layer.node.name, layer.node.op_type, float(np.sqrt(np.mean(change**2))))
