"""Float models as exporters write them: old opsets, constants that are inputs or computed, odd norms."""

import re
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from exact_sums import exact_session
from norm_models import Nodes
from onnx import numpy_helper, parser
from onnxruntime import quantization

from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.onnx.data.dataset import open_data
from bytenorm.onnx.model.files import load_model, save_model
from bytenorm.onnx.quantization.quantize import quantize_with_report
from bytenorm.onnx.quantizer.alone import quantize_alone
from bytenorm.report import gather

RNG = np.random.default_rng(3)
C = 4


def f32(array):
    return np.asarray(array, np.float32)


def norm(prefix):
    """Return the parameters of a norm of C channels."""
    values = RNG.uniform(0.5, 1.5, C), RNG.normal(0, 0.3, C), RNG.normal(0, 0.3, C), RNG.uniform(0.5, 2, C)
    return {prefix + name: f32(value) for name, value in zip("wbmv", values, strict=True)}


def model(text, *, opset=17, ir=8, **arrays):
    """Return a model: the text of its graph, and its initializers."""
    header = f'<ir_version: {ir}, opset_import: ["" : {opset}, "com.microsoft" : 1]>'
    made = parser.parse_model(f"{header} g {text}")
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in arrays.items())
    return made


def images(n=8, **others):
    return [{"x": f32(RNG.normal(size=(n, C, 6, 6))), **others}]


def run(made, feeds):
    return exact_session(made).run(None, feeds)


def snr(want, got):
    return 10 * np.log10(np.sum(want.astype(np.float64) ** 2) / np.sum((want.astype(np.float64) - got) ** 2))


# --- inputs with values of their own ----------------------------------------------------------------------------


def with_defaults(ir=8, opset=17):
    made = model(
        """(float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y) {
            c = Conv(x, k) n = BatchNormalization(c, w, b, m, v) r = Relu(n)
            y = BatchNormalization(r, pw, pb, pm, pv)
        }""",
        ir=ir, opset=opset, k=f32(RNG.normal(0, 0.5, (C, C, 1, 1))), **norm(""), **norm("p"),
    )  # fmt: skip
    for tensor in made.graph.initializer:
        made.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return made


@pytest.mark.parametrize(("ir", "opset"), [(3, 7), (3, 8), (3, 9), (8, 17)])
def test_initializers_that_are_inputs_are_constants(ir, opset, tmp_path, capsys):
    made, data = with_defaults(ir, opset), images()
    found = bno.inspect(made)
    assert [n.folds_into for n in found.norms] == ["Conv c", ""]
    assert (found.opset, found.ir_version) == (opset, ir)
    names = "'k', 'w', 'b' and 6 more"
    wanted = f"inputs with values of their own are read as constants: {names}" if ir > 3 else ""
    assert found.note == wanted
    assert str(found).endswith(wanted or found.summary())
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        small = bno.quantize(made, data, lowering="exact")
    assert [str(w.message) for w in warned if w.category is UserWarning] == [f"model: {wanted}"] * (ir > 3)
    assert all(w.filename == __file__ for w in warned)
    assert [v.name for v in small.graph.input] == ["x"]
    onnx.save(made, tmp_path / "float.onnx")
    np.savez(tmp_path / "data.npz", **data[0])
    paths = [str(tmp_path / name) for name in ("float.onnx", "data.npz", "small.onnx")]
    assert main(["quantize", paths[0], "--data", paths[1], "-o", paths[2], "--lowering", "exact"]) == 0
    assert onnx.load(paths[2]) == small
    assert (wanted in capsys.readouterr().out) == bool(wanted) or not wanted
    assert snr(run(made, data[0])[0], run(small, data[0])[0]) > 25


def test_quantized_models_with_initializers_as_inputs():
    made = model(
        """(uint8[N, 4, 6, 6] x) => (uint8[N, 4, 6, 6] y) {
            a = DequantizeLinear(x, s, z) n = BatchNormalization(a, w, b, m, v) y = QuantizeLinear(n, s, z)
        }""",
        s=np.float32(0.02), z=np.uint8(128), **norm(""),
    )  # fmt: skip
    plain = bno.lower(made, lowering="exact")
    made.graph.input.append(onnx.helper.make_tensor_value_info("w", 1, [C]))
    with pytest.warns(UserWarning, match="^model: an input with a value of its own is read as a constant: 'w'$"):
        assert bno.lower(made, lowering="exact") == plain


