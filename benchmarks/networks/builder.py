"""Builds an ONNX model while the same layers run in torch: one walk gives the graph and the values in it.

So each norm gets the mean and the variance of what really arrives at it, and the output that the finished model
has to reproduce is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name everybody gives it

OPSET, IR = 17, 9
EPSILON = 1e-5


@dataclass(frozen=True)
class Value:
    """A tensor of the graph: its name there, and what it holds for the images that run along."""

    name: str
    data: Tensor

    @property
    def channels(self) -> int:
        """The length of axis 1."""
        return self.data.shape[1]


class Builder:
    """Emits nodes and computes them; each layer's method takes the name that its node gets.

    Parameters
    ----------
    name : str
        Of the graph.
    images : ndarray
        float32, N x 3 x height x width: what runs along. The model itself takes one image at a time.
    seed : int
        Of the weights: He's normal distribution for convolutions; gains and biases of norms scattered around 1
        and 0 as training leaves them.

    Attributes
    ----------
    input : Value
        Where the first layer begins.
    norms : list of str
        The nodes that are norms.
    """

    def __init__(self, name: str, images: NDArray[np.float32], seed: int) -> None:
        self.input = Value("image", torch.from_numpy(images))
        self.norms: list[str] = []
        self._name = name
        self._random = torch.Generator().manual_seed(seed)
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def conv(self, name: str, x: Value, channels: int, kernel: int, stride: int = 1) -> Value:
        """Append a square convolution without a bias, padded so that stride alone changes the size."""
        fan_in, padding = x.channels * kernel**2, kernel // 2
        weight = self._normal(channels, x.channels, kernel, kernel) * math.sqrt(2 / fan_in)
        inputs = [x.name, self._constant(f"{name}/weight", weight)]
        shape = _window(kernel, stride, padding)
        return self._node("Conv", name, inputs, F.conv2d(x.data, weight, None, stride, padding), **shape)

    def norm(self, name: str, x: Value) -> Value:
        """Append a batch norm whose mean and variance are those of `x`."""
        var, mean = torch.var_mean(x.data, (0, 2, 3), correction=0)
        weight = 1 + 0.2 * self._normal(x.channels).clamp(-3, 3)
        bias = 0.2 * self._normal(x.channels)
        parameters = {"weight": weight, "bias": bias, "mean": mean, "var": var}
        inputs = [x.name, *(self._constant(f"{name}/{key}", value) for key, value in parameters.items())]
        self.norms.append(name)
        y = F.batch_norm(x.data, mean, var, weight, bias, eps=EPSILON)
        return self._node("BatchNormalization", name, inputs, y, epsilon=EPSILON)

    def relu(self, name: str, x: Value) -> Value:
        """Append max(x, 0)."""
        return self._node("Relu", name, [x.name], F.relu(x.data))

    def max_pool(self, name: str, x: Value, kernel: int, stride: int) -> Value:
        """Append a maximum over squares, padded as a convolution is."""
        padding = kernel // 2
        y = F.max_pool2d(x.data, kernel, stride, padding)
        return self._node("MaxPool", name, [x.name], y, **_window(kernel, stride, padding))

    def average_pool(self, name: str, x: Value, kernel: int) -> Value:
        """Append a mean over squares that touch, without padding."""
        y = F.avg_pool2d(x.data, kernel, kernel)
        return self._node("AveragePool", name, [x.name], y, **_window(kernel, kernel, 0))

    def add(self, name: str, a: Value, b: Value) -> Value:
        """Append a + b."""
        return self._node("Add", name, [a.name, b.name], a.data + b.data)

    def concat(self, name: str, pieces: Sequence[Value]) -> Value:
        """Append the channels of all pieces behind one another."""
        joined = torch.cat([p.data for p in pieces], 1)
        return self._node("Concat", name, [p.name for p in pieces], joined, axis=1)

    def classify(self, x: Value, classes: int) -> Value:
        """Append the mean over the picture and a linear layer."""
        mean = x.data.mean((2, 3), keepdim=True)
        pooled = self._node("GlobalAveragePool", "pool", [x.name], mean)
        flat = self._node("Flatten", "flat", [pooled.name], mean.flatten(1))
        weight = self._normal(classes, flat.channels) / math.sqrt(flat.channels)
        bias = 0.1 * self._normal(classes)
        inputs = [flat.name, self._constant("classifier/weight", weight), self._constant("classifier/bias", bias)]
        return self._node("Gemm", "classifier", inputs, F.linear(flat.data, weight, bias), transB=1)

    def model(self, output: Value) -> ModelProto:
        """Return the model of all layers so far, checked, for batches of one image."""
        graph = helper.make_graph(
            self._nodes, self._name, [_info(self.input)], [_info(output)], initializer=self._constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        checker.check_model(model, full_check=True)
        return model

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._random)

    def _constant(self, name: str, value: Tensor) -> str:
        self._constants.append(numpy_helper.from_array(value.numpy(), name))
        return name

    def _node(self, op: str, name: str, inputs: list[str], data: Tensor, **attributes: Any) -> Value:
        output = f"{name}/out"
        self._nodes.append(helper.make_node(op, inputs, [output], name, **attributes))
        return Value(output, data)


def _window(kernel: int, stride: int, padding: int) -> dict[str, list[int]]:
    return {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [padding] * 4}


def _info(value: Value) -> Any:
    return helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [1, *value.data.shape[1:]])
