"""Sums of products that saturate: whether ONNX Runtime's do on this CPU, and in which layers of a model.

On x86 CPUs with AVX2 or AVX-512 but without VNNI, ONNX Runtime's kernels for uint8 activations and int8 weights
add two products in 16 bits: the first and the second, the third and the fourth. The sum is cut off at 32,767:
255 * 127 + 255 * 127 is 64,770. It fits for all activations where the two weights add up to 128 at most, as
255 * 128 is 32,640. Which CPUs do so is measured, not looked up: it depends on the kernels that ONNX Runtime
chooses as much as on the CPU.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ..graph.graph import Graph, is_conversion, label
from .layer_weights import adds_nothing_in_16_bits, by_channel, in_order_of_sums, is_unsigned, weight_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from ..graph.graph import Array

ITS_QUANTIZER = "its quantizer's reduced range (7-bit weights, 1 or 2 dB less)"  # the way of other quantizers
LARGEST_PAIR = 128  # two weights that add up to this fit with any activations: 255 * 128 = 32,640


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

    They do on x86 CPUs with AVX2 or AVX-512 but without VNNI, where activations are uint8, weights int8, and two
    weights that are added first make less than -128 or more than 128. :func:`quantize` makes none of those, other
    quantizers do. A tiny model is run, once in a process.

    Returns
    -------
    bool
        True: let another quantizer make 7-bit weights (ONNX Runtime's does by ``reduce_range=True``) or uint8
        weights for this CPU, or run its models in sessions with the option ``session.x64quantprecision`` set to
        ``1``, or in those of :func:`session`.

    Examples
    --------
    >>> from bytenorm import onnx as bno
    >>> options = {"reduce_range": bno.sums_saturate()}  # of onnxruntime.quantization.quantize_static
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
        Convolutions and products of matrices with two int8 weights that are added first and make less than -128
        or more than 128. Depthwise convolutions are not among them: ONNX Runtime has exact kernels for those.
    """
    return [label(node) for node in find_saturating(Graph(model))]


def find_saturating(graph: Graph) -> list[NodeProto]:
    """Return the nodes of :func:`saturating_layers`."""
    return [node for node in graph.nodes if _saturates(graph, node)]


def _saturates(graph: Graph, node: NodeProto) -> bool:
    codes = _weight_codes(graph, node)
    if codes is None or codes.dtype != np.int8 or not codes.size or adds_nothing_in_16_bits(node, codes):
        return False
    return bool(largest_pair(in_order_of_sums(node, by_channel(node, codes))).max() > LARGEST_PAIR)


def largest_pair(weights: Array) -> Array:
    """Return what two weights that are added first make at most, whatever their sign, for each row of products.

    Parameters
    ----------
    weights : array, ... x products
        int8, or whole numbers in float, in the order in which products are added.
    """
    wide = weights.astype(np.int16) if weights.dtype == np.int8 else weights
    last = wide.shape[-1] // 2 * 2  # a product without a second one fits
    pairs = np.abs(np.add(wide[..., :last:2], wide[..., 1:last:2]))
    return np.asarray(pairs.max(axis=-1, initial=0))


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


def saturation(model: ModelProto, way: str) -> str:
    """Say what is wrong with a model on this CPU and what helps; empty if nothing is.

    Parameters
    ----------
    model : ModelProto
    way : str
        What its quantizer is asked for, so that it does not happen.
    """
    layers = saturating_layers(model) if sums_saturate() else []
    if not layers:
        return ""
    which = layers[0] if len(layers) == 1 else f"{len(layers)} layers, {layers[0]} the first"
    return (
        "8-bit sums saturate on this CPU, as on all with AVX2 or AVX-512 but without VNNI: with ONNX Runtime's "
        f"default options the model computes wrong numbers ({which}). Quantize with {way}, or run it with the "
        "session option session.x64quantprecision = 1 (exact, slower)"
    )


def warn_of_saturation(model: ModelProto, way: str = ITS_QUANTIZER) -> None:
    """Warn of a model that computes wrong numbers on this CPU, in the name of the caller's caller."""
    text = saturation(model, way)
    if text:
        warnings.warn(text, SaturationWarning, stacklevel=3)
