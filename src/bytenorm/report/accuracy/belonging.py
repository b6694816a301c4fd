"""Whether a float model can be the one that a quantized model was made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._errors import bad_value
from ...onnx.graph.graph import Graph
from ...onnx.graph.quantized import is_quantized
from ...onnx.model.inputs import InputInfo, input_infos

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

ASKED = "is it the float model that the quantized one was made of?"


def require_same_ends(model: onnx.ModelProto, reference: onnx.ModelProto) -> None:
    """Refuse a float model that is quantized, has other inputs, or another number of outputs.

    Raises
    ------
    ValueError
    """
    if is_quantized(Graph(reference)):
        raise bad_value("reference", f"must be a model in float, got a quantized one: {ASKED}")
    made, wanted = input_infos(model), input_infos(reference)
    if {info.name for info in made} != {info.name for info in wanted} or not all(
        _agree(info, other) for info in made for other in wanted if info.name == other.name
    ):
        raise bad_value("reference", f": its inputs are {_listed(wanted)}, the model's {_listed(made)}: {ASKED}")
    outputs = [[value.name for value in one.graph.output] for one in (reference, model)]
    if len(outputs[0]) != len(outputs[1]):
        raise bad_value("reference", f": its outputs are {outputs[0]}, the model's {outputs[1]}: {ASKED}")


def _agree(one: InputInfo, other: InputInfo) -> bool:
    """Say whether one array can be fed to both."""
    if one.dtype != other.dtype or len(one.shape) != len(other.shape):
        return False
    return all(None in (n, m) or n == m for n, m in zip(one.shape, other.shape, strict=True))


def _listed(infos: Iterable[InputInfo]) -> str:
    return ", ".join(map(str, infos)) or "none"
