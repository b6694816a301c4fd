"""Every kernel of the list, by name, against the reference: bit for bit, and not a byte outside its rows."""

import numpy as np
import pytest
from guarded import Guarded

import bytenorm as bn
from bytenorm import _core, reference

KERNELS = _core.kernel_names()
SIZES = [
    0,
    1,
    2,
    3,
    7,
    8,
    9,
    15,
    16,
    17,
    23,
    31,
    32,
    33,
    47,
    48,
    63,
    64,
    65,
    95,
    127,
    128,
    129,
    200,
    255,
    256,
    257,
    700,
]
FLAGS = [(i, o, relu) for i in (np.uint8, np.int8) for o in (np.uint8, np.int8) for relu in (False, True)]


@pytest.fixture(params=[k for k in KERNELS if k[0] not in ("Sum", "ExactSum", "Average")], ids=" ".join)
def kernel(request):
    return request.param


@pytest.fixture(params=[k[1:] for k in KERNELS if k[0] == "ExactSum"], ids=" ".join)
def exact_kernel(request):
    return request.param


@pytest.fixture(params=[k[1:] for k in KERNELS if k[0] == "Sum"], ids=" ".join)
def sum_kernel(request):
    return request.param


@pytest.fixture(params=[k[1:] for k in KERNELS if k[0] == "Average"], ids=" ".join)
def average_kernel(request):
    return request.param


def parameters(rng, channels, kind="real"):
    """Return slope, intercept and zero point of each channel; `ties` makes exact halves common."""
    slope = rng.normal(size=channels) * np.exp(rng.uniform(-3, 1.5, channels))
    intercept = rng.normal(size=channels) * 60
    if kind == "ties":
        slope, intercept = np.round(slope * 4) / 4, np.round(intercept * 4) / 4
    return [a.astype(np.float32) for a in (slope, intercept, rng.integers(-128, 128, channels))]


def by_column(kernel, tile):
    return kernel[0] in ("Rows", "Joined") or (kernel[0] == "Strided" and tile)


def expected(x, y_dtype, slope, intercept, zero, out_zero, relu, columns):
    shape = (1, -1) if columns else (-1, 1)
    dtype = bn.qint8 if y_dtype == np.int8 else bn.quint8
    return reference.affine(x, *(a.reshape(shape) for a in (slope, intercept, zero)), out_zero, dtype, relu)


def run(kernel, x, y, rng, *, relu=False, kind="real", tile=0, stream=False):
    """Run a kernel and return what it should have written, or None if its integers were refused."""
    columns = by_column(kernel, tile)
    p = parameters(rng, x.shape[1 if columns else 0], kind)
    limits = np.iinfo(y.dtype)
    out_zero = int(rng.integers(limits.min, limits.max + 1))
    done = _core.run_kernel(*kernel, x, y, *p, out_zero, relu, stream, tile)
    return expected(x, y.dtype, *p, out_zero, relu, columns) if done else None


@pytest.mark.parametrize("flags", FLAGS, ids=lambda f: f"{f[0].__name__}-{f[1].__name__}{'-relu' * f[2]}")
def test_all_inputs(kernel, flags, rng):
    """All 256 inputs of many channels, in every combination of types."""
    x_dtype, y_dtype, relu = flags
    channels = 130
    codes = np.arange(256, dtype=np.uint8).view(x_dtype)
    for tile in (0, 5):
        columns = by_column(kernel, tile)
        x = np.ascontiguousarray(np.tile(codes, (channels, 1)).T if columns else np.tile(codes, (channels, 1)))
        y = np.empty(x.shape, y_dtype)
        want = run(kernel, x, y, rng, relu=relu, tile=tile)
        assert want is not None, "a realistic channel has integers"
        np.testing.assert_array_equal(y, want)


