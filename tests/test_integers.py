"""A norm in integers alone: every input of every channel gives the code, or a reason why none can."""

import ctypes
import os
import pickle
import re
import shutil
import subprocess
from fractions import Fraction
from itertools import combinations, product
from math import floor
from pathlib import Path

import numpy as np
import pytest

import bytenorm as bn
from bytenorm import reference
from bytenorm._norms.integer_lines import MOST_SHIFT, Lines, contradiction

PAGE = Path(__file__).resolve().parent.parent / "docs" / "integers.md"
TYPES = [bn.quint8, bn.qint8]
INPUT = (0.03, 5)


def random_norm(rng, channels, output_dtype, *, relu=False, flattest=0.01, steepest=30.0):
    """Return a norm whose slopes, for an input scale of 0.03, are of all sizes and signs."""
    slope = np.exp(rng.uniform(np.log(flattest), np.log(steepest), channels)) * rng.choice([-1, 1], channels)
    var = rng.uniform(0.5, 2, channels)
    return bn.BatchNorm(
        slope * np.sqrt(var) * 0.05 / 0.03,
        rng.normal(0, 3, channels),
        rng.normal(0, 1, channels),
        var,
        output_scale=0.05,
        output_zero_point=7,
        output_dtype=output_dtype,
        relu=relu,
    )


def every_code(dtype):
    return np.arange(dtype.qmin, dtype.qmax + 1)


def codes_of(norm, scale, zero_point, dtype):
    """Return the codes that the specification gives for all inputs, (C, 256)."""
    slope, intercept = reference.fold(
        norm.weight, norm.bias, norm.mean, norm.var, norm.eps, np.asarray(scale), norm.output_scale
    )
    zero_point = np.broadcast_to(zero_point, slope.shape)
    return reference.affine(
        every_code(dtype)[np.newaxis],
        slope[:, np.newaxis],
        intercept[:, np.newaxis],
        zero_point[:, np.newaxis],
        norm.output_zero_point,
        norm.output_dtype or dtype,
        norm.relu,
    )


def in_int32(n, dtype):
    """Return what the integers give for all inputs, each step in int32, where an overflow would show."""
    x = every_code(dtype).astype(np.int32)
    products = x * n.multiplier[:, np.newaxis]
    sums = products + n.addend[:, np.newaxis]
    assert (products == x.astype(object) * n.multiplier.astype(object)[:, np.newaxis]).all()
    assert (sums == products.astype(object) + n.addend.astype(object)[:, np.newaxis]).all()
    return np.clip(sums >> n.shift[:, np.newaxis], n.lowest, n.highest)


# Norms


@pytest.mark.parametrize(
    ("input_dtype", "output_dtype", "relu"), list(product(TYPES, TYPES, [False, True])), ids=str
)
def test_every_input_of_every_channel(rng, input_dtype, output_dtype, relu):
    norm = random_norm(rng, 300, output_dtype, relu=relu)
    n = norm.to_integers(*INPUT, input_dtype)
    want = codes_of(norm, *INPUT, input_dtype)
    assert n.proved.all()
    np.testing.assert_array_equal(in_int32(n, input_dtype), want)
    np.testing.assert_array_equal(n.codes, want)
    assert (n.input_dtype, n.output_dtype) == (input_dtype, output_dtype)
    assert (n.lowest, n.highest) == (7 if relu else output_dtype.qmin, output_dtype.qmax)
    assert n.codes.dtype == output_dtype.numpy
    assert {v.dtype for v in (n.multiplier, n.addend, n.shift)} == {np.dtype(np.int32)}


def test_one_quantization_a_channel(rng):
    """As a norm over a concatenation has it; scale or zero point alone may vary only together."""
    norm = random_norm(rng, 40, bn.quint8)
    scales, zero_points = rng.uniform(0.01, 0.05, 40), rng.integers(0, 256, 40)
    n = norm.to_integers(scales, zero_points, bn.quint8)
    np.testing.assert_array_equal(in_int32(n, bn.quint8), codes_of(norm, scales, zero_points, bn.quint8))


@pytest.mark.parametrize("axis", [0, 1, -1, 5, -64])
def test_axis_of_the_norm_is_no_matter(rng, axis):
    norm = random_norm(rng, 5, None)
    n = norm.replace(axis=axis).to_integers(*INPUT, bn.qint8)
    np.testing.assert_array_equal(n.codes, codes_of(norm, *INPUT, bn.qint8))
    assert n.output_dtype is bn.qint8


@pytest.mark.parametrize("channels", [0, 1, 65])
def test_any_number_of_channels(rng, channels):
    n = random_norm(rng, channels, bn.quint8).to_integers(*INPUT, bn.quint8)
    assert n.codes.shape == (channels, 256)
    assert n.proved.shape == n.shift.shape == (channels,)
    assert n.proved.all()


