"""One model in one runtime: a process of its own, for `runtimes`, in whichever environment has the runtime.

``python runtime_cell.py`` tells as JSON which runtimes there are and their versions. With the name of one, a
model, samples (.npy) and a file to write, it writes what the model makes of each sample. It needs no bytenorm.
"""

import json
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

Run = Callable[[Any], Any]  # from a batch of one to the first output


def onnxruntime(path: str) -> Run:
    """Return a run in ONNX Runtime, one thread, no library of ours."""
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda sample: session.run(None, {name: sample})[0]


def openvino(path: str) -> Run:
    """Return a run in OpenVINO on one thread."""
    compiled = import_module("openvino").Core().compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": 1})
    return lambda sample: compiled([sample])[0]


def reference(path: str) -> Run:
    """Return a run in ONNX's reference evaluator."""
    evaluator = import_module("onnx.reference").ReferenceEvaluator(path)
    name = evaluator.input_names[0]
    return lambda sample: evaluator.run(None, {name: sample})[0]


RUNTIMES = {"onnxruntime": onnxruntime, "openvino": openvino, "reference": reference}


def _versions() -> dict[str, str]:
    found = {}
    for runtime in RUNTIMES:
        try:
            found[runtime] = version("onnx" if runtime == "reference" else runtime).partition("-")[0]
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Run what the command line asks for."""
    if len(sys.argv) == 1:
        sys.stdout.write(json.dumps(_versions()))
        return
    import numpy as np

    runtime, model, samples, target = sys.argv[1:]
    run = RUNTIMES[runtime](model)
    np.save(target, np.concatenate([run(sample[np.newaxis]) for sample in np.load(samples)]))


if __name__ == "__main__":
    main()
