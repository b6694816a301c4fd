"""Faults of libraries and of the machine, and what is missing."""

import logging
import sys
import tempfile
import warnings

import pytest
from command_line import COMMANDS, DIGITS
from PIL import Image

from bytenorm import __version__
from bytenorm.onnx.measurement import inspection


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        TypeError("Couldn't build proto file into descriptor pool: out of memory"),  # protobuf's
        RuntimeError("std::bad_alloc"),
    ],
    ids=repr,
)
def test_what_libraries_make_of_too_little_memory(error, run, monkeypatch):
    def fail(_, **_options):
        raise error

    monkeypatch.setattr(inspection, "find_norms", fail)
    code, out, err = run("inspect", DIGITS)
    assert (code, out) == (2, "")
    assert err.startswith("bytenorm: error: ")
    assert err.endswith("not enough memory\n")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "error", [KeyError("x"), AttributeError("x"), TypeError("x"), AssertionError("x")], ids=repr
)
def test_a_fault_is_one_line(error, run, monkeypatch):
    def fail(_, **_options):
        raise error

    monkeypatch.setattr(inspection, "find_norms", fail)
    code, out, err = run("inspect", DIGITS)
    assert (code, out) == (1, "")
    said = f"{type(error).__name__}: {error}"
    assert err == f"bytenorm: error: a fault of bytenorm or of a library, --traceback says where: {said}\n"
    code, out, err = run("inspect", DIGITS, "--traceback")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert ", in fail\n" in err


@pytest.mark.parametrize("line", ["inspect missing --traceback", "--traceback inspect missing"])
def test_traceback_of_bad_input(line, run):
    code, out, err = run(*line.split())
    assert (code, out) == (2, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("\nbytenorm: error: model 'missing' does not exist\n")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("Failed to allocate memory for requested buffer of size 3"),
        SystemError("<built-in method> returned NULL without setting an exception"),
        SystemError("error return without exception set"),
    ],
    ids=lambda error: str(error)[-16:],
)
def test_memory_that_is_missing(complaint, monkeypatch, error):
    def none(_, **_options):
        raise error

    monkeypatch.setattr(inspection, "find_norms", none)
    assert complaint("inspect", DIGITS) == "not enough memory"


def test_no_folder_of_temporary_files(made, place, output, complaint, monkeypatch):
    def none(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found in ['/nowhere']")

    monkeypatch.setattr(tempfile, "mkdtemp", none)
    output("inspect", DIGITS)
    output("lower", made / "stock.onnx", "-o", "out.onnx")
    text = complaint("quantize", DIGITS, "--data", made / "data.npz", "-o", "other.onnx")
    assert text == "No usable temporary directory found in ['/nowhere']"
    assert [path.name for path in place.iterdir()] == ["out.onnx"]


def test_nobody_reads_the_errors(run, monkeypatch):
    def gone(_):
        raise BrokenPipeError

    monkeypatch.setattr(sys.stderr, "write", gone)
    assert run("inspect", "missing")[0] == 2


def test_the_process_is_left_as_it_was(made, place, output, complaint, monkeypatch):
    monkeypatch.setattr(logging.root.manager, "disable", 7)
    before = warnings.filters[:], logging.root.level, logging.root.manager.disable, logging.root.handlers[:]
    output("quantize", DIGITS, "--data", made / "data.npz", "-o", "out.onnx")
    complaint("quantize", DIGITS, "--data", made / "missing.npz", "-o", "other.onnx")
    after = warnings.filters[:], logging.root.level, logging.root.manager.disable, logging.root.handlers[:]
    assert after == before


def test_remarks_of_libraries_are_not_shown(output, monkeypatch):
    find_norms = inspection.find_norms

    def remark(graph, **options):
        warnings.warn("a library will change", DeprecationWarning, stacklevel=1)
        logging.getLogger("library").error("a library has something to say")
        return find_norms(graph, **options)

    monkeypatch.setattr(inspection, "find_norms", remark)
    output("inspect", DIGITS)


@pytest.mark.parametrize("module", ["onnx", "onnxruntime", "rich"])
def test_what_is_missing_is_named(module, complaint, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    assert complaint("inspect", DIGITS) == f'needs {module}: pip install "bytenorm[onnx]"'


def test_help_needs_no_extra(run_python):
    code = f"""
import sys
for name in ("onnx", "onnxruntime", "rich", "PIL"):
    sys.modules[name] = None
from bytenorm.cli import main
assert main(["--version"]) == 0
for command in {COMMANDS}:
    assert main([command, "--help"]) == 0
sys.exit(main(["inspect", "model.onnx"]))
"""
    done = run_python(code)
    assert done.returncode == 2
    assert done.stderr == 'bytenorm: error: needs onnx: pip install "bytenorm[onnx]"\n'
    assert done.stdout.startswith(f"bytenorm {__version__}\nusage: bytenorm inspect")


def test_images_without_pillow(place, complaint, monkeypatch):
    Image.new("L", (28, 28)).save("picture.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    text = complaint("quantize", DIGITS, "--data", "picture.png", "-o", "out.onnx")
    assert text.endswith('images need Pillow: pip install "bytenorm[onnx]"')
