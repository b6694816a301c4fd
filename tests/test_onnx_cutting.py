"""A part of a graph as a model of its own: the whole graph, run in ONNX Runtime, is the oracle."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bytenorm import onnx as bno
from bytenorm.onnx.graph.cutting import cut, feed
from bytenorm.onnx.graph.graph import Graph

MODEL = """<ir_version: 9, opset_import: ["": 17]> g (
    float[N, 3] x, float[N, 3] other) => (float[N, 3] y, float[N, 3] z) {
    a = Add (x, shift)
    yes = Greater (top, none)
    top = ReduceMax <keepdims = 0> (a)
    b = If (yes) <then_branch = t () => (float[N, 3] r) { r = Neg (a) }, else_branch = e () => (float[N, 3] s) {
        s = Mul (a, scale) }>
    y = Mul (b, sparse)
    z = Add (other, y)
}"""
DATA = {
    name: np.random.default_rng(i).normal(size=(4, 3)).astype(np.float32) for i, name in enumerate(("x", "other"))
}


@pytest.fixture
def graph():
    model = onnx.parser.parse_model(MODEL)
    constants = {"shift": [1, 2, 3], "scale": [0.5, 1, 2], "none": 0}
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    values = numpy_helper.from_array(np.array([2], np.float32), "sparse")
    places = numpy_helper.from_array(np.array([1]), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [3]))
    return Graph(model)


def whole(graph, names):
    made = onnx.ModelProto()
    made.CopyFrom(graph.model)
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in "yz")
    Graph(made).finish()  # puts the nodes in order
    return bno.session(made).run(names, DATA)


@pytest.mark.parametrize("names", [["a"], ["b"], ["y"], ["z"], ["b", "a"], ["top", "y"]])
def test_what_it_makes(graph, names):
    part = cut(graph, names)
    assert [value.name for value in part.graph.output] == names
    for want, got in zip(whole(graph, names), bno.session(part).run(names, feed(part, DATA)), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("name", "inputs", "nodes", "constants"),
    [("a", ["x"], 1, ["shift"]), ("y", ["x"], 5, ["none", "scale", "shift"]), ("z", ["other", "x"], 6, None)],
)
def test_it_has_nothing_else(graph, name, inputs, nodes, constants):
    part = cut(graph, [name])
    assert sorted(value.name for value in part.graph.input) == inputs
    assert len(part.graph.node) == nodes
    if constants is not None:
        assert sorted(tensor.name for tensor in part.graph.initializer) == constants
        assert [t.values.name for t in part.graph.sparse_initializer] == ["sparse"] * (name == "y")


def test_tensors_that_are_there_are_read(graph):
    known = {"b": np.ones((2, 3), np.float32), "unused": np.zeros(1)}
    part = cut(graph, ["y"], known)
    assert [(v.name, v.type.tensor_type.elem_type) for v in part.graph.input] == [("b", onnx.TensorProto.FLOAT)]
    assert len(part.graph.node) == 1
    np.testing.assert_array_equal(bno.session(part).run(None, feed(part, known))[0], [[0, 2, 0]] * 2)


def test_an_input_itself(graph):
    part = cut(graph, ["x"])
    assert ([v.name for v in part.graph.input], list(part.graph.node)) == (["x"], [])
