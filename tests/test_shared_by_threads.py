"""Threads share norms, their memories of folds, the pool and the settings: each result is the specification's.

Python's lock changes hands all the time here, and large calls leave it. `make freethreaded` runs this without one.
"""

import pickle
import random
import sys
import threading

import numpy as np
import pytest

import bytenorm as bn
from bytenorm import _core, reference
from bytenorm.calibration import ChannelStatistics

THREADS = 6
EPS, SCALE, ZERO_POINT = 1e-3, 0.04, 100
SUM_SCALE, SUM_ZERO_POINT = 0.06, 90
SHAPES = ((2, 16, 9, 9), (3, 33, 3, 5), (2, 16, 48, 48))  # the last is computed without Python's lock


@pytest.fixture(autouse=True)
def as_before():
    before = bn.get_num_threads(), _core.isa(), _core.set_bytes_a_thread(8192), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    bn.set_num_threads(before[0])
    _core.select_isa(before[1])
    _core.set_bytes_a_thread(before[2])
    sys.setswitchinterval(before[3])


class Parameters:
    """The parameters of a norm, for ours and for the reference."""

    def __init__(self, rng, channels, kind, relu):
        self.arrays = [
            a.astype(np.float32) for a in (*rng.normal(size=(3, channels)), rng.uniform(0.1, 2, channels))
        ]
        self.kind, self.relu = kind, relu

    def made(self):
        return bn.BatchNorm(
            *self.arrays, eps=EPS, output_scale=SCALE, output_zero_point=ZERO_POINT, output_dtype=self.kind,
            relu=self.relu,
        )  # fmt: skip

    def expected(self, codes, scale, zero_point):
        return reference.batch_norm(
            codes, scale, zero_point, *self.arrays, EPS, SCALE, ZERO_POINT, self.kind, self.relu
        )

    def expected_of_sum(self, a, b):
        return reference.add_batch_norm_exact(
            a.data, a.scale, a.zero_point, b.data, b.scale, b.zero_point, *self.arrays, EPS, SCALE, ZERO_POINT,
            self.kind, self.relu,
        )  # fmt: skip


def last(codes):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(codes, 1, -1)), -1, 1)


def calls(rng):
    """Return parameters, and calls of norms of these with what they have to give.

    A norm meets more quantizations than it remembers, and the same ones in several layouts.
    """
    parameters, made = {}, []
    for shape in SHAPES:
        key = shape[1]
        kind = bn.qint8 if key == 33 else bn.quint8
        p = parameters.setdefault(key, Parameters(rng, key, kind, relu=key == 33))
        parameters.setdefault(2 * key, Parameters(rng, 2 * key, kind, relu=False))
        both = parameters[2 * key]
        codes = rng.integers(0, 256, shape).astype(np.uint8)
        tensors = []
        for scale, zero_point in ((0.03, 120), (0.05, 3), (0.011, 200), (0.2, 128), (0.07, 0), (0.031, 121)):
            want = p.expected(codes, scale, zero_point)
            for data in (codes, last(codes)):
                tensors.append(bn.QuantizedTensor(data, scale, zero_point))
                made.append((key, lambda norm, out, x: norm(x, out=out), tensors[-1:], (want,)))
        a, b = tensors[0], tensors[3]
        summed = reference.add(
            a.data, a.scale, a.zero_point, b.data, b.scale, b.zero_point, SUM_SCALE, SUM_ZERO_POINT, bn.quint8
        )
        exact = p.expected_of_sum(a, b)
        made.append((key, lambda norm, out, *xs: bn.add_batch_norm(*xs, norm, out=out), (a, b), (exact,)))
        for is_exact in (False, True):
            want = (exact if is_exact else p.expected(summed, SUM_SCALE, SUM_ZERO_POINT), summed)
            how = {"sum_scale": SUM_SCALE, "sum_zero_point": SUM_ZERO_POINT, "exact_sum": is_exact}
            add = lambda norm, out, *xs, how=how: bn.add_batch_norm(*xs, norm, out=out, **how)  # noqa: E731
            made.append((key, add, (a, b), want))
        for pair in ((a, tensors[2]), (b, tensors[4])):
            joined = reference.concat(
                [x.data for x in pair], [x.scale for x in pair], [x.zero_point for x in pair]
            )
            want = both.expected(*joined)
            made.append((2 * key, lambda norm, out, *xs: bn.concat_batch_norm(xs, norm, out=out), pair, (want,)))
    return parameters, made


