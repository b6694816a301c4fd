"""Commands that read a model and write another: ``lower``, ``prepare``, ``restore``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..onnx.model.constant_inputs import free_initializers
from ..onnx.model.files import load_model
from .console import as_size, next_command
from .output import require_output, size_on_disk, write
from .results import Fate, show
from .saturation_note import note
from .wording import naming

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    import onnx

    from .console import Screen

Found = TypeVar("Found")

NOTHING = "nothing was lowered: no norm could go into 8 bits, and the model computes what it did"


@dataclass(frozen=True)
class Rewritten(Generic[Found]):
    """A model that was written, what was found on the way, the sizes of both in bytes, and what is to be said."""

    model: onnx.ModelProto
    found: Found
    before: int
    after: int
    remark: str

    def tell(
        self,
        options: argparse.Namespace,
        screen: Screen,
        facts: Mapping[str, Any],
        *,
        more: str = "",
        note: str = "",
        last: str = "",
    ) -> None:
        """Say what was written where, and give a program these facts."""
        screen.line(f"size: {as_size(self.before)} before, {as_size(self.after)} now")
        screen.line(f"written to {options.output}{more}")
        for line in filter(None, (self.remark, note, last)):
            screen.line(line)
        sizes = {"size_before": self.before, "size_after": self.after}
        screen.result(model=options.model, output=options.output, **sizes, **facts)


def rewrite(
    options: argparse.Namespace,
    screen: Screen,
    doing: str,
    change: Callable[[onnx.ModelProto], tuple[onnx.ModelProto, Found]],
) -> Rewritten[Found]:
    """Read MODEL, change it, and write OUT."""
    require_output(options.output, options.force, models=[options.model], makes_model=True)
    with naming(options.model), screen.progress() as progress:
        model = load_model(options.model)
        before, remark = size_on_disk(options.model, model), free_initializers(model)
        progress(doing, 0, 0)
        made, found = change(model)
        del model  # before the other one is written
        return Rewritten(made, found, before, write(made, options.output, options.force), remark)


def tell_fates(options: argparse.Namespace, screen: Screen, made: Rewritten[list[Fate]]) -> None:
    """Say what became of the norms of a model that was lowered."""
    counts = show(made.found, screen)
    saturates = note(made.model, options.output, is_ours=False)
    norms = [{key: value for key, value in fate.to_dict().items() if key != "folds_into"} for fate in made.found]
    facts = {
        "lowering": options.lowering,
        "in_8_bits": counts[Fate.IN_8_BITS],
        "in_float": counts[Fate.IN_FLOAT],
        "saturates": bool(saturates),
        "norms": norms,
    }
    changed = counts[Fate.IN_8_BITS] > 0
    last = next_command("bench", options.model, options.output) if changed else NOTHING
    made.tell(options, screen, facts, note=saturates, last=last)
