"""Norms of ONNX networks that fit the quantized network: their output scales and their statistics."""

import inspect
import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from exact_sums import exact_session
from norm_models import Nodes, serialized
from onnx import numpy_helper
from onnxruntime import quantization as ort_quantization

import bytenorm as bn
from bytenorm import onnx as bno
from bytenorm.calibration import ChannelStatistics, choose_output_qparams, reestimate
from bytenorm.onnx.quantization.quantize import quantize_with_report
from bytenorm.onnx.quantization.tuning.notes import NOTE

ROOT = Path(__file__).resolve().parent.parent
DIGITS = bno.digits_model()
ALONE = [norm.name for norm in bno.inspect(DIGITS).norms if not norm.folds_into]
FORMATS = ["QDQ", "QOperator"]
METHODS = ["mse", "minmax", "percentile"]


@pytest.fixture(scope="module")
def split():
    """Images of the training to calibrate with, and the held-out ones with their labels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        from digits import load_digits
    calibration, _, images, labels = load_digits()
    return calibration[:200], images, labels


def in_batches(images, size=20):
    return [{"image": images[i : i + size]} for i in range(0, len(images), size)]


def run(model, feeds, outputs=None):
    return exact_session(model, library=True).run(outputs, feeds)


def errors(model, images, labels):
    """Count the images that a network reads wrong."""
    logits = np.concatenate([run(model, batch)[0] for batch in in_batches(images, 250)])
    return int(np.count_nonzero(logits.argmax(1) != labels))


def constants(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def with_variances(names, factor):
    """Return the digits network with wrong running variances."""
    model = onnx.load_model(DIGITS)
    wrong = {node.input[4] for node in model.graph.node if node.name in names}
    assert len(wrong) == len(names)
    for tensor in model.graph.initializer:
        if tensor.name in wrong:
            values = numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return model


def norm_nodes(model):
    """Return the operator node of each norm of an exactly lowered model, by the norm's name."""
    return {n.name: n for n in model.graph.node if n.op_type == "QLinearBatchNormalization"}


def gathered(model, data, node):
    """Return the statistics of what comes to a node of a finished model, counted by NumPy."""
    seen = onnx.ModelProto()
    seen.CopyFrom(model)
    seen.graph.output.append(onnx.ValueInfoProto(name=node.input[0]))
    codes = np.concatenate([run(seen, batch, [node.input[0]])[0] for batch in data])
    values = constants(model)
    scale, zero_point = float(values[node.input[1]]), int(values[node.input[2]])
    channels = values[node.input[3]].size
    assert codes.shape[-1] == channels
    statistics = ChannelStatistics(channels)
    statistics.update(bn.QuantizedTensor(codes, scale, zero_point), axis=-1)
    want = [np.bincount(codes[..., c].ravel().astype(int), minlength=256) for c in range(channels)]
    np.testing.assert_array_equal(statistics.histogram, want)
    return statistics


def snr(reference, model, data):
    (output,) = bno.compare(reference, model, data).outputs
    return output.snr_db


@pytest.fixture(scope="module")
def finished(split):
    """Return the digits network with scales of each method, exactly lowered, and the reports.

    Of so few images that nothing is judged, and all of them are measured.
    """
    data = in_batches(split[0][:7])
    return data, {
        method: quantize_with_report(DIGITS, data, method=method, reestimate=False, lowering="exact")
        for method in METHODS
    }


# Output scales


@pytest.mark.thorough
@pytest.mark.parametrize("method", METHODS)
def test_scales_are_those_of_the_inputs_in_the_finished_network(finished, method):
    data, made = finished
    model, report = made[method]
    original = constants(onnx.load_model(DIGITS))
    nodes = norm_nodes(model)
    assert sorted(norm.name for norm in report.recalibrated) == sorted(ALONE)
    assert not any(outcome.problem for outcome in report.outcomes)
    (step,) = report.steps
    assert (step.name, step.taken) == (f"norm scales by {method}", True)
    assert step.problem == "not judged: 7 samples of data: 8 are needed to judge it"
    for norm in report.recalibrated:
        (node,) = (node for name, node in nodes.items() if name.startswith(norm.name))
        p = [original[f"{norm.name}/{what}"] for what in ("scale", "B", "input_mean", "input_var")]
        statistics = gathered(model, data, node)
        relu = norm.name not in ("input/norm", "transition/norm")
        want = choose_output_qparams(*p, 1e-5, statistics, method=method, relu=relu)
        values = constants(model)
        assert (float(values[node.input[7]]), int(values[node.input[8]])) == (norm.scale, norm.zero_point)
        assert norm.method == method
        assert not norm.reestimated
        if norm.name != "transition/norm":  # a Clip to 6: its own test
            # Float and exact norms before it may differ in a code of a million.
            assert norm.scale == pytest.approx(want.scale, rel=1e-3)
            assert norm.zero_point == want.zero_point
            assert norm.mse == pytest.approx(want.mse, rel=1e-3)
            assert norm.clipped == pytest.approx(want.clipped, abs=1e-5)
            if norm.name == "input/norm":
                assert (norm.scale, norm.mse, norm.clipped) == (want.scale, want.mse, want.clipped)


