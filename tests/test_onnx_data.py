import io
import itertools
import math
import os
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader
from PIL import Image

from bytenorm.onnx.data import Dataset, ImageInput, open_data
from bytenorm.onnx.model import input_infos

FLOAT, UINT8, INT64, DOUBLE = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64, TensorProto.DOUBLE


def model(**inputs):
    """Return a model with some inputs: each a tuple, its shape, or a list of its type and shape."""
    made = []
    for name, wanted in inputs.items():
        kind, shape = wanted if isinstance(wanted, list) else (FLOAT, wanted)
        made.append(helper.make_tensor_value_info(name, kind, shape))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", made, [])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


OPEN = model(x=("N", 3))
FIXED = model(x=(4, 3))


def rows(n, start=0, width=3):
    return np.arange(start * width, (start + n) * width, dtype=np.float32).reshape(n, width)


def sizes(data):
    return [len(batch["x"]) for batch in data]


def joined(data):
    return np.concatenate([batch["x"] for batch in data])


def message_of(call, error=ValueError):
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert type(caught.value) is error
    assert "\n" not in text
    return text


def first_pass(*arguments, **options):
    return list(open_data(*arguments, **options))


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


# --- passes and limits ------------------------------------------------------------------------------------------


def items(n=5):
    return [{"x": rows(4, 4 * i)} for i in range(n)]


class Again:
    """Goes through its items as often as one likes, and remembers how often."""

    def __init__(self, *passes):
        self.passes = itertools.chain(passes, itertools.repeat(passes[-1]))
        self.taken = 0

    def __iter__(self):
        for item in next(self.passes):
            self.taken += 1
            yield item


@pytest.mark.parametrize(
    "kind", [list, tuple, iter, Again, lambda x: (i for i in x), lambda x: dict(enumerate(x)).values()]
)
def test_several_passes(kind):
    data = open_data(kind(items()), OPEN)
    for _ in range(3):
        assert sizes(data) == [4] * 5
        np.testing.assert_array_equal(joined(data), rows(20))
    one, two = iter(data), iter(data)
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first["x"], second["x"])


class Reader(CalibrationDataReader):
    """As ONNX Runtime's documentation writes one: it fills one array again and again, and ends with None."""

    def __init__(self, batches):
        self.batches, self.left, self.taken = batches, iter(batches), 0
        self.array = np.empty_like(batches[0]["x"])

    def get_next(self):
        batch = next(self.left, None)
        if batch is None:
            return None
        self.taken += 1
        self.array[...] = batch["x"]
        return {"x": self.array}


class Rewinding(Reader):
    def rewind(self):
        self.left = iter(self.batches)


class Plain:
    """Not derived of anything."""

    def __init__(self, batches):
        self.left = iter(batches)

    def get_next(self):
        return next(self.left, {})


@pytest.mark.parametrize("room", [0, 100, 1 << 20])
@pytest.mark.parametrize("kind", [Reader, Rewinding, Plain, iter])
def test_readers_of_the_quantizer(kind, room, monkeypatch, tmp_path):
    monkeypatch.setattr("bytenorm.onnx.passes.IN_MEMORY", room)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = kind(items())
    data = open_data(source, OPEN)
    assert not list(tmp_path.iterdir())  # a file without a name
    for _ in range(3):
        assert sizes(data) == [4] * 5
        np.testing.assert_array_equal(joined(data), rows(20))
    if kind is Reader:
        assert source.taken == 5
    if kind is Rewinding:
        assert source.taken == 35
        assert data.first(6).samples == 6
        first = iter(data)
        next(first)
        assert sizes(data) == [4] * 5
        text = message_of(lambda: list(first))
        assert text == "calibration_data: the reader was rewound in the middle of a pass"
    limited = open_data(kind(items()), OPEN, limit=7)
    assert sizes(limited) == sizes(limited) == [4, 3]


def test_readers_with_nothing_or_too_little():
    with pytest.raises(ValueError, match=r"^calibration_data holds no samples$"):
        open_data(Plain([]), OPEN)
    source = Rewinding(items())
    data = open_data(source, OPEN)
    source.batches = items(3)
    assert message_of(lambda: list(data)).startswith("calibration_data has fewer samples in a later pass")
    source.batches = [{"x": rows(4)}, {"x": np.full((4, 3), np.nan, np.float32)}]
    assert message_of(lambda: list(data)) == "calibration_data[1]: input 'x' holds nan at [0, 0]"


def test_no_room_for_what_comes_once(monkeypatch, tmp_path):
    monkeypatch.setattr("bytenorm.onnx.passes.IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    text = message_of(lambda: open_data(iter(items()), OPEN))
    assert text.startswith("calibration_data comes once: what is more than the 0 MiB that are kept")


def test_inputs_of_several_types_in_a_file(monkeypatch):
    monkeypatch.setattr("bytenorm.onnx.passes.IN_MEMORY", 0)
    rng = np.random.default_rng(4)
    wants = model(x=("n", 2), b=[INT64, ["n"]], c=[TensorProto.FLOAT16, []])
    batch = {"x": rng.normal(size=(3, 2)).astype(np.float32), "b": np.arange(3), "c": np.float16(2.5)}
    for _ in range(2):
        (got,) = open_data(iter([batch]), wants)
        for name, array in got.items():
            np.testing.assert_array_equal(array, batch[name])
            assert array.dtype == np.asarray(batch[name]).dtype


def test_what_can_be_gone_through_again_is_not_kept():
    source = Again(items())
    data = open_data(source, OPEN)
    assert source.taken == 5
    list(data)
    assert source.taken == 10


@pytest.mark.parametrize(
    ("later", "shown"),
    [
        (items(4), "calibration_data has fewer samples in a later pass than in the first"),
        (
            [{"x": rows(4)}, {"x": rows(5)}, *items(3)],
            "calibration_data[1] has 5 rows in a later pass, 4 in the first",
        ),
        ([{"x": rows(4)}, {"z": rows(4)}, *items(3)], "calibration_data[1]: 'x' is missing"),
        (
            [{"x": rows(4)}, {"x": np.full((4, 3), np.nan, np.float32)}, *items(3)],
            "calibration_data[1]: input 'x' holds nan at [0, 0]",
        ),
    ],
)
def test_passes_that_differ(later, shown):
    data = open_data(Again(items(), later), OPEN)
    assert message_of(lambda: list(data)).startswith(shown)


@pytest.mark.parametrize("kind", [list, iter, Again])
@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (1, [1]),
        (3, [3]),
        (4, [4]),
        (5, [4, 1]),
        (19, [4, 4, 4, 4, 3]),
        (20, [4] * 5),
        (21, [4] * 5),
        (10**30, [4] * 5),
    ],
)
def test_limit(kind, limit, wanted):
    data = open_data(kind(items()), OPEN, limit=limit)
    assert (data.samples, len(data)) == (sum(wanted), len(wanted))
    assert sizes(data) == sizes(data) == wanted
    np.testing.assert_array_equal(joined(data), rows(sum(wanted)))


