"""What quantize makes of weights so that sums of products are right on every CPU.

A plain session of ONNX Runtime has the bits of exact sums then, whatever the CPU; on one without VNNI these tests
see it. What pairs become is held to a search over all pairs.
"""

import itertools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exact_sums import exact_session
from norm_models import Nodes

from bytenorm import onnx as bno
from bytenorm.onnx.run.saturation import saturating_layers
from bytenorm.onnx.scales.fitting_sums import _pairs_lowered, _sums_kept

pytestmark = pytest.mark.filterwarnings("ignore::bytenorm.onnx.SaturationWarning")


def weights(rng, *shape):
    """Return weights with a few large ones, as trained layers have them."""
    return (rng.standard_t(3, shape) * 0.3).astype(np.float32)


def network(kind):
    """Return a network of two layers with a norm between them, and data for it."""
    rng = np.random.default_rng(5)
    n = Nodes()
    shape = {"conv": [6, 9, 9], "groups 1d": [6, 19], "3d": [3, 6, 6, 6]}.get(kind, [33])
    n.input("x", np.float32, ["n", *shape])
    channels = 8

    def constant(name, value):
        return n.constant(name, np.asarray(value, np.float32))

    norm = [
        constant("s", rng.uniform(0.5, 1.5, channels)),
        constant("b", rng.normal(0, 0.3, channels)),
        constant("m", rng.normal(0, 0.3, channels)),
        constant("v", rng.uniform(0.5, 2, channels)),
    ]
    bias = constant("bias", weights(rng, channels))

    def between(x):
        return n.node("BatchNormalization", [n.node("Relu", [x], "positive"), *norm], "normed", name="norm")

    if kind == "conv":
        first = n.node("Conv", ["x", constant("w1", weights(rng, channels, 6, 3, 3)), bias], "a", name="one")
        last = n.node("Conv", [between(first), constant("w2", weights(rng, 5, channels, 1, 1))], "y", name="two")
    elif kind == "groups 1d":
        w = constant("w1", rng.uniform(-1, 1, (channels, 3, 3)))
        first = n.node("Conv", ["x", w, bias], "a", name="one", group=2)
        w = constant("w2", rng.uniform(-1, 1, (12, 2, 3)))
        last = n.node("Conv", [between(first), w], "y", name="two", group=4)
    elif kind == "3d":
        first = n.node("Conv", ["x", constant("w1", weights(rng, channels, 3, 3, 3, 3)), bias], "a", name="one")
        last = n.node(
            "Conv", [between(first), constant("w2", weights(rng, 5, channels, 1, 1, 1))], "y", name="two"
        )
    elif kind == "gemm and matmul":
        first = n.node("Gemm", ["x", constant("w1", weights(rng, 33, channels)), bias], "a", name="one")
        last = n.node("MatMul", [between(first), constant("w2", weights(rng, channels, 7))], "y", name="two")
    else:  # one weight, one bias, read twice in two orders
        shared = constant("w1", weights(rng, channels, channels))
        narrow = n.node("MatMul", ["x", constant("w0", weights(rng, 33, channels))], "narrow", name="none")
        first = n.node("Gemm", [narrow, shared, bias], "a", name="one", transB=1)
        last = n.node("Gemm", [between(first), shared, bias], "y", name="two")
    n.output(last, np.float32, None)
    data = [{"x": rng.normal(size=(8, *shape)).astype(np.float32)} for _ in range(2)]
    return n.model(), data


def plain(model, feed):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feed)[0]


def snr_db(want, got):
    want = want.astype(np.float64)
    return 10 * np.log10(np.sum(want**2) / np.sum((want - got) ** 2))


KINDS = ("conv", "groups 1d", "3d", "gemm and matmul", "shared")
OPTIONS = [
    {"quant_format": quant_format, "per_channel": per_channel, "activation_type": kind, "extra_options": extra}
    for extra, kind, per_channel, quant_format in itertools.product(
        (None, "AddQDQPairToWeight", "QuantizeBias"), ("uint8", "int8"), (True, False), ("QDQ", "QOperator")
    )
    if quant_format == "QDQ" or extra is None
]


@pytest.mark.thorough(but=10)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_plain_sessions_have_the_bits_of_exact_sums(kind, options):
    model, data = network(kind)
    want = plain(model, data[0])
    extra = options["extra_options"]
    asked = options | {"extra_options": extra and {extra: extra != "QuantizeBias"}, "fast": True}
    made = {r: bno.quantize(model, data, reduce_range=r, **asked) for r in (None, False, True)}
    can = options["quant_format"] == "QDQ" or options["activation_type"] == "uint8"
    assert bool(saturating_layers(made[False])) is can
    assert saturating_layers(made[None]) == []
    exact = {r: exact_session(one).run(None, data[0])[0] for r, one in made.items()}
    np.testing.assert_array_equal(plain(made[None], data[0]), exact[None])
    if not can:  # there is nothing to do
        np.testing.assert_array_equal(exact[None], exact[False])
    found = {r: snr_db(want, one) for r, one in exact.items()}
    # A scale at most twice as wide rounds no worse than 7 bits do, within what chance makes of it.
    assert found[None] > min(found[True], found[False]) - 0.5, found


