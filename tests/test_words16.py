"""Channels in 16-bit words: what is proved gives every code, and whole networks are."""

import itertools

import numpy as np
import pytest
import torch
from benchmarks.networks import images
from benchmarks.networks.builder import EPSILON, Builder
from benchmarks.networks.densenet import densenet121
from onnx import helper, numpy_helper
from sklearn.datasets import load_digits

import bytenorm as bn
from bytenorm import _core, reference
from bytenorm import onnx as bno

FLAGS = list(itertools.product((bn.quint8, bn.qint8), (bn.quint8, bn.qint8), (False, True)))


def every_code(dtype):
    return np.arange(dtype.qmin, dtype.qmax + 1)[np.newaxis]


def fitted(parameters, input_dtype, output_dtype, relu, output_zero_point):
    """Return multiplier, addend, shift, fine byte of each channel, and which are proved."""
    signed = input_dtype is bn.qint8, output_dtype is bn.qint8
    found = np.array(_core.fit_words(*parameters, *signed, relu, output_zero_point)).reshape(-1, 5)
    return found[:, :4].T[..., np.newaxis], found[:, 4].astype(bool)


def in_words(words, input_dtype, output_dtype, relu, output_zero_point):
    """Return what the words give for every input, each step as the instruction does it."""
    multiplier, addend, shift, fine = words
    word = 256 * (every_code(input_dtype) - (0 if input_dtype is bn.qint8 else 128)) + fine
    assert ((word >= -32768) & (word <= 32767)).all()
    product = (word * multiplier + (1 << 14)) >> 15
    code = np.clip(product + addend, -32768, 32767) >> shift
    return np.clip(code, output_zero_point if relu else output_dtype.qmin, output_dtype.qmax)


def wanted(parameters, input_dtype, output_dtype, relu, output_zero_point):
    each = [p[:, np.newaxis] for p in parameters]
    return reference.affine(every_code(input_dtype), *each, output_zero_point, output_dtype, relu)


def check(parameters, *how):
    """Hold what is proved to the reference; return which channels are."""
    words, proved = fitted(parameters, *how)
    multiplier, addend, shift, fine = words
    assert (abs(multiplier) <= 32767).all()
    assert ((addend >= -32768) & (addend <= 32767)).all()
    assert ((shift[proved] >= 2) & (shift[proved] <= 9)).all()
    assert ((fine >= 0) & (fine <= 255)).all()
    np.testing.assert_array_equal(in_words(words, *how)[proved], wanted(parameters, *how)[proved])
    return proved


def channels(rng, count, slopes, input_dtype):
    slope = np.exp(rng.uniform(*np.log(slopes), count)) * np.where(rng.random(count) < 0.2, -1, 1)
    zero_point = rng.choice([0, 40, 128, 200], count) + input_dtype.qmin
    return [p.astype(np.float32) for p in (slope, rng.normal(0, 40, count), zero_point)]


@pytest.mark.parametrize(("input_dtype", "output_dtype", "relu"), FLAGS, ids=str)
def test_random_channels(rng, input_dtype, output_dtype, relu):
    """Slopes of all sizes: nearly all channels are proved, and give every code."""
    for slopes in ((0.02, 0.3), (0.3, 1), (1, 2.5), (2.5, 60)):
        zero_point = int(rng.integers(output_dtype.qmin, output_dtype.qmax + 1))
        proved = check(channels(rng, 1200, slopes, input_dtype), input_dtype, output_dtype, relu, zero_point)
        assert proved.mean() > 0.99, slopes


@pytest.mark.parametrize(("input_dtype", "output_dtype", "relu"), FLAGS, ids=str)
def test_edges(rng, input_dtype, output_dtype, relu):
    """Ties, which follow no line; lines beyond all words; no line at all; constants."""
    edges = [0.0, 1.0, -1.0, 0.5, -0.25, 2.0**-30, 1e-45, 0.999, 63.9, -64.0, 64.1, 250.0, -3e4, 1e30, -3e38]
    slope, intercept, at = (p.ravel() for p in np.meshgrid(edges, [0, 0.5, -7, 127.5, 300, -9e3, 3e38], [0, 9]))
    parameters = [p.astype(np.float32) for p in (slope, intercept, at + input_dtype.qmin)]
    for zero_point in (output_dtype.qmin, output_dtype.qmin + 9, output_dtype.qmax):
        how = input_dtype, output_dtype, relu, zero_point
        proved = check(parameters, *how)
        codes = wanted(parameters, *how)
        assert proved[(codes == codes[:, :1]).all(axis=1)].all()  # constants always are
    ties = [np.round(p * 4) / 4 for p in channels(rng, 500, (0.3, 2.5), input_dtype)]
    proved = check(ties, input_dtype, output_dtype, relu, output_dtype.qmin + 3)
    assert 0.05 < proved.mean() < 0.9


def test_a_multiplier_close_to_a_simple_fraction():
    """Half of 2^15: two fine bytes after another give the same constant. Another multiplier is found."""
    parameters = [np.float32([value]) for value in (4.003504, -15.6176405, 127)]
    assert check(parameters, bn.quint8, bn.quint8, True, 0).all()


def test_what_is_not_finite_is_not_proved():
    nan, inf = np.float32(np.nan), np.float32(np.inf)
    for slope, intercept in ((nan, 0), (inf, 0), (-inf, 0), (1, nan), (nan, nan)):
        parameters = [np.float32([v]) for v in (slope, intercept, 0)]
        words, proved = fitted(parameters, bn.quint8, bn.quint8, False, 0)
        assert not proved.any() or len(np.unique(in_words(words, bn.quint8, bn.quint8, False, 0))) == 1


