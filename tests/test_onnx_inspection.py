"""What is told of the norms of a model."""

import json

import numpy as np
import onnx
import pytest
from onnx import helper
from written_norms import ANY, BN, BYTES, QDQ, f32, model, qdq

from bytenorm import onnx as bno

DIGITS = """\
norm             channels  written as                 reads                        runs in  folds into
input/norm              1  BatchNormalization         input image                  float    no: it reads an input of the model; forward: the Conv stem/conv pads it with zeros
stem/norm              24  BatchNormalization + Relu  Conv stem/conv               float    Conv stem/conv
residual1/norm1        24  BatchNormalization + Relu  MaxPool stem/pool            float    no: it reads the MaxPool stem/pool
residual1/norm2        24  BatchNormalization + Relu  Conv residual1/conv1         float    Conv residual1/conv1
residual2/norm1        24  BatchNormalization + Relu  Add residual1/add            float    no: it reads the Add residual1/add
residual2/norm2        24  BatchNormalization + Relu  Conv residual2/conv1         float    Conv residual2/conv1
dense1/norm1           24  BatchNormalization + Relu  Add residual2/add            float    no: it reads the Add residual2/add
dense1/norm2           40  BatchNormalization + Relu  Concat dense1/concat1        float    no: it reads the Concat dense1/concat1
transition/norm        56  BatchNormalization + Clip  Concat dense1/concat2        float    no: it reads the Concat dense1/concat2
dense2/norm1           40  BatchNormalization + Relu  AveragePool transition/pool  float    no: it reads the AveragePool transition/pool
dense2/norm2           72  BatchNormalization + Relu  Concat dense2/concat1        float    no: it reads the Concat dense2/concat1
head/norm             104  BatchNormalization + Relu  Concat dense2/concat2        float    no: it reads the Concat dense2/concat2
12 batch norms: 12 in float, 0 in 8 bits; 3 can be folded"""  # noqa: E501


def test_the_digits_network():
    inspection = bno.inspect(bno.digits_model())
    assert str(inspection) == DIGITS
    assert len(inspection.in_float) == 12
    assert [n.name for n in inspection.foldable] == ["stem/norm", "residual1/norm2", "residual2/norm2"]
    assert not inspection.quantized


def test_as_plain_data():
    inspection = bno.inspect(qdq(BN, b=f32(1, 2)))
    back = json.loads(json.dumps(inspection.to_dict()))
    assert back == {
        "norms": [
            {
                "name": "n", "channels": None, "written": "BatchNormalization", "reads": "input x",
                "activation": "", "runs_in": "float", "folds_into": "",
                "reason": "it reads 8-bit data", "lowerable": False,
                "problem": "its parameters have different lengths: scale 3, B 2, input_mean 3, input_var 3",
                "pattern": "", "unfused": "", "forward": False, "reason_forward": "",
            }
        ],
        "opset": 17,
        "ir_version": 8,
        "quantized": True,
        "note": "",
    }  # fmt: skip
    assert inspection.rows() == [
        ("n", "?", "BatchNormalization", "input x", "float", "no: it reads 8-bit data"),
    ]


@pytest.mark.parametrize(
    ("made", "quantized"),
    [
        (qdq(BN), True),
        (
            model(
                f"{QDQ} {{ y = QLinearConv(x, s, z, k, s, z, s, z) }}", **BYTES, k=np.ones((3, 3, 1, 1), np.uint8)
            ),
            True,
        ),
        (model(f"{ANY} {{ y = Relu(x) }}"), False),
    ],
)
def test_whether_anything_is_quantized(made, quantized):
    assert bno.inspect(made).quantized == quantized


def test_a_model_is_not_changed(tmp_path):
    made = qdq(BN)
    before = made.SerializeToString()
    inspection = bno.inspect(made)
    assert made.SerializeToString() == before
    onnx.save(made, tmp_path / "m.onnx")
    assert bno.inspect(tmp_path / "m.onnx") == bno.inspect(str(tmp_path / "m.onnx")) == inspection


def test_what_is_no_model():
    with pytest.raises(TypeError, match=r"^model must .*got bytes$"):
        bno.inspect(b"model")
    with pytest.raises(FileNotFoundError, match=r"^model 'nowhere.onnx' does not exist$"):
        bno.inspect("nowhere.onnx")


@pytest.mark.thorough
def test_norms_inside_functions_of_the_model():
    """Exporters wrap modules into functions; the digits of such a model say nothing else than written out."""
    digits = onnx.load(bno.digits_model())
    inner = next(n for n in digits.graph.node if n.name == "head/norm")
    names = [f"in{i}" for i in range(5)]
    body = helper.make_node("BatchNormalization", names, ["out"], name="norm", epsilon=inner.attribute[0].f)
    function = helper.make_function("user", "Head", names, ["out"], [body], [helper.make_opsetid("", 17)])
    digits.functions.append(function)
    digits.opset_import.append(helper.make_opsetid("user", 1))
    call = helper.make_node("Head", list(inner.input), list(inner.output), name="head", domain="user")
    inner.CopyFrom(call)
    assert len(bno.inspect(digits).norms) == 12
    images = {"image": np.random.default_rng(0).random((8, 1, 28, 28), dtype=np.float32)}
    for lowering in ("portable", "exact"):
        made = bno.quantize(digits, [images], lowering=lowering)
        assert len(bno.inspect(made).norms) == 9
        assert not bno.inspect(made).in_float
        assert [f.name for f in made.functions] == (["QLinearBatchNormalization"] if lowering == "exact" else [])
