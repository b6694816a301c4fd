"""Every kernel of the list, by name, against the reference: bit for bit, and not a byte outside its rows."""

import itertools

import numpy as np
import pytest
from guarded import Arena, painted, picture

import bytenorm as bn
from bytenorm import _core, reference

KERNELS = _core.kernel_names()
# Every size around one, two and more vectors of 32 and 64 bytes, the halves that their tails are made of, and
# planes of 7x7, 9x9 and 10x10.
SIZES = [
    0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 23, 31, 32, 33, 47, 49, 62, 63, 64, 65, 81, 95, 96, 97, 100, 126, 127, 128,
    129, 191, 200, 255, 256, 257, 700,
]  # fmt: skip
FLAGS = [(i, o, relu) for i in (np.uint8, np.int8) for o in (np.uint8, np.int8) for relu in (False, True)]
# Rows, the gap between them, and what a layout makes of `tile`: pixels, images, the sizes of joined parts.
GRIDS = [(1, 0, 0), (3, 5, 1), (4, 64, 2), (9, 0, 3), (10, 1, 5)]
ABREAST = [(7, 0, -4), (15, 64, -8)]  # of rows alone: so many at once


def named(*layouts):
    """Return a fixture of the kernels of such layouts."""
    chosen = [k for k in KERNELS if k[0] in layouts]
    return pytest.fixture(params=chosen, ids=" ".join)(lambda request: request.param)


kernel = named("Planes", "Rows", "Joined", "Strided")
plane_kernel = named("Planes")
exact_kernel = named("ExactSum")
sum_kernel = named("Sum")
average_kernel = named("Average")


@pytest.fixture
def arenas():
    """Three places for rows."""
    most = max(rows * (max(SIZES) + gap) for rows, gap, _ in GRIDS + ABREAST)
    with Arena(most) as a, Arena(most) as b, Arena(most) as y:
        yield a, b, y


def parameters(rng, channels, kind="real"):
    """Return slope, intercept and zero point of each channel; `ties` makes exact halves common."""
    slope = rng.normal(size=channels) * np.exp(rng.uniform(-3, 1.5, channels))
    intercept = rng.normal(size=channels) * 60
    if kind == "ties":
        slope, intercept = np.round(slope * 4) / 4, np.round(intercept * 4) / 4
    return [a.astype(np.float32) for a in (slope, intercept, rng.integers(-128, 128, channels))]


def by_column(kernel, tile):
    return kernel[0] in ("Rows", "Joined") or (kernel[0] == "Strided" and tile > 0)


