"""The qdq lowering: a norm stays one, in float between conversions, for runtimes that have such norms in 8 bits.

However it was written, it is a BatchNormalization with its Relu or Clip then. Its parameters are not rounded, and
within it no conversion is left. What it reads is written so that OpenVINO runs it well. Version 2026.4.1 dies of
two pairs of conversions, with no more than a norm between them, behind a Concat in float: so that joins codes, the
same numbers. A sum that nothing else reads is not rounded, where rounding does no activation's work: OpenVINO
makes it, and then the norm, in the convolution before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..fusion.concats_and_sums import Sum
from ..graph.graph import Graph, is_op, label, opset_of
from ..norms.qparams import qparams
from .exact import output_quantization, parameters

if TYPE_CHECKING:
    from onnx import NodeProto

    from ..fusion.concats_and_sums import Pattern
    from ..norms.norm import Norm, QuantizedNorm

PATTERN = "qdq"  # what outcomes say of such a norm
_OLDEST_LIMITS_AS_INPUTS = 11  # opset


def join_codes(graph: Graph, norm: Norm) -> None:
    """Let a concatenation that a norm reads in 8 bits be one of codes: its pieces are rounded, and not it."""
    source = norm.site().source
    quantize = _behind(graph, norm)
    joint = graph.maker(quantize.input[0]) if quantize is not None else None
    if quantize is None or joint is None or not is_op(joint, "Concat") or not source.per_tensor:
        return
    codes: dict[str, str] = {}
    for piece in dict.fromkeys(joint.input):
        known, before = graph.maker(piece), None
        if known is not None and is_op(known, "DequantizeLinear"):
            before, _ = qparams(graph, known, 1, known.input[0], "")
        if before is not None and before.equals(source):
            codes[piece] = before.codes
            continue
        codes[piece] = graph.new_name(f"{piece}/in {source.codes}")
        graph.make_like(quantize, [piece, *quantize.input[1:]], codes[piece])
    graph.remove(quantize)
    graph.make_like(joint, [codes[piece] for piece in joint.input], source.codes)


def unrounded(graph: Graph, norm: Norm, pattern: Pattern) -> str:
    """Return the tensor in float that a norm is to read: its own, or a sum before that is rounded."""
    quantize = _behind(graph, norm)
    if quantize is None or not isinstance(pattern, Sum) or not pattern.exact:
        return norm.input
    made = quantize.input[0]
    alone = all(graph.only_reader(tensor) for tensor in (made, quantize.output[0], norm.input))
    return made if alone and is_op(graph.maker(made), "Add") else norm.input


def _behind(graph: Graph, norm: Norm) -> NodeProto | None:
    """Return the QuantizeLinear that makes the codes which a norm reads over a DequantizeLinear."""
    source = norm.site().source
    quantize = graph.maker(source.codes)
    through = is_op(graph.maker(norm.input), "DequantizeLinear") and is_op(quantize, "QuantizeLinear")
    return quantize if through and source.path is None else None


def replace(graph: Graph, norm: Norm, real: str) -> None:
    """Put a norm, whose old nodes are gone, in their place; tensors in float keep their names."""
    site, name, normalized = norm.site(), norm.name, norm.output
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


def _limits(graph: Graph, site: QuantizedNorm) -> tuple[list[str], dict[str, float]]:
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
