"""Weights for AMX: one lower with their zero point, the same results, only where they are a gain and fit int8."""

import itertools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from norm_models import Nodes
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from bytenorm import onnx as bno
from bytenorm.onnx.run import amx

FORMS = ["QLinearConv", "QDQ", "QDQ without a zero point", "contributed"]


def conv(
    form, *, per_channel=True, codes=None, zero=0, unsigned=True, outputs=64, depth=512, kernel=1, group=1, **at
):
    """Return a model with a convolution of codes, and what it is fed.

    Weights lie within -62 to 62: so no sum saturates where CPUs without VNNI add two products in 16 bits, nor one
    of weights one lower.
    """
    rng = np.random.default_rng([depth, outputs, kernel])
    channels = depth // kernel**2
    w = rng.integers(-62, 63, (outputs, channels // group, kernel, kernel)).astype(np.int8)
    if codes is not None:
        w.ravel()[: len(codes)] = codes
    kind = np.uint8 if unsigned else np.int8
    x_zero, y_zero = np.array(3, kind), np.array(100 if unsigned else 0, kind)
    steps = rng.uniform(0.001, 0.003, outputs if per_channel else ()).astype(np.float32)
    zeros = np.full(steps.shape, zero, np.int8)
    n = Nodes()
    n.input("x", kind, ["n", channels, 4, 4])
    x = [n.constant("x_scale", 0.02, np.float32), n.constant("x_zero", x_zero)]
    y = [n.constant("y_scale", 0.05, np.float32), n.constant("y_zero", y_zero)]
    weight = [n.constant("w", w), n.constant("w_scale", steps), n.constant("w_zero", zeros)]
    bias = rng.integers(-1000, 1000, outputs).astype(np.int32)
    if form == "QLinearConv":
        inputs = ["x", *x, *weight, *y, n.constant("bias", bias)]
        n.node("QLinearConv", inputs, "y", group=group, **at)
    else:
        domain = "com.microsoft" if form == "contributed" else ""
        n.node("DequantizeLinear", ["x", *x], "x_real", domain=domain)
        dequantized = weight[:2] if form == "QDQ without a zero point" else weight
        n.node("DequantizeLinear", dequantized, "w_real", axis=0, domain=domain)
        n.node("Conv", ["x_real", "w_real"], "y_real", group=group, kernel_shape=[kernel] * 2, **at)
        n.node("QuantizeLinear", ["y_real", *y], "y", domain=domain)
    n.output("y", kind, ["n", outputs, "height", "width"])
    info = np.iinfo(kind)
    return n.model(), {"x": rng.integers(info.min, info.max + 1, (2, channels, 4, 4)).astype(kind)}


def run(model, feeds):
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def zero_points(model):
    """Return the zero points of the weights of convolutions."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    makers = {tensor: node for node in model.graph.node for tensor in node.output}
    found = set()
    for node in model.graph.node:
        if node.op_type == "QLinearConv":
            found |= set(np.ravel(constants[node.input[5]]).tolist())
        elif node.op_type == "Conv":
            found |= set(np.ravel(constants[makers[node.input[1]].input[2]]).tolist())
    return found


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "kind", [{}, {"kernel": 3, "depth": 576, "pads": [1] * 4}, {"outputs": 128, "strides": [2, 2]}]
)
def test_large_convolutions_are_moved_and_compute_the_same(form, per_channel, kind):
    model, feeds = conv(form, per_channel=per_channel, **kind)
    before = model.SerializeToString()
    made = amx.weights_for_amx(model)
    assert model.SerializeToString() == before
    onnx.checker.check_model(made)
    assert zero_points(made) == {-1}
    want = run(model, feeds)
    np.testing.assert_array_equal(run(made, feeds), want)
    np.testing.assert_array_equal(bno.session(model, amx=True).run(None, feeds)[0], want)
    assert len(np.unique(want)) > 100
    if form == "QLinearConv" and per_channel:
        exact, still = (ReferenceEvaluator(m).run(None, feeds)[0] for m in (model, made))
        np.testing.assert_array_equal(still, exact)


@pytest.mark.parametrize("form", FORMS[:2])
@pytest.mark.parametrize(
    "kind",
    [
        {"codes": [-128]},
        {"zero": 2},
        {"unsigned": False},
        {"outputs": 63},
        {"depth": 511},
        {"depth": 1024, "group": 2},
    ],
    ids=str,
)
def test_others_stay(form, kind):
    """A code that would leave int8, another zero point, int8 activations, few outputs, a small product, groups."""
    model, feeds = conv(form, **kind)
    assert amx.weights_for_amx(model) is model
    want = run(model, feeds)
    np.testing.assert_array_equal(bno.session(model, amx=True).run(None, feeds)[0], want)


@pytest.mark.parametrize("form", FORMS[:2])
def test_the_lowest_codes_that_fit(form):
    model, feeds = conv(form, codes=[-127, 127])
    made = amx.weights_for_amx(model)
    assert zero_points(made) == {-1}
    if not bno.sums_saturate():
        np.testing.assert_array_equal(run(made, feeds), run(model, feeds))


@pytest.mark.parametrize("form", FORMS[:2])
def test_sums_that_just_fit(form):
    """255 * -64 twice fits 16 bits, 255 * -65 does not: a session is exact with weights one lower as well."""
    model, feeds = conv(form, codes=[-64, -64, 64, 64] * 128)
    feeds["x"][:] = 255
    want = run(model, feeds)
    for saturate in {False, not bno.sums_saturate()}:
        session = bno.session(model, amx=True, saturate=saturate)
        np.testing.assert_array_equal(session.run(None, feeds)[0], want)
    if bno.sums_saturate():
        assert not np.array_equal(run(amx.weights_for_amx(model), feeds), want)


def test_a_convolution_in_integers_stays():
    """ConvInteger is a product of matrices whatever its zero points are."""
    rng = np.random.default_rng(2)
    n = Nodes()
    n.input("x", np.uint8, ["n", 512, 2, 2])
    w = n.constant("w", rng.integers(-62, 63, (64, 512, 1, 1)).astype(np.int8))
    n.node("ConvInteger", ["x", w, n.constant("x_zero", np.uint8(3))], "y")
    n.output("y", np.int32, ["n", 64, 2, 2])
    model = n.model()
    assert amx.weights_for_amx(model) is model
    x = {"x": rng.integers(0, 256, (2, 512, 2, 2)).astype(np.uint8)}
    np.testing.assert_array_equal(bno.session(model, amx=True).run(None, x)[0], run(model, x))


def test_layers_that_share_a_weight_still_do():
    n = Nodes()
    n.input("x", np.uint8, ["n", 512, 2, 2])
    q = [n.constant("s", 0.05, np.float32), n.constant("z", np.uint8(100))]
    weight = [n.constant("w", np.ones((512, 512, 1, 1), np.int8)), n.constant("ws", 0.01, np.float32)]
    weight.append(n.constant("wz", np.int8(0)))
    n.node("QLinearConv", ["x", *q, *weight, *q], "between")
    n.node("QLinearConv", ["between", *q, *weight, *q], "y")
    n.output("y", np.uint8, ["n", 512, 2, 2])
    made = amx.weights_for_amx(n.model())
    assert len({node.input[3] for node in made.graph.node}) == 1
    assert "w" not in {t.name for t in made.graph.initializer}


@pytest.mark.parametrize("as_file", [False, True])
def test_when_a_session_does_it(as_file, tmp_path, monkeypatch):
    model, feeds = conv("QDQ")
    source = model
    if as_file:
        source = str(tmp_path / "model.onnx")
        onnx.save(model, source)
    moved = []
    seen = lambda m: moved.append(m) or amx.weights_for_amx(m)  # noqa: E731
    monkeypatch.setattr("bytenorm.onnx.run.session.weights_for_amx", seen)
    want = run(model, feeds)
    for there, options, asked in itertools.product([True, False], [None, ort.SessionOptions], [None, True, False]):
        monkeypatch.setattr("bytenorm.onnx.run.session.has_amx", lambda there=there: there)
        moved.clear()
        session = bno.session(source, options and options(), amx=asked)
        np.testing.assert_array_equal(session.run(None, feeds)[0], want)
        assert bool(moved) is (asked is True or (asked is None and there and options is None))
    if as_file:
        assert onnx.load(source) == model


def test_whether_a_cpu_has_it(tmp_path, monkeypatch):
    def asked(text, machine="x86_64"):
        file = tmp_path / "cpuinfo"
        file.write_text(text)
        monkeypatch.setattr("platform.machine", lambda: machine)
        monkeypatch.setattr(amx, "Path", lambda path: file if path == "/proc/cpuinfo" else tmp_path / "missing")
        amx.has_amx.cache_clear()
        return amx.has_amx()

    intel = "processor\t: 0\nflags\t\t: fpu avx512_vnni amx_bf16 avx512_fp16 amx_tile amx_int8 flush_l1d\n"
    try:
        assert asked(intel) is True
        assert asked(intel.replace("amx_int8", "amx_int8x")) is False
        assert asked(intel, "aarch64") is False
        assert asked("Processor: ARMv8\n") is False
        monkeypatch.setattr(amx, "Path", lambda path: tmp_path / "missing")
        amx.has_amx.cache_clear()
        assert amx.has_amx() is False
    finally:
        amx.has_amx.cache_clear()


def test_what_is_no_choice():
    with pytest.raises(TypeError, match=r"^amx"):
        bno.session(bno.digits_model(), amx=1)
