"""Which steps are tried behind the quantizer, and in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from ..graph.graph import Graph
from ..lowering.lower import IR_VERSION, lower_graph
from .tuning.clipping import RANGES
from .tuning.steps import DATA_STATISTICS, norm_scales

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._outcomes import RecalibratedNorm
    from ...calibration.qparams.output_qparams import Method
    from .options import CalibrateMethod
    from .tuning.clipping import Way
    from .tuning.steps import Tuning


def ranges_to_try(
    calibrate_method: CalibrateMethod | None, method: Method | None, *, reestimate: bool
) -> tuple[Way, ...]:
    """Return the ways to find ranges that are tried."""
    if calibrate_method == "best":
        return RANGES
    return RANGES[:1] if calibrate_method is None and method is None and reestimate else ()


def take_steps(
    tuning: Tuning,
    ranges: Sequence[Way],
    method: Method | None,
    *,
    reestimate: bool,
    given: Sequence[RecalibratedNorm] | None,
) -> None:
    """Try what is asked for, in the order in which one step builds on another.

    `given` is what norms got with statistics of the data, their scales by `method` among it; None without
    these.
    """
    if ranges:
        tuning.choose_ranges(ranges)
    if given is not None:
        if not any(norm.reestimated for norm in given):
            tuning.leave(DATA_STATISTICS)
        if method is not None and not given:
            tuning.leave(norm_scales(method))
    elif method is not None:
        tuning.choose_norm_scales(method)
    if reestimate:
        tuning.reestimate()


def as_fused(graph: Graph, excluded: set[str]) -> onnx.ModelProto:
    """Return a copy of a model as the fused lowering makes it: norms of unrounded sums and joined pieces."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph.model)
    copy.ir_version = max(IR_VERSION, copy.ir_version)
    lower_graph(Graph(copy), "fused", excluded)
    return copy
