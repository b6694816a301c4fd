"""Single values: numbers, flags, words, objects of a class."""

from __future__ import annotations

import operator
from typing import Any, NoReturn

import numpy as np

from .._dtypes import DType, qint8, quint8
from .._errors import bad, bad_type, bad_value
from .values import attribute, is_a, shown


def missing(name: str) -> NoReturn:
    """Refuse a call without a required argument."""
    raise bad_type(name, "is required and has no default, got None or nothing")


def std_given() -> NoReturn:
    """Refuse a standard deviation, which NumPy's users have at hand."""
    raise bad_type("std", "is not taken, its square is: var=std**2")


def in_storage(value: Any, name: str) -> None:
    """Refuse a tensor of torch whose memory is smaller than its shape says: anybody may shrink a storage.

    What has no storage, or none of its own, passes.
    """
    storage = attribute(value, "untyped_storage")
    if storage is None:
        return
    try:
        have = storage().nbytes()
        reach = sum((n - 1) * stride for n, stride in zip(value.shape, value.stride(), strict=True))
        needs = (value.storage_offset() + reach + 1) * value.element_size()
        short = value.numel() > 0 and have < needs
    except Exception:  # sparse, inside a transform, of another library: what reads it later says so
        return
    if short:
        raise bad_value(name, f"needs {needs} bytes of memory, and its storage has {have}")


def real(value: Any, name: str) -> float:
    """Return a real number as a float."""
    if type(value) is float:
        return value
    in_storage(value, name)
    kind = type(value)
    if is_a(value, np.ndarray, np.generic):
        good = value.ndim == 0 and value.dtype.kind in "fiu"
    else:
        good = hasattr(kind, "__float__") or hasattr(kind, "__index__")
        good = good and not is_a(value, bool) and not attribute(value, "ndim")
    if good:
        try:
            return float(value)
        except OverflowError:
            raise bad_value(name, f"must fit a float, got {shown(value)}") from None
        except Exception:  # whatever a foreign type raises: it is no real number
            pass
    raise bad_type(name, f"must be a real number, got {shown(value)} of type {kind.__name__}")


def integer(value: object, name: str) -> int:
    """Return an integer as an int; 33.0 is none."""
    if type(value) is int:
        return value
    in_storage(value, name)
    if not is_a(value, bool, np.bool_):
        try:
            return operator.index(value)  # type: ignore[arg-type]
        except Exception:  # whatever a foreign type raises: it is no integer
            pass
    raise bad_type(name, f"must be an integer, got {shown(value)} of type {type(value).__name__}")


def flag(value: object, name: str) -> bool:
    """Return a bool."""
    if is_a(value, bool, np.bool_):
        return bool(value)
    raise bad_type(name, f"must be True or False, got {shown(value)} of type {type(value).__name__}")


def instance(value: object, kind: type, name: str) -> Any:
    """Return an object of that class."""
    if is_a(value, kind):
        return value
    raise bad_type(name, f"must be a bytenorm.{kind.__name__}, got {shown(value)} of type {type(value).__name__}")


def dtype(value: object, name: str) -> DType:
    """Return one of the two quantized types."""
    if value is quint8 or value is qint8:
        return value
    raise bad_type(name, f"must be bytenorm.quint8 or bytenorm.qint8, got {shown(value)}")


def choice(value: object, choices: tuple[str, ...], name: str) -> str:
    """Return one of a few words."""
    if is_a(value, str) and value in choices:
        return str(value)
    kind = ValueError if is_a(value, str) else TypeError
    raise bad(kind, name, f"must be one of {', '.join(map(repr, choices))}, got {shown(value)}")


def axis(value: object, ndim: int, name: str) -> int:
    """Return an axis of an array of `ndim` dimensions, counted from the front."""
    number = integer(value, name)
    if not -ndim <= number < ndim:
        raise bad_value(name, f"must be from {-ndim} to {ndim - 1} for {ndim} dimensions, got {number}")
    return number % ndim


def any_axis(value: object, most: int, name: str) -> int:
    """Return an axis of an array that is not known yet, as it came."""
    number = integer(value, name)
    if not -most <= number < most:
        raise bad_value(name, f"must be from {-most} to {most - 1}, got {number}")
    return number
