"""Who makes an 8-bit network of a float one: ONNX Runtime's quantizer, NNCF, and bytenorm with each step alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, version_converter
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from bytenorm.onnx import quantize_with_report

from ..quantizers import Reader, quiet
from .network import Network
from .running import feeds

OPSET = 13

Made = tuple[ModelProto, str]  # and what its report says of the steps that were taken


def stock(network: Network, method: CalibrationMethod) -> Made:
    """Make one with ONNX Runtime's own preparation and static quantization, in the form it recommends.

    Its weights use all of 8 bits, on every CPU: the sessions that judge it have exact sums.
    """
    with tempfile.TemporaryDirectory() as folder, quiet():
        given, prepared, quantized = (Path(folder, f"{name}.onnx") for name in ("given", "prepared", "quantized"))
        onnx.save(_with_opset(network.model), given)
        # The inference of symbols fails for two of the networks, and leaves a file where it was called from.
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            Reader(feeds(network.model, network.calibration)),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=method,
        )
        return onnx.load(quantized), ""


def nncf(network: Network) -> Made:
    """Make one with NNCF as it is unless told otherwise, its fast bias correction included."""
    import nncf as peer

    with quiet():
        data = peer.Dataset(list(feeds(network.model, network.calibration)))
        return peer.quantize(_with_opset(network.model), data, subset_size=len(network.calibration)), ""


def own(network: Network, **options: Any) -> Made:
    """Make one with :func:`bytenorm.onnx.quantize`."""
    data = list(feeds(network.model, network.calibration))
    made, report = quantize_with_report(network.model, data, compare=False, **options)
    taken = [step.name for step in report.steps if step.taken]
    return made, ", ".join(taken)


CONTESTANTS: dict[str, Callable[[Network], Made]] = {
    "minmax": partial(stock, method=CalibrationMethod.MinMax),
    "percentile": partial(stock, method=CalibrationMethod.Percentile),
    "entropy": partial(stock, method=CalibrationMethod.Entropy),
    "NNCF": nncf,
    "plain": partial(own, fast=True),
    "plain, percentile": partial(own, fast=True, calibrate_method="percentile"),
    "plain, mse": partial(own, fast=True, method="mse"),
    "default": own,
    "default, exact": partial(own, lowering="exact"),
    "default, fused": partial(own, lowering="fused"),
    "default, mse": partial(own, method="mse"),
}
STOCK = ("minmax", "percentile", "entropy", "NNCF")


def _with_opset(model: ModelProto) -> ModelProto:
    """Return the model in an operator set that has scales per channel."""
    (version,) = (entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    return model if version >= OPSET else version_converter.convert_version(model, OPSET)