class Case:
    """Codes, parameters of their channels, and what a kernel has to make of them."""

    def __init__(self, kernel, x, y_dtype, rng, *, relu=False, kind="real", tile=0):
        columns = by_column(kernel, tile)
        images = max(tile, 1) if kernel[0] == "Planes" else 1
        self.kernel, self.x, self.relu, self.tile = kernel, x, relu, tile
        self.parameters = parameters(rng, x.shape[1] if columns else len(x) // images, kind)
        limits = np.iinfo(y_dtype)
        self.zero_point = int(rng.integers(limits.min, limits.max + 1))
        if kernel[1] == "words16" and kind == "real":
            self.use_channels_in_words(rng, x.dtype, y_dtype)
        shape = (1, -1) if columns else (-1, 1)
        each = [np.tile(p, images).reshape(shape) for p in self.parameters]
        dtype = bn.qint8 if y_dtype == np.int8 else bn.quint8
        self.want = reference.affine(x, *each, self.zero_point, dtype, relu)

    def use_channels_in_words(self, rng, *dtypes):
        """Draw the channels again, one in some hundred, that are not proved in words."""
        signed = [dtype == np.int8 for dtype in dtypes]
        for most in (6, 1, 0):
            found = _core.fit_words(*self.parameters, *signed, self.relu, self.zero_point)
            refused = [c for c, fit in enumerate(found) if not fit[-1]]
            assert len(refused) <= most
            for old, new in zip(self.parameters, parameters(rng, len(refused)), strict=True):
                old[refused] = new

    def run(self, x, y, *, stream=False):
        """Run the kernel from x into y; return whether its integers were proved."""
        return _core.run_kernel(
            *self.kernel, x, y, *self.parameters, self.zero_point, self.relu, stream, self.tile
        )


def may_stream(kernel, y, n, pitch, rows):
    """Whether this is an output that the kernel stores past the cache: aligned rows, any planes."""
    if kernel[0] == "Rows":
        return n > 0 and n % 64 == 0 and y.ctypes.data % 64 == 0 and (rows == 1 or pitch % 64 == 0)
    return kernel[0] == "Planes"


@pytest.mark.thorough
def test_sizes_places_and_ways(kernel, arenas, rng):
    """Every size, anywhere in memory, apart and in place, through the cache and past it: all of it combined.

    Combined, because a plane may be short for a vector and a head together, in place and past the cache at once.
    """
    flags, places = itertools.cycle(FLAGS), itertools.cycle(Arena.PLACES[1:])
    streamed = 0
    for n, (rows, gap, tile) in itertools.product(SIZES, GRIDS + ABREAST * (kernel[0] == "Rows")):
        x_dtype, y_dtype, relu = next(flags)
        codes = rng.integers(0, 256, (rows, n), np.uint8)
        case = Case(kernel, codes.view(x_dtype), y_dtype, rng, relu=relu, tile=tile)
        source, other = picture(codes, gap, rng), picture(codes, gap, rng)
        want_in_place, want_apart = painted(source, case.want, gap), painted(other, case.want, gap)
        for place, in_place in itertools.product(Arena.PLACES, (False, True)):
            arena = arenas[0] if in_place else arenas[2]
            for stream in (False, True):
                x_start = arenas[0].put(source, place if in_place else next(places))
                y_start = x_start if in_place else arena.put(other, place)
                x, y = (
                    arenas[0].rows(x_start, codes.shape, gap, x_dtype),
                    arena.rows(y_start, codes.shape, gap, y_dtype),
                )
                if stream and not may_stream(kernel, y, n, n + gap, rows):
                    continue
                what = f"{n} bytes, {rows} rows, gap {gap}, tile {tile}, {place=}, {in_place=}, {stream=}"
                assert case.run(x, y, stream=stream), what
                assert arena.holds(want_in_place if in_place else want_apart, y_start), what
                assert in_place or arenas[0].holds(source, x_start), what
                streamed += stream
    assert streamed > 0 or kernel[0] in ("Joined", "Strided")


def test_touching_planes_of_many_images(plane_kernel, rng):
    """Vectors over planes of several channels, in images that are walked together, from any start."""
    flags, places = itertools.cycle(FLAGS), itertools.cycle(Arena.PLACES)
    with Arena(17 * 40 * 81) as x_arena, Arena(17 * 40 * 81) as y_arena:
        for n, channels, images in itertools.product((9, 10, 11, 25, 49, 63, 64, 65, 81), (1, 3, 40), (8, 9, 17)):
            x_dtype, y_dtype, relu = next(flags)
            codes = rng.integers(0, 256, (images * channels, n), np.uint8)
            case = Case(plane_kernel, codes.view(x_dtype), y_dtype, rng, relu=relu, tile=images)
            source, other = picture(codes, 0, rng), picture(codes, 0, rng)
            for in_place in (False, True):
                place, arena = next(places), x_arena if in_place else y_arena
                x_start = x_arena.put(source, place)
                y_start = x_start if in_place else arena.put(other, next(places))
                spots = ((x_arena, x_start, x_dtype), (arena, y_start, y_dtype))
                what = f"{n} bytes, {channels} channels, {images} images, {place=}, {in_place=}"
                assert case.run(*(a.rows(start, codes.shape, 0, dtype) for a, start, dtype in spots)), what
                assert arena.holds(painted(source if in_place else other, case.want, 0), y_start), what


def test_all_inputs(kernel, rng):
    """All 256 inputs of many channels, in every combination of types."""
    codes = np.tile(np.arange(256, dtype=np.uint8), (130, 1))
    for (x_dtype, y_dtype, relu), tile in itertools.product(FLAGS, (0, 5)):
        x = np.ascontiguousarray(codes.T if by_column(kernel, tile) else codes).view(x_dtype)
        case = Case(kernel, x, y_dtype, rng, relu=relu, tile=tile)
        y = np.empty(x.shape, y_dtype)
        assert case.run(x, y), "a realistic channel has integers"
        np.testing.assert_array_equal(y, case.want)


def test_ties_round_to_even(kernel, rng):
    """Exact halves: the integer kernels may refuse them, no kernel may get them wrong."""
    codes = np.arange(256, dtype=np.uint8)[np.newaxis]
    seen = 0
    for _, tile in itertools.product(range(60), (0, 1)):
        x = np.ascontiguousarray(codes.T if by_column(kernel, tile) else codes)
        case = Case(kernel, x, np.uint8, rng, kind="ties", tile=tile)
        y = np.empty_like(x)
        if case.run(x, y):
            np.testing.assert_array_equal(y, case.want)
            seen += 1
    assert seen > 20


def test_large_values_saturate_on_the_right_side(kernel, rng):
    """Results beyond 2^31 and infinite ones: an integer conversion would turn them round."""
    slopes = np.float32([3e9, -3e9, 3e38, -3e38, 1e30, 3e9])
    intercept = np.float32([0, 1e9, 3e38, -3e38, 0, -2e9])
    zero = np.float32([0, 0, 0, 0, 128, 1])
    codes = np.tile(np.arange(256, dtype=np.uint8), (6, 1))
    for tile in (0, 1):
        columns = by_column(kernel, tile)
        x = np.ascontiguousarray(codes.T if columns else codes)
        y = np.zeros_like(x)
        if _core.run_kernel(*kernel, x, y, slopes, intercept, zero, 7, False, False, tile):
            each = [p.reshape((1, -1) if columns else (-1, 1)) for p in (slopes, intercept, zero)]
            np.testing.assert_array_equal(y, reference.affine(x, *each, 7, bn.quint8))
        else:
            assert kernel[1] not in ("table", "fp32"), "always proved"


ALL_PAIRS = [np.ascontiguousarray(m).ravel() for m in np.meshgrid(*[np.arange(256, dtype=np.uint8)] * 2)]
FACTORS = [
    (0.7, 0.4), (0.013, 0.9), (1.0, 0.3), (0.999, 0.001), (3.7, 0.2), (60.0, 0.01), (0.5, 0.5), (1.0, 1.0),
    (2.0, 0.25), (1e-9, 0.8), (1e-30, 1e-30), (200.0, 90.0), (1e30, 1.0), (1e-40, 0.5), (0.5, 1e-20),
    (1.5, 2.0**-30), (3e38, 3e38),
]  # fmt: skip


def sum_places(arenas, pictures, place):
    """Yield starts of a, b and y, and y's arena, with y apart, in either summand's place, and all three in one."""
    a, b, y = arenas
    for where in ("apart", "a", "b", "all"):
        starts = [arena.put(p, place) for arena, p in zip(arenas, pictures, strict=True)]
        if where == "all":
            yield where, (a, a, a), [starts[0]] * 3
        else:
            yield where, (a, b, {"apart": y, "a": a, "b": b}[where]), [*starts[:2], starts["ab".find(where)]]


def test_sizes_and_places_of_a_sum(sum_kernel, arenas, rng):
    """Every size, anywhere in memory, apart and in either or both summands' place."""
    for n, dtype in zip(SIZES, itertools.cycle((np.uint8, np.int8)), strict=False):
        codes = rng.integers(0, 256, (3, 1, n), np.uint8)
        pictures = [picture(c, 0, rng) for c in codes]
        zeros = (9, 100, 31)
        wants = {
            same: expected_sum(codes[0].view(dtype), codes[int(not same)].view(dtype), (0.7123, 0.4567), zeros)
            for same in (False, True)
        }
        for place in Arena.PLACES:
            for where, spots, starts in sum_places(arenas, pictures, place):
                a, b, y = (s.rows(at, (1, n), 0, dtype)[0] for s, at in zip(spots, starts, strict=True))
                what = f"{n} bytes of {dtype.__name__}, {place=}, {where=}"
                assert _core.run_sum_kernel(*sum_kernel[1:], a, b, y, 0.7123, 9, 0.4567, 100, 31), what
                base = pictures[{"apart": 2, "a": 0, "b": 1, "all": 0}[where]]
                assert spots[2].holds(painted(base, wants[where == "all"], 0), starts[2]), what


def test_steps_of_a_sum(rng):
    """The table's kernel takes any steps, backwards too; the others take only 1."""
    codes = rng.integers(0, 256, (3, 120), np.uint8)
    for steps in itertools.product((1, 2, -1, -3), repeat=3):
        a, b, y = (c[::step][:40] for c, step in zip(codes.copy(), steps, strict=True))
        want = expected_sum(a, b, (0.7123, 0.4567), (9, 200, 31))
        assert _core.run_sum_kernel("table", "scalar", a, b, y, 0.7123, 9, 0.4567, 200, 31)
        np.testing.assert_array_equal(y, want)


def expected_sum(a, b, factors, zeros):
    dtype = bn.qint8 if a.dtype == np.int8 else bn.quint8
    factors = [float(np.float32(f)) for f in factors]
    return reference.add(a, factors[0], zeros[0], b, factors[1], zeros[1], 1.0, zeros[2], dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_all_pairs_of_a_sum(sum_kernel, dtype, rng):
    """All 65,536 pairs, in many scales: ties, tiny and huge ones, cancelling ones."""
    a, b = (codes.view(dtype) for codes in ALL_PAIRS)
    limits, proved, tried = np.iinfo(dtype), 0, 0
    for pair in FACTORS + np.exp(rng.uniform(-4, 1, (16, 2))).tolist():
        factors = [float(np.float32(f)) for f in pair]
        for kind in ("random", "edge"):
            zeros = [int(z) for z in rng.integers(limits.min, limits.max + 1, 3)]
            if kind == "edge":
                zeros = [int(rng.choice([limits.min, limits.max])) for _ in zeros]
            y = np.zeros(a.size, dtype)
            done = _core.run_sum_kernel(
                *sum_kernel[1:], a, b, y, factors[0], zeros[0], factors[1], zeros[1], zeros[2]
            )
            tried, proved = tried + 1, proved + done
            np.testing.assert_array_equal(y, expected_sum(a, b, factors, zeros) if done else np.zeros_like(y))
    assert proved == tried if sum_kernel[1] == "table" else proved > 0.8 * tried


def expected_exact(a, b, y_dtype, scales, zeros, norm, relu=False, by_column=False):
    weight, bias = norm
    output_dtype = bn.qint8 if y_dtype == np.int8 else bn.quint8
    plain = np.zeros_like(weight), np.ones_like(weight), 0.0, 1.0, zeros[2], output_dtype, relu
    return reference.add_batch_norm_exact(
        a, scales[0], zeros[0], b, scales[1], zeros[1], weight, bias, *plain, axis=1 if by_column else 0
    )


def run_exact(kernel, a, b, y, scales, zeros, norm, relu=False, by_column=False):
    _core.run_exact_sum_kernel(
        *kernel[1:], a, b, y, scales[0], zeros[0], scales[1], zeros[1], *norm, zeros[2], relu, by_column
    )


def test_sizes_and_places_of_an_exact_sum(exact_kernel, arenas, rng):
    """Every size, anywhere in memory, apart and in either or both summands' place."""
    flags = itertools.cycle(FLAGS)
    for n, (rows, gap, _), columns in itertools.product(SIZES, GRIDS[:3], (False, True)):
        x_dtype, y_dtype, relu = next(flags)
        channels = n if columns else rows
        norm = rng.normal(1, 0.3, channels).astype(np.float32), rng.normal(0, 9, channels).astype(np.float32)
        codes = rng.integers(0, 256, (3, rows, n), np.uint8)
        pictures = [picture(c, gap, rng) for c in codes]
        how = (0.7123, 0.4567), (9, 100, 31), norm, relu, columns
        wants = {
            same: expected_exact(codes[0].view(x_dtype), codes[int(not same)].view(x_dtype), y_dtype, *how)
            for same in (False, True)
        }
        for place in Arena.PLACES:
            for where, spots, starts in sum_places(arenas, pictures, place):
                a, b, y = (
                    s.rows(at, (rows, n), gap, dtype)
                    for s, at, dtype in zip(spots, starts, (x_dtype, x_dtype, y_dtype), strict=True)
                )
                what = f"{n} bytes, {rows} rows, gap {gap}, {place=}, {where=}, {columns=}"
                run_exact(exact_kernel, a, b, y, *how)
                base = pictures[{"apart": 2, "a": 0, "b": 1, "all": 0}[where]]
                assert spots[2].holds(painted(base, wants[where == "all"], gap), starts[2]), what


@pytest.mark.parametrize("by_column", [False, True])
def test_all_pairs_of_an_exact_sum(exact_kernel, by_column, rng):
    """All 65,536 pairs, in many scales: ties, sums next to them, tiny and huge ones, cancelling ones."""
    scales = [(s, t) for s, t in FACTORS if max(s, t) < 1e30] + np.exp(rng.uniform(-4, 1, (12, 2))).tolist()
    weight = np.float32([1, -1, 0.5, 0.7123, 1.3, 2**-30, 3e8, -0.25, 0, 0.37])
    bias = np.float32([0, 0.5, 1e-9, -1e-12, 300, 0.1, -3e9, 2.0**-40, 7.5, 12.1])
    flags = itertools.cycle(FLAGS)
    for pair, _ in itertools.product(scales, range(3)):
        x_dtype, y_dtype, relu = next(flags)
        limits, out = np.iinfo(x_dtype), np.iinfo(y_dtype)
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
        run_exact(exact_kernel, *x, y, pair, zeros, norm, relu, by_column)
        np.testing.assert_array_equal(y, expected_exact(*x, y_dtype, pair, zeros, norm, relu, by_column))


@pytest.mark.parametrize("by_column", [False, True])
def test_exact_sums_at_the_edges_of_integers(exact_kernel, by_column, rng):
    """Multipliers and results as large as 24 and 32 bits allow, beside channels that they are too few for."""
    powers = 2.0 ** np.arange(-3, 13)
    slopes = np.concatenate([powers * (1 + step) for step in (0.0, -(2.0**-23), -(2.0**-8), 2.0**-20)])
    weight = np.repeat(np.concatenate([slopes, -slopes, [5000, 1e6, 0, 1e-30]]), 3).astype(np.float32)
    bias = np.resize([0, 255.5, -511.25, 2000, -70_000.3, 524_000, 0.25, -6e5], len(weight)).astype(np.float32)
    order = rng.permutation(len(weight))
    norm, scales = (weight[order], bias[order]), (1.0, 0.999)
    ends = np.uint8([0, 1, 2, 126, 127, 128, 129, 253, 254, 255])
    a, b = (m.ravel() for m in np.meshgrid(ends, ends))
    a, b = (np.concatenate([m, rng.integers(0, 256, 60).astype(np.uint8)]) for m in (a, b))
    for x_dtype, y_dtype, relu in FLAGS:
        x = [np.ascontiguousarray(np.broadcast_to(m, (len(weight), len(m)))).view(x_dtype) for m in (a, b)]
        if by_column:
            x = [np.ascontiguousarray(m.T) for m in x]
        limits, out = np.iinfo(x_dtype), np.iinfo(y_dtype)
        for zeros in ((limits.min, limits.max, out.max), (*rng.integers(limits.min, limits.max, 2), out.min)):
            how = scales, [int(z) for z in zeros], norm, relu, by_column
            y = np.empty(x[0].shape, y_dtype)
            run_exact(exact_kernel, *x, y, *how)
            np.testing.assert_array_equal(y, expected_exact(*x, y_dtype, *how))


def test_an_exact_sum_that_float32_would_round_onto_a_tie(exact_kernel):
    """2.5 and 1e-9, in every place of a vector: half to even would take 2.5 to 2."""
    norm = np.float32([1]), np.float32([1e-9])
    for n in (1, 8, 31, 32, 33, 70):
        for i in range(n):
            a, b, y = np.zeros((3, 1, n), np.uint8)
            a[0, i], b[0, i] = 1, 2
            how = (0.5, 1.0), (0, 0, 0), norm
            run_exact(exact_kernel, a, b, y, *how)
            assert y[0, i] == expected_exact(a, b, np.uint8, *how)[0, i] == 3
            assert y.sum() == 3


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
    _core.run_average_kernel(*average_kernel[1:], x, y)
    np.testing.assert_array_equal(y, expected_average(x))


def test_sizes_and_places_of_an_average(average_kernel, rng):
    """Every size, anywhere in memory, signed and not."""
    with Arena(4 * 3 * max(SIZES)) as room_x, Arena(3 * max(SIZES)) as room_y:
        for n, pixels, dtype in itertools.product(SIZES, (0, 1, 3), (np.uint8, np.int8)):
            codes = rng.integers(0, 256, (1, 4 * pixels * n), np.uint8)
            want = expected_average(codes.reshape(2, 2 * pixels, n).view(dtype))
            source, other = picture(codes, 0, rng), picture(np.zeros((1, pixels * n), np.uint8), 0, rng)
            wanted = painted(other, want.reshape(1, -1), 0)
            for place in Arena.PLACES:
                starts = room_x.put(source, place), room_y.put(other, place)
                x = room_x.rows(starts[0], codes.shape, 0, dtype).reshape(2, 2 * pixels, n)
                y = room_y.rows(starts[1], (1, pixels * n), 0, dtype).reshape(pixels, n)
                _core.run_average_kernel(*average_kernel[1:], x, y)
                what = f"{n} channels, {pixels} pixels, {dtype.__name__}, {place=}"
                assert room_y.holds(wanted, starts[1]), what
                assert room_x.holds(source, starts[0]), what


def test_the_list_has_every_layout_and_set():
    assert {k[2] for k in KERNELS} == set(_core.isas())
    scalar = {"Planes", "Strided", "Sum", "ExactSum", "ExactSums", "Average", "Quantize", "Dequantize"}
    scalar |= {"PlaneSums", "RowSums"}
    assert {k[0] for k in KERNELS if k[2] == "scalar"} == scalar
