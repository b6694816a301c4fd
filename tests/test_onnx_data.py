"""Data for calibration: what batches are made of it, and what is refused."""

import numpy as np
import onnx
import pytest
import torch
from fed_models import (
    DOUBLE,
    FIXED,
    INT64,
    OPEN,
    WANTED,
    Again,
    first_pass,
    items,
    joined,
    message_of,
    model,
    rows,
    sizes,
)
from onnx import TensorProto, helper

from bytenorm.onnx.data.dataset import open_data

# --- batches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "wanted"), [(1, [1]), (31, [31]), (32, [32]), (33, [32, 1]), (64, [32, 32]), (100, [32, 32, 32, 4])]
)
def test_an_open_batch(n, wanted):
    data = open_data([{"x": rows(n)}], OPEN)
    assert (data.samples, len(data)) == (n, len(wanted))
    assert sizes(data) == wanted
    np.testing.assert_array_equal(joined(data), rows(n))


def test_batches_end_with_their_item():
    data = open_data([{"x": rows(33)}, {"x": rows(2, 33)}], OPEN)
    assert sizes(data) == [32, 1, 2]
    np.testing.assert_array_equal(joined(data), rows(35))


@pytest.mark.parametrize("n", [4, 8, 40])
def test_a_fixed_batch(n):
    data = open_data([{"x": rows(n)}, {"x": rows(4, n)}], FIXED)
    assert (data.samples, len(data)) == (n + 4, n // 4 + 1)
    assert sizes(data) == [4] * (n // 4 + 1)
    np.testing.assert_array_equal(joined(data), rows(n + 4))


@pytest.mark.parametrize("n", [1, 3, 5, 6])
def test_a_fixed_batch_takes_multiples(n):
    text = message_of(lambda: open_data([{"x": rows(4)}, {"x": rows(n)}], FIXED))
    assert text == f"calibration_data[1] has {n} rows: the model takes 4 at a time, a multiple is wanted"


def test_a_fixed_batch_above_the_usual():
    data = open_data([{"x": rows(128)}], model(x=(64, 3)))
    assert sizes(data) == [64, 64]


def test_several_inputs():
    wanted = model(x=("N", 3), mask=[TensorProto.BOOL, ("N",)], step=[INT64, ()])
    item = {"x": rows(40), "mask": np.arange(40) % 2 == 0, "step": np.array(7)}
    data = open_data([item], wanted)
    batches = list(data)
    assert sizes(data) == [32, 8]
    assert [batch["mask"].shape for batch in batches] == [(32,), (8,)]
    assert [batch["step"].item() for batch in batches] == [7, 7]
    assert [batch["step"].shape for batch in batches] == [(), ()]
    assert list(batches[0]) == ["x", "mask", "step"]
    assert (data.samples, len(data)) == (40, 2)


def test_only_inputs_without_dimensions():
    data = open_data([{"x": np.array(i, np.float32)} for i in range(3)], model(x=()))
    assert (data.samples, len(data)) == (3, 3)
    assert [batch["x"].item() for batch in data] == [0, 1, 2]


def test_one_fixed_batch_is_for_all_inputs():
    wanted = model(x=(2, 3), z=("N", 1))
    data = open_data([{"x": rows(4), "z": np.ones((4, 1), np.float32)}], wanted)
    assert [batch["z"].shape for batch in data] == [(2, 1), (2, 1)]


def test_inputs_are_described():
    data = open_data([{"x": rows(3)}], OPEN)
    assert [(info.name, info.shape, info.dtype) for info in data.inputs] == [("x", (None, 3), np.float32)]
    assert repr(data) == "<Dataset of 3 samples in 1 batches for 'x' (float32 [?, 3])>"


def test_memory_of_batches():
    """Contiguous arrays of their own, whatever came."""
    given = rows(10, width=6)[:, ::-2]
    batch = next(iter(open_data([{"x": given}], OPEN)))["x"]
    assert type(batch) is np.ndarray
    assert batch.flags.c_contiguous
    assert not np.shares_memory(batch, given)
    np.testing.assert_array_equal(batch, given)


@pytest.mark.parametrize("kind", [torch.from_numpy, lambda x: x.view(np.memmap), lambda x: x])
def test_kinds_of_arrays(kind):
    data = open_data([{"x": kind(rows(3))}], OPEN)
    assert type(next(iter(data))["x"]) is np.ndarray
    np.testing.assert_array_equal(joined(data), rows(3))


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        ({}, f"calibration_data[1]: 'x' is missing; {WANTED}"),
        ({"z": rows(4)}, f"calibration_data[1]: 'x' is missing, 'z' is unknown; {WANTED}"),
        ({"x": rows(4), "z": rows(4)}, f"calibration_data[1]: 'z' is unknown; {WANTED}"),
        ({"X": rows(4)}, "'X' is unknown"),
        ({"x": rows(4), 3: rows(4)}, "3 is unknown"),
        ({"x": rows(4), None: rows(4)}, "None is unknown"),
        ({"x": rows(4).astype(np.float64)}, "calibration_data[1]: input 'x' must be float32, got float64"),
        ({"x": rows(4).astype(np.float16)}, "must be float32, got float16"),
        ({"x": rows(4).astype(np.int64)}, "must be float32, got int64"),
        ({"x": rows(4).astype(np.uint8)}, "must be float32, got uint8"),
        ({"x": rows(4).astype(">f4")}, "must be float32, got >f4"),
        ({"x": rows(4).astype(str)}, "must be float32, got <U32"),
        ({"x": rows(4).astype(object)}, "must be float32, got object"),
        ({"x": rows(4).astype("f4,f4")}, "must be float32, got [("),
        ({"x": [[1.0, 2.0, 3.0]]}, "must be float32, got float64"),
        ({"x": 1.0}, "must be float32, got float64"),
        ({"x": None}, "must be float32, got object"),
        ({"x": rows(4)[0]}, "input 'x' must fit 'x' (float32 [?, 3]), got shape (3,)"),
        ({"x": rows(4)[None]}, "got shape (1, 4, 3)"),
        ({"x": rows(4, width=4)}, "got shape (4, 4)"),
        ({"x": rows(3).T[:1]}, None),
        ({"x": rows(4)[..., :1]}, "got shape (4, 1)"),
        ({"x": np.float32(3)}, "got shape ()"),
        ({"x": rows(0)}, "calibration_data[1]: input 'x' is empty, got shape (0, 3)"),
    ],
)
def test_items_that_do_not_fit(item, shown):
    given = [{"x": rows(4)}, item]
    if shown is None:
        assert open_data(given, OPEN).samples == 5
    else:
        assert shown in message_of(lambda: open_data(given, OPEN))
        assert shown in message_of(lambda: open_data(iter(given), OPEN))


