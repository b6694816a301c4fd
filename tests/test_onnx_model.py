import os
import re
import stat

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from bytenorm.onnx import digits_model
from bytenorm.onnx.model import files as module
from bytenorm.onnx.model.files import load_model, save_model
from bytenorm.onnx.model.inputs import DTYPES, InputInfo, input_infos

NEWEST = onnx.defs.onnx_opset_version()


def value(name, shape=("N", 3), kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def made(opset=13, *, nodes=None, initializers=(), inputs=None, functions=(), domain=""):
    """Return y = x + 1."""
    if nodes is None:
        nodes = [helper.make_node("Add", ["x", "one"], ["y"])]
        initializers = [*initializers, numpy_helper.from_array(np.ones(3, np.float32), "one")]
    graph = helper.make_graph(nodes, "graph", inputs or [value("x")], [value("y")], initializers)
    opsets = [helper.make_opsetid(domain, opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))


def large():
    """Return a model with two weights that are worth a file of their own."""
    weights = [
        numpy_helper.from_array(np.full((1000, 3), 2, np.float32), "w"),
        helper.make_tensor("b", TensorProto.FLOAT, (1000, 3), [0.5] * 3000),  # as numbers, not as bytes
        numpy_helper.from_array(np.full(3, 4, np.float32), "small"),
    ]
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Add", ["c", "small"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "graph", [value("x", (1000, 3))], [value("y", (1000, 3))], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def external(folder, name="m.onnx", **options):
    """Write a model whose weights are in w.bin."""
    path = folder / name
    options = {"location": "w.bin", "size_threshold": 100, "save_as_external_data": True, **options}
    source = large()
    source.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.full((1000, 3), 0.5, np.float32), "b"))
    onnx.save_model(source, path, **options)
    return path


def run(source):
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.ones((1000, 3), np.float32)})[0]


def message_of(call, error):
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert type(caught.value) is error
    assert "\n" not in text
    assert len(text) < 1000
    return text


def files(folder):
    return sorted(path.name for path in folder.iterdir())


# --- load_model -------------------------------------------------------------------------------------------------


def test_a_model_is_copied():
    source = made()
    loaded = load_model(source)
    assert loaded == source
    assert loaded is not source
    loaded.graph.node[0].op_type = "Mul"
    loaded.graph.initializer[0].raw_data = b""
    assert source == made()


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_file_is_read(tmp_path, kind):
    onnx.save(made(), tmp_path / "m.onnx")
    assert load_model(kind(tmp_path / "m.onnx")) == made()


@pytest.mark.parametrize("name", ["m.json", "m.textproto", "m", "m.onnx.txt", "ä b\n.onnx"])
def test_a_file_may_have_any_name(tmp_path, name):
    (tmp_path / name).write_bytes(made().SerializeToString())
    assert load_model(tmp_path / name) == made()


@pytest.mark.parametrize("opset", [7, 9, 13, NEWEST])
def test_opsets(opset):
    assert load_model(made(opset)).opset_import[0].version == opset
    assert load_model(made(opset, domain="ai.onnx"))


@pytest.mark.parametrize("opset", [-1, 0, 1, 6, NEWEST + 1, 2**40])
def test_opsets_that_are_not_known(opset, tmp_path):
    wanted = f" has opset {opset}: 7 to {NEWEST} are wanted (onnx {onnx.__version__})"
    assert message_of(lambda: load_model(made(opset)), ValueError) == "model" + wanted
    (tmp_path / "m.onnx").write_bytes(made(opset).SerializeToString())
    text = message_of(lambda: load_model(tmp_path / "m.onnx", argument="reference"), ValueError)
    assert text == f"reference {str(tmp_path / 'm.onnx')!r}" + wanted


def test_opsets_of_the_default_domain():
    without = made(domain="other")
    assert "no opset of the default domain" in message_of(lambda: load_model(without), ValueError)
    twice = made()
    twice.opset_import.append(helper.make_opsetid("ai.onnx", 15))
    assert "[13, 15]" in message_of(lambda: load_model(twice), ValueError)
    twice.opset_import[1].version = 13
    assert load_model(twice) == twice


