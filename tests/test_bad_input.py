import array
import decimal
import fractions
import itertools
import re

import numpy as np
import pytest
import torch

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


# What is changed in a good call, the error, and what the message must hold: the argument's name and what came.
BAD = []
for name in VECTORS:
    BAD += [
        ({name: np.ones(2, np.float32)}, ValueError, [name, "has 2"]),
        ({name: np.ones(4, np.float32)}, ValueError, [name, "has 4"]),
        ({name: [1.0, 1.0]}, ValueError, [name, "has 2"]),
        ({name: np.ones(1, np.float32)}, ValueError, [name, "has 1"]),
        ({name: []}, ValueError, [name, "has 0"]),
        ({name: 1.0}, ValueError, [name, "one-dimensional", "()"]),
        ({name: np.float32(1)}, ValueError, [name, "one-dimensional", "()"]),
        ({name: np.array(1.0)}, ValueError, [name, "one-dimensional", "()"]),
        ({name: np.ones((1, 3), np.float32)}, ValueError, [name, "one-dimensional", "(1, 3)"]),
        ({name: [[1.0], [1.0], [1.0]]}, ValueError, [name, "one-dimensional", "(3, 1)"]),
        ({name: np.ones(3, np.complex64)}, TypeError, [name, "real", "complex64"]),
        ({name: [1j, 1, 1]}, TypeError, [name, "real", "complex128"]),
        ({name: ["1", "1", "1"]}, TypeError, [name, "real", "<U1"]),
        ({name: "111"}, TypeError, [name, "real", "<U3"]),
        ({name: b"111"}, TypeError, [name, "real", "|S3"]),
        ({name: np.ones(3, bool)}, TypeError, [name, "real", "bool"]),
        ({name: [1.0, None, 1.0]}, TypeError, [name, "real", "object"]),
        ({name: np.ones(3, "m8[s]")}, TypeError, [name, "real", "timedelta64"]),
        ({name: [[1.0], [1.0, 1.0], 1.0]}, TypeError, [name, "array"]),
        ({name: np.ma.masked_array(np.ones(3), [0, 1, 0])}, TypeError, [name, "masked"]),
        ({name: torch.ones(3, requires_grad=True)}, TypeError, [name, "grad"]),
        ({name: with_one(np.nan)}, ValueError, [f"{name}[1]", "nan"]),
        ({name: with_one(np.inf)}, ValueError, [f"{name}[1]", "inf"]),
        ({name: with_one(-np.inf)}, ValueError, [f"{name}[1]", "-inf"]),
        ({name: [1.0, 1.0, float("nan")]}, ValueError, [f"{name}[2]", "nan"]),
        ({name: with_one(np.inf, np.float64)}, ValueError, [f"{name}[1]", "inf"]),
        ({name: with_one(np.nan, np.float16)}, ValueError, [f"{name}[1]", "nan"]),
        ({name: with_one(1e39, np.float64)}, ValueError, [f"{name}[1]", "overflows float32", "1e+39"]),
        ({name: [3.5e38, 1.0, 1.0]}, ValueError, [f"{name}[0]", "overflows float32", "3.5e+38"]),
    ]
for name in ("mean", "var", "eps", "output_scale", "output_zero_point"):
    BAD += [({name: None}, TypeError, [name, "None"])]
BAD += [
    ({"var": with_one(-1.0)}, ValueError, ["var[1]", "negative", "-1.0"]),
    ({"var": with_one(-1e-45)}, ValueError, ["var[1]", "negative", "-1e-45"]),
    ({"var": [1.0, 1.0, -2.0]}, ValueError, ["var[2]", "negative", "-2.0"]),
    ({"var": with_one(0.0), "eps": 0.0}, ValueError, ["var[1]", "eps", "0.0"]),
    ({"var": with_one(-0.0), "eps": 0.0}, ValueError, ["var[1]", "eps", "0.0"]),
    ({"var": with_one(0.0), "eps": 0}, ValueError, ["var[1]", "eps", "0"]),
    ({"var": with_one(0.0), "eps": 1e-60}, ValueError, ["var[1]", "eps", "1e-60"]),
    ({"var": np.full(3, 1e-60), "eps": 0.0}, ValueError, ["var[0]", "eps"]),
    ({"eps": -1e-5}, ValueError, ["eps", "negative", "-1e-05"]),
    ({"eps": -1}, ValueError, ["eps", "negative", "-1"]),
    ({"eps": -1e-60}, ValueError, ["eps", "negative", "-1e-60"]),
    ({"eps": float("nan")}, ValueError, ["eps", "finite", "nan"]),
    ({"eps": float("inf")}, ValueError, ["eps", "finite", "inf"]),
    ({"eps": np.float32(np.inf)}, ValueError, ["eps", "finite", "inf"]),
    ({"eps": 1e39}, ValueError, ["eps", "finite", "1e+39"]),
    ({"eps": 10**400}, ValueError, ["eps", "float"]),
]
NO_NUMBERS = ["0.1", b"0.1", np.str_("0.1"), np.array("0.1"), 1j, np.complex128(0.1 + 1j), np.array(0.1 + 1j)]
NO_NUMBERS += [True, np.True_, np.array(True), [0.1], np.array([0.1]), object(), {}]
BAD += [({"eps": value}, TypeError, ["eps", "real number"]) for value in NO_NUMBERS]
BAD += [({"output_scale": value}, TypeError, ["output_scale", "real number"]) for value in NO_NUMBERS]
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
BAD += [({"output_scale": value}, ValueError, ["output_scale", "positive", shown]) for value, shown in BAD_SCALES]
BAD += [({"output_scale": 10**400}, ValueError, ["output_scale", "float"])]
BAD += [
    ({"output_zero_point": value, "output_dtype": dtype}, ValueError, ["output_zero_point", str(value)])
    for dtype, values in [
        (None, [-1, 256, -129, 2**31, 2**40, 2**63, -(2**63), 2**64 + 30, -(2**70)]),
        (bn.quint8, [-1, 256, 2**32 + 30]),
        (bn.qint8, [-129, 128, 255, 2**64]),
    ]
    for value in values
]
BAD += [
    ({"output_zero_point": value}, TypeError, ["output_zero_point", "integer", shown])
    for value, shown in [
        (33.0, "33.0"),
        (33.5, "33.5"),
        (np.float64(33), "33"),
        (np.array(33.0), "33"),
        ("33", "33"),
        (True, "True"),
        (np.True_, "True"),
        (np.array(True), "True"),
        ([33], "33"),
        (np.array([33]), "33"),
        (33j, "33j"),
        (float("nan"), "nan"),
    ]
]
BAD += [
    ({"input": value}, TypeError, ["input", "QuantizedTensor", *shown])
    for value, shown in [
        (np.ones(SHAPE, np.float32), ["float32"]),
        (np.ones(SHAPE), ["float64"]),
        (codes(), ["uint8", "scale", "zero point"]),
        (codes(dtype=np.int8), ["int8", "scale", "zero point"]),
        (torch.ones(SHAPE), ["float32"]),
        (torch.from_numpy(codes()), ["uint8"]),
        ([[1.0, 2.0]], ["list"]),
        (None, ["None"]),
        (3.0, ["float"]),
        ("input", ["str"]),
        (bn.QuantizedTensor, ["type"]),
    ]
]
BAD += [
    ({"input": bn.QuantizedTensor(codes(()), 0.1, 3)}, ValueError, ["input", "2 dimensions", "()"]),
    ({"input": bn.QuantizedTensor(codes(3), 0.1, 3)}, ValueError, ["input", "2 dimensions", "(3,)"]),
    ({"input": bn.QuantizedTensor(codes((4, 5, 3, 2)), 0.1, 3)}, ValueError, ["input", "5", "mean", "3"]),
    ({"input": bn.QuantizedTensor(codes((4, 0)), 0.1, 3)}, ValueError, ["input", "has 0", "mean", "has 3"]),
    ({"axis": 0}, ValueError, ["input", "has 4", "axis 0", "mean", "has 3"]),
    ({"axis": -1}, ValueError, ["input", "has 2", "axis 3", "mean", "has 3"]),
    (
        {"input": bn.QuantizedTensor(codes(), [0.1] * 4, [3] * 4, 0)},
        ValueError,
        ["input", "per channel", "axis 0", "axis 1"],
    ),
    (
        {"input": bn.QuantizedTensor(codes((3, 3)), [0.1] * 3, [3] * 3, 1), "axis": 0},
        ValueError,
        ["input", "per channel", "axis 1", "axis 0"],
    ),
    ({"axis": 4}, ValueError, ["axis", "-4 to 3", "4"]),
    ({"axis": -5}, ValueError, ["axis", "-4 to 3", "-5"]),
    ({"axis": 2**31}, ValueError, ["axis", str(2**31)]),
    ({"axis": 2**32 + 1}, ValueError, ["axis", str(2**32 + 1)]),
    ({"axis": 2**63}, ValueError, ["axis", str(2**63)]),
    ({"axis": -(2**70)}, ValueError, ["axis", str(-(2**70))]),
    ({"axis": 1.0}, TypeError, ["axis", "integer", "1.0"]),
    ({"axis": "1"}, TypeError, ["axis", "integer", "'1'"]),
    ({"axis": None}, TypeError, ["axis", "integer", "None"]),
    ({"axis": True}, TypeError, ["axis", "integer", "True"]),
    ({"relu": 1}, TypeError, ["relu", "1"]),
    ({"relu": None}, TypeError, ["relu", "None"]),
    ({"relu": "yes"}, TypeError, ["relu", "yes"]),
]
BAD += [
    ({"output_dtype": value}, TypeError, ["output_dtype", "quint8", "qint8", shown])
    for value, shown in [
        ("quint8", "'quint8'"),
        (np.uint8, "uint8"),
        (np.dtype(np.int8), "int8"),
        (torch.quint8, "torch.quint8"),
        (bn.per_tensor_affine, "per_tensor_affine"),
        (bn.DType("quint4", np.dtype(np.uint8)), "quint4"),
        (bn.DType("quint8", np.dtype(np.uint8)), "quint8"),  # the constants are the only ones
        (3, "3"),
        ([], "[]"),
    ]
]
BAD += [  # good numbers whose fold is none
    (
        {"weight": with_one(3e38), "var": with_one(1e-6), "eps": 0.0},
        ValueError,
        ["slope", "channel 1", "overflows"],
    ),
    ({"weight": with_one(1e37), "output_scale": 1e-5}, ValueError, ["slope", "channel 1", "overflows"]),
    ({"bias": with_one(-3e38)}, ValueError, ["intercept", "channel 1", "overflows"]),
    ({"mean": with_one(3e38)}, ValueError, ["intercept", "channel 1", "overflows"]),
    (
        {"mean": with_one(3e38), "var": with_one(1e-6), "weight": with_one(0.0)},  # infinity times zero
        ValueError,
        ["intercept", "channel 1", "overflows"],
    ),
    ({"input": bn.QuantizedTensor(codes(), 3e38, 3)}, ValueError, ["slope", "channel", "overflows"]),
]


