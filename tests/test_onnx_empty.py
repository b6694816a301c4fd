"""Batches without samples, time axes without frames: what a quantized model takes, the lowered one takes."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from bytenorm import onnx as bno
from bytenorm.onnx.lowering.lower import lower_with_report

LOWERINGS = ["portable", "exact", "fused"]
PATTERNS = {
    "single": "d = DequantizeLinear (a, s, z)",
    "add": "r = DequantizeLinear (a, s, z) t = Add (r, r) q = QuantizeLinear (t, s2, z)"
    "d = DequantizeLinear (q, s2, z)",
    "concat": "r = DequantizeLinear (a, s, z) t = Concat <axis = 1> (r, r) q = QuantizeLinear (t, s, z)"
    "d = DequantizeLinear (q, s, z)",
}


def parsed(dims, pattern="single", behind="y = QuantizeLinear (n, s, z)"):
    vector = "{1.0, 0.5, 0.7, 1.1}" if pattern == "concat" else "{1.0, 0.5}"
    c = 4 if pattern == "concat" else 2
    return onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": 17]>
        g (uint8[{dims}] a) => (uint8[{dims.replace("2", str(c), 1)}] y)
        <float s = {{0.05}}, float s2 = {{0.1}}, uint8 z = {{128}}, float[{c}] w = {vector},
         float[1] k = {{0.5}}> {{
            {PATTERNS[pattern]} n = BatchNormalization (d, w, w, w, w) {behind} }}""")


@pytest.mark.thorough(but=15)
@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    ("dims", "shapes"),
    [
        ("N, 2", [(0, 2), (3, 2)]),
        ("N, 2, T", [(0, 2, 3), (3, 2, 0), (0, 2, 0), (3, 2, 5)]),
        ("N, 2, H, W", [(3, 2, 0, 4), (3, 2, 4, 0), (3, 2, 0, 0), (0, 2, 4, 4), (3, 2, 4, 3)]),
        ("N, 2, H, 4", [(3, 2, 0, 4), (3, 2, 3, 4)]),
        ("N, 2, T, 2, 3", [(2, 2, 0, 2, 3), (2, 2, 4, 2, 3)]),
    ],
)
def test_empty_axes(rng, lowering, pattern, dims, shapes):
    model = parsed(dims, pattern)
    made, outcomes = lower_with_report(model, lowering=lowering)
    assert [(o.problem, o.pattern) for o in outcomes] == [("", pattern if lowering == "fused" else "")]
    # Where a norm is a convolution, that has a row more; ONNX Runtime's defaults may move things around it.
    sessions = [bno.session(made, ort.SessionOptions()),
                ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])]  # fmt: skip
    for shape in shapes:
        x = rng.integers(0, 256, shape).astype(np.uint8)
        want = bno.session(model).run(None, {"a": x})[0]
        for session in sessions:
            got = session.run(None, {"a": x})[0]
            assert got.shape == want.shape
            assert got.size == 0 or np.abs(got.astype(int) - want).max() <= 1


@pytest.mark.parametrize("behind", [False, True])
def test_near_convolutions_nothing_is_padded(behind):
    """They would refuse an empty axis themselves, and a copy more costs time."""
    conv = "r = DequantizeLinear (y0, s, z) c = Conv (r, kernel) y = QuantizeLinear (c, s, z)"
    model = parsed(
        "N, 2, H, W", behind=f"y0 = QuantizeLinear (n, s, z) {conv}" if behind else "y = QuantizeLinear (n, s, z)"
    )
    kernel = onnx.numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "kernel")
    if behind:
        model.graph.initializer.append(kernel)
    else:
        model.graph.node[0].output[0] = "r"
        model.graph.initializer.append(kernel)
        nodes = onnx.parser.parse_graph(
            "g (float[N, 2, H, W] r) => (float[N, 2, H, W] d) { c = Conv (r, kernel) q = QuantizeLinear (c, s, z)"
            "d = DequantizeLinear (q, s, z) }"
        ).node
        for node in reversed(nodes):
            model.graph.node.insert(1, node)
    made = bno.lower(model)
    assert "BatchNormalization" not in [n.op_type for n in made.graph.node]
    assert "Slice" not in [n.op_type for n in made.graph.node]
