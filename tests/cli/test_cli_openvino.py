"""``bench --runtime openvino``, with a stand-in for OpenVINO: the command's own logic, not OpenVINO's numbers.

The stand-in has the calls that bytenorm makes, runs models with ONNX Runtime, and fails as OpenVINO 2026.4.1 does.
"""

import json
import sys

import numpy as np
import onnx
import pytest

from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.onnx.run.openvino_runs import InOpenVINO

DIGITS = bno.digits_model()
STAND_IN = """
import json, os, pathlib, signal
import onnxruntime

__version__ = "2026.4.1-22982-e213a147257-releases/2026/4"
HERE = pathlib.Path(__file__).parent
UNKNOWN = (
    "Exception from src/inference/src/cpp/core.cpp:132:\\nException from src/inference/src/dev/plugin.cpp:59:\\n"
    "Check 'false' failed at src/frontends/common_translators/src/unconverted_ops_report.cpp:151:\\n"
    "FrontEnd API failed with OpConversionFailure:\\nModel wasn't fully converted.\\nSummary:\\n"
    "-- No conversion rule found for operations: bytenorm.QLinearBatchNormalization\\n\\n\\n"
)


class Tensor:
    def __init__(self, data):
        self.data = data


class Read:
    def __init__(self, path):
        self.path, self.shapes = path, None

    def is_dynamic(self):
        return True

    def reshape(self, shapes):
        self.shapes = shapes


class Request:
    def __init__(self, read):
        import numpy
        self.session = onnxruntime.InferenceSession(read.path, providers=["CPUExecutionProvider"])
        self.tensors = {name: Tensor(numpy.zeros(shape, "f4")) for name, shape in read.shapes.items()}

    def get_tensor(self, name):
        return self.tensors[name]

    def infer(self):
        assert all(tensor.data.any() for tensor in self.tensors.values())
        self.session.run(None, {name: tensor.data for name, tensor in self.tensors.items()})


class Compiled:
    def __init__(self, read):
        self.read = read

    def create_infer_request(self):
        return Request(self.read)


class Core:
    def read_model(self, path):
        print("what a library says")
        if path.endswith("exact.onnx"):
            raise RuntimeError(UNKNOWN)
        return Read(path)

    def compile_model(self, read, device, config):
        if read.path.endswith("dies.onnx"):
            os.kill(os.getpid(), signal.SIGSEGV)
        (HERE / "config.json").write_text(json.dumps([os.getpid(), device, config, read.shapes]))
        return Compiled(read)
"""
UNKNOWN = (
    "Model wasn't fully converted. -- No conversion rule found for operations: bytenorm.QLinearBatchNormalization"
    "; it has none of bytenorm's operators: use the lowering portable or qdq"
)
DIED = "it ended its process (SIGSEGV)"


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Return a folder with models, where a module of OpenVINO's name is found."""
    (tmp_path / "openvino.py").write_text(STAND_IN)
    for name in ("exact.onnx", "dies.onnx"):
        onnx.save(onnx.load(DIGITS), tmp_path / name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    yield tmp_path
    sys.modules.pop("openvino", None)


def test_without_openvino_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)  # as where it is not installed
    assert main(["bench", DIGITS, "--runtime", "openvino"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", 'bytenorm: error: needs openvino: pip install "bytenorm[openvino]"\n')


def test_rows_of_both_runtimes_and_why_some_are_missing(stand_in, capsys):
    exact, dies = stand_in / "exact.onnx", stand_in / "dies.onnx"
    assert main(["bench", DIGITS, str(exact), str(dies), "--runtime", "openvino", "--repeats", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [line.partition("  ")[0] for line in lines[1:5]]
    assert heads == [DIGITS, f"{DIGITS} in OpenVINO", str(exact), str(dies)]
    assert lines[2].split()[-3:] == ["-"] * 3  # its profile is ONNX Runtime's alone
    assert lines[5:7] == [f"{exact} in OpenVINO: {UNKNOWN}", f"{dies} in OpenVINO: {DIED}"]
    assert lines[7].endswith("; OpenVINO 2026.4.1, a process for each model")


def test_json_has_the_same_keys_for_both_runtimes(stand_in, capsys):
    arguments = ["bench", DIGITS, str(stand_in / "dies.onnx"), "--runtime", "openvino", "--repeats", "3", "--json"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["openvino"] == "2026.4.1"
    first, there, second, gone = found["models"]
    assert [model["runtime"] for model in found["models"]] == ["onnxruntime", "openvino"] * 2
    assert first.keys() == there.keys() == second.keys() == gone.keys()
    assert there["runs"] == 3
    assert there["speed"] == pytest.approx(first["median_ms"] / there["median_ms"])
    assert (there["profile"], there["problem"], second["problem"]) == (None, "", "")
    assert [gone[name] for name in ("median_ms", "q1_ms", "q3_ms", "fastest_ms", "runs", "speed")] == [None] * 6
    assert gone["problem"] == DIED


def test_only_models_that_do_not_run_there(stand_in, capsys):
    arguments = ["bench", str(stand_in / "exact.onnx"), "--runtime", "openvino", "--repeats", "1"]
    assert main(arguments) == 0
    assert UNKNOWN in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["openvino"] is None
    assert [model["problem"] for model in found["models"]] == ["", UNKNOWN]


def test_what_openvino_is_told(stand_in):
    feeds = {"image": np.ones((3, 1, 28, 28), np.float32)}
    made = InOpenVINO(DIGITS, feeds, 2)
    assert made.version == "2026.4.1"
    assert 0 < made.timed() < 10
    process, device, config, shapes = json.loads((stand_in / "config.json").read_text())
    assert process == made._process._process.pid  # not this one
    assert device == "CPU"
    assert shapes == {"image": [3, 1, 28, 28]}  # the model leaves the batch open
    assert config == {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": 2,
        "ENABLE_CPU_PINNING": False,
    }


def test_a_process_that_ends_later_is_an_error(stand_in):
    made = InOpenVINO(DIGITS, {"image": np.ones((1, 1, 28, 28), np.float32)}, 1)
    made._process._process.kill()
    with pytest.raises(ValueError, match=r"^it ended its process \(SIGKILL\)$"):
        made.timed()
