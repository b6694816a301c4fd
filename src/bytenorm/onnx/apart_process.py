"""The other process of `apart`: it makes a session and answers with what that makes, until nobody asks any more.

It is started by its path and imports nothing of the package, so that it is there in half the time.
"""

import os
import pickle
import sys
from typing import Any


def serve() -> None:
    """Answer the process that started this one."""
    source, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    made = None
    while True:
        try:
            question = pickle.load(source)
        except EOFError:
            return
        reply: tuple[Any, str]
        try:
            if made is None:
                made = _opened(*question)
                ends = made.get_inputs(), made.get_outputs()
                reply = [[(end.name, end.type, end.shape) for end in some] for some in ends], ""
            else:
                reply = made.run(*question), ""
        except Exception as error:  # ONNX Runtime has a class for each of its codes, without a common parent
            reply = None, " ".join(str(error).split()) or type(error).__name__
        pickle.dump(reply, out, protocol=5)
        out.flush()


def _opened(path: list[str], library: str, model: bytes | str, options: dict[str, Any]) -> Any:
    sys.path[:] = path
    import onnxruntime  # noqa: PLC0415 (it is found now)

    sess_options = onnxruntime.SessionOptions()
    for name, value in options.items():
        plain = not isinstance(value, tuple)
        setattr(sess_options, name, value if plain else getattr(getattr(onnxruntime, value[0]), value[1]))
    sess_options.register_custom_ops_library(library)
    return onnxruntime.InferenceSession(model, sess_options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    serve()
