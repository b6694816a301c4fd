"""Average pooling behind a norm that may change places with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..graph.graph import CONTRIBUTED, attribute, int_list, is_op
from ..norms.qparams import qparams

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import NodeProto

    from ..graph.graph import Graph
    from ..norms.norm import QuantizedNorm
    from ..norms.qparams import QParams


@dataclass(frozen=True)
class Pool:
    """Averages of 2 x 2 behind a 1 x 1 convolution that reads the norm alone; the two can change places.

    `conv` and `pool` are the nodes, `conversions` those between them, `quantize` the one behind (in QDQ format).
    """

    conv: NodeProto
    pool: NodeProto
    conversions: tuple[NodeProto, ...] = ()
    quantize: NodeProto | None = None


def pool_behind(graph: Graph, site: QuantizedNorm, rank: int | None) -> Pool | None:
    """Return the averages behind a norm that may change places with the convolution before them."""
    if rank != 4 or site.relu_and_limits()[1] != (None, None):
        return None
    reader = graph.only_reader(site.target.codes)
    if reader is not None and is_op(reader, "QLinearConv"):
        return _pool_of_bytes(graph, reader, site.target.codes)
    return _pool_in_float(graph, reader) if reader is not None and is_op(reader, "DequantizeLinear") else None


def _pool_of_bytes(graph: Graph, conv: NodeProto, codes: str) -> Pool | None:
    pool = graph.only_reader(conv.output[0])
    if pool is None or (pool.domain, pool.op_type) != (CONTRIBUTED, "QLinearAveragePool"):
        return None
    weight = graph.constant(conv.input[3])
    if conv.input[0] != codes or not _is_pointwise(conv, weight) or not _is_quartering(pool):
        return None
    between, _ = qparams(graph, conv, 6, conv.output[0], "")
    read, _ = qparams(graph, pool, 1, pool.input[0], "")
    behind, _ = qparams(graph, pool, 3, pool.output[0], "")
    return Pool(conv, pool) if _may_swap(between, read, behind) else None


def _pool_in_float(graph: Graph, dequantize: NodeProto) -> Pool | None:
    conv = graph.only_reader(dequantize.output[0])
    if conv is None or not is_op(conv, "Conv") or conv.input[0] != dequantize.output[0]:
        return None
    quantize = graph.only_reader(conv.output[0])
    back = graph.only_reader(quantize.output[0]) if quantize is not None else None
    pool = graph.only_reader(back.output[0]) if back is not None else None
    last = graph.only_reader(pool.output[0]) if pool is not None else None
    if quantize is None or back is None or pool is None or last is None:
        return None
    conversions = is_op(quantize, "QuantizeLinear") and is_op(back, "DequantizeLinear")
    if not conversions or not is_op(pool, "AveragePool") or not is_op(last, "QuantizeLinear"):
        return None
    if not _is_pointwise(conv, graph.constant(conv.input[1])) or not _is_quartering(pool):
        return None
    between, read, behind = (qparams(graph, n, 1, n.output[0], "")[0] for n in (quantize, back, last))
    return Pool(conv, pool, (quantize, back), last) if _may_swap(between, read, behind) else None


def _may_swap(between: QParams | None, read: QParams | None, behind: QParams | None) -> bool:
    """Say whether averaging before a convolution gives, but for rounding, what averaging behind it does.

    Not where the conversion between them does the work of a dropped Relu: it cuts off the numbers of one sign.
    """
    if between is None or read is None or behind is None or not between.equals(read):
        return False
    return (
        between.per_tensor and behind.per_tensor and between.signed == behind.signed and 0 not in between.range()
    )


def _is_pointwise(conv: NodeProto, weight: npt.NDArray[np.generic] | None) -> bool:
    shape = () if weight is None else weight.shape
    return (
        len(shape) == 4
        and shape[2:] == (1, 1)
        and attribute(conv, "group", 1) == 1
        and _is_plain(conv)
        and set(int_list(conv, "strides") or [1]) == {1}
    )


def _is_quartering(pool: NodeProto) -> bool:
    return (
        int_list(pool, "kernel_shape") == [2, 2]
        and int_list(pool, "strides") == [2, 2]
        and set(int_list(pool, "dilations") or [1]) == {1}
        and not attribute(pool, "ceil_mode", 0)
        and not attribute(pool, "channels_last", 0)
        and _is_plain(pool)
    )


def _is_plain(node: NodeProto) -> bool:
    """Say whether a convolution or pool pads nothing."""
    auto_pad = next((a.s for a in node.attribute if a.name == "auto_pad"), b"NOTSET")
    return auto_pad in (b"NOTSET", b"VALID") and not any(int_list(node, "pads") or [])