@pytest.mark.parametrize("item", [None, 3, rows(4), (rows(4), 1), [rows(4)], b"x", torch.ones(3)])
def test_items_that_are_no_dicts(item):
    text = message_of(lambda: open_data([item], OPEN, argument="data"), TypeError)
    assert text == f"data[0] must be a dict of arrays for 'x' (float32 [?, 3]), got {type(item).__name__}"


@pytest.mark.parametrize(
    "value", [np.ma.masked_array(rows(4), rows(4) > 3), torch.ones(4, 3, requires_grad=True), [[1.0], [1.0, 2.0]]]
)
def test_items_that_are_no_arrays(value):
    text = message_of(lambda: open_data([{"x": value}], OPEN), (TypeError))
    assert text.startswith("calibration_data[0]: input 'x' ")


@pytest.mark.parametrize("data", [None, 3, 1.5, b"abc", bytearray(3), memoryview(b"abc"), object(), np.float32(3)])
def test_data_of_another_type(data):
    text = message_of(lambda: open_data(data, OPEN), TypeError)
    wanted = "calibration_data must be dicts of arrays by input name or a path, got "
    assert text == wanted + type(data).__name__


def test_data_that_lacks_a_list():
    text = message_of(lambda: open_data({"x": rows(4)}, OPEN), TypeError)
    assert text.endswith("got one dict: put it into a list, [data]")
    text = message_of(lambda: open_data(rows(4), OPEN, argument="images"), TypeError)
    assert text.startswith("images must be ")
    assert text.endswith("got one ndarray: put it into a list, [{'x': data}]")


