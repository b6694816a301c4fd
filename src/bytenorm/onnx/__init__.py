"""Batch normalization on 8-bit data in ONNX models.

Needs onnx and onnxruntime: ``pip install "bytenorm[onnx]"``.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

try:
    import onnx as _onnx  # noqa: F401
    import onnxruntime as _onnxruntime  # noqa: F401
except ImportError as error:
    raise ImportError(f'bytenorm.onnx needs {error.name}: pip install "bytenorm[onnx]"', name=error.name) from None

from .data.digits import digits_model
from .data.images import ImageInput
from .disguise.prepare_and_restore import prepare, restore
from .lowering.lower import lower
from .lowering.outcomes import LoweringWarning
from .measurement.accuracy import QuantizationWarning
from .measurement.compare import compare
from .measurement.comparison import Comparison, OutputComparison
from .measurement.inspection import BatchNormInfo, Inspection, inspect
from .run.saturation import SaturationWarning, sums_saturate
from .run.session import custom_op_library, register, session

if _TYPE_CHECKING:
    from .quantization.quantize import quantize, quantize_with_report
    from .quantization.report import QuantizationReport

__all__ = [
    "BatchNormInfo",
    "Comparison",
    "ImageInput",
    "Inspection",
    "LoweringWarning",
    "OutputComparison",
    "QuantizationReport",
    "QuantizationWarning",
    "SaturationWarning",
    "compare",
    "custom_op_library",
    "digits_model",
    "inspect",
    "lower",
    "prepare",
    "quantize",
    "quantize_with_report",
    "register",
    "restore",
    "session",
    "sums_saturate",
]


def __getattr__(name: str) -> _Any:
    if name not in ("QuantizationReport", "quantize", "quantize_with_report"):  # which bring in its quantizer
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import_module(".quantization.quantize", __name__), name)


def __dir__() -> list[str]:
    return __all__