def label(case):
    changes, error, _ = case
    shown = " ".join(f"{name}={value!r:.40}" for name, value in changes.items())
    return f"{re.sub(' at 0x.*', '', ' '.join(shown.split()))} {error.__name__}"


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
@pytest.mark.parametrize(("changes", "error", "shown"), BAD, ids=map(label, BAD))
def test_bad(changes, error, shown, lists, call):
    arguments = good()
    if lists:  # the same numbers go another way through the checks
        arguments.update({name: arguments[name].tolist() for name in VECTORS})
    shape = getattr(changes.get("input"), "shape", SHAPE)
    out = np.full(shape if isinstance(shape, tuple) else SHAPE, PATTERN, np.uint8)
    if changes.get("output_dtype") is bn.qint8:
        out = out.view(np.int8)
    with pytest.raises(error) as caught:
        call({**arguments, **changes}, out)
    message = str(caught.value)
    assert [part for part in shown if part not in message] == [], message
    assert "\n" not in message
    assert (out.view(np.uint8) == PATTERN).all()


def is_over(q, memory):
    """Whether a tensor lies exactly over an array."""
    return q.data.ctypes.data == memory.ctypes.data and (q.shape, q.data.strides) == (memory.shape, memory.strides)


@ways
def test_the_good_call_is_good(call):
    out = np.full(SHAPE, PATTERN, np.uint8)
    assert is_over(call(good(), out), out)
    assert not (out == PATTERN).all()


@pytest.mark.parametrize("zero_point", [-1, -128, 128, 255])
def test_zero_point_depends_on_the_input(zero_point):
    norm = bn.BatchNorm(None, None, [0.0], [1.0], output_scale=0.1, output_zero_point=zero_point)
    fits = bn.quint8 if zero_point >= 0 else bn.qint8
    for dtype in (bn.quint8, bn.qint8):
        q = bn.QuantizedTensor(np.zeros((2, 1), dtype.numpy), 0.1, 0)
        if dtype is fits:
            assert norm(q).zero_point == zero_point
            continue
        out = np.full((2, 1), 5, dtype.numpy)
        with pytest.raises(ValueError, match=rf"output_zero_point .*{dtype.name}, got {zero_point}"):
            norm(q, out)
        assert (out == 5).all()


# --- how it is called -----------------------------------------------------------------------------------------

DOCUMENTED = ["input", "weight", "bias", "mean", "var", "eps", "output_scale", "output_zero_point"]


def test_eight_by_position():
    arguments = good()
    got = bn.quantized_batch_norm(*(arguments[name] for name in DOCUMENTED))
    np.testing.assert_array_equal(got.data, call_function(arguments).data)


def test_nine_by_position():
    arguments = good()
    with pytest.raises(TypeError, match=r"8 positional arguments|positional"):
        bn.quantized_batch_norm(*(arguments[name] for name in DOCUMENTED), 1)


@ways
@pytest.mark.parametrize("without", [["weight"], ["bias"], ["weight", "bias"]])
@pytest.mark.parametrize("way", ["left out", "None"])
def test_weight_and_bias_are_optional(without, way, call):
    arguments = good()
    ones = {"weight": np.ones(CHANNELS, np.float32), "bias": np.zeros(CHANNELS, np.float32)}
    want = call({**arguments, **{name: ones[name] for name in without}})
    for name in without:
        arguments[name] = None
        if way == "left out" and call is call_function:
            del arguments[name]
    np.testing.assert_array_equal(call(arguments).data, want.data)


@pytest.mark.parametrize("name", DOCUMENTED[3:])
@pytest.mark.parametrize("way", ["left out", "None", "None by position"])
def test_a_required_argument(name, way):
    arguments = good()
    if way == "left out":
        del arguments[name]
    else:
        arguments[name] = None
    with pytest.raises(TypeError, match=rf"^{name} is required"):
        if way == "None by position":
            bn.quantized_batch_norm(*arguments.values())
        else:
            bn.quantized_batch_norm(**arguments)


def test_no_input_at_all():
    with pytest.raises(TypeError, match="input"):
        bn.quantized_batch_norm()


