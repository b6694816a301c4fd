"""Statistics of channels against integer arithmetic in Python and NumPy: exactly, however they were gathered."""

import copy
import os
import pickle
import threading
from fractions import Fraction

import numpy as np
import pytest
from guarded import Guarded
from hypothesis import given, settings
from hypothesis import strategies as st

import bytenorm as bn
from bytenorm import _core, reference
from bytenorm.calibration import ChannelStatistics

WAYS = [(isa, threads) for isa in _core.isas() for threads in (1, 3)]


@pytest.fixture(params=WAYS, ids=lambda p: f"{p[0]}-{p[1]}")
def every_way(request):
    """Every instruction set of this machine, one thread and three."""
    before = bn.get_num_threads(), _core.isa()
    _core.select_isa(request.param[0])
    bn.set_num_threads(request.param[1])
    yield
    bn.set_num_threads(before[0])
    _core.select_isa(before[1])


def tensor(data, scale=0.04, zero_point=7, axis=None):
    return bn.QuantizedTensor(data, scale, zero_point, axis)


def gathered(*tensors, axis=1, histogram=True):
    statistics = ChannelStatistics(tensors[0].shape[axis], histogram=histogram)
    for q in tensors:
        statistics.update(q, axis)
    return statistics


def codes(rng, shape, dtype=np.uint8, lowest=0, behind=256):
    return (rng.integers(lowest, behind, shape)).astype(np.uint8).view(dtype)


def expected(data, axis=1):
    """Return count, minimum, maximum, sum, sum of squares and histogram by NumPy's integers."""
    x = np.moveaxis(data, axis, 0).reshape(data.shape[axis], -1).astype(np.int64)
    lowest = np.iinfo(data.dtype).min
    histogram = np.stack([np.bincount(row - lowest, minlength=256) for row in x])
    return x.shape[1], x.min(1), x.max(1), x.sum(1), (x * x).sum(1), histogram


def numbers(s):
    return s.count, s.minimum, s.maximum, s.sum, s.sum_of_squares


def check(data, axis=1, known=None):
    """Both ways of gathering against NumPy."""
    *want, histogram = known or expected(data, axis)
    for with_histogram in (True, False):
        s = gathered(tensor(data), axis=axis, histogram=with_histogram)
        for have, wanted in zip(numbers(s), want, strict=True):
            np.testing.assert_array_equal(have, wanted)
        if with_histogram:
            assert s.histogram.dtype == np.int64
            np.testing.assert_array_equal(s.histogram, histogram)
        else:
            assert s.histogram is None


# --- the kernels ----------------------------------------------------------------------------------------------

SHAPES = [
    (4, 3), (1, 1), (70, 64), (33, 100), (5000, 3), (700, 48), (5, 1), (1, 300), (2, 3, 1), (2, 64, 7),
    (1, 2, 100_000), (1, 1, 200_000), (70_001, 2), (66_000, 65), (2, 64, 3, 3), (300, 21, 4, 4), (5, 40, 7, 7),
    (9, 33, 14, 14), (3, 67, 15, 17), (2, 130, 1, 1), (1, 3, 300, 301), (2, 48, 13, 11), (1, 5000, 3, 3),
    (2, 3, 4, 5, 6),
]  # fmt: skip


def layouts(data):
    """Return one array in the memory layouts it may have."""
    yield data
    if data.ndim > 1:
        yield np.moveaxis(np.ascontiguousarray(np.moveaxis(data, 1, -1)), -1, 1)
        yield np.moveaxis(np.ascontiguousarray(np.moveaxis(data, 1, 0)), 0, 1)


@pytest.mark.thorough
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_shapes_and_layouts(every_way, rng, shape, dtype):
    for lowest, behind in ((0, 256), (37, 61), (140, 200)):  # all codes, and ranges that miss both ends
        plain = codes(rng, shape, dtype, lowest, behind)
        known = expected(plain)  # the same of every layout
        for data in layouts(plain):
            check(data, known=known)


