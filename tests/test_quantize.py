import functools
import math
from fractions import Fraction

import numpy as np
import pytest
from quantize_oracle import dequantized, quantized, torch

import bytenorm as bn
from bytenorm import _core

DTYPES = [bn.quint8, bn.qint8]
both = pytest.mark.parametrize("dtype", DTYPES, ids=repr)

# Around the widths of vectors, and lengths that leave every kind of rest.
SIZES = [*range(34), 47, 48, 49, 62, 63, 64, 65, 66, 95, 96, 97, 127, 128, 129, 255, 256, 257, 1000]

SPECIAL = [0.0, -0.0, 1e-45, -1e-45, 1e-38, 1e30, -1e30, 2.0**31, -(2.0**31), 2147483520.0, 2.0**32, 9.3e18, 1e19]
SPECIAL += [3.4028235e38, -3.4028235e38, math.inf, -math.inf]
SPECIAL = np.array(SPECIAL, np.float32)


@pytest.fixture(params=bn.show_config()["isas"])
def isa(request):
    before = _core.isa()
    _core.select_isa(request.param)
    yield request.param
    _core.select_isa(before)


@pytest.fixture(params=[1, 2])
def threads(request):
    before = bn.get_num_threads()
    bn.set_num_threads(request.param)
    yield request.param
    bn.set_num_threads(before)


def near_ties(rng, shape, scale, zero_point, dtype):
    """Return numbers at most three float32 steps away from the middle of two codes, some beyond the range."""
    middle = rng.integers(dtype.qmin - 4, dtype.qmax + 4, shape) - np.asarray(zero_point) + 0.5
    x = (middle * np.asarray(scale)).astype(np.float32)
    for _ in range(3):
        x = np.where(rng.random(shape) < 0.4, np.nextafter(x, rng.choice(np.float32([-np.inf, np.inf]))), x)
    return x


# --- per tensor -----------------------------------------------------------------------------------------------


@both
def test_per_tensor_of_every_size(dtype, isa):
    rng = np.random.default_rng(0)
    for n in SIZES:
        for scale, zero_point in ((0.1, dtype.qmin), (1 / 3, 5), (1.0, dtype.qmax)):
            x = rng.normal(0, 100 * scale, n).astype(np.float32)
            q = bn.quantize_per_tensor(x, scale, zero_point, dtype)
            np.testing.assert_array_equal(q.data, quantized(x, scale, zero_point, dtype), strict=True)
            assert (q.scale, q.zero_point, q.axis, q.dtype) == (scale, zero_point, None, dtype)


@both
def test_per_tensor_near_ties(dtype, isa):
    rng = np.random.default_rng(1)
    for _ in range(80):
        scale = float(np.exp(rng.uniform(-60, 60)))
        zero_point = int(rng.integers(dtype.qmin, dtype.qmax + 1))
        x = near_ties(rng, 999, scale, zero_point, dtype)
        codes = bn.quantize_per_tensor(x, scale, zero_point, dtype).data
        np.testing.assert_array_equal(codes, quantized(x, scale, zero_point, dtype))


@both
def test_per_tensor_far_away(dtype, isa):
    for scale in (1.0, 0.1, 1e-5, 1e5, 1e-37, 3e38):
        for zero_point in (dtype.qmin, 3, dtype.qmax):
            # Each number meets each place of a vector, and each place of what is left over.
            for n in (*range(1, 20), 64 * len(SPECIAL) + 5):
                x = np.resize(np.roll(SPECIAL, n), n)
                codes = bn.quantize_per_tensor(x, scale, zero_point, dtype).data
                np.testing.assert_array_equal(codes, quantized(x, scale, zero_point, dtype))


@both
def test_infinities_saturate(dtype, isa):
    x = np.tile(np.float32([np.inf, -np.inf, 3e38, -3e38]), 40)[:-1]
    want = np.tile([dtype.qmax, dtype.qmin], 80)[:-1]
    assert bn.quantize_per_tensor(x, 1e-3, 7, dtype).data.tolist() == want.tolist()
    per_channel = bn.quantize_per_channel(x[None], [1e-3], [7], 0, dtype)
    assert per_channel.data[0].tolist() == want.tolist()
    along = bn.quantize_per_channel(x, np.full(x.size, 1e-3), np.full(x.size, 7), 0, dtype)
    assert along.data.tolist() == want.tolist()