@pytest.mark.parametrize("name", ["output_scale", "output_zero_point"])
def test_the_output_of_a_norm_is_required(name):
    arguments = good()
    del arguments["input"], arguments[name]
    with pytest.raises(TypeError, match=name):
        bn.BatchNorm(**arguments)


# --- out ------------------------------------------------------------------------------------------------------


def memory_of(out):
    if isinstance(out, bn.QuantizedTensor):
        return out.data
    return out if isinstance(out, np.ndarray) else np.asarray(out)


def read_only(value):
    value.flags.writeable = False
    return value


def filled(shape=SHAPE, dtype=np.uint8):
    return np.full(shape, PATTERN - 128 if dtype == np.int8 else PATTERN, dtype)


BAD_OUT = {
    "another shape": (lambda: filled((4, 3, 5, 3)), ValueError, ["shape", "(4, 3, 5, 2)", "(4, 3, 5, 3)"]),
    "another order": (lambda: filled((4, 5, 2, 3)), ValueError, ["shape", "(4, 5, 2, 3)"]),
    "fewer dimensions": (lambda: filled((4, 3, 10)), ValueError, ["shape", "(4, 3, 10)"]),
    "more dimensions": (lambda: filled((1, *SHAPE)), ValueError, ["shape", "(1, 4, 3, 5, 2)"]),
    "0-d": (lambda: filled(()), ValueError, ["shape", "()"]),
    "int8": (lambda: filled(SHAPE, np.int8), ValueError, ["dtype", "uint8", "int8"]),
    "float32": (lambda: filled(SHAPE, np.float32), ValueError, ["dtype", "uint8", "float32"]),
    "uint16": (lambda: filled(SHAPE, np.uint16), ValueError, ["dtype", "uint8", "uint16"]),
    "bool": (lambda: np.ones(SHAPE, bool), ValueError, ["dtype", "uint8", "bool"]),
    "read-only": (lambda: read_only(filled()), ValueError, ["read-only"]),
    "expanded": (lambda: np.broadcast_to(filled((1, 3, 5, 2)), SHAPE), ValueError, []),
    "torch of another type": (lambda: torch.full(SHAPE, 7, dtype=torch.int8), ValueError, ["dtype", "int8"]),
    "torch of another shape": (lambda: torch.full((4, 3), 7, dtype=torch.uint8), ValueError, ["shape", "(4, 3)"]),
    "list": (lambda: filled().tolist(), TypeError, ["list"]),
    "number": (lambda: 171, TypeError, ["int"]),
    "text": (lambda: "out", TypeError, ["str"]),
    "bytes": (lambda: bytes(120), TypeError, ["bytes"]),
    "masked": (lambda: np.ma.masked_array(filled()), TypeError, ["masked"]),
    "another scale": (lambda: bn.QuantizedTensor(filled(), 0.2, 30), ValueError, ["0.1", "0.2"]),
    "nearly the scale": (
        lambda: bn.QuantizedTensor(filled(), float(np.float32(0.1)), 30),
        ValueError,
        ["0.1", "0.10000000149"],
    ),
    "another zero point": (lambda: bn.QuantizedTensor(filled(), 0.1, 31), ValueError, ["30", "31"]),
    "another type": (
        lambda: bn.QuantizedTensor(filled(SHAPE, np.int8), 0.1, 30),
        ValueError,
        ["bytenorm.quint8", "bytenorm.qint8"],
    ),
    "per channel": (
        lambda: bn.QuantizedTensor(filled(), [0.1] * 3, [30] * 3, 1),
        ValueError,
        ["per channel"],
    ),
    "tensor of another shape": (lambda: bn.QuantizedTensor(filled((4, 3)), 0.1, 30), ValueError, ["(4, 3)"]),
    "read-only tensor": (lambda: bn.QuantizedTensor(read_only(filled()), 0.1, 30), ValueError, ["read-only"]),
}


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
@pytest.mark.parametrize("name", BAD_OUT)
def test_bad_out(name, lists, call):
    make, error, shown = BAD_OUT[name]
    out = make()
    before = memory_of(out).copy()
    arguments = good()
    if lists:
        arguments["mean"] = arguments["mean"].tolist()
    with pytest.raises(error, match=r"^out must") as caught:
        call(arguments, out)
    assert [part for part in shown if part not in str(caught.value)] == [], caught.value
    np.testing.assert_array_equal(memory_of(out), before)


OVERLAPS_ITSELF = {
    "rows repeated": lambda m: np.lib.stride_tricks.as_strided(m, (4, 3), (0, 1)),
    "columns repeated": lambda m: np.lib.stride_tricks.as_strided(m, (4, 3), (3, 0)),
    "sliding": lambda m: np.lib.stride_tricks.as_strided(m, (4, 3), (1, 1)),
    "one byte shared": lambda m: np.lib.stride_tricks.as_strided(m, (4, 3), (2, 1)),
    "interleaved and met": lambda m: np.lib.stride_tricks.as_strided(m, (4, 3), (2, 3)),
    "backwards": lambda m: np.lib.stride_tricks.as_strided(m[12:], (4, 3), (-2, 1)),
}


@ways
@pytest.mark.parametrize("name", OVERLAPS_ITSELF)
def test_out_that_overlaps_itself(name, call):
    memory = np.full(64, PATTERN, np.uint8)
    arguments = {**good(), "input": bn.QuantizedTensor(codes((4, 3)), 0.05, 120)}
    with pytest.raises(ValueError, match=r"^out must not overlap itself.*\(4, 3\)"):
        call(arguments, OVERLAPS_ITSELF[name](memory))
    assert (memory == PATTERN).all()


NEARLY_OVERLAPS_ITSELF = {
    "interleaved": lambda m: np.lib.stride_tricks.as_strided(m, (4, 3), (2, 9)),
    "interleaved, far": lambda m: np.lib.stride_tricks.as_strided(m, (4, 3), (3, 4)),
    "one row": lambda m: np.lib.stride_tricks.as_strided(m, (1, 3), (0, 1)),
    "backwards": lambda m: np.lib.stride_tricks.as_strided(m[12:], (4, 3), (-3, 1)),
}


@ways
@pytest.mark.parametrize("name", NEARLY_OVERLAPS_ITSELF)
def test_out_that_just_does_not_overlap_itself(name, call):
    memory = np.full(64, PATTERN, np.uint8)
    out = NEARLY_OVERLAPS_ITSELF[name](memory)
    assert len({out[i : i + 1, j : j + 1].ctypes.data for i, j in np.ndindex(out.shape)}) == out.size
    arguments = {**good(), "input": bn.QuantizedTensor(codes(out.shape), 0.05, 120)}
    want = call(arguments).data
    assert is_over(call(arguments, out), out)
    np.testing.assert_array_equal(out, want)


# Views of one buffer of 40 bytes for input and output, which share some bytes but not all alike.
PARTLY = {
    "one byte further": (lambda m: m[:30].reshape(10, 3), lambda m: m[1:31].reshape(10, 3)),
    "one row further": (lambda m: m[:30].reshape(10, 3), lambda m: m[3:33].reshape(10, 3)),
    "one row back": (lambda m: m[3:33].reshape(10, 3), lambda m: m[:30].reshape(10, 3)),
    "last byte": (lambda m: m[:18].reshape(6, 3), lambda m: m[17:35].reshape(6, 3)),
    "reversed": (lambda m: m[:30].reshape(10, 3), lambda m: m[:30].reshape(10, 3)[::-1]),
    "channels reversed": (lambda m: m[:30].reshape(10, 3), lambda m: m[:30].reshape(10, 3)[:, ::-1]),
    "transposed": (lambda m: m[:9].reshape(3, 3), lambda m: m[:9].reshape(3, 3).T),
    "same start, other strides": (lambda m: m[:15].reshape(5, 3), lambda m: m[:30].reshape(5, 6)[:, :3]),
    "every second row": (lambda m: m[:30].reshape(10, 3)[::2], lambda m: m[:15].reshape(5, 3)),
    "interleaved with one met": (lambda m: m[:36].reshape(6, 6)[:, ::2], lambda m: m[1:37].reshape(6, 6)[:, 1::2]),
}


