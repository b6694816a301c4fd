"""Arrays that other code resizes, reshapes or frees, also while a call works: nothing outside of them is read."""

import gc
import threading
import warnings

import numpy as np
import pytest
from random_refusals import Odd

import bytenorm as bn
from bytenorm import _core
from bytenorm.calibration import ChannelStatistics

C = 40


@pytest.fixture
def norm(rng):
    return bn.BatchNorm(
        *rng.normal(size=(3, C)),
        rng.uniform(0.5, 2, C),
        output_scale=0.05,
        output_zero_point=100,
        output_dtype=bn.quint8,
    )


@pytest.fixture
def per_channel(rng):
    data = rng.integers(0, 256, (3, C, 5), np.uint8)
    return bn.QuantizedTensor(data, rng.uniform(0.01, 0.1, C), rng.integers(0, 256, C), 1)


def test_scales_of_a_tensor_cannot_be_resized_written_or_freed(per_channel, norm):
    want = norm(per_channel).data.copy()
    for array in (
        per_channel.scale,
        per_channel.zero_point,
        per_channel.q_per_channel_scales(),
        per_channel.q_per_channel_zero_points(),
        per_channel[:1].scale,
        per_channel[..., 0].zero_point,
    ):
        with pytest.raises(ValueError, match="own its data"):
            array.resize(0)
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        assert type(array.base) is bytes
    gc.collect()
    np.testing.assert_array_equal(norm(per_channel).data, want)


def test_the_shape_of_a_scale_is_that_of_a_view(per_channel, norm):
    want, real = norm(per_channel).data.copy(), per_channel.dequantize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # NumPy 2.5: the shape is not to be assigned to
        per_channel.scale.shape = per_channel.zero_point.shape = 1, C
    assert per_channel.scale.shape == per_channel.zero_point.shape == (C,)
    np.testing.assert_array_equal(norm(per_channel).data, want)
    np.testing.assert_array_equal(per_channel.dequantize(), real)


def test_parameters_of_a_norm_cannot_be_resized_or_written(norm):
    for name in ("weight", "bias", "mean", "var"):
        with pytest.raises(ValueError, match="own its data"):
            getattr(norm, name).resize(0)
        with pytest.raises(ValueError, match="WRITEABLE"):
            getattr(norm, name).flags.writeable = True


def test_codes_of_a_tensor_are_not_resized(norm, rng):
    """NumPy resizes an array that is referred to once, and then frees what others look at."""
    own = bn.QuantizedTensor(rng.integers(0, 256, (2, C), np.uint8), 0.1, 3)
    made = norm(own)
    for array in (own.data, own.data.base, made.data, bn.requantize(own, 0.2, 0).data, made[1:].data.base):
        with pytest.raises(ValueError, match="cannot resize"):
            array.resize(0)
    assert made.shape == norm(made).shape == (2, C)


def test_tensors_and_norms_are_made_once(norm, per_channel):
    with pytest.raises(TypeError, match="immutable"):
        per_channel.__init__(np.zeros((1, 1), np.uint8), 0.1, 3)
    with pytest.raises(TypeError, match="immutable"):
        norm.__init__(None, None, [0.0], [1.0], output_scale=0.1, output_zero_point=0)
    assert norm(per_channel).shape == per_channel.shape


def calls_of(norm, a, b, per_channel):
    """Return calls that let go of Python's lock, by name: their results are the same each time."""
    last = bn.QuantizedTensor(np.moveaxis(np.ascontiguousarray(np.moveaxis(b.data, 1, -1)), -1, 1), 0.03, 7)
    both = norm.replace(
        **{name: np.concatenate([getattr(norm, name)] * 2) for name in ("weight", "bias", "mean", "var")}
    )
    sums = {"sum_scale": 0.07, "sum_zero_point": 9}

    def statistics(histogram):
        gathered = ChannelStatistics(C, histogram=histogram)
        gathered.update(a)
        return gathered.sum.tolist(), gathered.maximum.tolist()

    return {
        "norm": lambda: norm(a).data,
        "norm, per channel": lambda: norm(per_channel).data,
        "concat": lambda: bn.concat_batch_norm([a, b], both).data,
        "concat of both layouts": lambda: bn.concat_batch_norm([last, a], both).data,
        "add": lambda: bn.add_batch_norm(a, b, norm, **sums)[0].data,
        "add of both layouts": lambda: bn.add_batch_norm(a, last, norm, **sums)[1].data,
        "exact add": lambda: bn.add_batch_norm(a, b, norm).data,
        "exact add of both layouts": lambda: bn.add_batch_norm(last, a, norm, exact_sum=True, **sums)[0].data,
        "requantize": lambda: bn.requantize(per_channel, 0.2, 3).data,
        "dequantize": lambda: bn.dequantize(a),
        "sums": lambda: statistics(False),
        "histogram": lambda: statistics(True),
    }


