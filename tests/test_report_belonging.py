"""What a report says of float models and data that do not belong to the quantized model."""

import re

import numpy as np
import onnx
import pytest
from norm_models import Nodes
from onnx import numpy_helper

from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.report import gather, page

LAYERS = {"w1": "conv1", "w2": "depthwise", "w3": "conv2", "w4": "wide", "w5": "head"}


def network(seed=0):
    """Return layers whose norms fold back, forward, or stay; a product and a Gemm at the end."""
    n, rng = Nodes(), np.random.default_rng(seed)

    def constant(name, value):
        return n.constant(name, np.asarray(value), np.float32)

    def norm(x, c, name):
        values = (rng.uniform(0.3, 3, c), rng.normal(size=c), rng.normal(size=c) / 4, rng.uniform(0.2, 2, c))
        return n.node("BatchNormalization", [x, *(constant(f"{name}/{i}", v) for i, v in enumerate(values))], name)

    x = n.input("x", np.float32, ["n", 3, 8, 8])
    last = n.node("Conv", [x, constant("w1", rng.normal(size=(12, 3, 3, 3)))], "conv1", pads=[1] * 4)
    last = n.node("Relu", [norm(last, 12, "back")], "relu1")
    last = n.node("Conv", [last, constant("w2", rng.normal(size=(12, 1, 3, 3)))], "depthwise", group=12)
    last = norm(n.node("Relu", [last], "relu2"), 12, "forward")
    last = n.node("Conv", [last, constant("w3", rng.normal(size=(16, 12, 1, 1)))], "conv2")
    last = n.node("Relu", [norm(n.node("Relu", [last], "relu3"), 16, "stays")], "relu4")
    last = n.node("Flatten", [n.node("GlobalAveragePool", [last], "pool")], "flat")
    last = n.node("Relu", [n.node("MatMul", [last, constant("w4", rng.normal(size=(16, 10)))], "wide")], "relu5")
    last = n.node(
        "Gemm", [last, constant("w5", rng.normal(size=(6, 10))), constant("b", np.ones(6))], "head", transB=1
    )
    n.output(last, np.float32, ["n", 6])
    return n.model()


def samples(count=16, scale=1.0):
    return [{"x": (np.random.default_rng(1).normal(0.4, 1, (count, 3, 8, 8)) * scale).astype(np.float32)}]


def with_other(model, change, names=LAYERS):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name in names:
            value = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(change(value).astype(np.float32), tensor.name))
    return copy


def shuffled(value):
    return np.random.default_rng(2).permutation(value.ravel()).reshape(value.shape)


def trained_on(value):
    return value + np.random.default_rng(3).normal(size=value.shape) * 0.1 * value.std()


OPTIONS = [
    {"quant_format": form, "lowering": lowering, "per_channel": per_channel}
    for form, lowering, per_channel in (
        ("QDQ", "portable", True),
        ("QDQ", "qdq", False),
        ("QOperator", "exact", True),
        ("QOperator", "fused", False),
    )
]


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("options", OPTIONS)
def test_weights_that_are_not_the_models_are_refused(options):
    """All others, all trained a little further, or those of one layer alone; the model's own are not."""
    model = network()
    made = bno.quantize(model, samples(), fast=True, **options)
    assert gather(made, samples(4), reference=model).drift
    for change, names in (
        (shuffled, LAYERS),
        (trained_on, LAYERS),
        *((shuffled, [name]) for name in ("w1", "w4")),
    ):
        with pytest.raises(
            ValueError, match=r"^reference: its weights are not those of the model in \d of \d layers"
        ):
            gather(made, samples(4), reference=with_other(model, change, names))


def test_gains_of_channels_do_not_count():
    """As a quantizer leaves them that equalizes the weights of one layer with those of the next."""
    model = network()
    gains = np.random.default_rng(4).uniform(0.5, 2, 16)
    equal = with_other(model, lambda w: w * gains[:, None, None, None], ["w3"])
    equal = with_other(equal, lambda w: w / gains[:, None], ["w4"])
    made = bno.quantize(model, samples(), fast=True)
    assert gather(made, samples(4), reference=equal).drift


def test_the_command_names_the_float_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(bno.quantize(network(), samples(), fast=True), "small.onnx")
    onnx.save(network(seed=9), "other.onnx")
    np.savez("data.npz", **samples(4)[0])
    arguments = ["report", "small.onnx", "--data", "data.npz", "-o", "r.html", "--float", "other.onnx"]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("bytenorm: error: --float 'other.onnx': its weights are not those of the model in ")
    assert said.endswith("is it the float model that the quantized one was made of?\n")


@pytest.mark.thorough(but=2)
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
@pytest.mark.parametrize(("scale", "there"), [(255, True), (1 / 2550, True), (1, False)])
def test_data_of_another_scale_is_named(form, scale, there):
    model = network()
    made = bno.quantize(model, samples(), fast=True, quant_format=form)
    said = gather(made, samples(8, scale), reference=model, limit=8).unlike
    alone = gather(made, samples(8, scale)).unlike
    if not there:
        assert (said, alone) == ("", "")
        return
    assert re.match(r"the data is unlike what the norm back was trained on: .* mean .*, its statistics say ", said)
    mean, deviation = samples(8, scale)[0]["x"].mean(), samples(8, scale)[0]["x"].std()
    assert alone.startswith(
        f"the data is unlike what calibrated the model: x has mean {mean:.4g} and deviation {deviation:.4g}, its "
    )


def test_the_command_and_the_page_say_first_what_matters(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = network()
    onnx.save(bno.quantize(model, samples(), fast=True), "small.onnx")
    onnx.save(model, "float.onnx")
    np.savez("data.npz", **samples(8, 255)[0])
    arguments = ["report", "small.onnx", "--data", "data.npz", "-o", "r.html", "--float", "float.onnx"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    places = [out.index(text) for text in ("warning: the data is unlike", "outputs: ", "\nnorm ", "\ntensor ")]
    assert places == sorted(places)
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    places = [text.index(part) for part in ("The data is unlike", "tensors were put in float", "<table>")]
    assert places == sorted(places)


def test_the_title_speaks_of_norms_where_there_are_some():
    n = Nodes()
    x = n.input("x", np.float32, ["n", 4])
    n.output(n.node("MatMul", [x, n.constant("w", np.eye(4), np.float32)], "y"), np.float32, ["n", 4])
    model, data = n.model(), [{"x": np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)}]
    text = page(gather(bno.quantize(model, data), data, reference=model), model="m.onnx", data="d")
    assert "<h1>Quantization of m.onnx</h1>" in text
    assert "quantization of each tensor costs" in text


def test_norms_of_another_checkpoint_are_told_by_the_outputs():
    """Weights tell other layers; a norm that stays has parameters that re-estimation may have moved."""
    model = network()
    made = bno.quantize(model, samples(32))
    stays = [f"stays/{i}" for i in range(4)]
    other = with_other(model, lambda value: np.roll(value, 1), stays)
    assert gather(made, samples(8), reference=model).unlike == ""
    said = gather(made, samples(8), reference=other).unlike
    assert re.fullmatch(
        r"the outputs have -?\d+\.\d dB here and had \d+\.\d dB when the model was made: "
        r"is the float model the one that it was made of, and are the samples of the same kind\?", said
    )  # fmt: skip
