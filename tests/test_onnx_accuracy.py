"""An 8-bit model that is far worse than it should be, or cannot be compared: kept, and said so."""

import json
import warnings

import numpy as np
import onnx
import pytest

from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.onnx.measurement.accuracy import complaints
from bytenorm.onnx.measurement.compare import compare
from bytenorm.onnx.measurement.comparison import Comparison, OutputComparison
from bytenorm.onnx.quantization import comparing
from bytenorm.onnx.quantization.quantize import quantize_with_report


def parsed(text):
    """Return a small network, written in ONNX's text: a convolution, a Relu, a norm, and what comes behind it."""
    start = """<float[2, 2, 1, 1] w = {1.0, 0.5, -0.5, 1.0}, float[2] g = {1.0, 2.0}, float[2] s = {0.1, -0.2},
        float[2] m = {0.0, 0.0}, float[2] v = {1.0, 1.0}, float six = {6.0}> {
        c = Conv (x, w)
        r = Relu (c)
        b = BatchNormalization (r, g, s, m, v)"""
    head = '<ir_version: 8, opset_import: ["": 17]> g (float[N, 2, 4, 4] x) => '
    model = onnx.parser.parse_model(head + text.replace("{", start, 1))
    for node in model.graph.node:
        node.name = node.output[0]
    return model


def batches(count=3, scale=1.0):
    rng = np.random.default_rng(4)
    return [{"x": (scale * rng.normal(size=(2, 2, 4, 4))).astype(np.float32)} for _ in range(count)]


PLAIN = parsed("(float[N, 2, 4, 4] y) { y = Relu (b) }")
SIZES = parsed("(float[N, 2, 4, 4] y, int64[4, K] n) { y = Relu (b)  n = NonZero (y) }")


def out(snr, *, name="y", problem="", broken=False):
    return OutputComparison(name, snr, 1.0, None, 0.1, 0, snr, problem, broken)


def said(ours, alone, lowest=10.0):
    other = None if alone is None else Comparison(tuple(alone), 1)
    return complaints(Comparison(tuple(ours), 1), other, lowest)


def test_what_is_far_worse():
    assert said([out(10.0)], None) == ()
    assert said([out(9.9)], None) == ("output 'y' has 9.9 dB of the float model's",)
    assert said([out(15.0)], [out(21.0)]) == ()
    text = "output 'y' has 15.0 dB of the float model's, ONNX Runtime's quantizer alone reaches 21.1 dB"
    assert said([out(15.0)], [out(21.1)]) == (text,)
    assert said([out(9.0)], [out(8.0)]) == ("output 'y' has 9.0 dB of the float model's",)
    assert said([out(15.0)], [out(np.nan, problem="it is empty")]) == ()
    assert said([out(15.0)], None, lowest=16) == ("output 'y' has 15.0 dB of the float model's",)
    assert len(said([out(1.0), out(50.0, name="z"), out(2.0, name="q")], None)) == 2
    assert said([out(np.nan, problem="it is empty")], None) == ()
    broken = out(np.nan, problem="the candidate's holds -inf for sample 0", broken=True)
    assert said([broken], None) == ("output 'y': the candidate's holds -inf for sample 0",)


def test_the_quantizer_alone_is_asked_only_in_doubt(monkeypatch):
    asked = []
    real = comparing.quantize_alone
    monkeypatch.setattr(comparing, "quantize_alone", lambda *args: asked.append(1) or real(*args))
    report = quantize_with_report(PLAIN, batches(), compare=True)[1]
    assert (asked, report.alone) == ([], None)
    monkeypatch.setattr("bytenorm.onnx.measurement.accuracy.DOUBTFUL", 200)
    report = quantize_with_report(PLAIN, batches(), compare=True)[1]
    assert asked == [1]
    # Its norm is in float, on 8-bit numbers, and rounded: as here, but for a step now and then.
    assert abs(report.alone.outputs[0].snr_db - report.comparison.outputs[0].snr_db) < 3

    def fails(*_):
        raise ValueError("model: ONNX Runtime's quantizer failed: it is tired")

    monkeypatch.setattr(comparing, "quantize_alone", fails)
    assert quantize_with_report(PLAIN, batches(), compare=True)[1].alone is None


