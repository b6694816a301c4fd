"""What the quantize functions and the tensor itself refuse, and what they say of it."""

import itertools

import numpy as np
import pytest
from good_calls import BAD_SCALES, NO_NUMBERS, assert_message, codes, label

import bytenorm as bn

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
            *(("quint8", "'quint8'"), (np.uint8, "uint8"), (3, "3")),
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
            *((np.zeros(3, bool), "bool"), ("abc", "<U3"), (b"abc", "|S3")),
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
    assert_message(lambda: call(**changes), error, shown)


@pytest.mark.parametrize("value", [codes((3, 4)), codes((3, 4), np.int8), REAL, 3, None, [1]])
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
    for call in (norm, lambda x: bn.quantize_per_tensor(x, 0.1, 3, bn.quint8)):
        with pytest.raises(TypeError, match=r"QuantizedTensor\(codes, scale, zero_point\)"):
            call(np.zeros((2, 1), np.uint8))
