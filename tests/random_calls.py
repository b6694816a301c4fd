"""Random good calls of the public operators, each compared with the specification."""

import contextlib

import numpy as np
from random_memory import arrangement, chance, memory, pick, scale_of, shape_of, vector

import bytenorm as bn
from bytenorm import _core, reference
from bytenorm._tensors.quantize import ROUNDINGS
from bytenorm.calibration import ChannelStatistics

KINDS = {np.uint8: bn.quint8, np.int8: bn.qint8}
BYTES = (np.uint8, np.int8)


def zero_point_of(rng, kind):
    return int(rng.integers(kind.qmin, kind.qmax + 1))


class Norm:
    """A norm of C channels: what its parameters are, what it must compute, and ways to call it."""

    def __init__(self, rng, channels, axis, rank, input_kind):
        shape = (4, channels)
        kind = pick(rng, ("usual", "usual", "usual", "ties", "wide"))
        weight, bias, mean = rng.normal(size=(3, channels))
        var, self.eps = rng.uniform(0.1, 3, channels), pick(rng, (1e-5, 1e-5, 0.001, 0))
        if kind == "ties":
            weight, bias, mean = np.round(weight * 2) / 2, np.round(bias), np.zeros(channels)
            var, self.eps = np.ones(channels), 0
        if kind == "wide":
            weight, bias, mean = np.exp(rng.uniform(-30, 30, (3, channels))) * rng.choice((-1, 1), (3, channels))
        self.parameters = [np.asarray(p, np.float32) for p in (weight, bias, mean, var)]
        assert np.shape(self.parameters) == shape
        for i in (0, 1):
            if chance(rng, 0.15):
                self.parameters[i] = None
        self.scale, self.relu = scale_of(rng), chance(rng, 0.3)
        self.output_dtype = pick(rng, (None, bn.quint8, bn.qint8))
        self.kind = self.output_dtype or input_kind
        self.zero_point = zero_point_of(rng, self.kind)
        self.axis = axis - rank if chance(rng, 0.5) else axis
        self.given = [None if p is None else vector(rng, p) for p in self.parameters]
        self.prepared = bn.BatchNorm(*self.given, eps=self.eps, **self._output(), axis=self.axis)

    def _output(self):
        return {
            "output_scale": self.scale, "output_zero_point": self.zero_point, "output_dtype": self.output_dtype,
            "relu": self.relu,
        }  # fmt: skip

    def once(self, q, out=None):
        return bn.quantized_batch_norm(
            q, *self.given, self.eps, self.scale, self.zero_point, axis=self.axis, output_dtype=self.output_dtype,
            relu=self.relu, out=out,
        )  # fmt: skip

    def finite(self, *scales):
        """Whether every slope and intercept is finite, for inputs of these scales."""
        folds = [reference.fold(*self.parameters, self.eps, scale, self.scale) for scale in scales]
        return all(np.isfinite(part).all() for fold in folds for part in fold)

    def want(self, codes, scale, zero_point):
        return reference.batch_norm(
            codes, scale, zero_point, *self.parameters, self.eps, self.scale, self.zero_point, self.kind,
            self.relu, self.axis,
        )  # fmt: skip

    def want_exact(self, a, b):
        return reference.add_batch_norm_exact(
            a.data, a.scale, a.zero_point, b.data, b.scale, b.zero_point, *self.parameters, self.eps, self.scale,
            self.zero_point, self.kind, self.relu, self.axis,
        )  # fmt: skip

    def check(self, result):
        assert (result.scale, result.zero_point, result.axis) == (self.scale, self.zero_point, None)
        assert result.dtype is self.kind


def quantized(rng, data, axis=None):
    """Return a tensor over these codes, per channel where an axis is given."""
    kind = KINDS[data.dtype.type]
    if axis is None:
        return bn.QuantizedTensor(data, scale_of(rng), zero_point_of(rng, kind))
    scales = np.exp(rng.uniform(-5, 1, data.shape[axis]))
    return bn.QuantizedTensor(data, scales, rng.integers(kind.qmin, kind.qmax + 1, data.shape[axis]), axis)


