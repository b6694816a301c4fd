"""Exact statistics and 8-bit batch norms on Dask arrays.

Needs Dask: ``pip install "bytenorm[dask]"``. ``bytenorm statistics`` does the same for files of NumPy arrays.
"""

try:
    import dask as _dask  # noqa: F401
    import distributed as _distributed  # noqa: F401
except ImportError as error:
    raise ImportError(f'bytenorm.dask needs {error.name}: pip install "bytenorm[dask]"', name=error.name) from None

from typing import TYPE_CHECKING as _TYPE_CHECKING

from .._late_names import late_names as _late_names

if _TYPE_CHECKING:
    from .norms import batch_norm
    from .reduction import statistics

__all__ = ["batch_norm", "statistics"]

# Bring in Dask's arrays, and with them SciPy, whose OpenBLAS waits without end where memory is short.
_LATER = {"batch_norm": ".norms", "statistics": ".reduction"}

__getattr__ = _late_names(__name__, _LATER)


def __dir__() -> list[str]:
    return __all__
