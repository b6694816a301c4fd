"""The note on models that compute wrong numbers on this CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..onnx.run.saturation import saturation

if TYPE_CHECKING:
    import onnx


def note(model: onnx.ModelProto, name: str) -> str:
    """Return what there is to say of a model in a session with ONNX Runtime's defaults; empty if nothing."""
    text = saturation(model, seven_bits="bytenorm quantize --reduce-range", unsigned="--weights uint8")
    return text and f"note on {name}: {text}"
