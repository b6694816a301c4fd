"""Norms whose channels are the last axis: of vectors along time, of images in NHWC."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from bytenorm import onnx as bno
from bytenorm.onnx.lowering import lower_with_report

LOWERINGS = ["portable", "exact", "fused"]
SHAPES = {3: (4, 64, 3), 4: (4, 8, 8, 3), 5: (4, 4, 4, 4, 3)}


def parsed(nodes, rank, *, byte="uint8", constants=""):
    dims = ", ".join(["N", *"THWD"[: rank - 2], "3"])
    return onnx.parser.parse_model(f"""
        <ir_version: 9, opset_import: ["": 17, "com.microsoft": 1]>
        g ({byte}[{dims}] a) => ({byte}[{dims}] y)
        <float s = {{0.05}}, float s2 = {{0.1}}, {byte} z = {{{128 if byte == "uint8" else 0}}}, float c = {{0.5}},
         float[3] w = {{1.0, -0.5, 0.7}}, float[1, 1, 3] b = {{0.0, 1.0, 0.2}} {constants}> {{ {nodes} }}""")


def check(model, rank, lowering, want, *, bound=1):
    made, outcomes = lower_with_report(model, lowering=lowering)
    onnx.checker.check_model(made, full_check=True)
    assert [(o.problem, o.pattern) for o in outcomes] == want
    byte = np.uint8 if model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8 else np.int8
    codes = np.arange(256).reshape(*SHAPES[rank][:-1], 1) + np.iinfo(byte).min
    x = np.ascontiguousarray(np.broadcast_to(codes, SHAPES[rank]).astype(byte))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    (expected,) = bno.session(model, options).run(None, {"a": x})
    (got,) = bno.session(made, ort.SessionOptions()).run(None, {"a": x})
    assert len(np.unique(expected)) > 20
    assert np.abs(got.astype(int) - expected).max() <= bound
    return made


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("rank", [3, 4, 5])
@pytest.mark.parametrize("byte", ["uint8", "int8"])
@pytest.mark.parametrize(
    "norm",
    [
        "m = Mul (d, w) n = Add (m, b)",
        "m = Add (b, d) n = Mul (w, m)",
        "m = Div (d, w) k = Sub (m, b) n = Mul (k, c)",
        "m = Mul (d, w) k = Add (m, b) n = Relu (k)",
    ],
)
def test_in_float(lowering, rank, byte, norm):
    model = parsed(f"d = DequantizeLinear (a, s, z) {norm} y = QuantizeLinear (n, s2, z)", rank, byte=byte)
    check(model, rank, lowering, [("", "single" if lowering == "fused" else "")])
    assert [n.problem for n in bno.inspect(model).norms] == [""]


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_with_conversions_between(lowering):
    model = parsed(
        "d = DequantizeLinear (a, s, z) m = Mul (d, w) q = QuantizeLinear (m, s2, z)"
        "e = DequantizeLinear (q, s2, z) n = Add (e, b) y = QuantizeLinear (n, s2, z)",
        3,
    )
    check(model, 3, lowering, [("", "single" if lowering == "fused" else "")])


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("zero", ["z", "z0"])
def test_of_bytes(lowering, zero):
    """With a zero point that may stand for a Relu it is none."""
    model = parsed(
        f"m = com.microsoft.QLinearMul (a, s, z, w8, sw, z, s2, {zero})"
        f"y = com.microsoft.QLinearAdd (m, s2, {zero}, b8, sw, z, s2, z)",
        4,
        constants=", uint8[3] w8 = {228, 80, 190}, float sw = {0.01}, uint8[3] b8 = {100, 140, 180}"
        ", uint8 z0 = {0}",
    )
    want = [("", "single" if lowering == "fused" else "")] if zero == "z" else []
    made = check(model, 4, lowering, want, bound=1 if want else 0)
    assert want or made.graph.node == model.graph.node


def test_of_a_sum_and_a_concatenation():
    joined = {
        "add": "t = Add (d0, d0)",
        "concat": "h, k = Split <axis = 2> (d0, sizes) hq = QuantizeLinear (h, s, z)"
        "hd = DequantizeLinear (hq, s, z) kq = QuantizeLinear (k, s, z) kd = DequantizeLinear (kq, s, z)"
        "t = Concat <axis = 2> (hd, kd)",
    }
    for pattern, nodes in joined.items():
        model = parsed(
            f"d0 = DequantizeLinear (a, s, z) {nodes} q = QuantizeLinear (t, s2, z)"
            "d = DequantizeLinear (q, s2, z) m = Mul (d, w) n = Add (m, b) y = QuantizeLinear (n, s2, z)",
            3,
            constants=", int64[2] sizes = {1, 2}",
        )
        check(model, 3, "fused", [("", pattern)])
