"""Networks that Keras 2 saved in one HDF5 file, as ONNX graphs: channels first, as the converters write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from .layers import Layers

Config = dict[str, Any]
Weights = dict[str, Any]  # a layer's, by their last name


def load(path: Path, shape: Sequence[int], output: Sequence[int]) -> ModelProto:
    """Return a network.

    Parameters
    ----------
    path : Path
    shape : sequence of int
        Of a sample, channels first.
    output : sequence of int
        Of an output's sample.

    Raises
    ------
    ValueError
        The network has a layer of a kind that is not known here.
    """
    import h5py

    graph = Layers(shape)
    values: dict[str, str] = {}
    with h5py.File(path) as file:
        for layer in json.loads(file.attrs["model_config"])["config"]["layers"]:
            kind, name, config = layer["class_name"], layer["name"], layer["config"]
            if kind == "InputLayer":
                values[name] = graph.value
                continue
            if kind not in _KINDS:
                raise ValueError(f"a layer {name} of a kind that is not known here: {kind}")
            graph.value, *others = [values[given[0]] for given in layer["inbound_nodes"][0]]
            group = file["model_weights"][name]
            weights = {w.partition(":")[0].rpartition("/")[2]: np.asarray(group[w]) for w in _names(group)}
            _KINDS[kind](graph, config, weights, others)
            values[name] = graph.value
    return graph.model(output)


def _names(group: Any) -> list[str]:
    names = group.attrs["weight_names"]
    return [name.decode() if isinstance(name, bytes) else name for name in names]


def _same(config: Config) -> dict[str, Any]:
    """Return how a layer's window moves; Keras pads below and to the right first, as SAME_UPPER does."""
    moves: dict[str, Any] = {"strides": config["strides"]}
    if config["padding"] == "same":
        moves["auto_pad"] = "SAME_UPPER"
    if set(config.get("dilation_rate", [1])) != {1}:
        # Runtimes do not agree on SAME with dilations: written out, for the windows of odd length that there are.
        del moves["auto_pad"]
        moves["dilations"] = config["dilation_rate"]
        pads = [d * (k // 2) for d, k in zip(config["dilation_rate"], config["kernel_size"], strict=True)]
        moves["pads"] = [*pads, *pads]
    return moves


def _conv(graph: Layers, config: Config, weights: Weights, _: list[str]) -> None:
    graph.conv(_outputs_first(weights["kernel"]), weights.get("bias"), **_same(config))
    _activation(graph, config, weights, _)


def _separable(graph: Layers, config: Config, weights: Weights, _: list[str]) -> None:
    depthwise = weights["depthwise_kernel"]  # height, width, channels, 1
    graph.conv(np.transpose(depthwise, (2, 3, 0, 1)), group=depthwise.shape[2], **_same(config))
    graph.conv(_outputs_first(weights["pointwise_kernel"]), weights.get("bias"))
    _activation(graph, config, weights, _)


def _outputs_first(kernel: Any) -> Any:
    """Return a kernel of ..., inputs, outputs as outputs, inputs, ...."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def _norm(graph: Layers, config: Config, weights: Weights, _: list[str]) -> None:
    keys = ("gamma", "beta", "moving_mean", "moving_variance")
    graph.node("BatchNormalization", *(weights[key] for key in keys), epsilon=config["epsilon"])


def _activation(graph: Layers, config: Config, _: Weights, __: list[str]) -> None:
    if config["activation"] == "relu":
        graph.node("Relu")
    elif config["activation"] == "softmax":
        graph.node("Softmax", axis=1)


def _add(graph: Layers, _: Config, __: Weights, others: list[str]) -> None:
    graph.node("Add", *others)


def _max_pool(graph: Layers, config: Config, _: Weights, __: list[str]) -> None:
    graph.node("MaxPool", kernel_shape=config["pool_size"], **_same(config))


def _mean(graph: Layers, _: Config, __: Weights, ___: list[str]) -> None:
    graph.node("GlobalAveragePool")
    graph.node("Flatten")


def _crop(graph: Layers, config: Config, _: Weights, __: list[str]) -> None:
    start, end = config["cropping"]
    graph.node("Slice", np.array([start]), np.array([-end]), np.array([2]))


_KINDS: dict[str, Callable[[Layers, Config, Weights, list[str]], None]] = {
    "Activation": _activation,
    "Add": _add,
    "BatchNormalization": _norm,
    "Conv1D": _conv,
    "Conv2D": _conv,
    "Cropping1D": _crop,
    "GlobalAveragePooling2D": _mean,
    "MaxPooling2D": _max_pool,
    "SeparableConv2D": _separable,
}
