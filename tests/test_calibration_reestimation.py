"""Re-estimation: against exact rational numbers over all data, and against torch's running statistics."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import bytenorm as bn
from bytenorm.calibration import ChannelStatistics, reestimate


def batches(seed=0):
    """Return batches of unequal size whose means differ much, so that the mean of their variances is far off."""
    rng = np.random.default_rng(seed)
    sizes, centres = (1, 7, 300, 40), (30, 220, 100, 180)
    return [
        np.clip(rng.normal(c, 15, (n, 3, 4, 5)), 0, 255).astype(np.uint8)
        for n, c in zip(sizes, centres, strict=True)
    ]


SCALE, ZERO_POINT = 0.03, 77


def gathered(arrays, histogram=True):
    statistics = ChannelStatistics(arrays[0].shape[1], histogram=histogram)
    for codes in arrays:
        statistics.update(bn.QuantizedTensor(codes, SCALE, ZERO_POINT))
    return statistics


def norm_of(channels=3, **changes):
    arguments = {"eps": 1e-3, "output_scale": 0.02, "output_zero_point": 5, "output_dtype": bn.qint8, "relu": True}
    vectors = [np.linspace(0.5, 2, channels) + i for i in range(4)]
    return bn.BatchNorm(*vectors, axis=-3, **{**arguments, **changes})


def exact(codes):
    """Return mean and unbiased variance of each channel as fractions."""
    scale, found = Fraction(SCALE), []
    for channel in np.moveaxis(codes, 1, 0).reshape(codes.shape[1], -1).tolist():
        n = len(channel)
        mean = Fraction(sum(channel), n)
        squares = sum((code - mean) ** 2 for code in channel)
        found.append(((mean - ZERO_POINT) * scale, squares / (n - 1) * scale**2))
    return found


def nearest_float32(value):
    """Return the float32 number next to a fraction."""
    about = np.float32(float(value))
    candidates = [np.nextafter(about, np.float32(-np.inf)), about, np.nextafter(about, np.float32(np.inf))]
    return min(candidates, key=lambda candidate: abs(Fraction(float(candidate)) - value))


@pytest.mark.parametrize("histogram", [True, False])
def test_pooled_statistics_are_those_of_the_concatenated_data(histogram):
    arrays = batches()
    new = reestimate(norm_of(), gathered(arrays, histogram))
    for c, (mean, var) in enumerate(exact(np.concatenate(arrays))):
        assert new.mean[c] == nearest_float32(mean)
        assert new.var[c] == nearest_float32(var)


def test_the_mean_of_the_batch_variances_is_something_else():
    """So the batches above can tell the two apart."""
    arrays = batches()
    var = reestimate(norm_of(), gathered(arrays)).var
    within = np.mean([a.var(axis=(0, 2, 3), ddof=1) * SCALE**2 for a in arrays], axis=0)
    assert (var > 1.5 * within).all()


@pytest.mark.parametrize("momentum", [1.0, 0.1, 0.5])
def test_torch_updates_its_running_statistics_alike(momentum):
    codes = np.concatenate(batches())
    norm = norm_of()
    module = torch.nn.BatchNorm2d(3, eps=1e-3, momentum=momentum).double()
    with torch.no_grad():
        module.running_mean.copy_(torch.from_numpy(norm.mean.copy()))
        module.running_var.copy_(torch.from_numpy(norm.var.copy()))
    module.train()(torch.from_numpy((codes.astype(np.float64) - ZERO_POINT) * SCALE))
    new = reestimate(norm, gathered([codes]), momentum=momentum)
    np.testing.assert_allclose(new.mean, module.running_mean, rtol=1e-6)
    np.testing.assert_allclose(new.var, module.running_var, rtol=1e-6)


def test_a_momentum_of_0_changes_nothing():
    norm = norm_of()
    new = reestimate(norm, gathered(batches()), momentum=0)
    np.testing.assert_array_equal(new.mean, norm.mean)
    np.testing.assert_array_equal(new.var, norm.var)


def test_only_mean_and_var_change():
    norm = norm_of()
    new = reestimate(norm, gathered(batches()))
    for name in ("weight", "bias"):
        np.testing.assert_array_equal(getattr(new, name), getattr(norm, name))
    for name in ("eps", "output_scale", "output_zero_point", "output_dtype", "relu", "axis"):
        assert getattr(new, name) == getattr(norm, name)
    assert not np.array_equal(new.mean, norm.mean)
    np.testing.assert_array_equal(norm.mean, norm_of().mean)


def test_the_new_norm_normalizes_what_it_was_estimated_from():
    codes = np.concatenate(batches())
    norm = bn.BatchNorm(None, None, [9.0] * 3, [50.0] * 3, output_scale=0.03, output_zero_point=128)
    new = reestimate(norm, gathered([codes]))
    y = new(bn.QuantizedTensor(codes, SCALE, ZERO_POINT)).dequantize()
    assert np.abs(y.mean(axis=(0, 2, 3))).max() < 0.01
    assert np.abs(y.std(axis=(0, 2, 3)) - 1).max() < 0.01


def test_per_channel_input():
    codes = np.concatenate(batches())
    scale, zero_point = np.array([0.1, 0.02, 0.3]), np.array([10, 20, 200])
    statistics = ChannelStatistics(3)
    statistics.update(bn.QuantizedTensor(codes, scale, zero_point, axis=1))
    new = reestimate(norm_of(), statistics)
    x = (codes.astype(np.float64) - zero_point[:, None, None]) * scale[:, None, None]
    np.testing.assert_allclose(new.mean, x.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(new.var, x.var(axis=(0, 2, 3), ddof=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([1], gathered(batches())), {}, TypeError, "norm must be a bytenorm.BatchNorm, got list"),
        ((norm_of(), 3), {}, TypeError, "statistics must be a ChannelStatistics, got int"),
        ((norm_of(2), gathered(batches())), {}, ValueError, "statistics has 3 channels, but mean has 2 values"),
        ((norm_of(), ChannelStatistics(3)), {}, ValueError, "at least 2 elements a channel, got 0"),
        (
            (norm_of(), gathered([batches()[0][:, :, :1, :1]])),
            {},
            ValueError,
            "at least 2 elements a channel, got 1",
        ),
        ((norm_of(), gathered(batches())), {"momentum": 1.5}, ValueError, "momentum must be from 0 to 1, got 1.5"),
        ((norm_of(), gathered(batches())), {"momentum": -0.1}, ValueError, "momentum must be from 0 to 1"),
        ((norm_of(), gathered(batches())), {"momentum": math.nan}, ValueError, "momentum must be from 0 to 1"),
        ((norm_of(), gathered(batches())), {"momentum": None}, TypeError, "momentum must be a real number"),
    ],
)
def test_bad_input(arguments, options, error, message):
    with pytest.raises(error, match=message) as caught:
        reestimate(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_values_that_no_norm_can_hold():
    statistics = ChannelStatistics(1)
    statistics.update(bn.QuantizedTensor(np.array([[0], [255]], np.uint8), 1e30, 0))
    with pytest.raises(ValueError, match=r"re-estimated var\[0\] overflows float32"):
        reestimate(norm_of(1), statistics)
    constant = gathered([np.full((4, 1, 2, 2), 9, np.uint8)])
    with pytest.raises(ValueError, match=r"var\[0\] \+ eps must be positive"):
        reestimate(norm_of(1, eps=0.0), constant)