def test_models_without_content():
    assert message_of(lambda: load_model(onnx.ModelProto()), ValueError) == "model has no graph"
    empty = made()
    del empty.graph.node[:]
    assert message_of(lambda: load_model(empty, argument="candidate"), ValueError) == "candidate has no nodes"


@pytest.mark.parametrize(
    "value", [None, 3, b"m.onnx", [made()], made().graph, object(), made().SerializeToString()]
)
def test_other_types(value):
    text = message_of(lambda: load_model(value), TypeError)
    assert text == f"model must be an onnx.ModelProto or a path, got {type(value).__name__}"


class BytesPath:
    def __fspath__(self):
        return b"m.onnx"


def test_paths_that_are_none():
    assert "BytesPath" in message_of(lambda: load_model(BytesPath()), TypeError)
    assert "got ''" in message_of(lambda: load_model(""), ValueError)
    assert r"got 'm\x00.onnx'" in message_of(lambda: load_model("m\0.onnx"), ValueError)


def test_what_is_no_file(tmp_path):
    path = tmp_path / "m.onnx"
    assert message_of(lambda: load_model(path), FileNotFoundError) == f"model {str(path)!r} does not exist"
    assert "does not exist" in message_of(lambda: load_model(tmp_path / "no" / "m.onnx"), FileNotFoundError)
    text = message_of(lambda: load_model(tmp_path), ValueError)
    assert text == f"model {str(tmp_path)!r} is a folder: a file is wanted"
    path.symlink_to(tmp_path / "gone")
    assert "is a broken link" in message_of(lambda: load_model(path), ValueError)
    os.mkfifo(tmp_path / "pipe.onnx")  # reading it would wait for ever
    assert "no plain file" in message_of(lambda: load_model(tmp_path / "pipe.onnx"), ValueError)
    assert "no plain file" in message_of(lambda: load_model("/dev/zero"), ValueError)


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(made().SerializeToString())

    def refuse(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "read_bytes", refuse)
    text = message_of(lambda: load_model(path), ValueError)
    assert text == f"model {str(path)!r} cannot be read: Permission denied"


CONTENTS = {
    "empty": b"",
    "text": b"hello, this is no model\n",
    "short text": b"hi",
    "json": b'{"irVersion": 8}',
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 12345\n",
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "zip": b"PK\x03\x04" + bytes(100),
    "nested": b"\x3a\x80\x01" * 200,
}


@pytest.mark.parametrize("name", CONTENTS)
def test_what_is_no_model(tmp_path, name):
    path = tmp_path / "m.onnx"
    path.write_bytes(CONTENTS[name])
    text = message_of(lambda: load_model(path), ValueError)
    assert text.startswith(f"model {str(path)!r} is ")


def test_random_bytes(tmp_path, rng):
    path = tmp_path / "m.onnx"
    for length in [1, 2, 3, 5, 10, 100, 1000] * 20:
        path.write_bytes(rng.bytes(length))
        message_of(lambda: load_model(path), ValueError)


def test_every_truncation(tmp_path):
    """A model cut off anywhere before its end is refused: nothing optional is at the end of this one."""
    content = made().SerializeToString()
    path = tmp_path / "m.onnx"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        text = message_of(lambda: load_model(path), ValueError)
        assert re.search("no ONNX model|is empty|truncated", text)


def test_every_byte_destroyed(tmp_path, rng):
    """Another byte anywhere: a model all the same, or one line."""
    content = made().SerializeToString()
    path = tmp_path / "m.onnx"
    refused = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            load_model(path)
        except (ValueError, FileNotFoundError) as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 20


def test_a_file_that_is_too_large(tmp_path):
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)  # takes no room
    assert f"{2**31} bytes" in message_of(lambda: load_model(path), ValueError)


# --- external data ----------------------------------------------------------------------------------------------