def test_shapes_assigned_to_while_calls_work(norm, rng):
    """To assign to a shape or to strides frees the old ones: the calls have theirs."""
    shape = (2, C, 60, 61)
    a, b = (bn.QuantizedTensor(rng.integers(0, 256, shape, np.uint8), 0.03, 7) for _ in range(2))
    per_channel = bn.QuantizedTensor(a.data, rng.uniform(0.01, 0.1, C), rng.integers(0, 256, C), 1)
    calls = calls_of(norm, a, b, per_channel)
    wanted = {name: call() for name, call in calls.items()}
    stop, refused = threading.Event(), []

    def disturb():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            while not stop.is_set():
                for q in (a, b, per_channel):
                    q.data.shape = shape
                    q.data.strides = q.data.strides
                    for array in (q.data, q.data.base):
                        try:
                            array.resize(0)
                        except ValueError as error:
                            refused.append(error)
                # NumPy keeps the memory of small shapes for the next array of as many dimensions.
                others = [np.ndarray((1000, 1, 1, 1), np.uint8, bytes(1), 0, (0, 0, 0, 0)) for _ in range(9)]
                del others, refused[10:]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        other = threading.Thread(target=disturb)
        other.start()
        try:
            for _ in range(12):
                for name, call in calls.items():
                    np.testing.assert_array_equal(call(), wanted[name], err_msg=name)
        finally:
            stop.set()
            other.join()
    assert refused


def pretends(kind):
    return type("Pretends", (), {"__class__": property(lambda self: kind)})


@pytest.mark.parametrize(
    "make",
    [
        Odd, pretends(bn.QuantizedTensor), pretends(bn.BatchNorm), pretends(np.ndarray), pretends(bool),
        lambda: bn.QuantizedTensor.__new__(bn.QuantizedTensor), lambda: _core.Tensor.__new__(_core.Tensor),
    ],
    ids=["raises", "tensor", "norm", "ndarray", "bool", "no data", "no data inside"],
)  # fmt: skip
def test_odd_classes(norm, rng, make):
    """What an object says of itself, or raises when it is asked, is neither believed nor let out."""
    odd = make()
    q = bn.QuantizedTensor(rng.integers(0, 256, (2, C), np.uint8), 0.1, 3)
    plain = [0.0] * C, [1.0] * C
    sums = {"sum_scale": 0.1, "sum_zero_point": 3}
    once = bn.quantized_batch_norm
    out = np.full((2, C), 7, np.uint8)
    for name, call in {
        "input": lambda: norm(odd),
        "out": lambda: norm(q, out=odd),
        "mean": lambda: once(q, None, None, odd, plain[1], 1e-5, 0.1, 3, out=out),
        "weight": lambda: once(q, odd, None, *plain, 1e-5, 0.1, 3, out=out),
        "eps": lambda: once(q, None, None, *plain, odd, 0.1, 3, out=out),
        "output_scale": lambda: once(q, None, None, *plain, 1e-5, odd, 3, out=out),
        "output_zero_point": lambda: once(q, None, None, *plain, 1e-5, 0.1, odd, out=out),
        "axis": lambda: once(q, None, None, *plain, 1e-5, 0.1, 3, axis=odd, out=out),
        "relu": lambda: once(q, None, None, *plain, 1e-5, 0.1, 3, relu=odd, out=out),
        "output_dtype": lambda: once(q, None, None, *plain, 1e-5, 0.1, 3, output_dtype=odd, out=out),
        "pieces": lambda: bn.concat_batch_norm(odd, norm, out=out),
        r"pieces\[0\]": lambda: bn.concat_batch_norm([odd], norm, out=out),
        "norm": lambda: bn.concat_batch_norm([q], odd, out=out),
        "norm ": lambda: bn.add_batch_norm(q, q, odd, out=out),
        "a": lambda: bn.add_batch_norm(odd, q, norm, out=out),
        "b": lambda: bn.add_batch_norm(q, odd, norm, out=out),
        "sum_scale": lambda: bn.add_batch_norm(q, q, norm, sum_scale=odd, sum_zero_point=3, out=out),
        "sum_out": lambda: bn.add_batch_norm(q, q, norm, **sums, sum_out=odd, out=out),
        "exact_sum": lambda: bn.add_batch_norm(q, q, norm, exact_sum=odd, out=out),
        "data": lambda: bn.QuantizedTensor(odd, 0.1, 3),
        "scale": lambda: bn.QuantizedTensor(out, odd, 3),
        "q": lambda: bn.requantize(odd, 0.1, 3),
        "q ": lambda: bn.dequantize(odd),
        "input ": lambda: bn.quantize_per_tensor(odd, 0.1, 3, bn.quint8),
        "scales": lambda: bn.quantize_per_channel(np.zeros(1), odd, [3], 0, bn.quint8),
        "qx": lambda: ChannelStatistics(C).update(odd),
        "a QuantizedTensor": lambda: q[odd],
        "n": lambda: bn.set_num_threads(odd),
    }.items():
        with pytest.raises((TypeError, ValueError), match=f"^{name.strip()} "):
            call()
    assert (out == 7).all()


