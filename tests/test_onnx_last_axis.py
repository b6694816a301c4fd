"""Norms whose channels are the last axis: of vectors along time, of images in NHWC."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from norm_models import Nodes

from bytenorm import onnx as bno
from bytenorm.onnx.graph.graph import Graph
from bytenorm.onnx.lowering.lower import lower_with_report
from bytenorm.onnx.norms.last_axis import to_axis_1
from bytenorm.onnx.quantization.quantize import quantize_with_report

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


@pytest.mark.thorough(but=24)
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


def test_no_tensor_of_turned_axes_keeps_its_name():
    """Whoever asks for a tensor by its name gets its numbers; all lengths are 3, so no shape would tell."""
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["": 17]> g (uint8[3, 3, 3] a) => (uint8[3, 3, 3] y)
        <float s = {0.05}, float s2 = {0.1}, uint8 z = {128}, float[3] w = {1, -0.5, 0.7}, float[3] b = {0, 1, 2}>
        { d = DequantizeLinear (a, s, z) m = Mul (d, w) q = QuantizeLinear (m, s2, z)
          e = DequantizeLinear (q, s2, z) n = Add (e, b) y = QuantizeLinear (n, s2, z) }""")
    graph = Graph(onnx.shape_inference.infer_shapes(model))
    assert to_axis_1(graph)
    graph.finish()
    x = {"a": np.random.default_rng(3).integers(0, 256, (3, 3, 3), np.uint8)}
    found = []
    for one in (model, graph.model):
        names = {name for node in one.graph.node for name in node.output} - {"y"}
        one.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names))
        session = bno.session(one)
        found.append(dict(zip([o.name for o in session.get_outputs()], session.run(None, x), strict=True)))
    for name in found[0].keys() & found[1].keys():
        np.testing.assert_array_equal(found[1][name], found[0][name], name)
    assert set(found[1]) >= {"d", "n", "y", "m/channels_first"}


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


IN_FLOAT = {
    "a dense layer": ("m = MatMul (x, k) d = Add (m, b) n = Mul (d, w) p = Add (n, b3) y = Relu (p)", "p", True),
    "one behind its activation": (
        "m = MatMul (x, k) d = Relu (m) n = Mul (d, w) p = Add (n, b) y = Tanh (p)",
        "p",
        False,
    ),
    "one before a layer": ("d = Relu (x) n = Mul (w, d) p = Sub (n, b3) y = MatMul (p, k)", "p", True),
    "a recurrent layer": (
        "t = Transpose <perm = [1, 0, 2]> (x) h, g, c = LSTM <hidden_size = 3> (t, lw, lr) s = Squeeze (h, one)"
        "d = Transpose <perm = [1, 0, 2]> (s) n = Mul (d, w) p = Add (n, b) y = Relu (p)",
        "p",
        False,
    ),
}


def in_float(nodes):
    rng = np.random.default_rng(0)
    made = onnx.parser.parse_model(f"""
        <ir_version: 9, opset_import: ["": 17]> g (float[N, 9, 3] x) => (float[N, 9, 3] y)
        <float[3] w = {{1.0, -0.5, 0.7}}, float[3] b = {{0.5, 1.0, 0.2}}, float[1, 1, 3] b3 = {{0.1, 1.0, -0.2}},
         int64[1] one = {{1}}> {{ {nodes} }}""")
    read = {tensor for node in made.graph.node for tensor in node.input}
    for name, shape in {"k": (3, 3), "lw": (1, 12, 3), "lr": (1, 12, 3)}.items():
        if name not in read:
            continue
        value = rng.normal(0, 0.6, shape).astype(np.float32)
        made.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    for node in made.graph.node:
        node.name = f"node {node.output[0]}"
    return made, [{"x": rng.normal(size=(16, 9, 3)).astype(np.float32)}]


@pytest.mark.thorough(but=2)
@pytest.mark.parametrize("quant_format", ["QDQ", "QOperator"])
@pytest.mark.parametrize("what", IN_FLOAT)
def test_quantize_finds_them(what, quant_format):
    nodes, name, folds = IN_FLOAT[what]
    model, data = in_float(nodes)
    assert [(n.name, bool(n.folds_into)) for n in bno.inspect(model).norms] == [(f"node {name}", folds)]
    (want,) = ort.InferenceSession(model.SerializeToString()).run(None, data[0])
    for lowering in LOWERINGS:
        made, report = quantize_with_report(model, data, lowering=lowering, quant_format=quant_format, fast=True)
        assert report.folded == (f"node {name}",) * folds
        assert [(o.name, o.problem) for o in report.outcomes] == [(f"node {name}", "")] * (not folds)
        if folds:
            assert not any(node.op_type == "Transpose" for node in made.graph.node)
        (got,) = bno.session(made).run(None, data[0])
        assert 10 * np.log10(np.sum(want**2) / np.sum((want - got) ** 2)) > 30


def test_an_excluded_one_stays_where_it_is():
    model, data = in_float(IN_FLOAT["one behind its activation"][0])
    made, report = quantize_with_report(model, data, nodes_to_exclude=["node n"], fast=True)
    assert report.outcomes == () and not any(node.op_type == "Transpose" for node in made.graph.node)
    assert {"Mul", "Add"} <= {node.op_type for node in made.graph.node}


def test_prepare_disguises_them():
    model, data = in_float(IN_FLOAT["one behind its activation"][0])
    made = bno.prepare(model)
    assert [node.attribute[0].i for node in made.graph.node if node.op_type == "Conv"] == [3]
    want, got = (ort.InferenceSession(m.SerializeToString()).run(None, data[0])[0] for m in (model, made))
    np.testing.assert_allclose(want, got, rtol=1e-5, atol=1e-5)


def test_transposes_before_a_norm_that_undo_each_other():
    """They go, and the norm reads what was before them: in `quantize` and in `prepare`."""
    rng = np.random.default_rng(2)
    n = Nodes()
    n.input("x", np.float32, ["n", 3, 4, 5])
    n.node("Transpose", ["x"], "there", perm=[0, 2, 3, 1])
    n.node("Transpose", ["there"], "back", perm=[0, 3, 1, 2])
    values = rng.uniform(0.5, 1.5, (4, 3))
    n.node(
        "BatchNormalization", ["back", *(n.constant(f"p{i}", v, np.float32) for i, v in enumerate(values))], "y"
    )
    n.output("y", np.float32, ["n", 3, 4, 5])
    model, x = n.model(), {"x": rng.normal(size=(8, 3, 4, 5)).astype(np.float32)}
    want = bno.session(model).run(None, x)[0]
    assert np.abs(bno.session(bno.prepare(model)).run(None, x)[0] - want).max() < 1e-5
    made = bno.quantize(model, [x])
    assert "Transpose" not in {node.op_type for node in made.graph.node}
    assert np.abs(bno.session(made).run(None, x)[0] - want).max() < 0.03 * np.abs(want).max()