@ways
@pytest.mark.parametrize("name", PARTLY)
def test_out_that_overlaps_the_input_partly(name, call):
    memory = codes(40)
    before = memory.copy()
    make_input, make_out = PARTLY[name]
    arguments = {**good(), "input": bn.QuantizedTensor(make_input(memory), 0.05, 120)}
    out = make_out(memory)
    for given in (out, bn.QuantizedTensor(out, 0.1, 30)):
        with pytest.raises(ValueError, match=r"^out must be the input's own memory or apart .* overlap"):
            call(arguments, given)
    np.testing.assert_array_equal(memory, before)


APART = {
    "halves of the columns": lambda m: (m.reshape(6, 32)[:, :16], m.reshape(6, 32)[:, 16:]),
    "halves, the other way": lambda m: (m.reshape(6, 32)[:, 16:], m.reshape(6, 32)[:, :16]),
    "every second row": lambda m: (m.reshape(12, 16)[::2], m.reshape(12, 16)[1::2]),
    "every second byte": lambda m: (m.reshape(6, 32)[:, ::2], m.reshape(6, 32)[:, 1::2]),
    "backwards": lambda m: (m.reshape(6, 32)[::-1, :16], m.reshape(6, 32)[:, 16:]),
    "one behind the other": lambda m: (m[:96].reshape(6, 16), m[96:].reshape(6, 16)),
    "channels of images": lambda m: (m.reshape(2, 32, 3)[:, :16], m.reshape(2, 32, 3)[:, 16:]),
}


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
@pytest.mark.parametrize("name", APART)
def test_input_and_out_interleave_but_share_nothing(name, lists, call):
    memory = codes(192)
    x, out = APART[name](memory)
    rng = np.random.default_rng(2)
    arguments = {**good(), "input": bn.QuantizedTensor(x, 0.05, 120)}
    for vector in VECTORS:
        arguments[vector] = rng.uniform(0.5, 2, 16).astype(np.float32)
    if lists:
        arguments["var"] = arguments["var"].tolist()
    before = x.copy()
    want = call({**arguments, "input": bn.QuantizedTensor(before, 0.05, 120)}).data
    assert is_over(call(arguments, out), out)
    np.testing.assert_array_equal(out, want)
    np.testing.assert_array_equal(x, before)


IN_PLACE = {
    "itself": lambda q: q.data,
    "a view": lambda q: q.data[...],
    "another array over it": lambda q: np.frombuffer(q.data, np.uint8).reshape(q.shape),
    "a tensor over it": lambda q: bn.QuantizedTensor(q.data, 0.1, 30),
    "torch over it": lambda q: torch.from_numpy(q.data),
}


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name, lists, call):
    arguments = good()
    want = call(arguments).data
    if lists:
        arguments["mean"] = arguments["mean"].tolist()
    q = bn.QuantizedTensor(codes(), 0.05, 120)
    got = call({**arguments, "input": q}, IN_PLACE[name](q))
    np.testing.assert_array_equal(q.data, want)
    assert is_over(got, q.data)


@ways
def test_in_place_of_the_other_type(call):
    arguments = {**good(), "output_dtype": bn.qint8}
    want = call(arguments).data
    q = bn.QuantizedTensor(codes(), 0.05, 120)
    got = call({**arguments, "input": q}, q.data.view(np.int8))
    assert got.dtype is bn.qint8
    np.testing.assert_array_equal(q.data.view(np.int8), want)


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
def test_in_place_where_an_axis_of_length_one_has_any_stride(lists, call):
    q = bn.QuantizedTensor(codes((1, 3, 5)), 0.05, 120)
    out = np.lib.stride_tricks.as_strided(q.data, (1, 3, 5), (77, 5, 1))
    arguments = {**good(), "input": q}
    want = call(arguments).data
    if lists:
        arguments["mean"] = arguments["mean"].tolist()
    np.testing.assert_array_equal(call(arguments, out).data, want)


@ways
@pytest.mark.parametrize("shape", [(0, 3), (4, 3, 0), (0, 3, 0, 2)])
def test_an_empty_out(shape, call):
    out = np.empty(shape, np.uint8)
    arguments = {**good(), "input": bn.QuantizedTensor(np.empty(shape, np.uint8), 0.05, 120)}
    got = call(arguments, out)
    assert is_over(got, out)
    assert (got.scale, got.zero_point) == (0.1, 30)
    apart = np.lib.stride_tricks.as_strided(np.empty(1, np.uint8), shape, (0,) * len(shape))
    assert is_over(call(arguments, apart), apart)


@ways
@pytest.mark.parametrize("form", ["contiguous", "channels last", "slice"])
def test_torch_memory_as_out(form, call):
    whole = torch.full((8, CHANNELS, 5, 2), PATTERN, dtype=torch.uint8)
    if form == "channels last":
        whole = whole.contiguous(memory_format=torch.channels_last)
    out = whole[2:6] if form == "slice" else whole[:4]
    want = call(good()).data
    got = call(good(), out)
    assert got.data.ctypes.data == out.data_ptr()
    np.testing.assert_array_equal(out.numpy(), want)
    rest = torch.cat([whole[:2], whole[6:]]) if form == "slice" else whole[4:]
    assert bool((rest == PATTERN).all())


class OnlyInterface:
    """Memory that is offered through the array interface and nothing else."""

    def __init__(self, memory):
        self._memory = memory
        self.__array_interface__ = memory.__array_interface__


@ways
def test_other_memory_as_out(call):
    memory = filled()
    got = call(good(), OnlyInterface(memory))
    assert np.shares_memory(got.data, memory)
    np.testing.assert_array_equal(memory, call(good()).data)


@ways
def test_memory_of_a_file(tmp_path, call):
    codes().tofile(tmp_path / "in")
    x = np.memmap(tmp_path / "in", np.uint8, "r", shape=SHAPE)
    out = np.memmap(tmp_path / "out", np.uint8, "w+", shape=SHAPE)
    got = call({**good(), "input": bn.QuantizedTensor(x, 0.05, 120)}, out)
    assert np.shares_memory(got.data, out)
    out.flush()
    want = call(good()).data
    np.testing.assert_array_equal(np.fromfile(tmp_path / "out", np.uint8).reshape(SHAPE), want)
    with pytest.raises(ValueError, match=r"^out must be writable"):
        call(good(), x)


# --- unusual, but good ----------------------------------------------------------------------------------------


def unaligned(values):
    made = np.frombuffer(bytearray(values.nbytes + 1), values.dtype, offset=1)
    made[...] = values
    assert not made.flags.aligned
    return made


