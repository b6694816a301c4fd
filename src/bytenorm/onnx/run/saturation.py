"""Sums of products that saturate: whether ONNX Runtime's do on this CPU, and in which layers of a model.

On x86 CPUs with AVX2 or AVX-512 but without VNNI, ONNX Runtime's kernels for uint8 activations and int8 weights
add two products in 16 bits. The sum is cut off at 32,767: 255 * 127 + 255 * 127 is 64,770. Which CPUs do so is
measured, not looked up: it depends on the kernels that ONNX Runtime chooses as much as on the CPU.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ..graph.graph import Graph, attribute, is_conversion, label
from .layer_weights import is_unsigned, weight_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from ..graph.graph import Array

_LIMIT = 64  # two products of 255 and a weight up to this fit: 2 * 255 * 64 = 32,640


class SaturationWarning(UserWarning):
    """A model computes wrong numbers on this CPU under ONNX Runtime's defaults; the message says why.

    Examples
    --------
    >>> import numpy as np, warnings
    >>> from bytenorm import onnx as bno
    >>> images = np.random.default_rng(0).random((8, 1, 28, 28), np.float32)
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", bno.SaturationWarning)  # it will run on another CPU
    ...     model = bno.quantize(bno.digits_model(), [{"image": images}], fast=True)
    """


@functools.cache
def sums_saturate() -> bool:
    """Find out whether sums of products saturate in ONNX Runtime on this CPU.

    They do on x86 CPUs with AVX2 or AVX-512 but without VNNI, where activations are uint8, weights int8, and a
    weight is below -64 or above 64. A tiny model is run, once in a process.

    Returns
    -------
    bool
        True: make models with 7-bit weights (``reduce_range=True``) or uint8 weights for this CPU, or run them in
        sessions with the option ``session.x64quantprecision`` set to ``1``, or in those of :func:`session`.

    Examples
    --------
    >>> from bytenorm import onnx as bno
    >>> options = {"reduce_range": True} if bno.sums_saturate() else {}  # of bno.quantize
    >>> bno.sums_saturate() in (True, False)
    True
    """
    depth, columns = 4, 16
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, ["rows", depth])
    y = helper.make_tensor_value_info("y", TensorProto.INT32, ["rows", columns])
    weights = numpy_helper.from_array(np.full((depth, columns), 127, np.int8), "w")
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["x", "w"], ["y"])], "sums", [x], [y], [weights])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    made = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    # A single row has a kernel of its own.
    sums = [made.run(None, {"x": np.full((rows, depth), 255, np.uint8)})[0] for rows in (1, 16)]
    return any(np.any(s != depth * 255 * 127) for s in sums)


def saturating_layers(model: ModelProto) -> list[str]:
    """Return the layers of a model whose sums saturate where :func:`sums_saturate`.

    Parameters
    ----------
    model : ModelProto
        In QDQ or QOperator format.

    Returns
    -------
    list of str
        Convolutions and products of matrices that have a weight below -64 or above 64 in int8. Depthwise
        convolutions are not among them: ONNX Runtime has exact kernels for those.
    """
    return [label(node) for node in find_saturating(Graph(model))]


def find_saturating(graph: Graph) -> list[NodeProto]:
    """Return the nodes of :func:`saturating_layers`."""
    return [node for node in graph.nodes if _saturates(graph, node)]


def _saturates(graph: Graph, node: NodeProto) -> bool:
    codes = _weight_codes(graph, node)
    if codes is None or codes.dtype != np.int8 or not codes.size:
        return False
    if node.op_type.endswith("Conv") and (codes.ndim == 0 or codes[0].size < 2):
        return False  # nothing is added, as in a lowered norm
    if node.op_type.endswith("Conv") and codes.shape[:2] == (attribute(node, "group", 1), 1):
        return False
    return bool(np.any(np.abs(codes.astype(np.int16)) > _LIMIT))


def _weight_codes(graph: Graph, node: NodeProto) -> Array | None:
    """Return the weights of a layer that ONNX Runtime runs on uint8 activations."""
    weight = weight_of(graph, node)
    if weight is None:
        return None
    if not is_unsigned(graph, weight.beside):
        if weight.real is None:  # int8 activations stay what they are in this format, and kernels are exact
            return None
        before = graph.maker(node.input[0])
        behind = [reader for reader in graph.readers(node.output[0]) if is_conversion(reader, "QuantizeLinear")]
        if before is None or not all(_becomes_unsigned(graph, n) for n in (graph.maker(before.input[0]), *behind)):
            return None  # and so the layer runs in float
    return graph.constant(weight.codes)


def _becomes_unsigned(graph: Graph, node: NodeProto | None) -> bool:
    """Say whether ONNX Runtime makes the int8 codes of a QuantizeLinear uint8: if only its own kind reads them."""
    if node is None or not is_conversion(node, "QuantizeLinear") or graph.is_read_elsewhere(node.output[0]):
        return False
    return all(is_conversion(reader, "DequantizeLinear") for reader in graph.readers(node.output[0]))


def saturation(
    model: ModelProto, *, seven_bits: str = "reduce_range=True", unsigned: str = 'weight_type="uint8"'
) -> str:
    """Say what is wrong with a model on this CPU and what helps; empty if nothing is.

    Parameters
    ----------
    model : ModelProto
    seven_bits, unsigned : str, optional
        What the reader writes for 7-bit weights and for uint8 ones.
    """
    layers = saturating_layers(model) if sums_saturate() else []
    if not layers:
        return ""
    which = layers[0] if len(layers) == 1 else f"{len(layers)} layers, {layers[0]} the first"
    return (
        "8-bit sums saturate on this CPU, as on all with AVX2 or AVX-512 but without VNNI: with ONNX Runtime's "
        f"default options the model computes wrong numbers ({which}). Quantize with {seven_bits} (7-bit weights, "
        f"1 or 2 dB less) or, in QDQ format, {unsigned}, or run it with the session option "
        "session.x64quantprecision = 1 (exact, slower)"
    )


def warn_of_saturation(model: ModelProto) -> None:
    """Warn of a model that computes wrong numbers on this CPU, in the name of the caller's caller."""
    text = saturation(model)
    if text:
        warnings.warn(text, SaturationWarning, stacklevel=3)
