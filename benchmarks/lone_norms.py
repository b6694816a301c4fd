"""Eight small networks with 22 batch norms behind activations, pools, sums and concatenations, not layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from onnx import ModelProto, TensorProto, helper, numpy_helper

UNITS = 5  # outputs
Shape = tuple[int, ...]


class Net:
    """A network in the making; `shape` is that of one sample, channels first. Tensors are their names."""

    def __init__(self, seed: int, shape: Shape) -> None:
        self._rng, self._nodes, self._constants = np.random.default_rng(seed), [], []  # type: ignore[var-annotated]
        self._channels, self.shape, self.x = {"x": shape[0]}, shape, "x"

    def op(self, kind: str, inputs: list[str], channels: int | None = None, **attributes: Any) -> str:
        """Add a node; return what it makes."""
        made = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [made], name=made, **attributes))
        self._channels[made] = channels or self._channels[inputs[0]]
        return made

    def constant(self, value: ArrayLike) -> str:
        """Add a constant in float32."""
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def conv(self, x: str, channels: int, kernel: int = 3) -> str:
        """Add a convolution that keeps height and width."""
        axes = len(self.shape) - 1
        weights = self._rng.normal(size=(channels, self._channels[x], *[kernel] * axes))
        w = self.constant(weights * np.sqrt(2 / weights[0].size))
        b = self.constant(self._rng.normal(size=channels) / 10)
        return self.op("Conv", [x, w, b], channels, kernel_shape=[kernel] * axes, pads=[kernel // 2] * 2 * axes)

    def dense(self, x: str, units: int) -> str:
        """Add a layer of vectors."""
        weights = self._rng.normal(size=(self._channels[x], units))
        w = self.constant(weights * np.sqrt(2 / len(weights)))
        return self.op("Gemm", [x, w, self.constant(np.zeros(units))], units)

    def norm(self, x: str) -> str:
        """Add a batch norm."""
        c, r = self._channels[x], self._rng
        values = r.uniform(0.5, 1.5, c), r.normal(size=c) / 3, r.normal(size=c) / 3, r.uniform(0.5, 1.5, c)
        return self.op("BatchNormalization", [x, *map(self.constant, values)])

    def relu(self, x: str) -> str:
        """Add a Relu."""
        return self.op("Relu", [x])

    def halve(self, kind: str, x: str) -> str:
        """Add a pool of 2 x 2."""
        return self.op(kind, [x], kernel_shape=[2, 2], strides=[2, 2])

    def concat(self, *pieces: str) -> str:
        """Add a concatenation of channels."""
        return self.op("Concat", list(pieces), sum(self._channels[piece] for piece in pieces), axis=1)

    def pooled(self, x: str) -> str:
        """Add the end of a network of images, a layer without its Relu."""
        return self.dense(self.op("Flatten", [self.op("GlobalAveragePool", [x])]), UNITS)

    def model(self) -> ModelProto:
        """Return the network; its last node makes the output."""
        self._nodes[-1].output[0] = "y"
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *self.shape])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, UNITS])
        graph = helper.make_graph(self._nodes, "network", [x], [y], self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def behind_relu(n: Net) -> None:
    """Write convolution, Relu, norm three times."""
    x = n.x
    for _ in range(3):
        x = n.norm(n.relu(n.conv(x, 8)))
    n.pooled(n.conv(x, 8))


def dense_blocks(n: Net) -> None:
    """Write a block of two layers, a transition, a layer and a last norm: 5."""
    x = n.relu(n.conv(n.x, 8))
    for _ in range(2):
        x = n.concat(x, n.conv(n.relu(n.norm(x)), 4))
    x = n.halve("AveragePool", n.conv(n.relu(n.norm(x)), 8, 1))
    x = n.concat(x, n.conv(n.relu(n.norm(x)), 4))
    n.pooled(n.relu(n.norm(x)))


def residual(n: Net) -> None:
    """Write two blocks with the norm before, and a last norm: 3."""
    x = n.conv(n.x, 8)
    for _ in range(2):
        x = n.op("Add", [x, n.conv(n.relu(n.conv(n.relu(n.norm(x)), 8)), 8)])
    n.pooled(n.relu(n.norm(x)))


def input_and_pools(n: Net) -> None:
    """Write norms on the input, and behind a pool of each kind: 4."""
    x = n.halve("MaxPool", n.relu(n.conv(n.norm(n.x), 8)))
    x = n.halve("AveragePool", n.relu(n.conv(n.norm(x), 8)))
    x = n.op("GlobalAveragePool", [n.relu(n.conv(n.norm(x), 8))])
    n.dense(n.op("Flatten", [n.norm(x)]), UNITS)


def vectors(n: Net) -> None:
    """Write layer, Relu, norm of vectors twice."""
    n.dense(n.norm(n.relu(n.dense(n.norm(n.relu(n.dense(n.x, 16))), 16))), UNITS)


def activations(n: Net) -> None:
    """Write norms behind ReLU6, LeakyRelu and Sigmoid: 3."""
    x = n.norm(n.op("Clip", [n.conv(n.x, 8), n.constant(0.0), n.constant(6.0)]))
    x = n.norm(n.op("LeakyRelu", [n.conv(x, 8)], alpha=0.1))
    n.pooled(n.relu(n.conv(n.norm(n.op("Sigmoid", [n.conv(x, 8)])), 8)))


def three_readers(n: Net) -> None:
    """Write one norm that two convolutions and a sum read."""
    x = n.norm(n.relu(n.conv(n.x, 8)))
    n.pooled(n.relu(n.op("Add", [n.op("Add", [n.conv(x, 8), n.conv(x, 8, 1)]), x])))


def one_axis(n: Net) -> None:
    """Write one norm of a signal."""
    n.pooled(n.relu(n.conv(n.norm(n.relu(n.conv(n.x, 8))), 8)))


NETS: dict[str, tuple[Callable[[Net], None], Shape]] = {
    "convolution, Relu, norm": (behind_relu, (3, 16, 16)),
    "dense blocks": (dense_blocks, (3, 16, 16)),
    "residual blocks": (residual, (3, 16, 16)),
    "input and pools": (input_and_pools, (3, 16, 16)),
    "vectors": (vectors, (12,)),
    "activations": (activations, (3, 16, 16)),
    "three readers": (three_readers, (3, 16, 16)),
    "one axis": (one_axis, (3, 32)),
}


def build(name: str) -> ModelProto:
    """Return one of the networks, the same each time."""
    write, shape = NETS[name]
    net = Net(list(NETS).index(name), shape)
    write(net)
    return net.model()