def test_external_data_is_read(tmp_path):
    loaded = load_model(external(tmp_path))
    assert loaded == onnx.load(tmp_path / "m.onnx")
    assert not any(tensor.external_data for tensor in loaded.graph.initializer)
    np.testing.assert_array_equal(numpy_helper.to_array(loaded.graph.initializer[0]), np.full((1000, 3), 2))
    np.testing.assert_array_equal(run(loaded.SerializeToString()), np.full((1000, 3), 6.5))


def test_external_data_is_found_from_another_folder(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    external(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    assert load_model("a/m.onnx") == load_model(tmp_path / "a" / "m.onnx")
    monkeypatch.chdir(tmp_path / "a")
    assert load_model("m.onnx") == load_model(tmp_path / "a" / "m.onnx")


def test_external_data_in_a_folder_of_its_own(tmp_path):
    path = external(tmp_path)
    stored = onnx.load(path, load_external_data=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "w.bin").rename(tmp_path / "data" / "w.bin")
    for tensor in stored.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "data/w.bin"
    path.write_bytes(stored.SerializeToString())
    assert load_model(path).graph.initializer[0].raw_data == np.full((1000, 3), 2, np.float32).tobytes()


def test_external_data_everywhere(tmp_path):
    """In subgraphs, in attributes, in a function."""

    def elsewhere(name):
        tensor = numpy_helper.from_array(np.arange(3, dtype=np.float32), name)
        (tmp_path / f"{name}.bin").write_bytes(tensor.raw_data)
        onnx.external_data_helper.set_external_data(tensor, f"{name}.bin")
        tensor.ClearField("raw_data")
        return tensor

    then = helper.make_graph(
        [helper.make_node("Add", ["x", "a"], ["t"])], "then", [], [value("t")], [elsewhere("a")]
    )
    other = helper.make_graph(
        [
            helper.make_node("Constant", [], ["b"], value=elsewhere("b")),
            helper.make_node("Add", ["x", "b"], ["t"]),
        ],
        "else",
        [],
        [value("t")],
    )
    several = helper.make_graph([], "several", [], [], [elsewhere("d")])
    function = helper.make_function(
        "own",
        "f",
        ["i"],
        ["o"],
        [
            helper.make_node("Constant", [], ["c"], value=elsewhere("c")),
            helper.make_node("Add", ["i", "c"], ["o"]),
        ],
        [helper.make_opsetid("", 13)],
    )
    nodes = [
        helper.make_node("If", ["yes"], ["i"], then_branch=then, else_branch=other),
        helper.make_node("f", ["i"], ["y"], domain="own"),
        helper.make_node("g", ["i"], ["j"], domain="own", graphs=[several], tensors=[elsewhere("e")]),
    ]
    source = made(nodes=nodes, inputs=[value("x"), value("yes", (), TensorProto.BOOL)], functions=[function])
    (tmp_path / "m.onnx").write_bytes(source.SerializeToString())
    loaded = load_model(tmp_path / "m.onnx")
    branches = {attribute.name: attribute.g for attribute in loaded.graph.node[0].attribute}
    for tensor in (
        branches["then_branch"].initializer[0],
        branches["else_branch"].node[0].attribute[0].t,
        loaded.functions[0].node[0].attribute[0].t,
        next(a for a in loaded.graph.node[2].attribute if a.name == "graphs").graphs[0].initializer[0],
        next(a for a in loaded.graph.node[2].attribute if a.name == "tensors").tensors[0],
    ):
        assert tensor.raw_data == np.arange(3, dtype=np.float32).tobytes()
        assert not tensor.external_data


def test_external_data_that_is_missing(tmp_path):
    path = external(tmp_path)
    (tmp_path / "w.bin").unlink()
    text = message_of(lambda: load_model(path), FileNotFoundError)
    assert text == f"model {str(path)!r}: the file 'w.bin' with its tensor 'w' is missing"
    (tmp_path / "w.bin").mkdir()
    assert "is a folder" in message_of(lambda: load_model(path), ValueError)


@pytest.mark.parametrize("length", [0, 1, 11_999, 12_000, 23_999])
def test_external_data_that_is_truncated(tmp_path, length):
    path = external(tmp_path)
    content = (tmp_path / "w.bin").read_bytes()
    assert len(content) > 23_999
    (tmp_path / "w.bin").write_bytes(content[:length])
    assert "'w.bin'" in message_of(lambda: load_model(path), ValueError)


def test_external_data_that_cannot_be_read(tmp_path, monkeypatch):
    path = external(tmp_path)

    def refuse(self, mode):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(type(path), "open", refuse)
    monkeypatch.setattr(type(path), "read_bytes", lambda self: content)
    with open(path, "rb") as file:  # noqa: PTH123 (Path.open refuses)
        content = file.read()
    text = message_of(lambda: load_model(path), ValueError)
    assert text == f"model {str(path)!r}: the file 'w.bin' with its tensor 'w' cannot be read: Permission denied"


def test_external_data_of_types_that_numpy_does_not_have(tmp_path):
    tensor = onnx.TensorProto(name="h", data_type=TensorProto.BFLOAT16, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="h.bin")
    (tmp_path / "h.bin").write_bytes(b"abcdef")
    (tmp_path / "m.onnx").write_bytes(made(initializers=[tensor]).SerializeToString())
    assert load_model(tmp_path / "m.onnx").graph.initializer[0].raw_data == b"abcdef"


def changed(path, **entries):
    """Change what the first tensor of a file says of its external data."""
    stored = onnx.load(path, load_external_data=False)
    tensor = stored.graph.initializer[0]
    told = {**{entry.key: entry.value for entry in tensor.external_data}, **entries}
    del tensor.external_data[:]
    for key, text in told.items():
        if text is not None:
            tensor.external_data.add(key=key, value=text)
    path.write_bytes(stored.SerializeToString())


@pytest.mark.parametrize(
    ("entries", "shown"),
    [
        ({"location": "../w.bin"}, "outside"),
        ({"location": "/etc/passwd"}, "outside"),
        ({"location": "a/../../w.bin"}, "outside"),
        ({"location": "link"}, "outside"),
        ({"location": None}, "which file"),
        ({"location": ""}, "which file"),
        ({"location": "w\0.bin"}, "which file"),
        ({"location": "."}, "is a folder"),
        ({"location": "circle"}, "cannot be reached"),
        ({"location": "w" * 300}, "cannot be reached"),
        ({"offset": "x"}, "no number"),
        ({"offset": "-1"}, "negative"),
        ({"offset": "999999"}, "truncated"),
        ({"length": "-2"}, "negative"),
        ({"length": "1e3"}, "no number"),
        ({"length": "999999"}, "truncated"),
        ({"length": "9" * 30}, "truncated"),
        ({"length": "11999"}, "11999 bytes"),
        ({"length": "0"}, "0 bytes"),
        ({"length": None}, "bytes"),
    ],
)
def test_external_data_that_is_wrong(tmp_path, entries, shown):
    (tmp_path / "w.bin").write_bytes(bytes(12_000))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "w.bin")
    (folder / "circle").symlink_to("circle")
    path = external(folder)
    changed(path, **entries)
    assert shown in message_of(lambda: load_model(path), ValueError)


def test_external_data_may_say_more(tmp_path):
    path = external(tmp_path)
    changed(path, checksum="1234", prepacked_0="else")
    assert load_model(path) == onnx.load(external(tmp_path, "other.onnx", location="other.bin"))


def test_a_cache_of_links(tmp_path):
    """A model and its data as links into one folder, as caches of downloads keep them."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    external(tmp_path / "blobs", "123")
    (tmp_path / "blobs" / "w.bin").rename(tmp_path / "blobs" / "456")
    (tmp_path / "snapshot" / "m.onnx").symlink_to("../blobs/123")
    (tmp_path / "snapshot" / "w.bin").symlink_to("../blobs/456")
    assert load_model(tmp_path / "snapshot" / "m.onnx").graph.initializer[0].raw_data


def test_a_model_in_memory_with_external_data(tmp_path):
    stored = onnx.load(external(tmp_path), load_external_data=False)
    text = message_of(lambda: load_model(stored), ValueError)
    assert text.startswith("model has its tensor 'w' in another file")


# --- save_model -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_save(tmp_path, kind):
    assert save_model(made(), kind(tmp_path / "m.onnx")) is None
    assert onnx.load(tmp_path / "m.onnx") == made()
    assert files(tmp_path) == ["m.onnx"]


def test_save_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(made(), "m.onnx")
    assert onnx.load("m.onnx") == made()


def test_saved_files_have_the_usual_permissions(tmp_path):
    save_model(made(), tmp_path / "m.onnx")
    (tmp_path / "usual").touch()
    assert stat.S_IMODE((tmp_path / "m.onnx").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_save_over_a_file(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_text("old")
    text = message_of(lambda: save_model(made(), path), FileExistsError)
    assert text == f"path {str(path)!r} exists: give force=True to replace it"
    assert path.read_text() == "old"
    save_model(made(), path, force=True)
    assert onnx.load(path) == made()
    assert files(tmp_path) == ["m.onnx"]


def test_save_where_none_can_be(tmp_path, monkeypatch):
    for force in (False, True):
        text = message_of(lambda force=force: save_model(made(), tmp_path, force=force), ValueError)
        assert text == f"path {str(tmp_path)!r} is a folder and is not replaced: a file is wanted"
        os.mkfifo(tmp_path / f"pipe{force}")
        text = message_of(
            lambda force=force: save_model(made(), tmp_path / f"pipe{force}", force=force), ValueError
        )
        assert "is no plain file" in text
    assert "no plain file" in message_of(lambda: save_model(made(), "/dev/null", force=True), ValueError)
    missing = tmp_path / "no" / "m.onnx"
    assert f"folder {str(missing.parent)!r} does not exist" in message_of(
        lambda: save_model(made(), missing), ValueError
    )
    (tmp_path / "file").touch()
    assert "is no folder" in message_of(lambda: save_model(made(), tmp_path / "file" / "m.onnx"), ValueError)
    (tmp_path / "link").symlink_to("nothing")
    assert "a broken link" in message_of(lambda: save_model(made(), tmp_path / "link"), ValueError)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "is not writable" in message_of(lambda: save_model(made(), tmp_path / "m.onnx"), ValueError)
    assert not (tmp_path / "m.onnx").exists()


def test_save_over_a_link(tmp_path):
    """The link gives way; what it leads to stays."""
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "m.onnx").symlink_to("kept")
    save_model(made(), tmp_path / "m.onnx", force=True)
    assert (tmp_path / "kept").read_text() == "kept"
    assert onnx.load(tmp_path / "m.onnx") == made()
    assert not (tmp_path / "m.onnx").is_symlink()


def test_save_where_writing_fails():
    text = message_of(
        lambda: save_model(made(), "/proc/m.onnx"), FileNotFoundError if os.geteuid() == 0 else ValueError
    )
    assert text.startswith("path '/proc/m.onnx' cannot be written: ")


def test_a_name_that_is_too_long(tmp_path):
    path = tmp_path / ("m" * 300)
    assert "cannot be reached: File name too long" in message_of(lambda: save_model(made(), path), ValueError)
    assert "cannot be reached: File name too long" in message_of(lambda: load_model(path), ValueError)
    assert files(tmp_path) == []


def test_arguments_of_save(tmp_path):
    path = tmp_path / "m.onnx"
    assert message_of(lambda: save_model("m", path), TypeError) == "model must be an onnx.ModelProto, got str"
    assert message_of(lambda: save_model(made(), 3), TypeError) == "path must be a path, got int"
    assert message_of(lambda: save_model(made(), ""), ValueError) == "path must be a path, got ''"
    assert message_of(lambda: save_model(made(), path, force=1), TypeError).startswith(
        "force must be True or False"
    )
    assert files(tmp_path) == []


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_nothing_is_left_of_a_failure(tmp_path, monkeypatch, old, error, where):
    path = tmp_path / "m.onnx"
    if old:
        path.write_text("old")

    def fail(*arguments):
        raise error

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (type(path), "replace")}[where], fail)
    with pytest.raises(type(error)) as caught:
        save_model(made(), path, force=True)
    if isinstance(error, OSError):
        assert str(caught.value) == f"path {str(path)!r} cannot be written: No space left on device"
    assert files(tmp_path) == ["m.onnx"] * old
    assert not old or path.read_text() == "old"


@pytest.fixture
def small_files(monkeypatch):
    """Pretend that files hold 10 kB, where protobuf's hold 2 GB."""
    monkeypatch.setattr(module, "LARGEST_FILE", 10_000)


def test_save_with_external_data(tmp_path, small_files):
    source = large()
    before = source.SerializeToString()
    save_model(source, tmp_path / "m.onnx")
    assert source.SerializeToString() == before
    assert files(tmp_path) == ["m.onnx", "m.onnx.data"]
    assert (tmp_path / "m.onnx").stat().st_size < 1000
    loaded = load_model(tmp_path / "m.onnx")
    assert loaded == onnx.load(tmp_path / "m.onnx")
    for tensor, wanted in zip(loaded.graph.initializer, source.graph.initializer, strict=True):
        assert (tensor.name, tensor.data_type) == (wanted.name, wanted.data_type)
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), numpy_helper.to_array(wanted))
    np.testing.assert_array_equal(run(str(tmp_path / "m.onnx")), np.full((1000, 3), 6.5))
    onnx.checker.check_model(str(tmp_path / "m.onnx"))
    stored = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    offsets = [e.value for t in stored.graph.initializer for e in t.external_data if e.key == "offset"]
    assert offsets == ["0", "12288"]  # pages