def test_one_rounding_per_tensor_and_two_per_channel():
    differ = 0
    for scale in (0.1, 0.3, 0.7, 1.3):
        x = near_ties(np.random.default_rng(20), (1, 1000), scale, 0, bn.quint8)
        one = bn.quantize_per_tensor(x, scale, 1, bn.quint8).data
        two = bn.quantize_per_channel(x, [scale], [1], 0, bn.quint8).data
        np.testing.assert_array_equal(one, quantized(x, scale, 1, bn.quint8))
        np.testing.assert_array_equal(two, quantized(x, [scale], [1], bn.quint8, 0))
        differ += int((one != two).sum())
    assert differ > 0  # otherwise these numbers would prove nothing


@both
def test_every_code_comes_back(dtype):
    codes = np.arange(dtype.qmin, dtype.qmax + 1).astype(dtype.numpy)
    for scale in (0.1, 1.0, 1 / 3, 1e-20, 1e20):
        for zero_point in (dtype.qmin, 0, 100, dtype.qmax):
            q = bn.QuantizedTensor(codes, scale, zero_point)
            again = bn.quantize_per_tensor(q.dequantize(), scale, zero_point, dtype)
            np.testing.assert_array_equal(again.data, codes)


# --- per channel ----------------------------------------------------------------------------------------------


def channel_parameters(rng, n, dtype):
    return np.exp(rng.uniform(-8, 8, n)), rng.integers(dtype.qmin, dtype.qmax + 1, n)


@both
@pytest.mark.parametrize("shape", [(37,), (5, 33), (33, 5), (2, 3, 4), (3, 17, 5, 9), (2, 3, 2, 5, 7)], ids=str)
def test_per_channel_on_every_axis(shape, dtype, isa):
    rng = np.random.default_rng(2)
    for axis, n in enumerate(shape):
        scales, zero_points = channel_parameters(rng, n, dtype)
        along = [1] * len(shape)
        along[axis] = n
        for x in (
            (rng.normal(0, 60, shape) * scales.reshape(along)).astype(np.float32),
            near_ties(rng, shape, scales.reshape(along), zero_points.reshape(along), dtype),
            rng.choice(SPECIAL, shape),
        ):
            want = quantized(x, scales, zero_points, dtype, axis)
            for name in (axis, axis - len(shape)):
                q = bn.quantize_per_channel(x, scales, zero_points, name, dtype)
                np.testing.assert_array_equal(q.data, want, strict=True)
                assert q.axis == axis
                assert q.scale.tolist() == scales.tolist()
                assert q.zero_point.tolist() == zero_points.tolist()


@both
def test_per_channel_of_every_size(dtype, isa):
    rng = np.random.default_rng(3)
    for n in SIZES[1:]:
        scales, zero_points = channel_parameters(rng, n, dtype)
        rows = (rng.normal(0, 60, (3, n)) * scales).astype(np.float32)
        q = bn.quantize_per_channel(rows, scales, zero_points, 1, dtype)
        np.testing.assert_array_equal(q.data, quantized(rows, scales, zero_points, dtype, 1))
        columns = np.ascontiguousarray(rows.T)
        q = bn.quantize_per_channel(columns, scales, zero_points, 0, dtype)
        np.testing.assert_array_equal(q.data, quantized(columns, scales, zero_points, dtype, 0))


# --- memory layouts -------------------------------------------------------------------------------------------


def unaligned(x):
    memory = bytearray(x.nbytes + 1)
    made = np.frombuffer(memory, x.dtype, offset=1).reshape(x.shape)
    made[...] = x
    return made


def read_only(x):
    made = x.copy()
    made.flags.writeable = False
    return made


LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
    "fortran": np.asfortranarray,
    "transposed": lambda x: np.ascontiguousarray(x.transpose(2, 0, 3, 1)).transpose(1, 3, 0, 2),
    "strided": lambda x: np.repeat(np.repeat(x, 2, 3), 3, 0)[::3, :, :, ::2],
    "slice": lambda x: np.pad(x, 2)[2:-2, 2:-2, 2:-2, 2:-2],
    "reversed": lambda x: x[::-1, ::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1, ::-1],
    "reversed rows": lambda x: x[:, :, ::-1].copy()[:, :, ::-1],
    "reversed, channels last": lambda x: np.moveaxis(np.moveaxis(x, 1, -1)[..., ::-1].copy()[..., ::-1], -1, 1),
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "unaligned": unaligned,
    "read-only": read_only,
}
if torch is not None:
    LAYOUTS |= {
        "torch": torch.from_numpy,
        "torch, permuted": lambda x: torch.from_numpy(x).permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
    }


