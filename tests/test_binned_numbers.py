"""Numbers in bins: nothing is lost when they widen, and the ends are exact."""

import numpy as np
import pytest

from bytenorm._dtypes import qint8, quint8
from bytenorm.calibration.qparams.binned import HALF, BinnedNumbers
from bytenorm.calibration.qparams.output_qparams import choose_for_numbers


@pytest.mark.parametrize("order", [1, -1])
def test_a_wider_batch_merges_bins(order):
    rng = np.random.default_rng(0)
    batches = [rng.normal(0, spread, 5000).astype(np.float32) for spread in (0.01, 1.0, 300.0)][::order]
    numbers = BinnedNumbers()
    for batch in batches:
        numbers.add(batch)
    every = np.sort(np.concatenate(batches).astype(np.float64))
    found = numbers.distribution()
    assert (numbers.low, numbers.high, numbers.count) == (every[0], every[-1], every.size)
    assert found.weights.sum() == every.size
    assert found.values @ found.weights == pytest.approx(every.sum(), rel=0, abs=1e-9 * np.abs(every).sum())
    # A bin is no wider than 1/4096 of the reach: the width doubles until the reach is within 8192 of them.
    width = 2 * np.abs(every).max() / HALF
    at = np.repeat(found.values, found.weights)
    assert np.abs(at - every).max() <= width


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_known(bad):
    numbers = BinnedNumbers()
    for batch in ([1.0, 2.0], [bad, 1.0], [3.0]):
        numbers.add(np.array(batch, np.float32))
    assert not numbers.is_finite


def test_zeros_and_nothing():
    numbers = BinnedNumbers()
    assert not numbers.is_finite
    numbers.add(np.zeros((0, 3), np.float32))
    numbers.add(np.zeros(10, np.float32))
    assert (numbers.low, numbers.high, numbers.count) == (0, 0, 10)
    numbers.add(np.array([5.0], np.float32))
    found = numbers.distribution()
    assert found.values.tolist() == [0, 5]
    assert found.weights.tolist() == [10, 1]


@pytest.mark.parametrize("dtype", [quint8, qint8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_choice_is_as_good_as_the_best_of_many(dtype, symmetric):
    numbers, x = BinnedNumbers(), np.random.default_rng(1).standard_t(4, 40_000).astype(np.float32) + 2
    numbers.add(x)
    scale, zero_point = choose_for_numbers(numbers.distribution(), dtype, "mse", symmetric=symmetric)

    def error(scale, zero_point):
        codes = np.clip(np.rint(x / scale) + zero_point, dtype.qmin, dtype.qmax)
        return np.mean((x - (codes - zero_point) * scale) ** 2)

    middle = (dtype.qmin + dtype.qmax + 1) // 2
    zeros = [middle] if symmetric else range(dtype.qmin, dtype.qmax + 1, 8)
    best = min(error(s, z) for s in scale * np.linspace(0.5, 2, 31) for z in zeros)
    assert (
        error(scale, zero_point) <= best * 1.01
    )  # the spread within a bin, 1/16 of a step, is 1/256 of the error
    assert zero_point == middle or not symmetric