def place(rng, shape, dtype, how, inputs, *, apart=False):
    """Return memory for a result: none, of its own, that of an input, or some that overlaps one, and which."""
    kind = pick(rng, ("none", "none", "own", "own", "input", "input", "overlap"))
    if kind == "none":
        return None, kind
    source = pick(rng, inputs)
    if kind == "own" or apart or source.view.shape != shape or 0 in source.view.strides:
        return memory(rng, shape, dtype, how if chance(rng, 0.6) else arrangement(rng, len(shape))), "own"
    offset = 0 if kind == "input" else pick(rng, (1, 1, 2, 16, 32, 63, 64, -1, -7))
    end = source.view.__array_interface__["data"][0] - source.buffer.ctypes.data + offset
    low = end + sum((n - 1) * s for n, s in zip(shape, source.view.strides, strict=True) if s < 0)
    high = end + sum((n - 1) * s for n, s in zip(shape, source.view.strides, strict=True) if s > 0)
    if low < 0 or high >= len(source.buffer) or 0 in shape:
        offset, kind = 0, "input"
    made = memory(rng, (1,) * len(shape), dtype, how)
    made.buffer, made.before, made.view = source.buffer, source.before, source.like(source.buffer, offset, dtype)
    return made, kind


def tensor_or_array(rng, view, scale, zero_point):
    return bn.QuantizedTensor(view, scale, zero_point) if chance(rng, 0.2) else view


def refused(call, *memories):
    """Whether a call raises one of the documented errors and leaves all memory alone."""
    try:
        call()
    except (ValueError, TypeError) as error:
        assert str(error)
        return all(m.untouched() for m in memories)
    return False


def meddle(q):
    """Try what must have no effect: to resize, to free and to write what a tensor shows of itself."""
    for array in (q.scale, q.zero_point, q.data, q.data.base):
        if type(array) is np.ndarray and array.size > 0:  # of an empty one only the shape changes
            with contextlib.suppress(ValueError):
                array.resize(0)
    if q.axis is not None:
        for array in (q.scale, q.zero_point):
            with contextlib.suppress(ValueError):
                array.flags.writeable = True
                array[...] = 0


def same_strides(result, like):
    return all(
        n <= 1 or a == b for n, a, b in zip(like.shape, result.strides, np.empty_like(like).strides, strict=True)
    )


def norm(rng):
    """quantized_batch_norm and BatchNorm."""
    shape = shape_of(rng)
    axis, dtype = int(rng.integers(len(shape))), pick(rng, BYTES)
    how = arrangement(rng, len(shape), axis)
    x = memory(rng, shape, dtype, how, broadcast=chance(rng, 0.1))
    q = quantized(rng, x.view, axis if chance(rng, 0.3) else None)
    op = Norm(rng, shape[axis], axis, len(shape), q.dtype)
    codes, quantization = x.view.copy(), (np.copy(q.scale), np.copy(q.zero_point))
    want = op.want(codes, *quantization)
    finite = op.finite(quantization[0])
    for call in (op.once, op.prepared, op.prepared, op.prepared)[pick(rng, (0, 1)) : pick(rng, (1, 2, 3, 4)) + 1]:
        x.view[...] = codes
        x.again()
        if chance(rng, 0.1):
            meddle(q)
            _core.select_isa(pick(rng, _core.isas()))  # what is prepared stays right
        y, kind = place(rng, shape, op.kind.numpy, how, [x])
        if y is None:
            if not finite:
                assert refused(lambda: call(q), x)  # noqa: B023
                continue
            result = call(q)
            assert np.array_equal(result.data, want)
            assert same_strides(result.data, x.view)
            assert x.untouched()
        else:
            out = tensor_or_array(rng, y.view, op.scale, op.zero_point)
            if not finite or (kind == "overlap" and np.shares_memory(x.view, y.view)):
                assert refused(lambda: call(q, out=out), x, y)  # noqa: B023
                continue
            result = call(q, out=out)
            assert result is out or result.data is out
            assert y.holds(want)
            assert kind != "own" or x.untouched()
            y.again()
        op.check(result)