@pytest.mark.parametrize(("limit", "wanted"), [(4, [4]), (7, [4]), (8, [4, 4]), (100, [4] * 10)])
def test_limit_with_a_fixed_batch(limit, wanted):
    data = open_data([{"x": rows(8, 8 * i)} for i in range(5)], FIXED, limit=limit)
    assert (data.samples, len(data)) == (sum(wanted), len(wanted))
    np.testing.assert_array_equal(joined(data), rows(sum(wanted)))


def test_limit_below_a_fixed_batch():
    text = message_of(lambda: open_data(items(), FIXED, limit=3))
    assert text == "limit must be at least 4, which the model takes at a time, got 3"


def test_limit_takes_no_more_than_it_needs():
    taken = []

    def endless():
        for i in range(1000):  # as good as endless, but for a test that fails
            taken.append(i)
            yield {"x": rows(4, 4 * i)}

    data = open_data(endless(), OPEN, limit=8)
    assert taken == [0, 1]
    assert sizes(data) == [4, 4]
    source = Again(items())
    list(open_data(source, OPEN, limit=8))
    assert source.taken == 4


def test_errors_of_the_source_are_its_own():
    def broken():
        yield {"x": rows(4)}
        raise ZeroDivisionError("theirs")

    assert message_of(lambda: open_data(broken(), OPEN), ZeroDivisionError) == "theirs"


@pytest.mark.parametrize("limit", [0, -1])
def test_limits_that_are_none(limit):
    assert message_of(lambda: open_data(items(), OPEN, limit=limit)) == f"limit must be at least 1, got {limit}"


@pytest.mark.parametrize("limit", [1.0, "1", True, [1]])
def test_limits_of_another_type(limit):
    assert message_of(lambda: open_data(items(), OPEN, limit=limit), TypeError).startswith(
        "limit must be an integer"
    )


def test_a_dataset_is_data():
    data = open_data(items(), OPEN, limit=18)
    again = open_data(data, OPEN)
    assert again.samples == 18
    np.testing.assert_array_equal(joined(again), rows(18))
    less = open_data(data, OPEN, limit=9)
    assert (less.samples, sizes(less), sizes(less)) == (9, [4, 4, 1], [4, 4, 1])
    assert open_data(data, OPEN, limit=19).samples == 18
    other = open_data(data, model(x=(2, 3)))
    assert sizes(other) == [2] * 9
    assert "has shape" not in message_of(lambda: open_data(data, model(x=(None, 4))))
    fixed = open_data(items(), FIXED)
    assert open_data(fixed, FIXED, limit=6).samples == 4
    assert "at least 4" in message_of(lambda: open_data(fixed, FIXED, limit=3))


# --- what is refused --------------------------------------------------------------------------------------------

WANTED = "the model wants 'x' (float32 [?, 3])"


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
    assert "the model has no inputs" in message_of(lambda: open_data(items(), model()))
    for shape in [(0, 3), (None, 0)]:
        assert "has a dimension of 0" in message_of(lambda shape=shape: open_data(items(), model(x=shape)))
    words = model(x=[TensorProto.STRING, (None, 3)])
    assert "'x' holds string" in message_of(lambda: open_data(items(), words))


def test_models_from_files(tmp_path):
    onnx.save(OPEN, tmp_path / "m.onnx")
    assert open_data(items(), tmp_path / "m.onnx").samples == 20
    assert "does not exist" in message_of(lambda: open_data(items(), tmp_path / "n.onnx"), FileNotFoundError)
    assert "model must be" in message_of(lambda: open_data(items(), 3), TypeError)


# --- files of arrays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_npy(tmp_path, kind):
    np.save(tmp_path / "a.npy", rows(40))
    data = open_data(kind(tmp_path / "a.npy"), OPEN)
    assert (data.samples, len(data)) == (40, 2)
    for _ in range(2):
        np.testing.assert_array_equal(joined(data), rows(40))
        assert {type(batch["x"]) for batch in data} == {np.ndarray}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    wanted = model(x=(None, 3), z=[UINT8, (None,)])
    save(tmp_path / "a.npz", x=rows(40), z=np.arange(40, dtype=np.uint8))
    data = open_data(tmp_path / "a.npz", wanted)
    assert (data.samples, len(data)) == (40, 2)
    for _ in range(2):
        np.testing.assert_array_equal(joined(data), rows(40))
        np.testing.assert_array_equal(np.concatenate([batch["z"] for batch in data]), np.arange(40))


