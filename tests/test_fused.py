"""The norms of a concatenation and of a sum: every value against the specification, in any layout, in place."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from exact_rounding import round_half_even, round_to_float32

import bytenorm as bn
from bytenorm import _core, reference


@pytest.fixture(
    params=[(isa, n) for isa in _core.isas() for n in (1, 2)], ids=lambda p: f"{p[0]}-{p[1]}", autouse=True
)
def isa_and_threads(request):
    """Every instruction set of this machine, one thread and two."""
    before = bn.get_num_threads(), _core.isa()
    _core.select_isa(request.param[0])
    bn.set_num_threads(request.param[1])
    yield
    bn.set_num_threads(before[0])
    _core.select_isa(before[1])


def norm_of(rng, channels, *, axis=1, relu=False, output_dtype=None):
    weight, bias, mean = rng.normal(size=(3, channels)).astype(np.float32)
    weight[::7], bias[::7], mean[::7] = 0.5, 3.0, 0.0  # exact ties where the scales allow it: no integers
    var = rng.uniform(0.1, 3, channels).astype(np.float32)
    return bn.BatchNorm(
        weight, bias, mean, var, output_scale=0.03, output_zero_point=20, relu=relu, axis=axis,
        output_dtype=output_dtype,
    )  # fmt: skip


def codes(rng, shape, dtype=np.uint8, layout="first", axis=1):
    """Return codes whose channels are first or last in memory, or neither."""
    data = rng.integers(0, 256, shape).astype(np.uint8).view(dtype)
    if layout == "last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(data, axis, -1)), -1, axis)
    if layout == "strided":
        return np.repeat(data, 2, -1)[..., ::2]
    if layout == "reversed":
        return np.ascontiguousarray(data[..., ::-1])[..., ::-1]
    return data


def pieces_of(rng, counts, shape, dtype=np.uint8, layouts=("first",), axis=1):
    """Return pieces of `shape`, with so many channels on `axis`, each in its own quantization."""
    limits = np.iinfo(dtype)
    made = []
    for i, count in enumerate(counts):
        whole = list(shape)
        whole[axis] = count
        data = codes(rng, whole, dtype, layouts[i % len(layouts)], axis)
        scale, zero = float(rng.uniform(0.01, 0.1)), int(rng.integers(limits.min, limits.max + 1))
        made.append(bn.QuantizedTensor(data, scale, zero))
    return made


def want_concat(pieces, norm):
    whole = reference.concat(
        [q.data for q in pieces], [q.scale for q in pieces], [q.zero_point for q in pieces], norm.axis
    )
    return reference.batch_norm(
        *whole, norm.weight, norm.bias, norm.mean, norm.var, norm.eps, norm.output_scale, norm.output_zero_point,
        norm.output_dtype or pieces[0].dtype, norm.relu, norm.axis,
    )  # fmt: skip


def check_concat(pieces, norm):
    want, before = want_concat(pieces, norm), [q.data.copy() for q in pieces]
    axis = norm.axis % want.ndim
    counts = [q.shape[axis] for q in pieces]
    whole = bn.QuantizedTensor(
        np.concatenate([q.data for q in pieces], axis), np.repeat([q.scale for q in pieces], counts),
        np.repeat([q.zero_point for q in pieces], counts), axis,
    )  # fmt: skip
    np.testing.assert_array_equal(norm(whole).data, want)
    for _ in range(3):  # once, and prepared
        y = bn.concat_batch_norm(pieces, norm)
        np.testing.assert_array_equal(y.data, want)
        assert (y.dtype, y.scale, y.zero_point) == (norm.output_dtype or pieces[0].dtype, 0.03, 20)
        if 0 not in pieces[0].shape and pieces[0].shape[axis] > 1:
            like = np.empty_like(pieces[0].data)
            assert np.argsort(like.strides).tolist() == np.argsort(y.data.strides).tolist()
        assert y.data.nbytes == 0 or sorted(abs(s) for n, s in zip(y.shape, y.data.strides, strict=True) if n > 1)[
            :1
        ] in ([1], [])
    for q, data in zip(pieces, before, strict=True):
        np.testing.assert_array_equal(q.data, data)


COUNTS = [
    (1,), (3,), (64,), (1, 1), (3, 5), (64, 32, 32), (64, 32, 32, 32), (32, 32), (65, 63), (16, 17, 1, 200, 33),
    (128, 64), (96, 32, 32, 32, 32, 32), (0, 5, 0, 7), (31, 33, 64, 2), (24, 12, 12, 12, 12),
]  # fmt: skip


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("layout", ["first", "last"])
def test_concat_of_any_channels(rng, counts, layout):
    for shape in ((2, 0, 7, 9), (1, 0, 14, 14), (3, 0), (2, 0, 5), (1, 0, 3, 70)):
        pieces = pieces_of(rng, counts, shape, layouts=(layout,))
        check_concat(pieces, norm_of(rng, sum(counts)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("output_dtype", [None, bn.quint8, bn.qint8])
@pytest.mark.parametrize("relu", [False, True])
def test_concat_of_both_types(rng, dtype, output_dtype, relu):
    for layout in ("first", "last"):
        pieces = pieces_of(rng, (64, 32, 5), (2, 0, 6, 11), dtype, (layout,))
        check_concat(pieces, norm_of(rng, 101, relu=relu, output_dtype=output_dtype))


def test_concat_of_pieces_in_different_layouts(rng):
    for layouts in (
        ("first", "last"), ("last", "first"), ("strided",), ("last", "strided"), ("reversed",),
        ("last", "reversed"), ("first", "strided", "last", "reversed"),
    ):  # fmt: skip
        pieces = pieces_of(rng, (64, 32, 1, 7), (2, 0, 5, 6), layouts=layouts)
        check_concat(pieces, norm_of(rng, 104))


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2])
def test_concat_on_any_axis(rng, axis):
    pieces = pieces_of(rng, (64, 3, 32), (5, 6, 7, 8), axis=axis)
    check_concat(pieces, norm_of(rng, 99, axis=axis))
    turned = [bn.QuantizedTensor(np.asfortranarray(q.data), q.scale, q.zero_point) for q in pieces]
    check_concat(turned, norm_of(rng, 99, axis=axis))


def test_concat_of_slices(rng):
    """Pieces that lie inside larger arrays: no pixel touches the next."""
    for layout in ("first", "last"):
        source = codes(rng, (3, 200, 9, 10), layout=layout)
        for views in (
            (np.s_[:, :64], np.s_[:, 70:102]), (np.s_[:, 3:35], np.s_[:, 35:99]),
            (np.s_[:, :64:2], np.s_[:, 64:]), (np.s_[:, 5:69], np.s_[:, 5:69]), (np.s_[:, ::-1], np.s_[:, :9]),
        ):  # fmt: skip
            for crop in (np.s_[:], np.s_[:, :, ::2], np.s_[:, :, 1:8, 2:9], np.s_[::-1, :, ::-1, ::-1]):
                pieces = [bn.QuantizedTensor(source[v][crop], 0.02 + 0.01 * i, i) for i, v in enumerate(views)]
                check_concat(pieces, norm_of(rng, sum(q.shape[1] for q in pieces)))


@pytest.mark.thorough
@pytest.mark.parametrize("layout", ["first", "last"])
def test_concat_of_large_and_long_pieces(rng, layout):
    for counts, shape in (
        ((64, 32, 32), (4, 0, 56, 56)),
        ((2, 1), (1, 0, 300, 301)),
        ((3, 30), (2, 0, 1, 70_000)),
    ):
        pieces = pieces_of(rng, counts, shape, layouts=(layout,))
        check_concat(pieces, norm_of(rng, sum(counts)))


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4), (0, 3)], ids=str)
def test_concat_of_nothing(rng, shape):
    check_concat(pieces_of(rng, (3, 64), shape), norm_of(rng, 67))


def test_concat_of_no_channels(rng):
    check_concat(pieces_of(rng, (0, 0), (2, 0, 4)), norm_of(rng, 0))


@pytest.mark.parametrize("layout", ["first", "last"])
def test_concat_into_out(rng, layout):
    pieces = pieces_of(rng, (64, 32, 7), (3, 0, 6, 7), layouts=(layout,))
    norm = norm_of(rng, 103)
    want = want_concat(pieces, norm)
    for like in ("first", "last", "strided", "reversed"):
        for view in (np.s_[:], np.s_[1:4], np.s_[:, 4:107], np.s_[..., ::-1]):
            out_shape = {0: (3, 103, 6, 7), 1: (5, 103, 6, 7), 2: (3, 110, 6, 7), 3: (3, 103, 6, 7)}
            at = [np.s_[:], np.s_[1:4], np.s_[:, 4:107], np.s_[..., ::-1]].index(view)
            whole = codes(rng, out_shape[at], layout=like)
            for _ in range(2):
                after = whole.copy()
                after[view] = want
                y = bn.concat_batch_norm(pieces, norm, out=whole[view])
                np.testing.assert_array_equal(y.data, want)
                np.testing.assert_array_equal(whole, after)
    out = bn.QuantizedTensor(np.empty((3, 103, 6, 7), np.uint8), 0.03, 20)
    assert bn.concat_batch_norm(pieces, norm, out=out) is out
    np.testing.assert_array_equal(out.data, want)


@pytest.mark.parametrize("layout", ["first", "last"])
@pytest.mark.parametrize("counts", [(64, 32, 32), (3, 70, 30), (32, 32, 64)], ids=str)
def test_concat_in_place(rng, layout, counts):
    """Pieces that lie where their channels go, all of them or some."""
    norm = norm_of(rng, sum(counts))
    starts = np.cumsum([0, *counts])
    for apart in ((), (0,), (1, 2)):
        for _ in range(3):
            whole = codes(rng, (3, sum(counts), 9, 9), layout=layout)
            own = [whole[:, a:b] for a, b in itertools.pairwise(starts)]
            pieces = [
                bn.QuantizedTensor(part.copy() if i in apart else part, 0.02 + 0.01 * i, 7 * i)
                for i, part in enumerate(own)
            ]
            want = want_concat(pieces, norm)
            assert bn.concat_batch_norm(pieces, norm, out=whole).data is whole
            np.testing.assert_array_equal(whole, want)


def test_concat_remembers_quantizations_not_data(rng):
    norm = norm_of(rng, 96)
    for _ in range(3):
        bn.concat_batch_norm(pieces_of(np.random.default_rng(5), (64, 32), (1, 0, 3, 3)), norm)
    assert norm._operator.folds == 1
    for counts in ((32, 64), (96,), (32, 32, 32)):
        check_concat(pieces_of(rng, counts, (2, 0, 3, 3)), norm)
    assert norm._operator.folds == 4


def test_concat_is_exact(rng):
    """The specification itself against rational numbers, piece by piece."""
    pieces = pieces_of(rng, (3, 2), (40, 0), np.int8)
    norm = norm_of(rng, 5, output_dtype=bn.quint8)
    got = want_concat(pieces, norm)
    start = 0
    for q in pieces:
        for c in range(start, start + q.shape[1]):
            vectors = [v[c : c + 1] for v in (norm.weight, norm.bias, norm.mean, norm.var)]
            slope, intercept = (Fraction(float(v[0])) for v in reference.fold(*vectors, 1e-5, q.scale, 0.03))
            for i in range(40):
                y = round_to_float32(slope * (int(q.data[i, c - start]) - q.zero_point) + intercept)
                assert got[i, c] == min(max(round_half_even(Fraction(float(y))) + 20, 0), 255)
        start += q.shape[1]


def summands_of(rng, shape, dtype=np.uint8, layouts=("first", "first"), axis=1, scales=None):
    limits = np.iinfo(dtype)
    return [
        bn.QuantizedTensor(
            codes(rng, shape, dtype, layouts[i], axis),
            float(rng.uniform(0.02, 0.06)) if scales is None else scales[i],
            int(rng.integers(limits.min // 2, limits.max)),
        )
        for i in range(2)
    ]


def want_add(a, b, norm, scale, zero):
    total = reference.add(a.data, a.scale, a.zero_point, b.data, b.scale, b.zero_point, scale, zero, a.dtype)
    y = reference.batch_norm(
        total, scale, zero, norm.weight, norm.bias, norm.mean, norm.var, norm.eps, norm.output_scale,
        norm.output_zero_point, norm.output_dtype or a.dtype, norm.relu, norm.axis,
    )  # fmt: skip
    return y, total


def want_exact(a, b, norm):
    return reference.add_batch_norm_exact(
        a.data, a.scale, a.zero_point, b.data, b.scale, b.zero_point, norm.weight, norm.bias, norm.mean, norm.var,
        norm.eps, norm.output_scale, norm.output_zero_point, norm.output_dtype or a.dtype, norm.relu, norm.axis,
    )  # fmt: skip


def check_add(a, b, norm, scale=0.08, zero=60):
    want, total = want_add(a, b, norm, scale, zero)
    before = a.data.copy(), b.data.copy()
    like = np.empty_like(a.data)
    for _ in range(3):
        y, s = bn.add_batch_norm(a, b, norm, sum_scale=scale, sum_zero_point=zero)
        np.testing.assert_array_equal(s.data, total)
        np.testing.assert_array_equal(y.data, want)
        assert (y.dtype, y.scale, y.zero_point) == (norm.output_dtype or a.dtype, 0.03, 20)
        assert (s.dtype, s.scale, s.zero_point) == (a.dtype, scale, zero)
        assert y.data.strides == s.data.strides == like.strides
    exact = want_exact(a, b, norm)
    for _ in range(2):
        y, s = bn.add_batch_norm(a, b, norm, sum_scale=scale, sum_zero_point=zero, exact_sum=True)
        np.testing.assert_array_equal(s.data, total)
        np.testing.assert_array_equal(y.data, exact)
        assert y.data.strides == s.data.strides == like.strides
        np.testing.assert_array_equal(bn.add_batch_norm(a, b, norm).data, exact)
        # What the ONNX operator asks for: the norm of codes that are not returned.
        y = norm._operator.add(a, b, scale, zero, False, False, None, None, True)
        np.testing.assert_array_equal(y.data, want)
        assert (y.dtype, y.scale, y.zero_point) == (norm.output_dtype or a.dtype, 0.03, 20)
    np.testing.assert_array_equal(a.data, before[0])
    np.testing.assert_array_equal(b.data, before[1])


ADD_SHAPES = [
    (4, 3), (1, 1), (70, 64), (33, 100), (1, 300), (2, 5, 64), (1, 2, 70_000), (2, 64, 3, 3), (5, 40, 7, 7),
    (9, 33, 14, 14), (2, 130, 1, 1), (1, 3, 300, 301), (2, 48, 13, 11), (2, 256, 28, 28), (2, 3, 4, 5, 6),
]  # fmt: skip


@pytest.mark.parametrize("shape", ADD_SHAPES, ids=str)
def test_add_in_every_layout(rng, shape):
    names = ("first", "last", "strided", "reversed")
    for layouts in itertools.product(names, names) if np.prod(shape) < 50_000 else [("first",) * 2, ("last",) * 2]:
        check_add(*summands_of(rng, shape, layouts=layouts), norm_of(rng, shape[1]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("output_dtype", [None, bn.quint8, bn.qint8])
@pytest.mark.parametrize("relu", [False, True])
def test_add_of_both_types(rng, dtype, output_dtype, relu):
    for layout in ("first", "last"):
        a, b = summands_of(rng, (2, 70, 6, 11), dtype, (layout, layout))
        check_add(a, b, norm_of(rng, 70, relu=relu, output_dtype=output_dtype))


@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.5, 1.0), (2.0, 0.25), (1e-9, 1.0), (1.0, 1e-30), (300.0, 0.1)])
def test_add_of_scales_without_integers(rng, scales):
    """Exact ties and extreme ratios: the table serves them."""
    for layout in ("first", "last"):
        a, b = summands_of(rng, (2, 64, 9, 9), layouts=(layout, layout), scales=scales)
        check_add(a, b, norm_of(rng, 64), scale=1.0)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2])
def test_add_on_any_axis(rng, axis):
    shape = (5, 6, 64, 8)
    check_add(*summands_of(rng, shape, axis=axis), norm_of(rng, shape[axis], axis=axis))


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4), (0, 3), (2, 0, 4)], ids=str)
def test_add_of_nothing(rng, shape):
    check_add(*summands_of(rng, shape), norm_of(rng, shape[1]))


def again(q):
    """Return a copy of a tensor in the same layout."""
    return bn.QuantizedTensor(q.data.copy(order="K"), q.scale, q.zero_point)


@pytest.mark.parametrize("layouts", [("first", "first"), ("last", "last"), ("first", "last")], ids="-".join)
@pytest.mark.parametrize("shape", [(3, 64, 9, 9), (4, 33, 14, 14), (300, 65)], ids=str)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("with_sum", [False, True])
def test_add_in_place_and_into_out(rng, layouts, shape, exact, with_sum):
    norm = norm_of(rng, shape[1])
    for _ in range(3):
        first, other = summands_of(rng, shape, layouts=layouts)
        same = bn.QuantizedTensor(first.data, other.scale, other.zero_point)
        # What is expected takes longer than the sums: once for all places.
        known = {second: want_add(first, second, norm, 0.08, 60) for second in (other, same)}
        if exact:
            known = {second: (want_exact(first, second, norm), total) for second, (_, total) in known.items()}
        for place in ("a", "b", "both", "out", "slice"):
            want, total = known[same if place == "both" else other]
            a, b = again(first), again(other)
            if place == "both":
                b = bn.QuantizedTensor(a.data, b.scale, b.zero_point)
            spare = codes(rng, (shape[0] + 2, *shape[1:]))
            out = {"a": a.data, "both": a.data, "b": b.data, "out": np.empty(shape, np.uint8)}.get(
                place, spare[1:-1]
            )
            after = spare.copy()
            if place == "slice":
                after[1:-1] = want
            y = norm._operator.add(a, b, 0.08, 60, exact, with_sum, out, None, True)
            if with_sum:
                y, s = y
                np.testing.assert_array_equal(s.data, total)
            assert y.data is out
            np.testing.assert_array_equal(out, want)
            np.testing.assert_array_equal(spare, after)


@pytest.mark.thorough
@pytest.mark.parametrize("layouts", [("first", "first"), ("last", "last"), ("first", "last")], ids="-".join)
@pytest.mark.parametrize("shape", [(3, 64, 9, 9), (300, 65), (1, 300, 28, 28)], ids=str)
@pytest.mark.parametrize("exact", [False, True])
def test_the_sum_goes_where_it_is_wanted(rng, layouts, shape, exact):
    """Over a summand, crosswise with the norm too, into a slice, and over a tensor of the sum's quantization."""
    norm = norm_of(rng, shape[1])
    known = []  # takes longer than the sums: once for all places
    for a, b in (summands_of(rng, shape, layouts=layouts) for _ in range(2)):
        want, total = want_add(a, b, norm, 0.08, 60)
        known.append((a, b, want_exact(a, b, norm) if exact else want, total))
    apart = ("new", "slice", "tensor")
    for norm_to, sum_to in itertools.product((None, "a", "b"), apart if exact else (*apart, "a", "b")):
        if norm_to == sum_to:
            continue
        for first, second, want, total in known:
            a, b = again(first), again(second)
            spare = codes(rng, (shape[0] + 2, *shape[1:]))
            after = spare.copy()
            if sum_to == "slice":
                after[1:-1] = total
            places = {"a": a.data, "b": b.data, "new": np.empty_like(a.data), "slice": spare[1:-1]}
            places["tensor"] = bn.QuantizedTensor(np.empty(shape, np.uint8), 0.08, 60)
            y_memory = places.get(norm_to)
            kept = {name: q.data.copy() for name, q in (("a", a), ("b", b)) if name not in (norm_to, sum_to)}
            y, s = bn.add_batch_norm(
                a, b, norm, sum_scale=0.08, sum_zero_point=60, exact_sum=exact, out=y_memory,
                sum_out=places[sum_to],
            )  # fmt: skip
            np.testing.assert_array_equal(s.data, total)
            np.testing.assert_array_equal(y.data, want)
            assert (s.dtype, s.scale, s.zero_point) == (bn.quint8, 0.08, 60)
            assert s is places["tensor"] if sum_to == "tensor" else s.data is places[sum_to]
            assert y_memory is None or y.data is y_memory
            np.testing.assert_array_equal(spare, after)
            for name, data in kept.items():
                np.testing.assert_array_equal({"a": a, "b": b}[name].data, data)


def test_add_is_the_norm_of_its_sum(rng):
    a, b = summands_of(rng, (4, 64, 10, 10), layouts=("last", "last"))
    norm = norm_of(rng, 64)
    y, s = bn.add_batch_norm(a, b, norm, sum_scale=0.08, sum_zero_point=60)
    np.testing.assert_array_equal(y.data, norm(s).data)
    assert norm._operator.folds == 1
