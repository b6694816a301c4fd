"""ONNX Runtime, one thread: the float model, the stock 8-bit model, and both of bytenorm's lowerings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import onnxruntime
from onnx import ModelProto

from bytenorm import onnx as bno

from . import profile
from .entry import Array, Entry
from .network import Network

Open = Callable[[onnxruntime.SessionOptions], onnxruntime.InferenceSession]


def in_float(network: Network) -> Entry:
    """Return the model as it was before anybody quantized it."""
    return _entry(network, _plain(network.model))


def stock_qdq(network: Network) -> Entry:
    """Return what ONNX Runtime's own quantizer makes of it."""
    return _entry(network, _plain(network.stock))


def portable(network: Network) -> Entry:
    """Return bytenorm's model in standard operators."""
    return _lowered(network, "portable")


def exact(network: Network) -> Entry:
    """Return bytenorm's model with its own operator."""
    return _lowered(network, "exact")


def _lowered(network: Network, lowering: Literal["portable", "exact"]) -> Entry:
    feeds = [{network.model.graph.input[0].name: image[np.newaxis]} for image in network.calibration]
    model = bno.quantize(network.model, feeds, lowering=lowering)
    return _entry(network, lambda options: bno.session(model, options))


def _plain(model: ModelProto) -> Open:
    return partial(onnxruntime.InferenceSession, model.SerializeToString(), providers=["CPUExecutionProvider"])


def _entry(network: Network, open_session: Open) -> Entry:
    session = open_session(_options())
    (source,) = session.get_inputs()
    feeds = {source.name: np.ascontiguousarray(network.held_out[:1])}

    def logits(image: Array) -> Array:
        (result,) = session.run(None, {source.name: image})
        return np.asarray(result)

    return Entry(
        logits,
        partial(session.run, None, feeds),
        lambda: profile.profile(open_session, _options(), feeds),
    )


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return options
