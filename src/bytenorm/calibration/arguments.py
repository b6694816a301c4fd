"""Every check of an argument of calibration that `bytenorm._checks` does not know."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _checks
from ..batch_norm import BatchNorm

if TYPE_CHECKING:
    from ..dtypes import DType

METHODS = ("mse", "minmax", "percentile", "entropy")

_ATTRIBUTES = ("channels", "count", "histogram", "dtype", "scale", "zero_point", "mean", "var")


def statistics(value: Any, channels: int) -> Any:
    """Return the statistics of a norm's input, of as many channels as the norm has."""
    if not all(hasattr(value, name) for name in _ATTRIBUTES):
        raise TypeError(f"statistics must be a ChannelStatistics, got {type(value).__name__}")
    if value.channels != channels:
        raise ValueError(f"statistics has {value.channels} channels, but mean has {channels} values")
    return value


def histogram(value: Any) -> np.ndarray:
    """Return the counts of the 256 codes of each channel, of which at least one is not 0."""
    if value.histogram is None:
        raise ValueError("statistics must have a histogram, got one gathered with histogram=False")
    counts = np.asarray(value.histogram)
    if not counts.any():
        raise ValueError("statistics must have seen data, got none in any channel")
    return counts


def enough(value: Any) -> None:
    """Refuse statistics that do not say how a channel spreads."""
    counts = np.asarray(value.count)
    few = counts < 2
    if few.any():
        at = int(np.argmax(few))
        raise ValueError(f"statistics must have at least 2 elements a channel, got {counts[at]} in channel {at}")


def method(value: object) -> str:
    """Return the name of a way to choose."""
    if isinstance(value, str) and value in METHODS:
        return value
    kind = ValueError if isinstance(value, str) else TypeError
    raise kind(f"method must be one of {', '.join(METHODS)}, got {value!r}")


def percentile(value: object) -> Fraction:
    """Return a percentage above 0 and at most 100 as the decimal number that it is written as."""
    number = _checks.real(value, "percentile")
    if not 0 < number <= 100:
        raise ValueError(f"percentile must be above 0 and at most 100, got {number}")
    return Fraction(repr(number))  # 99.99 itself, not the binary number next to it


def momentum(value: object) -> float:
    """Return a share from 0 to 1."""
    number = _checks.real(value, "momentum")
    if not 0 <= number <= 1:
        raise ValueError(f"momentum must be from 0 to 1, got {number}")
    return number


def output_dtype(value: DType | None, norm_dtype: DType | None, measured: Any) -> DType:
    """Return the output's type: as asked for, else the norm's, else the input's as the operator takes it."""
    if value is not None:
        return _checks.dtype(value, "dtype")
    if norm_dtype is not None:
        return norm_dtype
    if measured is not None:
        kind: DType = measured.dtype
        return kind
    raise TypeError("dtype is required without statistics, whose dtype is the default: got None or nothing")


def batch_norm(value: object) -> BatchNorm:
    """Return a BatchNorm."""
    if not isinstance(value, BatchNorm):
        raise TypeError(f"norm must be a bytenorm.BatchNorm, got {type(value).__name__}")
    return value