# --- old operators ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [7, 8])
def test_a_norm_with_parameters_for_each_position_stays_in_float(opset):
    """`spatial`, before opset 9: ONNX Runtime computes what it says; onnx cannot convert it."""
    made = model(
        """(float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y) {
            y = BatchNormalization<spatial = 0>(x, w, b, m, v)
        }""",
        opset=opset, **{name: np.ones((C, 6, 6), np.float32) for name in "wbmv"},
    )  # fmt: skip
    (found,) = bno.inspect(made).norms
    assert found.problem == "it has parameters of its own for each position"


# --- inputs without a batch in front ----------------------------------------------------------------------------


def recurrent(h="N"):
    """A norm, then an LSTM of two directions whose state is an input, and a size that is one, too."""
    return model(
        f"""(float[N, 4, 10] x, float[2, {h}, 3] h, float[2, {h}, 3] c, float[2] size)
            => (float[T, 2, N, 3] y, float[2, {h}, 3] last) {{
            b = BatchNormalization(x, w, b0, m, v) r = Relu(b)
            k = Conv(r, kernel) t = Transpose<perm = [2, 0, 1]>(k)
            z, last = LSTM<hidden_size = 3, direction = "bidirectional">(t, W, R, , , h, c)
            s = ReduceProd<keepdims = 0>(size) y = Mul(z, s)
        }}""",
        kernel=f32(RNG.normal(0, 0.5, (C, C, 1))), W=f32(RNG.normal(0, 0.3, (2, 12, C))),
        R=f32(RNG.normal(0, 0.3, (2, 12, 3))), **{k.replace("b", "b0"): v for k, v in norm("").items()},
    )  # fmt: skip


def states(n):
    state = {name: f32(RNG.normal(size=(2, n, 3))) for name in "hc"}
    return {"x": f32(RNG.normal(size=(n, 4, 10))), **state, "size": f32([1, 2])}


@pytest.mark.parametrize("method", [None, "mse"])
@pytest.mark.parametrize("calibrate_method", ["minmax", "entropy"])
def test_recurrent_states_and_sizes(method, calibrate_method):
    made, data = recurrent(), [states(40), states(3)]
    small = bno.quantize(made, data, method=method, calibrate_method=calibrate_method)
    compared = bno.compare(made, small, data)
    assert compared.samples == 43
    assert compared.outputs[0].snr_db > 20
    found = gather(small, data)
    assert (found.samples, len(found.norms)) == (43, 1)


def test_batch_axes_are_told(tmp_path, capsys):
    """Without names on the states nothing tells their batch."""
    made, data = recurrent("?"), states(5)
    with pytest.raises(ValueError, match="must have one number of rows"):
        bno.quantize(made, [data])
    axes = {"h": 1, "c": -2}
    small = bno.quantize(made, [data], batch_axes=axes)
    compared = bno.compare(made, small, [data], batch_axes=axes)
    assert (compared.samples, gather(small, [data], batch_axes=axes).samples) == (5, 5)
    onnx.save(made, tmp_path / "float.onnx")
    np.savez(tmp_path / "data.npz", **data)
    model_, out, given = (str(tmp_path / name) for name in ("float.onnx", "made.onnx", "data.npz"))
    told = ["--data", given, "--batch-axis", "h=1", "--batch-axis", "c=-2"]
    assert main(["quantize", model_, *told, "-o", out]) == 0
    assert onnx.load(out) == small
    assert main(["compare", model_, out, *told]) == 0
    assert main(["report", out, *told, "-o", str(tmp_path / "page.html")]) == 0
    assert main(["bench", model_, out, *told, "--batch", "3", "--repeats", "1"]) == 0
    assert main(["bench", model_, out, *told[2:], "--batch", "3", "--repeats", "1"]) == 0
    capsys.readouterr()
    assert main(["compare", model_, out, *told, "--batch-axis", "x=3"]) == 2
    assert capsys.readouterr().err == "bytenorm: error: --batch-axis 'x' must be an axis of 3 dimensions, got 3\n"
    for text in ("x", "=1", "x=a", "x="):
        assert main(["compare", model_, out, "--data", given, "--batch-axis", text]) == 2
        assert "INPUT=AXIS is wanted, such as state=1 or size=none" in capsys.readouterr().err


