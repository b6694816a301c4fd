"""``bytenorm prepare``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...onnx.disguise.prepare_and_restore import prepare_with_report
from ..rewriting import rewrite

if TYPE_CHECKING:
    import argparse

    from ..console import Screen


def run(options: argparse.Namespace, screen: Screen) -> None:
    """Disguise a float model's batch norms for a quantizer."""
    prepared = rewrite(options, screen, "preparing", prepare_with_report)
    names = prepared.found
    count = sum(map(len, names.values()))
    screen.line(f"{options.model}, prepared for a quantizer")
    screen.line(
        f"{count} batch norm{'s' * (count != 1)}: {len(names['folded'])} folded, "
        f"{len(names['disguised'])} in disguise, {len(names['left'])} left as they are"
    )
    prepared.tell(options, screen, names, more=": quantize it, then bytenorm restore")
