"""What does nothing in a float graph stands between no norm and its layer, nor between the parts of a norm."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from bytenorm import onnx as bno
from bytenorm.onnx.graph.graph import Graph
from bytenorm.onnx.model.weightless import inferred_types
from bytenorm.onnx.norms.float_graph import plain
from bytenorm.onnx.quantization.quantize import quantize_with_report

NOTHING = {
    "Identity": "{1} = Identity ({0})",
    "Dropout": "{1} = Dropout ({0})",
    "Dropout of a share": "{1} = Dropout ({0}, half, no)",
    "Cast": "{1} = Cast <to = 1> ({0})",
    "several": "{1}a = Identity ({0}) {1}b = Dropout ({1}a) {1} = Cast <to = 1> ({1}b)",
}
SOMETHING = {
    "a mask that is read": "{1}a, {1}m = Dropout ({0}) {1} = Where ({1}m, {1}a, {0})",
    "training": "{1} = Dropout ({0}, half, yes)",
    "another type": "{1}a = Cast <to = 10> ({0}) {1} = Cast <to = 1> ({1}a)",
    "an output": "{1} = Identity ({0})",
}


def network(between, outputs="float[N, 4, 6, 6] y"):
    made = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["": 17]> g (float[N, 3, 6, 6] x) => ({outputs})
        <float half = {{0.5}}, bool no = {{0}}, bool yes = {{1}},
         float[4] one = {{1, 1, 1, 1}}, float[4] zero = {{0, 0, 0, 0}},
         float[4] mean = {{0.1, 0.2, -0.3, 0.4}}, float[4] var = {{1, 2, 0.5, 0.7}},
         float[4, 1, 1] gain = {{1, 0.5, -0.7, 1.3}}, float[4, 1, 1] shift = {{0, 1, -1, 0.5}}> {{
            c = Conv (x, weight) {between.format("c", "d")}
            n = BatchNormalization (d, one, zero, mean, var) {between.format("n", "e")}
            s = Mul (e, gain) {between.format("s", "f")}
            t = Add (f, shift) y = Relu (t)
        }}""")  # fmt: skip
    weight = np.random.default_rng(1).normal(0, 0.4, (4, 3, 1, 1)).astype(np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
    return made


@pytest.mark.parametrize("what", NOTHING)
def test_what_does_nothing(what):
    model = network(NOTHING[what])
    (norm,) = bno.inspect(model).norms
    assert (norm.written, bool(norm.folds_into)) == ("BatchNormalization+Mul+Add", True)
    data = [{"x": np.random.default_rng(2).normal(size=(8, 3, 6, 6)).astype(np.float32)}]
    for quant_format in ("QDQ", "QOperator"):
        made, report = quantize_with_report(model, data, quant_format=quant_format, fast=True)
        assert (len(report.folded), report.outcomes) == (1, ())
        assert bno.compare(model, made, data).outputs[0].snr_db > 30


@pytest.mark.parametrize("what", SOMETHING)
def test_what_does_something_stays(what):
    outputs = ["y", "d", "e", "f"] if what == "an output" else ["y"]
    model = network(SOMETHING[what], ", ".join(f"float[N, 4, 6, 6] {name}" for name in outputs))
    before = [node.op_type for node in model.graph.node]
    assert [node.op_type for node in plain(Graph(model)).model.graph.node] == before


def test_what_is_named_stays():
    model = network(NOTHING["Identity"])
    data = [{"x": np.random.default_rng(2).normal(size=(8, 3, 6, 6)).astype(np.float32)}]
    made, _ = quantize_with_report(model, data, nodes_to_exclude=["e"], fast=True)
    assert "Identity" in [node.op_type for node in made.graph.node]


def test_the_numbers_are_the_same():
    model = network(NOTHING["several"])
    x = np.random.default_rng(3).normal(size=(2, 3, 6, 6)).astype(np.float32)
    want = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    made = plain(Graph(model)).model
    assert [node.op_type for node in made.graph.node] == ["Conv", "BatchNormalization", "Mul", "Add", "Relu"]
    np.testing.assert_allclose(
        ort.InferenceSession(made.SerializeToString()).run(None, {"x": x})[0], want, rtol=1e-6
    )


def test_a_norm_that_no_output_needs_is_none():
    model = network(NOTHING["Identity"])
    spare = onnx.helper.make_node("BatchNormalization", ["c", "one", "zero", "mean", "var"], ["spare"])
    model.graph.node.append(spare)
    assert len(bno.inspect(model).norms) == 1
    data = [{"x": np.random.default_rng(2).normal(size=(8, 3, 6, 6)).astype(np.float32)}]
    assert len(quantize_with_report(model, data, fast=True)[1].folded) == 1


RESHAPED = """<ir_version: 8, opset_import: ["": 13]>
g (float[N, 8, 4, 4] x) => (float[N, 8, 4, 4] y)
<float[2] one = {1, 1}, float[2] none = {0, 0}, float[8] gain = {1, 2, 1, 2, 1, 2, 1, 2},
 float[8] shift = {0, 0, 0, 0, 1, 1, 1, 1}> {
    groups = Constant <value_ints = [0, 2, -1]> ()
    size = Shape (x)
    a = Reshape (x, groups)
    b = InstanceNormalization (a, one, none)
    c = Reshape (b, size)
    y = BatchNormalization (c, gain, shift, shift, gain)
}"""


def test_as_many_axes_as_the_shape_of_another_tensor_has():
    """As torch exports GroupNorm. Up to opset 13 onnx infers nothing there."""
    model = onnx.parser.parse_model(RESHAPED)
    assert len(inferred_types(model)["c"][1]) == 4
    data = [{"x": np.random.default_rng(1).normal(size=(8, 8, 4, 4)).astype(np.float32)}]
    _, report = quantize_with_report(model, data, quant_format="QOperator")
    assert [outcome.problem for outcome in report.outcomes] == [""]