# --- odd norms --------------------------------------------------------------------------------------------------

HALF, DOUBLE, BFLOAT16 = 10, 11, 16


def in_type(data_type):
    """Return a norm in another type, its parameters too."""
    casts = " ".join(f"{name}2 = Cast<to = {data_type}>({name})" for name in "wbmv")
    return f"""{casts} r2 = Cast<to = {data_type}>(r) o2 = BatchNormalization(r2, w2, b2, m2, v2)
        o = Cast<to = 1>(o2)"""


ODD = {
    "its scale (chosen) is not constant": (
        "chosen = Gather(table, k) o = BatchNormalization(r, chosen, b, m, v)", 1,
    ),
    "its input_var (spread) is not constant": (
        "s = ReduceMean<axes = [0, 2, 3], keepdims = 0>(r) spread = Exp(s) "
        "o = BatchNormalization(r, w, b, m, spread)", 1,
    ),
    "its running statistics are outputs": ("o, later, last = BatchNormalization(r, w, b, m, v) ", 0),
    "it is in training mode": ("o, later, last = BatchNormalization<training_mode = 1>(r, w, b, m, v)", 0),
    "it works in float16": (in_type(HALF), 1),
    "it works in double": (in_type(DOUBLE), 1),
    "its input_var is -1.0 in channel 0": ("o = BatchNormalization(r, w, b, m, bad)", 0),
}  # fmt: skip


def with_odd(nodes):
    """Return a network of a norm that folds, one of its own, the odd one and one more."""
    return model(
        f"""(float[N, 4, 6, 6] x, int64 k) => (float[N, 4, 6, 6] y) {{
            c = Conv(x, kernel) f = BatchNormalization(c, w, b, m, v) fr = Relu(f)
            q = BatchNormalization(fr, w, b, m, v) r = Relu(q)
            {nodes}
            p = Relu(o) y = BatchNormalization(p, w, b, m, v)
        }}""",
        kernel=f32(RNG.normal(0, 0.5, (C, C, 1, 1))), table=f32(RNG.uniform(0.5, 1.5, (5, C))),
        bad=f32([-1, 1, 1, 1]), **norm(""),
    )  # fmt: skip


@pytest.mark.thorough(but=2)
@pytest.mark.parametrize("problem", ODD)
def test_one_odd_norm_stays_in_float(problem):
    nodes, runs = ODD[problem]
    made, data = with_odd(nodes), images(k=np.array(2))
    by_name = {n.name: n for n in bno.inspect(made).norms}
    odd = [n for n in by_name if n.startswith("o")]
    assert [by_name[n].problem for n in odd] == [problem]
    if not runs:  # in ONNX Runtime on the CPU neither
        return
    want = run(made, data[0])[0]
    for options in (
        {"lowering": "portable"}, {"lowering": "exact", "method": "mse"},
        {"lowering": "fused", "quant_format": "QOperator"},
    ):  # fmt: skip
        small, report = quantize_with_report(made, data, **options)
        assert report.folded == ("f",)
        # ONNX Runtime itself computes such a norm in float32, between casts that are gone here.
        wanted = "" if problem == "it works in float16" else problem
        assert {o.name: o.problem for o in report.outcomes} == {"q": "", odd[0]: wanted, "y": ""}
        assert snr(want, run(small, data[0])[0]) > 25
    if wanted:
        with pytest.warns(bno.LoweringWarning, match=f"^{odd[0]} stays in float: {re.escape(problem)}$"):
            bno.quantize(made, data)
    small, report = quantize_with_report(made, data, nodes_to_exclude=odd)
    assert {o.name: o.problem for o in report.outcomes} == {"q": "", odd[0]: "it is excluded", "y": ""}


# --- models that ONNX Runtime has optimized ---------------------------------------------------------------------

CONTRIB = {
    "FusedConv": """a = com.microsoft.FusedConv<activation = "Relu">(x, kernel) b = Identity(a)""",
    "FusedConv and a sum": """a = com.microsoft.FusedConv<activation = "Relu">(x, kernel, w, x) b = Identity(a)""",
    "Gelu": "a = com.microsoft.Gelu(x) b = Conv(a, kernel)",
    "FusedMatMul": "a = com.microsoft.FusedMatMul<transB = 1>(x, square) b = Identity(a)",
}


