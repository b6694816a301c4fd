"""Models as they are given to be lowered: opened, and refused where nothing can be done."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import onnx

from ..._errors import bad_value
from ..graph.quantized import is_quantized
from ..model.constant_inputs import free_initializers
from ..model.files import load_model, without_functions
from ..norms.find import LOWERED
from ..operators.schema import DOMAIN
from .names import LOWER

if TYPE_CHECKING:
    import os

    from ..graph.graph import Graph


def opened(model: onnx.ModelProto | str | os.PathLike[str]) -> onnx.ModelProto:
    """Return a copy of a model without functions but ours, and warn of inputs that are read as constants.

    In the name of the caller's caller's caller.
    """
    made = without_functions(load_model(model), DOMAIN)
    warn_of_constants(made, 5)
    return made


def warn_of_constants(model: onnx.ModelProto, level: int) -> None:
    """Warn of inputs that are read as constants, `level` calls up from the warning."""
    note = free_initializers(model)
    if note:
        warnings.warn(f"model: {note}", UserWarning, stacklevel=level)


def refuse_lowered(model: onnx.ModelProto, argument: str) -> None:
    """Refuse a model that was lowered before."""
    for entry in model.metadata_props:
        if entry.key == LOWERED:
            raise bad_value(argument, f": its norms are lowered already ({entry.value!r})")


def require_float(graph: Graph) -> None:
    """Refuse a model that is lowered or quantized already."""
    refuse_lowered(graph.model, "model")
    if is_quantized(graph):
        raise bad_value("model", "must be in float, got a quantized model (", LOWER, " takes those)")
