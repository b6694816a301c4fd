"""Norms in models that are written as text, and the graphs that their texts begin with."""

import numpy as np
import onnxruntime as ort
from onnx import numpy_helper, parser

from bytenorm import onnx as bno


def model(text, *, opset=17, ir=8, **arrays):
    """Return a model: the text of its graph, and its initializers."""
    header = f'<ir_version: {ir}, opset_import: ["" : {opset}, "com.microsoft" : 1]>'
    made = parser.parse_model(f"{header} g {text}")
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in arrays.items())
    return made


def run(made, **inputs):
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def f32(*numbers):
    return np.array(numbers, np.float32)


def column(*numbers, rank=4):
    return f32(*numbers).reshape(1, -1, *[1] * (rank - 2))


W, B, M, V = f32(0.5, -2, 0), f32(1, 0.25, -3), f32(0.3, -0.1, 2), f32(1.5, 0.2, 4)
NORM = {"w": W, "b": B, "m": M, "v": V}
IMAGE, ANY = (2, 3, 4, 5), "(float[N, 3, H, W] x) => (float[N, 3, H, W] y)"
C311 = {"w": W.reshape(3, 1, 1), "b": B.reshape(3, 1, 1)}
BYTES = {"s": np.float32(0.05), "z": np.uint8(100), "t": np.float32(0.1), "u": np.uint8(7)}
QDQ = "(uint8[N, 3, H, W] x) => (uint8[N, 3, H, W] y)"


def qdq(middle, signature=QDQ, *, source="DequantizeLinear(x, s, z)", target="QuantizeLinear(n, t, u)", **options):
    """Return a model with a norm from `a` to `n`, in float between conversions."""
    return model(f"{signature} {{ a = {source} {middle} y = {target} }}", **{**NORM, **BYTES, **options})


BN = "n = BatchNormalization(a, w, b, m, v)"


def only(made):
    (norm,) = bno.inspect(made).norms
    return norm