@pytest.mark.parametrize("case", CONTRIB)
def test_layers_that_only_the_runtime_knows(case):
    made = model(
        f"""(float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y) {{
            {CONTRIB[case]} n = BatchNormalization(b, w, b0, m, v) r = Relu(n) y = Conv(r, kernel)
        }}""",
        kernel=f32(RNG.normal(0, 0.5, (C, C, 1, 1))), square=f32(RNG.normal(0, 0.5, (6, 6))),
        **{k.replace("b", "b0"): v for k, v in norm("").items()},
    )  # fmt: skip
    data = images()
    for lowering, form in [("portable", "QDQ"), ("exact", "QOperator")]:
        small, report = quantize_with_report(made, data, lowering=lowering, quant_format=form)
        assert [o.problem for o in report.outcomes] == [""] * (not report.folded)
        assert snr(run(made, data[0])[0], run(small, data[0])[0]) > 25


def test_vectors_behind_a_layer_that_only_the_runtime_knows():
    made = model(
        """(float[N, 5] x) => (float[N, 4] y) {
            a = com.microsoft.FusedGemm<activation = "Relu", transB = 1>(x, layer, b)
            y = BatchNormalization(a, w, b, m, v)
        }""",
        layer=f32(RNG.normal(0, 0.5, (C, 5))), **norm(""),
    )  # fmt: skip
    data = [{"x": f32(RNG.normal(size=(9, 5)))}]
    small, report = quantize_with_report(made, data, lowering="exact")
    assert [o.problem for o in report.outcomes] == ["its output is not quantized"] or not report.outcomes[
        0
    ].problem
    assert snr(run(made, data[0])[0], run(small, data[0])[0]) > 25


# --- models beyond what protobuf writes as one message ----------------------------------------------------------

LIMIT = 50_000  # bytes, in place of 2 GiB


def heavy():
    """Four layers that have more than the limit together, one of them a Constant, and norms."""
    nodes = "".join(
        f"c{i} = Conv<pads = [1, 1, 1, 1]>(r{i}, k{i}) t{i} = Tanh(c{i}) "
        f"n{i} = BatchNormalization(t{i}, w, b, m, v) r{i + 1} = Relu(n{i}) "
        for i in range(4)
    )
    kernels = {f"k{i}": f32(RNG.normal(0, 0.1, (32, C if i == 0 else 32, 3, 3))) for i in range(4)}
    parameters = {name: f32(RNG.uniform(0.5, 1.5, 32)) for name in "wbmv"}
    made = model(
        f"(float[N, 4, 6, 6] x) => (float[N, 32, 6, 6] y) {{ r0 = Identity(x) {nodes} y = Identity(r4) }}",
        **kernels, **parameters,
    )  # fmt: skip
    tensor = next(t for t in made.graph.initializer if t.name == "k2")
    made.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["k2"], value=tensor))
    made.graph.initializer.remove(tensor)
    return made


@pytest.fixture
def limited(monkeypatch):
    """Let nothing larger than the limit be written, inferred, checked or handed over as one message."""
    monkeypatch.setattr("bytenorm.onnx.model.files.LARGEST_FILE", LIMIT)

    def guard(module, name, size):
        wanted = getattr(module, name)

        def guarded(first, *arguments, **options):
            assert size(first) <= LIMIT
            return wanted(first, *arguments, **options)

        monkeypatch.setattr(module, name, guarded)

    def of_session(source):
        return 0 if isinstance(source, str) else len(source)

    guard(onnx.shape_inference, "infer_shapes", lambda made: made.ByteSize())
    guard(onnx.checker, "check_model", lambda made: made.ByteSize())
    guard(onnxruntime, "InferenceSession", of_session)


@pytest.mark.thorough
@pytest.mark.parametrize("lowering", ["portable", "exact", "fused"])
def test_models_beyond_one_message(limited, tmp_path, lowering):
    made, data = heavy(), images()
    assert made.ByteSize() > 2 * LIMIT
    save_model(made, tmp_path / "float.onnx")
    assert (tmp_path / "float.onnx").stat().st_size < LIMIT
    assert len(bno.inspect(tmp_path / "float.onnx").norms) == 4
    for source in (made, tmp_path / "float.onnx"):
        small, report = quantize_with_report(source, data, lowering=lowering, compare=True)
        assert [o.problem for o in report.outcomes[:3]] == [""] * 3
        assert report.comparison.outputs[0].snr_db > 20
    options = {"quant_format": "QOperator", "method": "mse", "lowering": lowering, "compare": True}
    small, report = quantize_with_report(made, data, **options)
    assert report.comparison.outputs[0].snr_db > 20
    save_model(small, tmp_path / "small.onnx")
    assert bno.compare(tmp_path / "float.onnx", tmp_path / "small.onnx", data).outputs == report.comparison.outputs
    assert len(gather(small, data).norms) >= 3


