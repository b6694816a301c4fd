"""``bytenorm restore``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...onnx.disguise.prepare_and_restore import disguised, restore_with_report
from ..results import Fate
from ..rewriting import rewrite, tell_fates

if TYPE_CHECKING:
    import argparse

    import onnx

    from ..console import Screen


def run(options: argparse.Namespace, screen: Screen) -> None:
    """Turn disguised norms of a quantized model into norms again, and lower them."""

    def restore(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[Fate]]:
        channels = {norm.name: norm.channels for norm in disguised(model).values()}
        made, outcomes = restore_with_report(model, lowering=options.lowering, keep_int8=options.keep_int8)
        return made, [Fate.of(outcome, channels.get(outcome.name)) for outcome in outcomes]

    restored = rewrite(options, screen, "restoring", restore)
    screen.line(f"{options.model}, restored ({options.lowering})")
    tell_fates(options, screen, restored)