def memory_order(array):
    """Return the strides in elements of the axes that have a meaning."""
    return [s // array.itemsize for n, s in zip(array.shape, array.strides, strict=True) if n > 1]


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (2, 1, 3, 1), (1, 16, 1, 1), (2, 0, 3, 4)], ids=str)
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, kind, shape):
    rng = np.random.default_rng(4)
    values = rng.normal(0, 9, shape).astype(kind)
    x = LAYOUTS[layout](values)
    narrow = values.astype(np.float32)
    like = np.empty_like(np.asarray(x))
    for dtype in DTYPES:
        q = bn.quantize_per_tensor(x, 0.1, 9, dtype)
        np.testing.assert_array_equal(q.data, quantized(narrow, 0.1, 9, dtype), strict=True)
        assert memory_order(q.data) == memory_order(like)
        for axis, n in enumerate(shape):
            if 0 in shape:
                continue
            scales, zero_points = rng.uniform(0.05, 0.2, n), rng.integers(0, 128, n)
            q = bn.quantize_per_channel(x, scales, zero_points, axis, dtype)
            np.testing.assert_array_equal(q.data, quantized(narrow, scales, zero_points, dtype, axis), strict=True)
            assert memory_order(q.data) == memory_order(like)
        if values.size:
            q = bn.quantize_per_tensor_dynamic(x, dtype)
            want = bn.quantize_per_tensor_dynamic(narrow, dtype)
            assert (q.scale, q.zero_point) == (want.scale, want.zero_point)
            np.testing.assert_array_equal(q.data, want.data, strict=True)
            assert memory_order(q.data) == memory_order(like)


def test_input_is_only_read():
    x = np.random.default_rng(5).normal(size=(3, 4, 5)).astype(np.float32)
    before = x.copy()
    bn.quantize_per_tensor(x, 0.1, 3, bn.quint8)
    bn.quantize_per_channel(x, np.full(4, 0.1), np.full(4, 3), 1, bn.quint8)
    bn.quantize_per_tensor_dynamic(x, bn.qint8)
    np.testing.assert_array_equal(x, before)


def test_expanded_input():
    row = np.random.default_rng(6).normal(size=(1, 7)).astype(np.float32)
    x = np.broadcast_to(row, (5, 7))
    q = bn.quantize_per_tensor(x, 0.1, 3, bn.quint8)
    np.testing.assert_array_equal(q.data, quantized(x, 0.1, 3, bn.quint8))
    q = bn.quantize_per_channel(x, np.full(5, 0.1), np.arange(5), 0, bn.quint8)
    np.testing.assert_array_equal(q.data, quantized(x, [0.1] * 5, list(range(5)), bn.quint8, 0))


@pytest.mark.parametrize("x", [np.float32(1.5), np.float64(1.5), np.array(1.5), 1.5, [1.5, -2.0], [[0.1], [0.2]]])
@both
def test_numbers_and_lists(x, dtype):
    q = bn.quantize_per_tensor(x, 0.1, 3, dtype)
    np.testing.assert_array_equal(q.data, quantized(x, 0.1, 3, dtype), strict=True)
    assert q.shape == np.shape(x)


@both
def test_wider_and_narrower_floats_become_float32_first(dtype):
    rng = np.random.default_rng(7)
    # A little above the tie in float64, on it in float32.
    x = (np.arange(-40, 40) + 0.5) * (1 + np.array([0, 1e-9, -1e-9])[:, None])
    assert (
        bn.quantize_per_tensor(x, 1.0, 3, dtype).data.tolist()
        == np.tile(quantized(x[0], 1.0, 3, dtype), (3, 1)).tolist()
    )
    assert bn.quantize_per_tensor(np.array([1e300, -1e300, 1e-300]), 1.0, 3, dtype).data.tolist() == [
        dtype.qmax,
        dtype.qmin,
        3,
    ]
    half = np.append(rng.normal(0, 10, 300), [65504, -65504, np.inf, -np.inf, 6e-8]).astype(np.float16)
    for codes in (
        bn.quantize_per_tensor(half, 0.1, 3, dtype).data,
        bn.quantize_per_tensor(half.astype(">f2"), 0.1, 3, dtype).data,
    ):
        np.testing.assert_array_equal(codes, quantized(half, 0.1, 3, dtype))


