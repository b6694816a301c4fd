"""int8 codes behind which numbers are only moved: ONNX Runtime 1.32 loads no such model of opset 21."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from bytenorm import onnx as bno
from bytenorm.onnx.graph.graph import Graph
from bytenorm.onnx.quantization.codes_first import move_codes_first

MODEL = """<ir_version: 9, opset_import: ["": %d, "com.microsoft": 1]>
g (float[1, 2, 4, 4] x) => (float y) <float s = {0.1}, %s z = {%d}, int64[2] shape = {2, -1}, int64[1] first = {0},
    int64[1] one = {1}> {
    c = QuantizeLinear (x, s, z)
    d = DequantizeLinear (c, s, z)
    %s
}"""
MOVERS = {
    "MaxPool": "y = MaxPool <kernel_shape = [2, 2]> (d)",
    "Transpose": "y = Transpose <perm = [0, 2, 3, 1]> (d)",
    "Reshape": "y = Reshape (d, shape)",
    "Squeeze": "y = Squeeze (d)",
    "Unsqueeze": "y = Unsqueeze (d, first)",
    "Slice": "y = Slice (d, first, one)",
    "two": "t = Transpose (d)\ny = MaxPool <kernel_shape = [1, 2]> (t)",
    "two readers": "t = Transpose (d)\nu = Squeeze (d)\nv = Sigmoid (u)\nw = Reshape (v, shape)\n"
    "a = Reshape (t, shape)\ny = Add (a, w)",
}


def parsed(mover, opset=21, kind="int8", zero=-126):
    return onnx.parser.parse_model(MODEL % (opset, kind, zero, MOVERS[mover]))


def run(model, level):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.random.default_rng(1).normal(size=(1, 2, 4, 4)).astype(np.float32)})[0]


@pytest.mark.parametrize("mover", MOVERS)
def test_the_same_numbers_in_every_session(mover):
    model = parsed(mover)
    want = run(model, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    graph = Graph(model)
    move_codes_first(graph)
    onnx.checker.check_model(graph.model)
    assert not any(
        node.op_type == "DequantizeLinear" and reader.op_type in MOVERS
        for node in graph.nodes
        for reader in graph.readers(node.output[0])
    )
    for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
        np.testing.assert_array_equal(run(graph.model, level), want)


@pytest.mark.parametrize("described", [{"opset": 20}, {"kind": "uint8", "zero": 3}])
def test_what_loads_stays(described):
    model = parsed("Transpose", **described)
    before = [node.op_type for node in model.graph.node]
    graph = Graph(model)
    move_codes_first(graph)
    assert [node.op_type for node in graph.model.graph.node] == before
    run(model, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)


@pytest.mark.filterwarnings("ignore::bytenorm.onnx.QuantizationWarning")
def test_quantize_makes_models_that_load():
    """Found by a random network (seed 96151)."""
    model = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["": 21]>
        g (float[N, 2, 4, 4] x) => (float[N, 2, 3, 3] y) {
            a = LeakyRelu (x)
            y = MaxPool <kernel_shape = [2, 2]> (a)
        }""")
    data = [{"x": np.random.default_rng(2).normal(size=(4, 2, 4, 4)).astype(np.float32)}]
    for activations in ("int8", "uint8"):
        made = bno.quantize(model, data, quant_format="QOperator", activation_type=activations)
        assert bno.compare(model, made, data).outputs[0].snr_db > 30
