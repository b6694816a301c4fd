"""Data of another scale than a network was trained on: pixels from 0 to 255 where it wants 0 to 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..._tensors.quantization import range_of_codes, scalars
from ..graph.graph import is_op
from .moments import measure

if TYPE_CHECKING:
    from ..data.dataset import Dataset
    from ..graph.graph import Graph
    from ..norms.norm import Norm

_SAMPLES = 8
# How many times as wide as a norm's statistics say, or as narrow, its input may be in half of the channels. Other
# data of the same kind differ by a factor of some two, 0 to 255 and 0 to 1 by 255.
_WIDER = 20.0
# How many widths of a range numbers may be off it, or spread: within it no spread is more than half of one.
_BEYOND = 2.0


def unlike_statistics(graph: Graph, norms: list[Norm], data: Dataset) -> str:
    """Say how far the data is from what the first norm with statistics was trained on; empty if it is like that.

    Parameters
    ----------
    graph : Graph
        In float, before anything is folded.
    norms : list of Norm
        Of the graph.
    data : Dataset
        Of its inputs. A few samples are run up to the norm.
    """
    norm = next((n for n in norms if n.written == "BatchNormalization" and n.parameters is not None), None)
    if norm is None or norm.parameters is None or graph.constant(norm.input) is not None:
        return ""
    try:
        found = measure(graph, {norm.input: norm.parameters.channels}, [norm.input], data.first(_SAMPLES))
        mean, variance = found[norm.input].pooled()
    except Exception:  # what cannot be run is refused where it is quantized, in its words
        return ""
    expected = np.sqrt(norm.parameters.input_var.astype(np.float64) + norm.parameters.epsilon)
    varies = variance > 0
    if not varies.any() or not np.all(np.isfinite(variance)):
        return ""
    wider = float(np.median(np.sqrt(variance[varies]) / expected[varies]))
    if 1 / _WIDER <= wider <= _WIDER:
        return ""
    return (
        f"the data is unlike what the norm {norm.name} was trained on: on average over channels its input has "
        f"mean {mean.mean():.4g} and deviation {np.sqrt(variance).mean():.4g}, its statistics say "
        f"{norm.parameters.input_mean.mean():.4g} and {expected.mean():.4g}; "
        "are its numbers scaled as the network wants them?"
    )


def unlike_codes(graph: Graph, data: Dataset) -> str:
    """Say how far the data is from what calibrated an 8-bit network: from the range of what is quantized first.

    Empty if it is like that, or where nobody can tell.

    Parameters
    ----------
    graph : Graph
        In 8 bits.
    data : Dataset
        Of its inputs. A few samples are run up to the first conversion to codes.
    """
    first = next(
        (n for n in graph.in_order() if is_op(n, "QuantizeLinear") and graph.constant(n.input[0]) is None), None
    )
    if first is None or len(first.input) < 3:
        return ""
    scale, zero_point = (graph.constant(name) for name in first.input[1:3])
    if scale is None or zero_point is None or scale.size != 1 or zero_point.size != 1 or zero_point.itemsize != 1:
        return ""
    (step, zero), name = scalars(scale, zero_point), first.input[0]
    low, high = range_of_codes(step, zero, signed=zero_point.dtype == np.int8)
    try:
        found = measure(graph, {name: 1}, [name], data.first(_SAMPLES))[name].pooled()
        mean, deviation = float(found[0][0]), float(np.sqrt(found[1][0]))
    except Exception:  # what cannot be run is refused elsewhere, in its words
        return ""
    beyond = max(deviation, low - mean, mean - high) > _BEYOND * (high - low)
    if not beyond and not deviation < step:
        return ""
    return (
        f"the data is unlike what calibrated the model: {name} has mean {mean:.4g} and deviation {deviation:.4g}, "
        f"its codes stand for {low:.4g} to {high:.4g} in steps of {step:.4g}; "
        "are its numbers scaled as the network wants them?"
    )
