"""Batch normalization on 8-bit data in ONNX models.

Needs onnx and onnxruntime: ``pip install "bytenorm[onnx]"``.
"""

try:
    import onnx as _onnx  # noqa: F401
    import onnxruntime as _onnxruntime  # noqa: F401
except ImportError as error:
    raise ImportError(f'bytenorm.onnx needs {error.name}: pip install "bytenorm[onnx]"', name=error.name) from None

from .accuracy import QuantizationWarning
from .comparison import Comparison, OutputComparison, compare
from .data import ImageInput
from .digits import digits_model
from .inspection import BatchNormInfo, Inspection, inspect
from .lowering import LoweringWarning, lower
from .quantization import quantize
from .runtime import custom_op_library, register, session
from .saturation import SaturationWarning, sums_saturate

__all__ = [
    "BatchNormInfo",
    "Comparison",
    "ImageInput",
    "Inspection",
    "LoweringWarning",
    "OutputComparison",
    "QuantizationWarning",
    "SaturationWarning",
    "compare",
    "custom_op_library",
    "digits_model",
    "inspect",
    "lower",
    "quantize",
    "register",
    "session",
    "sums_saturate",
]
