"""NumPy and the extension module, imported without an interrupt in between: NumPy makes an ImportError of one."""

from ._system.signals import blocked

with blocked("SIGINT"):
    import numpy

    from . import _core

__all__ = ["_core", "numpy"]
