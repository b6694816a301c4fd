"""Norms that are left in float for what 8 bits cost the outputs: the one made bad on purpose is found."""

import math

import numpy as np
import onnx
import pytest
from norm_models import Nodes
from onnx import numpy_helper

from bytenorm import onnx as bno

IMAGES = [{"image": np.random.default_rng(0).random((64, 1, 28, 28), dtype=np.float32)}]


def spoiled(name, factor=300.0):
    """Return the digits' network with a norm whose first channel is of another size, and read by nothing.

    So one step for all channels of what the norm makes leaves the others few codes.
    """
    model = bno.load_model(bno.digits_model())
    tensors = {t.name: t for t in model.graph.initializer}

    def change(tensor, at, value):
        array = numpy_helper.to_array(tensors[tensor]).copy()
        array[at] *= value
        tensors[tensor].CopyFrom(numpy_helper.from_array(array, tensor))

    norm = next(node for node in model.graph.node if node.name == name)
    for tensor in norm.input[1:3]:
        change(tensor, 0, factor)
    (relu,) = (node for node in model.graph.node if norm.output[0] in node.input)
    for layer in model.graph.node:
        if relu.output[0] in layer.input:
            change(layer.input[1], (slice(None), 0), 0)
    return model


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("name", ["dense1/norm1", "dense2/norm1"])
def test_the_norm_that_was_made_bad_stays_in_float(name):
    model = spoiled(name)
    _, without = bno.quantize_with_report(model, IMAGES)
    assert without.comparison.outputs[0].snr_db < 35
    seen = []
    made, report = bno.quantize_with_report(
        model, IMAGES, minimum_snr_db=35, compare=True, progress=lambda *told: seen.append(told)
    )
    left = [outcome for outcome in report.outcomes if outcome.problem]
    assert [outcome.name for outcome in left] == [name]
    assert left[0].problem.startswith("8 bits cost the outputs ")
    assert report.comparison.outputs[0].snr_db > 35
    first = report.steps[0]
    assert (first.name, first.taken) == (f"{name} in float", True)
    assert first.after_db > first.before_db + 10
    assert [step.name for step in report.steps].count("re-estimation") == 1
    assert [node.name for node in made.graph.node if node.op_type == "BatchNormalization"] == [name]
    assert [told for told in seen if told[0] == "steps: rank"] == [("steps: rank", i, 9) for i in range(9)]


@pytest.mark.thorough
def test_nothing_is_left_out_where_enough_is_reached():
    made, report = bno.quantize_with_report(bno.digits_model(), IMAGES, minimum_snr_db=30)
    assert not any(outcome.problem for outcome in report.outcomes)
    assert made == bno.quantize_with_report(bno.digits_model(), IMAGES)[0]


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*stays in float:UserWarning")
def test_what_cannot_be_reached_is_warned_of():
    with pytest.warns(
        bno.QuantizationWarning, match=r"^norms in float: not taken: the outputs have \d+\.\d\d dB, not 9"
    ):
        bno.quantize(spoiled("dense1/norm1"), IMAGES, minimum_snr_db=99, fast=True)


def test_too_few_samples_leave_all_as_it_was():
    few = [{"image": IMAGES[0]["image"][:4]}]
    with pytest.warns(bno.QuantizationWarning, match="^norms in float: not taken: 4 samples of data"):
        bno.quantize(bno.digits_model(), few, minimum_snr_db=30, fast=True)


@pytest.mark.parametrize(
    ("value", "options", "error"),
    [("30", {}, TypeError), (math.nan, {}, ValueError), (30, {"quant_format": "QOperator"}, ValueError)],
)
def test_bad_numbers(value, options, error):
    with pytest.raises(error) as caught:
        bno.quantize(bno.digits_model(), IMAGES, minimum_snr_db=value, **options)
    assert caught.value.argument == "minimum_snr_db"


def limited_network(before, behind):
    """Return a layer, a norm, a pool and a layer, with activations that quantizers drop."""
    n, rng = Nodes(), np.random.default_rng(3)

    def constant(name, value):
        return n.constant(name, np.asarray(value), np.float32)

    x = n.input("x", np.float32, ["n", 3, 8, 8])
    last = n.node("Conv", [x, constant("w1", rng.normal(size=(4, 3, 3, 3)))], "conv1")
    last = before(n, last)
    values = ([900, 1, -1, 2], [0.3, 0.2, 0.9, -0.5], [0.5] * 4, [1.0] * 4)
    last = n.node("BatchNormalization", [last, *(constant(f"p{i}", v) for i, v in enumerate(values))], "norm")
    last = n.node("MaxPool", [behind(n, last)], "pool", kernel_shape=[2, 2])
    weight = rng.normal(size=(2, 4, 2, 2))
    weight[:, 0] = 0
    n.output(n.node("Conv", [last, constant("w2", weight)], "conv2"), np.float32, ["n", 2, "h", "w"])
    return n.model()


def relu(n, tensor):
    return n.node("Relu", [tensor], f"{tensor}/relu")


def clip(n, tensor):
    ends = [n.constant(f"{tensor}/{end}", np.asarray(end), np.float32) for end in (0.0, 1.0)]
    return n.node("Clip", [tensor, *ends], f"{tensor}/clip")


@pytest.mark.parametrize(("before", "behind"), [(relu, relu), (clip, relu), (relu, clip)])
def test_activations_that_conversions_stood_for_are_there_again(before, behind):
    """Without them the norm would read and give what the float network has not."""
    model = limited_network(before, behind)
    data = [{"x": np.random.default_rng(1).normal(0, 1, (32, 3, 8, 8)).astype(np.float32)}]
    made, report = bno.quantize_with_report(model, data, minimum_snr_db=200, fast=True, reduce_range=False)
    assert [outcome.problem[:7] for outcome in report.outcomes] == ["8 bits "]
    onnx.checker.check_model(made)
    assert report.comparison.outputs[0].snr_db > 35