def together(work):
    """Run work(number) in threads that begin together; the first error of one is raised here."""
    errors, start = [], threading.Barrier(THREADS)

    def run(number):
        try:
            start.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_norms(rng):
    """New norms each round, so that the threads meet in the first fold and in all that is prepared later."""
    parameters, made = calls(rng)
    for round_ in range(10):
        norms = {key: p.made() for key, p in parameters.items()}
        norms[33] = pickle.loads(pickle.dumps(norms[33]))

        def work(number, round_=round_, norms=norms):
            drawn = random.Random(100 * round_ + number)
            for key, call, tensors, want in drawn.sample(made, len(made)):
                out = np.empty(want[0].shape, want[0].dtype) if drawn.random() < 0.5 else None
                found = call(norms[key], out, *tensors)
                found = found if isinstance(found, tuple) else (found,)
                assert out is None or np.shares_memory(found[0].data, out)
                for have, expected in zip(found, want, strict=True):
                    np.testing.assert_array_equal(have.data, expected)
                if number == 0:
                    bn.set_num_threads(drawn.randint(1, 4))
                    assert 1 <= bn.show_config()["num_threads"] <= 4
                if number == 1:
                    _core.select_isa(drawn.choice(_core.isas()))

        together(work)


def test_conversions_and_statistics(rng):
    """Numbers and codes that all threads read at once; each counts for itself, and the counts are merged."""
    real = rng.normal(size=(4, 32, 40, 17)).astype(np.float32)
    scales, zero_points = rng.uniform(0.01, 0.1, 32), rng.integers(0, 256, 32)
    q = bn.quantize_per_tensor(real, 0.03, 120, bn.quint8)
    wanted = {
        "tensor": reference.quantize_per_tensor(real, 0.03, 120, bn.quint8),
        "channel": reference.quantize_per_channel(
            real, scales[:, None, None], zero_points[:, None, None], bn.quint8
        ),
        "numbers": reference.dequantize(q.data, 0.03, 120),
        "again": reference.requantize(q.data, 0.03, 120, 0.05, 7, bn.qint8),
    }
    counts = [ChannelStatistics(32) for _ in range(THREADS)]

    def work(number):
        for turn in range(6):
            found = {
                "tensor": bn.quantize_per_tensor(real, 0.03, 120, bn.quint8).data,
                "channel": bn.quantize_per_channel(real, scales, zero_points, 1, bn.quint8).data,
                "numbers": q.dequantize(),
                "again": bn.requantize(q, 0.05, 7, bn.qint8).data,
            }
            for name, have in found.items():
                np.testing.assert_array_equal(have, wanted[name], err_msg=name)
            counts[number].update(q if turn % 2 else bn.QuantizedTensor(last(q.data), 0.03, 120))
            if number == 1:
                _core.select_isa(_core.isas()[turn % len(_core.isas())])

    together(work)
    all_ = counts[0]
    for other in counts[1:]:
        all_.merge(other)
    once = ChannelStatistics(32)
    once.update(q)
    assert [int(n) for n in all_.sum] == [6 * THREADS * int(n) for n in once.sum]
    np.testing.assert_array_equal(all_.histogram, 6 * THREADS * once.histogram)


def test_the_import_leaves_pythons_lock_as_it_is(run_python):
    """A module that does not say that it does without turns it on, with a warning."""
    code = """
import sys, numpy
locked = getattr(sys, "_is_gil_enabled", lambda: True)
before = locked()
import bytenorm, bytenorm.calibration, bytenorm._core
assert locked() == before
print("same")
"""
    done = run_python(code, "-W", "error")
    assert (done.returncode, done.stdout, done.stderr) == (0, "same\n", "")
