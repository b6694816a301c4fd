"""Every memory layout gives the values of the plain one, in place, into slices, empty, on any axis."""

import itertools

import numpy as np
import pytest

import bytenorm as bn
from bytenorm import _core, reference


@pytest.fixture(
    params=[(isa, n) for isa in _core.isas() for n in (1, 2)], autouse=True, ids=lambda p: f"{p[0]}-{p[1]}"
)
def isa_and_threads(request):
    """Every instruction set of this machine, one thread and two."""
    before = bn.get_num_threads(), _core.isa()
    _core.select_isa(request.param[0])
    bn.set_num_threads(request.param[1])
    yield
    bn.set_num_threads(before[0])
    _core.select_isa(before[1])


class Case:
    """A norm over `channels`, once and prepared, and the reference's answer for any data."""

    def __init__(self, rng, channels, *, per_channel=False, axis=1, relu=False, out=bn.quint8):
        self.weight, self.bias, self.mean = rng.normal(size=(3, channels)).astype(np.float32)
        self.var = rng.uniform(0.1, 3, channels).astype(np.float32)
        self.scale = rng.uniform(0.01, 0.1, channels) if per_channel else 0.04
        self.zero = rng.integers(0, 128, channels) if per_channel else 99
        self.per_channel, self.axis, self.relu, self.out = per_channel, axis, relu, out
        self.norm = bn.BatchNorm(
            self.weight, self.bias, self.mean, self.var, output_scale=0.03, output_zero_point=20, relu=relu,
            axis=axis, output_dtype=out,
        )  # fmt: skip

    def tensor(self, data):
        axis = self.axis % data.ndim if self.per_channel else None
        return bn.QuantizedTensor(data, self.scale, self.zero, axis)

    def want(self, data):
        return reference.batch_norm(
            data, self.scale, self.zero, self.weight, self.bias, self.mean, self.var, 1e-5, 0.03, 20, self.out,
            self.relu, self.axis,
        )  # fmt: skip

    def check(self, data, want=None):
        want, before = self.want(data) if want is None else want, data.copy()
        x = self.tensor(data)
        for y in (self.once(x), self.norm(x), self.norm(x), self.norm(x)):
            np.testing.assert_array_equal(y.data, want)
            like = np.empty_like(data)
            assert all(n <= 1 or a == b for n, a, b in zip(data.shape, y.data.strides, like.strides, strict=True))
        np.testing.assert_array_equal(data, before)

    def once(self, x, out=None):
        return bn.quantized_batch_norm(
            x, self.weight, self.bias, self.mean, self.var, 1e-5, 0.03, 20, axis=self.axis, relu=self.relu,
            output_dtype=self.out, out=out,
        )  # fmt: skip


SHAPES = [
    (4, 3), (1, 1), (70, 64), (33, 100), (5, 1), (1, 300), (2, 3, 1), (2, 5, 64), (3, 64, 7), (1, 2, 100_000),
    (2, 3, 4, 5), (2, 64, 3, 3), (5, 40, 7, 7), (9, 33, 14, 14), (2, 130, 1, 1), (1, 3, 300, 301), (2, 48, 13, 11),
    (2, 3, 4, 5, 6), (1, 17, 2, 9, 8), (2, 3, 2, 2, 2, 2, 3),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
def test_every_axis_order_in_memory(rng, shape, per_channel):
    case = Case(rng, shape[1], per_channel=per_channel)
    plain = rng.integers(0, 256, shape).astype(np.uint8)
    want = case.want(plain)  # the same of every order
    orders = list(itertools.permutations(range(len(shape))))
    for order in orders if len(orders) <= 24 else [orders[i] for i in rng.integers(0, len(orders), 12)]:
        data = np.ascontiguousarray(plain.transpose(order)).transpose(np.argsort(order))
        assert data.shape == shape
        case.check(data, want)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2, -4])
@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
def test_channels_on_any_axis(rng, axis, per_channel):
    shape = (6, 7, 8, 9)
    case = Case(rng, shape[axis], axis=axis, per_channel=per_channel)
    case.check(rng.integers(0, 256, shape).astype(np.uint8))
    case.check(rng.integers(0, 256, shape[::-1]).astype(np.uint8).transpose())


