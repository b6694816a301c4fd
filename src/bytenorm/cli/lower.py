"""``bytenorm lower``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..onnx.constant_inputs import free_initializers
from ..onnx.graph import Graph
from ..onnx.inspection import inspect, is_quantized
from ..onnx.lowering import lower_with_report, refuse_lowered
from ..onnx.model import load_model
from .outcomes import Fate, fates, show
from .places import require_output, size_on_disk, write
from .saturation import note
from .screen import as_size
from .wording import naming

if TYPE_CHECKING:
    import argparse

    import onnx

    from .screen import Screen


def run(options: argparse.Namespace, screen: Screen) -> None:
    """Let a quantized model's batch norms run in 8 bits."""
    label = f"model {options.model!r}"
    require_output(options.output, options.force, model=options.model, makes_model=True)
    with naming(options.model), screen.progress() as progress:
        model = load_model(options.model)
        before = size_on_disk(options.model, model)
        remark = free_initializers(model)
        if not is_quantized(Graph(model)):
            raise ValueError(f"{label} is in float: bytenorm quantize takes those")
        refuse_lowered(model, "model")
        norms = inspect(model).norms
        progress("lowering", 0, 0)
        lowered, outcomes = lower_with_report(model, lowering=options.lowering, keep_int8=options.keep_int8)
        del model  # before the other one is written
        after = write(lowered, options.output, options.force)
    screen.line(f"{options.model}, lowered ({options.lowering})")
    tell(options, screen, lowered, fates(norms, outcomes), (before, after), remark)


def tell(
    options: argparse.Namespace,
    screen: Screen,
    lowered: onnx.ModelProto,
    made: list[Fate],
    sizes: tuple[int, int],
    remark: str,
) -> None:
    """Say what became of the norms of a model that was lowered and written."""
    counts = show(made, screen)
    screen.line(f"size: {as_size(sizes[0])} before, {as_size(sizes[1])} now")
    screen.line(f"written to {options.output}")
    saturates = note(lowered, options.output)
    for line in filter(None, (remark, saturates)):
        screen.line(line)
    screen.result(
        model=options.model,
        output=options.output,
        lowering=options.lowering,
        size_before=sizes[0],
        size_after=sizes[1],
        in_8_bits=counts[Fate.IN_8_BITS],
        in_float=counts[Fate.IN_FLOAT],
        saturates=bool(saturates),
        norms=[{key: value for key, value in fate.to_dict().items() if key != "folds_into"} for fate in made],
    )
