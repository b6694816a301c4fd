"""What the norm refuses, and what it says of it."""

import numpy as np
import pytest
from good_calls import (
    BAD_SCALES,
    CHANNELS,
    NO_NUMBERS,
    PATTERN,
    SHAPE,
    VECTORS,
    assert_refused,
    call_function,
    codes,
    good,
    is_over,
    label,
    ways,
    with_one,
)

import bytenorm as bn

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
BAD += [({"eps": value}, TypeError, ["eps", "real number"]) for value in NO_NUMBERS]
BAD += [({"output_scale": value}, TypeError, ["output_scale", "real number"]) for value in NO_NUMBERS]
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


@ways
@pytest.mark.parametrize("lists", [False, True], ids=["arrays", "lists"])
@pytest.mark.parametrize(("changes", "error", "shown"), BAD, ids=map(label, BAD))
def test_bad(changes, error, shown, lists, call):
    assert_refused(call, changes, error, shown, lists=lists)


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
