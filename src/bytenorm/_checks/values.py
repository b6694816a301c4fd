"""What is asked of any object without trusting it, and how a message shows it."""

from __future__ import annotations

from typing import Any

from .. import _core


def is_a(value: object, *kinds: type) -> bool:
    """Whether a value is of one of these classes, by its type alone.

    What an object answers for its class, which `isinstance` believes, may be untrue or raise anything.
    """
    return issubclass(type(value), kinds)


def without_data(value: object) -> bool:
    """Whether this is a QuantizedTensor whose __init__ was not called: it must be asked for nothing."""
    return is_a(value, _core.Tensor) and not _core.is_tensor(value)


def attribute(value: object, name: str) -> Any:
    """Return an attribute of any object, None if it has none or asking for it raises."""
    try:
        return None if without_data(value) else getattr(value, name, None)
    except Exception:
        return None


def shown(value: object) -> str:
    """Return a value as a message shows it: short, on one line, with its type where that is the question."""
    if without_data(value):
        return "a QuantizedTensor without data"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever a foreign type raises: the message comes all the same
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def remedy(value: object) -> str:
    """Return what to do with a quantized tensor of torch or with bare codes, as the end of a message."""
    kind = str(attribute(value, "dtype")).split(".")[-1]
    if kind in ("uint8", "int8"):
        return "; wrap it: bytenorm.QuantizedTensor(codes, scale, zero_point)"
    if kind in ("quint8", "qint8"):
        return "; wrap it: bytenorm.QuantizedTensor(x.int_repr(), x.q_scale(), x.q_zero_point())"
    return ""
