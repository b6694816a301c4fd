"""Batch normalization on 8-bit data."""

from . import _whole_imports  # noqa: F401 (before all others)
from ._config import __version__, get_num_threads, set_num_threads, show_config
from ._dtypes import DType, QScheme, per_channel_affine, per_tensor_affine, qint8, quint8
from ._norms.batch_norm import BatchNorm
from ._norms.concat_and_add import add_batch_norm, concat_batch_norm
from ._norms.integer_batch_norm import IntegerBatchNorm
from ._norms.quantized_batch_norm import quantized_batch_norm
from ._tensors.quantize import (
    dequantize,
    quantize_per_channel,
    quantize_per_tensor,
    quantize_per_tensor_dynamic,
    requantize,
)
from ._tensors.tensor import QuantizedTensor

__all__ = [
    "BatchNorm",
    "DType",
    "IntegerBatchNorm",
    "QScheme",
    "QuantizedTensor",
    "__version__",
    "add_batch_norm",
    "concat_batch_norm",
    "dequantize",
    "get_num_threads",
    "per_channel_affine",
    "per_tensor_affine",
    "qint8",
    "quantize_per_channel",
    "quantize_per_tensor",
    "quantize_per_tensor_dynamic",
    "quantized_batch_norm",
    "quint8",
    "requantize",
    "set_num_threads",
    "show_config",
]