# Channels with and without words


@pytest.fixture(params=_core.isas())
def isa(request):
    """Every instruction set of this machine, with outputs past the cache from 4 KiB on."""
    before = _core.isa(), _core.set_stream_from(4096)
    _core.select_isa(request.param)
    yield
    _core.select_isa(before[0])
    _core.set_stream_from(before[1])


@pytest.mark.parametrize("relu", [False, True])
def test_channels_that_differ_beside_each_other(rng, isa, relu):
    """Words, 32 bits for what words refuse, float32 for ties: planes, rows, pieces; apart and in place."""
    many = channels(rng, 12000, (0.3, 1), bn.quint8)
    many[2][:] = 113
    refused = np.flatnonzero(~fitted(many, bn.quint8, bn.quint8, relu, 9)[1])
    assert len(refused) > 1
    for count, pixels in ((64, 80), (200, 130), (33, 300), (1024, 9), (7, 49), (256, 20)):
        slope, intercept, at = (p[:count].copy() for p in many)
        some = rng.choice(count, 1 + count // 50, replace=False)
        others = rng.choice(refused, len(some))
        slope[some], intercept[some] = (p[others] for p in many[:2])
        if count > 64:
            slope[-1], intercept[-1] = 0.5, 0
        each = [p[:, np.newaxis] for p in (slope, intercept, at)]
        codes = rng.integers(0, 256, (3, count, pixels), np.uint8)
        want = reference.affine(codes, *each, 9, bn.quint8, relu)
        norm = bn.BatchNorm(
            slope,
            intercept,
            np.zeros(count),
            np.ones(count),
            eps=0,
            output_scale=1.0,
            output_zero_point=9,
            relu=relu,
        )
        for order in ((0, 1, 2), (0, 2, 1)):
            back = np.argsort(order)
            x = codes.transpose(order).copy().transpose(back)
            q = bn.QuantizedTensor(x, 1.0, 113)
            for _ in range(3):
                np.testing.assert_array_equal(norm(q).data, want)
            pieces = [np.ascontiguousarray(p.transpose(order)).transpose(back) for p in np.split(codes, [3, 5], 1)]
            several = [bn.QuantizedTensor(p, 1.0, 113) for p in pieces if p.shape[1]]
            for _ in range(2):
                np.testing.assert_array_equal(bn.concat_batch_norm(several, norm).data, want)
            norm(q, out=x)
            np.testing.assert_array_equal(x, want)


# Networks


def check_norm(norm, scale, zero_point, dtype):
    """Return how many channels of a norm there are and how many are proved."""
    slope, intercept = reference.fold(
        norm["weight"],
        norm["bias"],
        norm["mean"],
        norm["var"],
        norm["eps"],
        np.float64(scale),
        norm["output_scale"],
    )
    parameters = slope, intercept, np.full_like(slope, zero_point)
    proved = check(parameters, dtype, norm["output_dtype"], norm["relu"], norm["output_zero_point"])
    return len(proved), np.count_nonzero(proved)


def test_every_channel_of_the_digits_network():
    pictures = np.kron(load_digits().images[:64] / 16, np.ones((3, 3)))  # smaller digits than it knows, but digits
    pictures = np.pad(pictures, ((0, 0), (2, 2), (2, 2))).astype(np.float32)[:, np.newaxis]
    model = bno.quantize(bno.digits_model(), [{"image": pictures}], lowering="exact")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    counts = []
    for node in model.graph.node:
        if node.op_type == "QLinearBatchNormalization":
            x_scale, x_zero_point, weight, bias, mean, var, y_scale, y_zero_point = (
                constants[name] for name in node.input[1:]
            )
            given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            norm = {
                "weight": weight, "bias": bias, "mean": mean, "var": var, "eps": given["epsilon"],
                "relu": bool(given["relu"]),
                "output_scale": float(y_scale), "output_zero_point": int(y_zero_point),
                "output_dtype": bn.quint8 if y_zero_point.dtype == np.uint8 else bn.qint8,
            }  # fmt: skip
            dtype = bn.quint8 if x_zero_point.dtype == np.uint8 else bn.qint8
            counts.append(check_norm(norm, float(x_scale), int(x_zero_point), dtype))
    assert len(counts) > 1
    assert all(proved == total for total, proved in counts), counts


class Quantized(Builder):
    """Notes what each norm with its relu is in uint8, by minimum and maximum of what passes."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.found = []

    def norm(self, name, x):
        y = super().norm(name, x)
        weight, bias, mean, var = (numpy_helper.to_array(tensor) for tensor in self._constants[-4:])
        low, high = min(0.0, float(x.data.min())), max(0.0, float(x.data.max()))
        scale = (high - low) / 255
        norm = {
            "weight": weight, "bias": bias, "mean": mean, "var": var, "eps": EPSILON, "relu": True,
            "output_scale": float(y.data.max()) / 255, "output_zero_point": 0, "output_dtype": bn.quint8,
        }  # fmt: skip
        self.found.append((norm, scale, round(-low / scale), bn.quint8))
        return y


@pytest.mark.thorough
def test_every_channel_of_the_densenet_of_the_benchmark():
    """Its weights, its pictures made smaller, its way to quantize."""
    network = Quantized("densenet121", np.ascontiguousarray(images.load(images.CALIBRATION)[:, :, ::2, ::2]), 0)
    with torch.inference_mode():
        densenet121(network)
    counts = [check_norm(*each) for each in network.found]
    assert len(counts) == 121
    assert sum(total for total, _ in counts) > 30000
    assert all(proved == total for total, proved in counts), [c for c in counts if c[0] != c[1]]
