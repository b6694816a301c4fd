"""Every check of an argument of calibration that `bytenorm._checks` does not know."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from .. import _checks
from .._dtypes import DType
from .._errors import bad_type, bad_value
from .._norms.batch_norm import BatchNorm
from .statistics import ChannelStatistics

METHODS = ("mse", "minmax", "percentile", "entropy")


def statistics(value: object, channels: int) -> ChannelStatistics:
    """Return the statistics of a norm's input, of as many channels as the norm has."""
    if not isinstance(value, ChannelStatistics):
        raise bad_type("statistics", f"must be a ChannelStatistics, got {type(value).__name__}")
    if value.channels != channels:
        raise bad_value("statistics", f"has {value.channels} channels, but mean has {channels} values")
    return value


def counted(value: object, channels: int) -> tuple[ChannelStatistics, np.ndarray]:
    """Return the statistics of a norm's input that hold data, and how often each code of each channel came."""
    gathered = statistics(value, channels)
    histogram = gathered.histogram
    if histogram is None:
        raise bad_value("statistics", "must have a histogram, got one gathered with histogram=False")
    if gathered.count == 0:
        raise bad_value("statistics", "must have gathered data, got none")
    return gathered, histogram


def spread(value: object, channels: int) -> ChannelStatistics:
    """Return the statistics of a norm's input that say how a channel spreads."""
    gathered = statistics(value, channels)
    if gathered.count < 2:
        raise bad_value("statistics", f"must have gathered at least 2 elements a channel, got {gathered.count}")
    return gathered


def method(value: object) -> str:
    """Return the name of a way to choose."""
    return _checks.choice(value, METHODS, "method")


def percentile(value: object) -> Fraction:
    """Return a percentage above 0 and at most 100 as the decimal number that it is written as."""
    number = _checks.real(value, "percentile")
    if not 0 < number <= 100:
        raise bad_value("percentile", f"must be above 0 and at most 100, got {number}")
    return Fraction(repr(number))  # 99.99 itself, not the binary number next to it


def momentum(value: object) -> float:
    """Return a share from 0 to 1."""
    number = _checks.real(value, "momentum")
    if not 0 <= number <= 1:
        raise bad_value("momentum", f"must be from 0 to 1, got {number}")
    return number


def moments(value: object, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the variance of each channel."""
    if not isinstance(value, tuple) or len(value) != 2:
        got = f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__
        raise bad_type("reference", f"must be a tuple of a mean and a variance, got {got}")
    found = []
    for part, name in zip(value, ("reference's mean", "reference's variance"), strict=True):
        array = _checks.as_array(part, name)
        if array.dtype.kind not in "fiu":
            raise bad_type(name, f"must be real numbers, got dtype {array.dtype}")
        if array.shape != (channels,):
            raise bad_value(name, f"must have {channels} values, one a channel, got shape {array.shape}")
        with np.errstate(over="ignore"):  # of what is wider than float64
            numbers = array.astype(np.float64)
        if not np.isfinite(numbers).all():
            raise bad_value(name, f"must be finite, got {numbers[~np.isfinite(numbers)][0]}")
        found.append(numbers)
    if (found[1] < 0).any():
        raise bad_value("reference's variance", f"must not be negative, got {found[1].min()}")
    return found[0], found[1]


def output_dtype(*candidates: DType | None) -> DType:
    """Return the first type that is given."""
    for value in candidates:
        if value is not None:
            return _checks.dtype(value, "dtype")
    raise bad_type("dtype", "is required: neither the norm nor statistics say what the output is")


def batch_norm(value: object) -> BatchNorm:
    """Return a BatchNorm."""
    if not isinstance(value, BatchNorm):
        raise bad_type("norm", f"must be a bytenorm.BatchNorm, got {type(value).__name__}")
    return value