def test_nothing_can_be_changed(rng):
    n = random_norm(rng, 3, bn.quint8).to_integers(*INPUT, bn.quint8)
    for name in ("multiplier", "addend", "shift", "proved", "codes"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(n, name)[0] = 0
    with pytest.raises(AttributeError):
        n.lowest = 3
    again = pickle.loads(pickle.dumps(n))
    np.testing.assert_array_equal(again.multiplier, n.multiplier)
    assert repr(again) == repr(n)


# Lines


def rounded_down(slope, start, lowest, highest):
    return [min(max(floor(slope * x + start), lowest), highest) for x in range(-128, 128)]


def test_any_line(rng):
    """Codes that lie on a line are always found, however steep or flat, with shifts of at most 18."""
    lines, limits = [], (-128, 127)
    for _ in range(600):
        slope = Fraction(2.0 ** rng.uniform(-9, 20) * rng.choice([-1, 1]))
        at, code = Fraction(rng.uniform(-140, 140)), Fraction(rng.uniform(-135, 135))
        lines.append(rounded_down(slope, code - slope * at, *limits))
    for divisor in (1, 2, 3, 127, 128, 253, 254, 255):  # those that leave least room
        for multiple in (1, 2, divisor - 1, divisor + 1, 50 * divisor + 1):
            for start in (Fraction(0), Fraction(1, 2), Fraction(1, divisor), Fraction(1, 2**30)):
                lines.append(rounded_down(Fraction(multiple, divisor), start, *limits))
                lines.append(rounded_down(Fraction(-multiple, divisor), -start, *limits))
    found = Lines(np.array(lines), -128, *limits)
    assert found.proved.all()
    assert 12 <= found.shift.max() <= MOST_SHIFT


@pytest.mark.thorough
def test_no_smaller_shift(rng):
    """Against all multipliers there are: with a shift of one less none leaves an addend."""
    norm = random_norm(rng, 12, bn.quint8, steepest=2.0)
    n = norm.to_integers(*INPUT, bn.quint8)
    x = np.arange(256)
    for codes, shift, multiplier in zip(n.codes.astype(np.int64), n.shift, n.multiplier, strict=True):

        def smallest(shift, codes=codes):
            multipliers = np.arange(-(4 << shift), (4 << shift) + 1)[:, np.newaxis]
            low = np.where(codes > 0, (codes << shift) - x * multipliers, -(2**40)).max(axis=1)
            high = np.where(codes < 255, (codes + 1 << shift) - 1 - x * multipliers, 2**40).min(axis=1)
            good = multipliers[low <= high, 0]
            return good[abs(good).argmin()] if len(good) else None

        assert smallest(int(shift)) == multiplier
        if shift:
            assert smallest(int(shift) - 1) is None


def test_what_follows_no_line(rng):
    """Exact ties go to the even code. The inputs that are named contradict each other in exact arithmetic."""
    norm = bn.BatchNorm(
        [1.0, 3.0, 5.0, 0.37, -1.0],
        [0.0, 0.0, 0.1, 0.0, 0.0],
        [0.0] * 5,
        [1.0] * 5,
        eps=0,
        output_scale=0.2,
        output_zero_point=10,
    )
    n = norm.to_integers(0.1, 0, bn.quint8, partial=True)
    assert n.proved.tolist() == [False, False, False, True, False]
    np.testing.assert_array_equal(n.codes, codes_of(norm.replace(output_dtype=bn.quint8), 0.1, 0, bn.quint8))
    np.testing.assert_array_equal(in_int32(n, bn.quint8)[3], n.codes[3])
    assert not np.stack([n.multiplier, n.addend, n.shift])[:, ~n.proved].any()
    assert list(n.unproved) == [0, 1, 2, 4]
    for channel, why in n.unproved.items():
        codes = n.codes[channel].tolist()
        inputs = contradiction(n.codes[channel], 0, 0, 255)
        assert 3 <= len(inputs) <= 4
        assert re.findall(r"\d+", why) == [str(v) for v in (*inputs, *(codes[x] for x in inputs))]
        steeper = [
            Fraction(codes[b] - codes[a] - 1, b - a)
            for a, b in combinations(inputs, 2)
            if codes[b] > 0 and codes[a] < 255
        ]
        flatter = [
            Fraction(codes[b] + 1 - codes[a], b - a)
            for a, b in combinations(inputs, 2)
            if codes[a] > 0 and codes[b] < 255
        ]
        assert max(steeper) >= min(flatter)  # the slope would be strictly between


def test_contradictions_and_integers_exclude_each_other(rng):
    """Codes that were moved by one here and there: either the one or the other, never neither or both."""
    codes = np.array([rounded_down(Fraction(rng.uniform(-3, 3)), Fraction(rng.uniform(-90, 90)), -128, 127)
                      for _ in range(200)])  # fmt: skip
    at = rng.integers(0, 256, 200)
    codes[np.arange(200), at] = np.clip(codes[np.arange(200), at] + rng.choice([-1, 1], 200), -128, 127)
    proved = Lines(codes, -128, -128, 127).proved
    assert 20 < proved.sum() < 180
    assert [contradiction(c, -128, -128, 127) is None for c in codes] == proved.tolist()


# What is refused


@pytest.fixture
def norm():
    return bn.BatchNorm(None, None, [0.0] * 12, [1.0] * 12, eps=0, output_scale=0.2, output_zero_point=0)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((0.1, 0, "quint8"), TypeError, "input_dtype must be bytenorm.quint8 or bytenorm.qint8, got 'quint8'"),
        ((0.1, 0, np.uint8), TypeError, "input_dtype must be bytenorm.quint8 or bytenorm.qint8, got <class 'nump"),
        (("a", 0, bn.quint8), TypeError, "input_scale must be a real number, got 'a' of type str"),
        ((None, 0, bn.quint8), TypeError, "input_scale must be a real number, got None"),
        ((0.0, 0, bn.quint8), ValueError, "input_scale must be positive and finite in float32"),
        ((np.nan, 0, bn.quint8), ValueError, "input_scale must be positive and finite in float32"),
        ((0.1, 0.5, bn.quint8), TypeError, "input_zero_point must be an integer, got 0.5"),
        ((0.1, 128, bn.qint8), ValueError, "input_zero_point must be from -128 to 127 for bytenorm.qint8"),
        (([0.1] * 11, [0] * 12, bn.quint8), ValueError, "input_scale must have one value for each of 12 channels"),
        (([0.1] * 12, 0, bn.quint8), ValueError, "input_zero_point must have one value for each of 12 channels"),
        ((0.1, [0] * 12, bn.quint8), ValueError, r"input_scale must have one value for each of 12 channels, got"),
        (([0.1] * 12, [-1] * 12, bn.quint8), ValueError, r"input_zero_point\[0\] must be from 0 to 255"),
        (([0.1] * 11 + [-1], [0] * 12, bn.quint8), ValueError, r"input_scale\[11\] must be positive and finite"),
        ((1e38, 0, bn.quint8), ValueError, "the slope of channel 0, .* overflows float32"),
        ((0.1, 0, bn.quint8), ValueError, "no integers give the codes of channel 0, 1, 2, 3, 4, 5, 6, 7 and 4 more"
         ": in channel 0 no line gives the inputs 1, 3 and 5 the codes 0, 2 and 2; partial=True"),
    ],
)  # fmt: skip
def test_bad_input(norm, given, error, message):
    with pytest.raises(error, match=message):
        norm.to_integers(*given)


