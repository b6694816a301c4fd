"""Norms behind layers that a quantizer left in float, as NNCF does: the layers make what they make, in 8 bits."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from bytenorm import onnx as bno
from bytenorm.onnx.lowering.lower import lower_with_report

LOWERINGS = ("portable", "exact", "fused")
IMAGE = "uint8[2, 4, 6, 6] x", "uint8[A, B, C, D] y"
VECTOR = "uint8[64, 4] x", "uint8[A, B] y"
# What is between codes and a norm `n` of 6 channels, the weights' shape, and how many cuts of codes are needed.
LAYERS = {
    "i = Conv<pads = [1, 1, 1, 1]>(r, w, b) m = Relu(i)": (IMAGE, (6, 4, 3, 3), 2),
    "i = Conv<strides = [2, 2]>(r, w) m = Clip(i, low, high)": (IMAGE, (6, 4, 3, 3), 2),
    "i = Conv<group = 2>(r, w, b) m = Relu(i)": (IMAGE, (6, 2, 1, 1), 2),
    "m = Conv(r, w, b)": (IMAGE, (6, 4, 3, 3), 0),
    "i = Gemm(r, w, b) m = Relu(i)": (VECTOR, (4, 6), 2),
    "i = Gemm<transB = 1>(r, w, b) m = Clip(i, low)": (VECTOR, (6, 4), 2),
}


def model_of(text, *, gain=(0.7, -1.2, 1.1, 0.4, 0.0, 0.9), behind="y = QuantizeLinear(n, sy, zy)", **more):
    (x, y), shape, _ = LAYERS.get(text, (IMAGE, (6, 4, 3, 3), 2))
    rng = np.random.default_rng(5)
    axis = shape.index(6)
    arrays = {
        "sx": np.float32(0.03), "zx": np.uint8(120), "sy": np.float32(0.04), "zy": np.uint8(90),
        "low": np.float32(-0.5), "high": np.float32(1.3),
        "codes": rng.integers(-127, 128, shape).astype(np.int8), "b": rng.normal(size=6).astype(np.float32),
        "ws": np.float32(rng.uniform(0.5, 1, 6) / 70 / np.sqrt(np.prod(shape) / 6)), "wz": np.zeros(6, np.int8),
        "gain": np.float32(gain), "shift": rng.normal(size=6).astype(np.float32),
        "mean": rng.normal(size=6).astype(np.float32) / 3, "var": rng.uniform(0.5, 1.5, 6).astype(np.float32),
    } | more  # fmt: skip
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17]> g ({x}) => ({y}) {{
        r = DequantizeLinear(x, sx, zx) w = DequantizeLinear<axis = {axis}>(codes, ws, wz) {text}
        n = BatchNormalization(m, gain, shift, mean, var) {behind} }}""")
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in arrays.items())
    return model


def run(model, *, stock=False):
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(7).integers(0, 256, shape).astype(np.uint8)
    session = onnxruntime.InferenceSession(model.SerializeToString()) if stock else bno.session(model)
    return session.run(None, {"x": x})[0]


def operators(model):
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("text", LAYERS)
def test_a_layer_makes_the_codes_of_a_norm(text, lowering):
    model = model_of(text)
    made, (outcome,) = lower_with_report(model, lowering=lowering)
    onnx.checker.check_model(made, full_check=True)
    assert (outcome.name, outcome.problem) == ("n", "")
    assert {"BatchNormalization", "Relu", "Clip"}.isdisjoint(operators(made))
    assert len({"Max", "Min"} & {*operators(made)}) == LAYERS[text][2]
    want = run(model, stock=True)
    off = np.abs(want.astype(int) - run(made))
    assert len(np.unique(want)) > 20  # it computes something
    assert off.max() <= 1
    assert np.mean(off != 0) < 0.01  # a bias is rounded to 32 bits, and numbers half way between two codes


def test_an_activation_behind_the_norm_cuts_codes_off_as_well():
    text = "i = Conv(r, w, b) m = Relu(i)"
    model = model_of(text, behind="a = Clip(n, low, high) y = QuantizeLinear(a, sy, zy)")
    made, (outcome,) = lower_with_report(model)
    assert outcome.problem == ""
    assert np.abs(run(model, stock=True).astype(int) - run(made)).max() <= 1


def test_int8_codes_become_uint8_with_their_limits():
    behind = "q = QuantizeLinear(n, sy, zq) y = DequantizeLinear(q, sy, zq)"
    model = model_of("i = Conv(r, w, b) m = Relu(i)", behind=behind, zq=np.int8(-38))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for keep, kind in ((False, np.uint8), (True, np.int8)):
        made = bno.lower(model, keep_int8=keep)
        (limits,) = (node.input[1] for node in made.graph.node if node.op_type == "Max")
        held = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
        assert held[limits].dtype == kind
        assert np.abs(run(model, stock=True) - run(made)).max() < 1.01 * 0.04


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("i = Conv(r, w, b) m = Relu(i) o = Neg(i)", {}),
        ("i = Conv(r, w, b) m = Relu(i)", {"codes": np.full((6, 4, 3, 3), -128, np.int8)}),
        ("i = Conv(r, w, b) m = Relu(i)", {"wz": np.full(6, 3, np.int8)}),
        ("i = Conv(r, w, b) m = Sigmoid(i)", {}),
        ("i = Conv(r, w, b) m = Clip(i, high, low)", {}),
        ("i = Conv(r, w, b) m = Relu(i)", {"sy": np.float32(1e-6)}),  # too fine for a bias of 32 bits
    ],
)
def test_what_a_layer_cannot_take_stays(text, more):
    model = model_of(text, **more)
    if "o = Neg" in text:
        model.graph.output.append(onnx.helper.make_tensor_value_info("o", onnx.TensorProto.FLOAT, [None] * 4))
    made, (outcome,) = lower_with_report(model)
    assert outcome.problem.startswith("its input is not quantized")
    assert "BatchNormalization" in operators(made)
    assert np.array_equal(run(model, stock=True), run(made))


def test_a_bias_of_rows_is_none_of_channels():
    model = model_of("i = Gemm(r, w, b) m = Relu(i)", b=np.arange(6, dtype=np.float32).reshape(6, 1))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 6
    made, (outcome,) = lower_with_report(model)
    assert outcome.problem.startswith("its input is not quantized")
    assert np.array_equal(run(model, stock=True), run(made))


def test_what_is_excluded_stays_and_qdq_leaves_layers_alone():
    model = model_of("i = Conv(r, w, b) m = Relu(i)")
    assert "BatchNormalization" in operators(lower_with_report(model, nodes_to_exclude=["n"])[0])
    assert "BatchNormalization" in operators(lower_with_report(model, lowering="qdq")[0])