def test_a_fixed_batch_from_a_file(tmp_path):
    np.save(tmp_path / "a.npy", rows(8))
    assert sizes(open_data(tmp_path / "a.npy", FIXED)) == [4, 4]
    np.save(tmp_path / "a.npy", rows(9))
    text = message_of(lambda: open_data(tmp_path / "a.npy", FIXED))
    assert text.startswith(f"calibration_data {str(tmp_path / 'a.npy')!r} has 9 rows")


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_variants_of_the_format(tmp_path, version, order):
    given = np.asarray(rows(5), order=order)
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, given, version)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(tmp_path / "a.npy", "x.npy")
    for name in ("a.npy", "a.npz"):
        np.testing.assert_array_equal(joined(open_data(tmp_path / name, OPEN)), rows(5))


def test_a_folder(tmp_path):
    np.save(tmp_path / "b.NPY", rows(2, 3))
    (tmp_path / "b.NPY.npy").rename(tmp_path / "b.NPY")
    np.savez(tmp_path / "a.npz", x=rows(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.NPZ")
    np.save(tmp_path / "c.npy", rows(35, 5))
    (tmp_path / ".hidden").write_text("no array")
    (tmp_path / ".git").mkdir()
    data = open_data(str(tmp_path), OPEN)
    assert data.samples == 40
    assert sizes(data) == sizes(data) == [3, 2, 32, 3]
    np.testing.assert_array_equal(joined(data), rows(40))
    less = open_data(tmp_path, OPEN, limit=7)
    assert sizes(less) == [3, 2, 2]


def test_files_after_the_limit_are_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", rows(3))
    (tmp_path / "b.npy").write_text("no array")
    assert open_data(tmp_path, OPEN, limit=3).samples == 3
    assert "b.npy" in message_of(lambda: open_data(tmp_path, OPEN, limit=4))


def test_files_are_read_when_their_turn_comes(tmp_path):
    np.savez(tmp_path / "a.npz", x=rows(3))
    np.savez(tmp_path / "b.npz", x=rows(3))
    data = open_data(tmp_path, OPEN)
    batches = iter(data)
    next(batches)
    (tmp_path / "b.npz").unlink()
    assert "b.npz" in message_of(lambda: next(batches))
    np.savez(tmp_path / "b.npz", x=rows(4))
    assert "has 4 rows in a later pass, 3 in the first" in message_of(lambda: list(data))
    np.savez(tmp_path / "b.npz", x=rows(3).astype(np.float64))
    assert "must be float32, got float64" in message_of(lambda: list(data))


def test_files_that_are_none(tmp_path):
    path = tmp_path / "a.npy"
    text = message_of(lambda: open_data(path, OPEN), FileNotFoundError)
    assert text == f"calibration_data {str(path)!r} does not exist"
    assert "got ''" in message_of(lambda: open_data("", OPEN))
    os.mkfifo(path)
    assert "is no plain file" in message_of(lambda: open_data(path, OPEN))
    assert "is no plain file" in message_of(lambda: open_data(tmp_path, OPEN))
    path.unlink()
    assert message_of(lambda: open_data(tmp_path, OPEN)).endswith("is a folder without files")
    (tmp_path / ".hidden").touch()
    assert message_of(lambda: open_data(tmp_path, OPEN)).endswith("is a folder without files")
    (tmp_path / "inner").mkdir()
    assert message_of(lambda: open_data(tmp_path, OPEN)).endswith("is a folder without files")
    (tmp_path / "inner" / "again").symlink_to(tmp_path)
    np.save(path, rows(3))
    assert "leads in a circle: " in message_of(lambda: open_data(tmp_path, OPEN))
    assert "fits no file" in message_of(lambda: open_data(tmp_path / "*.npz", OPEN))
    assert "is named twice" in message_of(lambda: open_data([path, str(path)], OPEN))


def test_folders_of_folders_take_turns(tmp_path):
    """The first files are of all classes, where there is a folder for each."""
    for number, name in enumerate(["cat/0", "cat/1", "cat/2", "dog/0", "dog/1", "z"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / f"{name}.npy", np.full((1, 3), number, np.float32))

    def read(data, limit=None):
        return [int(batch["x"][0, 0]) for batch in open_data(data, OPEN, limit=limit)]

    assert read(tmp_path) == [5, 0, 3, 1, 4, 2]
    assert read(tmp_path, limit=3) == [5, 0, 3]
    assert read(tmp_path / "*" / "*.npy") == [0, 1, 2, 3, 4]
    assert read(tmp_path / "*o*") == read(tmp_path / "dog") == [3, 4]
    assert read([tmp_path / "z.npy", str(tmp_path / "cat")]) == [5, 0, 1, 2]
    assert read((tmp_path / "**" / "1.npy",)) == [1, 4]


@pytest.mark.parametrize("name", ["a.txt", "a", "a.npy.gz", "README.md", "a.pt", "a.gif", "Thumbs.db"])
def test_unknown_files(tmp_path, name):
    np.save(tmp_path / "a.npy", rows(3))
    (tmp_path / name).write_text("?")
    kinds = "npy, npz, bmp, jpeg, jpg, png, tif, tiff, webp"
    foreign = str(tmp_path / name)
    wanted = f"data {foreign!r} is of no known kind: {kinds} are wanted"
    for given in (tmp_path, tmp_path / "*"):
        with pytest.warns(UserWarning, match=re.escape(f"data: skipped, of no known kind: {foreign!r}")):
            data = open_data(given, OPEN, argument="data", limit=2)
        assert (data.samples, data.skipped, data.first(1).skipped) == (2, (foreign,), (foreign,))
    for given in (tmp_path / name, [tmp_path / "a.npy", tmp_path / name]):
        assert message_of(lambda given=given: open_data(given, OPEN, argument="data")) == wanted
    (tmp_path / "a.npy").unlink()
    assert message_of(lambda: open_data(tmp_path, OPEN, argument="data")) == wanted


def test_how_arrays_are_mended(tmp_path):
    """The message ends with code that makes the array fit."""
    image, open_image = model(x=("N", 3, 5, 4)), model(x=("N", 3, "h", "w"))
    grey, last = model(x=("N", 1, 5, 4)), model(x=("N", 5, 4, 3))
    ids = model(x=[TensorProto.INT64, ("N", 4)])
    for wanted, shape, dtype, mend in [
        (image, (3, 5, 4), "f4", "array[np.newaxis]"),
        (image, (7, 5, 4, 3), "f4", "np.moveaxis(array, -1, 1)"),
        (last, (7, 3, 5, 4), "f4", "np.moveaxis(array, 1, -1)"),
        (grey, (7, 5, 4), "f4", "array[:, np.newaxis]"),
        (image, (7, 3, 5, 4), "f8", "array.astype(np.float32)"),
        (open_image, (7, 3, 5, 4), "f2", "array.astype(np.float32)"),
        (open_image, (7, 3, 5, 4), "u1", "array.astype(np.float32), normalized as in the training"),
        (ids, (7, 4), "i4", "array.astype(np.int64)"),
        (ids, (4,), "i8", "array[np.newaxis]"),
    ]:
        array = np.ones(shape, dtype)
        np.savez(tmp_path / "a.npz", array)
        for given in (tmp_path / "a.npz", [{"x": array}]):
            text = message_of(lambda given=given, wanted=wanted: open_data(given, wanted))
            assert text.endswith(f": {mend}")
        made = eval(mend.removesuffix(", normalized as in the training"), {"np": np, "array": array})
        assert len(open_data([{"x": made}], wanted)) == 1
    for shape, dtype in [((7, 3, 5, 5), "f4"), ((5, 4), "f4"), ((7, 3, 5, 4), "c8"), ((7, 3, 5, 4), "U3")]:
        text = message_of(lambda shape=shape, dtype=dtype: open_data([{"x": np.ones(shape, dtype)}], image))
        assert not text.endswith(")") or "got shape" in text


def test_an_archive_of_one_array(tmp_path):
    """For a model of one input its name tells nothing."""
    np.savez(tmp_path / "a.npz", rows(3))
    (batch,) = open_data(tmp_path / "a.npz", OPEN)
    np.testing.assert_array_equal(batch["x"], rows(3))


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(tmp_path), "iterdir", refuse)
    assert message_of(lambda: open_data(tmp_path, OPEN)).endswith("cannot be read: Permission denied")


def npy_bytes(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz_bytes(compressed=False, **arrays):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


def header(text, version=b"\x01\x00"):
    text = text.encode()
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text


HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (10000000000000, 3)}"
NEGATIVE = "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3)}"
OBJECTS = np.array([[1.0, None, "x"]], dtype=object)

CONTENTS = {
    "empty": b"",
    "text": b"hello",
    "magic only": b"\x93NUMPY",
    "no header": b"\x93NUMPY\x01\x00",
    "long header": b"\x93NUMPY\x01\x00\xff\xff{",
    "version 3": npy_bytes(rows(3)).replace(b"NUMPY\x01", b"NUMPY\x03"),
    "version 9": npy_bytes(rows(3)).replace(b"NUMPY\x01", b"NUMPY\x09"),
    "no dict": header("3"),
    "code": header("__import__('os').abort()"),
    "no keys": header("{}"),
    "open bracket": header("{'descr': ("),
    "null": header("\0"),
    "unknown descr": header("{'descr': 'zz', 'fortran_order': False, 'shape': (3,)}"),
    "huge": header(HUGE) + bytes(100),
    "negative": header(NEGATIVE) + bytes(100),
    "pickle": b"\x80\x04N.",
    "objects": npy_bytes(OBJECTS, allow_pickle=True),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_npy_files_that_are_none(tmp_path, name):
    path = tmp_path / "a.npy"
    path.write_bytes(CONTENTS[name])
    text = message_of(lambda: open_data(path, OPEN))
    assert text.startswith(f"calibration_data {str(path)!r} cannot be read as a .npy file: ")
    assert len(text) < 400


@pytest.mark.parametrize("name", CONTENTS)
def test_npz_members_that_are_none(tmp_path, name):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", CONTENTS[name])
    text = message_of(lambda: open_data(path, OPEN))
    assert text.startswith(f"calibration_data {str(path)!r} cannot be read as a .npz file: ")


def test_headers_that_promise_too_much(tmp_path):
    """Also between two passes no memory is claimed for what is not there."""
    path = tmp_path / "a.npz"
    np.savez(path, x=rows(3))
    data = open_data(path, OPEN)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", CONTENTS["huge"])
    assert message_of(lambda: list(data)).endswith("its array 'x.npy' is damaged")


def test_negative_shapes_of_the_right_size(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header(NEGATIVE) + bytes(24))
    assert message_of(lambda: open_data(tmp_path / "a.npz", model(x=(None, None)))).endswith(
        "its shape is (-2, -3)"
    )


def test_objects_are_named(tmp_path):
    (tmp_path / "a.npy").write_bytes(CONTENTS["objects"])
    assert "holds Python objects" in message_of(lambda: open_data(tmp_path / "a.npy", OPEN))
    (tmp_path / "a.npz").write_bytes(npz_bytes(x=OBJECTS))
    assert "holds Python objects" in message_of(lambda: open_data(tmp_path / "a.npz", OPEN))


class Bomb:
    def __reduce__(self):
        return (sys.exit, ("a pickle was run",))


def test_pickles_are_not_run(tmp_path):
    bomb = np.array([Bomb()], dtype=object)
    (tmp_path / "a.npz").write_bytes(npz_bytes(x=bomb))
    (tmp_path / "a.npy").write_bytes(npy_bytes(bomb, allow_pickle=True))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("x", CONTENTS["pickle"])
    for name in ("a.npz", "a.npy", "b.npz"):
        assert "cannot be read" in message_of(lambda name=name: open_data(tmp_path / name, OPEN))


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), npy_bytes(rows(3))])
def test_npz_files_that_are_none(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    assert f"{str(path)!r}" in message_of(lambda: open_data(path, OPEN))


@pytest.mark.parametrize("compressed", [False, True])
def test_every_truncation_of_npz(tmp_path, compressed):
    content = npz_bytes(compressed, x=rows(30))
    path = tmp_path / "a.npz"
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert "cannot be read as a .npz file" in message_of(lambda: open_data(path, OPEN))


def test_every_truncation_of_npy(tmp_path):
    content = npy_bytes(rows(3))
    path = tmp_path / "a.npy"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        text = message_of(lambda: open_data(path, OPEN))
        assert "cannot be read as a .npy file" in text
        assert length < 128 or f"it is truncated: it has {length - 128} bytes of data, 36 are wanted" in text


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_every_byte_destroyed(tmp_path, kind, rng):
    """Another byte anywhere: data all the same, or one line."""
    content = npy_bytes(rows(3)) if kind == "npy" else npz_bytes(kind == "compressed", x=rows(3))
    path = tmp_path / f"a.{kind[:3]}".replace("com", "npz")
    refused = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            first_pass(path, OPEN)
        except ValueError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 20


def test_damage_inside_is_found_while_reading(tmp_path):
    content = bytearray(npz_bytes(x=rows(1000)))
    content[5000] ^= 1  # a bit of a number: only the checksum tells
    (tmp_path / "a.npz").write_bytes(content)
    data = open_data(tmp_path / "a.npz", OPEN)
    text = message_of(lambda: list(data))
    assert text.startswith(f"calibration_data {str(tmp_path / 'a.npz')!r} cannot be read as a .npz file: Bad CRC")


def test_files_are_checked_as_arrays_are(tmp_path):
    np.savez(tmp_path / "a.npz", y=rows(3), z=rows(3))
    name = f"calibration_data {str(tmp_path / 'a.npz')!r}"
    text = message_of(lambda: open_data(tmp_path / "a.npz", OPEN))
    assert text == f"{name}: 'x' is missing, 'y' is unknown, 'z' is unknown; {WANTED}"
    np.savez(tmp_path / "a.npz")
    assert "'x' is missing" in message_of(lambda: open_data(tmp_path / "a.npz", OPEN))
    np.savez(tmp_path / "a.npz", x=rows(3).astype(np.float64))
    assert "must be float32, got float64" in message_of(lambda: open_data(tmp_path / "a.npz", OPEN))
    np.save(tmp_path / "a.npy", rows(0))
    assert "is empty" in message_of(lambda: open_data(tmp_path / "a.npy", OPEN))
    bad = rows(40)
    bad[35, 1] = np.inf
    np.savez(tmp_path / "a.npz", x=bad)
    data = open_data(tmp_path / "a.npz", OPEN)
    assert message_of(lambda: list(data)) == f"{name}: input 'x' holds inf at [35, 1]"


def test_one_array_is_for_one_input(tmp_path):
    np.save(tmp_path / "a.npy", rows(3))
    text = message_of(lambda: open_data(tmp_path / "a.npy", model(x=(None, 3), z=(None, 3))))
    assert "holds one array" in text
    assert "'z' (float32 [?, 3])" in text


# --- images -----------------------------------------------------------------------------------------------------

NCHW, NHWC = model(x=("N", 3, 4, 6)), model(x=("N", 4, 6, 3))
ANY_SIZE = model(x=("N", 3, "H", "W"))
GREY = model(x=("N", 1, 4, 6))
PIXELS = [[[(40 * i + 7 * j + 90 * c) % 256 for c in range(3)] for j in range(6)] for i in range(4)]
RGB = np.array(PIXELS, np.uint8)


def save(path, pixels=RGB, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def as_input(pixels, images=None):
    """Return what a model gets, in rational terms: float64 from Python's numbers."""
    images = images or ImageInput()
    mean, std = np.array(images.mean), np.array(images.std)
    return (np.asarray(pixels, np.float64) * images.scale - mean) / std


@pytest.mark.parametrize("kind", ["png", "bmp", "tif", "tiff", "webp", "PNG"])
def test_images(tmp_path, kind):
    path = save(tmp_path / f"a.{kind}", **({"lossless": True, "exact": True} if kind == "webp" else {}))
    (batch,) = first_pass(path, NCHW)
    assert batch["x"].dtype == np.float32
    assert batch["x"].shape == (1, 3, 4, 6)
    np.testing.assert_allclose(batch["x"][0].transpose(1, 2, 0), as_input(RGB), rtol=1e-6)
    (batch,) = first_pass(path, NHWC)
    np.testing.assert_allclose(batch["x"][0], as_input(RGB), rtol=1e-6)
    assert batch["x"].flags.c_contiguous


@pytest.mark.parametrize("kind", ["jpg", "jpeg"])
def test_jpeg(tmp_path, kind):
    path = save(tmp_path / f"a.{kind}", np.full((4, 6, 3), 100, np.uint8), quality=100)
    (batch,) = first_pass(path, NCHW)
    np.testing.assert_allclose(batch["x"], 100 / 255, atol=1.01 / 255)


@pytest.mark.parametrize(
    "images",
    [
        ImageInput((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ImageInput([0.5], [0.25]),
        ImageInput(mean=(127.5,), std=(127.5,), scale=1),
        ImageInput(scale=2),
    ],
)
def test_pixels_become_numbers(tmp_path, images):
    (batch,) = first_pass(save(tmp_path / "a.png"), NHWC, images=images)
    np.testing.assert_allclose(batch["x"][0], as_input(RGB, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [("N", 3, 4, 6), (1, 3, "H", "W")])
def test_pixels_themselves(tmp_path, shape):
    (batch,) = first_pass(save(tmp_path / "a.png"), model(x=[UINT8, shape]))
    assert batch["x"].dtype == np.uint8
    np.testing.assert_array_equal(batch["x"][0].transpose(1, 2, 0), RGB)
    options = {"images": ImageInput()}
    assert len(first_pass(tmp_path / "a.png", model(x=[UINT8, shape]), **options)) == 1
    text = message_of(lambda: open_data(tmp_path / "a.png", model(x=[UINT8, shape]), images=ImageInput(scale=1.0)))
    assert text.startswith("images must be ImageInput() for 'x' (uint8")


def test_grey(tmp_path):
    (batch,) = first_pass(save(tmp_path / "a.png"), GREY)
    luma = RGB @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    assert batch["x"].shape == (1, 1, 4, 6)
    np.testing.assert_allclose(batch["x"][0, 0] * 255, luma, atol=1)
    (batch,) = first_pass(save(tmp_path / "a.png", RGB[:, :, 0]), GREY)
    np.testing.assert_allclose(batch["x"][0, 0], RGB[:, :, 0] / 255, rtol=1e-6)
    (batch,) = first_pass(tmp_path / "a.png", model(x=("N", 4, 6, 1)))
    np.testing.assert_allclose(batch["x"][0, :, :, 0], RGB[:, :, 0] / 255, rtol=1e-6)
    (batch,) = first_pass(tmp_path / "a.png", NHWC)
    np.testing.assert_allclose(batch["x"][0], np.repeat(RGB[:, :, :1], 3, 2) / 255, rtol=1e-6)


def test_modes_of_images(tmp_path):
    wanted = as_input(RGB)
    opaque = np.dstack([RGB, np.full((4, 6), 255, np.uint8)])
    for name, image in {
        "rgba": Image.fromarray(opaque),
        "palette": Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE),
    }.items():
        image.save(tmp_path / f"{name}.png")
        (batch,) = first_pass(tmp_path / f"{name}.png", NHWC)
        np.testing.assert_allclose(batch["x"][0], wanted, rtol=1e-6)
    clear = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE)
    clear.save(tmp_path / "clear.png", transparency=bytes(range(24)))
    (batch,) = first_pass(tmp_path / "clear.png", NHWC)
    np.testing.assert_allclose(batch["x"][0], wanted, rtol=1e-6)
    black = np.array([[False, True, True, False, True, False]] * 4)
    save(tmp_path / "bits.png", black)
    (batch,) = first_pass(tmp_path / "bits.png", GREY)
    np.testing.assert_array_equal(batch["x"][0, 0], black)


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("a.png", np.full((4, 6), 1000, np.uint16)),
        ("a.tif", np.full((4, 6), 1000, np.uint16)),
        ("a.tif", np.full((4, 6), 0.5, np.float32)),
        ("a.tif", np.full((4, 6), 70000, np.int32)),
    ],
)
def test_images_with_more_than_8_bits(tmp_path, name, pixels):
    path = save(tmp_path / name, pixels)
    for wanted in (GREY, NCHW):
        text = message_of(lambda wanted=wanted: first_pass(path, wanted))
        assert text.startswith(f"calibration_data {str(path)!r} cannot be read as an image: its pixels are ")


def test_images_keep_their_size_where_it_is_open(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", RGB[:3, :2])
    data = open_data(tmp_path, ANY_SIZE)
    assert [batch["x"].shape for batch in data] == [(1, 3, 4, 6), (1, 3, 3, 2)]


@pytest.mark.parametrize("size", [(8, 12), (16, 24), (2, 3), (9, 11)])
def test_images_are_scaled(tmp_path, size):
    """As torch scales: bilinear, with as many pixels under the filter as one of the result covers."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3)).astype(np.uint8)
    (batch,) = first_pass(save(tmp_path / "a.png", pixels), model(x=(1, 3, *size)), images=ImageInput(scale=1))
    source = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32))
    height, width = size
    if height * 12 == width * 8:
        wanted = torch.nn.functional.interpolate(source, size, mode="bilinear", antialias=True)
        np.testing.assert_allclose(batch["x"], wanted.numpy(), atol=1.01)
    assert batch["x"].shape == (1, 3, *size)


@pytest.mark.parametrize(
    ("shape", "border"),
    [((20, 10), (slice(0, 4), slice(None))), ((10, 20), (slice(None), slice(0, 4)))],
)
def test_the_centre_is_taken(tmp_path, shape, border):
    """What is far from the centre along the longer side does not come in; the shorter side does entirely."""
    height, width = shape
    pixels = np.full((*shape, 3), 200, np.uint8)
    pixels[border] = 0
    pixels[tuple(slice(None, None, -1) if s == slice(None) else slice(-4, None) for s in border)] = 0
    (batch,) = first_pass(save(tmp_path / "a.png", pixels), model(x=(1, 3, 5, 5)), images=ImageInput(scale=1))
    np.testing.assert_array_equal(batch["x"], 200)
    ramp = np.zeros((*shape, 3), np.uint8)
    longer = 0 if height > width else 1
    ramp += np.arange(20, dtype=np.uint8).reshape((20, 1, 1) if longer == 0 else (1, 20, 1)) * 10
    (batch,) = first_pass(save(tmp_path / "a.png", ramp), model(x=(1, 3, 10, 10)), images=ImageInput(scale=1))
    np.testing.assert_array_equal(batch["x"][0, 0].max(axis=1 - longer), 10.0 * np.arange(5, 15))


@pytest.mark.parametrize(("height", "width", "wanted"), [(8, "W", (8, 12)), ("H", 3, (2, 3)), (1, "W", (1, 2))])
def test_one_side_is_fixed(tmp_path, height, width, wanted):
    (batch,) = first_pass(save(tmp_path / "a.png"), model(x=("N", 3, height, width)))
    assert batch["x"].shape == (1, 3, *wanted)


def test_very_long_images(tmp_path):
    path = save(tmp_path / "a.png", np.zeros((1, 3000, 3), np.uint8))
    (batch,) = first_pass(path, NCHW)
    assert batch["x"].shape == (1, 3, 4, 6)
    (batch,) = first_pass(path, model(x=("N", 3, "H", 2)))
    assert batch["x"].shape == (1, 3, 1, 2)


def test_a_folder_of_images(tmp_path):
    for i in (10, 9, 2):
        save(tmp_path / f"{i:02}.png", np.full((4, 6, 3), i, np.uint8))
    np.savez(tmp_path / "03.npz", x=np.full((33, 3, 4, 6), 3, np.float32))
    data = open_data(tmp_path, NCHW, images=ImageInput(scale=1), limit=100)
    assert data.samples == 36
    for _ in range(2):
        assert [float(batch["x"].max()) for batch in data] == [2, 3, 3, 9, 10]
        assert sizes(data) == [1, 32, 1, 1, 1]


def test_successive_images_make_a_batch(tmp_path):
    wanted = model(x=(2, 3, 4, 6))
    for i in range(4):
        save(tmp_path / f"{i}.png", np.full((4, 6, 3), i, np.uint8))
    data = open_data(tmp_path, wanted, images=ImageInput(scale=1))
    assert (data.samples, len(data)) == (4, 2)
    assert [batch["x"][:, 0, 0, 0].tolist() for batch in data] == [[0, 1], [2, 3]]
    save(tmp_path / "4.png")
    text = message_of(lambda: open_data(tmp_path, wanted))
    left = "is the last of 1 images that are left over: the model takes 2 at a time"
    assert text == f"calibration_data {str(tmp_path / '4.png')!r} {left}"
    assert open_data(tmp_path, wanted, limit=5).samples == 4
    np.savez(tmp_path / "05.npz", x=np.zeros((2, 3, 4, 6), np.float32))  # between the first and the second image
    assert str(tmp_path / "0.png") in message_of(lambda: open_data(tmp_path, wanted))


def test_images_of_a_batch_have_one_size(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", RGB[:3])
    data = open_data(tmp_path, model(x=(2, 3, "H", "W")))
    text = message_of(lambda: list(data))
    assert text.startswith(f"calibration_data {str(tmp_path / 'b.png')!r} has shape (3, 6, 3)")


@pytest.mark.parametrize(
    "wanted",
    [
        model(x=("N", 3)),
        model(x=("N", 3, 4)),
        model(x=("N", 3, 4, 6, 2)),
        model(x=("N", 4, 8, 8)),
        model(x=("N", "C", "H", "W")),
        model(x=("N", 3, 4, 6), z=("N", 3, 4, 6)),
        model(x=[DOUBLE, ("N", 3, 4, 6)]),
        model(x=[TensorProto.INT8, ("N", 3, 4, 6)]),
        model(x=[TensorProto.FLOAT16, ("N", 3, 4, 6)]),
    ],
)
def test_models_that_take_no_images(tmp_path, wanted):
    text = message_of(lambda: open_data(save(tmp_path / "a.png"), wanted))
    assert text.startswith("images are for ")
    assert "wants 'x' (" in text


IMAGE_BYTES = {}
for kind in ("png", "jpeg", "bmp", "tiff", "webp"):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)).save(file, kind)
    IMAGE_BYTES[kind] = file.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"hello", bytes(1000), b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "webp", "tif"])
def test_images_that_are_none(tmp_path, content, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content)
    data = open_data(path, NCHW)
    text = message_of(lambda: list(data))
    assert text.startswith(f"calibration_data {str(path)!r} cannot be read as an image: ")


@pytest.mark.filterwarnings("ignore")  # without them too it is an error
@pytest.mark.parametrize("kind", IMAGE_BYTES)
@pytest.mark.parametrize("part", [0.02, 0.1, 0.3, 0.5, 0.9])
def test_truncated_images(tmp_path, kind, part):
    path = tmp_path / f"a.{kind}"
    content = IMAGE_BYTES[kind]
    path.write_bytes(content)
    assert len(first_pass(path, NCHW)) == 1
    path.write_bytes(content[: int(len(content) * part)])
    text = message_of(lambda: first_pass(path, NCHW))
    assert text.startswith(f"calibration_data {str(path)!r} cannot be read as an image: ")


@pytest.mark.filterwarnings("ignore")  # of Pillow, about files that it can read all the same
@pytest.mark.parametrize("kind", IMAGE_BYTES)
def test_damaged_images(tmp_path, kind, rng):
    path = tmp_path / f"a.{kind}"
    for _ in range(50):
        damaged = bytearray(IMAGE_BYTES[kind])
        for position in rng.integers(0, min(len(damaged), 300), 3):
            damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            first_pass(path, NCHW)
        except ValueError as error:
            assert str(error).startswith(f"calibration_data {str(path)!r} cannot be read as an image: ")
            assert "\n" not in str(error)


def test_formats_that_only_the_name_promises(tmp_path):
    """A GIF named .png is none of the known kinds, a PNG named .jpg is one."""
    Image.fromarray(RGB).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    assert "cannot be read as an image" in message_of(lambda: first_pass(tmp_path / "a.png", NCHW))
    save(tmp_path / "b.png").rename(tmp_path / "b.jpg")
    assert len(first_pass(tmp_path / "b.jpg", NCHW)) == 1


def test_very_large_images(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    text = message_of(lambda: first_pass(save(tmp_path / "a.png"), NCHW))
    assert "cannot be read as an image" in text
    assert "decompression bomb" in text


def test_numbers_that_overflow(tmp_path):
    path = save(tmp_path / "a.png")
    text = message_of(lambda: first_pass(path, NCHW, images=ImageInput(std=(1e-38,), scale=1e30)))
    assert text.endswith("holds inf at [0, 0, 0, 1]")


def test_images_are_for_images(tmp_path):
    np.save(tmp_path / "a.npy", rows(3))
    text = message_of(lambda: open_data(tmp_path / "a.npy", OPEN, images=ImageInput()))
    assert text == f"images is for files of images, calibration_data {str(tmp_path / 'a.npy')!r} has none"
    text = message_of(lambda: open_data(items(), OPEN, images=ImageInput()))
    assert text == "images is for files of images, calibration_data is list"
    text = message_of(lambda: open_data(items(), OPEN, images={"mean": 0}), TypeError)
    assert text == "images must be a bytenorm.onnx.ImageInput, got dict"
    for name, value in (("mean", (0.0, 0.0, 0.0)), ("std", (1.0, 1.0, 1.0))):
        images = ImageInput(**{name: value})
        text = message_of(lambda images=images: open_data(save(tmp_path / "a.png"), GREY, images=images))
        assert text.startswith(f"images has 3 numbers as {name}, the model wants 'x'")


def test_without_pillow(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", rows(3))
    monkeypatch.setitem(sys.modules, "PIL", None)
    text = message_of(lambda: open_data(path, NCHW), ImportError)
    assert text == 'images need Pillow: pip install "bytenorm[onnx]"'
    assert open_data(tmp_path / "a.npy", OPEN).samples == 3


def test_image_input():
    made = ImageInput(mean=[1, np.float32(0.5), 0], std=np.array([1.0, 2.0, 3.0]), scale=np.float64(2))
    assert made == ImageInput((1.0, 0.5, 0.0), (1.0, 2.0, 3.0), 2.0)
    assert all(type(number) is float for number in (*made.mean, *made.std, made.scale))
    assert ImageInput() == ImageInput((0.0,), (1.0,), 1 / 255)
    assert hash(made) == hash(ImageInput((1.0, 0.5, 0.0), (1.0, 2.0, 3.0), 2.0))
    with pytest.raises(AttributeError):
        made.scale = 3


@pytest.mark.parametrize(
    ("arguments", "error", "shown"),
    [
        ({"mean": 0.5}, TypeError, "mean must be a tuple of numbers, got float"),
        ({"mean": "0.5"}, TypeError, "mean must be a tuple of numbers, got str"),
        ({"std": None}, TypeError, "std must be a tuple of numbers, got NoneType"),
        ({"mean": ("0.5",)}, TypeError, "mean[0] must be a real number"),
        ({"mean": (0.1, None, 0.1)}, TypeError, "mean[1] must be a real number"),
        ({"scale": "1"}, TypeError, "scale must be a real number"),
        ({"scale": True}, TypeError, "scale must be a real number"),
        ({"mean": ()}, ValueError, "mean must have 1 or 3 numbers, got 0"),
        ({"std": (1.0, 1.0)}, ValueError, "std must have 1 or 3 numbers, got 2"),
        ({"mean": (math.nan,)}, ValueError, "mean must be finite in float32, got nan"),
        ({"mean": (1e39,)}, ValueError, "mean must be finite in float32, got 1e+39"),
        ({"std": (0.0,)}, ValueError, "std must be positive and finite in float32, got 0.0"),
        ({"std": (1.0, -1.0, 1.0)}, ValueError, "std must be positive and finite in float32, got -1.0"),
        ({"std": (1e-50,)}, ValueError, "std must be positive and finite in float32, got 1e-50"),
        ({"std": (math.inf,)}, ValueError, "std must be positive and finite in float32, got inf"),
        ({"scale": 0}, ValueError, "scale must be positive and finite in float32, got 0.0"),
        ({"scale": -1}, ValueError, "scale must be positive and finite in float32, got -1.0"),
        ({"scale": math.nan}, ValueError, "scale must be positive and finite in float32, got nan"),
    ],
)
def test_image_inputs_that_are_none(arguments, error, shown):
    assert message_of(lambda: ImageInput(**arguments), error).startswith(shown)


def test_datasets_are_made_by_open_data():
    assert isinstance(open_data(items(), OPEN), Dataset)


# --- where the batch is -----------------------------------------------------------------------------------------

INT64 = TensorProto.INT64
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
        ({"h": 3}, ValueError, "batch_axes['h'] must be an axis of 3, got 3"),
        ({"x": -3}, ValueError, "batch_axes['x'] must be an axis of 2, got -3"),
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


def test_what_was_read_of_a_file_is_let_go(tmp_path):
    """Pages of a mapped file count as a process's memory: a pass over 32 MB keeps no more than a batch of them."""

    def mapped():
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) << 10

    np.save(tmp_path / "x.npy", np.ones((256, 32768), np.float32))
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 32768]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    data = open_data(tmp_path / "x.npy", helper.make_model(graph))
    before = mapped()
    most = max(mapped() - before for _ in data)
    assert most < 16 << 20


@pytest.mark.parametrize("mode", ["c", "r+"])
def test_changes_of_a_mapped_array_stay(tmp_path, mode):
    np.save(tmp_path / "x.npy", np.zeros((8, 3), np.float32))
    array = np.load(tmp_path / "x.npy", mmap_mode=mode)
    array[:] = 7
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    data = open_data([{"x": array}], helper.make_model(graph))
    assert [float(batch["x"].min()) for _ in range(2) for batch in data] == [7.0, 7.0]
