"""What an error of an argument carries: its name, in plain errors that survive pickle."""

import copy
import pickle

import numpy as np
import pytest

import bytenorm as bn
from bytenorm._errors import Argument, argument_of, bad, bad_type, bad_value, respelled, with_subject
from bytenorm.calibration import ChannelStatistics, choose_output_qparams


def refused(call):
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    return caught.value


TENSOR = bn.QuantizedTensor(np.zeros((2, 3), np.uint8), 0.1, 0)
OTHER = bn.QuantizedTensor(np.zeros((2, 4), np.int8), 0.1, 0)
NORM = bn.BatchNorm(None, None, [0] * 3, [1] * 3, output_scale=0.1, output_zero_point=0)
SIX = NORM.replace(mean=[0] * 6, var=[1] * 6)
REAL = np.ones((2, 2), np.float32)
HUGE = bn.QuantizedTensor(np.lib.stride_tricks.as_strided(np.empty(0, np.uint8), (0, 3, 2**61), (0, 0, 0)), 0.1, 0)


@pytest.mark.parametrize(
    ("argument", "kind", "call"),
    [
        ("scale", ValueError, lambda: bn.quantize_per_tensor(REAL, 0.0, 0, bn.quint8)),
        ("scales", ValueError, lambda: bn.quantize_per_channel(REAL, [1, 0], [0, 0], 1, bn.qint8)),
        ("zero_point", TypeError, lambda: bn.QuantizedTensor(np.zeros(3, np.uint8), 0.1, 3.0)),
        ("dtype", TypeError, lambda: bn.quantize_per_tensor(REAL, 0.1, 0, "quint8")),
        ("rounding", ValueError, lambda: bn.quantize_per_tensor(REAL, 0.1, 0, bn.quint8, rounding="up")),
        ("input", TypeError, lambda: NORM(np.zeros((2, 3), np.uint8))),
        ("input", ValueError, lambda: NORM(OTHER)),
        ("out", ValueError, lambda: NORM(TENSOR, out=np.zeros((2, 4), np.uint8))),
        ("var", ValueError, lambda: NORM.replace(var=[1, -1, 1])),
        ("output_scale", ValueError, lambda: NORM.replace(weight=[1e38] * 3, output_scale=1e-30)(TENSOR)),
        ("pieces", ValueError, lambda: bn.concat_batch_norm([TENSOR, OTHER], NORM)),
        ("pieces", ValueError, lambda: bn.concat_batch_norm([HUGE] * 2, SIX)),
        ("b", ValueError, lambda: bn.add_batch_norm(TENSOR, OTHER, NORM)),
        ("scale", ValueError, lambda: bn.requantize(bn.QuantizedTensor(np.zeros(1, np.uint8), 1e38, 0), 1e-30, 0)),
        ("n", ValueError, lambda: bn.set_num_threads(0)),
        ("statistics", TypeError, lambda: choose_output_qparams(NORM, 3)),
        ("bias", TypeError, lambda: choose_output_qparams(NORM, mean=[0])),
        ("qx", ValueError, lambda: ChannelStatistics(5).update(TENSOR)),
    ],
)  # fmt: skip
def test_the_argument_is_carried(argument, kind, call):
    error = refused(call)
    assert type(error) is kind
    assert error.argument == argument
    assert argument in str(error)


def test_an_error_of_none():
    for error in (ValueError("text"), refused(lambda: TENSOR["x"])):
        assert argument_of(error) == ""


def test_names_and_details():
    for subject, name in {
        "limit": "limit",
        "pieces[3]": "pieces",
        "model 'a b.onnx'": "model",
        "--data 'x'": "--data",
        "reference's variance": "reference",
        "data[0]: input 'x'": "data",
        "bias, mean and var": "bias",
    }.items():
        error = bad_value(subject, "must be 1, got 2")
        assert (error.argument, str(error)) == (name, f"{subject} must be 1, got 2")
    assert str(bad_type("model", ": it is empty")) == "model: it is empty"
    error = bad_value("the scale of q over scale", "overflows float32", argument="scale")
    assert (error.argument, str(error)) == ("scale", "the scale of q over scale overflows float32")
    assert str(with_subject(bad_value("model 'a'", ": it is empty"), "reference")) == "reference: it is empty"


def test_copies():
    error = bad(FileExistsError, "path 'x'", "exists: give ", Argument("force", True), " to replace it")
    for made in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(made) is FileExistsError
        assert str(made) == "path 'x' exists: give force=True to replace it"
        assert made.argument == "path"


def test_other_words():
    error = bad_type("mean[1]", "must come with ", Argument("method", "mse"), ", got mean")
    made = respelled(error, lambda one: f"--{one.name}{one.detail} {one.value or ''}".strip())
    assert type(made) is ValueError
    assert str(made) == "--mean[1] must come with --method mse, got mean"
    assert made.argument == "--mean[1]"
