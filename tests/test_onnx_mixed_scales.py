"""Tensors that are written in one quantization and read in another, and conversions that do the work of a Relu.

A QuantizeLinear and a DequantizeLinear of different scales multiply; nothing forbids that. What a lowered model
computes is compared with ONNX Runtime on the untouched one, without its optimizer.
"""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from bytenorm import onnx as bno
from bytenorm.onnx.lowering.lower import lower_with_report

LOWERINGS = ["portable", "exact", "fused"]


def parsed(nodes, constants="", *, opset=17):
    """Return a model of uint8 codes `a` to uint8 codes `y`, three channels."""
    return onnx.parser.parse_model(f"""
        <ir_version: 9, opset_import: ["": {opset}, "com.microsoft": 1]>
        g (uint8[N, 3, 16, 16] a) => (uint8[N, 3, 16, 16] y)
        <float s = {{0.05}}, float s2 = {{0.1}}, float s3 = {{0.11}}, uint8 z = {{128}}, uint8 z0 = {{0}},
         float[3] w = {{1.0, -0.5, 0.7}}, float[3] b = {{0.0, 1.0, 0.2}},
         float[3] m = {{0.1, 0.2, 0.3}}, float[3] v = {{1.0, 1.1, 1.2}},
         uint8[3, 1, 1] w8 = {{200, 150, 250}}, float sw = {{0.01}},
         uint8[3, 1, 1] b8 = {{100, 140, 180}}, float sb = {{0.02}} {constants}> {{ {nodes} }}""")


def codes():
    return np.tile(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), (2, 3, 1, 1))


def untouched(model):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"a": codes()})[0].astype(int)


def lowered(model, lowering):
    made, outcomes = lower_with_report(model, lowering=lowering)
    onnx.checker.check_model(made, full_check=True)
    return bno.session(made, ort.SessionOptions()).run(None, {"a": codes()})[0].astype(int), outcomes


def norm(x, y):
    return f"{y} = BatchNormalization ({x}, w, b, m, v)\n"


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("read_with", ["s, z", "s2, z", "s, z0", "s2, z0"])
def test_a_norm_behind_a_norm(lowering, read_with):
    model = parsed(
        f"d = DequantizeLinear (a, s, z) {norm('d', 'n')} q = QuantizeLinear (n, s, z)"
        f"e = DequantizeLinear (q, {read_with}) {norm('e', 'k')} y = QuantizeLinear (k, s, z)"
    )
    got, outcomes = lowered(model, lowering)
    assert [o.problem for o in outcomes] == ["", ""]
    # A code of the first norm may round otherwise, and the second one's slope is at most 2 codes for one.
    assert np.abs(got - untouched(model)).max() <= 3


def mul_add(middle, read="", behind=""):
    """Return QLinearMul and QLinearAdd with these quantizations between, or a third step behind."""
    made, zero_point = ("t", "z0") if behind else ("y", "z")
    return parsed(
        f"p = com.microsoft.QLinearMul (a, s, z, w8, sw, z, {middle})"
        f"{made} = com.microsoft.QLinearAdd (p, {read or middle}, b8, sb, z, s, {zero_point}) {behind}"
    )


SCALAR = "y = com.microsoft.QLinearMul (t, s, z0, k8, sw, z, s, z)"


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize(
    ("model", "norms"),
    [
        pytest.param(lambda: mul_add("s2, z"), 1, id="all numbers pass"),
        pytest.param(lambda: mul_add("s2, z0"), 0, id="a Relu between"),
        pytest.param(lambda: mul_add("s2, z", "s, z"), 0, id="another scale"),
        pytest.param(lambda: mul_add("s2, z", "s2, z0"), 0, id="another zero point"),
        pytest.param(lambda: mul_add("s2, z", behind=SCALAR), 1, id="a Relu before a third step"),
    ],
)
def test_a_norm_in_two_operators_of_bytes(lowering, model, norms):
    model = model()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.uint8(190), "k8"))
    got, outcomes = lowered(model, lowering)
    assert [o.problem for o in outcomes] == [""] * norms
    # The product is not rounded to steps of its own any more, which are two codes wide.
    assert np.abs(got - untouched(model)).max() <= (2 if norms else 0)


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize(("read_with", "norms"), [("s2, z", 1), ("s, z", 0), ("s2, z0", 0)])
def test_a_norm_in_two_operators_with_conversions_between(lowering, read_with, norms):
    model = parsed(
        "d = DequantizeLinear (a, s, z) t = Mul (d, wc) q = QuantizeLinear (t, s2, z)"
        f"e = DequantizeLinear (q, {read_with}) n = Add (e, bc) y = QuantizeLinear (n, s, z)",
        ", float[3, 1, 1] wc = {1.0, -0.5, 0.7}, float[3, 1, 1] bc = {0.3, 1.0, 0.2}",
    )
    got, outcomes = lowered(model, lowering)
    assert [o.problem for o in outcomes] == [""] * norms
    assert np.abs(got - untouched(model)).max() <= (2 if norms else 0)


