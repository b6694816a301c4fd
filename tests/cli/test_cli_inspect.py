"""``bytenorm inspect``."""

import re
from pathlib import Path

import onnx
from command_line import DIGITS, as_json, documented, keys_of, parsed

from bytenorm import onnx as bno


def test_inspect_a_float_model(output):
    lines = output("inspect", DIGITS).splitlines()
    assert lines[0].startswith(f"{DIGITS}: float, ")
    assert lines[-1] == "12 batch norms: 12 in float, 0 in 8 bits; 3 can be folded"
    assert lines[1].split("  ")[0] == "norm"
    assert lines[-3:-1] == [
        "folded: the layer's weights take the norm up, which costs nothing then",
        "forward: into the layer behind the norm",
    ]
    assert len(lines) == 5 + 12
    (row,) = (line for line in lines if line.startswith("stem/norm "))
    assert re.split(r" {2,}", row) == [
        "stem/norm",
        "24",
        "BatchNormalization + Relu",
        "Conv stem/conv",
        "yes",
    ]


def test_inspect_quantized_models(made, output):
    out = output("inspect", made / "portable.onnx")
    assert "9 batch norms: 0 in float, 9 in 8 bits" in out
    assert len(re.findall(r" 8 bits +-\n", out)) == 9
    out = output("inspect", made / "stock.onnx")
    assert re.search(r"^first +2 .* float, can be lowered +no: it reads the input x$", out, re.MULTILINE)
    assert re.search(r"^seen +2 .* float: its output is also read in float", out, re.MULTILINE)


def test_inspect_as_json(made, output, capsys):
    found = as_json(output("inspect", made / "stock.onnx", "--json"))
    assert found == {
        "model": str(made / "stock.onnx"),
        "in_float": 2,
        "in_8_bits": 0,
        "foldable": 0,
    } | bno.inspect(made / "stock.onnx").to_dict() | {"norms": found["norms"]}
    assert found["norms"] == [dict(norm.__dict__) for norm in bno.inspect(made / "stock.onnx").norms]
    assert keys_of(found) <= documented(capsys, "inspect")


def test_a_model_without_norms(place, output):
    Path("plain.onnx").write_bytes(parsed("g (float[2] x) => (float[2] y) { y = Relu (x) }"))
    assert output("inspect", "plain.onnx").splitlines()[1:] == ["no batch norm found"]
    assert as_json(output("inspect", "plain.onnx", "--json"))["norms"] == []


def test_names_cannot_reach_the_terminal(place, output):
    model = onnx.load_model(DIGITS)
    model.graph.node[0].name = "red\x1b[31m\nnext [bold]line"
    Path("odd.onnx").write_bytes(model.SerializeToString())
    out = output("inspect", "odd.onnx")
    assert r"red\x1b[31m next [bold]line" in out
    assert len(out.splitlines()) == 17
    assert as_json(output("inspect", "odd.onnx", "--json"))["norms"][0]["name"] == model.graph.node[0].name