def test_ties_round_to_even(kernel, rng):
    """Exact halves: the integer kernels may refuse them, no kernel may get them wrong."""
    x = np.tile(np.arange(256, dtype=np.uint8), (1, 1))
    seen = 0
    for _ in range(60):
        for tile in (0, 3):
            case = np.ascontiguousarray(x.T if by_column(kernel, tile) else x)
            y = np.empty_like(case)
            want = run(kernel, case, y, rng, kind="ties", tile=tile)
            if want is not None:
                np.testing.assert_array_equal(y, want)
                seen += 1
    assert seen > 20


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", SIZES)
def test_sizes_alignments_and_bounds(kernel, n, stream, rng):
    """Every size around the vector widths, misaligned; the bytes between and around the rows stay."""
    for rows, gap, offset, tile in [(1, 0, 0, 0), (3, 5, 1, 2), (4, 0, 63, 0), (9, 64, 17, 4), (5, 3, 32, 1)]:
        if stream and kernel[0] in ("Rows", "Joined") and (n % 64 or gap % 64 or offset % 64):
            continue  # these kernels stream only aligned rows; their caller sees to it
        pitch = n + gap
        x = aligned(rows * pitch + 200)[offset:]
        x[:] = rng.integers(0, 256, x.size)
        y = aligned(rows * pitch + 200)[offset:]
        y[:] = rng.integers(0, 256, y.size)
        before = y.copy()
        xs = np.lib.stride_tricks.as_strided(x, (rows, n), (pitch, 1))
        ys = np.lib.stride_tricks.as_strided(y, (rows, n), (pitch, 1))
        want = run(kernel, xs, ys, rng, tile=tile, stream=stream)
        np.testing.assert_array_equal(ys, want)
        ys[:] = np.lib.stride_tricks.as_strided(before, (rows, n), (pitch, 1))
        np.testing.assert_array_equal(y, before)


def aligned(n):
    """Return n bytes that start on a cache line."""
    raw = np.empty(n + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + n]


@pytest.mark.parametrize("n", SIZES)
def test_in_place(kernel, n, rng):
    for rows, tile in [(1, 0), (6, 0), (6, 4)]:
        x = rng.integers(0, 256, (rows, n)).astype(np.uint8)
        columns = by_column(kernel, tile)
        p = parameters(rng, n if columns else rows)
        y = x.copy()
        assert _core.run_kernel(*kernel, y, y, *p, 100, False, False, tile)
        np.testing.assert_array_equal(y, expected(x, np.uint8, *p, 100, False, columns))


@pytest.mark.parametrize("n", SIZES)
def test_reads_and_writes_nothing_behind_its_rows(kernel, n, rng):
    """Both arrays end where the next page may not be touched: one byte further ends the process."""
    rows = 3
    with Guarded(rows * n) as gx, Guarded(rows * n) as gy:
        x, y = gx.array.reshape(rows, n), gy.array.reshape(rows, n)
        x[:] = rng.integers(0, 256, x.shape)
        for tile in (0, 2):
            want = run(kernel, x, y, rng, tile=tile)
            np.testing.assert_array_equal(y, want)


def test_large_values_saturate_on_the_right_side(kernel):
    """Results beyond 2^31 and infinite ones: an integer conversion would turn them round."""
    slopes = np.float32([3e9, -3e9, 3e38, -3e38, 1e30, 3e9])
    zero = np.float32([0, 0, 0, 0, 128, 1])
    intercept = np.float32([0, 1e9, 3e38, -3e38, 0, -2e9])
    x = np.tile(np.arange(256, dtype=np.uint8), (6, 1))
    for tile in (0, 1):
        columns = by_column(kernel, tile)
        case = np.ascontiguousarray(x.T if columns else x)
        y = np.zeros_like(case)
        if _core.run_kernel(*kernel, case, y, slopes, intercept, zero, 7, False, False, tile):
            want = expected(case, np.uint8, slopes, intercept, zero, 7, False, columns)
            np.testing.assert_array_equal(y, want)
        else:
            assert kernel[1] == "integer"


ALL_PAIRS = [np.ascontiguousarray(m).ravel() for m in np.meshgrid(*[np.arange(256, dtype=np.uint8)] * 2)]
FACTORS = [
    (0.7, 0.4), (0.013, 0.9), (1.0, 0.3), (0.999, 0.001), (3.7, 0.2), (60.0, 0.01), (0.5, 0.5), (1.0, 1.0),
    (2.0, 0.25), (1e-9, 0.8), (1e-30, 1e-30), (200.0, 90.0), (1e30, 1.0), (1e-40, 0.5), (0.5, 1e-20),
    (1.5, 2.0**-30), (3e38, 3e38),
]  # fmt: skip


