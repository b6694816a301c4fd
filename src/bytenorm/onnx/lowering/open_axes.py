"""Which axes of a norm's input may be empty when the model runs: a time axis without frames, say.

ONNX Runtime's convolutions refuse such data, a norm in float takes them. What stands near a convolution or a pool
never meets any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..graph.graph import Graph, attribute
from ..graph.qlinear_conv import codes_conv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from onnx import NodeProto

    from ..norms.norm import QuantizedNorm

_WINDOWED = ("Conv", "ConvTranspose", "ConvInteger", "MaxPool", "AveragePool", "LpPool")


def open_axes(graph: Graph, site: QuantizedNorm) -> list[int]:
    """Return the axes behind that of the channels whose size is unknown and may be 0.

    Parameters
    ----------
    graph : Graph
        Not changed.
    site : QuantizedNorm

    Returns
    -------
    list of int
    """
    shape = graph.type_of(site.input)[1] or graph.type_of(site.source.codes)[1] or ()
    axes = [axis for axis, size in enumerate(shape) if axis >= 2 and not size]
    if not axes:
        return []

    def before(tensor: str) -> Iterable[NodeProto]:
        maker = graph.maker(tensor)
        return () if maker is None else (maker,)

    makers = _reached(graph, site.source.codes, before, lambda node: node.input)
    readers = _reached(graph, site.target.codes, graph.readers, lambda node: node.output)
    return [] if makers or readers else axes


def _reached(
    graph: Graph,
    start: str,
    step: Callable[[str], Iterable[NodeProto]],
    onward: Callable[[NodeProto], Iterable[str]],
) -> bool:
    """Say whether what a tensor is made of, or what is made of it, has a convolution or a pool in it."""
    waiting, seen = [start], {start}
    while waiting:
        for node in step(waiting.pop()):
            if _is_windowed(graph, node):
                return True
            fresh = {tensor for tensor in onward(node) if tensor} - seen
            seen |= fresh
            waiting += fresh
    return False


def _is_windowed(graph: Graph, node: NodeProto) -> bool:
    """Say whether a node is a convolution or a pool, and none that stands for a norm."""
    if node.op_type.removeprefix("QLinear") not in _WINDOWED:
        return False
    conv = codes_conv(graph, node)
    weight = None if conv is None else graph.constant(conv.weight.codes)
    return weight is None or weight.size != attribute(node, "group", 1)