@pytest.mark.parametrize("data", [[], (), iter([]), Again([])])
def test_no_data(data):
    assert message_of(lambda: open_data(data, OPEN)) == "calibration_data holds no samples"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0), (31, 2), (32, 0), (99, 1)])
def test_numbers_that_are_none(value, at):
    bad = rows(100)
    bad[at] = value
    bad[99, 2] = np.nan  # the first is told
    data = open_data([{"x": rows(1)}, {"x": bad}], OPEN)
    seen = []
    text = message_of(lambda: seen.extend(data))
    assert text == f"calibration_data[1]: input 'x' holds {value} at {list(at)}"
    assert len(seen) == 1 + at[0] // 32


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, DOUBLE])
def test_numbers_that_are_none_in_other_types(kind):
    wanted = model(x=[kind, (None, 3)], z=[kind, ()])
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    good = {"x": rows(3).astype(dtype), "z": np.array(1, dtype)}
    assert len(first_pass([good], wanted)) == 1
    good["z"] = np.array(np.nan, dtype)
    assert message_of(lambda: first_pass([good], wanted)) == "calibration_data[0]: input 'z' holds nan at []"


def test_inputs_with_different_rows():
    text = message_of(lambda: open_data([{"x": rows(3), "z": rows(4)}], model(x=(None, 3), z=(None, 3))))
    assert text == (
        "calibration_data[0]: the inputs must have one number of rows, got 'x': 3, 'z': 4 "
        "(batch_axes tells where they are)"
    )


def test_models_that_cannot_be_fed():
    assert "model: it has no inputs" in message_of(lambda: open_data(items(), model()))
    for shape in [(0, 3), (None, 0)]:
        assert "has a dimension of 0" in message_of(lambda shape=shape: open_data(items(), model(x=shape)))
    words = model(x=[TensorProto.STRING, (None, 3)])
    assert "'x' holds string" in message_of(lambda: open_data(items(), words))


def test_models_from_files(tmp_path):
    onnx.save(OPEN, tmp_path / "m.onnx")
    assert open_data(items(), tmp_path / "m.onnx").samples == 20
    assert "does not exist" in message_of(lambda: open_data(items(), tmp_path / "n.onnx"), FileNotFoundError)
    assert "model must be" in message_of(lambda: open_data(items(), 3), TypeError)


# --- large samples ----------------------------------------------------------------------------------------------


def test_batches_of_large_samples_are_small(tmp_path):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, None]) for name in "xy")
    model = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y]))
    large = np.random.default_rng(0).normal(size=(7, 3, 70_000)).astype(np.float32)  # 0.8 MiB a sample
    np.savez(tmp_path / "large.npz", x=large)
    np.save(tmp_path / "large.npy", large)
    for data in ([{"x": large}], tmp_path / "large.npz", tmp_path / "large.npy"):
        opened = open_data(data, model)
        assert len(opened) == 4
        batches = [batch["x"] for batch in opened]
        assert [len(batch) for batch in batches] == [2, 2, 2, 1]
        assert np.array_equal(np.concatenate(batches), large)
    mixed = open_data(
        [{"x": large[:3]}, {"x": large[:, :, :5]}, {"x": np.zeros((1, 3, 10**6), np.float32)}], model
    )
    assert [len(batch["x"]) for batch in mixed] == [2, 1, 7, 1]
    assert [len(batch["x"]) for batch in open_data(mixed, model, limit=5)] == [2, 1, 2]