@pytest.mark.parametrize("lowering", [*LOWERINGS, "qdq"])
@pytest.mark.parametrize("of_bytes", [True, False], ids=["QOperator", "QDQ"])
@pytest.mark.parametrize(
    ("middle", "out", "shows"),
    [
        ("s1, z", "s, z", True),  # -3.84 to 3.81 between, of -6.4 to 6.35
        ("s1, z", "so, z", False),  # the output saturates before what is between does
        ("s1, z", "so, z255", True),  # on one side alone
        ("s1, zi", "s, z", True),  # another zero point: -2.34 to 5.31
        ("s2, z", "s, z", False),
    ],
)
def test_codes_between_that_saturate(lowering, of_bytes, middle, out, shows):
    scales = ", float s1 = {0.03}, float so = {0.02}, uint8 z255 = {255}, uint8 zi = {78}"
    if of_bytes:
        nodes = (
            f"p = com.microsoft.QLinearMul (a, s, z, w8, sw, z, {middle})"
            f"y = com.microsoft.QLinearAdd (p, {middle}, b8, sb, z, {out})"
        )
        model = parsed(nodes, scales)
    else:
        nodes = (
            f"d = DequantizeLinear (a, s, z) t = Mul (d, wc) q = QuantizeLinear (t, {middle})"
            f"e = DequantizeLinear (q, {middle}) n = Add (e, bc) y = QuantizeLinear (n, {out})"
        )
        columns = ", float[3, 1, 1] wc = {1.0, -0.5, 0.7}, float[3, 1, 1] bc = {0.3, 1.0, 0.2}"
        model = parsed(nodes, scales + columns)
    got, outcomes = lowered(model, lowering)
    assert [o.problem for o in outcomes] == ["codes between its steps cut off numbers" if shows else ""]
    # Where they are one norm, half a step of the codes between is missing, and what is left is rounded once.
    assert np.abs(got - untouched(model)).max() <= (0 if shows else 2)


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize(("read_with", "activations"), [("s3, z", 0), ("s, z", 1), ("s3, z0", 1)])
def test_an_activation_behind_conversions(lowering, read_with, activations):
    model = parsed(
        f"d = DequantizeLinear (a, s, z) {norm('d', 'n')} q = QuantizeLinear (n, s3, z)"
        f"e = DequantizeLinear (q, {read_with}) r = Relu (e) y = QuantizeLinear (r, s, z0)"
    )
    made, _ = lower_with_report(model, lowering=lowering)
    assert [node.op_type for node in made.graph.node].count("Relu") == activations
    got, outcomes = lowered(model, lowering)
    assert [o.problem for o in outcomes] == [""]
    assert (
        np.abs(got - untouched(model)).max() <= 1 + 1 + 1
    )  # half a step of s3, little more than one of s; each rounded


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize(("written", "fused"), [("s, z", True), ("s2, z", False), ("s, z0", False)])
def test_a_concatenation_behind_a_transpose(lowering, written, fused):
    """The norm reads Transpose(Concat) in one quantization, and it is written in another."""
    model = parsed(
        "d = DequantizeLinear (a, s, z) t0 = Transpose <perm = [0, 2, 3, 1]> (d) q0 = QuantizeLinear (t0, s, z)"
        "e0 = DequantizeLinear (q0, s, z) c = Concat <axis = 3> (e0, e0) qc = QuantizeLinear (c, s, z)"
        "ec = DequantizeLinear (qc, s, z) t = Transpose <perm = [0, 3, 1, 2]> (ec)"
        f"q = QuantizeLinear (t, {written}) e = DequantizeLinear (q, s, z)"
        "n = BatchNormalization (e, w6, b6, w6, w6) y6 = QuantizeLinear (n, s, z)"
        "y = Slice (y6, first, last, one)",
        ", float[6] w6 = {1.0, 0.5, 0.7, 1.1, 0.9, 0.6}, float[6] b6 = {0.0, 1.0, 0.2, 0.1, 0.3, 0.4}"
        ", int64[1] first = {0}, int64[1] last = {3}, int64[1] one = {1}",
    )
    got, outcomes = lowered(model, lowering)
    assert [o.problem for o in outcomes] == [""]
    if lowering == "fused":
        assert [o.pattern for o in outcomes] == ["concat" if fused else "single"]
    assert np.abs(got - untouched(model)).max() <= 1


def test_averages_whose_zero_point_is_left_out():
    """QLinearAveragePool need not have one, QLinearConv must."""
    model = parsed(
        "c = com.microsoft.QLinearConcat <axis = 1> (s, z, a, s, z, a, s, z) e = DequantizeLinear (c, s, z)"
        "n = BatchNormalization (e, w6, b6, w6, w6) q = QuantizeLinear (n, s, z)"
        "k = QLinearConv (q, s, z, w1, sw, z8, s2, z, b32)"
        "y = com.microsoft.QLinearAveragePool <kernel_shape = [2, 2], strides = [2, 2]> (k, s2, z, s)",
        ", float[6] w6 = {1.0, 0.5, 0.7, 1.1, 0.9, 0.6}, float[6] b6 = {0.0, 1.0, 0.2, 0.1, 0.3, 0.4}"
        ", int8[1, 6, 1, 1] w1 = {20, 100, 30, 70, 50, 60}, int8 z8 = {0}, int32[1] b32 = {90}",
    )
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, ["N", 1, 8, 8]))
    got, outcomes = lowered(model, "fused")
    assert [o.pattern for o in outcomes] == ["concat + pool"]
    want = untouched(model)
    assert len(np.unique(want)) > 20
    # Codes of the norm, of the averages and of the convolution are rounded in another order: half a code each of
    # the first two, by weights of 3.3 in all, then as much again for steps of 0.05 in units of s2.
    assert np.abs(got - want).max() <= 1 + 3.3 + 1 + 2
