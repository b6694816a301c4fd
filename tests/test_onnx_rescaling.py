"""Scales that change in a made graph. The oracle is ONNX Runtime's quantizer, told them beforehand."""

import re

import numpy as np
import onnx
import pytest
from norm_models import Nodes
from onnx import helper
from random_networks import RandomNetwork

from bytenorm import onnx as bno
from bytenorm.onnx.quantizer.static_quantizer import StaticQuantizer
from bytenorm.onnx.scales.rescaling import activations, set_qparams


class StoppedError(Exception):
    pass


def quantizer_of(monkeypatch, model, data, **options):
    """Return what `quantize` runs, before it does."""

    def stop(quantizer, name=""):
        raise StoppedError(quantizer)

    with monkeypatch.context() as patch:
        patch.setattr(StaticQuantizer, "run", stop)
        with pytest.raises(StoppedError) as stopped:
            bno.quantize(model, data, **options)
    return stopped.value.args[0]


def told(quantizer, qparams, signed):
    """Quantize once more, with these scales and zero points."""
    kind = np.int8 if signed else np.uint8
    quantizer._overrides = {
        tensor: [{"scale": np.array(scale, np.float32), "zero_point": np.array(zero_point, kind)}]
        for tensor, (scale, zero_point) in qparams.items()
    }
    return quantizer.run()[0]


def contents(graph):
    graph.finish()
    proto = graph.model.graph
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.initializer}
    return constants, [node.SerializeToString() for node in proto.node]


def assert_same(graph, other):
    (constants, nodes), (wanted, wanted_nodes) = contents(graph), contents(other)
    assert nodes == wanted_nodes
    assert constants.keys() == wanted.keys()
    for name, value in wanted.items():
        assert constants[name].dtype == value.dtype, name
        np.testing.assert_array_equal(constants[name], value, err_msg=name)


def changes(rng, quantizer, graph):
    """Draw other scales, smaller ones: codes must not reach beyond the limits of a Relu that was dropped."""
    limits = {t for node in quantizer._graph.nodes if node.op_type in ("Relu", "Clip") for t in node.input}
    limits |= {t for node in quantizer._graph.nodes if node.op_type in ("Relu", "Clip") for t in node.output}
    drawn = {}
    for tensor, (scale, zero_point, signed) in activations(graph).items():
        if rng.random() < 0.7:
            move = 0 if tensor in limits else int(rng.integers(-20, 21))
            low = -128 if signed else 0
            zero = min(max(zero_point + move, low), low + 255)
            drawn[tensor] = (float(np.float32(scale * rng.uniform(0.5, 1))), zero)
    return drawn


@pytest.mark.parametrize("seed", range(14))
def test_as_if_quantized_with_them(monkeypatch, seed):
    network = RandomNetwork(seed + 100)
    model, data, options = network.build(), network.data(), network.options()
    options |= {"quant_format": ("QDQ", "QOperator")[seed % 2], "method": None}
    quantizer = quantizer_of(monkeypatch, model, data, **options)
    graph, _ = quantizer.run()
    rng = np.random.default_rng(seed)
    drawn = changes(rng, quantizer, graph)
    assert drawn
    set_qparams(graph, drawn, quantizer.float_graph.constant)
    signed = options["activation_type"] == "int8"
    assert_same(graph, told(quantizer, drawn, signed))


def layers(rng, weight_size=1.0, transposed=False):
    """Two layers that share their weight, behind what moves codes; a branch reads the input of one."""
    b = Nodes()
    b.input("x", np.float32, ["N", 4, 6, 6])
    b.constant("w", weight_size * rng.normal(0, 0.3, (4, 4, 1, 1)), np.float32)
    for name in ("b1", "b2"):
        b.constant(name, rng.normal(0, 1, 4), np.float32)
    b.node("Conv", ["x", "w", "b1"], "c1")
    b.node("Relu", ["c1"], "r")
    b.node("MaxPool", ["r"], "p", kernel_shape=[2, 2], strides=[2, 2])
    b.node("Conv", ["p", "w", "b2"], "y")
    b.constant("yes", np.array(True))
    ends = [helper.make_tensor_value_info(name, 1, None) for name in ("then", "else")]
    then, other = (
        helper.make_graph([helper.make_node(op, ["p"], [end.name])], op, [], [end])
        for op, end in zip(("Identity", "Neg"), ends, strict=True)
    )
    b.node("ReduceMax", ["x"], "top", keepdims=0)
    b.constant("one", 1.0, np.float32)
    b.node("Greater", ["top", "one"], "is")
    b.node("If", ["is"], "z", then_branch=then, else_branch=other)
    b.output("y", np.float32, ["N", 4, 3, 3])
    b.output("z", np.float32, ["N", 4, 3, 3])
    return b.model()


