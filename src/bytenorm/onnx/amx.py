"""Weights that let ONNX Runtime use AMX, the matrix unit of newer x86 CPUs: codes and zero points one lower.

For symmetric int8 weights ONNX Runtime has convolutions of its own, which do not know AMX. With any other zero
point the same convolution is a product of matrices, and that one takes AMX. The numbers are the same, and so are
sums in 32 bits: no result changes. It is a gain only for large products, so only these are written anew, and only
in memory: the rule is of one CPU, and ``python -m benchmarks.amx`` asks another.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from onnx import ModelProto

from .graph import Graph, attribute, is_conversion, is_op

if TYPE_CHECKING:
    from onnx import NodeProto

    from .graph import Array

# Measured with ONNX Runtime 1.32 on a Sapphire Rapids, one thread, us with and without: 512 to 128 channels, 1x1
# at 28x28, 158 and 234; 512 to 512, 3x3 at 7x7, 272 and 515; but 256 to 64, 1x1 at 56x56, 550 and 390.
LEAST_DEPTH = 512  # input channels times the kernel's positions
LEAST_OUTPUTS = 64
_LOWEST = -128


@functools.cache
def has_amx() -> bool:
    """Say whether this CPU has AMX for 8-bit integers, and the system says so (Linux)."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in text.splitlines() if line.startswith("flags")), [])
    return {"amx_tile", "amx_int8"} <= set(flags)


def weights_for_amx(
    model: ModelProto, *, least_depth: int = LEAST_DEPTH, least_outputs: int = LEAST_OUTPUTS
) -> ModelProto:
    """Return a model whose large convolutions ONNX Runtime runs as products of matrices.

    Parameters
    ----------
    model : ModelProto
        In QDQ or QOperator format, or in float. Not changed.
    least_depth, least_outputs : int, optional
        Which convolutions are large: input channels times the kernel's positions, and output channels.

    Returns
    -------
    ModelProto
        The model itself if there is nothing to change.
    """
    if not _movable(Graph(model), least_depth, least_outputs):
        return model
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = Graph(copy)
    made: dict[tuple[str, ...], list[str]] = {}  # what layers share stays shared
    for node in _movable(graph, least_depth, least_outputs):
        _move(graph, node, made)
    graph.finish()
    return copy


def _movable(graph: Graph, least_depth: int, least_outputs: int) -> list[NodeProto]:
    """Return the convolutions that gain, whose weights are symmetric and stay within int8."""
    found = []
    for node in graph.nodes:
        weight = _weight(graph, node)
        if weight is None or attribute(node, "group", 1) != 1:
            continue
        codes, zero_point = (graph.constant(tensor) for tensor in (weight[0], weight[2]))
        if codes is None or codes.dtype != np.int8 or codes.ndim != 4:
            continue
        if zero_point is None and (weight[2] or graph.constant(weight[1]) is None):
            continue
        if zero_point is not None and (zero_point.dtype != np.int8 or np.any(zero_point)):
            continue
        if codes.shape[0] < least_outputs or codes.size < least_depth * codes.shape[0]:
            continue
        if codes.size and codes.min() > _LOWEST:
            found.append(node)
    return found


def _weight(graph: Graph, node: NodeProto) -> tuple[str, str, str] | None:
    """Return the codes, scale and zero point (empty: none) of a convolution's weight, beside uint8 activations."""
    if is_op(node, "QLinearConv"):
        codes, scale, zero_point = node.input[3:6]
        return (codes, scale, zero_point) if _is_unsigned(graph, node.input[2]) else None
    if not is_op(node, "Conv"):
        return None
    before, of_weight = (graph.maker(tensor) for tensor in node.input[:2])
    if before is None or of_weight is None:
        return None
    if not is_conversion(before, "DequantizeLinear") or not is_conversion(of_weight, "DequantizeLinear"):
        return None
    if len(before.input) > 2 and not _is_unsigned(graph, before.input[2]):
        return None
    zero_point = of_weight.input[2] if len(of_weight.input) > 2 else ""
    return of_weight.input[0], of_weight.input[1], zero_point


def _is_unsigned(graph: Graph, zero_point: str) -> bool:
    value = graph.constant(zero_point)
    return value is not None and value.dtype == np.uint8


def _move(graph: Graph, node: NodeProto, made: dict[tuple[str, ...], list[str]]) -> None:
    weight = _weight(graph, node)
    assert weight is not None
    codes = graph.constant(weight[0])
    assert codes is not None
    before = None if is_op(node, "QLinearConv") else graph.maker(node.input[1])
    key = (*weight, "" if before is None else str(attribute(before, "axis", 1)))
    if key not in made:
        like = graph.constant(weight[2]) if weight[2] else graph.constant(weight[1])
        assert like is not None
        lower = graph.add_constant(f"{weight[0]}/lower", _lowered(codes))
        zeros = graph.add_constant(f"{weight[0]}/lower_zero_point", np.full(like.shape, -1, np.int8))
        made[key] = [lower, zeros]
        if before is not None:
            real = graph.new_name(f"{weight[0]}/lower_real")
            attributes = {a.name: a.i for a in before.attribute if a.name in ("axis", "block_size")}
            inputs = [lower, weight[1], zeros]
            pair = graph.make("DequantizeLinear", inputs, real, f"{weight[0]}/lower", **attributes)
            pair.domain = before.domain
            made[key].append(real)
    if before is None:
        graph.set_input(node, 3, made[key][0])
        graph.set_input(node, 5, made[key][1])
    else:
        graph.set_input(node, 1, made[key][2])


def _lowered(codes: Array) -> Array:
    return np.asarray(codes.astype(np.int16) - 1, np.int8)
