"""``bytenorm inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...onnx.measurement.inspection import BatchNormInfo, inspect
from ...onnx.model.files import load_model
from ..console import as_size
from ..output import size_on_disk
from ..wording import naming

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ..console import Screen


def run(options: argparse.Namespace, screen: Screen) -> None:
    """List the batch norms of a model."""
    with naming(options.model):
        model = load_model(options.model)
        found = inspect(model)
    kind = "quantized" if found.quantized else "float"
    size = as_size(size_on_disk(options.model, model))
    screen.line(f"{options.model}: {kind}, {size}, opset {found.opset}, IR version {found.ir_version}")
    if found.norms:
        last = ["runs in", "fuses"] if found.quantized else ["can be folded"]
        screen.table(
            ["norm", "channels", "written as", "reads", *last], [_row(n, found.quantized) for n in found.norms]
        )
    for text in sorted({text for norm in found.norms for text in _told(norm, found.quantized)}):
        screen.line(text)
    screen.line(found.summary())
    if found.note:
        screen.line(found.note)
    screen.result(
        model=options.model,
        in_8_bits=len(found.norms) - len(found.in_float),
        **found.to_dict() | {"in_float": len(found.in_float), "foldable": len(found.foldable)},
    )


def _told(norm: BatchNormInfo, quantized: bool) -> Iterator[str]:
    """Explain the words of a norm's row that no first reader can know."""
    if not quantized:
        if norm.folds_into:
            yield "folded: the layer's weights take the norm up, which costs nothing then"
        if norm.forward:
            yield "into: the layer behind the norm, not the one in front of it"
        elif _says_forward(norm):
            yield "forward: into the layer behind the norm"
        return
    if norm.lowerable:
        yield "lowered: the norm reads and makes bytes, as bytenorm lower has it"
    if norm.pattern not in ("", "single"):
        yield "fuses: with --lowering fused one operator does the norm and what it reads, a concat or an add"


def _says_forward(norm: BatchNormInfo) -> bool:
    """Say whether a row tells why its norm is not folded forward. An activation behind it is seen anyway."""
    return bool(norm.reason_forward and not norm.activation and not norm.folds_into)


def _row(norm: BatchNormInfo, quantized: bool) -> list[str]:
    written = norm.written + (f" + {norm.activation}" if norm.activation else "")
    row = [norm.name, "?" if norm.channels is None else str(norm.channels), written, norm.reads]
    if not quantized:
        if norm.folds_into:
            return [*row, f"yes, into {norm.folds()}" if norm.forward else "yes"]
        reasons = [norm.reason] if norm.reason else []
        reasons += [f"forward: {norm.reason_forward}"] if _says_forward(norm) else []
        return [*row, f"no{': ' if reasons else ''}{'; '.join(reasons)}"]
    how = "8 bits" if norm.runs_in == "8-bit" else "float"
    why = f": {norm.problem}" if norm.problem else ""
    row.append(f"{how}, can be lowered" if norm.lowerable else how + why)
    return [*row, _fuses(norm)]


def _fuses(norm: BatchNormInfo) -> str:
    if norm.pattern != "single":
        return norm.pattern or "-"
    return f"no: {norm.unfused}" if norm.unfused else "no"
