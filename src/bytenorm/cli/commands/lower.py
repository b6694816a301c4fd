"""``bytenorm lower``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._errors import bad_value
from ...onnx.graph.graph import Graph
from ...onnx.graph.quantized import is_quantized
from ...onnx.lowering.given import refuse_lowered
from ...onnx.lowering.lower import lower_with_report
from ...onnx.measurement.inspection import inspect
from ..results import Fate, fates
from ..rewriting import rewrite, tell_fates

if TYPE_CHECKING:
    import argparse

    import onnx

    from ..console import Screen


def run(options: argparse.Namespace, screen: Screen) -> None:
    """Let a quantized model's batch norms run in 8 bits."""

    def lower(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Fate]]:
        if not is_quantized(Graph(model)):
            raise bad_value("model", "is in float: bytenorm quantize takes those")
        refuse_lowered(model, "model")
        norms = inspect(model).norms
        made, outcomes = lower_with_report(
            model, lowering=options.lowering, keep_int8=options.keep_int8, nodes_to_exclude=options.exclude
        )
        return made, fates(norms, outcomes)

    lowered = rewrite(options, screen, "lowering", lower)
    screen.line(f"{options.model}, lowered ({options.lowering})")
    tell_fates(options, screen, lowered)
