"""The qdq lowering: a norm stays one, in float between conversions, for runtimes that have such norms in 8 bits.

However it was written, it is a BatchNormalization with its Relu or Clip then. Its parameters are not rounded, and
within it no conversion is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .exact import output_quantization, parameters
from .graph import Graph, label, opset_of

if TYPE_CHECKING:
    from .norms import Norm, Site

PATTERN = "qdq"  # what outcomes say of such a norm
_OLDEST_LIMITS_AS_INPUTS = 11  # opset


def replace(graph: Graph, norm: Norm) -> None:
    """Put a norm, whose old nodes are gone, in their place; tensors in float keep their names."""
    site, name, real, normalized = norm.site(), norm.name, norm.input, norm.output
    if real == site.source.codes:  # it was of operators on bytes
        real, normalized = (graph.new_name(f"{name}/{what}") for what in ("real", "normalized"))
        quantization = [site.source.scale_name, *filter(None, [site.source.zero_point_name])]
        axis = {} if site.source.per_tensor else {"axis": 1}
        graph.make("DequantizeLinear", [norm.input, *quantization], real, f"{name}/DequantizeLinear", **axis)
    inputs = [real, *parameters(graph, site)]
    graph.make("BatchNormalization", inputs, normalized, name, epsilon=site.parameters.epsilon)
    activated = normalized
    if norm.activation is not None:
        activated = norm.activation.output[0]
        limits, attributes = _limits(graph, site)
        graph.make(site.activation, [normalized, *limits], activated, label(norm.activation), **attributes)
    inputs = [activated, *output_quantization(graph, site)]
    graph.make("QuantizeLinear", inputs, site.target.codes, f"{name}/QuantizeLinear")


def _limits(graph: Graph, site: Site) -> tuple[list[str], dict[str, float]]:
    """Return the limits of a norm's activation as constants or, where a Clip has them so, as attributes."""
    if site.activation != "Clip":
        return [], {}
    limits = {"min": site.floor, "max": site.ceiling}
    if opset_of(graph.model) < _OLDEST_LIMITS_AS_INPUTS:
        return [], {what: limit for what, limit in limits.items() if np.isfinite(limit)}
    return [
        graph.add_constant(f"{site.name}/{what}", np.float32(limit)) if np.isfinite(limit) else ""
        for what, limit in limits.items()
    ], {}
