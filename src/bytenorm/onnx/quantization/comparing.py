"""The 8-bit model against the float one, and what ONNX Runtime's quantizer alone makes of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..measurement.compare import compare
from ..measurement.comparison import Comparison, uncomparable
from ..model.files import without_functions
from ..operators.schema import DOMAIN
from ..quantizer.alone import quantize_alone
from ..quantizer.reader import stage
from .versions import with_opset

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

    from ..data.dataset import Dataset
    from ..quantizer.extra_options import ExtraOptions
    from ..quantizer.reader import Progress


def compared(
    original: onnx.ModelProto, made: onnx.ModelProto, data: Dataset, progress: Callable[[int, int], None] | None
) -> Comparison:
    """Compare, whatever comes: the model is made, and nothing that happens here may take it away again."""
    try:
        return compare(original, made, data, progress=progress)
    except Exception as error:
        # The float model ran when its ranges were measured: it is the other that does not.
        why = str(error) or type(error).__name__
        return Comparison(tuple(uncomparable(out.name, why, broken=True) for out in original.graph.output), 0)


def quantizer_alone(
    original: onnx.ModelProto,
    data: Dataset,
    options: dict[str, Any],
    extra: ExtraOptions,
    excluded: list[str],
    progress: Progress | None,
) -> Comparison | None:
    """Compare what ONNX Runtime's quantizer alone makes of a model; None if it makes nothing that can be run."""
    prepared = with_opset(without_functions(original, DOMAIN))
    try:
        made = quantize_alone(prepared, data, {**options, "nodes_to_exclude": excluded}, progress, extra)
        return compare(original, made, data, progress=stage(progress, "alone: compare"))
    except (ValueError, RuntimeError):
        return None
