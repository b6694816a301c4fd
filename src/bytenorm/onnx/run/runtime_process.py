"""The other process: it opens a model in a runtime and answers with what that makes, until nobody asks any more.

It is started by its path and imports nothing of the package, so that it is there in half the time.
"""

import os
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any


def serve(opened: Callable[..., tuple[Callable[..., Any], Any]]) -> None:
    """Answer the process that started this one: first what `opened` tells of a model, then what that makes."""
    source, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    run = None
    while True:
        try:
            question = pickle.load(source)
        except EOFError:
            return
        reply: tuple[Any, str]
        try:
            if run is None:
                run, told = opened(*question)
                reply = told, ""
            else:
                reply = run(*question), ""
        except Exception as error:  # each runtime has classes of its own, without a common parent
            reply = None, " ".join(str(error).split()) or type(error).__name__
        pickle.dump(reply, out, protocol=5)
        out.flush()


def in_onnxruntime(path: list[str], library: str, model: bytes | str, options: dict[str, Any]) -> tuple[Any, Any]:
    """Return what runs a model, as a session does, and its ends."""
    sys.path[:] = path
    import onnxruntime  # noqa: PLC0415 (it is found now)

    sess_options = onnxruntime.SessionOptions()
    for name, value in options.items():
        plain = not isinstance(value, tuple)
        setattr(sess_options, name, value if plain else getattr(getattr(onnxruntime, value[0]), value[1]))
    sess_options.register_custom_ops_library(library)
    made = onnxruntime.InferenceSession(model, sess_options, providers=["CPUExecutionProvider"])
    ends = made.get_inputs(), made.get_outputs()
    return made.run, [[(end.name, end.type, end.shape) for end in some] for some in ends]


def in_openvino(path: list[str], model: str, feeds: dict[str, Any], threads: int) -> tuple[Any, str]:
    """Return what runs a model twice on the same inputs and times the second run, and the version."""
    sys.path[:] = path
    import openvino  # noqa: PLC0415

    read = openvino.Core().read_model(model)
    if read.is_dynamic():  # the sizes of this run, as for a model that is meant to be fast
        read.reshape({name: list(array.shape) for name, array in feeds.items()})
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # ONNX Runtime's threads are not bound to cores either
    }
    request = openvino.Core().compile_model(read, "CPU", config).create_infer_request()
    for name, array in feeds.items():
        request.get_tensor(name).data[...] = array
    request.infer()

    def timed() -> float:
        request.infer()
        begin = time.perf_counter()
        request.infer()
        return time.perf_counter() - begin

    return timed, openvino.__version__


if __name__ == "__main__":
    serve(in_openvino if sys.argv[1] == "openvino" else in_onnxruntime)
