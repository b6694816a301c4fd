"""Small quantized models around one batch norm, with the codes that they must give."""

from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

import bytenorm as bn

CHANNELS = 6
EPSILON = 1e-3


def tensor_type(dtype):
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


class Nodes:
    """A graph in the making."""

    def __init__(self):
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []

    def constant(self, name, value, dtype=None):
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, op, inputs, output, *, domain="", name=None, **attributes):
        name = output if name is None else name
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, domain=domain, **attributes))
        return output

    def input(self, name, dtype, dims):
        self.inputs.append(helper.make_tensor_value_info(name, tensor_type(dtype), dims))
        return name

    def output(self, name, dtype, dims):
        self.outputs.append(helper.make_tensor_value_info(name, tensor_type(dtype), dims))

    def model(self, opset=17, ir=8):
        graph = helper.make_graph(self.nodes, "norms", self.inputs, self.outputs, self.constants)
        domains = sorted({node.domain for node in self.nodes} - {""})
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
        return helper.make_model(graph, ir_version=ir, opset_imports=opsets)

    def quantization(self, name, scale, zero_point=None):
        """Return the names of a scale and, if there is one, a zero point, as QuantizeLinear wants them."""
        names = [self.constant(f"{name}_scale", scale, np.float32)]
        return names if zero_point is None else [*names, self.constant(f"{name}_zero_point", zero_point)]


@dataclass
class Norm:
    """What a norm between two quantized tensors is."""

    x_scale: np.ndarray
    x_zero_point: np.ndarray  # of the type of the codes
    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    epsilon: float
    y_scale: np.ndarray
    y_zero_point: np.ndarray
    limits: tuple = (-np.inf, np.inf)  # of the Relu or Clip behind it, in real units

    def every_code(self, rank):
        """Return input in which each channel has all 256 codes, in an order of its own."""
        codes = np.arange(256) + np.iinfo(self.x_zero_point.dtype).min
        x = np.array([np.roll(codes, 37 * c) for c in range(len(self.weight))], self.x_zero_point.dtype)
        shape = {2: (256,), 3: (16, 16), 4: (4, 8, 8), 5: (4, 4, 4, 4)}[rank]
        return np.ascontiguousarray(np.moveaxis(x.reshape(-1, *shape), 0, 1))

    def expected(self, x):
        """Return what the library makes of these codes, then what the activation leaves of it."""
        scale, zero_point = self.x_scale.ravel(), self.x_zero_point.ravel()
        if max(scale.size, zero_point.size) > 1:
            scale, zero_point = (np.broadcast_to(v, self.weight.shape) for v in (scale, zero_point))
            qx = bn.QuantizedTensor(x, scale.astype(np.float64), zero_point.astype(np.int64), axis=1)
        else:
            qx = bn.QuantizedTensor(x, float(scale[0]), int(zero_point[0]))
        y_scale, y_zero_point = float(self.y_scale.ravel()[0]), int(self.y_zero_point.ravel()[0])
        dtype = {np.dtype(np.uint8): bn.quint8, np.dtype(np.int8): bn.qint8}[self.y_zero_point.dtype]
        folded = (self.weight, self.bias, self.mean, self.var, float(np.float32(self.epsilon)))
        codes = bn.quantized_batch_norm(qx, *folded, y_scale, y_zero_point, output_dtype=dtype).data
        info = np.iinfo(codes.dtype)
        steps = [np.rint(np.float64(limit) / y_scale) + y_zero_point for limit in self.limits]
        low, high = (int(np.clip(s, info.min, info.max)) for s in steps)
        return np.minimum(np.maximum(codes, low), high).astype(codes.dtype)

    def dequantized(self, codes):
        zero_point = self.y_zero_point.ravel()[0].astype(np.int32)
        return (codes.astype(np.int32) - zero_point).astype(np.float32) * self.y_scale.ravel()[0]

    def slopes(self):
        """Return how many steps of the output each channel takes a step of the input."""
        gain = self.weight.astype(np.float64) / np.sqrt(self.var.astype(np.float64) + self.epsilon)
        return np.abs(gain * self.x_scale.ravel() / self.y_scale.ravel()[0])


def random_norm(
    rng,
    channels=CHANNELS,
    *,
    x_type=np.uint8,
    y_type=np.uint8,
    per_channel=False,
    shape=(),
    limits=(-np.inf, np.inf),
    **changes,
):
    """Return a norm; `shape` is that of scales and zero points which are one number, () or (1,)."""
    size = channels if per_channel else None
    x_shape = (channels,) if per_channel else shape
    values = {
        "x_scale": rng.uniform(0.01, 0.1, size),
        "x_zero_point": np.iinfo(x_type).min + rng.integers(40, 220, size),
        "weight": rng.normal(size=channels),
        "bias": rng.normal(size=channels),
        "mean": rng.normal(size=channels),
        "var": rng.uniform(0.1, 3, channels),
        "epsilon": EPSILON,
        "y_scale": rng.uniform(0.02, 0.06),
        "y_zero_point": np.iinfo(y_type).min + 90,
        **changes,
    }
    types = {"x_zero_point": x_type, "y_zero_point": y_type}
    shapes = {"x_scale": x_shape, "x_zero_point": x_shape, "y_scale": shape, "y_zero_point": shape}
    for name, value in values.items():
        if name != "epsilon":
            array = np.asarray(value, types.get(name, np.float32))
            values[name] = array.reshape(shapes.get(name, (channels,)))
    return Norm(**values, limits=limits)


