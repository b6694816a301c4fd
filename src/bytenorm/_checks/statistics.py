"""What statistics of channels are gathered of."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._dtypes import DType
from .._errors import bad_value
from .numbers import axis, integer
from .quantization import quantized

MOST_CODES = 2**63 - 1  # of a channel in statistics: the counts of a histogram are int64


Quantization = tuple[DType | None, Any, Any]


def channel_count(value: object) -> int:
    """Return how many channels statistics are for."""
    number = integer(value, "channels")
    if not 1 <= number <= MOST_CODES // 2048:  # 2048 bytes a channel; more would be no array
        raise bad_value("channels", f"must be 1 or more, and fit memory, got {number}")
    return number


def statistics_input(value: object, channel_axis: object, channels: int) -> tuple[Any, int]:
    """Return a tensor that statistics are gathered of, and its channel axis, counted from the front."""
    q = quantized(value, "qx")
    data = q.data
    at = axis(channel_axis, data.ndim, "axis")
    if q.axis is not None and q.axis != at:
        raise bad_value("qx", f"is quantized per channel along axis {q.axis}, but its channels are on axis {at}")
    if data.shape[at] != channels:
        raise bad_value(
            "qx", f"has {data.shape[at]} channels on axis {at} (shape {data.shape}), {channels} are wanted"
        )
    return q, at


def equal_quantizations(a: Quantization, b: Quantization) -> bool:
    """Whether two quantizations are the same: dtype, and scale and zero point per tensor or per channel."""
    if a[0] is not b[0]:
        return False
    if np.ndarray in (type(a[1]), type(b[1])):
        return type(a[1]) is type(b[1]) and all(np.array_equal(x, y) for x, y in zip(a[1:], b[1:], strict=True))
    return a[1:] == b[1:]


def same_quantization(have: Quantization, came: Quantization, name: str) -> None:
    """Refuse another quantization than the statistics have, if they have one."""
    if have[0] is None or equal_quantizations(have, came):
        return

    def words(q: Quantization) -> str:
        if np.ndim(q[1]):
            return f"{q[0]!r} per channel"
        return f"{q[0]!r}, scale {q[1]}, zero point {q[2]}"

    raise bad_value(
        name,
        f"must have the quantization of what was gathered before, {words(have)}, got {words(came)}"
        + (" with other numbers" if words(have) == words(came) else ""),
    )


def code_count(count: int, name: str) -> int:
    """Return how many codes a channel has with what came."""
    if count > MOST_CODES:
        raise bad_value(name, f"would make {count} codes a channel, at most {MOST_CODES} are counted")
    return count
