"""OpenVINO, one thread: on the stock quantizer's model, on what its own, NNCF, makes of the float, and on ours.

``python -m benchmarks.networks.openvino_peer MODEL`` compiles a model and runs it once. Every model goes through
that in a process of its own first, for OpenVINO can end a process instead of raising an error.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bytenorm import onnx as bno

from ..runner import ROOT
from .entry import Array, Entry
from .network import Network
from .onnxruntime_runs import bytenorm_model

CONFIG = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "PERFORMANCE_HINT": "LATENCY",
    "ENABLE_CPU_PINNING": False,  # the process is on one core already
}


def stock_qdq(network: Network) -> Entry:
    """Return the stock quantizer's model, read by OpenVINO."""
    return _written(network, network.stock)


def portable(network: Network) -> Entry:
    """Return bytenorm's model in standard operators, read by OpenVINO."""
    return _written(network, bytenorm_model(network.model, network.calibration, "portable"))


def qdq(network: Network) -> Entry:
    """Return bytenorm's model whose norms are in float between conversions, read by OpenVINO."""
    return _written(network, bytenorm_model(network.model, network.calibration, "qdq"))


def nncf(network: Network) -> Entry:
    """Return the float model, read by OpenVINO and quantized by NNCF."""
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder, "float.onnx"), Path(folder, "quantized.xml")
        onnx.save(network.model, source)
        openvino = importlib.import_module("openvino")
        model = openvino.Core().read_model(source)
        openvino.save_model(_nncf_quantized(model, network), path, compress_to_fp16=False)
        return _entry(network, path)


def nncf_onnx(network: Network) -> Entry:
    """Return the float model, quantized by NNCF as an ONNX model and then read by OpenVINO."""
    return _written(network, _nncf_quantized(network.model, network))


def _written(network: Network, model: onnx.ModelProto) -> Entry:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.save(model, path)
        return _entry(network, path)


def _nncf_quantized(model: Any, network: Network) -> Any:
    os.environ.setdefault("NNCF_CI", "1")  # or it wants to send statistics about its use
    nncf_package = importlib.import_module("nncf")
    nncf_package.set_log_level(logging.ERROR)
    name = network.model.graph.input[0].name
    feeds = [{name: image[np.newaxis]} for image in network.calibration]
    options = {}
    if bno.sums_saturate():  # 7-bit weights in all layers; by default NNCF takes them in the first one
        fix = nncf_package.OverflowFix.ENABLE
        options["advanced_parameters"] = nncf_package.AdvancedQuantizationParameters(overflow_fix=fix)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        return nncf_package.quantize(model, nncf_package.Dataset(feeds), subset_size=len(feeds), **options)


def _entry(network: Network, path: Path) -> Entry:
    _probe(path)
    compiled = _compiled(path)
    timed, asked = compiled.create_infer_request(), compiled.create_infer_request()
    timed.get_input_tensor().data[:] = network.held_out[:1]

    def logits(image: Array) -> Array:
        asked.infer([image])
        return np.array(asked.get_output_tensor().data)

    return Entry(logits, timed.infer)


def _compiled(path: Path) -> Any:
    core = importlib.import_module("openvino").Core()
    return core.compile_model(core.read_model(path), "CPU", CONFIG)


def _probe(path: Path) -> None:
    """Compile and run a model elsewhere.

    Raises
    ------
    RuntimeError
        That did not go well.
    """
    command = [sys.executable, "-m", f"{__package__}.openvino_peer", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        raise RuntimeError(f"its process ends with {signal.Signals(-done.returncode).name} on this model")
    if done.returncode:
        raise RuntimeError(next(reversed(done.stderr.strip().splitlines()), f"exit {done.returncode}"))


def main() -> None:
    """Compile the model that the command line names and run it once."""
    _compiled(Path(sys.argv[1])).create_infer_request().infer()


if __name__ == "__main__":
    main()
