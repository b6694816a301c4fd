"""Sessions of ONNX Runtime whose 8-bit sums are exact on every CPU."""

import onnxruntime as ort

from bytenorm import onnx as bno
from bytenorm.onnx.run.uint8_weights import unsigned_weights


def exact_session(model, *, library=False):
    """Open a model in ONNX Runtime, by default as it is without bytenorm's library.

    tests/test_onnx_saturation.py compares what it computes with integer arithmetic.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if library:
        bno.register(options)
    exact = unsigned_weights(model).SerializeToString()
    return ort.InferenceSession(exact, options, providers=["CPUExecutionProvider"])