FORMS = {
    "list": lambda v: v.tolist(),
    "tuple": lambda v: tuple(v.tolist()),
    "list of numbers of NumPy": list,
    "float16": lambda v: v.astype(np.float16),
    "float64": lambda v: v.astype(np.float64),
    "longdouble": lambda v: v.astype(np.longdouble),
    "strided": lambda v: np.repeat(v, 3)[::3],
    "strided float64": lambda v: np.repeat(v.astype(np.float64), 3)[::3],
    "reversed": lambda v: v[::-1].copy()[::-1],
    "column": lambda v: np.stack([v, -v], 1)[:, 0],
    "row of a Fortran array": lambda v: np.asfortranarray([v, -v])[0],
    "unaligned": unaligned,
    "unaligned float64": lambda v: unaligned(v.astype(np.float64)),
    "unaligned and strided": lambda v: unaligned(np.repeat(v, 2))[::2],
    "unaligned and byte-swapped": lambda v: unaligned(v.astype(">f4")),
    "read-only": lambda v: read_only(v.copy()),
    "byte-swapped": lambda v: v.astype(">f4"),
    "byte-swapped float64": lambda v: v.astype(">f8"),
    "byte-swapped float16": lambda v: v.astype(">f2"),
    "field of records": lambda v: np.rec.fromarrays([v, v], names="a,b")["a"],
    "torch": torch.from_numpy,
    "torch float64": lambda v: torch.from_numpy(v).double(),
    "torch, strided": lambda v: torch.from_numpy(np.repeat(v, 2))[::2],
    "array": lambda v: array.array("f", v.tolist()),
    "memoryview": memoryview,
    "array interface": OnlyInterface,
}


def half(values):
    """Return float32 values that float16 holds as well."""
    return values.astype(np.float16).astype(np.float32)


@ways
@pytest.mark.parametrize("which", [*[[name] for name in VECTORS], VECTORS], ids=" ".join)
@pytest.mark.parametrize("form", FORMS)
def test_parameters_in_any_form(form, which, call):
    arguments = good()
    arguments.update({name: half(arguments[name]) for name in VECTORS})
    want = call_function(arguments)
    given = {**arguments, **{name: FORMS[form](arguments[name]) for name in which}}
    got = call(given, out := filled())
    np.testing.assert_array_equal(out, want.data)
    assert (got.scale, got.zero_point) == (want.scale, want.zero_point)


@ways
@pytest.mark.parametrize("which", VECTORS)
@pytest.mark.parametrize(
    "expanded",
    [
        lambda value: np.broadcast_to(np.float32(value), CHANNELS),
        lambda value: np.broadcast_to(np.float64(value), CHANNELS),
        lambda value: torch.tensor(value).expand(CHANNELS),
        lambda value: np.lib.stride_tricks.as_strided(np.array([value], np.float32), (CHANNELS,), (0,)),
    ],
    ids=["float32", "float64", "torch", "strides"],
)
def test_expanded_parameters(expanded, which, call):
    want = call_function({**good(), which: np.full(CHANNELS, 0.75, np.float32)})
    np.testing.assert_array_equal(call({**good(), which: expanded(0.75)}).data, want.data)


@ways
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64, np.uint64, list])
def test_whole_numbers_as_parameters(kind, call):
    values = [[1, 2, 3], [4, 0, 1], [3, 2, 1], [1, 4, 9]]
    want = call_function({**good(), **dict(zip(VECTORS, np.array(values, np.float32), strict=True))})
    given = {name: v if kind is list else np.array(v, kind) for name, v in zip(VECTORS, values, strict=True)}
    np.testing.assert_array_equal(call({**good(), **given}).data, want.data)


@ways
def test_parameters_are_rounded_once(call):
    wide = {"mean": np.array([0.1, 1 / 3, 2**24 + 1.0]), "var": np.array([0.1, 1e-50, 7.0])}
    narrow = {name: value.astype(np.float32) for name, value in wide.items()}
    np.testing.assert_array_equal(call({**good(), **wide}).data, call_function({**good(), **narrow}).data)


@ways
@pytest.mark.parametrize(
    "changes",
    [
        {"eps": np.float64(1e-5), "output_scale": np.float64(0.1), "output_zero_point": np.int64(30)},
        {"eps": np.array(1e-5), "output_scale": np.array(0.1), "output_zero_point": np.array(30)},
        {"output_zero_point": np.uint8(30)},
        {"output_zero_point": torch.tensor(30)},
        {"eps": decimal.Decimal("1e-5"), "output_scale": fractions.Fraction(1, 10)},
        {"relu": np.False_, "axis": np.int64(1), "output_dtype": bn.quint8},
        {"axis": -3},
    ],
    ids=str,
)
def test_numbers_of_other_types(changes, call):
    got = call({**good(), **changes})
    np.testing.assert_array_equal(got.data, call_function(good()).data)
    assert (got.scale, got.zero_point) == (0.1, 30)
    assert (type(got.scale), type(got.zero_point)) == (float, int)


LARGEST = float(np.finfo(np.float32).max)


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
@pytest.mark.parametrize("eps", [0, 0.0, -0.0, 1e-60, 1e-45, 1.0, 1e38, LARGEST, 3.4028235e38])
def test_eps_at_its_limits(eps, lists, call):
    arguments = {**good(), "eps": eps}
    want = call_function({**good(), "eps": float(np.float32(eps))}).data
    if lists:
        arguments["var"] = arguments["var"].tolist()
    np.testing.assert_array_equal(call(arguments).data, want)


DATA = {
    "strided": lambda x: np.repeat(np.repeat(x, 2, 3), 3, 0)[::3, :, :, ::2],
    "expanded": lambda x: np.broadcast_to(x[:1], x.shape),
    "reversed": lambda x: x[::-1, ::-1, ::-1, ::-1],
    "odd address": lambda x: np.frombuffer(bytearray(1) + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
    "read-only": lambda x: read_only(x.copy()),
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "fortran": np.asfortranarray,
    "channels last": lambda x: np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
    "field of records": lambda x: np.rec.fromarrays([x, x], names="a,b")["a"],
    "torch": lambda x: torch.from_numpy(x.copy()),
    "memoryview": memoryview,
}


@ways
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("form", DATA)
def test_data_in_any_form(form, dtype, call):
    x = codes((8, CHANNELS, 9, 11), dtype)
    made = DATA[form](x)
    plain = np.ascontiguousarray(np.asarray(made))
    for axis in (None, 1):
        quantization = (0.05, 12, None) if axis is None else ([0.05, 0.1, 0.2], [12, 0, 100], 1)
        want = call({**good(), "input": bn.QuantizedTensor(plain, *quantization)}).data
        got = call({**good(), "input": bn.QuantizedTensor(made, *quantization)})
        np.testing.assert_array_equal(got.data, want, strict=True)


# --- concatenations -------------------------------------------------------------------------------------------


def concat_norm():
    arguments = good()
    del arguments["input"]
    return bn.BatchNorm(**arguments)


def halves(first=(4, 2, 5, 2), second=(4, 1, 5, 2)):
    return [bn.QuantizedTensor(codes(first), 0.05, 120), bn.QuantizedTensor(codes(second), 0.02, 7)]


PER_CHANNEL = bn.QuantizedTensor(codes((4, 1, 5, 2)), [0.05], [120], 1)
BAD_PIECES = [
    (None, TypeError, ["pieces", "NoneType"]),
    (halves()[0], TypeError, ["pieces", "list or tuple", "QuantizedTensor"]),
    (iter(halves()), TypeError, ["pieces", "list_iterator"]),
    (codes(), TypeError, ["pieces", "ndarray"]),
    ([], ValueError, ["pieces", "none"]),
    ((), ValueError, ["pieces", "none"]),
    ([halves()[0], None], TypeError, ["pieces[1]", "NoneType"]),
    ([codes((4, 2, 5, 2)), halves()[1]], TypeError, ["pieces[0]", "uint8", "wrap it"]),
    ([halves()[0], PER_CHANNEL], ValueError, ["pieces[1]", "per tensor", "axis 1"]),
    ([bn.QuantizedTensor(codes((3,)), 0.05, 120)], ValueError, ["pieces[0]", "2 dimensions", "(3,)"]),
    (halves(second=(3, 1, 5, 2)), ValueError, ["pieces[1]", "(4, 2, 5, 2)", "axis 1", "(3, 1, 5, 2)"]),
    (halves(second=(4, 1, 2, 5)), ValueError, ["pieces[1]", "(4, 2, 5, 2)", "(4, 1, 2, 5)"]),
    (halves(second=(4, 1, 10)), ValueError, ["pieces[1]", "(4, 1, 10)"]),
    (halves(second=(4,)), ValueError, ["pieces[1]", "(4,)"]),
    (halves(second=(4, 2, 5, 2)), ValueError, ["pieces have 4 channels", "[2, 2]", "norm has 3"]),
    (halves()[:1], ValueError, ["pieces have 2 channels", "norm has 3"]),
    (
        [halves()[0], bn.QuantizedTensor(codes((4, 1, 5, 2), np.int8), 0.02, 7)],
        ValueError,
        ["pieces[1]", "dtype", "uint8", "int8"],
    ),
]


@pytest.mark.parametrize(("pieces", "error", "shown"), BAD_PIECES)
def test_bad_pieces(pieces, error, shown):
    out = filled()
    with pytest.raises(error) as caught:
        bn.concat_batch_norm(pieces, concat_norm(), out)
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in shown if part not in message] == []
    assert (out == PATTERN).all()


