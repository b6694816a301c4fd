"""What only loses in 8 bits stays in float."""

import numpy as np
import onnx
import pytest
from norm_models import Nodes

from bytenorm import onnx as bno
from bytenorm.onnx.graph import Graph
from bytenorm.onnx.quantization import quantize_with_report
from bytenorm.onnx.weak_spots import squashing_ends

C = 6


def network(*ops, behind=(), other=False):
    """Return a layer, then these operators, then those that move what they make."""
    n, rng = Nodes(), np.random.default_rng(1)
    x = n.input("x", np.float32, ["n", C])
    weight = n.constant("weight", rng.normal(size=(C, C)) * 2, np.float32)
    last = n.node("Gemm", [x, weight, n.constant("bias", rng.normal(size=C), np.float32)], "logits")
    for op in ops:
        last = n.node(op, [last], op.lower())
    for op in behind:
        last = n.node(op, [last], f"{op.lower()}2")
    if other:
        last = n.node("Gemm", [last, n.constant("more", rng.normal(size=(C, C)), np.float32)], "again")
    n.output(last, np.float32, ["n", C])
    return n.model()


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Sigmoid", "Tanh"])
@pytest.mark.parametrize("behind", [(), ("Identity",), ("Identity", "Transpose")])
def test_at_an_output(op, behind):
    (node,) = squashing_ends(Graph(network(op, behind=behind)))
    assert node.op_type == op


@pytest.mark.parametrize("model", [network("Softmax", other=True), network("Relu"), network("Sigmoid", "Relu")])
def test_in_the_middle(model):
    assert squashing_ends(Graph(model)) == []


@pytest.mark.parametrize("quant_format", ["QDQ", "QOperator"])
@pytest.mark.parametrize("op", ["Softmax", "Sigmoid"])
def test_it_stays_in_float(op, quant_format):
    model = network(op)
    data = [{"x": np.random.default_rng(2).normal(size=(4, C)).astype(np.float32)}]
    made, report = quantize_with_report(model, data, quant_format=quant_format)
    assert report.weak == (f"{op} {op.lower()}",)
    assert [node.op_type for node in made.graph.node][-1] == op
    got = bno.session(made).run(None, data[0])[0].astype(np.float64)
    assert np.abs(got * 255 - np.rint(got * 255)).max() > 0.1  # no codes
    onnx.checker.check_model(made)