def test_bad_input_that_depends_on_the_type(norm):
    with pytest.raises(ValueError, match=r"^output_zero_point must .*got 200$"):
        norm.replace(output_zero_point=200).to_integers(0.1, 0, bn.qint8)
    with pytest.raises(TypeError, match="partial must be True or False, got 1 of type int"):
        norm.to_integers(0.1, 0, bn.quint8, partial=1)


# In C


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Return the page's function for types of input and output; it traps where int32 overflows."""
    source = re.search(r"^```c\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)[1]
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    folder = tmp_path_factory.mktemp("c")

    def build(input_dtype, output_dtype):
        text = source
        for name, dtype in (("input_t", input_dtype), ("output_t", output_dtype)):
            text, count = re.subn(rf"typedef uint8_t {name};", f"typedef {dtype.numpy}_t {name};", text)
            assert count == 1
        file, library = folder / "norm.c", folder / f"{input_dtype.name}_{output_dtype.name}.so"
        file.write_text(text)
        flags = "-std=c99 -pedantic -Wall -Wextra -Werror -O2 -shared -fPIC -fsanitize=undefined"
        command = [*compiler.split(), *flags.split(), "-fsanitize-undefined-trap-on-error"]
        subprocess.run([*command, "-o", library, file], check=True)
        function = ctypes.CDLL(str(library)).norm_channel
        function.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_size_t] * 2 + [ctypes.c_int32] * 5
        function.restype = None
        return function

    return build


@pytest.mark.parametrize(("input_dtype", "output_dtype"), list(product(TYPES, TYPES)), ids=str)
def test_c(rng, compiled, input_dtype, output_dtype):
    """All inputs of all channels, apart and in place, in planes and in rows."""
    function = compiled(input_dtype, output_dtype)
    norm = random_norm(rng, 200, output_dtype, relu=True, flattest=1e-4, steepest=1000.0)
    n = norm.to_integers(*INPUT, input_dtype)
    want = codes_of(norm, *INPUT, input_dtype)
    planes = np.ascontiguousarray(np.broadcast_to(every_code(input_dtype).astype(input_dtype.numpy), want.shape))
    for x, in_place in ((planes, False), (np.ascontiguousarray(planes.T), False), (planes.copy(), True)):
        channels_last = x.shape == (256, 200)
        y = x.view(want.dtype) if in_place else np.zeros(x.shape, want.dtype)
        for c in range(200):
            at, step = (c, 200) if channels_last else (c * 256, 1)
            constants = (n.multiplier[c], n.addend[c], n.shift[c], n.lowest, n.highest)
            function(x.ctypes.data + at, y.ctypes.data + at, 256, step, *map(int, constants))
        np.testing.assert_array_equal(y.T if channels_last else y, want)
