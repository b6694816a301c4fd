"""The options of a quantization, and every check of them."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import onnxruntime
from onnxruntime import quantization as ort_quantization

from ... import _checks
from ..._errors import Argument, bad_value
from ..quantizer.calls import METHODS

QuantFormat = Literal["QDQ", "QOperator"]
ByteType = Literal["uint8", "int8"]
CalibrateMethod = Literal["minmax", "entropy", "percentile", "best"]
ORT_TYPES = {"uint8": ort_quantization.QuantType.QUInt8, "int8": ort_quantization.QuantType.QInt8}


def is_reestimated(reestimate: bool | None, *, fast: bool, data_statistics: bool) -> bool:
    """Return whether norms and layers are corrected, where that is left open too."""
    for name, value in (("fast", fast), ("data_statistics", data_statistics)):
        _checks.flag(value, name)
        if value and reestimate:
            raise bad_value("reestimate", "must be False or None beside ", Argument(name, True), ", got True")
    if reestimate is None:
        return not fast and not data_statistics
    return _checks.flag(reestimate, "reestimate")


def require_quantizer() -> None:
    """Refuse ONNX Runtime 1.17, whose quantizer wants as many scales of every weight as that has channels."""
    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 18):
        raise ImportError(f"quantize needs ONNX Runtime 1.18 or newer, this is {onnxruntime.__version__}")


def check_flags(**flags: object) -> None:
    """Require that each of some options is True or False."""
    for name, value in flags.items():
        _checks.flag(value, name)


def check_minimum(minimum_snr_db: float | None, quant_format: str) -> float | None:
    """Return how near to the float model's outputs have to be at least; None if nothing is asked."""
    if minimum_snr_db is None:
        return None
    least = _checks.real(minimum_snr_db, "minimum_snr_db")
    if not math.isfinite(least):
        raise bad_value("minimum_snr_db", f"must be a finite number of decibels, got {least}")
    if quant_format != "QDQ":
        raise bad_value("minimum_snr_db", "must be None beside ", Argument("quant_format", quant_format))
    return least


def check_choice(name: str, value: object, kind: Any, *, optional: bool = False) -> None:
    """Require that an option is one of what its type lists."""
    if value is not None or not optional:
        _checks.choice(value, get_args(kind), name)


def check_types(activation_type: str, weight_type: str) -> None:
    """Require types of activations and weights that the quantizer knows together."""
    check_choice("activation_type", activation_type, ByteType)
    check_choice("weight_type", weight_type, ByteType)
    if weight_type == "uint8" and activation_type == "int8":
        raise bad_value(
            "weight_type",
            ": 'uint8' with ",
            Argument("activation_type", "int8"),
            " is nothing the quantizer can do",
        )


def ort_options(
    quant_format: QuantFormat,
    activation_type: ByteType,
    weight_type: ByteType,
    per_channel: bool,
    reduce_range: bool,
    calibrate_method: CalibrateMethod | None,
) -> dict[str, Any]:
    """Return these as ``quantize_static`` takes them."""
    return {
        "quant_format": getattr(ort_quantization.QuantFormat, quant_format),
        "activation_type": ORT_TYPES[activation_type],
        "weight_type": ORT_TYPES[weight_type],
        "per_channel": per_channel,
        "reduce_range": reduce_range,
        "calibrate_method": METHODS["minmax" if calibrate_method in (None, "best") else calibrate_method],
    }
