"""Sessions of ONNX Runtime whose 8-bit sums are exact on every CPU."""

import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

from bytenorm import onnx as bno


def exact_session(model, *, library=False):
    """Open a model in ONNX Runtime, by default as it is without bytenorm's library.

    The entry has to be 0 for int8 activations in QOperator format: there sums are exact by themselves, and with 1
    there is no kernel.
    """
    for entry in ("1", "0"):
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.x64quantprecision", entry)
        if library:
            bno.register(options)
        try:
            return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except NoKernel:
            if entry == "0":
                raise
    raise AssertionError