RAISED = (RuntimeError, OSError, StopIteration, RecursionError, MemoryError, KeyboardInterrupt, SystemExit)
ASKED = (
    ("__len__", "__getitem__"), ("__iter__",), ("__eq__", "__hash__"), ("__index__", "__int__", "__float__"),
    ("__array__",), ("__array_interface__",), ("__buffer__",), ("__dlpack__", "__dlpack_device__"),
    ("__repr__", "__str__"),
)  # fmt: skip


@pytest.mark.parametrize("error", RAISED, ids=lambda error: error.__name__)
def test_what_objects_raise_when_they_are_asked(norm, rng, error):
    """It is no array, no number and no list then; what ends a program or wants memory may get out."""

    def method(self, *_, **__):
        raise error("on purpose")

    q = bn.QuantizedTensor(rng.integers(0, 256, (2, C), np.uint8), 0.1, 3)
    plain = {name: getattr(norm, name) for name in ("weight", "bias", "mean", "var")}
    out = error if error in RAISED[3:] else ValueError
    for names in ASKED:
        odd = type("Raises", (), dict.fromkeys(names, method))()
        for call in (
            lambda odd=odd: bn.BatchNorm(**(plain | {"mean": odd}), output_scale=0.1, output_zero_point=3),
            lambda odd=odd: bn.BatchNorm(**plain, eps=odd, output_scale=0.1, output_zero_point=3),
            lambda odd=odd: bn.QuantizedTensor(odd, 0.1, 3),
            lambda odd=odd: bn.QuantizedTensor(q.data, odd, 3),
            lambda odd=odd: bn.QuantizedTensor(q.data, 0.1, odd),
            lambda odd=odd: bn.QuantizedTensor(q.data, [0.1] * C, [3] * C, odd),
            lambda odd=odd: bn.quantize_per_tensor(odd, 0.1, 3, bn.quint8),
            lambda odd=odd: bn.quantize_per_channel(np.zeros(1), odd, [3], 0, bn.quint8),
            lambda odd=odd: bn.concat_batch_norm(odd, norm),
            lambda odd=odd: bn.add_batch_norm(q, odd, norm),
            lambda odd=odd: norm(odd),
            lambda odd=odd: norm(q, out=odd),
            lambda odd=odd: q[odd],
            lambda odd=odd: ChannelStatistics(odd),
            lambda odd=odd: bn.set_num_threads(odd),
        ):
            with pytest.raises((TypeError, ValueError, out)):
                call()
