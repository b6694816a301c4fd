"""The command in this process, with models and data to work on."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import DIGITS, parsed

from bytenorm.cli import main


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Return a folder with data and with models: 8-bit ones of the command, and one that is only quantized."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(7)
    np.savez(folder / "data.npz", image=rng.random((6, 1, 28, 28), dtype=np.float32))
    assert main(["quantize", DIGITS, "--data", f"{folder}/data.npz", "-o", f"{folder}/portable.onnx"]) == 0
    (folder / "stock.onnx").write_bytes(
        parsed(
            """g (uint8[N, 2, 4, 4] x) => (uint8[N, 2, 4, 4] y, float[N, 2, 4, 4] seen)
            <float s = {0.1}, uint8 z = {128}, float[2] w = {1.0, 0.5}, float[2] b = {0.0, 1.0}> {
                a = DequantizeLinear (x, s, z)
                first = BatchNormalization (a, w, b, b, w)
                c = QuantizeLinear (first, s, z)
                d = DequantizeLinear (c, s, z)
                seen = BatchNormalization (d, w, b, b, w)
                y = QuantizeLinear (seen, s, z)
            }"""
        )
    )
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """Work in an empty folder, beside copies of nothing; temporary files go to a folder that is looked at."""
    temporary = tmp_path / "temporary"
    work = tmp_path / "work"
    temporary.mkdir()
    work.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(work)
    yield work
    assert list(temporary.iterdir()) == []


@pytest.fixture
def run(capsys):
    """Run the command in this process and return its exit code, stdout and stderr."""

    def call(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        return code, out, err

    return call


@pytest.fixture
def output(run):
    """Run the command, which has to work, and return its stdout."""

    def call(*arguments):
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        return out

    return call


@pytest.fixture
def complaint(run):
    """Run the command, which has to refuse, and return what it says."""

    def call(*arguments):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("bytenorm: error: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert "Traceback" not in err
        return err.removeprefix("bytenorm: error: ").rstrip("\n")

    return call


@pytest.fixture
def bad(made, place):
    """Fill the folder with what is no model, no data and no place for output."""
    (place / "folder").mkdir()
    (place / "text.onnx").write_text("no model")
    (place / "empty.onnx").write_bytes(b"")
    (place / "truncated.onnx").write_bytes(Path(DIGITS).read_bytes()[:150_000])
    (place / "there.onnx").write_bytes(b"precious")
    (place / "link.onnx").symlink_to("nowhere/at.all")
    model = onnx.load_model(DIGITS)
    model.opset_import[0].version = 99
    (place / "opset.onnx").write_bytes(model.SerializeToString())
    model = onnx.load_model(DIGITS)
    del next(node for node in model.graph.node if node.name == "stem/norm").input[:]
    (place / "invalid.onnx").write_bytes(model.SerializeToString())
    (place / "other.onnx").write_bytes(parsed("g (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }"))
    (place / "open.onnx").write_bytes(parsed("g (float[N, 3, H] pic) => (float[N, 3, H] y) { y = Relu (pic) }"))
    samples = np.load(made / "data.npz")["image"]
    np.savez("nan.npz", image=np.where(samples > 0.5, np.float32(np.nan), samples))
    np.savez("double.npz", image=samples.astype(np.float64))
    np.savez("names.npz", picture=samples, label=samples)
    np.savez("none.npz", image=samples[:0])
    (place / "damaged.npz").write_bytes((made / "data.npz").read_bytes()[:5000])
    return place
