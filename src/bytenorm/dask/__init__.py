"""Exact statistics and 8-bit batch norms on Dask arrays.

Needs Dask: ``pip install "bytenorm[dask]"``. ``bytenorm statistics`` does the same for files of NumPy arrays.
"""

try:
    import dask as _dask  # noqa: F401
    import distributed as _distributed  # noqa: F401
except ImportError as error:
    raise ImportError(f'bytenorm.dask needs {error.name}: pip install "bytenorm[dask]"', name=error.name) from None

from .norms import batch_norm
from .reduction import statistics

__all__ = ["batch_norm", "statistics"]
