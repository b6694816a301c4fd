"""ONNX Runtime: the norm through float, and as a depthwise 1x1 convolution, the best that standard ONNX has.

Both get input and output memory bound once, so that a run copies nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ..problem import Codes, Problem
from ..timing import Contestant


def float_norm(p: Problem) -> Contestant:
    """Return DequantizeLinear, BatchNormalization, QuantizeLinear. BatchNormalization knows NCHW only."""
    constants = {name: getattr(p, name) for name in ("weight", "bias", "mean", "var")}
    constants |= _quantization(p)
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "x_scale", "x_zero_point"], ["real"]),
        helper.make_node(
            "BatchNormalization", ["real", "weight", "bias", "mean", "var"], ["normal"], epsilon=p.eps
        ),
        helper.make_node("QuantizeLinear", ["normal", "y_scale", "y_zero_point"], ["y"]),
    ]
    x, y = _four_axes(p.x), _four_axes(p.y)
    if p.channels_last:
        x, y = np.ascontiguousarray(x), np.empty(x.shape, np.uint8)
    return _contestant("ORT DQ-BN-Q", p, nodes, constants, x, y, lambda array: array)


def depthwise(p: Problem) -> Contestant:
    """Return QLinearConv with a 1x1 weight of +-127 a channel, its scale the slope, its bias the intercept.

    Channels last between two Transposes: ONNX Runtime's optimizer removes them and runs its NHWC kernel.
    """
    gain = p.weight / np.sqrt(p.var + np.float32(p.eps))
    weight_scale = np.maximum(np.abs(gain) / 127, 1e-12).astype(np.float32)
    bias = (p.bias - p.mean * gain) / (p.scale * weight_scale)
    constants = _quantization(p) | {
        "w": (127 * np.sign(gain)).astype(np.int8).reshape(-1, 1, 1, 1),
        "w_scale": weight_scale,
        "w_zero_point": np.zeros(len(gain), np.int8),
        "w_bias": np.rint(bias).astype(np.int32),
    }
    inputs = ["x_scale", "x_zero_point", "w", "w_scale", "w_zero_point", "y_scale", "y_zero_point", "w_bias"]
    x, y = _four_axes(p.x), _four_axes(p.y)
    if not p.channels_last:
        nodes = [helper.make_node("QLinearConv", ["x", *inputs], ["y"], group=len(gain), kernel_shape=[1, 1])]
        return _contestant("ORT depthwise", p, nodes, constants, x, y, lambda array: array)
    nodes = [
        helper.make_node("Transpose", ["x"], ["x_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("QLinearConv", ["x_nchw", *inputs], ["y_nchw"], group=len(gain), kernel_shape=[1, 1]),
        helper.make_node("Transpose", ["y_nchw"], ["y"], perm=[0, 2, 3, 1]),
    ]
    x, y = np.moveaxis(x, 1, -1), np.moveaxis(y, 1, -1)
    return _contestant("ORT depthwise", p, nodes, constants, x, y, lambda array: np.moveaxis(array, -1, 1))


def _quantization(p: Problem) -> dict[str, Any]:
    return {
        "x_scale": np.float32(p.scale),
        "x_zero_point": np.uint8(p.zero_point),
        "y_scale": np.float32(p.output_scale),
        "y_zero_point": np.uint8(p.output_zero_point),
    }


def _four_axes(array: Codes) -> Codes:
    return array.reshape(*array.shape, 1, 1) if array.ndim == 2 else array


def _contestant(
    name: str,
    p: Problem,
    nodes: list[Any],
    constants: dict[str, Any],
    x: Codes,
    y: Codes,
    to_nchw: Callable[[Codes], Codes],
) -> Contestant:
    assert x.flags.c_contiguous
    assert y.flags.c_contiguous
    graph = helper.make_graph(
        nodes,
        "norm",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, y.shape)],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.uint8, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.uint8, y.shape, y.ctypes.data)
    names = {"run": session.run_with_iobinding, "binding": binding, "memory": (x, y)}
    codes = lambda _: to_nchw(y).reshape(p.x.shape)  # noqa: E731
    return Contestant(name, "peer", "run(binding)", names, p.x.size, codes, exact=False)
