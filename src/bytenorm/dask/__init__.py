"""Exact statistics and 8-bit batch norms on Dask arrays.

Needs Dask: ``pip install "bytenorm[dask]"``. ``bytenorm statistics`` does the same for files of NumPy arrays.
"""

try:
    import dask as _dask  # noqa: F401
    import distributed as _distributed  # noqa: F401
except ImportError as error:
    raise ImportError(f'bytenorm.dask needs {error.name}: pip install "bytenorm[dask]"', name=error.name) from None

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from .norms import batch_norm
    from .reduction import statistics

__all__ = ["batch_norm", "statistics"]

# Bring in Dask's arrays, and with them SciPy, whose OpenBLAS waits without end where memory is short.
_LATER = {"batch_norm": ".norms", "statistics": ".reduction"}


def __getattr__(name: str) -> _Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(_LATER[name], __name__), name)


def __dir__() -> list[str]:
    return __all__