def concat(rng):
    """concat_batch_norm."""
    shape = list(shape_of(rng, most_elements=800))
    rank, dtype = len(shape), pick(rng, BYTES)
    axis = pick(rng, (1, rank - 1, int(rng.integers(rank))))
    how, pieces = arrangement(rng, rank, axis), []
    counts = [
        pick(rng, (1, 2, 3, 8, 16, 17, 31, 32, 33, 64, 65, 0, 100)) for _ in range(pick(rng, (1, 2, 2, 3, 5)))
    ]
    for count in counts:
        shape[axis] = count
        each = how if chance(rng, 0.7) else arrangement(rng, rank, axis)
        pieces.append(memory(rng, tuple(shape), dtype, each, broadcast=chance(rng, 0.05)))
    shape[axis] = sum(counts)
    ends = np.cumsum([0, *counts])
    y, own = None, None
    kind = pick(rng, ("none", "own", "own", "piece", "piece", "overlap"))
    op = Norm(rng, shape[axis], axis, rank, KINDS[dtype])
    if kind != "none":
        y = memory(rng, tuple(shape), op.kind.numpy, how if chance(rng, 0.7) else arrangement(rng, rank, axis))
    if kind in ("piece", "overlap"):  # a piece that lies where its channels go, or somewhere else in there
        own = int(rng.integers(len(counts)))
        start = int(ends[own]) if kind == "piece" else int(rng.integers(shape[axis] - counts[own] + 1))
        index = (slice(None),) * axis + (slice(start, start + counts[own]),)
        pieces[own] = memory(rng, (1,) * rank, dtype, how)
        pieces[own].buffer, pieces[own].before = y.buffer, y.before
        pieces[own].view = y.view[index].view(dtype)
    qs = [quantized(rng, p.view) for p in pieces]
    codes, scales, zeros = reference.concat(
        [q.data for q in qs], [q.scale for q in qs], [q.zero_point for q in qs], axis
    )
    want = op.want(codes, scales, zeros)
    good = op.finite(scales)
    if kind == "overlap":
        part = y.view[(slice(None),) * axis + (slice(int(ends[own]), int(ends[own + 1])),)]
        good = (
            good
            and (start == ends[own] or not np.shares_memory(part, pieces[own].view))
            and (start == ends[own] or pieces[own].view.size == 0)
        )
    calls = pick(rng, (1, 2)) if own is None else 1
    for _ in range(calls):
        if not good:
            out = None if y is None else y.view
            assert refused(lambda: bn.concat_batch_norm(qs, op.prepared, out=out), *pieces)  # noqa: B023
            return
        out = None if y is None else tensor_or_array(rng, y.view, op.scale, op.zero_point)
        result = bn.concat_batch_norm(qs if chance(rng, 0.5) else tuple(qs), op.prepared, out=out)
        if y is None:
            assert np.array_equal(result.data, want)
        else:
            assert y.holds(want)
            y.again()
        op.check(result)
        assert all(p.untouched() for i, p in enumerate(pieces) if i != own)


