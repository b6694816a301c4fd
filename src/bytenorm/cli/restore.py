"""``bytenorm restore``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..onnx.constant_inputs import free_initializers
from ..onnx.disguise import disguised, restore_with_report
from ..onnx.model import load_model
from .lower import tell
from .outcomes import Fate
from .places import require_output, size_on_disk, write
from .wording import naming

if TYPE_CHECKING:
    import argparse

    from .screen import Screen


def run(options: argparse.Namespace, screen: Screen) -> None:
    """Turn disguised norms of a quantized model into norms again, and lower them."""
    require_output(options.output, options.force, model=options.model, makes_model=True)
    with naming(options.model), screen.progress() as progress:
        model = load_model(options.model)
        before, remark = size_on_disk(options.model, model), free_initializers(model)
        progress("restoring", 0, 0)
        channels = {norm.name: norm.channels for norm in disguised(model).values()}
        lowered, outcomes = restore_with_report(model, lowering=options.lowering, keep_int8=options.keep_int8)
        del model  # before the other one is written
        after = write(lowered, options.output, options.force)
    made = [
        Fate(
            outcome.name,
            channels.get(outcome.name),
            Fate.IN_FLOAT if outcome.problem else Fate.IN_8_BITS,
            problem=outcome.problem,
            pattern=outcome.pattern,
            unfused=outcome.unfused,
        )
        for outcome in outcomes
    ]
    screen.line(f"{options.model}, restored ({options.lowering})")
    tell(options, screen, lowered, made, (before, after), remark)
