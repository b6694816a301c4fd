"""The operator against torch 2.13, bit for bit, and against exact arithmetic where torch has none."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import torch

import bytenorm as bn
from bytenorm import _core, reference

TORCH = {bn.quint8: torch.quint8, bn.qint8: torch.qint8}
OPERATORS = torch.ops.quantized


def random_parameters(rng, channels, *, ties=False):
    """Return weight, bias, mean, var; with `ties` slopes and intercepts become short binary fractions."""
    if ties:
        weight = rng.choice([-2.0, -1.0, -0.5, 0.25, 0.5, 1.0, 1.5, 3.0], channels)
        return [
            a.astype(np.float32)
            for a in (weight, rng.integers(-64, 65, channels) / 4, np.zeros(channels), np.ones(channels))
        ]
    weight, bias, mean = rng.normal(size=(3, channels))
    return [a.astype(np.float32) for a in (weight, bias, mean, rng.uniform(0.01, 3, channels))]


def torch_norm(q, scale, zero_point, parameters, eps, out_scale, out_zero_point, *, relu, channels_last=False):
    x = torch._make_per_tensor_quantized_tensor(torch.from_numpy(q), scale, zero_point)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last if q.ndim == 4 else torch.channels_last_3d)
    tensors = [torch.from_numpy(p) for p in parameters]
    if not relu:
        return torch.quantized_batch_norm(x, *tensors, eps, out_scale, out_zero_point).int_repr().numpy()
    operator = {2: OPERATORS.batch_norm1d_relu, 3: OPERATORS.batch_norm1d_relu, 4: OPERATORS.batch_norm2d_relu,
                5: OPERATORS.batch_norm3d_relu}[q.ndim]  # fmt: skip
    return operator(x, *tensors, eps, out_scale, out_zero_point).int_repr().numpy()


def in_memory_order(q, *, channels_last):
    """Return the same array, its channels last in memory if asked."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(q, 1, -1)), -1, 1) if channels_last else q


def test_the_documented_example():
    """Called as PyTorch's page prints it, on the same random numbers."""
    torch.manual_seed(7)
    x, mean, var = torch.rand(2, 2, 2, 2), torch.rand(2), torch.rand(2)
    qx = torch.quantize_per_tensor(x, 1.5, 3, torch.quint8)
    want = torch.quantized_batch_norm(qx, torch.ones(2), torch.zeros(2), mean, var, 0.00001, 0.2, 2)
    ours = bn.quantize_per_tensor(x, 1.5, 3, bn.quint8)
    got = bn.quantized_batch_norm(ours, torch.ones(2), torch.zeros(2), mean, var, 0.00001, 0.2, 2)
    np.testing.assert_array_equal(got.int_repr(), want.int_repr().numpy())
    assert " ".join(repr(got).split()) == " ".join(repr(want).replace("torch.", "bytenorm.").split())