def add(rng):
    """add_batch_norm."""
    shape = shape_of(rng)
    axis, dtype = int(rng.integers(len(shape))), pick(rng, BYTES)
    how = arrangement(rng, len(shape), axis)
    x1, x2 = (
        memory(rng, shape, dtype, how if chance(rng, 0.7) else arrangement(rng, len(shape), axis))
        for _ in range(2)
    )
    if chance(rng, 0.1):
        x2 = x1
    a, b = quantized(rng, x1.view), quantized(rng, x2.view)
    op = Norm(rng, shape[axis], axis, len(shape), a.dtype)
    exact, sums = True, {}
    if chance(rng, 0.4):
        sums = {"sum_scale": scale_of(rng), "sum_zero_point": zero_point_of(rng, a.dtype)}
        exact = chance(rng, 0.5)
        total = reference.add(
            a.data, a.scale, a.zero_point, b.data, b.scale, b.zero_point, *sums.values(), a.dtype
        )
    want = op.want_exact(a, b) if exact else op.want(total, *sums.values())
    good = op.finite(a.scale, b.scale) if exact else op.finite(sums["sum_scale"])
    good = good and all(np.isfinite(np.float32(q.scale / s)) for q in (a, b) for s in list(sums.values())[:1])
    y, kind = place(rng, shape, op.kind.numpy, how, [x1, x2])
    s, kind_of_sum = place(rng, shape, dtype, how, [x1, x2]) if sums else (None, "none")
    for taken, its in ((y, kind), (s, kind_of_sum)):
        for x in (x1, x2):
            if its in ("input", "overlap") and np.shares_memory(taken.view, x.view):
                good = good and same_memory(taken.view, x.view) and not (taken is s and exact)
    if y is not None and s is not None and np.shares_memory(y.view, s.view):
        good = False
    how_called = {**sums, "exact_sum": exact} if sums else {}
    if y is not None:
        how_called["out"] = tensor_or_array(rng, y.view, op.scale, op.zero_point)
    if s is not None:
        how_called["sum_out"] = tensor_or_array(rng, s.view, *sums.values())
    if not good:
        assert refused(lambda: bn.add_batch_norm(a, b, op.prepared, **how_called), x1, x2)
        return
    found = bn.add_batch_norm(a, b, op.prepared, **how_called)
    result, sum_of = found if sums else (found, None)
    op.check(result)
    assert np.array_equal(result.data, want)
    assert y is None or result is how_called["out"] or result.data is y.view
    if sum_of is not None:
        assert np.array_equal(sum_of.data, total)
        assert (sum_of.scale, sum_of.zero_point, sum_of.dtype) == (*sums.values(), a.dtype)
    for x in (x1, x2, y, s):  # every byte of every buffer: what was written there, or what was before
        if x is None:
            continue
        wanted = x.before.copy()
        for taken, values in ((y, want), (s, total if sums else None)):
            if taken is not None and taken.buffer is x.buffer:
                taken.like(wanted)[...] = values
        assert np.array_equal(x.buffer, wanted)


def same_memory(a, b):
    return a.__array_interface__["data"][0] == b.__array_interface__["data"][0] and all(
        n <= 1 or s == t for n, s, t in zip(a.shape, a.strides, b.strides, strict=True)
    )


def quantize(rng):
    """quantize_per_tensor, quantize_per_channel and dequantize."""
    shape = shape_of(rng, least=1)
    axis, kind = int(rng.integers(len(shape))), pick(rng, (bn.quint8, bn.qint8))
    x = memory(rng, shape, np.uint8, arrangement(rng, len(shape), axis))
    dtype = pick(rng, (np.float32, np.float32, np.float16, np.float64, ">f4"))
    real = memory(rng, shape, dtype, arrangement(rng, len(shape), axis), broadcast=chance(rng, 0.1))
    x.view[...] = rng.integers(0, 256, shape)
    real.view[...] = (x.view.astype(np.float64) - 100) * pick(rng, (0.05, 0.5, 1.0, 1e3))
    if chance(rng, 0.1) and real.view.size:
        real.view.flat[int(rng.integers(real.view.size))] = pick(rng, (np.inf, -np.inf, np.nan, 6e4))
    per_channel = chance(rng, 0.5)
    narrow, rule = real.view.astype(np.float32), pick(rng, (ROUNDINGS[0], *ROUNDINGS))
    if per_channel:
        scales = np.exp(rng.uniform(-4, 1, shape[axis])).astype(pick(rng, (np.float32, np.float64)))
        zeros = rng.integers(kind.qmin, kind.qmax + 1, shape[axis])
        column = [-1 if d == axis else 1 for d in range(len(shape))]

        def call():
            return bn.quantize_per_channel(real.view, scales, zeros, axis, kind, rounding=rule)

        how, of = (scales.reshape(column), zeros.reshape(column)), reference.quantize_per_channel
    else:
        scale, zero = scale_of(rng), zero_point_of(rng, kind)

        def call():
            return bn.quantize_per_tensor(real.view, scale, zero, kind, rounding=rule)

        how, of = (scale, zero), reference.quantize_per_tensor
    if np.isnan(narrow).any():
        assert refused(call)
        return
    first = rule == ROUNDINGS[0]
    want = of(narrow, *how, kind) if first else reference.quantize_behind(narrow, *how, kind, rule)
    q = call()
    assert np.array_equal(q.data, want)
    assert np.array_equal(q.dequantize(), reference.dequantize(want, *how), equal_nan=True)