def test_stock_models_beyond_one_message_are_lowered(limited, tmp_path):
    made, data = heavy(), images()
    save_model(made, tmp_path / "float.onnx")
    stock = quantize_alone(load_model(tmp_path / "float.onnx"), open_data(data, made), {
        "quant_format": quantization.QuantFormat.QDQ, "calibrate_method": quantization.CalibrationMethod.MinMax,
    }, None)  # fmt: skip
    stock.graph.initializer.append(numpy_helper.from_array(np.zeros(2 * LIMIT, np.float32), "ballast"))
    stock.graph.node.append(onnx.helper.make_node("Neg", ["ballast"], ["spare"]))
    stock.graph.output.append(onnx.helper.make_tensor_value_info("spare", 1, [2 * LIMIT]))
    save_model(stock, tmp_path / "stock.onnx")
    lowered = bno.lower(tmp_path / "stock.onnx", lowering="exact")
    assert sum(node.op_type == "QLinearBatchNormalization" for node in lowered.graph.node) >= 3
    assert bno.compare(stock, lowered, data).outputs[0].snr_db > 30


# --- weights that are stored in 8 bits ---------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("rounded", [False, True])
def test_weights_that_are_only_stored_in_8_bits(folds, rounded):
    """A DequantizeLinear of a constant leaves the network one in float."""
    n, rng = Nodes(), np.random.default_rng(6)
    x = n.input("x", np.float32, ["n", 3, 6, 6])
    steps = n.quantization("w", rng.uniform(0.002, 0.004, 4), np.zeros(4, np.int8))
    codes = n.constant("codes", rng.integers(-127, 128, (4, 3, 3, 3)), np.int8)
    if rounded:
        real = n.constant("real", rng.normal(0, 0.2, (4, 3, 3, 3)), np.float32)
        codes = n.node("QuantizeLinear", [real, *steps], "made", axis=0)
    weight = n.node("DequantizeLinear", [codes, *steps], "weight", axis=0)
    last = n.node("Conv", [x, weight], "conv")
    last = last if folds else n.node("Relu", [last], "relu")
    vectors = [n.constant(f"v{i}", rng.uniform(0.5, 1.5, 4), np.float32) for i in range(4)]
    n.output(n.node("BatchNormalization", [last, *vectors], "norm"), np.float32, ["n", 4, 4, 4])
    model, data = n.model(), [{"x": rng.normal(size=(8, 3, 6, 6)).astype(np.float32)}]
    found = bno.inspect(model)
    assert not found.quantized and len(found.foldable) == folds
    for quant_format in ("QDQ", "QOperator"):
        made, report = quantize_with_report(model, data, quant_format=quant_format, fast=True)
        assert (len(report.folded), [o.problem for o in report.outcomes]) == (folds, [""] * (not folds))
        assert bno.compare(model, made, data).outputs[0].snr_db > 30
    if not folds:
        assert any(node.op_type == "Conv" and node.attribute for node in bno.prepare(model).graph.node)
    with pytest.raises(ValueError, match="got a model in float"):
        bno.lower(model)


# --- what the onnx package carries ------------------------------------------------------------------------------

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
CARRIED = {"light_densenet121": (121, 59), "light_resnet50": (53, 53), "light_shufflenet": (49, 49)}


@pytest.mark.parametrize("name", CARRIED)
def test_models_whose_weights_are_made_by_operators(name):
    """IR 3, opset 9; all weights by ConstantOfShape; norms of DenseNet with Unsqueeze, Mul and Add."""
    found = bno.inspect(LIGHT / f"{name}.onnx")
    assert (len(found.norms), len(found.foldable)) == CARRIED[name]
    assert (found.ir_version, found.opset, found.note) == (3, 9, "")
    assert all(n.written == "BatchNormalization+Mul+Add" for n in found.norms) == (name == "light_densenet121")