def constants(model):
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def test_channels_that_fit_keep_their_scales():
    """Only what has a pair that does not fit gets another one, which is at most that of 7 bits."""
    model, data = network("conv")
    full, fitted = (constants(bno.quantize(model, data, reduce_range=r, fast=True)) for r in (False, None))
    codes, scale = full["w1_quantized"], full["w1_scale"]
    rows = np.moveaxis(codes, 1, -1).reshape(len(codes), -1).astype(int)
    pairs = np.abs(rows[:, 0::2] + rows[:, 1::2]).max(axis=1)
    fits = pairs <= 128
    assert 0 < np.count_nonzero(fits) < len(fits)
    np.testing.assert_array_equal(fitted["w1_scale"][fits], scale[fits])
    moved = fitted["w1_quantized"][fits].astype(int) - codes[fits]
    assert np.abs(moved).max() <= 1  # rounded the other way
    growth = fitted["w1_scale"][~fits] / scale[~fits]
    assert np.all((growth >= 1) & (growth <= 254 / 128 + 1e-6))
    assert np.any(growth > 1)
    wide = np.moveaxis(fitted["w1_quantized"], 1, -1).reshape(rows.shape).astype(int)
    assert np.abs(wide[:, 0::2] + wide[:, 1::2]).max() <= 128


def test_scales_that_were_asked_for_stay():
    model, data = network("conv")
    said = {"scale": np.float32(0.02), "zero_point": np.int8(0)}
    extra = {"TensorQuantOverrides": {"w1": [said]}}
    made = bno.quantize(model, data, extra_options=extra, fast=True)
    assert constants(made)["w1_scale"] == np.float32(0.02)
    assert saturating_layers(made) == ["one"]


def test_pairs_are_lowered_by_as_little_as_can_be():
    """Held to a search over all pairs of codes: the nearest pair that fits, by the squared distance."""
    grid = np.stack(np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)), -1).reshape(-1, 2)
    allowed = grid[np.abs(grid.sum(axis=1)) <= 128]
    rng = np.random.default_rng(2)
    codes = rng.integers(-128, 128, (100, 2))
    codes[:4] = [[127, 127], [-128, -128], [127, 2], [1, 127]]
    got = _pairs_lowered(codes.astype(np.float64))
    assert np.abs(got.sum(axis=1)).max() <= 128
    nearest = ((codes[:, np.newaxis] - allowed) ** 2).sum(axis=2).min(axis=1)
    np.testing.assert_array_equal(((codes - got) ** 2).sum(axis=1), nearest)


def test_a_last_product_without_a_second_stays():
    codes = np.array([[[100.0, 100.0, 127.0]]])
    np.testing.assert_array_equal(_pairs_lowered(codes), [[[64, 64, 127]]])


@pytest.mark.parametrize("products", [1, 2, 9, 64, 577])
def test_rows_keep_their_sums(products):
    """By roundings the other way, each by one step, none of which leaves a pair too large."""
    rng = np.random.default_rng(products)
    exact = np.clip(rng.normal(0, 30 if products < 64 else 20, (40, 2, products)) + 8, -127, 127)
    before = _pairs_lowered(exact.round())
    made = _sums_kept(before, exact)
    last = products // 2 * 2
    assert np.abs(made[..., :last:2] + made[..., 1:last:2]).max(initial=0) <= 128
    assert np.abs(made).max() <= 127
    moved = made - before
    assert set(np.unique(moved)) <= {-1, 0, 1}
    off, left = (exact - before).sum(axis=-1), (exact - made).sum(axis=-1)
    np.testing.assert_array_equal(np.abs(moved.sum(axis=-1)), np.abs(moved).sum(axis=-1))  # of one sign
    assert np.all(np.abs(left) <= np.maximum(np.abs(off), 0.5) + 1e-9)
    if products >= 64:
        assert np.abs(left).max() <= 0.5 + 1e-9
    # Those are moved that lose the least: by hand, row by row.
    rows = (array.reshape(-1, products) for array in (before, exact, moved))
    for codes, row, step in zip(*rows, strict=True):
        sign = 1 if step.sum() > 0 else -1
        left_out = [
            sign * (row[i] - codes[i])
            for i in range(products)
            if step[i] == 0
            and sign * codes[i] < 127
            and (i >= last or (step[i ^ 1] == 0 and sign * (codes[i] + codes[i ^ 1]) < 128))
        ]
        if step.any() and left_out:
            assert (sign * (row - codes))[step != 0].min() >= max(left_out)
