"""The specification against things we did not write: exact rational arithmetic, and torch."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from exact_rounding import round_half_even, round_to_float32

import bytenorm as bn
from bytenorm import reference


def test_fma_rounds_once(rng):
    a = rng.normal(size=4000).astype(np.float32)
    b = rng.integers(-255, 256, 4000).astype(np.float32)
    c = (rng.normal(size=4000) * 10.0 ** rng.integers(-9, 9, 4000)).astype(np.float32)
    c[::3] = -(a[::3] * b[::3])  # nearly everything cancels
    got = reference.fma(a, b, c)
    want = [
        round_to_float32(Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z)))
        for x, y, z in zip(a, b, c, strict=True)
    ]
    np.testing.assert_array_equal(got, np.array(want, np.float32))


def test_fma_where_rounding_twice_would_show():
    # a * b + c lies 2^-70 below the middle of two float32 numbers. float64 rounds it to the middle, from which
    # float32 goes to the even neighbour above; rounded once it is the one below.
    a, b = np.float32(2**-12 * (1 + 2**-23)), np.float32(2**-12 * (1 - 2**-23))
    c = np.float32(1 + 2**-23)
    assert np.float32(np.float64(a) * np.float64(b) + np.float64(c)) == np.float32(1 + 2**-22)
    assert reference.fma(a, b, c) == c


@pytest.mark.parametrize("dtype", [bn.quint8, bn.qint8])
def test_element_is_the_exact_one(rng, dtype):
    codes = np.arange(dtype.qmin, dtype.qmax + 1)
    for _ in range(40):
        slope = np.float32(rng.normal() * 10.0 ** rng.uniform(-3, 2))
        intercept = np.float32(rng.normal() * 10.0 ** rng.uniform(-2, 3))
        zero, out_zero = int(rng.integers(dtype.qmin, dtype.qmax)), int(rng.integers(dtype.qmin, dtype.qmax))
        got = reference.affine(codes, slope, intercept, zero, out_zero, dtype)
        for code, have in zip(codes.tolist(), got.tolist(), strict=True):
            y = round_to_float32(Fraction(float(slope)) * (code - zero) + Fraction(float(intercept)))
            q = round_half_even(Fraction(float(y))) + out_zero
            assert have == min(max(q, dtype.qmin), dtype.qmax)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", [bn.quint8, bn.qint8])
def test_batch_norm_is_torch(rng, dtype, relu):
    operator = torch.ops.quantized.batch_norm2d_relu if relu else torch.ops.quantized.batch_norm2d
    for _ in range(30):
        channels = int(rng.integers(1, 70))
        q = rng.integers(dtype.qmin, dtype.qmax + 1, (2, channels, 5, 7)).astype(dtype.numpy)
        weight, bias, mean = rng.normal(size=(3, channels)).astype(np.float32)
        var = rng.uniform(0, 3, channels).astype(np.float32)
        scale, out_scale = rng.uniform(0.001, 0.2, 2).tolist()
        zero, out_zero = rng.integers(dtype.qmin, dtype.qmax + 1, 2).tolist()
        x = torch._make_per_tensor_quantized_tensor(torch.from_numpy(q), scale, zero)
        parameters = [torch.from_numpy(p) for p in (weight, bias, mean, var)]
        want = operator(x, *parameters, 1e-3, out_scale, out_zero).int_repr().numpy()
        got = reference.batch_norm(q, scale, zero, weight, bias, mean, var, 1e-3, out_scale, out_zero, dtype, relu)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", [bn.quint8, bn.qint8])
def test_sum_is_the_exact_one(rng, dtype):
    pairs = [
        (0.1, 0.2, 0.3), (0.5, 0.5, 1.0), (1.0, 1.0, 2.0), (0.25, 1.5, 1.0), (1.5, 2.0**-40, 1.0),
        (0.5, 3 * 2.0**-60, 1.0), (1e-30, 0.5, 1.0), (1e30, 1e30, 1.0), (0.5, 2.0**-149, 1.0),
    ]  # fmt: skip
    pairs += rng.uniform(0.001, 1, (20, 3)).tolist()
    for a_scale, b_scale, scale in pairs:
        a, b = rng.integers(dtype.qmin, dtype.qmax + 1, (2, 400))
        za, zb, zero = rng.integers(dtype.qmin, dtype.qmax + 1, 3).tolist()
        got = reference.add(a, a_scale, za, b, b_scale, zb, scale, zero, dtype)
        ma, mb = (Fraction(float(np.float32(s / scale))) for s in (a_scale, b_scale))
        for x, y, have in zip(a.tolist(), b.tolist(), got.tolist(), strict=True):
            q = round_half_even(ma * (x - za) + mb * (y - zb)) + zero
            assert have == min(max(q, dtype.qmin), dtype.qmax)


@pytest.mark.parametrize("relu", [False, True])
def test_norm_of_an_exact_sum(rng, relu):
    """Each addition rounded to double once; for usual slopes that is the rational number itself."""
    for spread in (1.0, 12.0):
        channels = 60
        weight, bias = (rng.normal(size=(2, channels)) * 10 ** rng.uniform(-spread, 1, (2, channels))).astype("f")
        weight[:9], bias[:9] = np.round(weight[:9] * 4) / 4, 0.25
        mean, var = np.zeros(channels, np.float32), np.ones(channels, np.float32)
        a, b = rng.integers(0, 256, (2, 100, channels))
        norm = (weight, bias, mean, var, 0.0, 0.5, 7, bn.qint8, relu)
        got = reference.add_batch_norm_exact(a, 0.5, 100, b, 2.0, 3, *norm)
        slope, intercept = reference.fold(weight, bias, mean, var, 0.0, 0.5, 0.5)
        for c in range(channels):
            m, n, k = (Fraction(float(v)) for v in (slope[c], 4 * slope[c], intercept[c]))
            for x, y, have in zip(a[:, c].tolist(), b[:, c].tolist(), got[:, c].tolist(), strict=True):
                exact = m * (x - 100) + n * (y - 3) + k
                rounded = Fraction(float(m * (x - 100) + Fraction(float(n * (y - 3) + k))))
                assert spread > 1 or abs(slope[c]) < 2**-8 or rounded == exact
                q = round_half_even(rounded) + 7
                assert have == min(max(q, 7 if relu else -128), 127)


def test_sum_where_double_would_round_onto_a_tie():
    """2.5 and 2^-100: the sum is no double, and the nearest one is a tie, which half to even takes to 2."""
    codes = np.array([5]), np.array([1])
    arguments = [codes[0], 0.5, 0, codes[1], 2.0**-100, 0, 1.0, 0, bn.quint8]
    assert reference.add(*arguments) == 3
    assert reference.add(*arguments[:3], np.array([0]), *arguments[4:]) == 2
    assert reference.add(*arguments[:5], 2, *arguments[6:]) == 2
