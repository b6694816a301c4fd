"""``bytenorm prepare``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..onnx.constant_inputs import free_initializers
from ..onnx.disguise import prepare_with_report
from ..onnx.model import load_model
from .places import require_output, size_on_disk, write
from .screen import as_size
from .wording import naming

if TYPE_CHECKING:
    import argparse

    from .screen import Screen


def run(options: argparse.Namespace, screen: Screen) -> None:
    """Disguise a float model's batch norms for a quantizer."""
    require_output(options.output, options.force, model=options.model, makes_model=True)
    with naming(options.model), screen.progress() as progress:
        model = load_model(options.model)
        before, remark = size_on_disk(options.model, model), free_initializers(model)
        progress("preparing", 0, 0)
        prepared, names = prepare_with_report(model)
        del model  # before the other one is written
        after = write(prepared, options.output, options.force)
    screen.line(f"{options.model}, prepared for a quantizer")
    screen.line(
        f"{sum(map(len, names.values()))} batch norms: {len(names['folded'])} folded, "
        f"{len(names['disguised'])} in disguise, {len(names['left'])} left as they are"
    )
    screen.line(f"size: {as_size(before)} before, {as_size(after)} now")
    screen.line(f"written to {options.output}: quantize it, then bytenorm restore")
    if remark:
        screen.line(remark)
    screen.result(model=options.model, output=options.output, size_before=before, size_after=after, **names)