def test_save_with_external_data_over_files(tmp_path, small_files):
    path = tmp_path / "m.onnx"
    (tmp_path / "m.onnx.data").write_text("old")
    assert "m.onnx.data' exists" in message_of(lambda: save_model(large(), path), FileExistsError)
    assert files(tmp_path) == ["m.onnx.data"]
    save_model(large(), path, force=True)
    save_model(large(), path, force=True)
    np.testing.assert_array_equal(run(str(path)), np.full((1000, 3), 6.5))
    assert files(tmp_path) == ["m.onnx", "m.onnx.data"]
    (tmp_path / "m.onnx.data").unlink()
    (tmp_path / "m.onnx.data").mkdir()
    assert "is a folder" in message_of(lambda: save_model(large(), path, force=True), ValueError)


def test_nothing_is_left_of_a_failure_with_external_data(tmp_path, monkeypatch, small_files):
    path = tmp_path / "m.onnx"
    (tmp_path / "m.onnx.data").write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    text = message_of(lambda: save_model(large(), path, force=True), OSError)
    assert text == f"path '{path}.data' cannot be written: No space left on device"
    assert files(tmp_path) == ["m.onnx.data"]
    assert (tmp_path / "m.onnx.data").read_text() == "old"


def test_what_does_not_fit_in_any_file(tmp_path, small_files):
    nodes = [helper.make_node("Relu", ["x"], ["y"], doc_string="x" * 20_000)]
    assert "more than 10000 bytes even" in message_of(
        lambda: save_model(made(nodes=nodes), tmp_path / "m.onnx"), ValueError
    )
    assert files(tmp_path) == []