def expected_sum(a, b, factors, zeros):
    dtype = bn.qint8 if a.dtype == np.int8 else bn.quint8
    return reference.add(a, factors[0], zeros[0], b, factors[1], zeros[1], 1.0, zeros[2], dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_all_pairs_of_a_sum(sum_kernel, dtype, rng):
    """All 65,536 pairs, in many scales: ties, tiny and huge ones, cancelling ones."""
    a, b = (codes.view(dtype) for codes in ALL_PAIRS)
    limits, proved, tried = np.iinfo(dtype), 0, 0
    for pair in FACTORS + np.exp(rng.uniform(-4, 1, (40, 2))).tolist():
        factors = [float(np.float32(f)) for f in pair]
        for kind in ("random", "edge"):
            zeros = [int(z) for z in rng.integers(limits.min, limits.max + 1, 3)]
            if kind == "edge":
                zeros = [int(rng.choice([limits.min, limits.max])) for _ in zeros]
            y = np.zeros(a.size, dtype)
            done = _core.run_sum_kernel(*sum_kernel, a, b, y, factors[0], zeros[0], factors[1], zeros[1], zeros[2])
            tried, proved = tried + 1, proved + done
            np.testing.assert_array_equal(y, expected_sum(a, b, factors, zeros) if done else np.zeros_like(y))
    assert proved == tried if sum_kernel[0] == "table" else proved > 0.8 * tried


def run_exact(kernel, a, b, y, scales, zeros, norm, relu=False, by_column=False):
    """Run a kernel of exact sums and return what it should have written."""
    weight, bias = norm
    output_dtype = bn.qint8 if y.dtype == np.int8 else bn.quint8
    _core.run_exact_sum_kernel(
        *kernel, a, b, y, scales[0], zeros[0], scales[1], zeros[1], weight, bias, zeros[2], relu, by_column
    )
    plain = np.zeros_like(weight), np.ones_like(weight), 0.0, 1.0, zeros[2], output_dtype, relu
    return reference.add_batch_norm_exact(
        a, scales[0], zeros[0], b, scales[1], zeros[1], weight, bias, *plain, axis=1 if by_column else 0
    )


@pytest.mark.parametrize("flags", FLAGS, ids=lambda f: f"{f[0].__name__}-{f[1].__name__}{'-relu' * f[2]}")
@pytest.mark.parametrize("by_column", [False, True])
def test_all_pairs_of_an_exact_sum(exact_kernel, flags, by_column, rng):
    """All 65,536 pairs, in many scales: ties, sums next to them, tiny and huge ones, cancelling ones."""
    x_dtype, y_dtype, relu = flags
    limits, out = np.iinfo(x_dtype), np.iinfo(y_dtype)
    scales = [(s, t) for s, t in FACTORS if max(s, t) < 1e30] + np.exp(rng.uniform(-4, 1, (12, 2))).tolist()
    weight = np.float32([1, -1, 0.5, 0.7123, 1.3, 2**-30, 3e8, -0.25, 0, 0.37])
    bias = np.float32([0, 0.5, 1e-9, -1e-12, 300, 0.1, -3e9, 2.0**-40, 7.5, 12.1])
    for pair in scales:
        zeros = [int(z) for z in rng.integers(limits.min, limits.max + 1, 2)]
        zeros.append(int(rng.integers(out.min, out.max + 1)))
        x = [codes.view(x_dtype)[np.newaxis] for codes in ALL_PAIRS]
        if by_column:  # ten channels side by side: every pair in the turn of one of them
            x = [np.resize(codes, (6554, 10)) for codes in x]
            norm = weight, bias
        else:
            at = int(rng.integers(10))
            norm = weight[at : at + 1], bias[at : at + 1]
        y = np.empty(x[0].shape, y_dtype)
        np.testing.assert_array_equal(y, run_exact(exact_kernel, *x, y, pair, zeros, norm, relu, by_column))


def test_an_exact_sum_that_float32_would_round_onto_a_tie(exact_kernel):
    """2.5 and 1e-9, in every place of a vector: half to even would take 2.5 to 2."""
    for n in (1, 8, 31, 32, 33, 70):
        for i in range(n):
            a, b, y = np.zeros((3, 1, n), np.uint8)
            a[0, i], b[0, i] = 1, 2
            norm = np.float32([1]), np.float32([1e-9])
            want = run_exact(exact_kernel, a, b, y, (0.5, 1.0), (0, 0, 0), norm)
            assert y[0, i] == want[0, i] == 3
            assert y.sum() == 3


@pytest.mark.parametrize("n", SIZES)
def test_sizes_and_bounds_of_an_exact_sum(exact_kernel, n, rng):
    """Every size around the vectors, up to the edge of a page, misaligned, and in place of either summand."""
    for by_column in (False, True):
        channels = n if by_column else 1
        norm = rng.normal(1, 0.3, channels).astype(np.float32), rng.normal(0, 9, channels).astype(np.float32)
        with Guarded(n) as ga, Guarded(n) as gb, Guarded(n) as gy:
            for array in (ga.array, gb.array, gy.array):
                array[:] = rng.integers(0, 256, n)
            a, b, y = (g.array.reshape(1, n) for g in (ga, gb, gy))
            arguments = (0.7123, 0.4567), (9, 200, 31), norm, True, by_column
            want = run_exact(exact_kernel, a, b, y, *arguments)
            np.testing.assert_array_equal(y, want)
            for place in (0, 1):
                whole = rng.integers(0, 256, n + 80).astype(np.uint8)
                own = whole[17 : 17 + n].reshape(1, n)
                own[:] = (a, b)[place]
                after = whole.copy()
                after[17 : 17 + n] = want[0]
                run_exact(exact_kernel, own if place == 0 else a, own if place == 1 else b, own, *arguments)
                np.testing.assert_array_equal(whole, after)
    rows = rng.integers(0, 256, (3, 5, n)).astype(np.uint8)
    for by_column in (False, True):
        norm = rng.normal(size=(2, n if by_column else 5)).astype(np.float32)
        want = run_exact(exact_kernel, *rows, (0.7, 0.3), (1, 2, 3), norm, by_column=by_column)
        np.testing.assert_array_equal(rows[2], want)


@pytest.mark.parametrize("n", SIZES)
def test_sizes_and_bounds_of_a_sum(sum_kernel, n, rng):
    with Guarded(n) as ga, Guarded(n) as gb, Guarded(n) as gy:
        for array in (ga.array, gb.array, gy.array):
            array[:] = rng.integers(0, 256, n)
        arguments = 0.7123, 9, 0.4567, 200, 31
        want = expected_sum(ga.array, gb.array, (np.float32(0.7123), np.float32(0.4567)), (9, 200, 31))
        assert _core.run_sum_kernel(*sum_kernel, ga.array, gb.array, gy.array, *arguments)
        np.testing.assert_array_equal(gy.array, want)
        whole = rng.integers(0, 256, n + 80).astype(np.uint8)
        after = whole.copy()
        after[17 : 17 + n] = want
        assert _core.run_sum_kernel(*sum_kernel, ga.array, gb.array, whole[17 : 17 + n], *arguments)
        np.testing.assert_array_equal(whole, after)
        assert _core.run_sum_kernel(*sum_kernel, ga.array, gb.array, ga.array, *arguments)
        np.testing.assert_array_equal(ga.array, want)


def expected_average(x):
    """Return the averages of two rows of pixels."""
    dtype = bn.qint8 if x.dtype == np.int8 else bn.quint8
    return reference.average_pool(x, (0, 1), dtype)[0]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_all_kinds_of_averages(average_kernel, dtype, rng):
    """All fours of codes that lie close together, at both ends and in the middle, and others: ties, both ways."""
    near = np.stack(np.meshgrid(*[np.arange(9)] * 4), -1).reshape(-1, 4)
    fours = np.concatenate([near, near + 124, near + 247, rng.integers(0, 256, (40000, 4))]).astype(np.uint8)
    x = np.ascontiguousarray(fours.T.reshape(2, 2, -1)).view(dtype)
    y = np.empty((1, x.shape[2]), dtype)
    _core.run_average_kernel(*average_kernel, x, y)
    np.testing.assert_array_equal(y, expected_average(x))


@pytest.mark.parametrize("n", SIZES)
def test_sizes_and_bounds_of_an_average(average_kernel, n, rng):
    """Every size around the vectors, up to the edge of a page, misaligned, signed and not."""
    for pixels in (0, 1, 3):
        with Guarded(4 * pixels * n) as gx, Guarded(pixels * n) as gy:
            x, y = gx.array.reshape(2, 2 * pixels, n), gy.array.reshape(pixels, n)
            x[:] = rng.integers(0, 256, x.shape)
            for dtype in (np.uint8, np.int8):
                _core.run_average_kernel(*average_kernel, x.view(dtype), y.view(dtype))
                want = expected_average(x.view(dtype))
                np.testing.assert_array_equal(y.view(dtype), want)
            whole = rng.integers(0, 256, y.size + 80).astype(np.uint8)
            after = whole.copy()
            after[17 : 17 + y.size] = want.view(np.uint8).ravel()
            own = whole[17 : 17 + y.size].reshape(y.shape).view(np.int8)
            _core.run_average_kernel(*average_kernel, x.view(np.int8), own)
            np.testing.assert_array_equal(whole, after)


def test_the_list_has_every_layout_and_set():
    assert {k[2] for k in KERNELS} == set(_core.isas())
    assert {k[0] for k in KERNELS if k[2] == "scalar"} == {"Planes", "Strided", "Sum", "ExactSum", "Average"}