@pytest.mark.thorough
@pytest.mark.parametrize("quant_format", FORMATS)
def test_no_worse_than_the_best_of_onnx_runtime(split, quant_format):
    data, held_out = in_batches(split[0][:80]), in_batches(split[1][:250], 50)
    theirs = [
        bno.quantize(DIGITS, data, calibrate_method=how, fast=True, quant_format=quant_format)
        for how in ("minmax", "entropy", "percentile")
    ]
    # A scale that does not fit the bias of the layer behind it would cost far more than this brings.
    ours = bno.quantize(DIGITS, data, method="mse", quant_format=quant_format)
    assert snr(DIGITS, ours, data) > max(snr(DIGITS, model, data) for model in theirs)
    assert snr(DIGITS, ours, held_out) > max(snr(DIGITS, model, held_out) for model in theirs)


class Small(Nodes):
    """A norm or several between a pool and a layer that reads all channels."""

    def __init__(self, channels=4, seed=3):
        super().__init__()
        self.rng, self.channels = np.random.default_rng(seed), channels
        x = self.input("x", np.float32, ["n", channels, 8, 8])
        self.last = self.node("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[1, 1])

    def norm(self, name, *, var=1.0, gain=1.0, mean=0.0, epsilon=1e-5):
        c = self.channels
        # A shift before a layer that pads keeps the norm from folding into it.
        shift = np.full(c, 0.01)
        values = [np.full(c, gain) * self.rng.uniform(0.8, 1.2, c), shift, np.full(c, mean), np.full(c, var)]
        names = [self.constant(f"{name}/{i}", v, np.float32) for i, v in enumerate(values)]
        self.last = self.node("BatchNormalization", [self.last, *names], name, epsilon=epsilon)
        return self

    def then(self, op, *limits):
        names = [self.constant(f"limit{i}", v, np.float32) for i, v in enumerate(limits)]
        self.last = self.node(op, [self.last, *names], op.lower())
        return self

    def finish(self, outputs=6):
        weight = self.rng.normal(size=(outputs, self.channels, 3, 3)) / np.sqrt(9 * self.channels)
        self.node(
            "Conv",
            [self.last, self.constant("conv/w", weight, np.float32)],
            "y",
            kernel_shape=[3, 3],
            pads=[1] * 4,
        )
        self.output("y", np.float32, None)
        return self.model()


def heavy_tailed(count=8, seed=1, channels=4, size=8):
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_t(3, (size, channels, 8, 8)).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("quant_format", FORMATS)
def test_scales_that_bring_the_outputs_nearer_are_taken(quant_format):
    model, data = Small().norm("first").then("Relu").norm("second").finish(), heavy_tailed()
    made, report = quantize_with_report(
        model, data, method="mse", fast=True, quant_format=quant_format, lowering="exact"
    )
    (step,) = report.steps
    assert (step.name, step.taken, step.problem) == ("norm scales by mse", True, "")
    assert step.after_db > step.before_db
    plain = bno.quantize(model, data, fast=True, quant_format=quant_format)
    assert snr(model, made, data) > snr(model, plain, data)
    # Every fourth sample is kept aside.
    samples = np.concatenate([batch["x"] for batch in data])
    measured = [{"x": samples[np.arange(64) % 4 != 3]}]
    for norm, node in zip(report.recalibrated, norm_nodes(made).values(), strict=True):
        statistics, values = gathered(made, measured, node), constants(made)
        p = [values[name] for name in node.input[3:7]]
        best = choose_output_qparams(*p, 1e-5, statistics, relu=norm.name == "first")
        assert (norm.scale, norm.zero_point, norm.mse, norm.clipped) == (*best, best.mse, best.clipped)
        assert (float(values[node.input[7]]), int(values[node.input[8]])) == tuple(best)


@pytest.mark.parametrize("quant_format", FORMATS)
def test_scales_that_take_the_outputs_away_are_not_taken(quant_format):
    # Entropy takes the many zeros of a ReLU for what matters, and clips the rest.
    model, data = Small().norm("norm", mean=1.0).then("Relu").finish(), heavy_tailed()
    made, report = quantize_with_report(model, data, method="entropy", fast=True, quant_format=quant_format)
    (step,) = report.steps
    assert (step.name, step.taken) == ("norm scales by entropy", False)
    assert step.problem == "it does not bring the outputs nearer to the float network's"
    assert step.after_db < step.before_db
    assert report.recalibrated == ()
    made.metadata_props.remove(next(e for e in made.metadata_props if e.key == NOTE))  # that it was judged
    assert made == bno.quantize(model, data, fast=True, quant_format=quant_format)


@pytest.mark.thorough
@pytest.mark.parametrize("quant_format", FORMATS)
def test_heavy_tails(quant_format):
    model, data = Small().norm("norm").then("Relu").finish(), heavy_tailed()
    best = max(
        snr(model, bno.quantize(model, data, calibrate_method=how, quant_format=quant_format), data)
        for how in ("minmax", "entropy", "percentile")
    )
    found = max(
        snr(
            model,
            bno.quantize(model, data, calibrate_method=how, method="mse", quant_format=quant_format),
            data,
        )
        for how in ("minmax", "entropy", "percentile")
    )
    assert found >= best


@pytest.mark.thorough
@pytest.mark.parametrize("quant_format", FORMATS)
@pytest.mark.parametrize("limits", [(0, 6), (-1, 1), (0.5, 2), (-2, -0.25)])
@pytest.mark.parametrize("method", METHODS)
def test_a_clip_keeps_its_limits(quant_format, limits, method):
    model, data = Small().norm("norm", var=0.04).then("Clip", *limits).finish(), heavy_tailed(3)
    made, report = quantize_with_report(model, data, method=method, quant_format=quant_format)
    (norm,) = report.recalibrated
    # No codes are spent on what the Clip takes away, but for those of 0.
    low, high = ((code - norm.zero_point) * norm.scale for code in (0, 255))
    span = max(limits[1], 0) - min(limits[0], 0)
    assert high - low < 1.2 * span
    assert not any(outcome.problem for outcome in report.outcomes)
    assert snr(model, made, data) > snr(model, bno.quantize(model, data, quant_format=quant_format), data) - 0.5


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize(("activation_type", "weight_type"), [("uint8", "int8"), ("int8", "int8")])
@pytest.mark.parametrize("keep_int8", [False, True])
def test_types(activation_type, weight_type, keep_int8):
    model, data = Small().norm("norm").finish(), heavy_tailed(3, size=2)  # too few samples to judge
    made, report = quantize_with_report(
        model,
        data,
        method="mse",
        activation_type=activation_type,
        weight_type=weight_type,
        keep_int8=keep_int8,
    )
    (norm,) = report.recalibrated
    plain, other = quantize_with_report(model, data, method="mse")
    signed = activation_type == "int8"
    assert norm.scale == other.recalibrated[0].scale
    assert norm.zero_point == other.recalibrated[0].zero_point - 128 * signed
    if not keep_int8:
        assert snr(plain, made, data) > 60


def test_vectors():
    """Norms of vectors go through a third axis."""
    nodes, rng = Nodes(), np.random.default_rng(4)
    x = nodes.input("x", np.float32, ["n", 5])
    parts = [
        nodes.constant(f"p{i}", v, np.float32)
        for i, v in enumerate([rng.uniform(1, 2, 5), rng.normal(size=5), np.zeros(5), np.full(5, 0.01)])
    ]
    y = nodes.node("BatchNormalization", [nodes.node("Sigmoid", [x], "sigmoid"), *parts], "norm")
    weight = nodes.constant("w", rng.normal(size=(5, 3)), np.float32)
    nodes.node("MatMul", [nodes.node("Relu", [y], "relu"), weight], "y")
    nodes.output("y", np.float32, ["n", 3])
    model, data = nodes.model(), [{"x": rng.normal(size=(64, 5)).astype(np.float32)}]
    for quant_format in FORMATS:
        made, report = quantize_with_report(
            model, data, method="mse", data_statistics=True, quant_format=quant_format
        )
        assert [(n.name, n.method, n.reestimated) for n in report.recalibrated] == [("norm", "mse", True)]
        wanted = run(made, data[0])[0]
        values = constants(model)
        z = 1 / (1 + np.exp(-data[0]["x"].astype(np.float64)))
        z = (z - z.mean(0)) / np.sqrt(z.var(0, ddof=1) + 1e-5) * values["p0"] + values["p1"]
        np.testing.assert_allclose(wanted, np.maximum(z, 0) @ values["w"], atol=0.12)


# Re-estimation


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:output:bytenorm.onnx.QuantizationWarning")  # the float model is wrong
@pytest.mark.parametrize(("factor", "quant_format"), [(100, "QDQ"), (0.01, "QOperator")])
def test_wrong_variances_are_repaired(split, quant_format, factor):
    calibration, images, labels = split
    right = errors(onnx.load_model(DIGITS), images, labels)
    wrong = with_variances(ALONE, factor)
    assert errors(wrong, images, labels) > 500
    made = bno.quantize(
        wrong, in_batches(calibration), method="mse", data_statistics=True, quant_format=quant_format
    )
    assert errors(made, images, labels) <= right + 5


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:output:bytenorm.onnx.QuantizationWarning")  # the float model is wrong
def test_one_wrong_variance_is_repaired_without_a_method(split):
    calibration, images, labels = split
    wrong = with_variances(["dense1/norm2"], 100)
    before = serialized(wrong)
    made, report = quantize_with_report(wrong, in_batches(calibration), data_statistics=True)
    assert serialized(wrong) == before
    assert errors(wrong, images, labels) > 500
    assert errors(made, images, labels) <= errors(onnx.load_model(DIGITS), images, labels) + 5
    assert all(
        (n.method, n.clipped, n.mse, n.reestimated) == (None, None, None, True) for n in report.recalibrated
    )


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:output:bytenorm.onnx.QuantizationWarning")  # the float model is wrong
def test_low_contrast_is_repaired(split):
    calibration, images, labels = split
    faint, others = (np.float32(0.3) * part + np.float32(0.35) for part in (calibration, images))
    plain = bno.quantize(DIGITS, in_batches(faint))
    made = bno.quantize(DIGITS, in_batches(faint), method="mse", data_statistics=True)
    assert errors(plain, others, labels) > 800
    assert errors(made, others, labels) <= errors(onnx.load_model(DIGITS), images, labels) + 5


def test_a_norm_is_measured_behind_repaired_ones():
    """Of two in a row the first squeezes everything into next to nothing, until it is repaired."""
    build = Small().norm("first", var=1e6)
    build.last = build.node("MaxPool", [build.last], "pool2", kernel_shape=[2, 2])
    model, data = build.norm("second").finish(), heavy_tailed(4)
    made, report = quantize_with_report(model, data, method="mse", data_statistics=True, lowering="exact")
    assert [norm.name for norm in report.recalibrated] == ["first", "second"]
    for norm, node in zip(report.recalibrated, norm_nodes(made).values(), strict=True):
        statistics, values = gathered(made, data, node), constants(made)
        weight, bias, mean, var = (values[name] for name in node.input[3:7])
        old = bn.BatchNorm(weight, bias, mean * 0, var * 0 + 1, output_scale=1, output_zero_point=0)
        want = reestimate(old, statistics)
        np.testing.assert_array_equal(mean, want.mean)
        np.testing.assert_array_equal(var, want.var)
        best = choose_output_qparams(want, statistics)
        assert (norm.scale, norm.zero_point, norm.mse, norm.clipped) == (*best, best.mse, best.clipped)
    # Behind the first as it was, the second would have seen numbers a thousandth as large.
    assert var.min() > 0.1


def test_norms_written_as_arithmetic_keep_their_statistics():
    """A Mul and an Add have neither a mean nor a variance of their own."""
    build = Small(channels=3)
    gain, shift = (build.constant(n, np.full((3, 1, 1), v), np.float32) for n, v in (("gain", 2), ("shift", 1)))
    build.last = build.node("Mul", [build.last, gain], "mul")
    build.last = build.node("Add", [build.last, shift], "add")
    model, data = build.finish(), heavy_tailed(2, channels=3)
    made, report = quantize_with_report(model, data, method="mse", data_statistics=True)
    assert [(norm.name, norm.reestimated) for norm in report.recalibrated] == [("add", False)]
    assert snr(model, made, data) > 25


# How it runs


@pytest.mark.filterwarnings("ignore:output:bytenorm.onnx.QuantizationWarning")  # of heavy tails
def test_older_onnx_runtime_measures_again(monkeypatch):
    model, data = Small().norm("first").then("Relu").norm("second").finish(), heavy_tailed(2)
    want = bno.quantize(model, data, method="mse", data_statistics=True)
    quantize_static, calls = ort_quantization.quantize_static, []

    def without_ranges(model_input, model_output, calibration_data_reader, extra_options=None, **options):
        calls.append(options)
        quantize_static(model_input, model_output, calibration_data_reader, extra_options=extra_options, **options)

    monkeypatch.setattr(ort_quantization, "quantize_static", without_ranges)
    assert "calibration_cache_path" not in inspect.signature(ort_quantization.quantize_static).parameters
    assert bno.quantize(model, data, method="mse", data_statistics=True) == want
    assert len(calls) == 3  # behind each of two levels too


def test_ranges_are_measured_once():
    model, data = Small().norm("first").then("Relu").norm("second").finish(), heavy_tailed(2)
    seen = []
    quantize_with_report(model, data, method="mse", reestimate=False, progress=lambda *step: seen.append(step))
    stages = [name for name, _ in itertools.groupby(step[0] for step in seen)]
    assert stages == ["calibrate", "steps: run"]
    seen.clear()
    options = {"data_statistics": True, "compare": True}
    quantize_with_report(model, data, **options, progress=lambda *step: seen.append(step))
    stages = [name for name, _ in itertools.groupby(step[0] for step in seen)]
    assert stages == [
        "calibrate",
        "norms 1/2: run",
        "norms 1/2: calibrate",
        "norms 2/2: run",
        "norms 2/2: calibrate",
        "compare",
        "alone: calibrate",  # heavy tails are not what the statistics of the norms say
        "alone: compare",
    ]
    assert all(0 <= done <= whole for _, done, whole in seen)


def test_a_network_without_norms_and_one_whose_norms_fold():
    data = heavy_tailed(2)
    for model in (Small().finish(), Small().then("Relu").finish()):
        made, report = quantize_with_report(model, data, method="mse", data_statistics=True)
        assert report.recalibrated == ()
        assert made == bno.quantize(model, data, fast=True)


def test_an_excluded_norm_stays_as_it_is():
    model, data = Small().norm("first").norm("second").finish(), heavy_tailed(2)
    made, report = quantize_with_report(
        model, data, method="mse", data_statistics=True, nodes_to_exclude=["first"]
    )
    assert [norm.name for norm in report.recalibrated] == ["second"]
    assert any(node.op_type == "BatchNormalization" for node in made.graph.node)


# Bad input


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        (
            {"method": "best"},
            ValueError,
            "method must be one of 'mse', 'minmax', 'percentile', 'entropy', got 'best'",
        ),
        ({"method": 1}, TypeError, "method must be one of 'mse', .*, got 1"),
        ({"reestimate": "yes"}, TypeError, "reestimate must be"),
    ],
)
def test_bad_arguments(options, kind, text):
    with pytest.raises(kind, match=f"^{text}") as caught:
        bno.quantize(Small().norm("norm").finish(), heavy_tailed(1), **options)
    assert "\n" not in str(caught.value)


def test_nan_in_the_data():
    data = heavy_tailed(2)
    data[1]["x"][3, 1, 2, 2] = np.nan
    with pytest.raises(ValueError, match="nan") as caught:
        bno.quantize(Small().norm("norm").finish(), data, method="mse", data_statistics=True)
    assert "\n" not in str(caught.value)


def test_data_without_a_variance():
    model = Small().norm("norm", epsilon=0.0).finish()
    data = [{"x": np.ones((2, 4, 8, 8), np.float32)}]
    with pytest.raises(ValueError, match=r"^data_statistics: the norm norm: .*var") as caught:
        bno.quantize(model, data, data_statistics=True)
    assert "\n" not in str(caught.value)


def test_a_quantizer_that_ignores_the_choice(monkeypatch):
    quantize_static = ort_quantization.quantize_static

    def deaf(*arguments, **options):
        options.pop("extra_options", None)
        quantize_static(*arguments, **options)

    monkeypatch.setattr(ort_quantization, "quantize_static", deaf)
    with pytest.raises(ValueError, match="gave the norm norm the scale and zero point"):
        bno.quantize(Small().norm("norm").finish(), heavy_tailed(2), method="mse", data_statistics=True)
