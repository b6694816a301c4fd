"""Norms without 8 bits: what a network gains where a norm reads numbers, and gives numbers, that nobody rounded.

A norm between conversions loses nothing by itself. What loses are the two conversions: one step for all channels
of what it reads, whose ranges it was there to make alike, and one for all that it makes. So both go. The layers
beside it read or make numbers then, and run in float as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...graph.graph import is_op
from ...graph.moves import KEEPING
from ...norms.find import find_norms
from ...norms.qparams import qparams
from ...norms.surroundings import activation_limits

if TYPE_CHECKING:
    from onnx import NodeProto

    from ...graph.graph import Graph
    from ...quantizer.static_quantizer import StaticQuantizer

    Limits = tuple[float, float]

_NONE = -math.inf, math.inf


@dataclass(frozen=True)
class Candidate:
    """A norm in 8 bits: its name, what it makes, and what activations leave of what it reads and makes.

    A conversion may do the work of an activation, which is gone then.
    """

    name: str
    output: str
    before: Limits
    behind: Limits


def candidates(graph: Graph, quantizer: StaticQuantizer) -> list[Candidate]:
    """Return the norms of a graph in QDQ format that have 8 bits, each in float between conversions as yet."""
    marks = {output: mark for mark, output in quantizer.made.items()}
    return [
        Candidate(
            n.name, n.output, _before(quantizer.float_graph, marks[n.output]), quantizer.limits(marks[n.output])
        )
        for n in find_norms(graph)
        if not n.problem and n.output in marks
    ]


def _before(graph: Graph, mark: str) -> Limits:
    """Return what the activations right before a mark of a float graph leave."""
    node = next(node for node in graph.nodes if node.name == mark)
    maker, (low, high) = graph.maker(node.input[0]), _NONE
    if maker is not None and maker.name == f"{mark}/there":  # it makes images of vectors
        maker = graph.maker(maker.input[0])
    while maker is not None and (limits := activation_limits(graph, maker)) is not None:
        low, high = max(low, limits[0]), min(high, limits[1])
        maker = graph.maker(maker.input[0])
    return low, high


def leave_in_float(graph: Graph, norm: Candidate) -> None:
    """Take the conversions around a norm away, in place; those behind what only moves its results, too."""
    found = next(one for one in find_norms(graph) if one.output == norm.output)
    dequantize = graph.maker(found.input)
    quantize = None if dequantize is None else graph.maker(dequantize.input[0])
    if quantize is not None and is_op(dequantize, "DequantizeLinear") and is_op(quantize, "QuantizeLinear"):
        graph.set_input(found.nodes[0], 0, _limited(graph, quantize.input[0], norm.before))
    if found.quantize is None:
        return
    waiting, limits = [found.quantize], norm.behind
    while waiting:
        waiting += _take_out(graph, waiting.pop(), limits)
        limits = _NONE


def _take_out(graph: Graph, quantize: NodeProto, limits: Limits) -> list[NodeProto]:
    """Let what reads rounded numbers read those before; return what rounds them alike once they are moved."""
    codes = quantize.output[0]
    q, _ = qparams(graph, quantize, 1, codes, "")
    real = _limited(graph, quantize.input[0], limits)
    again = []
    for dequantize in graph.readers(codes):
        rounded = dequantize.output[0]
        if not is_op(dequantize, "DequantizeLinear") or graph.is_read_elsewhere(rounded):
            continue
        for reader in graph.readers(rounded):
            if is_op(reader, *KEEPING):
                behind = graph.only_reader(reader.output[0])
                after = None if behind is None else qparams(graph, behind, 1, behind.output[0], "")[0]
                if behind is not None and is_op(behind, "QuantizeLinear") and after and q and after.equals(q):
                    again.append(behind)
        graph.remove(dequantize)
        graph.redirect(rounded, real)
    if not graph.readers(codes) and not graph.is_read_elsewhere(codes):
        graph.remove(quantize)
    return again


def _limited(graph: Graph, tensor: str, limits: Limits) -> str:
    """Return a tensor behind a Clip to these limits, or the tensor itself where its maker keeps them."""
    maker = graph.maker(tensor)
    there = None if maker is None else activation_limits(graph, maker)
    if limits == _NONE or (there is not None and there[0] >= limits[0] and there[1] <= limits[1]):
        return tensor
    ends = [
        "" if math.isinf(end) else graph.add_constant(f"{tensor}/{what}", np.float32(end))
        for what, end in zip(("lowest", "highest"), limits, strict=True)
    ]
    made = graph.new_name(f"{tensor}/limited")
    graph.make("Clip", [tensor, *ends], made, made)
    return made
