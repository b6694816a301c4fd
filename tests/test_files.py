"""Files that are written whole or not at all, by whatever writes them."""

import os
import stat

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bytenorm as bn
from bytenorm._files import writing
from bytenorm._files.writing import replacing, same_file
from bytenorm.calibration import ChannelStatistics
from bytenorm.onnx.model import files as model_files
from bytenorm.onnx.model.files import load_model, save_model


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old"
    path.write_bytes(b"old")
    return path


def replace(path, content=b"new"):
    with replacing(path, f"path {path}") as file:
        file.write(content)


def only(path):
    return list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o644, 0o755, 0o777])
def test_permissions_stay(mode, old):
    old.chmod(mode)
    replace(old)
    assert stat.S_IMODE(old.stat().st_mode) == mode
    assert old.read_bytes() == b"new"
    assert only(old)


def test_a_new_file_has_the_permissions_of_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        replace(tmp_path / "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_the_owner_stays_where_it_can(old, monkeypatch):
    given = []
    monkeypatch.setattr(os, "geteuid", lambda: old.stat().st_uid + 1)
    monkeypatch.setattr(os, "fchown", lambda _, user, group: given.append((user, group)))
    replace(old)
    assert given == [(old.stat().st_uid, old.stat().st_gid)]

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    replace(old, b"newer")
    assert old.read_bytes() == b"newer"


def test_the_folder_is_synced_behind_the_file(old, monkeypatch):
    synced = []

    def note(handle):
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), old.read_bytes()))

    monkeypatch.setattr(os, "fsync", note)
    replace(old)
    assert synced == [(False, b"old"), (True, b"new")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(28, "No space left on device")])
def test_an_exception_leaves_the_old_file(error, old):
    with pytest.raises((KeyboardInterrupt, MemoryError, OSError)), replacing(old, "path") as file:
        file.write(b"half")
        raise error
    assert old.read_bytes() == b"old"
    assert only(old)


def test_an_interrupt_while_cleaning_up_leaves_what_the_end_of_the_process_removes(old, monkeypatch):
    with monkeypatch.context() as patch:

        def interrupt(*_, **__):
            raise KeyboardInterrupt

        patch.setattr(type(old), "unlink", interrupt)
        with pytest.raises(KeyboardInterrupt), replacing(old, "path"):
            raise ValueError
    assert not only(old)
    writing._remove_unfinished()
    assert only(old)
    replace(old)
    assert not writing._unfinished


def test_same_file(old, tmp_path):
    hard, soft = tmp_path / "hard", tmp_path / "soft"
    hard.hardlink_to(old)
    soft.symlink_to(old)
    (tmp_path / "other").write_bytes(b"old")
    assert all(same_file(old, name) for name in (hard, soft, tmp_path / "." / "old"))
    assert not any(same_file(old, tmp_path / name) for name in ("other", "missing", "x" * 300, "\0"))


def test_statistics_take_a_place_in_the_same_way(old):
    statistics = ChannelStatistics(2)
    statistics.update(bn.QuantizedTensor(np.ones((3, 2), np.uint8), 0.5, 3))
    old.chmod(0o600)
    statistics.save(old)
    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    assert ChannelStatistics.load(old) == statistics
    with pytest.raises(OSError, match="cannot be written: No such file or directory"):
        statistics.save(old.parent / "missing" / "s.npz")
    assert only(old)


# --- models of two files ----------------------------------------------------------------------------------------


def model(values):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [values])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [values])
    w = helper.make_tensor(
        "w", TensorProto.FLOAT, [values], np.arange(values, dtype=np.float32).tobytes(), raw=True
    )
    return helper.make_model(helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [w]))


@pytest.fixture
def large(tmp_path, monkeypatch):
    """Return the path of a model of two files."""
    path = tmp_path / "m.onnx"
    with monkeypatch.context() as patch:
        patch.setattr(model_files, "LARGEST_FILE", 3000)
        save_model(model(1000), path)
    assert (tmp_path / "m.onnx.data").stat().st_size == 4000
    return path


def test_a_small_model_takes_the_tensors_of_a_large_one_along(large):
    save_model(model(10), large, force=True)
    assert only(large)
    assert load_model(large) == model(10)


def test_a_file_of_somebody_else_stays(large, tmp_path):
    save_model(model(10), large, force=True)
    beside = tmp_path / "m.onnx.data"
    beside.write_bytes(b"somebody else's")
    save_model(model(20), large, force=True)
    assert beside.read_bytes() == b"somebody else's"
    onnx.save_model(model(1000), large, save_as_external_data=True, location="weights", size_threshold=0)
    save_model(model(20), large, force=True)
    assert beside.read_bytes() == b"somebody else's"
    assert (tmp_path / "weights").exists()
    large.write_bytes(b"no model")
    save_model(model(20), large, force=True)
    assert beside.exists()


def test_tensors_stay_until_the_small_model_is_there(large, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(model(10), large, force=True)
    assert numpy_helper.to_array(load_model(large).graph.initializer[0]).tolist() == list(range(1000))