def plain(norm):
    """Return a norm whose mean is 0 and variance 1, as one has it that is written as Mul and Add."""
    zeros, ones = np.zeros_like(norm.mean), np.ones_like(norm.var)
    return replace(norm, mean=zeros, var=ones, epsilon=0.0)


def dims(norm, rank):
    return ["n", len(norm.weight), *["h", "w", "d"][: rank - 2]]


def qdq_model(
    norm,
    rank=4,
    *,
    written="BatchNormalization",
    between=False,
    real=False,
    zero_points=True,
    **versions,
):
    """Return a model from codes `x` to codes `y`, and its norm.

    DequantizeLinear, the norm, its Relu or Clip, QuantizeLinear. `written` is BatchNormalization, Mul+Add or
    Add+Mul; `between` puts a QuantizeLinear and a DequantizeLinear before the activation; a `real` model goes on
    to `z` with another DequantizeLinear; `versions` are `opset` and `ir`.
    """
    norm = norm if written == "BatchNormalization" else plain(norm)
    g = Nodes()
    y_type = norm.y_zero_point.dtype
    x_q = g.quantization("x", norm.x_scale, norm.x_zero_point if zero_points else None)
    y_q = g.quantization("y", norm.y_scale, norm.y_zero_point if zero_points else None)
    g.input("x", norm.x_zero_point.dtype, dims(norm, rank))
    last = g.node("DequantizeLinear", ["x", *x_q], "real")
    column = (-1, *[1] * (rank - 2))
    if written == "BatchNormalization":
        names = [g.constant(name, getattr(norm, name)) for name in ("weight", "bias", "mean", "var")]
        last = g.node(written, [last, *names], "normalized", name="norm", epsilon=norm.epsilon)
    elif written == "Mul+Add":
        last = g.node("Mul", [last, g.constant("weight", norm.weight.reshape(column))], "scaled")
        last = g.node("Add", [last, g.constant("bias", norm.bias.reshape(column))], "normalized", name="norm")
    else:
        last = g.node("Add", [g.constant("addend", norm.bias.reshape(column)), last], "shifted")
        norm = replace(norm, bias=(norm.bias.astype(np.float64) * norm.weight).astype(np.float32))
        last = g.node("Mul", [g.constant("weight", norm.weight.reshape(column)), last], "normalized", name="norm")
    if between:
        wide = g.quantization("wide", 0.25, np.asarray(np.iinfo(y_type).min + 128, y_type))
        last = g.node("QuantizeLinear", [last, *wide], "wide")
        last = g.node("DequantizeLinear", [last, *wide], "wide_real")
    if norm.limits == (0, np.inf):
        last = g.node("Relu", [last], "activated", name="activation")
    elif norm.limits != (-np.inf, np.inf):
        named = zip(("lowest", "highest"), norm.limits, strict=True)
        bounds = ["" if np.isinf(limit) else g.constant(name, limit, np.float32) for name, limit in named]
        last = g.node("Clip", [last, *bounds], "activated", name="activation")
    g.node("QuantizeLinear", [last, *y_q], "y", name="quantize")
    if real:
        g.output(g.node("DequantizeLinear", ["y", *y_q], "z"), np.float32, dims(norm, rank))
    else:
        g.output("y", y_type, dims(norm, rank))
    return g.model(**versions), norm


def qoperator_model(norm, rank=4, **versions):
    """Return QLinearMul and QLinearAdd, and the norm with the weight and bias that they hold, in 8 bits."""
    g, norm = Nodes(), plain(norm)
    byte = norm.x_zero_point.dtype
    middle = np.iinfo(byte).min + 128
    held = {}
    for name in ("weight", "bias"):
        vector = getattr(norm, name)
        step = np.float32(np.abs(vector).max() / 127)
        steps = np.rint(vector / step).astype(np.int64)
        norm = replace(norm, **{name: (steps * np.float64(step)).astype(np.float32)})
        codes = g.constant(name, (steps + middle).reshape(-1, *[1] * (rank - 2)), byte)
        held[name] = [codes, *g.quantization(name, step, np.asarray(middle, byte))]
    x_q = g.quantization("x", norm.x_scale, norm.x_zero_point)
    y_q = g.quantization("y", norm.y_scale, norm.y_zero_point)
    inner = g.quantization("inner", 0.2, np.asarray(middle, byte))
    g.input("x", byte, dims(norm, rank))
    g.node("QLinearMul", ["x", *x_q, *held["weight"], *inner], "product", domain="com.microsoft")
    g.node("QLinearAdd", ["product", *inner, *held["bias"], *y_q], "y", domain="com.microsoft", name="norm")
    g.output("y", byte, dims(norm, rank))
    return g.model(**versions), norm


def serialized(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)