@pytest.mark.parametrize(
    "index",
    [
        np.s_[::2], np.s_[1:3], np.s_[:, :, ::2], np.s_[:, :, :, ::3], np.s_[:, :, 2:9, 3:11], np.s_[::-1],
        np.s_[:, :, ::-1], np.s_[:, :, ::-1, ::-1], np.s_[:, :, :, ::-1], np.s_[:, ::-1],
        np.s_[::-1, ::-1, ::-1, ::-1],
        np.s_[:, :, :1, :1], np.s_[:1], np.s_[:, :, 5:5],
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("channels_last", [False, True], ids=["first", "last"])
def test_views(rng, index, channels_last):
    data = rng.integers(0, 256, (4, 70, 12, 13)).astype(np.uint8)
    if channels_last:
        data = np.ascontiguousarray(data.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    Case(rng, 70).check(data[index])
    Case(rng, 70, per_channel=True).check(data[index])


def test_slices_of_the_channels_and_expanded_data(rng):
    data = rng.integers(0, 256, (4, 70, 12, 13)).astype(np.uint8)
    last = np.ascontiguousarray(data.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    for source in (data, last):
        Case(rng, 20).check(source[:, 10:30])
        Case(rng, 35).check(source[:, ::2])
        Case(rng, 1).check(source[:, 3:4])
    Case(rng, 70).check(np.broadcast_to(data[:1], (5, 70, 12, 13)))
    Case(rng, 70).check(np.broadcast_to(data[:, :, :1, :1], (4, 70, 12, 13)))
    Case(rng, 70).check(np.broadcast_to(data[:, :1], (4, 70, 12, 13)))


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4), (0, 3), (2, 0, 4), (0, 0)], ids=str)
def test_empty(rng, shape):
    case = Case(rng, shape[1])
    for y in (
        case.norm(case.tensor(np.zeros(shape, np.uint8))),
        case.once(case.tensor(np.zeros(shape, np.uint8))),
    ):
        assert (y.shape, y.q_scale(), y.q_zero_point(), y.dtype) == (shape, 0.03, 20, bn.quint8)


@pytest.mark.parametrize(
    "shape", [(2, 64, 9, 9), (8, 3, 50, 50), (5, 40, 7, 7), (300, 65), (6, 33, 14, 14)], ids=str
)
@pytest.mark.parametrize("channels_last", [False, True], ids=["first", "last"])
def test_in_place(rng, shape, channels_last):
    case = Case(rng, shape[1])
    for view in (np.s_[:], np.s_[1:], np.s_[:, :, ::2] if len(shape) > 2 else np.s_[::2]):
        for call in (case.norm, case.once, case.norm):
            data = rng.integers(0, 256, shape).astype(np.uint8)
            if channels_last:
                data = np.moveaxis(np.ascontiguousarray(np.moveaxis(data, 1, -1)), -1, 1)
            whole, part = data, data[view]
            want = whole.copy()
            want[view] = case.want(part)
            y = call(case.tensor(part), out=part)
            assert y.data is part
            np.testing.assert_array_equal(whole, want)


def test_out_into_slices_as_a_concatenation_needs(rng):
    """Two tensors normalized into the two halves of a third, in both layouts; the rest stays."""
    a, b = (
        rng.integers(0, 256, (3, 20, 9, 8)).astype(np.uint8),
        rng.integers(0, 256, (3, 44, 9, 8)).astype(np.uint8),
    )
    first, second = Case(rng, 20), Case(rng, 44)
    for channels_last in (False, True):
        whole = np.full((3, 70, 9, 8), 7, np.uint8)
        if channels_last:
            whole = np.ascontiguousarray(whole.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        for call_a, call_b in ((first.norm, second.norm), (first.once, second.once)):
            call_a(first.tensor(a), out=whole[:, :20])
            call_b(second.tensor(b), out=whole[:, 20:64])
            np.testing.assert_array_equal(whole[:, :20], first.want(a))
            np.testing.assert_array_equal(whole[:, 20:64], second.want(b))
            assert (whole[:, 64:] == 7).all()


@pytest.mark.parametrize(
    "pair", list(itertools.product(["C", "F", "last", "strided", "reversed"], repeat=2)), ids=str
)
def test_any_input_layout_into_any_output_layout(rng, pair):
    def arranged(values, how):
        if how == "C":
            return values.copy()
        if how == "F":
            return np.asfortranarray(values)
        if how == "last":
            return np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        big = np.zeros([2 * n + 1 for n in values.shape], np.uint8)
        view = big[tuple(slice(0, 2 * n, 2) for n in values.shape)]
        view[:] = values
        return (
            view
            if how == "strided"
            else np.ascontiguousarray(values[::-1, ::-1, ::-1, ::-1])[::-1, ::-1, ::-1, ::-1]
        )

    case = Case(rng, 66, relu=True)
    data = rng.integers(0, 256, (3, 66, 5, 12)).astype(np.uint8)
    out = arranged(np.zeros_like(data), pair[1])
    for call in (case.norm, case.once, case.norm):
        out[...] = 0
        y = call(case.tensor(arranged(data, pair[0])), out=out)
        assert y.data is out
        np.testing.assert_array_equal(out, case.want(data))


def test_channels_that_have_no_integers_take_another_way(rng):
    """Exact ties follow no line: blocks with such channels walk in fp32, the others in integers, side by side."""
    channels = 200
    case = Case(rng, channels)
    odd = [5, 64, 70, 199]
    # slope 1/2: every second input is a tie
    case.weight[odd], case.bias[odd], case.mean[odd], case.var[odd] = 0.5, 0.0, 0.0, 1.0
    case.scale, case.zero = 0.03, 100
    norm = bn.BatchNorm(
        case.weight, case.bias, case.mean, case.var, eps=0, output_scale=0.03, output_zero_point=20
    )
    for shape in ((300, channels), (2, channels, 9, 9), (2, channels, 16, 16), (9, channels, 7, 7)):
        for channels_last in (False, True):
            data = rng.integers(0, 256, shape).astype(np.uint8)
            want = reference.batch_norm(
                data, 0.03, 100, case.weight, case.bias, case.mean, case.var, 0, 0.03, 20, bn.quint8
            )
            if channels_last:
                data = np.moveaxis(np.ascontiguousarray(np.moveaxis(data, 1, -1)), -1, 1)
            for _ in range(3):
                np.testing.assert_array_equal(norm(bn.QuantizedTensor(data, 0.03, 100)).data, want)


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 7, 12, 16, 20, 24, 48, 63, 65, 80, 127, 129])
def test_few_or_odd_channels_side_by_side(rng, channels):
    """Pixels in groups that fill a vector, with every remainder of pixels behind the last group."""
    case = Case(rng, channels)
    for pixels in (1, 63, 64, 65, 500, 4096 // channels * 9 + 5):
        case.check(rng.integers(0, 256, (pixels, channels)).astype(np.uint8))
        wide = rng.integers(0, 256, (pixels, channels + 3)).astype(np.uint8)
        case.check(wide[:, :channels])


@pytest.mark.parametrize(("images", "channels", "side"), [(4, 37, 5), (13, 64, 7), (9, 129, 3), (31, 128, 4)])
def test_short_planes_of_several_images(rng, images, channels, side):
    """Also of other sizes with the same operator, in place, and with gaps between the images."""
    case = Case(rng, channels)
    for length in (side, side + 1, side):
        whole = rng.integers(0, 256, (images, channels + 3, length, length)).astype(np.uint8)
        case.check(np.ascontiguousarray(whole[:, :channels]))
        part = whole[:, 1 : channels + 1]
        want = whole.copy()
        want[:, 1 : channels + 1] = case.want(part)
        assert case.norm(case.tensor(part), out=part).data is part
        np.testing.assert_array_equal(whole, want)


@pytest.mark.thorough
class TestLarge:
    """To make so much data, and what is expected, takes longer than the norms: once for all sets and threads."""

    @pytest.fixture(autouse=True)
    def isa_and_threads(self):
        before = bn.get_num_threads(), _core.isa()
        yield
        bn.set_num_threads(before[0])
        _core.select_isa(before[1])

    @pytest.mark.parametrize(
        ("shape", "channels_last"),
        [((3, 64, 600, 601), False), ((70_000_000 // 128, 128), False), ((9, 50, 400, 401), True)],
    )
    def test_beyond_any_cache(self, rng, shape, channels_last):
        """Outputs of 64 MiB and more are stored past the cache, aligned or not."""
        data = rng.integers(0, 256, shape, dtype=np.uint8)
        if channels_last:
            data = np.moveaxis(np.ascontiguousarray(np.moveaxis(data, 1, -1)), -1, 1)
        want, seed = np.empty_like(data), rng.integers(2**32)
        for c, table in enumerate(Case(np.random.default_rng(seed), shape[1]).want(every_code(shape[1])).T):
            want[:, c] = table[data[:, c]]
        for isa, threads in itertools.product(_core.isas(), (1, 2)):
            _core.select_isa(isa)
            bn.set_num_threads(threads)
            case = Case(np.random.default_rng(seed), shape[1])  # its norm prepares for the set that it first meets
            np.testing.assert_array_equal(case.norm(case.tensor(data)).data, want)


def every_code(channels):
    return np.tile(np.arange(256, dtype=np.uint8)[:, None], (1, channels))
