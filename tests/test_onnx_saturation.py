"""Sums of 8-bit products that saturate on CPUs without VNNI: found out, avoided where bytenorm judges, and told.

Nothing here depends on the CPU that runs it: what a plain session computes is only ever compared with what
`sums_saturate` says.
"""

import json
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exact_sums import exact_session
from norm_models import Nodes

from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.onnx.quantization.quantize import quantize_with_report
from bytenorm.onnx.run import saturation
from bytenorm.onnx.run.saturation import saturating_layers

DIGITS = bno.digits_model()
U8, I8 = np.uint8, np.int8


def plain_session(model):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def extremes(rng, shape, largest=127):
    """Return int8 weights of which neighbours often add up to the most that there is, in both directions."""
    return rng.choice(np.array([-largest, largest, largest, largest - 1], I8), shape)


def pairs_that_fit(rng, channels, products):
    """Return int8 weights whose first and second, third and fourth ... make 128 at most; others make up to 254."""
    first = rng.choice(np.array([127, 127, -127, 100, -110, 1, 0, -1]), (channels, (products + 1) // 2))
    low, high = np.maximum(-127, -128 - first), np.minimum(127, 128 - first)
    second = np.where(rng.random(first.shape) < 0.5, low, high)
    turned = rng.random(first.shape) < 0.5
    pairs = np.stack([np.where(turned, second, first), np.where(turned, first, second)], -1)
    return pairs.reshape(channels, -1)[:, :products].astype(I8)


class Layer:
    """One layer on bytes, and what it makes by int32 arithmetic."""

    def __init__(self, op, weights, *, x_type=U8, group=1, quant_format="QOperator"):
        rng = np.random.default_rng(7)
        self.op, self.weights, self.group = op, weights, group
        conv = op == "Conv"
        channels = weights.shape[1] * group if conv else weights.shape[0]
        size = [5] * (weights.ndim - 2) if conv else []
        info = np.iinfo(x_type)
        self.x = rng.integers(info.max - 40, info.max, [3, channels, *size], x_type, endpoint=True)
        self.x_zero = x_type(info.min + 3)
        w_zero = weights.dtype.type(0 if weights.dtype == I8 else 128)
        self.sums = self.exact(self.x.astype(np.int32) - int(self.x_zero), weights.astype(np.int32) - int(w_zero))
        self.y_zero = x_type(info.min + 128)
        # So that the codes reach from one end to the other, on a grid that no rounding is near to.
        self.y_scale = np.float32(2.0 ** np.ceil(np.log2(max(np.abs(self.sums).max(), 1) / 120)))
        n = Nodes()
        if quant_format == "QOperator":
            self.made = n.input("x", x_type, ["n", *self.x.shape[1:]])
            x = ["x", n.constant("x_scale", 1, np.float32), n.constant("x_zero", self.x_zero)]
            w = [n.constant("w", weights), n.constant("w_scale", 1, np.float32), n.constant("w_zero", w_zero)]
            y = [n.constant("y_scale", self.y_scale), n.constant("y_zero", self.y_zero)]
            if conv:
                n.node("QLinearConv", [*x, *w, *y], "y", name="layer", group=group)
            elif op == "Gemm":
                n.node("QGemm", [*x, *w, "", *y], "y", name="layer", domain="com.microsoft")
            else:
                n.node("QLinearMatMul", [*x, *w, *y], "y", name="layer")
            n.output("y", x_type, None)
        else:
            n.input("x", np.float32, ["n", *self.x.shape[1:]])
            x = [n.constant("x_scale", 1, np.float32), n.constant("x_zero", self.x_zero)]
            w = [n.constant("w", weights), n.constant("w_scale", 1, np.float32), n.constant("w_zero", w_zero)]
            y = [n.constant("y_scale", self.y_scale), n.constant("y_zero", self.y_zero)]
            n.node("DequantizeLinear", [n.node("QuantizeLinear", ["x", *x], "codes"), *x], "real")
            n.node("DequantizeLinear", w, "w_real")
            n.node(op, ["real", "w_real"], "sums", name="layer", **({"group": group} if conv else {}))
            n.node("DequantizeLinear", [n.node("QuantizeLinear", ["sums", *y], "y_codes"), *y], "y")
            n.output("y", np.float32, None)
        self.quant_format = quant_format
        self.model = n.model()

    def exact(self, x, w):
        if self.op != "Conv":
            return x @ w
        spatial = w.shape[2:]
        windows = np.lib.stride_tricks.sliding_window_view(x, spatial, tuple(range(2, x.ndim)))
        parts = zip(np.split(windows, self.group, 1), np.split(w, self.group), strict=True)
        made = [np.tensordot(p, v, ([1, *range(-len(spatial), 0)], list(range(1, w.ndim)))) for p, v in parts]
        return np.moveaxis(np.concatenate(made, -1), -1, 1)

    def want(self):
        codes = np.rint(self.sums / np.float64(self.y_scale)) + int(self.y_zero)
        info = np.iinfo(self.y_zero.dtype)
        assert info.min <= codes.min()
        assert codes.max() <= info.max
        if self.quant_format == "QOperator":
            return codes.astype(self.y_zero.dtype)
        return ((codes - int(self.y_zero)) * self.y_scale).astype(np.float32)

    def run(self, session):
        x = self.x
        if self.quant_format == "QDQ":
            x = (x.astype(np.float32) - np.float32(self.x_zero)).astype(np.float32)
        return session.run(None, {"x": x})[0]


def layers():
    """Return layers by name, and of each whether its sums can saturate."""
    rng = np.random.default_rng(3)
    full, seven = extremes(rng, (8, 4, 3, 3)), extremes(rng, (8, 4, 3, 3), 64)
    matrix = extremes(rng, (32, 8))
    unsigned = (full.astype(np.int16) + 128).astype(U8)
    made = {}
    for form in ("QOperator", "QDQ"):
        made |= {
            f"conv {form}": (Layer("Conv", full, quant_format=form), True),
            f"conv 1x1 {form}": (Layer("Conv", full[:, :, :1, :1], quant_format=form), True),
            f"conv 1d {form}": (Layer("Conv", full[:, :, :, 0], quant_format=form), True),
            f"groups {form}": (Layer("Conv", full[:, :2], group=2, quant_format=form), True),
            f"two filters a channel {form}": (Layer("Conv", full[:, :1], group=4, quant_format=form), True),
            f"gemm {form}": (Layer("Gemm", matrix, quant_format=form), True),
            f"matmul {form}": (Layer("MatMul", matrix, quant_format=form), True),
            f"7 bits {form}": (Layer("Conv", seven, quant_format=form), False),
            f"uint8 weights {form}": (Layer("Conv", unsigned, quant_format=form), False),
            f"depthwise {form}": (Layer("Conv", full[:, :1], group=8, quant_format=form), False),
            f"a norm {form}": (Layer("Conv", full[:, :1, :1, :1], group=8, quant_format=form), False),
            f"one product {form}": (Layer("Conv", full[:, :1, :1, :1], quant_format=form), False),
        }
        made |= {f"{name} {form}": (Layer(*layer, quant_format=form), not fits) for name, layer, fits in pairs()}
    for op, weights in (("Conv", full), ("MatMul", matrix)):
        made[f"int8 {op} QOperator"] = (Layer(op, weights, x_type=I8), False)
        made[f"int8 {op} QDQ"] = (Layer(op, weights, x_type=I8, quant_format="QDQ"), True)
    return made


def pairs():
    """Yield layers that have large weights, and whether those that are added first fit: in this order or in none.

    All input channels of a position of the kernel come before those of the next position.
    """
    rng = np.random.default_rng(11)
    for channels in (3, 4, 16):
        for kernel in ((1, 1), (3, 3), (2, 5), (3,), (2, 2, 3)):
            shape = 16, *kernel, channels
            fit = np.moveaxis(pairs_that_fit(rng, 16, np.prod(shape[1:])).reshape(shape), -1, 1)
            yield f"fitting pairs {channels} {kernel}", ("Conv", fit), True
            if np.prod(kernel) > 1:
                other = pairs_that_fit(rng, 16, np.prod(shape[1:])).reshape(16, channels, *kernel)
                yield f"pairs of another order {channels} {kernel}", ("Conv", other), False
    for products in (32, 33, 130):
        fit = pairs_that_fit(rng, 9, products)
        for op in ("Gemm", "MatMul"):
            yield f"fitting pairs {products} {op}", (op, np.ascontiguousarray(fit.T)), True
            yield f"pairs of another order {products} {op}", (op, np.roll(fit, 1, axis=1).T.copy()), False


LAYERS = layers()
each_layer = pytest.mark.parametrize("name", list(LAYERS))


# --- the sums ---------------------------------------------------------------------------------------------------


@each_layer
def test_sessions_are_exact(name):
    """On a CPU that saturates this fails where weights stay int8."""
    layer, _ = LAYERS[name]
    np.testing.assert_array_equal(layer.run(bno.session(layer.model)), layer.want())
    np.testing.assert_array_equal(layer.run(bno.session(layer.model, ort.SessionOptions())), layer.want())
    np.testing.assert_array_equal(layer.run(exact_session(layer.model)), layer.want())


@each_layer
def test_what_is_said_of_a_layer_is_what_a_plain_session_does(name):
    layer, can_saturate = LAYERS[name]
    assert saturating_layers(layer.model) == ["layer"] * can_saturate
    exact = np.array_equal(layer.run(plain_session(layer.model)), layer.want())
    assert exact == (not (can_saturate and bno.sums_saturate()))


@pytest.mark.parametrize(("weight", "can_saturate"), [(64, False), (65, True), (-64, False), (-65, True)])
def test_the_largest_weight_that_is_safe(weight, can_saturate):
    layer = Layer("MatMul", np.full((32, 8), weight, I8))
    assert saturating_layers(layer.model) == ["layer"] * can_saturate
    layer.x[:] = 255
    layer.x_zero = U8(0)
    exact = layer.x.astype(np.int32) @ layer.weights.astype(np.int32)
    assert abs(exact[0, 0]) == 32 * 255 * abs(weight)
    n = Nodes()
    n.input("x", U8, ["n", 32])
    n.node("MatMulInteger", ["x", n.constant("w", layer.weights)], "y")
    n.output("y", np.int32, None)
    session = plain_session(n.model())
    same = np.array_equal(session.run(None, {"x": layer.x})[0], exact)
    assert same == (not (can_saturate and bno.sums_saturate()))


def test_it_is_measured_once(monkeypatch):
    first = bno.sums_saturate()
    assert type(first) is bool

    def refuse(*_, **__):
        raise AssertionError

    monkeypatch.setattr(ort, "InferenceSession", refuse)
    assert bno.sums_saturate() is first


def test_kernels_that_do_not_saturate(monkeypatch):
    """Whatever this CPU does, the answer is what the sums say."""

    class Session:
        def __init__(self, cut):
            self.cut = cut

        def run(self, _, feeds):
            sums = feeds["x"].astype(np.int32) @ np.full((4, 16), 127, np.int32)
            return [np.minimum(sums, self.cut)]

    for cut, answer in ((2**31 - 1, False), (2 * 32767, True)):
        monkeypatch.setattr(ort, "InferenceSession", lambda *_, cut=cut, **__: Session(cut))
        assert saturation.sums_saturate.__wrapped__() is answer


# --- sessions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [False, True])
def test_models_are_changed_on_such_cpus_alone_with_options_or_without(monkeypatch, answer):
    monkeypatch.setattr("bytenorm.onnx.run.session.sums_saturate", lambda: answer)
    given = []
    open_session = ort.InferenceSession

    def note(source, *arguments, **named):
        given.append(source)
        return open_session(source, *arguments, **named)

    monkeypatch.setattr(ort, "InferenceSession", note)
    layer, _ = LAYERS["conv QDQ"]
    before = layer.model.SerializeToString()
    bno.session(layer.model)
    bno.session(layer.model, ort.SessionOptions())
    bno.session(layer.model, saturate=True)
    bno.session(layer.model, ort.SessionOptions(), saturate=True)
    bno.session(DIGITS)
    assert layer.model.SerializeToString() == before
    assert [source == before for source in given[:4]] == [not answer, not answer, True, True]
    assert given[4] == DIGITS
    with pytest.raises(TypeError, match=r"^saturate must be "):
        bno.session(DIGITS, saturate=1)


@pytest.mark.parametrize("name", ["conv QDQ", "conv QOperator", "int8 Conv QOperator"])
@pytest.mark.parametrize("external", [False, True])
def test_models_in_files(monkeypatch, capfd, tmp_path, name, external):
    monkeypatch.setattr("bytenorm.onnx.run.session.sums_saturate", lambda: True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    layer, _ = LAYERS[name]
    path = tmp_path / "model.onnx"
    onnx.save(layer.model, path, save_as_external_data=external, location="weights", size_threshold=0)
    session = bno.session(path)
    assert list((tmp_path / "temporary").iterdir()) == []
    np.testing.assert_array_equal(layer.run(session), layer.want())
    assert capfd.readouterr() == ("", "")


def test_files_that_are_no_models(monkeypatch, tmp_path):
    monkeypatch.setattr("bytenorm.onnx.run.session.sums_saturate", lambda: True)
    path = tmp_path / "model.onnx"
    for content in (None, b"nothing that is a model"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=r"^model_or_path .*model\.onnx': ONNX Runtime cannot load it: "):
            bno.session(path)


@pytest.mark.parametrize("shared", ["w", "w_zero", "w_real"])
def test_layers_that_share_a_weight(shared):
    """With ONNX Runtime's own option such models do not load."""
    layer, _ = LAYERS["gemm QDQ"]
    model = onnx.ModelProto()
    model.CopyFrom(layer.model)
    for node in layer.model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] == "x":
            continue
        twin = model.graph.node.add()
        twin.CopyFrom(node)
        kept = {"real", "x_scale", "x_zero", "y_scale", "y_zero", "w_scale", shared}
        if node.output[0] in (*kept, *(["w_real"] if shared == "w_real" else [])):
            model.graph.node.remove(twin)
            continue
        twin.name = f"{node.name}/twin"
        twin.output[0] += "/twin"
        for i, tensor in enumerate(twin.input):
            twin.input[i] = tensor if tensor in kept else f"{tensor}/twin"
    for tensor in layer.model.graph.initializer:
        made = model.graph.initializer.add()
        made.CopyFrom(tensor)
        made.name += "/twin"
    model.graph.output.append(onnx.helper.make_tensor_value_info("y/twin", onnx.TensorProto.FLOAT, None))
    assert len(saturating_layers(model)) == 2
    x = (layer.x.astype(np.float32) - np.float32(layer.x_zero)).astype(np.float32)
    for session in (bno.session(model), exact_session(model)):
        for got in session.run(None, {"x": x}):
            np.testing.assert_array_equal(got, layer.want())


def test_a_weight_without_a_zero_point():
    layer, _ = LAYERS["matmul QDQ"]
    model = onnx.ModelProto()
    model.CopyFrom(layer.model)
    (node,) = [n for n in model.graph.node if n.output[0] == "w_real"]
    del node.input[2]
    np.testing.assert_array_equal(layer.run(exact_session(model)), layer.want())


# --- what is said -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    return [{"image": rng.random((4, 1, 28, 28), dtype=np.float32)} for _ in range(3)]


def warnings_of(make, **options):
    with pytest.warns(UserWarning) as caught:  # at least that of the line below
        import warnings

        warnings.warn("nothing", UserWarning, stacklevel=1)
        made = make(**options)
    return made, [w for w in caught if w.category is bno.SaturationWarning]


@pytest.mark.thorough
@pytest.mark.parametrize("quant_format", ["QDQ", "QOperator"])
def test_quantize_and_lower_warn(monkeypatch, data, quant_format):
    for answer in (True, False):
        monkeypatch.setattr(saturation, "sums_saturate", lambda answer=answer: answer)
        made, said = warnings_of(
            bno.quantize,
            model=DIGITS,
            calibration_data=data,
            quant_format=quant_format,
            reduce_range=False,
        )
        assert len(said) == answer
        layers = saturating_layers(made)
        assert len(layers) == 11
        for warning in said:
            assert warning.filename == __file__
            text = str(warning.message)
            assert text.startswith("8-bit sums saturate on this CPU, ")
            assert "VNNI" in text
            assert f"11 layers, {layers[0]} the first" in text
            for way in ("Quantize with reduce_range=None, the default, or", "session.x64quantprecision = 1"):
                assert way in text
    monkeypatch.setattr(saturation, "sums_saturate", lambda: True)
    ways = [{}, {"reduce_range": True}, {"weight_type": "uint8", "per_channel": False}]
    if quant_format == "QDQ":  # in QOperator format ONNX Runtime's quantizer keeps weights per channel int8
        ways.append({"weight_type": "uint8"})
    for options in ways:
        made, said = warnings_of(
            bno.quantize, model=DIGITS, calibration_data=data, quant_format=quant_format, **options
        )
        assert (said, saturating_layers(made)) == ([], [])


def quantized_norm():
    """Return a quantized model with a norm in float and a convolution of full range."""
    n, w = Nodes(), np.random.default_rng(5)
    q = n.quantization("q", 0.1, U8(128))
    parameters = [n.constant(f"p{i}", np.ones(4), np.float32) for i in range(4)]
    weights = n.constant("w", extremes(w, (4, 4, 3, 3)))
    kernel = n.node("DequantizeLinear", [weights, *n.quantization("k", 0.01, I8(0))], "kernel")
    n.input("x", U8, ["n", 4, 8, 8])
    real = n.node("DequantizeLinear", ["x", *q], "real")
    n.node("QuantizeLinear", [n.node("BatchNormalization", [real, *parameters], "norm"), *q], "normed")
    n.node("Conv", [n.node("DequantizeLinear", ["normed", *q], "again"), kernel], "conv")
    n.node("QuantizeLinear", ["conv", *q], "y")
    n.output("y", U8, None)
    return n.model()


def test_lower_warns(monkeypatch):
    for answer in (True, False):
        monkeypatch.setattr(saturation, "sums_saturate", lambda answer=answer: answer)
        made, said = warnings_of(bno.lower, model=quantized_norm())
        assert saturating_layers(made) == ["conv"]
        assert [w.filename for w in said] == [__file__] * answer
        assert all("wrong numbers (conv)" in str(w.message) for w in said)


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("answer", [False, True])
def test_commands_tell(monkeypatch, capsys, tmp_path, data, answer):
    monkeypatch.setattr(saturation, "sums_saturate", lambda: answer)
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", image=data[0]["image"])
    onnx.save(quantized_norm(), "quantized.onnx")
    exact = "; the figures above are those of exact sums"
    commands = {
        ("quantize", DIGITS, "--data", "data.npz", "-o", "full.onnx", "--full-range"): ("full.onnx", exact),
        ("quantize", DIGITS, "--data", "data.npz", "-o", "fitted.onnx"): None,
        ("lower", "quantized.onnx", "-o", "lowered.onnx"): ("lowered.onnx", ""),
        ("compare", DIGITS, "full.onnx", "--data", "data.npz"): ("full.onnx", exact),
        ("compare", DIGITS, "fitted.onnx", "--data", "data.npz"): None,
    }
    for command, told in commands.items():
        assert main(command) == 0
        out, err = capsys.readouterr()
        notes = [line for line in out.splitlines() if line.startswith("note on ")]
        assert err == ""
        assert len(notes) == (told is not None and answer)
        for note in notes:
            assert note.startswith(f"note on {told[0]}: 8-bit sums saturate on this CPU, ")
            ours = command[0] != "lower"
            assert ("bytenorm quantize without --full-range" in note) is ours
            assert ("its quantizer's reduced range (7-bit weights" in note) is not ours
            assert note.endswith(f"(exact, slower){told[1]}")
        force = () if command[0] == "compare" else ("--force",)
        assert main([*command, *force, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["candidate_saturates" if command[0] == "compare" else "saturates"] is bool(notes)
    assert not found["reference_saturates"]


# --- what bytenorm judges by ------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_reports_do_not_depend_on_the_cpu(data):
    """The comparison is that of exact sums; tests/test_onnx_recalibration.py has the statistics that norms get."""
    made, report = quantize_with_report(DIGITS, data, lowering="exact", compare=True)
    want = [exact_session(onnx.load(DIGITS)).run(None, batch)[0].astype(np.float64) for batch in data]
    got = [exact_session(made).run(None, batch)[0].astype(np.float64) for batch in data]
    error = np.concatenate(want) - np.concatenate(got)
    snr = 10 * np.log10(np.sum(np.concatenate(want) ** 2) / np.sum(error**2))
    assert report.comparison.outputs[0].snr_db == pytest.approx(snr, rel=1e-3)
    assert snr > 20