def test_tensors_that_numpy_does_not_have_stay_in_the_model(tmp_path, small_files):
    odd = helper.make_tensor("odd", TensorProto.BFLOAT16, (2000,), [1.0] * 2000)
    words = helper.make_tensor("words", TensorProto.STRING, (200,), [b"0123456789"] * 200)
    source = large()
    source.graph.initializer.extend([odd, words])
    save_model(source, tmp_path / "m.onnx")
    loaded = load_model(tmp_path / "m.onnx")
    assert [t.data_type for t in loaded.graph.initializer] == [t.data_type for t in source.graph.initializer]
    assert list(loaded.graph.initializer[3:]) == [odd, words]


# --- input_infos ------------------------------------------------------------------------------------------------


def test_input_infos():
    inputs = [
        value("x", ("N", 3, 224, None)),
        value("one", (3,)),
        value("scalar", (), TensorProto.INT64),
        value("u", (2, 1), TensorProto.UINT8),
    ]
    infos = input_infos(made(inputs=inputs))
    assert infos == [
        InputInfo("x", (None, 3, 224, None), np.dtype(np.float32)),
        InputInfo("scalar", (), np.dtype(np.int64)),
        InputInfo("u", (2, 1), np.dtype(np.uint8)),
    ]
    assert [str(info) for info in infos] == [
        "'x' (float32 [?, 3, 224, ?])",
        "'scalar' (int64 [])",
        "'u' (uint8 [2, 1])",
    ]
    with pytest.raises(AttributeError):
        infos[0].name = "y"