@pytest.mark.parametrize("norm", [None, 3, bn.BatchNorm, good()])
def test_bad_norm_of_pieces(norm):
    with pytest.raises(TypeError, match=r"^norm must be a bytenorm.BatchNorm, got"):
        bn.concat_batch_norm(halves(), norm)


def test_bad_zero_point_and_overflow_of_pieces():
    pieces = [bn.QuantizedTensor(q.data.view(np.int8), q.scale, 7) for q in halves()]
    with pytest.raises(ValueError, match=r"^output_zero_point must be from -128 to 127"):
        bn.concat_batch_norm(pieces, concat_norm().replace(output_zero_point=200))
    steep = [halves()[0], bn.QuantizedTensor(halves()[1].data, 1e38, 0)]
    with pytest.raises(ValueError, match=r"^the slope of channel 2, .* overflows float32"):
        bn.concat_batch_norm(steep, concat_norm().replace(output_scale=0.001))


def test_bad_out_of_pieces():
    norm, whole = concat_norm(), filled()
    own = [bn.QuantizedTensor(whole[:, a:b], 0.05, 120) for a, b in ((0, 2), (2, 3))]
    swapped = [bn.QuantizedTensor(whole[:, a:b], 0.05, 120) for a, b in ((1, 3), (0, 1))]
    moved = [own[0], bn.QuantizedTensor(whole[::-1, 2:], 0.05, 120)]
    wide = np.zeros((4, 6, 5, 2), np.uint8)
    for pieces, out, error, shown in [
        (halves(), codes((4, 2, 5, 2)), ValueError, "out must have the concatenation's shape (4, 3, 5, 2)"),
        (halves(), codes(dtype=np.int8), ValueError, "out must have dtype uint8"),
        (halves(), read_only(codes()), ValueError, "out must be writable"),
        (halves(), wide[:, :3][:, [0]].repeat(3, 1)[:, :1], ValueError, "out must have the concatenation's shape"),
        (halves(), np.broadcast_to(wide[:1, :3], SHAPE), ValueError, "out must be writable"),
        (halves(), "out", TypeError, "out must be an array"),
        (halves(), bn.QuantizedTensor(codes(), 0.2, 30), ValueError, "out must have the output's dtype"),
        (swapped, whole, ValueError, "out must be apart from pieces[0]"),
        (moved, whole, ValueError, "out must be apart from pieces[1]"),
    ]:
        with pytest.raises(error) as caught:
            bn.concat_batch_norm(pieces, norm, out)
        assert str(caught.value).startswith(shown)
    assert (whole == PATTERN).all()
    want = bn.concat_batch_norm([bn.QuantizedTensor(q.data.copy(), q.scale, q.zero_point) for q in own], norm)
    np.testing.assert_array_equal(bn.concat_batch_norm(own, norm, whole).data, want.data)
    interleaved = [bn.QuantizedTensor(wide[:, 1::2][:, a:b], 0.05, 120) for a, b in ((0, 2), (2, 3))]
    got = bn.concat_batch_norm(interleaved, norm, wide[:, ::2])
    assert np.shares_memory(got.data, wide)
    assert (wide[:, 1::2] == 0).all()


# --- sums -----------------------------------------------------------------------------------------------------


def sum_call():
    return {
        "a": bn.QuantizedTensor(codes(), 0.05, 120),
        "b": bn.QuantizedTensor(codes(seed=1), 0.02, 7),
        "norm": concat_norm(),
        "sum_scale": 0.06,
        "sum_zero_point": 90,
    }


NARROW = bn.QuantizedTensor(codes((4, 2, 5, 2)), 0.05, 120)
OF_CHANNELS = bn.QuantizedTensor(codes(), [0.05] * 3, [120] * 3, 1)
SIGNED = bn.QuantizedTensor(codes(dtype=np.int8), 0.05, 0)
BAD_SUMS = [
    *[({name: None}, TypeError, [name, "None"]) for name in ("a", "b", "norm")],
    ({"sum_scale": None}, TypeError, ["sum_scale must be given with sum_zero_point", "None"]),
    ({"sum_zero_point": None}, TypeError, ["sum_zero_point must be given with sum_scale", "None"]),
    ({"sum_scale": None}, TypeError, ["sum_scale must be given with sum_zero_point"], {"exact_sum": True}),
    ({"exact_sum": 1}, TypeError, ["exact_sum", "1"]),
    ({"exact_sum": None}, TypeError, ["exact_sum", "None"]),
    *[({name: codes()}, TypeError, [name, "uint8", "wrap it"]) for name in ("a", "b")],
    *[({name: OF_CHANNELS}, ValueError, [name, "per tensor", "axis 1"]) for name in ("a", "b")],
    ({"b": NARROW}, ValueError, ["b must have the shape of a", "(4, 3, 5, 2)", "(4, 2, 5, 2)"]),
    ({"a": NARROW, "b": NARROW}, ValueError, ["a and b have 2 channels", "norm has 3"]),
    ({"a": NARROW[0, 0, 0]}, ValueError, ["a must have at least 2 dimensions"]),
    ({"b": SIGNED}, ValueError, ["b must have the dtype of a", "uint8", "int8"]),
    ({"sum_scale": 0.0}, ValueError, ["sum_scale", "positive"]),
    ({"sum_scale": "1"}, TypeError, ["sum_scale", "real number"]),
    ({"sum_zero_point": 256}, ValueError, ["sum_zero_point", "256"]),
    ({"sum_zero_point": -1}, ValueError, ["sum_zero_point", "-1"]),
    ({"sum_zero_point": 1.0}, TypeError, ["sum_zero_point", "integer"]),
    ({"sum_zero_point": 2**70}, ValueError, ["sum_zero_point"]),
    ({"a": SIGNED, "b": SIGNED}, ValueError, ["sum_zero_point", "127"], {"sum_zero_point": 200}),
    (
        {"b": bn.QuantizedTensor(codes(), 1e30, 0), "sum_scale": 1e-30},
        ValueError,
        ["the scale of b over sum_scale", "overflows float32"],
    ),
    (
        {"sum_scale": 1e38, "norm": concat_norm().replace(output_scale=1e-3)},
        ValueError,
        ["the slope of channel 0"],
    ),
    *[
        (
            {name: bn.QuantizedTensor(codes(), 1e38, 0), "norm": concat_norm().replace(output_scale=1e-3)},
            ValueError,
            ["the slope of channel 0", f"scale of {name}", "overflows float32"],
            {"sum_scale": None, "sum_zero_point": None},
        )
        for name in ("a", "b")
    ],
    ({"out": codes((4, 3, 5))}, ValueError, ["out", "(4, 3, 5, 2)"]),
    ({"out": codes(dtype=np.int8)}, ValueError, ["out", "uint8", "int8"]),
    ({"out": 3}, TypeError, ["out", "int"]),
    ({"sum_out": codes((4, 3, 5))}, ValueError, ["sum_out must have", "(4, 3, 5, 2)", "(4, 3, 5)"]),
    ({"sum_out": codes(dtype=np.int8)}, ValueError, ["sum_out", "uint8", "int8"]),
    ({"sum_out": 3}, TypeError, ["sum_out", "int"]),
    ({"sum_out": codes()[::-1].tolist()}, TypeError, ["sum_out", "list"]),
    ({"sum_out": np.broadcast_to(codes(SHAPE[1:]), SHAPE)}, ValueError, ["sum_out must be writable"]),
    (
        {"sum_out": np.lib.stride_tricks.as_strided(np.zeros(200, np.uint8), SHAPE, (2, 30, 2, 1))},
        ValueError,
        ["sum_out must not overlap itself"],
    ),
    (
        {"sum_out": bn.QuantizedTensor(codes(), 0.5, 90)},
        ValueError,
        ["sum_out must have the sum's dtype, scale and zero point", "0.06", "0.5", "sum_out=q.data"],
    ),
    (
        {"sum_out": codes()},
        TypeError,
        ["sum_out needs sum_scale and sum_zero_point"],
        {"sum_scale": None, "sum_zero_point": None},
    ),
]


