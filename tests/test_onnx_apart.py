"""Models that ONNX Runtime dies of: they run in another process, whose end is an error in words."""

import os

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.onnx.quantization.quantize import quantize_with_report
from bytenorm.onnx.run import apart

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
DIED = (
    r"ONNX Runtime .* ended its process \(SIG\w+\): it is known to do so in an 8-bit Add or Mul of an empty tensor"
)
node = helper.make_node


def model(written, shape=("N", 4), empty=0, operator="Mul"):
    """Return a model with an 8-bit Mul of a tensor that is empty, or of `empty` columns, and a number."""
    q = ["s", "z"]
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Shape", ["r"], ["rows"], start=0, end=1),
        node("Concat", ["rows", "columns"], ["shape"], axis=0),
        node("ConstantOfShape", ["shape"], ["e"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])),
        node("QuantizeLinear", ["e", *q], ["e8"]),
    ]
    if written == "QDQ":
        nodes += [
            node("DequantizeLinear", ["e8", *q], ["a"]),
            node("DequantizeLinear", ["b8", *q], ["b"]),
            node(operator, ["a", "b"], ["m"]),
            node("QuantizeLinear", ["m", *q], ["m8"]),
        ]
    else:
        nodes.append(node(f"QLinear{operator}", ["e8", *q, "b8", *q, *q], ["m8"], domain="com.microsoft"))
    nodes += [node("DequantizeLinear", ["m8", *q], ["d"]), node("Concat", ["r", "d"], ["y"], axis=1)]
    values = {"s": np.float32(0.1), "z": np.uint8(3), "b8": np.uint8(7), "columns": np.array([empty])}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=OPSETS)


@pytest.fixture(scope="module")
def threads():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2  # one alone survives
    return options


def fed(rng):
    return [{"x": rng.normal(size=(3, 4)).astype(np.float32)}]


@pytest.mark.parametrize(("written", "operator"), [("QDQ", "Mul"), ("QOperator", "Add")])
def test_a_process_that_dies_is_an_error(rng, threads, written, operator):
    made = model(written, operator=operator)
    with pytest.raises(ValueError, match="reference: ONNX Runtime cannot run it: " + DIED):
        bno.compare(made, made, fed(rng), sess_options=threads)


def test_what_survives_there_gives_its_numbers(rng, threads):
    made, data = model("QOperator", empty=2), fed(rng)
    assert not apart.may_be_fatal(made)
    run = apart.Apart(made, threads)
    here = bno.session(made, threads)
    for got, want in zip(run.run(None, data[0]), here.run(None, data[0]), strict=True):
        np.testing.assert_array_equal(got, want)
    for got, want in ((run.get_inputs(), here.get_inputs()), (run.get_outputs(), here.get_outputs())):
        assert [(end.name, end.type, end.shape) for end in got] == [(e.name, e.type, e.shape) for e in want]
    with pytest.raises(ValueError, match="invalid dimensions for input: x"):
        run.run(None, {"x": np.zeros((1, 5), np.float32)})


def test_what_cannot_be_loaded_there_is_said(threads):
    made = model("QOperator", operator="Nothing")
    with pytest.raises(ValueError, match="QLinearNothing"):
        apart.Apart(made, threads)


def residual(height, written):
    """Return a model with an 8-bit Add of an input and a convolution of it."""
    q = ["s", "z"]
    nodes = [
        node("QuantizeLinear", ["x", *q], ["x8"]),
        node("QLinearConv", ["x8", *q, "w8", *q, *q], ["c8"]),
        node("QLinearAdd", ["x8", *q, "c8", *q, *q], ["y8"], domain="com.microsoft"),
        node("DequantizeLinear", ["y8", *q], ["y"]),
    ]
    if written == "QDQ":
        nodes[2:3] = [
            node("DequantizeLinear", ["x8", *q], ["a"]), node("DequantizeLinear", ["c8", *q], ["b"]),
            node("Add", ["a", "b"], ["m"]), node("QuantizeLinear", ["m", *q], ["y8"]),
        ]  # fmt: skip
    values = {"s": np.float32(0.1), "z": np.uint8(3), "w8": np.full((2, 2, 1, 1), 7, np.uint8)}
    shape = ["N", 2, height, 5]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )  # fmt: skip
    return helper.make_model(graph, ir_version=8, opset_imports=OPSETS)


@pytest.mark.parametrize("written", ["QDQ", "QOperator"])
def test_what_runs_apart(tmp_path, written):
    """Nothing of which sizes are known: a process takes half a second to start."""
    for height, fatal in ((4, False), (None, True)):
        made = residual(height, written)
        assert apart.may_be_fatal(made) == fatal
        onnx.save(made, tmp_path / "m.onnx")
        assert apart.may_be_fatal(tmp_path / "m.onnx") == fatal
    assert not apart.may_be_fatal(bno.digits_model())


def test_quantize_says_so_and_keeps_the_model(rng):
    """The quantizer makes the 8-bit Mul that ONNX Runtime dies of when the result is compared.

    What is empty for all samples has no range and stays in float: here it is empty for some.
    """
    nodes = [
        node("BatchNormalization", ["x", *"wbmv"], ["n"]),
        node("MatMul", ["n", "k"], ["r"]),
        node("Shape", ["r"], ["rows"], start=0, end=1),
        node("ReduceMax", ["x"], ["top"], keepdims=0),
        node("Sign", ["top"], ["sign"]),
        node("Relu", ["sign"], ["positive"]),
        node("Cast", ["positive"], ["any"], to=TensorProto.INT64),
        node("Reshape", ["any", "one"], ["columns"]),
        node("Concat", ["rows", "columns"], ["shape"], axis=0),
        node("ConstantOfShape", ["shape"], ["e"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])),
        node("Mul", ["e", "big"], ["p"]),
        node("Concat", ["r", "p"], ["y"], axis=1),
    ]
    values = dict.fromkeys("wbmv", np.ones(4, np.float32)) | {"k": np.eye(4, dtype=np.float32)}
    values |= {"one": np.array([1]), "big": np.float32(-3)}
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=8, opset_imports=OPSETS[:1])
    some = [abs(fed(rng)[0]["x"]), -abs(fed(rng)[0]["x"])]
    made, report = quantize_with_report(model, [{"x": x} for x in some], compare=True)
    assert "Mul" in {n.op_type for n in made.graph.node}
    (output,) = report.comparison.outputs
    assert "ended its process" in output.problem or len(os.sched_getaffinity(0)) == 1


@pytest.mark.parametrize("command", ["compare", "bench"])
def test_the_commands_end_with_one_line(rng, tmp_path, capsys, command):
    file, data = tmp_path / "m.onnx", tmp_path / "x.npy"
    onnx.save(model("QDQ"), file)
    np.save(data, fed(rng)[0]["x"])
    more = ["--threads", "2"] if command == "bench" else []
    assert main([command, str(file), str(file), "--data", str(data), *more]) == 2
    said = capsys.readouterr().err
    assert "ended its process" in said
    assert said.count("\n") == 1
