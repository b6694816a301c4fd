"""Files of arrays that are damaged, of no known kind, or made to do harm."""

import io
import sys
import zipfile

import numpy as np
import pytest
from fed_models import OPEN, first_pass, message_of, model, rows

from bytenorm.onnx.data.dataset import open_data


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
