"""The note on models that compute wrong numbers on this CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..onnx.run.saturation import ITS_QUANTIZER, saturation

if TYPE_CHECKING:
    import onnx


def note(model: onnx.ModelProto, name: str, *, is_ours: bool = True) -> str:
    """Return what there is to say of a model in a session with ONNX Runtime's defaults; empty if nothing.

    Parameters
    ----------
    model : ModelProto
    name : str
        Of its file.
    is_ours : bool, optional
        Whether bytenorm quantizes it, so that its options are a way out, or another quantizer has.
    """
    text = saturation(model, "bytenorm quantize without --full-range" if is_ours else ITS_QUANTIZER)
    return text and f"note on {name}: {text}"
