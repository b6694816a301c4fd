"""Calls of ONNX Runtime's quantizer: its methods, what its versions take, what it prints."""

from __future__ import annotations

import inspect
import io
import logging
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

import onnx
from onnxruntime import quantization as ort_quantization

from ..._errors import Argument, bad_value
from ..model.files import fits_one_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


METHODS = {
    "minmax": ort_quantization.CalibrationMethod.MinMax,
    "entropy": ort_quantization.CalibrationMethod.Entropy,
    "percentile": ort_quantization.CalibrationMethod.Percentile,
}


def is_large(model: onnx.ModelProto) -> bool:
    """Say whether what comes of a model may be too large for one file: what is added is small."""
    return not fits_one_file(model)


def takes_ranges() -> bool:
    """Say whether the quantizer can be given ranges that were measured before."""
    return "calibration_cache_path" in inspect.signature(ort_quantization.quantize_static).parameters


def by_strides(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by which an older quantizer keeps what one sample makes, not what all make.

    Its histograms then grow with what comes, so its ranges are a little others than those of all samples at once.
    """
    return {**options, "extra_options": {**options.get("extra_options", {}), "CalibStridedMinMax": 1}}


def failure(error: Exception, *, cut: bool = False) -> ValueError:
    """Return an error of the quantizer as one of the model; `cut` says that batches were not those that came."""
    said = f": ONNX Runtime's quantizer failed: {' '.join(str(error).split())}"
    if cut and "while running" in said:
        why = " (batches are cut into samples: None for each input in "
        return bad_value("model", said, why, Argument("batch_axes"), " leaves them as they came)")
    return bad_value("model", said)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the quantizer's remarks, which it prints and sends to the root logger, from the terminal."""
    root = logging.getLogger()
    level = root.level
    handler = logging.NullHandler()  # without any handler a remark would make one, and leave it
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