@pytest.mark.parametrize("shape", [(400_001,), (64, 3, 50, 50), (3, 700, 7, 7), (2, 100, 3, 900)], ids=str)
def test_as_many_threads_as_work(shape, threads, isa):
    rng = np.random.default_rng(8)
    x = rng.normal(0, 9, shape).astype(np.float32)
    codes = bn.quantize_per_tensor(x, 0.1, 9, bn.quint8)
    np.testing.assert_array_equal(codes.data, quantized(x, 0.1, 9, bn.quint8))
    np.testing.assert_array_equal(codes.dequantize(), (codes.data.astype(np.float32) - 9) * np.float32(0.1))
    for axis, n in enumerate(shape):
        scales, zero_points = rng.uniform(0.05, 0.2, n).astype(np.float32), rng.integers(0, 128, n)
        q = bn.quantize_per_channel(x, scales, zero_points, axis, bn.qint8)
        np.testing.assert_array_equal(q.data, quantized(x, scales, zero_points, bn.qint8, axis))
        along = [-1 if d == axis else 1 for d in range(len(shape))]
        centred = q.data.astype(np.float32) - zero_points.astype(np.float32).reshape(along)
        np.testing.assert_array_equal(q.dequantize(), centred * scales.reshape(along))


def test_numpy_error_state_changes_nothing():
    x = np.float64([1e-45, 1e-300, 1e300, -np.inf, 0.5])
    for scale in np.float32([1e-38, 1e-5, 3e38]).tolist():
        usual = bn.quantize_per_tensor(x, scale, 3, bn.quint8)
        with np.errstate(all="raise"):
            np.testing.assert_array_equal(bn.quantize_per_tensor(x, scale, 3, bn.quint8).data, usual.data)
            q = bn.quantize_per_channel(x, [scale] * 5, [3] * 5, 0, bn.quint8)
            np.testing.assert_array_equal(q.data, usual.data)
            np.testing.assert_array_equal(q.dequantize(), usual.dequantize())
            bn.requantize(usual, max(scale, 1e-30), 3)
    tiny = np.float32([1e-40, -1e-42])
    usual = bn.quantize_per_tensor_dynamic(tiny, bn.qint8)
    with np.errstate(all="raise"):
        assert bn.quantize_per_tensor_dynamic(tiny, bn.qint8).scale == usual.scale


# --- NaN ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nan", [np.nan, -np.nan, np.uint32(0x7F800001).view(np.float32)])
def test_nan_is_refused_wherever_it_is(nan, isa):
    for n in (1, 2, 8, 9, 31, 32, 33, 67):
        for at in range(n):
            x = np.zeros(n, np.float32)
            x[at] = nan
            with pytest.raises(ValueError, match=r"input .*NaN"):
                bn.quantize_per_tensor(x, 0.1, 3, bn.quint8)
            with pytest.raises(ValueError, match=r"input .*NaN"):
                bn.quantize_per_channel(x, np.full(n, 0.1), np.full(n, 3), 0, bn.quint8)
            with pytest.raises(ValueError, match=r"input .*nan"):
                bn.quantize_per_tensor_dynamic(x, bn.quint8)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("at", [(0, 0, 0), (39, 29, 49), (20, 3, 31)])
def test_nan_in_a_large_input_of_any_type(kind, at, threads):
    x = np.zeros((40, 30, 50), kind)
    x[at] = np.nan
    for array in (x, x.transpose(1, 2, 0), x[:, ::-1]):
        with pytest.raises(ValueError, match=r"input .*NaN"):
            bn.quantize_per_tensor(array, 0.1, 3, bn.quint8)
        for axis, n in enumerate(array.shape):
            with pytest.raises(ValueError, match=r"input .*NaN"):
                bn.quantize_per_channel(array, np.full(n, 0.1), np.full(n, 3), axis, bn.quint8)


# --- dequantize -----------------------------------------------------------------------------------------------


