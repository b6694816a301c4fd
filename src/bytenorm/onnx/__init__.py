"""Batch normalization on 8-bit data in ONNX models.

Needs onnx and onnxruntime: ``pip install "bytenorm[onnx]"``.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

try:
    import onnx as _onnx  # noqa: F401
    import onnxruntime as _onnxruntime  # noqa: F401
except ImportError as error:
    raise ImportError(f'bytenorm.onnx needs {error.name}: pip install "bytenorm[onnx]"', name=error.name) from None

from .._late_names import late_names as _late_names
from .._outcomes import LoweringWarning, Outcome
from .data.dataset import Dataset, open_data
from .data.digits import digits_model
from .data.images import ImageInput
from .disguise.prepare_and_restore import prepare, restore
from .lowering.lower import lower, lower_with_report
from .measurement.accuracy import QuantizationWarning
from .measurement.compare import compare
from .measurement.comparison import Comparison, OutputComparison
from .measurement.feeds import random_feeds, session_options
from .measurement.inspection import BatchNormInfo, Inspection, inspect
from .measurement.profile import Profile, profile
from .measurement.timing import Timing, measure
from .model.files import load_model, save_model
from .run.saturation import SaturationWarning, sums_saturate
from .run.session import custom_op_library, register, session

if _TYPE_CHECKING:
    from .quantization.quantize import quantize, quantize_with_report
    from .quantization.report import QuantizationReport

__all__ = [
    "BatchNormInfo",
    "Comparison",
    "Dataset",
    "ImageInput",
    "Inspection",
    "LoweringWarning",
    "Outcome",
    "OutputComparison",
    "Profile",
    "QuantizationReport",
    "QuantizationWarning",
    "SaturationWarning",
    "Timing",
    "compare",
    "custom_op_library",
    "digits_model",
    "inspect",
    "load_model",
    "lower",
    "lower_with_report",
    "measure",
    "open_data",
    "prepare",
    "profile",
    "quantize",
    "quantize_with_report",
    "random_feeds",
    "register",
    "restore",
    "save_model",
    "session",
    "session_options",
    "sums_saturate",
]

# They bring in its quantizer.
_LATER = dict.fromkeys(["QuantizationReport", "quantize", "quantize_with_report"], ".quantization.quantize")

__getattr__ = _late_names(__name__, _LATER)


def __dir__() -> list[str]:
    return __all__
