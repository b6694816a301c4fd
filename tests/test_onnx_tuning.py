"""Steps behind the quantizer: what is corrected, by ONNX Runtime on the whole graph; what is undone."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from norm_models import Nodes

from bytenorm import onnx as bno
from bytenorm.calibration.judging import is_better
from bytenorm.onnx.graph.graph import Graph
from bytenorm.onnx.quantization.quantize import quantize_with_report
from bytenorm.onnx.quantization.tuning import steps
from bytenorm.onnx.quantization.tuning.clipping import Distribution, chosen_qparams
from bytenorm.onnx.quantization.tuning.correction import correct
from bytenorm.onnx.quantization.tuning.stepwise import Stepwise
from bytenorm.onnx.quantizer.static_quantizer import StaticQuantizer
from bytenorm.onnx.scales.rescaling import ActivationQParams

C = 6
FORMATS = ("QDQ", "QOperator")


def network(seed=0, *, bias=True, group=1):
    """Return two layers, a norm that stays between them, and a product at the end."""
    n, rng = Nodes(), np.random.default_rng(seed)

    def constant(name, value):
        return n.constant(name, np.asarray(value), np.float32)

    x = n.input("x", np.float32, ["n", C, 9, 9])
    weight = constant("w1", rng.normal(size=(C, C // group, 3, 3)) / 3)
    last = n.node("Conv", [x, weight, constant("b1", rng.normal(size=C))], "conv1", pads=[1] * 4, group=group)
    last = n.node("Relu", [last], "relu1")
    values = (rng.uniform(0.5, 2, C), rng.normal(size=C), rng.normal(size=C) / 4, rng.uniform(0.2, 2, C))
    last = n.node("BatchNormalization", [last, *(constant(f"p{i}", v) for i, v in enumerate(values))], "norm")
    last = n.node("Relu", [last], "relu2")
    more = [constant("b2", rng.normal(size=C))] if bias else []
    last = n.node("Conv", [last, constant("w2", rng.normal(size=(C, C, 3, 3)) / 5), *more], "conv2")
    last = n.node("Flatten", [n.node("GlobalAveragePool", [last], "pool")], "flat")
    last = n.node("Gemm", [last, constant("w3", rng.normal(size=(C, 4))), constant("b3", np.zeros(4))], "gemm")
    n.output(last, np.float32, ["n", 4])
    return n.model()


def samples(count=32, seed=5):
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(0.3, 1, (8, C, 9, 9)).astype(np.float32)} for _ in range(count // 8)]


def quantized(monkeypatch, model, data, **options):
    """Return the quantizer behind a plain run, and the graph that it made."""
    kept = []
    run = StaticQuantizer.run

    def keeping(quantizer, name=""):
        graph, nodes = run(quantizer, name)
        model = onnx.ModelProto()
        graph.finish()
        model.CopyFrom(graph.model)
        kept.append((quantizer, Graph(model)))
        return graph, nodes

    with monkeypatch.context() as patch:
        patch.setattr(StaticQuantizer, "run", keeping)
        bno.quantize(model, data, fast=True, **options)
    return kept[0]


def as_written(model, tensors, data):
    """Run a model operator by operator and return tensors for all batches."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.output[:]
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    run = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = [run.run(tensors, batch) for batch in data]
    return [np.concatenate(parts).astype(np.float64) for parts in zip(*found, strict=True)]


def per_channel(array):
    return np.moveaxis(array, 1, 0).reshape(array.shape[1], -1)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("activation_type", ["uint8", "int8"])
