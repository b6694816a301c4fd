"""Arrays in files that promise more than they hold, or something else than numbers: words, and no memory."""

import io
import struct
import zipfile

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

import bytenorm as bn
from bytenorm._files import npy as npy_files
from bytenorm._files import npz
from bytenorm.calibration import ChannelStatistics
from bytenorm.onnx.data.dataset import open_data


def relu(shape):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def npy(header, data=b"", version=(1, 0)):
    text = header.encode("latin1") + b"\n"
    return (
        b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text + data
    )


def plain(shape="(2, 3)", descr="'<f4'", fortran="False"):
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"


DATA = np.arange(6, dtype=np.float32).tobytes()
BAD = {
    "empty": (b"", "it is empty"),
    "no magic": (b"\x93NUMPZ\x01\x00" + bytes(100), "magic"),
    "no header": (b"\x93NUMPY\x01\x00\xff\xff", "EOF"),
    "another version": (npy(plain(), DATA, (9, 9)), "format"),
    "no dict": (npy("[1, 2]", DATA), "Header"),
    "no Python": (npy("{'descr': ", DATA), "cannot be read"),
    "deep": (npy("(" * 5000, DATA), "cannot be read"),
    "long": (npy(plain() + " " * 20000, DATA), "cannot be read"),
    "negative": (npy(plain("(-2, -3)"), DATA), r"its shape is \(-2, -3\)"),
    "fraction": (npy(plain("(2.0, 3)"), DATA), "shape"),
    "truth": (npy(plain("(True, 6)"), DATA), r"its shape is \(True, 6\)"),
    "no tuple": (npy(plain("6"), DATA), "shape"),
    "huge": (npy(plain("(2000000, 3)"), DATA), "truncated"),
    "beyond 64 bits": (npy(plain(f"({2**40}, {2**40})"), DATA), "truncated"),
    "empty beyond 64 bits": (npy(plain(f"(0, {2**40}, {2**40})")), "cannot be read|must fit"),
    "objects": (npy(plain(descr="'|O'"), DATA), "Python objects"),
    "texts": (npy(plain(descr="'<U1'"), DATA), "numbers are wanted"),
    "nothing at all": (npy(plain(descr="'|S0'", shape=f"({2**40},)"), DATA), "cannot be read"),
    "records": (npy(plain(descr="[('a', '<f4')]"), DATA), "numbers are wanted"),
    "times": (npy(plain(descr="'<M8[s]'"), DATA * 2), "numbers are wanted"),
    "no dtype": (npy(plain(descr="'<q9'"), DATA), "cannot be read"),
    "no rows": (npy(plain("(0, 3)")), "is empty, got shape"),
    "another type": (npy(plain(descr="'<i4'"), DATA), "must be float32, got int32"),
    "another order of bytes": (npy(plain(descr="'>f4'"), DATA), "must be float32, got >f4"),
    "another rank": (npy(plain("(6,)"), DATA), "must fit"),
}


def archive(**members):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name + ".npy", content)
    return made.getvalue()


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_that_are_none(tmp_path, kind, suffix):
    content, words = BAD[kind]
    file = tmp_path / f"bad.{suffix}"
    if suffix == "npz":  # there an array is as long as its header says, or the archive is damaged
        content, words = archive(x=content), f"{words}|is damaged|EOF"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        list(open_data(file, relu(["N", 3])))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_members_that_are_there_twice_or_compressed_otherwise(tmp_path):
    file, good = tmp_path / "a.npz", npy(plain(), DATA)
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("x", good)
        made.writestr("x.npy", good)
    with pytest.raises(ValueError, match="its array 'x' is there twice"):
        open_data(file, relu(["N", 3]))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as made:
        made.writestr("x.npy", good)
    with pytest.raises(ValueError, match="compressed in a way that NumPy does not use"):
        open_data(file, relu(["N", 3]))