@both
def test_dequantize_every_code(dtype, isa):
    codes = np.arange(dtype.qmin, dtype.qmax + 1).astype(dtype.numpy)
    rng = np.random.default_rng(12)
    for _ in range(300):
        scale, zero_point = float(np.exp(rng.uniform(-87, 87))), int(rng.integers(dtype.qmin, dtype.qmax + 1))
        want = dequantized(codes, scale, zero_point)
        q = bn.QuantizedTensor(codes, scale, zero_point)
        np.testing.assert_array_equal(q.dequantize(), want, strict=True)
        np.testing.assert_array_equal(bn.dequantize(q), want, strict=True)


@both
@pytest.mark.parametrize("rounded", [True, False], ids=["float32 scales", "float64 scales"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_dequantize_per_channel(axis, rounded, dtype, isa):
    rng = np.random.default_rng(13)
    shape = (19, 21, 23)
    codes = rng.integers(dtype.qmin, dtype.qmax + 1, shape).astype(dtype.numpy)
    scales, zero_points = channel_parameters(rng, shape[axis], dtype)
    if rounded:
        scales = scales.astype(np.float32).astype(np.float64)
    want = dequantized(codes, scales, zero_points, axis)
    got = bn.QuantizedTensor(codes, scales, zero_points, axis).dequantize()
    np.testing.assert_array_equal(got, want, strict=True)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "torch" not in name])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3])
def test_dequantize_layouts(layout, axis):
    rng = np.random.default_rng(14)
    codes = rng.integers(0, 256, (3, 5, 4, 6)).astype(np.uint8)
    data = LAYOUTS[layout](codes)
    if axis is None:
        scale, zero_point = 0.1, 9
        q = bn.QuantizedTensor(data, scale, zero_point)
    else:
        along = [-1 if d == axis else 1 for d in range(4)]
        scale, zero_point = rng.uniform(0.05, 0.2, codes.shape[axis]).astype(np.float32), rng.integers(0, 255, 6)
        zero_point = zero_point[: len(scale)]
        q = bn.QuantizedTensor(data, scale, zero_point, axis)
        scale, zero_point = scale.reshape(along), zero_point.reshape(along)
    real = q.dequantize()
    want = (codes.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    np.testing.assert_array_equal(real, want, strict=True)
    assert memory_order(real) == memory_order(np.empty_like(data))


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1, 1)])
def test_dequantize_next_to_nothing(shape):
    real = bn.dequantize(bn.QuantizedTensor(np.full(shape, 7, np.uint8), 0.5, 3))
    np.testing.assert_array_equal(real, np.full(shape, 2, np.float32), strict=True)


# --- requantize: exact arithmetic, no torch -------------------------------------------------------------------


def rounded(value, bits, smallest):
    """Round a fraction to so many bits, half to even; `smallest` is the exponent of the last bit there is."""
    if value == 0:
        return value
    size = abs(value)
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if size < Fraction(2) ** exponent:
        exponent -= 1
    last = Fraction(2) ** max(exponent - bits + 1, smallest)
    return round(value / last) * last


def to_float32(value):
    return rounded(value, 24, -149)


def to_float64(value):
    return rounded(value, 53, -1074)


@functools.cache
def ratio(scale_in, scale_out):
    return to_float32(to_float64(Fraction(scale_in) / Fraction(scale_out)))


@functools.cache
def requantized(code, scale_in, zero_point_in, scale_out, zero_point_out, dtype):
    exact = round(to_float32((code - zero_point_in) * ratio(scale_in, scale_out))) + zero_point_out
    return min(max(exact, dtype.qmin), dtype.qmax)


def test_the_exact_arithmetic_rounds_as_ieee():
    rng = np.random.default_rng(15)
    for value in [*np.exp(rng.uniform(-105, 88, 300)), 2.0**-149, 2.0**-150, 1 + 2**-24, 1 + 3 * 2**-24, -0.1]:
        assert to_float32(Fraction(float(value))) == Fraction(float(np.float32(value)))
        assert to_float64(Fraction(float(value)) / 3) == Fraction(float(value) / 3)


def all_codes(dtype):
    return np.arange(dtype.qmin, dtype.qmax + 1).astype(dtype.numpy)