def test_a_warning_for_each(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error", bno.QuantizationWarning)
        bno.quantize(PLAIN, batches())
    monkeypatch.setattr("bytenorm.onnx.measurement.accuracy.DOUBTFUL", 200)
    monkeypatch.setattr("bytenorm.onnx.measurement.accuracy.BEHIND", -100)
    with pytest.warns(bno.QuantizationWarning, match="output 'y' has .* dB of the float model's") as caught:
        bno.quantize(PLAIN, batches(), compare=True)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("fixed", [False, True])
def test_few_samples_tell_what_is_far_off(monkeypatch, fixed):
    asked = []
    monkeypatch.setattr("bytenorm.onnx.measurement.accuracy.DOUBTFUL", 200)
    monkeypatch.setattr(comparing, "quantize_alone", lambda *args: asked.append(1))
    model = onnx.ModelProto()
    model.CopyFrom(PLAIN)
    if fixed:  # no batch is less than one
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = 12
    data = [{"x": np.concatenate([feeds["x"] for feeds in batches(12)])}]
    report = quantize_with_report(model, data, fast=True)[1]
    assert report.comparison.samples == (12 if fixed else 4)
    assert (asked, report.alone) == ([], None)
    assert quantize_with_report(PLAIN, batches(1))[1].comparison.samples == 2


@pytest.mark.parametrize(("compare", "samples"), [(False, 4), (True, 24)])
def test_a_comparison_is_made_where_it_is_asked_for(monkeypatch, compare, samples):
    seen = []
    real = comparing.compare
    monkeypatch.setattr(
        comparing, "compare", lambda *args, **options: seen.append(real(*args, **options)) or seen[-1]
    )
    bno.quantize(PLAIN, batches(12), compare=compare, fast=True)
    assert [comparison.samples for comparison in seen] == [samples]


def test_what_was_judged_tells_what_is_far_off(monkeypatch):
    """The float network has run on the samples kept aside, and is not run again."""
    monkeypatch.setattr(comparing, "compare", None)
    made, report = quantize_with_report(PLAIN, batches(12))
    (output,) = report.comparison.outputs
    assert report.comparison.samples == 6  # of 24, in one batch
    aside = [{"x": np.concatenate([feeds["x"] for feeds in batches(12)])[3::4]}]
    (wanted,) = compare(PLAIN, made, aside).outputs
    assert output == wanted


def test_a_candidate_that_is_infinite_is_kept():
    model = parsed("(float[N, 2, 4, 4] y) { d = Mul (b, six)  u = Softmax <axis = 1> (d)  y = Log (u) }")
    with pytest.warns(bno.QuantizationWarning, match="output 'y': the candidate's holds -inf for sample 0"):
        made = bno.quantize(model, batches(scale=2.0))
    onnx.checker.check_model(made)


def test_sizes_that_depend_on_the_data():
    with warnings.catch_warnings():
        warnings.simplefilter("error", bno.QuantizationWarning)
        bno.quantize(SIZES, batches())
    _, report = quantize_with_report(SIZES, batches(20), compare=True)
    y, n = report.comparison.outputs
    assert y.snr_db > 25
    assert "has shape (4, " in n.problem


@pytest.mark.parametrize("error", [ValueError("candidate: no memory"), AttributeError("no shape"), MemoryError()])
def test_a_comparison_that_fails_costs_nothing(monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(comparing, "compare", fails)
    made, report = quantize_with_report(SIZES, batches(), compare=True)
    onnx.checker.check_model(made)
    why = str(error) or "MemoryError"
    assert [(one.name, one.problem) for one in report.comparison.outputs] == [(name, why) for name in "yn"]
    assert complaints(report.comparison, None) == (f"output 'y': {why}", f"output 'n': {why}")


def test_excluded_nodes_that_are_gone():
    model = parsed("(float[N, 2, 4, 4] y) { d = Neg (six)  e = Identity (b)  y = Add (d, e) }")
    with pytest.warns(bno.QuantizationWarning, match="nodes_to_exclude: ONNX Runtime's preparation left 'd' out"):
        bno.quantize(model, batches(), nodes_to_exclude=["d", "e"])


# --- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", x=np.concatenate([feeds["x"] for feeds in batches(10)]))
    for name, model in (("plain", PLAIN), ("sizes", SIZES)):
        onnx.save(model, f"{name}.onnx")
    return tmp_path


def quantized(capsys, model, *options):
    code = main(["quantize", model, "--data", "data.npz", "-o", "out.onnx", "--force", *options])
    out, err = capsys.readouterr()
    assert err.startswith("bytenorm: far from the float model: output 'y' has ") if code else not err
    assert err.count("\n") == (code != 0)
    return code, out


def test_the_command_fails_where_it_is_told_to(place, capsys):
    assert quantized(capsys, "plain.onnx", "--fail-below")[0] == 0
    code, text = quantized(capsys, "plain.onnx", "--fail-below", "200")
    assert code == 3
    assert "far from the float model: output 'y' has " in text
    assert "ONNX Runtime's quantizer alone reaches" not in text
    onnx.checker.check_model(onnx.load("out.onnx"))
    code, text = quantized(capsys, "plain.onnx", "--fail-below", "200", "--json")
    assert code == 3
    (far,) = json.loads(text)["far"]
    assert far.startswith("output 'y' has ")


def test_the_command_without_a_comparison(place, capsys):
    code, text = quantized(capsys, "plain.onnx", "--no-compare")
    assert code == 0
    assert "cosine" not in text
    code, text = quantized(capsys, "plain.onnx", "--no-compare", "--json")
    found = json.loads(text)
    assert (found["comparison"], found["alone"], found["far"]) == (None, None, [])
    assert (
        main(["quantize", "plain.onnx", "--data", "data.npz", "-o", "new.onnx", "--no-compare", "--fail-below"])
        == 2
    )
    assert "--fail-below wants the comparison that --no-compare leaves out" in capsys.readouterr().err
    assert not (place / "new.onnx").exists()


def test_the_command_says_what_cannot_be_compared(place, capsys):
    code, text = quantized(capsys, "sizes.onnx")
    assert code == 0
    assert "n: not comparable: the candidate's has shape (4, " in " ".join(text.split())
    code, text = quantized(capsys, "sizes.onnx", "--json")

    def no_number(text):
        raise AssertionError(text)

    found = json.loads(text, parse_constant=no_number)
    y, n = found["comparison"]["outputs"]
    assert y["problem"] == ""
    assert n["snr_db"] is None
    assert n["problem"].startswith("the candidate's has shape (4, ")
    assert found["far"] == found["not_excluded"] == []
    assert main(["compare", "sizes.onnx", "out.onnx", "--data", "data.npz"]) == 0
    assert "n: not comparable: " in capsys.readouterr().out
    assert main(["compare", "sizes.onnx", "out.onnx", "--data", "data.npz", "--json"]) == 0
    assert json.loads(capsys.readouterr().out, parse_constant=no_number)["outputs"][1] == n
