"""Writes ONNX graphs layer by layer, as exporters write them, from weights that are at hand as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

OPSET = 17
IR_VERSION = 8


class Layers:
    """A graph with one input and one output, whose last value is ``value``.

    Parameters
    ----------
    shape : sequence of int
        Of a sample; the batch is left open.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self._input = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])
        self._nodes: list[NodeProto] = []
        self._weights: list[TensorProto] = []
        self.value = "x"

    def node(self, kind: str, *inputs: str | ArrayLike, **attributes: Any) -> str:
        """Add a node behind the last value, and make its output the last value; arrays become weights."""
        name = f"{kind}_{len(self._nodes)}"
        names = [self.value]
        for at, given in enumerate(inputs):
            names.append(given if isinstance(given, str) else self._weight(f"{name}/{at}", given))
        self._nodes.append(helper.make_node(kind, names, [name], name=f"node_{name}", **attributes))
        self.value = name
        return name

    def conv(self, weight: ArrayLike, bias: ArrayLike | None = None, **attributes: Any) -> str:
        """Add a convolution; its kernel's shape is the weight's."""
        weight = np.asarray(weight)
        more = () if bias is None else (bias,)
        return self.node("Conv", weight, *more, kernel_shape=weight.shape[2:], **attributes)

    def norm(self, parameters: Mapping[str, ArrayLike], name: str, epsilon: float) -> str:
        """Add a batch norm, with the parameters that torch calls name.weight and so on."""
        keys = ("weight", "bias", "running_mean", "running_var")
        values = [np.asarray(parameters[f"{name}.{key}"], np.float32) for key in keys]
        return self.node("BatchNormalization", *values, epsilon=epsilon)

    def relu6(self) -> str:
        """Add the activation of mobile networks."""
        return self.node("Clip", np.float32(0), np.float32(6))

    def model(self, shape: Sequence[int]) -> ModelProto:
        """Return the network whose output, of this shape without the batch, is the last value."""
        output = helper.make_tensor_value_info(self.value, TensorProto.FLOAT, ["batch", *shape])
        graph = helper.make_graph(self._nodes, "network", [self._input], [output], self._weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        checker.check_model(made, full_check=True)
        return made

    def _weight(self, name: str, value: ArrayLike) -> str:
        array = np.asarray(value)
        array = array if array.dtype == np.int64 else array.astype(np.float32)
        self._weights.append(numpy_helper.from_array(array, name))
        return name