@both
@pytest.mark.parametrize("output_dtype", [None, *DTYPES], ids=repr)
def test_requantize(dtype, output_dtype, isa):
    rng = np.random.default_rng(16)
    codes = all_codes(dtype)
    kind = output_dtype or dtype
    ratios = [0.5, 1.5, 2.5, 0.25, 1 / 3, 0.1, 1.0, 1 / 510, 1e-30, 1e30, 3e38, 3.0**-80, 1e-40, 1e-46]
    ratios += np.exp(rng.uniform(-6, 6, 12)).tolist()
    for wanted in ratios:
        scale_out = wanted**-0.5
        scale_in = wanted * scale_out
        zero_point_in = int(rng.integers(dtype.qmin, dtype.qmax + 1))
        zero_point_out = int(rng.integers(kind.qmin, kind.qmax + 1))
        q = bn.requantize(
            bn.QuantizedTensor(codes, scale_in, zero_point_in), scale_out, zero_point_out, output_dtype
        )
        want = [requantized(int(c), scale_in, zero_point_in, scale_out, zero_point_out, kind) for c in codes]
        assert q.data.tolist() == want
        assert (q.dtype, q.scale, q.zero_point, q.axis) == (kind, scale_out, zero_point_out, None)


@both
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_requantize_per_channel(axis, dtype, isa):
    rng = np.random.default_rng(17)
    shape = (5, 7, 9)
    codes = rng.integers(dtype.qmin, dtype.qmax + 1, shape).astype(dtype.numpy)
    scales, zero_points = channel_parameters(rng, shape[axis], dtype)
    for kind in DTYPES:
        got = bn.requantize(bn.QuantizedTensor(codes, scales, zero_points, axis), 0.3, 11, kind)
        want = np.empty(shape, kind.numpy)
        for at in np.ndindex(shape):
            c = at[axis]
            want[at] = requantized(int(codes[at]), scales[c], int(zero_points[c]), 0.3, 11, kind)
        np.testing.assert_array_equal(got.data, want, strict=True)
        assert (got.axis, got.scale, got.zero_point) == (None, 0.3, 11)


@pytest.mark.parametrize("n", SIZES)
def test_requantize_every_size(n, isa):
    codes = np.random.default_rng(18).integers(0, 256, n).astype(np.uint8)
    table = np.array([requantized(c, 0.2, 9, 0.07, 100, bn.qint8) for c in range(256)], np.int8)
    q = bn.requantize(bn.QuantizedTensor(codes, 0.2, 9), 0.07, 100, bn.qint8)
    np.testing.assert_array_equal(q.data, table[codes], strict=True)


@functools.cache
def channel_tables(n):
    """Return scales and zero points of n channels, and the exact result of all their codes."""
    rng = np.random.default_rng(n)
    scales, zero_points = rng.uniform(0.05, 0.5, n), rng.integers(0, 256, n)
    tables = [
        [requantized(c, s, int(z), 0.2, 100, bn.quint8) for c in range(256)]
        for s, z in zip(scales, zero_points, strict=True)
    ]
    return scales, zero_points, np.array(tables, np.uint8)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "torch" not in name])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, 3])
def test_requantize_layouts(layout, axis, threads):
    codes = np.random.default_rng(19).integers(0, 256, (13, 32, 15, 18)).astype(np.uint8)
    data = LAYOUTS[layout](codes)
    scales, zero_points, tables = channel_tables(1 if axis is None else codes.shape[axis])
    if axis is None:
        q, channel = bn.QuantizedTensor(data, float(scales[0]), int(zero_points[0])), 0
    else:
        q = bn.QuantizedTensor(data, scales, zero_points, axis)
        channel = np.arange(len(scales)).reshape([-1 if d == axis else 1 for d in range(4)])
    got = bn.requantize(q, 0.2, 100)
    np.testing.assert_array_equal(got.data, tables[channel, codes], strict=True)
    assert memory_order(got.data) == memory_order(np.empty_like(data))


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1, 1)])
def test_requantize_next_to_nothing(shape):
    q = bn.requantize(bn.QuantizedTensor(np.full(shape, 7, np.uint8), 0.5, 3), 0.25, 1, bn.qint8)
    np.testing.assert_array_equal(q.data, np.full(shape, 9, np.int8), strict=True)


def test_requantize_of_an_overflowing_ratio():
    q = bn.QuantizedTensor(all_codes(bn.quint8), 1e30, 3)
    with pytest.raises(ValueError, match=r"scale.*overflow.*1e\+30.*1e-30"):
        bn.requantize(q, 1e-30, 3)
    per_channel = bn.QuantizedTensor(np.zeros((2, 3), np.uint8), [1.0, 1e30], [0, 0], 0)
    with pytest.raises(ValueError, match=r"scale.*overflow"):
        bn.requantize(per_channel, 1e-30, 3)
