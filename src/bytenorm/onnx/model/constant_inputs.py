"""Initializers that are inputs of a model as well: values that a caller may replace, or had to declare."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

# The version of ONNX's files since which an initializer need not be an input: inference and conversion know no
# other in older models, ONNX Runtime does.
CONSTANTS_APART = 4


def replaceable(model: ModelProto) -> list[str]:
    """Return the names of the inputs that have a value, which a caller may replace."""
    return _both(model) if model.ir_version >= CONSTANTS_APART else []


def free_initializers(model: ModelProto) -> str:
    """Take what has a value out of the inputs of a model: it is constant, and no longer a caller's to replace.

    Returns
    -------
    str
        What has to be said about that; empty if nothing.
    """
    note, both = note_of(model), set(_both(model))
    model.ir_version = max(model.ir_version, CONSTANTS_APART)  # else others look for them among the inputs
    for i in reversed(range(len(model.graph.input))):
        if model.graph.input[i].name in both:
            del model.graph.input[i]
    return note


def note_of(model: ModelProto) -> str:
    """Say which inputs are read as constants; empty if none is."""
    names = replaceable(model)
    if not names:
        return ""
    some = ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    kind = "an input with a value of its own is" if len(names) == 1 else "inputs with values of their own are"
    return f"{kind} read as {'a constant' if len(names) == 1 else 'constants'}: {some}"


def _both(model: ModelProto) -> list[str]:
    known = {t.name for t in model.graph.initializer} | {t.values.name for t in model.graph.sparse_initializer}
    return [v.name for v in model.graph.input if v.name in known]
