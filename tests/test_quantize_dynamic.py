"""Quantization parameters of an array's own range: torch's."""

import numpy as np
import pytest
import torch
from quantize_oracle import RULE, TORCH
from test_quantize import both

import bytenorm as bn


def dynamic_inputs(rng, count):
    for i in range(count):
        n = int(rng.integers(1, 70))
        size = np.exp(rng.uniform(-100, 85) if i % 2 else rng.uniform(-14, 4))
        x = rng.normal(0, 1, n) * size
        kind = i % 7
        if kind == 1:
            x = np.abs(x)
        elif kind == 2:
            x = -np.abs(x)
        elif kind == 3:
            x = x + rng.normal(0, 3) * size
        elif kind == 4:
            x = np.full(n, x[0])
        elif kind == 5:
            x = np.round(x / size * 8) * 0.125
        yield np.clip(x, -3.3e38, 3.3e38).astype(np.float32)


def check_dynamic(x, dtype, reduce_range):
    want = torch.quantize_per_tensor_dynamic(torch.from_numpy(x), TORCH[dtype], reduce_range)
    got = bn.quantize_per_tensor_dynamic(x, dtype, reduce_range, rounding=RULE)
    assert (got.scale, got.zero_point) == (want.q_scale(), want.q_zero_point()), x
    np.testing.assert_array_equal(got.data, want.int_repr().numpy())
    assert got.dtype is dtype


@both
@pytest.mark.parametrize("reduce_range", [False, True])
def test_dynamic(dtype, reduce_range):
    for x in dynamic_inputs(np.random.default_rng(9), 1500):
        check_dynamic(x, dtype, reduce_range)


FLOOR = np.float32(6.1e-5)  # the smallest scale


@both
@pytest.mark.parametrize("reduce_range", [False, True])
def test_dynamic_around_the_smallest_scale(dtype, reduce_range):
    rng = np.random.default_rng(10)
    for codes in (127, 255):
        edge = FLOOR * np.float32(codes)
        for steps in range(-3, 4):
            span = edge
            for _ in range(abs(steps)):
                span = np.nextafter(span, np.float32(np.inf if steps > 0 else 0))
            for part in (0.0, 1.0, 0.5, *rng.random(5)):
                low = np.float32(-part * span)
                check_dynamic(np.array([low, span + low, 0], np.float32), dtype, reduce_range)
    for _ in range(300):
        check_dynamic((rng.normal(0, 1, 9) * np.exp(rng.uniform(-20, -4))).astype(np.float32), dtype, reduce_range)


@both
@pytest.mark.parametrize("reduce_range", [False, True])
@pytest.mark.parametrize(
    "x",
    [
        *([0.0], [0.0] * 40, [-0.0], [1.0], [-1.0], [1e-45], [-1e-45, 1e-45], [1e-40, 0], [1e-38, 1]),
        *([6.1e-5 * 255], [-6.1e-5 * 127], [0, 255], [-128, 127], [0, 127], [-64, 63], [0.1, 25.5]),
        *([3e38, -3e38], [3.4028235e38], [-3.4028235e38], [-3.4028235e38, 3.4028235e38]),
    ],
    ids=str,
)
def test_dynamic_of_chosen_ranges(x, dtype, reduce_range):
    check_dynamic(np.array(x, np.float32), dtype, reduce_range)


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_dynamic_of_other_floats(kind):
    x = np.random.default_rng(11).normal(0, 3, 100).astype(kind)
    want = bn.quantize_per_tensor_dynamic(x.astype(np.float32), bn.quint8)
    got = bn.quantize_per_tensor_dynamic(x, bn.quint8)
    assert (got.scale, got.zero_point) == (want.scale, want.zero_point)
    np.testing.assert_array_equal(got.data, want.data)