@pytest.mark.parametrize("isa", _core.isas())
@pytest.mark.parametrize("ties", [False, True], ids=["random", "ties"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["channels-first", "channels-last"])
@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("dtype", [bn.quint8, bn.qint8], ids=["quint8", "qint8"])
def test_torch_sweep(rng, dtype, relu, channels_last, ties, isa):
    """Some 60 million elements on each instruction set, prepared or not, 1 or 2 threads: all equal torch."""
    _core.select_isa(isa)
    compared = 0
    channel_counts = [1, 2, 3, 5, 8, 16, 17, 31, 32, 33, 48, 63, 64, 65, 100, 127, 128, 129, 200, 255, 256, 300]
    for i, channels in enumerate(channel_counts * 2):
        ndim = (4, 5, 3, 2)[i % 4] if not channels_last else (4, 5)[i % 2]
        size = 90_000 // channels + 1
        shape = {2: (size, channels), 3: (3, channels, size // 3 + 1), 4: (2, channels, size // 40 + 1, 20),
                 5: (2, channels, 3, size // 60 + 1, 10)}[ndim]  # fmt: skip
        q = rng.integers(dtype.qmin, dtype.qmax + 1, shape).astype(dtype.numpy)
        parameters = random_parameters(rng, channels, ties=ties)
        scale, out_scale = (0.5, 0.25) if ties else rng.uniform(0.005, 0.1, 2).tolist()
        eps = 0.0 if ties else 1e-5
        zero, out_zero = rng.integers(dtype.qmin, dtype.qmax + 1, 2).tolist()
        want = torch_norm(
            q, scale, zero, parameters, eps, out_scale, out_zero, relu=relu, channels_last=channels_last
        )
        x = bn.QuantizedTensor(in_memory_order(q, channels_last=channels_last), scale, zero)
        norm = bn.BatchNorm(*parameters, eps=eps, output_scale=out_scale, output_zero_point=out_zero, relu=relu)
        for threads in (1, 2):
            bn.set_num_threads(threads)
            once = bn.quantized_batch_norm(x, *parameters, eps, out_scale, out_zero, relu=relu)
            results = [once, norm(x), norm(x)]  # the first call folds, the second one prepares
            for result in results:
                assert np.array_equal(result.data, want)
                compared += want.size
    assert compared >= 20_000_000  # in each of 16 combinations: 4 million different inputs, 6 ways


@pytest.fixture(autouse=True)
def settings_as_before():
    before = bn.get_num_threads(), _core.isa()
    yield
    bn.set_num_threads(before[0])
    _core.select_isa(before[1])


@pytest.mark.parametrize("out", [bn.quint8, bn.qint8], ids=["to-quint8", "to-qint8"])
@pytest.mark.parametrize("dtype", [bn.quint8, bn.qint8], ids=["quint8", "qint8"])
@pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
def test_mixed_types_and_per_channel_input(rng, dtype, out, relu):
    """What torch has not, on all 256 inputs, against rational arithmetic rounded once to float32."""
    channels = 6
    q = np.tile(np.arange(dtype.qmin, dtype.qmax + 1).astype(dtype.numpy), (channels, 1)).T
    weight, bias, mean, var = random_parameters(rng, channels)
    scales = rng.uniform(0.01, 0.1, channels)
    zeros = rng.integers(dtype.qmin, dtype.qmax + 1, channels)
    out_scale, out_zero = 0.031, int(rng.integers(out.qmin, out.qmax + 1))
    x = bn.QuantizedTensor(q, scales, zeros, axis=1)
    got = bn.quantized_batch_norm(
        x, weight, bias, mean, var, 1e-5, out_scale, out_zero, output_dtype=out, relu=relu
    )
    assert got.dtype is out
    slope, intercept = reference.fold(weight, bias, mean, var, 1e-5, scales, out_scale)
    for c in range(channels):
        for code, have in zip(q[:, c].tolist(), got.data[:, c].tolist(), strict=True):
            exact = Fraction(float(slope[c])) * (code - int(zeros[c])) + Fraction(float(intercept[c]))
            want = round(Fraction(float(np.float32(float(exact))))) + out_zero  # float(Fraction) rounds once
            want = min(max(want, out_zero if relu else out.qmin), out.qmax)
            if abs(exact - round(exact)) != Fraction(1, 2):
                assert have == want, (c, code)
    prepared = bn.BatchNorm(
        weight, bias, mean, var, output_scale=out_scale, output_zero_point=out_zero, output_dtype=out, relu=relu
    )
    np.testing.assert_array_equal(prepared(x).data, got.data)
    np.testing.assert_array_equal(prepared(x).data, got.data)


def test_per_channel_zero_point_is_subtracted_before_the_fma(rng):
    """Folding it into the intercept would change one or two elements in a million: find one such."""
    channels = 20_000
    q = np.tile(np.arange(256, dtype=np.uint8), (channels, 1)).T
    weight, bias, mean, var = random_parameters(rng, channels)
    scales, zeros = rng.uniform(0.01, 0.1, channels), rng.integers(0, 256, channels)
    got = bn.quantized_batch_norm(
        bn.QuantizedTensor(q, scales, zeros, 1), weight, bias, mean, var, 1e-5, 0.03, 100
    )
    want = reference.batch_norm(q, scales, zeros, weight, bias, mean, var, 1e-5, 0.03, 100, bn.quint8)
    np.testing.assert_array_equal(got.data, want)
    slope, intercept = reference.fold(weight, bias, mean, var, 1e-5, scales, 0.03)
    folded = reference.fma(slope, np.float32(-zeros), intercept)
    assert (reference.affine(q, slope, folded, 0, 100, bn.quint8) != want).any()


def test_weight_and_bias_left_out(rng):
    q = rng.integers(0, 256, (2, 5, 6, 7)).astype(np.uint8)
    x = bn.QuantizedTensor(q, 0.05, 100)
    mean, var = rng.normal(size=5), rng.uniform(0.1, 2, 5)
    rest = {"mean": mean, "var": var, "eps": 1e-5, "output_scale": 0.04, "output_zero_point": 90}
    want = bn.quantized_batch_norm(x, np.ones(5), np.zeros(5), **rest)
    for given in ({}, {"weight": None}, {"bias": None}, {"weight": None, "bias": None}):
        np.testing.assert_array_equal(bn.quantized_batch_norm(x, **given, **rest).data, want.data)
    norm = bn.BatchNorm(None, None, mean, var, output_scale=0.04, output_zero_point=90)
    np.testing.assert_array_equal(norm(x).data, want.data)
    assert norm.weight is None
    assert norm.bias is None


def test_result_says_its_quantization(rng):
    x = bn.QuantizedTensor(rng.integers(0, 256, (2, 3, 4)).astype(np.uint8), 0.05, 100)
    y = bn.quantized_batch_norm(x, None, None, np.zeros(3), np.ones(3), 1e-5, 1 / 3, -5, output_dtype=bn.qint8)
    assert (y.q_scale(), y.q_zero_point(), y.dtype, y.shape) == (1 / 3, -5, bn.qint8, (2, 3, 4))


class TestBatchNorm:
    @pytest.fixture
    def norm(self, rng):
        return bn.BatchNorm(
            *random_parameters(rng, 7), output_scale=0.05, output_zero_point=12, relu=True, eps=1e-3
        )

    @pytest.fixture
    def x(self, rng):
        return bn.QuantizedTensor(rng.integers(0, 256, (3, 7, 5, 5)).astype(np.uint8), 0.03, 77)

    def test_equals_the_function(self, norm, x):
        want = bn.quantized_batch_norm(x, norm.weight, norm.bias, norm.mean, norm.var, 1e-3, 0.05, 12, relu=True)
        for _ in range(3):
            np.testing.assert_array_equal(norm(x).data, want.data)

    def test_remembers_few_folds_and_stays_right(self, norm, rng):
        data = rng.integers(0, 256, (2, 7, 9)).astype(np.uint8)
        for scale in [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.01, 0.02] * 3:
            x = bn.QuantizedTensor(data, scale, 50)
            want = bn.quantized_batch_norm(
                x, norm.weight, norm.bias, norm.mean, norm.var, 1e-3, 0.05, 12, relu=True
            )
            np.testing.assert_array_equal(norm(x).data, want.data)
            assert norm._operator.folds <= 4

    def test_per_channel_inputs_are_told_apart(self, norm, rng):
        data = rng.integers(0, 256, (2, 7, 9)).astype(np.uint8)
        for _ in range(6):
            x = bn.QuantizedTensor(data, rng.uniform(0.01, 0.1, 7), rng.integers(0, 256, 7), axis=1)
            want = bn.quantized_batch_norm(
                x, norm.weight, norm.bias, norm.mean, norm.var, 1e-3, 0.05, 12, relu=True
            )
            for _ in range(3):
                np.testing.assert_array_equal(norm(x).data, want.data)

    def test_dtype_follows_the_input_if_not_given(self, norm, x):
        signed = bn.QuantizedTensor(x.data.view(np.int8), 0.03, 7)
        assert norm(x).dtype is bn.quint8
        assert norm(signed).dtype is bn.qint8

    def test_immutable(self, norm):
        with pytest.raises(AttributeError, match="immutable"):
            norm.eps = 1.0
        with pytest.raises(AttributeError, match="immutable"):
            norm.other = 1.0
        with pytest.raises(ValueError, match="read-only"):
            norm.mean[0] = 1.0

    def test_parameters_are_its_own(self, x):
        mean = np.zeros(7, np.float32)
        norm = bn.BatchNorm(None, None, mean, np.ones(7), output_scale=0.05, output_zero_point=12)
        before = norm(x).data.copy()
        mean[:] = 3
        np.testing.assert_array_equal(norm(x).data, before)
        assert norm.mean[0] == 0

    def test_replace(self, norm, x):
        plain = norm.replace(relu=False, output_scale=0.1)
        assert (plain.relu, plain.output_scale, plain.eps) == (False, 0.1, norm.eps)
        want = bn.quantized_batch_norm(x, norm.weight, norm.bias, norm.mean, norm.var, 1e-3, 0.1, 12)
        np.testing.assert_array_equal(plain(x).data, want.data)
        assert norm.relu
        with pytest.raises(TypeError, match="unknown"):
            norm.replace(unknown=1)

    def test_pickle(self, norm, x):
        norm(x)
        again = pickle.loads(pickle.dumps(norm))
        assert again._operator.folds == 0
        for name in ("eps", "axis", "relu", "output_scale", "output_zero_point", "output_dtype"):
            assert getattr(again, name) == getattr(norm, name)
        np.testing.assert_array_equal(again(x).data, norm(x).data)

    def test_many_threads_share_one(self, norm, rng):
        """Folds appear and are dropped while other threads use them."""
        cases = []
        for scale in np.linspace(0.01, 0.2, 9):
            x = bn.QuantizedTensor(rng.integers(0, 256, (2, 7, 40, 40)).astype(np.uint8), scale, 50)
            arguments = (norm.weight, norm.bias, norm.mean, norm.var, 1e-3, 0.05, 12)
            cases.append((x, bn.quantized_batch_norm(x, *arguments, relu=True).data))

        def work(seed):
            order = np.random.default_rng(seed).integers(0, len(cases), 200)
            return all(np.array_equal(norm(cases[i][0]).data, cases[i][1]) for i in order)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            with ThreadPoolExecutor(8) as pool:
                assert all(pool.map(work, range(8)))
        finally:
            sys.setswitchinterval(interval)

    def test_repr(self, norm):
        assert repr(norm) == (
            "bytenorm.BatchNorm(7 channels, eps=0.001, output_scale=0.05, output_zero_point=12, "
            "output_dtype=None, relu=True, axis=1)"
        )
