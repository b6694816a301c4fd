"""A batch norm in integers alone, for hardware and small processors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._dtypes import DType
from .integer_lines import Lines, contradiction

Vector = NDArray[np.int32]


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class IntegerBatchNorm:
    """A batch norm of one input quantization as a multiplier, an addend and a shift a channel.

    ``clip((x * multiplier[c] + addend[c]) >> shift[c], lowest, highest)`` in int32, with a shift that rounds down,
    is the code that the norm gives for the code `x` in channel `c`. All 256 inputs were tried. Made by
    `BatchNorm.to_integers`.

    Attributes
    ----------
    multiplier, addend, shift : numpy.ndarray of int32, shape (C,)
        Read-only. Of all that give the codes those with the smallest shift, at most 18, then the multiplier and
        then the addend nearest to 0. They are 0 where `proved` is False.
    lowest, highest : int
        The limits of the output: those of its dtype, or `lowest` its zero point if the norm has a relu.
    proved : numpy.ndarray of bool, shape (C,)
        Read-only. False where no integers give the codes; there `codes` has to do.
    codes : numpy.ndarray of uint8 or int8, shape (C, 256)
        Read-only. What the norm gives for each code of the input, from the smallest: a table for every channel.
    input_dtype, output_dtype : DType

    Examples
    --------
    >>> import bytenorm as bn
    >>> norm = bn.BatchNorm(None, None, [0.0, 0.0], [1.0, 3.0], eps=0, output_scale=0.2, output_zero_point=0)
    >>> n = norm.to_integers(0.1, 0, bn.quint8, partial=True)
    >>> n
    bytenorm.IntegerBatchNorm(2 channels, 1 of them not proved, lowest=0, highest=255,
        input_dtype=bytenorm.quint8, output_dtype=bytenorm.quint8)
    >>> n.unproved
    {0: 'no line gives the inputs 1, 3 and 5 the codes 0, 2 and 2'}
    >>> n.multiplier.tolist(), n.addend.tolist(), n.shift.tolist()
    ([0, 2365], [0, 4046], [0, 13])
    """

    multiplier: Vector
    addend: Vector
    shift: Vector
    lowest: int
    highest: int
    proved: NDArray[np.bool_]
    codes: NDArray[np.uint8] | NDArray[np.int8]
    input_dtype: DType
    output_dtype: DType

    @property
    def unproved(self) -> dict[int, str]:
        """Why there are no integers, for each channel without: three or four inputs that no line fits."""
        return {int(c): self._why(int(c)) for c in np.flatnonzero(~self.proved)}

    def _why(self, channel: int) -> str:
        first, codes = self.input_dtype.qmin, self.codes[channel].astype(np.int64)
        inputs = contradiction(codes, first, self.lowest, self.highest)
        assert inputs is not None, "a line that int32 does not hold"
        given, made = (_listed(values) for values in (inputs, codes[np.array(inputs) - first].tolist()))
        return f"no line gives the inputs {given} the codes {made}"

    def __repr__(self) -> str:
        channels, tables = len(self.proved), int(np.count_nonzero(~self.proved))
        return (
            f"bytenorm.IntegerBatchNorm({channels} channels, {tables} of them not proved, lowest={self.lowest}, "
            f"highest={self.highest},\n    input_dtype={self.input_dtype}, output_dtype={self.output_dtype})"
        )


def integers_for(
    codes: NDArray[np.uint8] | NDArray[np.int8], input_dtype: DType, output_dtype: DType, lowest: int
) -> IntegerBatchNorm:
    """Return the integers that give the codes of all inputs, from the smallest, shape (C, 256)."""
    found = Lines(codes, input_dtype.qmin, lowest, output_dtype.qmax)
    vectors = [_read_only(values.astype(np.int32)) for values in (found.multiplier, found.addend, found.shift)]
    return IntegerBatchNorm(
        vectors[0],
        vectors[1],
        vectors[2],
        lowest,
        output_dtype.qmax,
        _read_only(found.proved),
        _read_only(codes),
        input_dtype,
        output_dtype,
    )


def refuse_unproved(integers: IntegerBatchNorm) -> None:
    """Raise a ValueError that names the channels without integers, if there are some."""
    channels = np.flatnonzero(~integers.proved).tolist()
    if channels:
        more = "" if len(channels) <= 8 else f" and {len(channels) - 8} more"
        raise ValueError(
            f"no integers give the codes of channel {', '.join(map(str, channels[:8]))}{more}: "
            f"in channel {channels[0]} {integers._why(channels[0])}; "
            "partial=True returns the others, and a table of each channel"
        )


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values[:-1])) + f" and {values[-1]}"


def _read_only(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
