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

import numpy as np
from onnx import ModelProto

from ..graph.graph import Graph, attribute, is_op
from .layer_weights import Weight, is_unsigned, shift, weight_of

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
    made: dict[str, str] = {}
    for weight in _movable(graph, least_depth, least_outputs):
        shift(graph, weight, -1, np.int8, made)
    graph.finish()
    return copy


def _movable(graph: Graph, least_depth: int, least_outputs: int) -> list[Weight]:
    """Return the weights of convolutions that gain, which are symmetric and stay within int8."""
    found = []
    for node in graph.nodes:
        weight = weight_of(graph, node) if is_op(node, "Conv", "QLinearConv") else None
        if weight is None or attribute(node, "group", 1) != 1 or not is_unsigned(graph, weight.beside):
            continue
        codes, zeros = graph.constant(weight.codes), graph.constant(weight.zero_point)
        if codes is None or codes.dtype != np.int8 or codes.ndim != 4 or graph.constant(weight.scale) is None:
            continue
        if weight.zero_point and (zeros is None or zeros.dtype != np.int8 or np.any(zeros)):
            continue
        if codes.shape[0] < least_outputs or codes.size < least_depth * codes.shape[0]:
            continue
        if codes.size and codes.min() > _LOWEST:
            found.append(weight)
    return found