def requantize(rng):
    """Requantize and dequantize, of codes that lie in memory anyhow."""
    shape = shape_of(rng, least=1)
    axis = int(rng.integers(len(shape)))
    x = memory(rng, shape, pick(rng, BYTES), arrangement(rng, len(shape), axis), broadcast=chance(rng, 0.1))
    per_channel = chance(rng, 0.4)
    q = quantized(rng, x.view, axis if per_channel else None)
    column = [-1 if d == axis else 1 for d in range(len(shape))]
    scale, zero = (
        (q.scale.reshape(column), q.zero_point.reshape(column)) if per_channel else (q.scale, q.zero_point)
    )
    dtype = pick(rng, (None, bn.quint8, bn.qint8))
    kind, new = dtype or q.dtype, scale_of(rng)
    new_zero = zero_point_of(rng, kind)
    assert np.array_equal(bn.dequantize(q), reference.dequantize(x.view, scale, zero), equal_nan=True)
    if not np.isfinite(np.float32(np.float64(scale) / new)).all():
        assert refused(lambda: bn.requantize(q, new, new_zero, dtype), x)
        return
    result = bn.requantize(q, new, new_zero, dtype)
    assert np.array_equal(result.data, reference.requantize(x.view, scale, zero, new, new_zero, kind))
    assert same_strides(result.data, x.view)
    assert x.untouched()


def statistics(rng):
    """ChannelStatistics, of one or two tensors."""
    shape = list(shape_of(rng, most_elements=1000))
    axis, dtype = int(rng.integers(len(shape))), pick(rng, BYTES)
    shape[axis] = max(shape[axis], 1)
    histogram, parts = chance(rng, 0.5), []
    gathered = ChannelStatistics(shape[axis], histogram=histogram)
    scale, zero = scale_of(rng), zero_point_of(rng, KINDS[dtype])
    for _ in range(pick(rng, (1, 2))):
        x = memory(rng, tuple(shape), dtype, arrangement(rng, len(shape), axis), broadcast=chance(rng, 0.1))
        gathered.update(bn.QuantizedTensor(x.view, scale, zero), axis)
        parts.append(np.moveaxis(x.view, axis, 0).reshape(shape[axis], -1))
    found = reference.channel_statistics(np.concatenate(parts, 1), KINDS[dtype], 0)
    assert gathered.count == found[0][0]
    assert gathered.sum.tolist() == [f[3] for f in found]
    assert gathered.sum_of_squares.tolist() == [f[4] for f in found]
    if gathered.count:
        assert gathered.minimum.tolist() == [f[1] for f in found]
        assert gathered.maximum.tolist() == [f[2] for f in found]
    assert not histogram or gathered.histogram.tolist() == [f[5] for f in found]


CALLS = (norm, norm, norm, norm, norm, concat, concat, concat, add, add, quantize, requantize, statistics)