def test_means_and_spreads_become_those_of_float(monkeypatch, bias, group, activation_type):
    model, data = network(bias=bias, group=group), samples()
    quantizer, graph = quantized(monkeypatch, model, data, activation_type=activation_type)
    nodes = [node for node in graph.nodes if node.op_type in ("Conv", "BatchNormalization", "Gemm")]
    made = [node.output[0] for node in nodes]
    reference = as_written(
        quantizer.float_graph.model, [quantizer.counterpart(node).output[0] for node in nodes], data
    )
    before = as_written(graph.model, made, data)
    corrections = correct(graph, quantizer.float_graph, quantizer.counterpart, quantizer.feed, data)
    assert sorted(one.kind for one in corrections) == ["Conv", "Conv", "Gemm", "norm"]
    moved = []
    for node, *arrays in zip(nodes, reference, before, as_written(graph.model, made, data), strict=True):
        want, old, got = map(per_channel, arrays)
        # A bias is a whole number of steps, and a norm's mean is float32: half a step, of some 1/1000, remains.
        np.testing.assert_allclose(got.mean(axis=1), want.mean(axis=1), atol=1e-3, err_msg=node.op_type)
        moved.append(np.abs(old.mean(axis=1) - want.mean(axis=1)).max())
        if node.op_type == "BatchNormalization":
            np.testing.assert_allclose(got.var(axis=1), want.var(axis=1), rtol=1e-4)
    assert max(moved) > 3e-3  # there was something to correct


def test_qoperator_format_gets_the_same_biases(monkeypatch):
    model, data = network(), samples()
    biases = []
    for quant_format in FORMATS:
        quantizer, graph = quantized(monkeypatch, model, data, quant_format=quant_format)
        correct(graph, quantizer.float_graph, quantizer.counterpart, quantizer.feed, data)
        values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.proto.initializer}
        biases.append([v for name, v in sorted(values.items()) if name.endswith("bias/corrected")])
    # Operators that run on codes differ from float ones in single codes.
    for one, other in zip(*biases, strict=True):
        np.testing.assert_allclose(one, other, atol=4)


def test_steps_make_what_the_whole_network_makes(monkeypatch):
    model, data = network(), samples()
    _, graph = quantized(monkeypatch, model, data)
    layers = [node for node in graph.nodes if node.op_type in ("Conv", "Gemm")]
    codes = [graph.maker(node.input[0]).input[0] for node in layers]
    wanted = dict(zip(codes, as_written(graph.model, codes, data), strict=True))
    walk, seen = Stepwise(graph, layers, data), []
    for step in walk:
        for node in step:
            tensor = graph.maker(node.input[0]).input[0]
            got = np.concatenate(list(walk.read(tensor))).astype(np.float64)
            assert np.abs(got - wanted[tensor]).max() <= 1  # fused operators round in other places
            seen.append(tensor)
    assert sorted(seen) == sorted(codes)
    assert len(walk) == 3


