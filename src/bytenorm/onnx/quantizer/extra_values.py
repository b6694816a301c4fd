"""The values of ONNX Runtime's `extra_options`: what each takes, and the error that says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnxruntime.quantization import QuantType

from ... import _checks
from ..._errors import bad_type, bad_value

_SAYS = ("quant_type", "scale", "zero_point", "symmetric", "reduce_range", "rmax", "rmin", "axis", "convert")


def count(value: object, name: str) -> int:
    """Return a number of things."""
    number = _checks.integer(value, name)
    if number < 1:
        raise bad_value(name, f"must be at least 1, got {number}")
    return number


def share(value: object, name: str) -> float:
    """Return a part of 1."""
    return _above_0(value, name, 1)


def percentile(value: object, name: str) -> float:
    """Return a part of 100."""
    return _above_0(value, name, 100)


def _above_0(value: object, name: str, most: float) -> float:
    number = _checks.real(value, name)
    if not 0 < number <= most:
        raise bad_value(name, f"must be above 0 and at most {most}, got {number}")
    return number


def width(value: object, name: str) -> float:
    """Return the width of a range."""
    number = _checks.real(value, name)
    if not (number > 0 and np.isfinite(np.float32(number))):
        raise bad_value(name, f"must be a positive number in float32, got {number}")
    return number


def types(value: object, name: str) -> list[str]:
    """Return types of operators."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(v, str) for v in value):
        raise bad_type(name, f"must be a list of operator types, got {value!r}")
    return list(value)


def axes(value: object, name: str) -> dict[str, int]:
    """Return the axis of each type of operators."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise bad_type(name, f"must be a dict of axes by operator type, got {type(value).__name__}")
    return {key: _checks.integer(axis, f"{name}[{key!r}]") for key, axis in value.items()}


def overrides(value: object, name: str) -> dict[str, list[dict[str, object]]]:
    """Return what is said of single tensors."""
    if not isinstance(value, Mapping):
        raise bad_type(name, f"must be a dict of lists of dicts by tensor, got {type(value).__name__}")
    for tensor, of_tensor in value.items():
        where = f"{name}[{tensor!r}]"
        if not isinstance(tensor, str):
            raise bad_type(name, f"must have names of tensors, got {tensor!r}")
        listed = isinstance(of_tensor, Sequence) and not isinstance(of_tensor, str)
        if not listed or not all(isinstance(one, Mapping) for one in of_tensor):
            raise bad_type(where, f"must be a list of dicts, one or one a channel, got {of_tensor!r}")
        if not of_tensor:
            raise bad_value(where, "must have a dict at least, got an empty list")
        for one in of_tensor:
            _require_override(one, where)
    return {tensor: [dict(one) for one in of_tensor] for tensor, of_tensor in value.items()}


def _require_override(one: Mapping[str, object], where: str) -> None:
    for key in one:
        if key not in _SAYS:
            raise bad_value(where, f": the quantizer knows no {key!r}, but {', '.join(_SAYS)}")
    if "quant_type" in one and not isinstance(one["quant_type"], QuantType):
        raise bad_type(where, f": quant_type must be an onnxruntime QuantType, got {one['quant_type']!r}")
    for key in one.keys() & {"scale", "zero_point", "rmin", "rmax"}:
        number = np.asarray(one[key])
        if number.size != 1 or number.dtype.kind not in "iuf" or not np.isfinite(number.astype(np.float32)).all():
            raise bad_type(where, f"must have a finite number as {key}, got {one[key]!r}")
    if "scale" in one and not np.asarray(one["scale"], np.float32).item() > 0:
        raise bad_value(where, f"must have a positive scale, got {one['scale']!r}")
    if ("scale" in one) is not ("zero_point" in one):
        raise bad_value(where, "must have scale and zero_point together, or neither")
