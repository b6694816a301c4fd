"""What only loses in 8 bits stays in float."""

import numpy as np
import onnx
import pytest
from norm_models import Nodes

from bytenorm import onnx as bno
from bytenorm.onnx.graph.graph import Graph
from bytenorm.onnx.quantization.quantize import quantize_with_report
from bytenorm.onnx.quantizer.weak_spots import squashing_ends

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


def attention(mask, op, *, names=True):
    """Return a norm whose output is masked, squashed and multiplied with itself."""
    n, rng = Nodes(), np.random.default_rng(3)
    x = n.input("x", np.float32, ["n", C, 5, 5])
    vectors = [n.constant(f"v{i}", rng.uniform(0.5, 1.5, C), np.float32) for i in range(4)]
    relu = n.node("Relu", [x], "relu")
    norm = n.node("BatchNormalization", [relu, *vectors], "norm")
    hidden = np.arange(5) > 2
    if op == "Where":
        there = [n.constant("seen", ~hidden), norm, n.constant("mask", mask, np.float32)]
    else:
        there = [norm, n.constant("mask", np.where(hidden, mask, 0), np.float32)]
    masked = n.node(op, there, "masked")
    flat = n.node("Reshape", [masked, n.constant("shape", [0, C, 25 // 5, 5], np.int64)], "flat")
    weights = n.node("Softmax", [flat], "weights", axis=3)
    n.output(n.node("MatMul", [weights, norm], "y"), np.float32, ["n", C, 5, 5])
    model = n.model()
    for node in model.graph.node:
        node.name = node.name if names else ""
    return model


@pytest.mark.thorough(but=4)
@pytest.mark.parametrize("calibrate_method", [None, "percentile"])
@pytest.mark.parametrize("op", ["Add", "Where"])
@pytest.mark.parametrize("mask", [-np.inf, np.finfo(np.float32).min, -1e9, -1e4])
def test_masks_stay_in_float(mask, op, calibrate_method):
    """ONNX Runtime's quantizer stops at an infinity, and leaves 5 dB behind the others."""
    data = [{"x": np.random.default_rng(4).normal(size=(8, C, 5, 5)).astype(np.float32)}]
    for quant_format, names in (("QDQ", True), ("QOperator", False)):
        model = attention(mask, op, names=names)
        made, report = quantize_with_report(
            model, data, quant_format=quant_format, calibrate_method=calibrate_method, fast=True
        )
        assert [outcome.problem for outcome in report.outcomes] == [""]
        assert {text.split()[0] for text in report.weak} >= {op, "Softmax"}
        want, got = (bno.session(m).run(None, data[0])[0] for m in (model, made))
        assert 10 * np.log10(np.sum(want**2) / np.sum((want - got) ** 2)) > 30


def test_what_is_not_hidden_is_no_mask():
    """A summand of 1e-3 beside one of 1 is small, but nothing squashes the sum."""
    n, rng = Nodes(), np.random.default_rng(5)
    x = n.input("x", np.float32, ["n", C])
    small = n.node("Gemm", [x, n.constant("w", rng.normal(size=(C, C)) * 1e-4, np.float32)], "small")
    n.output(
        n.node("Relu", [n.node("Add", [small, n.node("Relu", [x], "large")], "sum")], "y"), np.float32, ["n", C]
    )
    data = [{"x": rng.normal(size=(8, C)).astype(np.float32)}]
    assert quantize_with_report(n.model(), data, fast=True)[1].weak == ()