def test_the_last_batches_are_given_up_where_memory_is_short(monkeypatch):
    model, data = network(), samples()
    _, graph = quantized(monkeypatch, model, data)
    monkeypatch.setattr("bytenorm.onnx.quantization.tuning.stepwise.ROOM", data[0]["x"].nbytes // 2)
    walk = Stepwise(graph, [node for node in graph.nodes if node.op_type == "Conv"], data)
    for _ in walk:
        assert walk.batches < 4
    assert walk.batches == 2


# What is taken


@pytest.mark.parametrize(
    ("before", "after", "sure", "better"),
    [
        ([[4.0], [4.2], [3.9], [4.1]], [[3.0], [3.2], [2.9], [3.2]], 0, True),
        ([[4.0], [4.2], [3.9], [4.1]], [[3.0], [3.2], [2.9], [3.2]], 2, True),
        ([[4.0], [4.2], [3.9], [4.1]], [[3.98], [4.18], [3.88], [4.08]], 0, False),  # by half a per cent
        ([[4.0], [4.2], [3.9], [4.1]], [[1.0], [4.3], [3.8], [4.0]], 0, True),  # one standard error
        ([[4.0], [4.2], [3.9], [4.1]], [[1.0], [4.3], [3.8], [4.0]], 2, False),
        # One sample has all of the gain, and the others lose.
        ([[90.0], [3.0], [3.0], [4.0]], [[50.0], [9.0], [9.0], [9.0]], 0, False),
        ([[90.0], [3.0], [3.0], [4.0]], [[50.0], [3.1], [3.1], [4.1]], 0, True),
        ([[90.0], [0.0], [0.0], [0.0]], [[50.0], [1e-9], [1e-9], [1e-9]], 0, True),  # next to no loss
        # Half of the standard error, though in decibels it is clear.
        ([[90.0], [3.0], [3.0], [4.0]], [[99.0], [1.0], [1.0], [1.0]], 0, False),
        ([[4.0, 1.0], [4.0, 1.0]], [[2.0, 1.0], [2.0, 1.0]], 0, True),
        ([[4.0, 1.0], [4.0, 1.0]], [[2.0, 2.0], [2.0, 2.0]], 0, False),  # outputs count alike
        ([[4.0, 0.0], [4.0, 0.0]], [[2.0, 1e-9], [2.0, 0.0]], 0, False),  # one that was right
        ([[0.0], [0.0]], [[0.0], [0.0]], 0, False),
        ([[4.0]], [[2.0]], 2, True),  # nothing is known of chance
        ([[4.0], [4.0]], [[2.0]], 0, False),
    ],
)
def test_when_errors_are_smaller_by_more_than_chance(before, after, sure, better):
    assert is_better(np.array(after), np.array(before), sure) is better


def test_ranges_have_to_be_surer(monkeypatch):
    asked = []
    monkeypatch.setattr(steps, "is_better", lambda *args: asked.append(args[2]) or False)
    quantize_with_report(network(), samples(64))
    assert asked == [2, 0]


def test_what_helps_is_taken():
    _, report = quantize_with_report(network(), samples(64), calibrate_method="minmax")
    (step,) = report.steps
    assert step.taken, step
    assert step.after_db > step.before_db
    assert len(step.corrections) == 4


@pytest.mark.parametrize("quant_format", FORMATS)
def test_what_does_not_help_is_undone(monkeypatch, quant_format):
    def spoil(graph, *_, **__):
        for tensor in graph.proto.initializer:
            value = onnx.numpy_helper.to_array(tensor)
            if value.dtype == np.int32 and value.ndim:
                graph.set_constant(tensor.name, value + 2000)
        return ()

    model, data = network(), samples(64)
    plain = bno.quantize(model, data, fast=True, quant_format=quant_format)
    monkeypatch.setattr(steps, "correct", spoil)
    made, report = quantize_with_report(model, data, calibrate_method="minmax", quant_format=quant_format)
    (note,) = (entry for entry in made.metadata_props if entry.key == "bytenorm.correction")
    assert json.loads(note.value)["steps"][0]["taken"] is False  # for reports
    made.metadata_props.remove(note)
    assert made == plain
    (step,) = report.steps
    assert (step.taken, step.corrections) == (False, ())
    assert step.after_db < step.before_db
    assert step.problem


def test_a_step_that_fails_leaves_the_network(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of\nluck")

    model, data = network(), samples(64)
    monkeypatch.setattr(steps, "correct", fail)
    made, report = quantize_with_report(model, data, calibrate_method="minmax")
    assert made == bno.quantize(model, data, fast=True)
    assert report.steps[0].problem == "it failed: out of luck"


def test_too_few_samples_are_named():
    model, data = network(), [{"x": samples()[0]["x"][:7]}]
    made, report = quantize_with_report(model, data)
    assert made == bno.quantize(model, data, fast=True)
    assert {step.problem for step in report.steps} == {"7 samples of data: 8 are needed to judge it"}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"reestimate": True}, "re-estimation"),
        ({"calibrate_method": "best"}, "ranges"),
    ],
)
def test_what_was_asked_for_and_cannot_be_tried_is_warned_of(options, name):
    said = f"^{name}: not taken: 7 samples of data: 8 are needed to judge it$"
    with pytest.warns(bno.QuantizationWarning, match=said):
        bno.quantize(network(), [{"x": samples()[0]["x"][:7]}], **options)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"method": "mse"}, "norm scales by mse"), ({"data_statistics": True}, "statistics of the data")],
)
def test_a_network_without_norms_that_stay_is_told_so(options, name):
    _, report = bno.quantize_with_report(network(), samples(), nodes_to_exclude=["norm"], **options)
    (step,) = [step for step in report.steps if step.name == name]
    assert (step.taken, step.problem) == (False, "no norm of the network stays: all are folded, or in float")


