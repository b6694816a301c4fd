"""NumPy and the extension module, imported without an interrupt in between: NumPy makes an ImportError of one."""

import signal

_before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
try:
    import numpy

    from . import _core
finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, _before)  # and now it comes

__all__ = ["_core", "numpy"]