@pytest.mark.parametrize("fortran", [False, True])
def test_rows_of_an_archive_are_those_of_its_array(tmp_path, rng, fortran):
    x = rng.normal(size=(70, 3)).astype(np.float32)
    file = tmp_path / "a.npz"
    np.savez_compressed(file, x=np.asfortranarray(x) if fortran else x)
    data = open_data(file, relu(["N", 3]))
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate([batch["x"] for batch in data]), x)
    rows = npz.Rows(file, npz.layouts(file)["x"], "a.npz")
    for start, stop in ((60, 70), (3, 5), (0, 70), (5, 5), (69, 90)):
        np.testing.assert_array_equal(rows[start:stop], x[start:stop])


def test_large_arrays_in_fortran_order_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "LARGEST_TURNED", 100)
    file = tmp_path / "a.npz"
    np.savez(file, x=np.zeros((70, 3), np.float32, "F"))
    with pytest.raises(ValueError, match="in Fortran order and has 840 bytes: C order is wanted"):
        list(open_data(file, relu(["N", 3])))


def test_more_than_the_memory_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "memory", lambda: 100)
    file = tmp_path / "a.npz"
    np.savez(file, x=np.zeros((70, 3), np.float32))
    with pytest.raises(ValueError, match="it has 384 bytes, more than this computer's memory, 100"):
        list(open_data(file, relu(["N", 3])))


def test_empty_arrays_are_read(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((0, 3), np.float32))
    assert npy_files.map_array(tmp_path / "a.npy", "a").shape == (0, 3)


def statistics(tmp_path, **changes):
    made = ChannelStatistics(2)
    made.update(bn.QuantizedTensor(np.zeros((3, 2), np.uint8), 0.1, 0))
    file = tmp_path / "s.npz"
    made.save(file)
    with np.load(file) as found:
        arrays = dict(found)
    np.savez(file, **(arrays | changes))
    return file


def test_statistics_whose_members_are_no_arrays(tmp_path):
    file = statistics(tmp_path)
    with zipfile.ZipFile(file) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    for name, content in members.items():
        with zipfile.ZipFile(file, "w") as made:
            for other, its in members.items():
                made.writestr(other, bytes([content[0] ^ 1]) + content[1:] if other == name else its)
        with pytest.raises(ValueError, match=r"cannot be read as channel statistics"):
            ChannelStatistics.load(file)


def test_statistics_in_fortran_order_can_be_added_to(tmp_path):
    """NumPy writes what is transposed so."""
    plain_file = statistics(tmp_path)
    with np.load(plain_file) as found:
        counts = np.asfortranarray(found["counts"])
    loaded = ChannelStatistics.load(statistics(tmp_path, counts=counts))
    loaded.update(bn.QuantizedTensor(np.ones((5, 2), np.uint8), 0.1, 0))
    assert loaded.count == 8


@pytest.mark.parametrize("wrong", [2**62, -(2**62), 2**63 - 1])
def test_statistics_whose_totals_wrap(tmp_path, wrong):
    counts = np.zeros((2, 256), np.int64)
    counts[:, 0] = 3
    counts[1, 1:5] = wrong
    with pytest.raises(ValueError, match="a histogram whose total is not the count"):
        ChannelStatistics.load(statistics(tmp_path, counts=counts))


def test_statistics_that_announce_more_than_they_hold(tmp_path):
    file = statistics(tmp_path, channels=np.array(2**40))
    with pytest.raises(
        ValueError, match=r"counts of dtype int64 and shape \(2, 256\), not int64 and \(1099511627776"
    ):
        ChannelStatistics.load(file)


@pytest.mark.parametrize(("shape", "size"), [(["N", 3, 224, None], (65000, 1)), (["N", 3, None, 224], (1, 65000))])
def test_lines_of_pixels_are_not_scaled_to_gigabytes(tmp_path, shape, size):
    Image.new("RGB", size).save(tmp_path / "line.png")
    assert (tmp_path / "line.png").stat().st_size < 1000
    with pytest.raises(ValueError, match=r"it would be scaled to \d+ x \d+ pixels, at most 178956970 are wanted"):
        list(open_data(tmp_path / "line.png", relu(shape)))


def test_images_beyond_what_pillow_opens(tmp_path):
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"cannot be read as an image: .*decompression bomb"):
        list(open_data(tmp_path / "bomb.png", relu(["N", 3, None, None])))