def images(rng):
    return [{"x": rng.normal(0, 1, (2, 4, 6, 6)).astype(np.float32)} for _ in range(3)]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("quant_format", ["QDQ", "QOperator"])
def test_what_moves_codes_goes_along(monkeypatch, quant_format, per_channel):
    rng = np.random.default_rng(1)
    options = {"quant_format": quant_format, "per_channel": per_channel}
    quantizer = quantizer_of(monkeypatch, layers(rng), images(rng), **options)
    graph, _ = quantizer.run()
    found = activations(graph)
    assert "p" not in found  # it has the quantization of r
    drawn = {name: (q.scale * 0.75, q.zero_point) for name, q in found.items()}
    set_qparams(graph, drawn, quantizer.float_graph.constant)
    assert_same(graph, told(quantizer, drawn, signed=False))


@pytest.mark.parametrize("weight_type", ["int8", "uint8"])
@pytest.mark.parametrize("quant_format", ["QDQ", "QOperator"])
def test_a_bias_that_would_not_fit_widens_the_steps_of_its_weight(monkeypatch, quant_format, weight_type):
    rng = np.random.default_rng(2)
    # Biases of 1 in steps of 0.02 * 2e-8 are near 2^31 already: halved, they would be beyond.
    model = layers(rng, 1e-5)
    quantizer = quantizer_of(
        monkeypatch, model, images(rng), quant_format=quant_format, weight_type=weight_type, per_channel=True
    )
    graph, _ = quantizer.run()
    drawn = {name: (q.scale * 0.01, q.zero_point) for name, q in activations(graph).items()}
    set_qparams(graph, drawn, quantizer.float_graph.constant)
    constants, _ = contents(graph)
    codes, steps, zero = (constants[f"w_{what}"] for what in ("quantized", "scale", "zero_point"))
    for bias, tensor in (("b1", "x"), ("b2", activations_of_second(graph))):
        unit = np.float32(drawn[tensor][0]) * steps
        real = quantizer.float_graph.constant(bias)
        made = constants[f"{bias}_quantized"]
        assert np.abs(made.astype(np.int64)).max() < 2**31 - 1
        np.testing.assert_array_equal(made, (real / unit.astype(np.float64)).round())
    column = (-1, 1, 1, 1) if steps.size > 1 else ()
    real = (codes.astype(np.float64) - zero.reshape(column)) * steps.astype(np.float64).reshape(column)
    assert (np.abs(real - quantizer.float_graph.constant("w")) <= 0.5001 * steps.reshape(column)).all()


def activations_of_second(graph):
    """Return what the second layer's input is called: r, or in QOperator format c1, whose Relu is dropped."""
    return "r" if "r" in activations(graph) else "c1"


@pytest.mark.parametrize(
    ("qparams", "text"),
    [
        ({"nothing": (1.0, 0)}, "qparams: 'nothing' is no activation"),
        ({"w": (1.0, 0)}, "qparams: 'w' is no activation"),
        ({"b1_quantized": (1.0, 0)}, "is no activation"),
        ({"x": (0.0, 0)}, "qparams must have a positive scale for 'x', got 0.0"),
        ({"x": (np.nan, 0)}, "positive scale"),
        ({"x": (1e-42, 0)}, "positive scale"),
        ({"x": (1e39, 0)}, "positive scale"),
        ({"x": (1.0, 256)}, "qparams must have a zero point from 0 to 255 for 'x', got 256"),
        ({"x": (1.0, -1)}, "zero point from 0 to 255"),
    ],
)
def test_bad_qparams_change_nothing(monkeypatch, qparams, text):
    rng = np.random.default_rng(3)
    quantizer = quantizer_of(monkeypatch, layers(rng), images(rng))
    graph, _ = quantizer.run()
    before = graph.model.SerializeToString()
    with pytest.raises(ValueError, match=re.escape(text)):
        set_qparams(graph, {"y": (0.5, 0), **qparams}, quantizer.float_graph.constant)
    with pytest.raises(ValueError, match="constants: 'b1' of the float graph is not known"):
        set_qparams(graph, {"x": (0.5, 0)}, lambda name: None)
    assert graph.model.SerializeToString() == before
