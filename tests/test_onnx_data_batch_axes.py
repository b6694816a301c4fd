"""Where the batch is in each input of a model."""

import math

import numpy as np
import pytest
from fed_models import INT64, first_pass, message_of, model, rows

from bytenorm.onnx.data.dataset import open_data
from bytenorm.onnx.model.inputs import input_infos

AXES = {
    "a state, named": ({"x": ("N", 3), "h": (2, "N", 5)}, None, {"x": 0, "h": 1}, None),
    "layers that are named": ({"h": ("layers", "N", 5), "x": ("N", 3)}, {"x": 0}, {"h": 1, "x": 0}, None),
    "the batch in front of a state and behind": (
        {"x": ("N", 3), "h": ("N", "N", 5)},
        None,
        {"x": 0, "h": 0},
        None,
    ),
    "different names of one batch": ({"x": ("a", 3), "z": ("b", 3)}, None, {"x": 0, "z": 0}, None),
    "no names": ({"x": (None, 3), "z": (None, 3)}, None, {"x": 0, "z": 0}, None),
    "a size beside an image": ({"size": (2,), "x": (1, 3, 4, 4)}, None, {"size": None, "x": 0}, 1),
    "a size beside an open batch": ({"x": ("N", 3), "size": (2,)}, None, {"x": 0, "size": None}, None),
    "a fixed state": ({"x": (4, 3), "h": (2, 4, 5)}, None, {"x": 0, "h": None}, 4),
    "a fixed state, told": ({"x": (4, 3), "h": (2, 4, 5)}, {"h": -2}, {"x": 0, "h": 1}, 4),
    "a batch of one": ({"x": ("N", 3), "z": (1, 3)}, None, {"x": 0, "z": 0}, 1),
    "no batch of one, told": ({"x": ("N", 3), "z": (1, 3)}, {"z": None}, {"x": 0, "z": None}, None),
    "labels of a fixed batch": ({"k": [INT64, (4,)], "x": (4, 3)}, None, {"k": 0, "x": 0}, 4),
    "two lengths": ({"k": [INT64, (4,)], "x": [INT64, (2,)]}, None, {"k": 0, "x": None}, 4),
    "time in front": ({"x": ("T", "N", 3)}, {"x": 1}, {"x": 1}, None),
    "time in front of all": ({"x": ("T", "N", 3), "h": (1, "N", 5)}, {"x": 1}, {"x": 1, "h": 1}, None),
    "nothing counts": ({"x": (2, 3), "k": [INT64, ()]}, {"x": None}, {"x": None, "k": None}, None),
    "numbers": ({"x": ("N", 3), "k": [INT64, ()]}, None, {"x": 0, "k": None}, None),
}


@pytest.mark.parametrize("case", AXES)
def test_batch_axes(case):
    inputs, given, axes, fixed = AXES[case]
    made = model(**inputs)
    n = fixed or 70
    arrays = {}
    for info in input_infos(made):
        shape = [n * 2 if i == axes[info.name] else size or 6 for i, size in enumerate(info.shape)]
        arrays[info.name] = np.arange(math.prod(shape)).reshape(shape).astype(info.dtype)
    data = open_data([arrays], made, batch_axes=given)
    assert data.batch_axes == axes
    batches = list(data)
    counts = [data.count(batch) for batch in batches]
    one = all(axis is None for axis in axes.values())
    wanted = [1] if one else [fixed] * 2 if fixed else [32, 32, 32, 32, 12]
    assert (counts, data.samples, len(data)) == (wanted, sum(wanted), len(wanted))
    for name, axis in axes.items():
        parts = [batch[name] for batch in batches]
        assert all(part.flags.c_contiguous for part in parts)
        if axis is None:
            assert all(np.array_equal(part, arrays[name]) for part in parts)
        else:
            np.testing.assert_array_equal(np.concatenate(parts, axis), arrays[name])
    assert open_data(data, made, limit=fixed or 3).batch_axes == axes
    assert data.takes_any_number == (not one and fixed is None)
    if data.takes_any_number:
        samples = list(data.one_by_one())
        assert [data.count(sample) for sample in samples] == [1] * 140
        assert all(sample["x"].ndim == arrays["x"].ndim for sample in samples)


def test_batch_axes_that_are_none():
    made = model(x=("N", 3), h=(2, "N", 5))
    good = [{"x": rows(3), "h": np.zeros((2, 3, 5), np.float32)}]
    for axes, error, text in [
        ([1], TypeError, "batch_axes must be a dict of axes by input name, got list"),
        ({"k": 0}, ValueError, "batch_axes: the model has no input 'k', its inputs are 'x', 'h'"),
        ({"h": 3}, ValueError, "batch_axes['h'] must be an axis of 3 dimensions, got 3"),
        ({"x": -3}, ValueError, "batch_axes['x'] must be an axis of 2 dimensions, got -3"),
        ({"h": 1.0}, TypeError, "batch_axes['h'] must be an integer or None, got float"),
        ({"h": True}, TypeError, "batch_axes['h'] must be an integer or None, got bool"),
        ({"h": 2, "x": 0}, ValueError, "batch_axes: the model's inputs differ in the sizes of their batches: "),
    ]:  # fmt: skip
        fixed = model(x=(3, 3), h=(2, "N", 5)) if len(axes) == 2 else made
        got = message_of(lambda axes=axes, fixed=fixed: open_data(good, fixed, batch_axes=axes), error)
        assert got.startswith(text)
    text = message_of(lambda: open_data(good, made, batch_axes={"h": None, "x": None}) and open_data(
        [{"x": rows(3), "h": np.zeros((1, 3, 5), np.float32)}], made, batch_axes={"h": None}))  # fmt: skip
    assert text == (
        "calibration_data[0]: input 'h' must fit 'h' (float32 [2, ?, 5]), got shape (1, 3, 5) "
        "(it goes to every batch as it is: batch_axes tells otherwise)"
    )
    text = message_of(lambda: open_data([{"x": rows(3), "h": np.zeros((2, 4, 5), np.float32)}], made))
    assert text == (
        "calibration_data[0]: the inputs must have one number of rows, got 'x': 3, 'h': 4 "
        "(batch_axes tells where they are)"
    )
    bad = np.zeros((2, 70, 5), np.float32)
    bad[1, 40, 2] = np.nan
    text = message_of(lambda: first_pass([{"x": rows(70), "h": bad}], made))
    assert text == "calibration_data[0]: input 'h' holds nan at [1, 40, 2]"
