"""Re-estimation: against exact rational numbers over all data, and against torch's running statistics."""

import math
from decimal import Decimal, localcontext
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


def before_and_after(seed=0, widths=(1.0, 0.9, 1.2)):
    """Return numbers of a float network, and codes that an 8-bit one has for them: moved, stretched, rounded."""
    rng = np.random.default_rng(seed)
    x = rng.normal([0.3, -1, 2], [0.5, 1, 0.2], (200, 3)).astype(np.float32)
    codes = np.clip(np.rint((x * widths + [0.05, -0.1, 0]) / SCALE) + ZERO_POINT, 0, 255)
    return x, codes.astype(np.uint8)


def moments(values):
    """Return the mean and the variance (divided by n) of fractions."""
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / len(values)


def reals(codes):
    return [(int(code) - ZERO_POINT) * Fraction(SCALE) for code in codes]


def normalized(mean, var, norm, c):
    """Return the mean and the deviation that a norm without gain and bias makes of some, with 60 digits."""
    eps = Fraction(float(np.float32(norm.eps)))
    with localcontext(prec=60):
        m, v, p, q = (
            Decimal(f.numerator) / Decimal(f.denominator)
            for f in (mean, var, Fraction(float(norm.mean[c])), Fraction(float(norm.var[c])) + eps)
        )
        return (m - p) / q.sqrt(), (v / q).sqrt()


def reference_of(x):
    found = [moments([Fraction(float(value)) for value in channel]) for channel in x.T]
    return found, tuple(np.array([float(f) for f in part]) for part in zip(*found, strict=True))


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_the_corrected_norm_makes_of_the_codes_what_the_norm_made_of_the_numbers(seed, eps):
    x, codes = before_and_after(seed)
    exact_moments, reference = reference_of(x)
    norm = norm_of(eps=eps, relu=False)
    new = reestimate(norm, gathered([codes]), reference=reference)
    for c in range(3):
        wanted = normalized(*exact_moments[c], norm, c)
        got = normalized(*moments(reals(codes[:, c])), new, c)
        # The new mean and variance are rounded to float32, 2^-24 of them; the rest is float64.
        step = Decimal(2) ** -24 * Decimal("1.001")
        deviation = Decimal(float(new.var[c]) + eps).sqrt()
        assert abs(got[0] - wanted[0]) <= step * (abs(Decimal(float(new.mean[c]))) / deviation + abs(wanted[0]))
        assert abs(got[1] - wanted[1]) <= step * wanted[1]


def test_a_correction_undoes_what_statistics_of_the_data_would_lose():
    """The norm's own statistics are not those of the data: that is the network, and stays."""
    x, codes = before_and_after()
    norm = norm_of(relu=False, output_scale=0.1, output_zero_point=0)
    wanted = (x - norm.mean) / np.sqrt(norm.var + norm.eps) * norm.weight + norm.bias
    q = bn.QuantizedTensor(codes, SCALE, ZERO_POINT)
    _, reference = reference_of(x)
    corrected, fresh = (
        reestimate(norm, gathered([codes]), reference=reference),
        reestimate(norm, gathered([codes])),
    )
    error = [float(np.square(n.replace(axis=1)(q).dequantize() - wanted).mean()) for n in (corrected, norm, fresh)]
    assert error[0] < error[1] < error[2]


def test_a_correction_is_held_and_the_mean_is_right_all_the_same():
    x, codes = before_and_after(widths=(4.0, 0.2, 1.0))
    exact_moments, reference = reference_of(x)
    norm = norm_of(eps=0.0)
    new = reestimate(norm, gathered([codes]), reference=reference)
    np.testing.assert_array_equal(new.var[:2], (norm.var[:2].astype(np.float64) * [1.25**2, 0.8**2]).astype("f"))
    for c in range(2):
        wanted = normalized(*exact_moments[c], norm, c)[0]
        assert math.isclose(normalized(*moments(reals(codes[:, c])), new, c)[0], wanted, rel_tol=1e-6)


