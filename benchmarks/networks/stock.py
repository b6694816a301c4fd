"""The baseline: ONNX Runtime's own preparation and static quantization, in the form it recommends."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from bytenorm import onnx as bno

from ..quantizers import Reader, quiet


def quantize(model: ModelProto, images: NDArray[np.float32]) -> ModelProto:
    """Return the model in QDQ form: uint8 activations by minimum and maximum, int8 weights per channel.

    Where sums of uint8 times int8 saturate, weights have 7 bits, as ONNX Runtime recommends for such CPUs.

    Parameters
    ----------
    model : ModelProto
        In float, with one input, for batches of one.
    images : ndarray
        float32, N x 3 x height x width: what calibrates.
    """
    with tempfile.TemporaryDirectory() as folder, quiet():
        prepared, quantized = Path(folder, "prepared.onnx"), Path(folder, "quantized.onnx")
        quant_pre_process(model, prepared)
        quantize_static(
            prepared,
            quantized,
            Reader({model.graph.input[0].name: image[np.newaxis]} for image in images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=bno.sums_saturate(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(quantized)


def norms_left(model: ModelProto) -> list[str]:
    """Return the names of the batch norms that are still nodes."""
    return [node.name for node in model.graph.node if node.op_type == "BatchNormalization"]
