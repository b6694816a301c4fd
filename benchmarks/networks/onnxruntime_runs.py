"""ONNX Runtime, one thread: the float model, the stock 8-bit model, and bytenorm's lowerings."""

from __future__ import annotations

from functools import partial

import numpy as np
from onnx import ModelProto

from bytenorm import onnx as bno
from bytenorm.onnx import profile, session_options
from bytenorm.onnx.lowering.names import Lowering

from .entry import Array, Entry
from .network import Network


def in_float(network: Network) -> Entry:
    """Return the model as it was before anybody quantized it."""
    return _entry(network, network.model)


def stock_qdq(network: Network) -> Entry:
    """Return what ONNX Runtime's own quantizer makes of it."""
    return _entry(network, network.stock)


def portable(network: Network) -> Entry:
    """Return bytenorm's model in standard operators."""
    return _lowered(network, "portable")


def exact(network: Network) -> Entry:
    """Return bytenorm's model with its own operator."""
    return _lowered(network, "exact")


def fused(network: Network) -> Entry:
    """Return bytenorm's model with its operators of a norm and what it reads."""
    return _lowered(network, "fused")


def bytenorm_model(model: ModelProto, calibration: Array, lowering: Lowering) -> ModelProto:
    """Return what bytenorm makes of a network."""
    feeds = [{model.graph.input[0].name: image[np.newaxis]} for image in calibration]
    return bno.quantize(model, feeds, lowering=lowering)


def _lowered(network: Network, lowering: Lowering) -> Entry:
    return _entry(network, bytenorm_model(network.model, network.calibration, lowering))


def _entry(network: Network, model: ModelProto) -> Entry:
    session = bno.session(model, session_options(), saturate=True)
    (source,) = session.get_inputs()
    feeds = {source.name: np.ascontiguousarray(network.held_out[:1])}

    def logits(image: Array) -> Array:
        (result,) = session.run(None, {source.name: image})
        return np.asarray(result)

    return Entry(logits, partial(session.run, None, feeds), partial(profile, model, feeds))
