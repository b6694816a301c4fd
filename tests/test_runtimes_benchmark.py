"""The table of runtimes: what fills a cell, also where a runtime refuses a model or dies of it."""

import signal
import sys

import numpy as np
import onnx
import pytest
from benchmarks.runtimes import Cell, Runtime, _made, _runtimes, _words

TEXT = """<ir_version: 9, opset_import: ["": 19]> small (float[N, 2] x) => (float[N, 2] y) { y = %s (x) }"""


@pytest.fixture
def samples(tmp_path):
    np.save(tmp_path / "samples.npy", np.array([[1, -2], [-3, 4], [5, 6]], np.float32))
    return tmp_path / "samples.npy"


def test_each_sample_goes_through_the_runtime(samples):
    found = {runtime.name: runtime for runtime in _runtimes([sys.executable, sys.executable])}
    assert {"onnxruntime", "reference"} <= found.keys()
    for name in ("onnxruntime", "reference"):
        assert found[name].title.endswith(found[name].version)
        cell = _made(found[name], onnx.parser.parse_model(TEXT % "Relu"), samples)
        np.testing.assert_array_equal(cell.outputs, [[1, 0], [0, 4], [5, 6]])


def test_a_model_that_is_refused_has_the_reason(samples):
    cell = _made(
        Runtime("onnxruntime", "", sys.executable), onnx.parser.parse_model(TEXT % "NoSuchThing"), samples
    )
    assert (cell.outputs, cell.words) == (None, "no")
    assert "NoSuchThing" in cell.reason
    assert "/" not in cell.reason  # no path of a machine


def test_a_runtime_that_dies_is_a_cell(samples, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -SEGV $$\n")
    python.chmod(0o755)
    cell = _made(Runtime("openvino", "", str(python)), onnx.parser.parse_model(TEXT % "Relu"), samples)
    assert cell == Cell(None, f"crashes ({signal.SIGSEGV.name})")


def test_decibels_and_equal_bits():
    wanted = np.array([[10, 0], [0, 10], [10, 0]], np.float32)
    near, far = wanted + np.float32(1), wanted * 2
    first = Cell(near)
    assert _words(first, wanted, first) == "17.0"  # 100 over 2
    assert _words(Cell(near.copy()), wanted, first) == "17.0 ="
    assert _words(Cell(far), wanted, first) == "0.0"
    assert _words(Cell(None, "no"), wanted, first) == "no"
