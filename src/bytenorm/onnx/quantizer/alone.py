"""What ONNX Runtime's quantizer makes of a model without bytenorm."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnxruntime import quantization as ort_quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from ..graph.captured import guard_captured
from ..graph.graph import Graph
from ..model.files import save_model
from ..observation.histograms import measure_by_histograms
from .calls import METHODS, by_strides, failure, is_large, quiet, takes_ranges
from .extra_options import ExtraOptions
from .reader import Reader, stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..data.dataset import Dataset
    from .reader import Progress


def quantize_alone(
    model: onnx.ModelProto,
    data: Dataset,
    options: Mapping[str, Any],
    progress: Progress | None,
    extra: ExtraOptions | None = None,
) -> onnx.ModelProto:
    """Return what ONNX Runtime's quantizer makes of a float model, behind its own preparation.

    Raises
    ------
    ValueError
        If it makes nothing.
    """
    minmax = options["calibrate_method"] == METHODS["minmax"]
    names = {info.name: info.name for info in data.inputs}
    reader = Reader(data, stage(progress, "alone: calibrate"), names, one_by_one=not minmax)
    with tempfile.TemporaryDirectory(prefix="bytenorm-") as folder, quiet():
        before, prepared, behind, ranges = (
            str(Path(folder, name)) for name in ("float.onnx", "prepared.onnx", "8bit.onnx", "ranges.json")
        )
        try:
            large = is_large(model)
            save_model(model, before)
            quant_pre_process(before, prepared, skip_symbolic_shape=True, save_as_external_data=large)
            extra = extra or ExtraOptions()
            constants = {tensor.name for tensor in model.graph.initializer}
            made = {**options, "use_external_data_format": large, "extra_options": extra.handed(constants)}
            if not minmax and not takes_ranges():
                made = by_strides(made)
            elif not minmax:
                method = options["calibrate_method"]
                found, of_calibrator = Path(ranges), extra.of_calibrator()
                measure_by_histograms(Path(prepared), reader.again, method, found, of_calibrator, large=large)
                made["calibration_cache_path"] = ranges
            ort_quantization.quantize_static(prepared, behind, reader, **made)
            alone = Graph(onnx.load_model(behind))
            if guard_captured(alone):
                alone.finish()
            return alone.model
        except Exception as error:
            raise failure(error) from error