@pytest.mark.parametrize("index", [
    np.s_[::2], np.s_[1:3], np.s_[:, :, ::2], np.s_[:, :, :, ::3], np.s_[:, :, 2:9, 3:11], np.s_[::-1],
    np.s_[:, :, ::-1], np.s_[:, :, :, ::-1], np.s_[:, ::-1], np.s_[:, ::2], np.s_[:, 3:50], np.s_[:, 5:6],
    np.s_[::-1, ::-1, ::-1, ::-1], np.s_[:, :, :1, :1], np.s_[:1],
], ids=str)  # fmt: skip
def test_views(every_way, rng, index):
    for data in layouts(codes(rng, (4, 70, 12, 13))):
        check(data[index])


def test_channels_on_any_axis_and_repeated_data(every_way, rng):
    data = codes(rng, (6, 7, 8, 9), np.int8)
    for axis in range(-4, 4):
        check(data, axis)
        check(data.transpose(), axis)
    check(codes(rng, 9), 0)
    check(np.broadcast_to(data[:1], (5, 7, 8, 9)))
    check(np.broadcast_to(data[:, :, :1, :1], data.shape))
    check(np.broadcast_to(data[:, :1], data.shape))


SIZES = [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 95, 127, 128, 129, 191, 255, 256, 257, 511, 700]


@pytest.mark.thorough(but=50)
@pytest.mark.parametrize("n", SIZES)
def test_reads_nothing_around_its_bytes(every_way, n, rng):
    """At every alignment, and up to a page that may not be touched: one byte further ends the process."""
    for runs, channels in ((1, 1), (3, 5), (2, 4)):
        for shape in ((runs, channels, n), (channels, n)):
            with Guarded(int(np.prod(shape))) as guarded:
                data = guarded.array.reshape(shape)
                data[:] = codes(rng, shape)
                check(data)
                check(data.transpose(), 0)
    for offset in (1, 17, 63):
        data = codes(rng, 6 * n + offset)[offset:].reshape(2, 3, n)
        check(data)
        check(data.transpose(2, 1, 0))