def test_a_variance_that_eps_leaves_no_room_for_is_0_and_the_mean_is_right():
    x, codes = before_and_after(widths=(0.8, 0.8, 0.8))
    exact_moments, reference = reference_of(x)
    norm = norm_of(eps=1.0).replace(var=[0.01, 0.0, 0.02])
    new = reestimate(norm, gathered([codes]), reference=reference)
    assert (new.var == 0).all()
    for c in range(3):
        wanted = normalized(*exact_moments[c], norm, c)[0]
        assert math.isclose(normalized(*moments(reals(codes[:, c])), new, c)[0], wanted, rel_tol=1e-6)


def test_channels_that_never_vary_in_one_of_the_networks_stay():
    x, codes = before_and_after()
    codes[:, 0], x[:, 1] = 9, 3.0
    norm = norm_of()
    _, (mean, var) = reference_of(x)
    new = reestimate(norm, gathered([codes]), reference=(mean, var))
    np.testing.assert_array_equal(new.mean[:2], norm.mean[:2])
    np.testing.assert_array_equal(new.var[:2], norm.var[:2])
    assert new.mean[2] != norm.mean[2] and new.var[2] != norm.var[2]


def test_a_correction_of_a_part():
    x, codes = before_and_after()
    norm, (_, reference) = norm_of(), reference_of(x)
    whole, half, none = (reestimate(norm, gathered([codes]), momentum=m, reference=reference) for m in (1, 0.5, 0))
    np.testing.assert_allclose(half.mean, (norm.mean + whole.mean) / 2, rtol=1e-6)
    np.testing.assert_allclose(half.var, (norm.var + whole.var) / 2, rtol=1e-6)
    np.testing.assert_array_equal(none.mean, norm.mean)
    np.testing.assert_array_equal(none.var, norm.var)


def test_a_norm_that_sees_what_the_float_network_sees_stays():
    _, codes = before_and_after()
    norm, statistics = norm_of(), gathered([codes])
    new = reestimate(norm, statistics, reference=(statistics.mean(), statistics.var()))
    np.testing.assert_array_equal(new.mean, norm.mean)
    np.testing.assert_allclose(new.var, norm.var, rtol=1.2e-7)  # one step of float32: eps is added and taken again


ZEROS, ONES = np.zeros(3), np.ones(3)


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ([ZEROS, ONES], TypeError, "reference must be a tuple of a mean and a variance, got list"),
        ((ZEROS,), TypeError, "reference must be a tuple of a mean and a variance, got a tuple of 1"),
        ((ZEROS, ONES, ONES), TypeError, "reference must be a tuple of a mean and a variance, got a tuple of 3"),
        (3, TypeError, "reference must be a tuple of a mean and a variance, got int"),
        ((None, ONES), TypeError, "reference's mean must be real numbers, got dtype object"),
        ((ZEROS, ONES * 1j), TypeError, "reference's variance must be real numbers, got dtype complex128"),
        ((["a"] * 3, ONES), TypeError, "reference's mean must be real numbers, got dtype <U1"),
        ((ZEROS > 1, ONES), TypeError, "reference's mean must be real numbers, got dtype bool"),
        (([10**400] * 3, ONES), TypeError, "reference's mean must be real numbers, got dtype object"),
        ((ZEROS.astype("M8[s]"), ONES), TypeError, "reference's mean must be real numbers, got dtype datetime64"),
        ((0.0, ONES), ValueError, r"reference's mean must have 3 values, one a channel, got shape \(\)"),
        (
            (ZEROS, ONES[:2]),
            ValueError,
            r"reference's variance must have 3 values, one a channel, got shape \(2,\)",
        ),
        ((ZEROS + math.nan, ONES), ValueError, "reference's mean must be finite, got nan"),
        ((ZEROS, ONES * math.inf), ValueError, "reference's variance must be finite, got inf"),
        ((ZEROS, -ONES), ValueError, "reference's variance must not be negative, got -1.0"),
        ((ONES * 1e300, ONES), ValueError, r"re-estimated mean\[0\] overflows float32"),
    ],
)
def test_a_reference_that_is_none(reference, error, message):
    with pytest.raises(error, match=message) as caught:
        reestimate(norm_of(), gathered(batches()), reference=reference)
    assert "\n" not in str(caught.value)


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
