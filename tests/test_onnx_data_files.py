"""Data for calibration from files of arrays and folders of them."""

import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fed_models import FIXED, OPEN, UINT8, WANTED, joined, message_of, model, rows, sizes
from onnx import TensorProto, helper

from bytenorm.onnx.data.dataset import open_data

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
        (grey, (5, 4), "f4", "array[np.newaxis, np.newaxis]"),
        (image, (5, 4, 3), "f4", "np.moveaxis(array, -1, 0)[np.newaxis]"),
        (last, (3, 5, 4), "f4", "np.moveaxis(array, 0, -1)[np.newaxis]"),
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


# --- mapped files -----------------------------------------------------------------------------------------------


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
