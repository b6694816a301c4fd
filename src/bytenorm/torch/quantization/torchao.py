"""What is taken of torchao, and what is said where it cannot be imported."""

from __future__ import annotations

import warnings

import torch

try:
    with warnings.catch_warnings():  # torchao's observers are scripted, which torch calls deprecated
        warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
        import torchao as _torchao  # type: ignore[import-untyped] # noqa: F401
        from torchao.quantization.pt2e import (  # type: ignore[import-untyped]
            FusedMovingAvgObsFakeQuantize,
            HistogramObserver,
        )
        from torchao.quantization.pt2e.quantize_pt2e import (  # type: ignore[import-untyped]
            convert_pt2e,
            prepare_pt2e,
        )
        from torchao.quantization.pt2e.quantizer import (  # type: ignore[import-untyped]
            ComposableQuantizer,
            QuantizationAnnotation,
            QuantizationSpec,
            Quantizer,
        )
        from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (  # type: ignore[import-untyped]
            X86InductorQuantizer,
            get_default_x86_inductor_quantization_config,
        )
except (ImportError, AttributeError) as error:  # the latter of names that torch has no more
    _needed = "bytenorm.torch.quantize and bytenorm.torch.BatchNormQuantizer need torchao"
    if getattr(error, "name", None) == "torchao":
        raise ImportError(f"{_needed}: pip install torchao", name="torchao") from None
    raise ImportError(
        f"{_needed}, and the one here cannot be imported beside torch {torch.__version__}: {error}", name="torchao"
    ) from error

__all__ = [
    "ComposableQuantizer",
    "FusedMovingAvgObsFakeQuantize",
    "HistogramObserver",
    "QuantizationAnnotation",
    "QuantizationSpec",
    "Quantizer",
    "X86InductorQuantizer",
    "convert_pt2e",
    "get_default_x86_inductor_quantization_config",
    "prepare_pt2e",
]