@pytest.mark.parametrize("case", BAD_SUMS, ids=lambda case: label(case[:3]))
def test_bad_sums(case):
    changes, error, shown, *more = case
    arguments = {"out": filled(), **sum_call(), **changes, **(more[0] if more else {})}
    with pytest.raises(error) as caught:
        bn.add_batch_norm(**arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert [part for part in shown if part not in message] == []
    if "out" not in changes:
        assert (arguments["out"] == PATTERN).all()


@pytest.mark.parametrize("which", ["a", "b"])
def test_out_that_overlaps_a_summand_partly(which):
    whole = codes((5, *SHAPE[1:]))
    arguments = {**sum_call(), which: bn.QuantizedTensor(whole[1:], 0.05, 120)}
    with pytest.raises(ValueError, match=rf"^out must be the own memory of {which} or apart from it"):
        bn.add_batch_norm(**arguments, out=whole[:-1])
    np.testing.assert_array_equal(whole, codes((5, *SHAPE[1:])))


@pytest.mark.parametrize("which", ["a", "b"])
def test_sum_out_that_overlaps_what_it_must_not(which):
    """Part of a summand; all of one that the norm of an exact sum reads again; the norm's memory."""
    whole = codes((5, *SHAPE[1:]))
    arguments = {**sum_call(), which: bn.QuantizedTensor(whole[1:], 0.05, 120)}
    with pytest.raises(ValueError, match=rf"^sum_out must be the own memory of {which} or apart from it"):
        bn.add_batch_norm(**arguments, sum_out=whole[:-1])
    with pytest.raises(ValueError, match=rf"^sum_out must be apart from {which} with exact_sum"):
        bn.add_batch_norm(**arguments, sum_out=whole[1:], exact_sum=True)
    np.testing.assert_array_equal(whole, codes((5, *SHAPE[1:])))
    out = filled()
    for norm, total in ((out, out), (out[:, ::-1], out), (bn.QuantizedTensor(out, 0.1, 30), out)):
        with pytest.raises(ValueError, match=r"^sum_out must be apart from out, got an overlap$"):
            bn.add_batch_norm(**sum_call(), out=norm, sum_out=total)
    assert (out == PATTERN).all()


def test_sums_in_unusual_forms():
    """Numbers of NumPy, and an output that interleaves with a summand but shares nothing."""
    want, total = bn.add_batch_norm(**sum_call())
    wide = np.zeros((4, 6, 5, 2), np.uint8)
    wide[:, ::2] = codes()
    arguments = {
        **sum_call(), "a": bn.QuantizedTensor(wide[:, ::2], 0.05, 120), "sum_scale": np.float64(0.06),
        "sum_zero_point": np.int8(90),
    }  # fmt: skip
    y, s = bn.add_batch_norm(**arguments, out=wide[:, 1::2])
    np.testing.assert_array_equal(y.data, want.data)
    np.testing.assert_array_equal(s.data, total.data)
    np.testing.assert_array_equal(wide[:, ::2], codes())


# --- the quantize functions, and the tensor itself ------------------------------------------------------------

REAL = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def per_tensor(input=REAL, scale=0.1, zero_point=3, dtype=bn.quint8):
    return bn.quantize_per_tensor(input, scale, zero_point, dtype)


def per_channel(input=REAL, scales=(0.1, 0.2, 0.3), zero_points=(1, 2, 3), axis=0, dtype=bn.quint8):
    return bn.quantize_per_channel(input, scales, zero_points, axis, dtype)


def dynamic(input=REAL, dtype=bn.quint8, reduce_range=False):
    return bn.quantize_per_tensor_dynamic(input, dtype, reduce_range)


def requantize(q=None, scale=0.1, zero_point=3, dtype=None):
    q = bn.QuantizedTensor(codes((3, 4)), 0.1, 3) if q is None else q
    return bn.requantize(q, scale, zero_point, dtype)


def tensor(data=None, scale=0.1, zero_point=3, axis=None):
    return bn.QuantizedTensor(codes((3, 4)) if data is None else data, scale, zero_point, axis)


def channel_tensor(data=None, scale=(0.1, 0.2, 0.3), zero_point=(1, 2, 3), axis=0):
    return tensor(data, scale, zero_point, axis)


@pytest.mark.parametrize("call", [per_tensor, per_channel, dynamic, requantize, tensor, channel_tensor])
def test_the_good_calls_are_good(call):
    assert isinstance(call(), bn.QuantizedTensor)


def of(calls, name, values, error, *shown):
    """Return cases of a bad argument, of pairs of a value and what the message shows of it."""
    for call, (value, came) in itertools.product(calls, values):
        yield call, {name: value}, error, [name, *shown, *([came] if isinstance(came, str) else came)]


ZERO_POINTS = [(33.0, "33.0"), (np.float64(33), "33"), ("33", "33"), (True, "True"), ([33], "33"), (None, "None")]
NOT_REAL = [
    (np.arange(3), "int64"),
    ([1, 2], "int64"),
    (np.zeros(3, np.uint8), "uint8"),
    (np.zeros(3, bool), "bool"),
    (np.zeros(3, np.complex64), "complex64"),
    (["a"], "<U1"),
    (None, "object"),
    (torch.zeros(3, dtype=torch.int32), "int32"),
    (np.ma.masked_array([1.0, 2.0], [0, 1]), "masked"),
]
REFUSED = [
    *of([per_tensor, per_channel, dynamic], "input", NOT_REAL, TypeError),
    *of([per_tensor, per_channel, dynamic], "input", [(REAL * np.nan, "")], ValueError),
    *of([dynamic], "input", [(np.empty((0, 3), np.float32), "(0, 3)")], ValueError, "empty"),
    *of([dynamic], "input", [(np.array([1, np.inf]), "inf"), (np.array([-np.inf]), "-inf")], ValueError, "finite"),
    *of([dynamic], "input", [(np.array([1.0, 1e39]), "inf"), (np.array([np.nan]), "nan")], ValueError, "finite"),
    *of([dynamic], "reduce_range", [(1, "1"), (None, "None"), ("no", "no")], TypeError, "True or False"),
    *of([per_tensor, requantize, tensor], "scale", [*BAD_SCALES, (10**400, "float")], ValueError),
    *of([per_tensor, requantize, tensor], "scale", [(v, "real number") for v in NO_NUMBERS], TypeError),
    *of([per_tensor, requantize, tensor], "scale", [(None, "None")], TypeError),
    *of(
        [per_tensor, requantize, tensor],
        "zero_point",
        [(v, str(v)) for v in (-1, 256, 2**64, -(2**70))],
        ValueError,
    ),
    *of([per_tensor, requantize, tensor], "zero_point", ZERO_POINTS, TypeError, "integer"),
    *of([per_tensor, per_channel, dynamic], "dtype", [(None, "None")], TypeError),
    *of(
        [per_tensor, per_channel, dynamic, requantize],
        "dtype",
        [
            *(("quint8", "'quint8'"), (np.uint8, "uint8"), (torch.qint8, "torch.qint8"), (3, "3")),
            (bn.DType("quint8", np.dtype(np.uint8)), "quint8"),
        ],
        TypeError,
        "bytenorm.quint8 or bytenorm.qint8",
    ),
    *of(
        [per_channel],
        "scales",
        [([0.1, 0.2], "(2,)"), ([0.1] * 4, "(4,)"), (0.1, "()"), ([[0.1, 0.2, 0.3]], "(1, 3)")],
        ValueError,
        "3 channels",
    ),
    *of(
        [per_channel],
        "scales",
        [([1j, 1, 1], "complex128"), (["1"] * 3, "<U1"), ([True] * 3, "bool"), (None, "object")],
        TypeError,
        "real",
    ),
    *of(
        [per_channel],
        "scales",
        [([1.0, value, 1.0], ["[1]", shown]) for value, shown in BAD_SCALES],
        ValueError,
    ),
    *of(
        [per_channel],
        "zero_points",
        [([1, 2], "(2,)"), ([1] * 4, "(4,)"), (1, "()"), ([[1, 2, 3]], "(1, 3)")],
        ValueError,
        "3 channels",
    ),
    *of(
        [per_channel],
        "zero_points",
        [([1.0, 2.0, 3.0], "float64"), (["1"] * 3, "<U1"), ([True] * 3, "bool"), ([1j] * 3, "complex128")],
        TypeError,
        "integers",
    ),
    *of(
        [per_channel],
        "zero_points",
        [
            ([0, -1, 0], ["[1]", "-1"]),
            ([0, 0, 256], ["[2]", "256"]),
            (np.array([0, 2**64 - 1, 0], np.uint64), ["[1]", str(2**64 - 1)]),
        ],
        ValueError,
        "0 to 255",
    ),
    *of([per_channel, channel_tensor], "axis", [(2, "2"), (-3, "-3"), (2**70, str(2**70))], ValueError, "-2 to 1"),
    *of([per_channel, channel_tensor], "axis", [(0.0, "0.0"), ("0", "'0'"), (True, "True")], TypeError, "integer"),
    *of([per_channel], "axis", [(None, "None")], TypeError, "integer"),
    *of([requantize], "q", [(codes((3, 4)), "uint8"), (REAL, "float32"), (3, "int"), ([1], "list")], TypeError),
    *of(
        [tensor],
        "data",
        [
            *((REAL, "float32"), ([[1, 2]], "int64"), (np.zeros(3, np.uint16), "uint16")),
            *((np.zeros(3, bool), "bool"), (torch.zeros(3), "float32"), ("abc", "<U3"), (b"abc", "|S3")),
            (object(), "object"),
        ],
        TypeError,
    ),
    *of([tensor], "data", [(np.ma.masked_array(codes(3)), "masked")], TypeError),
    *of([tensor], "scale", [([0.1, 0.2, 0.3], "list"), (np.array([0.1]), "ndarray")], TypeError, "real number"),
    *of([channel_tensor], "scale", [(0.1, "()"), ([0.1], "(1,)"), ([0.1] * 4, "(4,)")], ValueError, "3 channels"),
    *of([channel_tensor], "scale", [([0.1, -0.1, 0.1], ["[1]", "-0.1"])], ValueError),
    *of([channel_tensor], "zero_point", [(3, "()"), ([3] * 4, "(4,)")], ValueError, "3 channels"),
    *of([channel_tensor], "zero_point", [([3.0] * 3, "float64")], TypeError, "integers"),
    *of([channel_tensor], "zero_point", [([0, 0, 256], ["[2]", "256"])], ValueError, "0 to 255"),
]


def refused_label(case):
    call, changes, error, _ = case
    return f"{call.__name__} {label((changes, error, None))}"


@pytest.mark.parametrize(("call", "changes", "error", "shown"), REFUSED, ids=map(refused_label, REFUSED))
def test_refused(call, changes, error, shown):
    with pytest.raises(error) as caught:
        call(**changes)
    message = str(caught.value)
    assert [part for part in shown if part not in message] == [], message
    assert "\n" not in message


@pytest.mark.parametrize("value", [codes((3, 4)), codes((3, 4), np.int8), REAL, 3, None, [1], torch.zeros(3)])
def test_dequantize_of_something_else(value):
    with pytest.raises(TypeError, match=r"^q must be a bytenorm.QuantizedTensor, got"):
        bn.dequantize(value)


@pytest.mark.parametrize("zero_point", [-129, 128, 200])
def test_zero_point_of_qint8(zero_point):
    words = rf"zero_point must be from -128 to 127 for bytenorm.qint8, got {zero_point}"
    for call in (
        lambda: per_tensor(zero_point=zero_point, dtype=bn.qint8),
        lambda: requantize(zero_point=zero_point, dtype=bn.qint8),
        lambda: tensor(codes((3, 4), np.int8), zero_point=zero_point),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_per_channel_of_a_number():
    with pytest.raises(ValueError, match=r"axis .*0 dimensions"):
        bn.quantize_per_channel(np.float32(1), [0.1], [0], 0, bn.quint8)
    with pytest.raises(ValueError, match=r"axis .*0 dimensions"):
        bn.QuantizedTensor(np.array(1, np.uint8), [0.1], [0], 0)


def test_messages_say_how_to_wrap_what_came():
    norm = bn.BatchNorm(None, None, [0.0], [1.0], output_scale=0.1, output_zero_point=0)
    legacy = torch.quantize_per_tensor(torch.zeros(2, 1), 0.1, 3, torch.quint8)
    for call in (norm, lambda x: bn.QuantizedTensor(x, 0.1, 3)):
        with pytest.raises(TypeError, match=r"x\.int_repr\(\), x\.q_scale\(\), x\.q_zero_point\(\)"):
            call(legacy)
    for codes in (np.zeros((2, 1), np.uint8), torch.zeros(2, 1, dtype=torch.int8)):
        for call in (norm, lambda x: bn.quantize_per_tensor(x, 0.1, 3, bn.quint8)):
            with pytest.raises(TypeError, match=r"QuantizedTensor\(codes, scale, zero_point\)"):
                call(codes)