def test_the_report_says_which_ranges_are_taken(monkeypatch):
    def ranges(**options):
        return bno.quantize_with_report(network(), samples(64), **options)[1].ranges

    assert ranges(fast=True) == "minmax"
    assert ranges(fast=True, calibrate_method="entropy") == "entropy"
    monkeypatch.setattr(steps, "is_better", lambda *_: True)
    assert ranges() == "percentile 99.999"
    assert ranges(calibrate_method="best") == "least squared error"
    monkeypatch.setattr(steps, "is_better", lambda *_: False)
    assert ranges(calibrate_method="best") == "minmax"


def test_one_batch_that_cannot_be_divided_is_named():
    model = network()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    _, report = quantize_with_report(model, samples(8))
    says = "the data is one batch, and cannot be divided: 2 are needed to judge it"
    assert {step.problem for step in report.steps} == {says}


def test_constant_samples_change_nothing_to_nan():
    model, data = network(), [{"x": np.zeros((16, C, 9, 9), np.float32)}]
    with pytest.warns(bno.QuantizationWarning, match="the data is unlike"):
        made = bno.quantize(model, data)
    found = bno.session(made).run(None, samples()[0])[0]
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reestimate": True, "fast": True}, "reestimate must be False or None beside fast=True, got True"),
        ({"reestimate": True, "data_statistics": True}, "beside data_statistics=True, got True"),
    ],
)
def test_options_that_exclude_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        bno.quantize(network(), samples(), **options)


def test_data_of_another_scale_is_named():
    model = network()
    pixels = [{"x": np.random.default_rng(0).uniform(0, 255, (8, C, 9, 9)).astype(np.float32)}]
    said = r"^the data is unlike what the norm norm was trained on: .* has mean [\d.]+ .*, its statistics say "
    with pytest.warns(bno.QuantizationWarning, match=said):
        bno.quantize(model, pixels)
    assert quantize_with_report(model, samples())[1].unlike == ""


def test_the_model_tells_what_was_done():
    made, report = quantize_with_report(network(), samples(64))
    (text,) = [entry.value for entry in made.metadata_props if entry.key == "bytenorm.correction"]
    found = json.loads(text)
    assert [step["name"] for step in found["steps"]] == [step.name for step in report.steps]
    assert len(found["corrections"]) == sum(len(step.corrections) for step in report.steps)
    plain = bno.quantize(network(), samples(64), fast=True)
    assert "bytenorm.correction" not in [entry.key for entry in plain.metadata_props]


# Ranges


def distribution(numbers, low, high):
    counts = np.histogram(numbers, 2048, (low, high))[0]
    return Distribution(low, high, counts)


def test_percentiles_and_the_least_error():
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=200_000)
    all_numbers = np.append(numbers, [-40, 40])
    found = distribution(all_numbers, -40, 40)
    low, high = found.by_percentile(99.99)
    bin_ = 80 / 2048
    for end in (np.sum(numbers < low), np.sum(numbers > high)):
        assert end < 10  # of 200,000, beside the one far away
    assert np.sum(numbers < low + bin_) + 1 >= 10
    assert np.sum(numbers > high - bin_) + 1 >= 10

    def error(low, high):
        step = (high - low) / 255
        codes = np.clip(np.rint((all_numbers - low) / step), 0, 255)
        return np.mean((codes * step + low - all_numbers) ** 2)

    best = found.by_least_error()
    assert error(*best) < 1.1 * min(error(-end, end) for end in np.linspace(8, 40, 100))


def test_a_concatenation_covers_its_pieces():
    n = Nodes()
    pieces = [n.node("Sigmoid", [n.input(name, np.float32, ["n", 3])], f"{name}2") for name in "ab"]
    n.output(n.node("Concat", pieces, "joined", axis=1), np.float32, ["n", 6])
    known = {"a2": ActivationQParams(1.0, 0, False), "b2": ActivationQParams(2.0, 0, False)}
    known["joined"] = known["b2"]
    rng = np.random.default_rng(1)
    found = {name: distribution(rng.uniform(0, 100, 50_000), 0, 510) for name in known}
    found["b2"] = distribution(rng.uniform(0, 300, 50_000), 0, 510)
    chosen = chosen_qparams(Graph(n.model()), known, found, lambda d: d.by_percentile(99.99))
    assert chosen["joined"] == chosen["b2"]
    assert chosen["a2"][0] < chosen["b2"][0] < 2
