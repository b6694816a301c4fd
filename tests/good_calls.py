"""Calls of a norm that work, what tests change in them, and values that no argument takes."""

import re

import numpy as np
import pytest

import bytenorm as bn

CHANNELS = 3
SHAPE = (4, CHANNELS, 5, 2)
PATTERN = 171  # what `out` holds before; nothing may change it unless the call succeeds


def codes(shape=SHAPE, dtype=np.uint8, seed=0):
    kind = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(kind.min, kind.max + 1, shape).astype(dtype)


def good():
    """Return the arguments of a call that works."""
    rng = np.random.default_rng(1)
    return {
        "input": bn.QuantizedTensor(codes(), 0.05, 120),
        "weight": rng.uniform(0.5, 2, CHANNELS).astype(np.float32),
        "bias": rng.normal(0, 1, CHANNELS).astype(np.float32),
        "mean": rng.normal(0, 1, CHANNELS).astype(np.float32),
        "var": rng.uniform(0.5, 2, CHANNELS).astype(np.float32),
        "eps": 1e-5,
        "output_scale": 0.1,
        "output_zero_point": 30,
    }


def call_function(arguments, out=None):
    return bn.quantized_batch_norm(**arguments, out=out)


def call_norm(arguments, out=None):
    arguments = dict(arguments)
    q = arguments.pop("input")
    return bn.BatchNorm(**arguments)(q, out=out)


ways = pytest.mark.parametrize("call", [call_function, call_norm])

VECTORS = ["weight", "bias", "mean", "var"]


def with_one(value, dtype=np.float32):
    """Return a vector that is good but for its second number."""
    made = np.ones(CHANNELS, dtype)
    made[1] = value
    return made


NO_NUMBERS = ["0.1", b"0.1", np.str_("0.1"), np.array("0.1"), 1j, np.complex128(0.1 + 1j), np.array(0.1 + 1j)]
NO_NUMBERS += [True, np.True_, np.array(True), [0.1], np.array([0.1]), object(), {}]
BAD_SCALES = [
    (0.0, "0.0"),
    (-0.0, "-0.0"),
    (0, "0"),
    (-0.1, "-0.1"),
    (-1e-60, "-1e-60"),
    (float("nan"), "nan"),
    (float("inf"), "inf"),
    (float("-inf"), "-inf"),
    (np.float32(np.nan), "nan"),
    (1e-39, "1e-39"),  # a float32, but its reciprocal is none
    (2.9e-39, "2.9e-39"),
    (1e-60, "1e-60"),
    (1e39, "1e+39"),
]


def label(case):
    changes, error, _ = case
    shown = " ".join(f"{name}={value!r:.40}" for name, value in changes.items())
    return f"{re.sub(' at 0x.*', '', ' '.join(shown.split()))} {error.__name__}"


def is_over(q, memory):
    """Whether a tensor lies exactly over an array."""
    return q.data.ctypes.data == memory.ctypes.data and (q.shape, q.data.strides) == (memory.shape, memory.strides)


def memory_of(out):
    if isinstance(out, bn.QuantizedTensor):
        return out.data
    return out if isinstance(out, np.ndarray) else np.asarray(out)


def read_only(value):
    value.flags.writeable = False
    return value


def filled(shape=SHAPE, dtype=np.uint8):
    return np.full(shape, PATTERN - 128 if dtype == np.int8 else PATTERN, dtype)


def assert_message(call, error, shown):
    """Assert that a call raises an error whose one line holds all that is to be shown, the argument first."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert [part for part in shown if part not in message] == [], message
    assert "\n" not in message
    argument = caught.value.argument
    assert message.startswith(argument) or (argument == "output_scale" and argument in message), argument


def assert_refused(call, changes, error, shown, *, lists):
    """Assert that a changed call is refused, and that `out` is as before."""
    arguments = good()
    if lists:  # the same numbers go another way through the checks
        arguments.update({name: arguments[name].tolist() for name in VECTORS})
    shape = getattr(changes.get("input"), "shape", SHAPE)
    out = np.full(shape if isinstance(shape, tuple) else SHAPE, PATTERN, np.uint8)
    if changes.get("output_dtype") is bn.qint8:
        out = out.view(np.int8)
    assert_message(lambda: call({**arguments, **changes}, out), error, shown)
    assert (out.view(np.uint8) == PATTERN).all()


def assert_out_refused(call, out, error, shown, *, lists):
    before = memory_of(out).copy()
    arguments = good()
    if lists:
        arguments["mean"] = arguments["mean"].tolist()
    with pytest.raises(error, match=r"^out must") as caught:
        call(arguments, out)
    assert [part for part in shown if part not in str(caught.value)] == [], caught.value
    np.testing.assert_array_equal(memory_of(out), before)


def assert_in_place(call, over, *, lists):
    """Assert that what `over` makes of the input is the output's memory."""
    arguments = good()
    want = call(arguments).data
    if lists:
        arguments["mean"] = arguments["mean"].tolist()
    q = bn.QuantizedTensor(codes(), 0.05, 120)
    got = call({**arguments, "input": q}, over(q))
    np.testing.assert_array_equal(q.data, want)
    assert is_over(got, q.data)


class OnlyInterface:
    """Memory that is offered through the array interface and nothing else."""

    def __init__(self, memory):
        self._memory = memory
        self.__array_interface__ = memory.__array_interface__