@pytest.mark.parametrize("code", [0, 64, 128, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_32_bit_sums_are_emptied_in_time(every_way, code, dtype):
    """One code all over, the largest squares among them: four million a channel, in every layout."""
    n = (1 << 22) + 77
    value = int(np.array(code, np.uint8).view(dtype))
    for shape, axis in (((1, n), 0), ((n, 2), 1), ((64, 2, n // 64), 1)):
        data = np.full(shape, value, dtype)
        s = gathered(tensor(data), axis=axis, histogram=False)
        count = data.size // data.shape[axis]
        assert s.count == count
        assert s.sum.tolist() == [count * value] * s.channels
        assert s.sum_of_squares.tolist() == [count * value * value] * s.channels
        assert s.minimum.tolist() == s.maximum.tolist() == [value] * s.channels
        histogram = gathered(tensor(data), axis=axis).histogram
        assert histogram[:, value - np.iinfo(dtype).min].tolist() == [count] * s.channels
        assert histogram.sum() == count * s.channels


# --- the object -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bn.quint8, bn.qint8])
def test_the_specification(rng, kind):
    """Plain loops over Python's integers, in reference.py."""
    data = codes(rng, (2, 5, 3, 4), kind.numpy)
    s = gathered(tensor(data))
    parts = zip(s.minimum, s.maximum, s.sum, s.sum_of_squares, s.histogram.tolist(), strict=True)
    assert [(s.count, *part) for part in parts] == reference.channel_statistics(data, kind)
    assert all(type(value) is int for value in (*s.sum, *s.sum_of_squares))


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    shape=st.tuples(st.integers(0, 9), st.integers(1, 6), st.integers(0, 9)),
    signed=st.booleans(),
    histogram=st.booleans(),
)
def test_any_split_in_any_order(data, shape, signed, histogram):
    """Cut along either axis, gathered by several objects, merged in any order: equal to all at once."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x = codes(rng, shape, np.int8 if signed else np.uint8)
    whole = gathered(tensor(x), histogram=histogram)
    axis = data.draw(st.sampled_from([0, 2]))
    cuts = sorted(data.draw(st.lists(st.integers(0, shape[axis]), max_size=4)))
    pieces = [tensor(piece) for piece in np.split(x, cuts, axis)]
    order = data.draw(st.permutations(range(len(pieces))))
    owners = [data.draw(st.integers(0, 2)) for _ in pieces]
    parts = [ChannelStatistics(shape[1], histogram=histogram) for _ in range(3)]
    for i in order:
        parts[owners[i]].update(pieces[i])
    for part in data.draw(st.permutations(parts[1:])):
        parts[0].merge(part)
    assert parts[0] == whole
    assert parts[0].count == shape[0] * shape[2]


@pytest.mark.parametrize("histogram", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_sums_beyond_any_machine_integer(rng, dtype, histogram, tmp_path):
    """An object merged with itself doubles: sums pass 2^53 and 2^63 and stay exact."""
    data = codes(rng, (3, 4, 50), dtype, 200)
    odd = codes(rng, (1, 4, 3), dtype)
    s, extra = (gathered(tensor(x), histogram=histogram) for x in (data, odd))
    count, low, high, sums, squares, counted = expected(data)
    first, second = [list(map(int, v)) for v in (sums, squares)]
    for doubling in range(1, 56):
        s.merge(s)
        assert s.count == count * 2**doubling
        assert s.sum.tolist() == [v * 2**doubling for v in first]
        assert s.sum_of_squares.tolist() == [v * 2**doubling for v in second]
    assert max(second) * 2**55 > 2**63
    s.merge(extra)
    e = expected(odd)
    assert s.sum.tolist() == [v * 2**55 + int(w) for v, w in zip(first, e[3], strict=True)]
    assert s.sum_of_squares.tolist() == [v * 2**55 + int(w) for v, w in zip(second, e[4], strict=True)]
    np.testing.assert_array_equal(s.minimum, np.minimum(low, e[1]))
    np.testing.assert_array_equal(s.maximum, np.maximum(high, e[2]))
    if histogram:
        np.testing.assert_array_equal(s.histogram, counted * 2**55 + e[5])
    s.update(tensor(odd))  # a sum of more than 64 bits goes on
    assert s.sum_of_squares.tolist() == [v * 2**55 + 2 * int(w) for v, w in zip(second, e[4], strict=True)]
    moments = [
        reference.channel_moments(s.count, t, q, 0.04, 7) for t, q in zip(s.sum, s.sum_of_squares, strict=True)
    ]
    assert list(zip(s.mean(), s.var(), strict=True)) == moments
    s.save(tmp_path / "large.npz")
    assert ChannelStatistics.load(tmp_path / "large.npz") == s


@pytest.mark.parametrize("histogram", [True, False])
def test_no_more_codes_than_int64_counts(histogram):
    s = gathered(tensor(np.zeros((1, 1), np.uint8)), histogram=histogram)
    for _ in range(62):
        s.merge(s)
    before = copy.deepcopy(s)
    with pytest.raises(ValueError, match=r"^other would make 9223372036854775808 codes a channel, at most"):
        s.merge(s)
    assert s == before
    before.merge(ChannelStatistics(1, histogram=histogram))
    almost = gathered(tensor(np.zeros((1, 1), np.uint8)), histogram=histogram)
    s.merge(almost)
    assert s.count == 2**62 + 1


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_mean_and_variance_are_rounded_once(rng, dtype, unbiased):
    """Against rational arithmetic on the real numbers themselves, one by one; in extreme scales too."""
    for scale in (0.1, 1 / 3, 3e38, 3e-39):
        x = codes(rng, (3, 4, 5), dtype)
        s = gathered(tensor(x, scale, 7))
        for c in range(4):
            real = [Fraction(scale) * (int(code) - 7) for code in x[:, c].ravel()]
            mean = sum(real) / len(real)
            spread = sum((r - mean) ** 2 for r in real) / (len(real) - unbiased)
            assert (s.mean()[c], s.var(unbiased)[c]) == (float(mean), float(spread))


def test_per_channel_quantization(rng):
    scale, zero = rng.uniform(0.01, 0.1, 6), rng.integers(-128, 128, 6)
    x = codes(rng, (4, 6, 5), np.int8)
    s = gathered(tensor(x, scale, zero, 1), tensor(x, scale, zero, 1))
    np.testing.assert_array_equal(s.scale, scale)
    np.testing.assert_array_equal(s.zero_point, zero)
    for c in range(6):
        want = reference.channel_moments(s.count, s.sum[c], s.sum_of_squares[c], scale[c], zero[c])
        assert (s.mean()[c], s.var()[c]) == want


def test_against_float_statistics(rng):
    x = codes(rng, (8, 5, 9, 9), np.uint8)
    s = gathered(tensor(x, 0.05, 111))
    real = (x.astype(np.float64) - 111) * 0.05
    np.testing.assert_allclose(s.mean(), real.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(s.var(), real.var((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(s.var(unbiased=True), real.var((0, 2, 3), ddof=1), rtol=1e-12)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4), (0, 3)], ids=str)
@pytest.mark.parametrize("histogram", [True, False])
def test_empty_data(shape, histogram, tmp_path):
    s = gathered(tensor(np.zeros(shape, np.uint8)), histogram=histogram)
    assert (s.count, s.sum.tolist(), s.sum_of_squares.tolist()) == (0, [0] * 3, [0] * 3)
    assert (s.dtype, s.scale, s.zero_point) == (bn.quint8, 0.04, 7)
    for ask in (lambda: s.minimum, lambda: s.maximum, s.mean, s.var):
        with pytest.raises(ValueError, match="needs at least 1 codes a channel, there are 0"):
            ask()
    s.save(tmp_path / "empty.npz")
    assert ChannelStatistics.load(tmp_path / "empty.npz") == s
    s.update(tensor(np.full((1, 3), 9, np.uint8)))
    assert s.minimum.tolist() == s.maximum.tolist() == [9, 9, 9]
    with pytest.raises(ValueError, match="an unbiased variance needs at least 2 codes a channel, there are 1"):
        s.var(unbiased=True)


def test_nothing_gathered(rng):
    s = ChannelStatistics(2)
    assert (s.channels, s.count, s.dtype, s.scale, s.zero_point) == (2, 0, None, None, None)
    assert s.sum.tolist() == s.sum_of_squares.tolist() == [0, 0]
    assert s.histogram.shape == (2, 256)
    assert not s.histogram.any()
    assert repr(s) == "<ChannelStatistics(2): nothing gathered>"
    full = gathered(tensor(codes(rng, (3, 2))))
    want = copy.deepcopy(full)
    full.merge(s)
    assert full == want
    s.merge(full)
    assert s == full


def test_the_results_are_copies(rng):
    s = gathered(tensor(codes(rng, (9, 2))))
    before = copy.deepcopy(s)
    for array in (s.histogram, s.minimum, s.maximum, s.sum, s.sum_of_squares):
        np.add(array, 1, out=array)
    assert s == before
    merged = ChannelStatistics(2)
    merged.merge(s)
    merged.merge(s)
    assert s == before


@pytest.mark.parametrize("histogram", [True, False])
@pytest.mark.parametrize("per_channel", [True, False])
def test_copies_pickles_and_files(rng, histogram, per_channel, tmp_path):
    scale, zero = (np.array([0.1, 0.2, 0.3]), np.array([1, 2, 3])) if per_channel else (0.1, 1)
    q = tensor(codes(rng, (7, 3, 5)), scale, zero, 1 if per_channel else None)
    s = gathered(q, histogram=histogram)
    path = tmp_path / "s.npz"
    path.write_bytes(b"old")
    s.save(path)
    assert [found.name for found in tmp_path.iterdir()] == ["s.npz"]
    for made in (ChannelStatistics.load(path), ChannelStatistics.load(str(path)), copy.copy(s),
                 copy.deepcopy(s), pickle.loads(pickle.dumps(s))):  # fmt: skip
        assert made == s
        assert repr(made) == repr(s)
        np.testing.assert_array_equal(made.mean(), s.mean())
    for again in (copy.copy(s), ChannelStatistics.load(path)):
        again.update(q)
        assert again != s
    s.merge(s)
    assert again == s
    assert again != ChannelStatistics.load(path)


def test_equality(rng):
    x = codes(rng, (7, 3))
    s = gathered(tensor(x))
    others = [
        gathered(tensor(x, 0.05)), gathered(tensor(x, 0.04, 8)), gathered(tensor(x.view(np.int8))),
        gathered(tensor(x[:6])), gathered(tensor(x[:, :2])), gathered(tensor(x), histogram=False),
        gathered(tensor(x[:, ::-1])), gathered(tensor(x, [0.04] * 3, [7] * 3, 1)), ChannelStatistics(3), 3, None,
    ]  # fmt: skip
    assert all(s != other and other != s for other in others)
    assert s == gathered(tensor(x[::-1]))
    with pytest.raises(TypeError, match="unhashable"):
        hash(s)


@pytest.mark.parametrize("histogram", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_channels_side_by_side(rng, histogram, dtype):
    data = codes(rng, (9, 6, 5), dtype)
    cuts = [data[:, :1], data[:, 1:4], data[:, 4:]]
    parts = [gathered(tensor(cut), histogram=histogram) for cut in cuts]
    before = copy.deepcopy(parts)
    whole = ChannelStatistics.concatenate(parts)
    assert whole == gathered(tensor(data), histogram=histogram)
    assert whole.scale == 0.04
    assert numbers(whole)[0] == 45
    for found, want in zip(numbers(whole)[1:], expected(data)[1:], strict=False):
        np.testing.assert_array_equal(found, want)
    whole.update(tensor(data))
    assert parts == before

    scale, zero_point = rng.uniform(0.1, 1, 6), rng.integers(0, 9, 6)
    parts = [
        gathered(tensor(cut, scale[at], zero_point[at], 1), histogram=histogram)
        for cut, at in zip(cuts, (slice(1), slice(1, 4), slice(4, 6)), strict=True)
    ]
    assert ChannelStatistics.concatenate(parts) == gathered(
        tensor(data, scale, zero_point, 1), histogram=histogram
    )
    mixed = ChannelStatistics.concatenate([gathered(tensor(cuts[0], 0.5, 1)), gathered(tensor(cuts[1], 0.25, 2))])
    assert mixed == gathered(tensor(data[:, :4], [0.5, 0.25, 0.25, 0.25], [1, 2, 2, 2], 1))
    assert not mixed.scale.flags.writeable
    assert ChannelStatistics.concatenate([ChannelStatistics(2), ChannelStatistics(1)]) == ChannelStatistics(3)


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        ([], ValueError, "parts must hold at least one ChannelStatistics, got none"),
        ([ChannelStatistics(1), 1], TypeError, r"parts\[1\] must be a ChannelStatistics, got int"),
        (
            [gathered(tensor(np.zeros((n, 1), np.uint8))) for n in (2, 3)],
            ValueError,
            r"parts\[1\] has count 3, parts\[0\] 2: the same is wanted$",
        ),
        (
            [gathered(tensor(np.zeros((2, 1), dtype))) for dtype in (np.uint8, np.int8)],
            ValueError,
            r"parts\[1\] has dtype bytenorm\.qint8, parts\[0\] bytenorm\.quint8: ",
        ),
        (
            [ChannelStatistics(1, histogram=False), ChannelStatistics(1)],
            ValueError,
            r"parts\[1\] has histogram True, parts\[0\] False: ",
        ),
    ],
)
def test_channels_that_do_not_fit_side_by_side(parts, error, words):
    with pytest.raises(error, match=f"^{words}"):
        ChannelStatistics.concatenate(parts)


def test_threads_gather_into_objects_of_their_own(rng):
    batches = [tensor(codes(rng, (4, 8, 60, 60))) for _ in range(8)]
    parts = [ChannelStatistics(8) for _ in batches]
    workers = [threading.Thread(target=part.update, args=(q,)) for part, q in zip(parts, batches, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0] == gathered(*batches)


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ((0,), ValueError, "channels must be 1 or more"), ((-3,), ValueError, "channels must be 1 or more"),
    ((2**70,), ValueError, "channels must be 1 or more"), ((3.0,), TypeError, "channels must be an integer"),
    (("3",), TypeError, "channels must be an integer"), ((True,), TypeError, "channels must be an integer"),
])  # fmt: skip
def test_bad_channels(arguments, error, words):
    with pytest.raises(error, match=words):
        ChannelStatistics(*arguments)


def test_bad_flags(rng):
    with pytest.raises(TypeError, match="histogram must be True or False"):
        ChannelStatistics(3, histogram=1)
    with pytest.raises(TypeError, match="unbiased must be True or False"):
        gathered(tensor(codes(rng, (4, 3)))).var(1)


X = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize(("q", "axis", "error", "words"), [
    (X, 1, TypeError, "qx must be a bytenorm.QuantizedTensor, got plain uint8 data"),
    (None, 1, TypeError, "qx must be a bytenorm.QuantizedTensor"),
    (tensor(X), 2, ValueError, "qx has 4 channels on axis 2 .* 3 are wanted"),
    (tensor(X), 3, ValueError, "axis must be from -3 to 2"),
    (tensor(X), 1.0, TypeError, "axis must be an integer"),
    (tensor(X[0, 0]), 1, ValueError, "axis must be from -1 to 0"),
    (tensor(X, 0.05), 1, ValueError, "qx must have the quantization of what was gathered before.* scale 0.05"),
    (tensor(X, 0.04, 8), 1, ValueError, "zero point 7, got .* zero point 8"),
    (tensor(X.view(np.int8)), 1, ValueError, "bytenorm.quint8, scale 0.04.* got bytenorm.qint8"),
    (tensor(X, [0.04] * 3, [7] * 3, 1), 1, ValueError, "got bytenorm.quint8 per channel$"),
    (tensor(X, [0.04] * 4, [7] * 4, 2), 1, ValueError, "qx is quantized per channel along axis 2"),
])  # fmt: skip
@pytest.mark.parametrize("histogram", [True, False])
def test_bad_updates(q, axis, error, words, histogram):
    s = gathered(tensor(X), histogram=histogram)
    before = copy.deepcopy(s)
    with pytest.raises(error, match=words) as caught:
        s.update(q, axis)
    assert "\n" not in str(caught.value)
    assert s == before


@pytest.mark.parametrize(("other", "error", "words"), [
    (3, TypeError, "other must be a ChannelStatistics, got int"),
    (gathered(tensor(X[:, :2])), ValueError, "other has 2 channels, 3 are wanted"),
    (gathered(tensor(X), histogram=False), ValueError, "other has no histogram"),
    (gathered(tensor(X, 0.05)), ValueError, "other must have the quantization"),
    (gathered(tensor(X.view(np.int8))), ValueError, "other must have the quantization"),
    (gathered(tensor(X[:0], 0.05)), ValueError, "other must have the quantization"),
])  # fmt: skip
def test_bad_merges(other, error, words):
    s = gathered(tensor(X))
    before = copy.deepcopy(s)
    with pytest.raises(error, match=words):
        s.merge(other)
    assert s == before


def test_per_channel_quantizations_that_differ():
    s = gathered(tensor(X, [0.1, 0.2, 0.3], [1, 2, 3], 1))
    with pytest.raises(ValueError, match=r"per channel, got bytenorm\.quint8 per channel with other numbers"):
        s.update(tensor(X, [0.1, 0.2, 0.4], [1, 2, 3], 1))


@pytest.fixture(params=[True, False], ids=["histogram", "sums"])
def members(request, tmp_path, rng):
    """What a file of good statistics holds."""
    s = gathered(tensor(codes(rng, (50, 3))), histogram=request.param)
    s.save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as archive:
        return {name: archive[name] for name in archive.files}


def refused(path, words):
    with pytest.raises(ValueError, match=words) as caught:
        ChannelStatistics.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_and_damaged_files(members, tmp_path):
    whole = (tmp_path / "good.npz").read_bytes()
    path = tmp_path / "bad.npz"
    for n in [0, 1, 4, 30, len(whole) // 3, len(whole) // 2, len(whole) - 30, len(whole) - 1]:
        path.write_bytes(whole[:n])
        refused(path, "cannot be read|another kind")
    good = ChannelStatistics.load(tmp_path / "good.npz")
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            assert ChannelStatistics.load(path) == good  # a byte that means nothing, such as a date
        except ValueError as error:
            assert str(path) in str(error)


def test_foreign_files(tmp_path, members):
    path = tmp_path / "foreign.npz"
    path.write_text("hello")
    refused(path, "another kind of file")
    np.savez(path, weights=np.ones(3))
    refused(path, "another kind of file")
    with path.open("wb") as stream:
        np.save(stream, np.ones(3))
    refused(path, "another kind of file")
    path.write_bytes(pickle.dumps({"format": 1}))
    refused(path, "another kind of file")
    np.savez(path, **{**members, "format": np.array("somebody else's")})
    refused(path, "another kind of file")
    np.savez(path, **{**members, "version": np.array(2)})
    refused(path, "version 2, not 1")
    np.savez(path, **{**members, "more": np.array(2)})
    refused(path, "other parts than it should have: channels, count")
    with pytest.raises(FileNotFoundError):
        ChannelStatistics.load(tmp_path / "none.npz")


def test_objects_in_files_are_never_unpickled(tmp_path, members):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    path = tmp_path / "trap.npz"
    for name in members:
        np.savez(path, **{**members, name: np.array([Trap()], dtype=object)})
        refused(path, "Python objects")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["counts", "sums", "range", "channels", "count", "dtype", "scale", "zero_point"])
def test_members_of_another_kind(tmp_path, members, name):
    path = tmp_path / "bad.npz"
    good = members.get(name)
    if good is None:
        np.savez(path, **{**members, name: np.zeros(3)})
        return refused(path, "other parts than it should have")
    others = [np.array(1.5 + 2j), np.ones((2, 2, 2, 2), good.dtype), np.array(b"x"), np.zeros(0, good.dtype)]
    for other in others:
        np.savez(path, **{**members, name: other})
        refused(path, "damaged|holds no channel statistics|numbers are wanted")
    np.savez(path, **{k: v for k, v in members.items() if k != name})
    return refused(path, "other parts than it should have")


def changed(array, at, by):
    array = array.copy()
    array[at] += array.dtype.type(by)
    return array


def test_numbers_that_contradict_each_other(tmp_path, members):
    path = tmp_path / "bad.npz"
    cases = [
        ({"count": np.array(5)}, "histogram whose total|no 5 codes have"),
        ({"count": np.array(-1)}, "3 channels of -1 codes"), ({"channels": np.array(0)}, "0 channels"),
        ({"channels": np.array(4)}, "counts of dtype|sums of dtype"), ({"dtype": np.array("float32")}, "dtype"),
        ({"dtype": np.array("")}, "of no dtype"), ({"scale": np.array(-0.5)}, "scale must be positive"),
        ({"scale": np.array(np.nan)}, "scale must be positive"), ({"zero_point": np.array(256)}, "zero_point"),
        ({"scale": np.array([0.1, 0.2]), "zero_point": np.array([1, 2])}, "one value for each of 3 channels"),
        ({"scale": np.array([0.1, 0.2, 0.3])}, "one value for each of 3 channels"),
    ]  # fmt: skip
    if "counts" in members:
        negative = changed(changed(members["counts"], (0, 5), -100), (0, 6), 100)
        wraps = changed(changed(members["counts"], (0, 5), 2**62), (0, 6), 2**62)
        wraps = changed(changed(wraps, (0, 7), 2**62), (0, 8), 2**62)  # 2^64 too many: 0 in int64
        cases += [({"counts": a}, "histogram whose total") for a in (negative, wraps)]
        cases += [({"counts": changed(members["counts"], (0, 5), 1)}, "histogram whose total")]
    else:
        sums, ends = members["sums"], members["range"]
        for bad in (
            changed(sums, (0, 0, 1), 1), changed(sums, (0, 0, 0), 1), changed(sums, (1, 2, 1), 1),
            changed(sums, (1, 2, 0), 1), changed(sums, (0, 1, 1), 10**6), np.zeros_like(sums),
        ):  # fmt: skip
            cases.append(({"sums": bad}, "numbers of channel . that no 50 codes have"))
        cases.append(({"range": ends[::-1].copy()}, "numbers of channel 0"))
    for parts, words in cases:
        np.savez(path, **{**members, **parts})
        refused(path, words)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    s = gathered(tensor(X))
    path = tmp_path / "s.npz"
    path.write_bytes(b"old")

    def full(stream, **_):
        stream.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="no space left"):
        s.save(path)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["s.npz"]
    with pytest.raises(FileNotFoundError):
        s.save(tmp_path / "none" / "s.npz")


def test_native_arguments_are_checked(rng):
    """What would make the native code unsafe is refused there, too."""
    x, good = codes(rng, (4, 3)), np.zeros((2, 3), np.int64)
    for bad in (np.zeros(5, np.int64), np.zeros(6), np.zeros(12, np.int64)[::2], [0] * 6):
        for arguments in ((bad, good), (good, bad)):
            with pytest.raises(TypeError):
                _core.add_channel_sums(x, 1, *arguments)
        with pytest.raises(TypeError):
            _core.add_channel_histogram(x, 1, bad)
    for axis in (2, -1):
        with pytest.raises(ValueError, match="axis"):
            _core.add_channel_histogram(x, axis, np.zeros((3, 256), np.int64))
    with pytest.raises(TypeError):
        _core.add_channel_histogram(x.astype(float), 1, np.zeros((3, 256), np.int64))