@pytest.mark.parametrize("kind", DTYPES)
def test_dtypes(kind):
    info = input_infos(made(inputs=[value("x", (1,), kind)]))[0]
    assert info.dtype == helper.tensor_dtype_to_np_dtype(kind)
    assert type(info.dtype) is not type


def test_negative_dimensions_are_open():
    assert input_infos(made(inputs=[value("x", (-1, 0, 3))]))[0].shape == (None, 0, 3)


def test_sparse_initializers_are_no_inputs():
    source = made(inputs=[value("x"), value("s", (4,))])
    values = helper.make_tensor("s", TensorProto.FLOAT, (1,), [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, (1,), [2])
    source.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    assert [info.name for info in input_infos(source)] == ["x"]


def no_type():
    return onnx.ValueInfoProto(name="x")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (no_type(), "'x' has no type"),
        (helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, (1,)), "'x' is a sequence"),
        (helper.make_value_info("x", helper.make_optional_type_proto(value("y").type)), "'x' is a optional"),
        (helper.make_value_info("x", helper.make_map_type_proto(7, value("y").type)), "'x' is a map"),
        (helper.make_sparse_tensor_value_info("x", TensorProto.FLOAT, (1,)), "'x' is a sparse tensor"),
        (value("x", (1,), TensorProto.STRING), "'x' holds string"),
        (value("x", (1,), TensorProto.BFLOAT16), "'x' holds bfloat16"),
        (value("x", (1,), TensorProto.COMPLEX64), "'x' holds complex64"),
        (value("x", (1,), 0), "'x' holds undefined"),
        (value("x", (1,), 99), "'x' holds element type 99"),
        (value("x", None), "'x' has no shape"),
    ],
)
def test_inputs_that_cannot_be_fed(given, shown):
    source = made()
    source.graph.input[0].CopyFrom(given)
    assert shown in message_of(lambda: input_infos(source), ValueError)


def test_a_model_is_written_a_tensor_at_a_time(tmp_path, monkeypatch):
    model = onnx.load(digits_model())
    first, second = model.graph.initializer[:2]
    second.float_data.extend(numpy_helper.to_array(second).ravel())  # not all tensors have their numbers as bytes
    second.ClearField("raw_data")
    first.doc_string = "long: " + 300 * "ä"
    model.metadata_props.add(key="k", value="")
    model.graph.doc_string = "about it"
    model.doc_string = ""
    save_model(model, tmp_path / "model.onnx")
    assert onnx.load(tmp_path / "model.onnx") == model
    assert (tmp_path / "model.onnx").stat().st_size == len(model.SerializeToString())
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.run(None, {"image": np.zeros((1, 1, 28, 28), np.float32)})[0].shape == (1, 10)
