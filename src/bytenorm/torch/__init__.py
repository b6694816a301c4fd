"""Batch normalization on 8-bit data in PyTorch.

Needs PyTorch 2.13 or newer: ``pip install "bytenorm[torch]"``.
"""

from typing import TYPE_CHECKING as _TYPE_CHECKING

# 2.13 is the oldest version that the tests have run with. `operators` asks the dispatcher by names that
# are not public and have moved before: in an older torch they may be missing, or worse, mean something else.
try:
    import torch as _torch
except ImportError as error:
    raise ImportError(
        f'bytenorm.torch needs torch 2.13 or newer: pip install "bytenorm[torch]" ({error})', name=error.name
    ) from None
if tuple(map(int, _torch.__version__.split(".")[:2])) < (2, 13):
    raise ImportError(
        f'bytenorm.torch needs torch 2.13 or newer: pip install "bytenorm[torch]" (this is {_torch.__version__})',
        name="torch",
    )

from .._late_names import late_names as _late_names
from .._outcomes import LoweringWarning, Outcome
from .eager.legacy_tensors import from_legacy, to_legacy
from .eager.migrate import load_legacy, migrate
from .eager.modules import BatchNorm1d, BatchNorm2d, BatchNorm3d, BNReLU1d, BNReLU2d, BNReLU3d
from .eager.quantized_batch_norm import quantized_batch_norm
from .operators.batch_norm import batch_norm
from .pt2e.fold_forward import fold_forward
from .pt2e.lower import lower, lower_with_report
from .pt2e.to_integers import to_integers
from .recalibration.recalibrate import recalibrate

if _TYPE_CHECKING:
    from .pt2e.to_onnx import to_onnx
    from .quantization.quantize import quantize, quantize_with_report
    from .quantization.quantizer import BatchNormQuantizer
    from .quantization.report import QuantizationReport

__all__ = [
    "BNReLU1d",
    "BNReLU2d",
    "BNReLU3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BatchNormQuantizer",
    "LoweringWarning",
    "Outcome",
    "QuantizationReport",
    "batch_norm",
    "fold_forward",
    "from_legacy",
    "load_legacy",
    "lower",
    "lower_with_report",
    "migrate",
    "quantize",
    "quantize_with_report",
    "quantized_batch_norm",
    "recalibrate",
    "to_integers",
    "to_legacy",
    "to_onnx",
]


_LATER = {  # need torchao, onnx and onnxscript
    "BatchNormQuantizer": ".quantization.quantizer",
    "QuantizationReport": ".quantization.report",
    "quantize": ".quantization.quantize",
    "quantize_with_report": ".quantization.quantize",
    "to_onnx": ".pt2e.to_onnx",
}

__getattr__ = _late_names(__name__, _LATER)


def __dir__() -> list[str]:
    return __all__
