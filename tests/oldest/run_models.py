"""Run the models of write_models.py with the installed ONNX Runtime, and compare.

Usage: python run_models.py FOLDER LIBRARY. Needs onnxruntime and NumPy alone, of any version that fits: the
operator comes from the library's path. Every result must be that of the newest ONNX Runtime, bit for bit: with the
library, where the operator itself has to run, and without it, where the model's function does. What is named
refused must be refused with the library.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort

OPERATORS = {f"QLinear{fused}BatchNormalization" for fused in ("", "Concat", "Add")}


def load(file):
    """Return the inputs and the outputs that belong to a model."""
    inputs, outputs = {}, {}
    with np.load(file) as arrays:
        for name in arrays.files:
            kind, _, key = name.partition(" ")
            (inputs if kind == "input" else outputs)[key] = arrays[name]
    return inputs, outputs


def run(model, inputs, names, library, threads):
    """Return the outputs and the operators that ran."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        if library:
            options.register_custom_ops_library(library)
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        outputs = session.run(names, inputs)
        profile = json.loads(Path(session.end_profiling()).read_text())
    return outputs, {event["args"]["op_name"] for event in profile if "op_name" in event.get("args", {})}


def problem(model, library, threads):
    """Say what is wrong with a model here; empty if nothing is."""
    inputs, wanted = load(model.with_suffix(".npz"))
    outputs, operators = run(model, inputs, list(wanted), library, threads)
    if bool(OPERATORS & operators) != (bool(library) and model.name.startswith("exact")):
        return f"it ran {sorted(operators)}"
    for (name, want), got in zip(wanted.items(), outputs, strict=True):
        if got.dtype != want.dtype or got.shape != want.shape:
            return f"{name} is {got.dtype} {got.shape} instead of {want.dtype} {want.shape}"
        differ = np.count_nonzero(got != want)
        if differ:
            most = np.abs(got.astype(np.float64) - want.astype(np.float64)).max()
            return f"{name} differs in {differ} of {want.size} elements, by at most {most}"
    return ""


def is_refused(model, library):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(library)
    try:
        ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return "QLinear" in str(error)
    return False


def main():
    folder, library = Path(sys.argv[1]), sys.argv[2]
    refused = sorted(folder.glob("refused-*.onnx"))
    models = sorted(set(folder.glob("*.onnx")) - set(refused))
    if not models or not refused:
        return f"{folder}: no models"
    failed = 0
    for model in refused:
        if not is_refused(model, library):
            failed += 1
            print(f"{model.name}: was not refused", file=sys.stderr)
    for model in models:
        for path in (library, ""):
            for threads in (1, 2):
                wrong = problem(model, path, threads)
                failed += bool(wrong)
                if wrong:
                    how = f"{'with' if path else 'without'} the library, {threads} threads"
                    print(f"{model.name}, {how}: {wrong}", file=sys.stderr)
    if {"onnx", "bytenorm"} & set(sys.modules):
        return "onnx or bytenorm was imported: the library alone has to do"
    print(f"ONNX Runtime {ort.__version__}, NumPy {np.__version__}: {len(models)} models, {failed} failed runs")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
