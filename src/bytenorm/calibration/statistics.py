"""Exact statistics of quantized channels: integers, the same in any order, batch size and number of threads.

Long, for it is one class, half of it what its methods promise, with examples.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _checks, _core
from .._dtypes import DType
from .._errors import bad_type, bad_value
from .._tensors.tensor import QuantizedTensor
from . import _statistics_file as file

# A square is at most 255^2 = 65025, and 2^47 * 65025 < 2^63: sums of so many codes fit int64. Witness that those
# of more may not: 2^63 / 65025 = 1.418e14 = 2^47.01 codes of 255.
INT64_HOLDS = 1 << 47
CODES = np.arange(256, dtype=np.int64)


class ChannelStatistics:
    """What the codes of each channel are: count, range, sums and, unless that is turned off, a histogram.

    All numbers are exact integers, so that gathering them in parts, in any order and on several machines, gives
    the same ones. They belong to one quantization: that of the first tensor. One thread at a time may change an
    object; threads gather into objects of their own, which `merge` puts together.

    Parameters
    ----------
    channels : int
        How many channels there are, 1 or more.
    histogram : bool, optional
        Whether codes are counted one by one. Every other number follows from the counts. Without them gathering
        is 10 to 20 times as fast.

    Attributes
    ----------
    channels : int
    dtype : DType or None
        The type of the codes; None, like scale and zero_point, before anything was gathered.
    scale : float, numpy.ndarray of float64 of shape (channels,), or None
    zero_point : int, numpy.ndarray of int64 of shape (channels,), or None
    count : int
        The codes of each channel; all have as many.
    minimum, maximum : numpy.ndarray of int64, shape (channels,)
        The smallest and largest code. A ValueError if there is no code.
    sum, sum_of_squares : numpy.ndarray of object, shape (channels,)
        Of the codes, as Python integers of any size.
    histogram : numpy.ndarray of int64, shape (channels, 256), or None
        A copy. ``histogram[c, k]`` is how often channel c has the code ``dtype.qmin + k``; None if not counted.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or out of range.

    Examples
    --------
    >>> import numpy as np, bytenorm as bn
    >>> from bytenorm.calibration import ChannelStatistics
    >>> statistics = ChannelStatistics(2)
    >>> for batch in ([[130, 4], [132, 4]], [[131, 8]]):
    ...     statistics.update(bn.QuantizedTensor(np.array(batch, np.uint8), 0.5, 128))
    >>> statistics.count, statistics.maximum, statistics.sum
    (3, array([132,   8]), array([393, 16], dtype=object))
    >>> statistics.mean(), statistics.var(unbiased=True)
    (array([  1.5       , -61.33333333]), array([0.25      , 1.33333333]))
    """

    def __init__(self, channels: int, *, histogram: bool = True) -> None:
        self._channels = _checks.channel_count(channels)
        self._count = 0
        self._dtype: DType | None = None
        self._scale: Any = None
        self._zero_point: Any = None
        # Codes are counted from the smallest of their type here: 0 to 255.
        self._counts: np.ndarray | None = None
        if _checks.flag(histogram, "histogram"):
            self._counts = np.zeros((self._channels, 256), np.int64)
        else:
            self._sums = np.zeros((2, self._channels), np.int64)  # of codes, of squares; of object when large
            self._range = np.array([[255], [0]]).repeat(self._channels, axis=1)

    @property
    def channels(self) -> int:
        """How many channels there are."""
        return self._channels

    @property
    def count(self) -> int:
        """How many codes each channel has had."""
        return self._count

    @property
    def dtype(self) -> DType | None:
        """`quint8` or `qint8`, or None before anything was gathered."""
        return self._dtype

    @property
    def scale(self) -> Any:
        """The scale of what was gathered, a number or one a channel, or None."""
        return self._scale

    @property
    def zero_point(self) -> Any:
        """The zero point of what was gathered, a number or one a channel, or None."""
        return self._zero_point

    @property
    def minimum(self) -> np.ndarray:
        """The smallest code of each channel."""
        return self._extremes()[0]

    @property
    def maximum(self) -> np.ndarray:
        """The largest code of each channel."""
        return self._extremes()[1]

    @property
    def sum(self) -> np.ndarray:
        """The sum of the codes of each channel, exactly."""
        total: np.ndarray = self._totals()[0] + self._count * self._lowest()
        return total

    @property
    def sum_of_squares(self) -> np.ndarray:
        """The sum of the squares of the codes of each channel, exactly."""
        sums, squares = self._totals()
        lowest = self._lowest()
        total: np.ndarray = squares + 2 * lowest * sums + self._count * lowest**2
        return total

    @property
    def histogram(self) -> np.ndarray | None:
        """How often each channel has each code, from the smallest of the type on; None if not counted."""
        return None if self._counts is None else self._counts.copy()

    def update(self, qx: QuantizedTensor, axis: int = 1) -> None:
        """Gather a tensor.

        Parameters
        ----------
        qx : QuantizedTensor
            Of any shape and strides, empty too, quantized per tensor, or per channel along `axis`.
        axis : int, optional
            The axis of the channels.

        Raises
        ------
        TypeError
            If an argument is of the wrong kind.
        ValueError
            If there are other channels than `channels`, or the quantization is not that of the first tensor.
            Nothing is changed then.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> from bytenorm.calibration import ChannelStatistics
        >>> statistics = ChannelStatistics(2)
        >>> statistics.update(bn.QuantizedTensor(np.array([[130, 4], [132, 4]], np.uint8), 0.5, 128))
        >>> statistics.count, statistics.minimum
        (2, array([130,   4]))
        """
        q, at = _checks.statistics_input(qx, axis, self._channels)
        quantization = (q.dtype, q.scale, q.zero_point)
        _checks.same_quantization(self._quantization(), quantization, "qx")
        count = _checks.code_count(self._count + q.data.size // self._channels, "qx")
        if self._counts is not None:
            _core.add_channel_histogram(q.data, at, self._counts)
        elif count <= INT64_HOLDS:
            _core.add_channel_sums(q.data, at, self._sums, self._range)
        else:
            sums = np.zeros((2, self._channels), np.int64)
            _core.add_channel_sums(q.data, at, sums, self._range)
            self._sums = _added(self._sums, sums, count)
        self._dtype, self._scale, self._zero_point = quantization
        self._count = count

    def merge(self, other: ChannelStatistics) -> None:
        """Add what another object has gathered, as if this one had gathered it.

        Parameters
        ----------
        other : ChannelStatistics
            Of as many channels, with a histogram if this one has one, and without if not. It is not changed. One
            that has gathered nothing changes nothing.

        Raises
        ------
        TypeError
            If `other` is of another type.
        ValueError
            If channels, histogram or quantization differ. Nothing is changed then.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> from bytenorm.calibration import ChannelStatistics
        >>> statistics = ChannelStatistics(2)
        >>> statistics.update(bn.QuantizedTensor(np.array([[130, 4], [132, 4]], np.uint8), 0.5, 128))
        >>> total = ChannelStatistics(2)
        >>> total.merge(statistics)
        >>> total.merge(statistics)
        >>> total.count, total.sum
        (4, array([524, 16], dtype=object))
        """
        if not _checks.is_a(other, ChannelStatistics):
            raise bad_type("other", f"must be a ChannelStatistics, got {type(other).__name__}")
        if other._channels != self._channels:
            raise bad_value("other", f"has {other._channels} channels, {self._channels} are wanted")
        if (other._counts is None) != (self._counts is None):
            has = "no histogram, one is" if other._counts is None else "a histogram, none is"
            raise bad_value("other", f"has {has} wanted: gather both with or both without")
        if other._dtype is None:
            return
        _checks.same_quantization(self._quantization(), other._quantization(), "other")
        count = _checks.code_count(self._count + other._count, "other")
        if self._counts is not None:
            self._counts = self._counts + other._counts
        else:
            ends = np.minimum(self._range[0], other._range[0]), np.maximum(self._range[1], other._range[1])
            self._sums, self._range = _added(self._sums, other._sums, count), np.stack(ends)
        self._dtype, self._scale, self._zero_point = other._quantization()
        self._count = count

    @classmethod
    def concatenate(cls, parts: Sequence[ChannelStatistics]) -> ChannelStatistics:
        """Return the statistics of several groups of channels side by side, as of one tensor with all of them.

        Parameters
        ----------
        parts : sequence of ChannelStatistics
            One or more, of as many codes a channel and one dtype, all with or all without a histogram. Scales and
            zero points may differ: they are kept a channel then.

        Returns
        -------
        ChannelStatistics
            Of all channels, in the order of the parts, which are not changed.

        Raises
        ------
        TypeError
            If a part is of another type.
        ValueError
            If there is no part, or count, dtype or histogram differ.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> from bytenorm.calibration import ChannelStatistics
        >>> left, right = ChannelStatistics(2), ChannelStatistics(1)
        >>> left.update(bn.QuantizedTensor(np.array([[130, 4]], np.uint8), 0.5, 128))
        >>> right.update(bn.QuantizedTensor(np.array([[7]], np.uint8), 0.5, 128))
        >>> ChannelStatistics.concatenate([left, right]).sum
        array([130, 4, 7], dtype=object)
        """
        if not parts:
            raise bad_value("parts", "must hold at least one ChannelStatistics, got none")
        for i, part in enumerate(parts):
            if not _checks.is_a(part, ChannelStatistics):
                raise bad_type(f"parts[{i}]", f"must be a ChannelStatistics, got {type(part).__name__}")
            for what, its, wanted in (
                ("count", part._count, parts[0]._count),
                ("dtype", part._dtype, parts[0]._dtype),
                ("histogram", part._counts is not None, parts[0]._counts is not None),
            ):
                if its != wanted:
                    raise bad_value(f"parts[{i}]", f"has {what} {its}, parts[0] {wanted}: the same is wanted")
        first = parts[0]
        made = cls(sum(part._channels for part in parts), histogram=first._counts is not None)
        made._count, made._dtype = first._count, first._dtype
        made._scale, made._zero_point = first._scale, first._zero_point
        if any(
            np.ndim(part._scale) > 0 or (part._scale, part._zero_point) != (first._scale, first._zero_point)
            for part in parts
        ):
            made._scale = np.concatenate([np.broadcast_to(part._scale, (part._channels,)) for part in parts])
            made._zero_point = np.concatenate(
                [np.broadcast_to(part._zero_point, (part._channels,)) for part in parts]
            )
            made._scale.flags.writeable = made._zero_point.flags.writeable = False
        if first._counts is not None:
            made._counts = np.concatenate([part._counts for part in parts if part._counts is not None])
        else:
            made._sums = np.concatenate([part._sums for part in parts], axis=1)
            made._range = np.concatenate([part._range for part in parts], axis=1)
        return made

    def mean(self) -> np.ndarray:
        """Return the mean of each channel in real units.

        Computes ``scale * (sum / count - zero_point)`` in exact rational numbers, with the scale as float64, and
        rounds once: each result is the float64 nearest to the true value.

        Returns
        -------
        numpy.ndarray of float64, shape (channels,)

        Raises
        ------
        ValueError
            If there is no code.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> from bytenorm.calibration import ChannelStatistics
        >>> statistics = ChannelStatistics(2)
        >>> statistics.update(bn.QuantizedTensor(np.array([[130, 4], [132, 4]], np.uint8), 0.5, 128))
        >>> statistics.mean()
        array([  1.5, -62. ])
        """
        self._require_codes("a mean", 1)
        sums, n, lowest = self._totals()[0], self._count, self._lowest()
        means = [
            a * (s + n * (lowest - zero)) / (b * n)  # whole numbers; Python rounds their quotient correctly
            for s, (a, b), zero in zip(sums, self._ratios(), self._zero_points(), strict=True)
        ]
        return np.array(means, np.float64)

    def var(self, unbiased: bool = False) -> np.ndarray:
        """Return the variance of each channel in real units squared.

        Computes ``scale**2 * (sum_of_squares / count - (sum / count)**2)`` in exact rational numbers, with the
        scale as float64, and rounds once: each result is the float64 nearest to the true value.

        Parameters
        ----------
        unbiased : bool, optional
            Divide the squared distances from the mean by ``count - 1`` rather than by ``count``.

        Returns
        -------
        numpy.ndarray of float64, shape (channels,)

        Raises
        ------
        ValueError
            If there is no code, or only one and `unbiased`.
        TypeError
            If `unbiased` is no bool.

        Examples
        --------
        >>> import numpy as np, bytenorm as bn
        >>> from bytenorm.calibration import ChannelStatistics
        >>> statistics = ChannelStatistics(2)
        >>> statistics.update(bn.QuantizedTensor(np.array([[130, 4], [132, 4]], np.uint8), 0.5, 128))
        >>> statistics.var(), statistics.var(unbiased=True)
        (array([0.25, 0.  ]), array([0.5, 0. ]))
        """
        less = int(_checks.flag(unbiased, "unbiased"))
        self._require_codes("an unbiased variance" if less else "a variance", 1 + less)
        n = self._count
        variances = [
            a * a * (n * square - s * s) / (b * b * n * (n - less))
            for s, square, (a, b) in zip(*self._totals(), self._ratios(), strict=True)
        ]
        return np.array(variances, np.float64)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a file, which `load` reads.

        Parameters
        ----------
        path : str or path
            The file, ``.npz`` by custom. It is written beside its place and then moved there: a file that
            exists is replaced as a whole or not at all.

        Raises
        ------
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np, bytenorm as bn
        >>> from bytenorm.calibration import ChannelStatistics
        >>> statistics = ChannelStatistics(2)
        >>> statistics.update(bn.QuantizedTensor(np.array([[130, 4], [132, 4]], np.uint8), 0.5, 128))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     statistics.save(os.path.join(folder, "conv1.npz"))
        ...     os.listdir(folder)
        ['conv1.npz']
        """
        parts = {"counts": self._counts} if self._counts is not None else self._parts()
        file.write(path, self._channels, self._count, self._quantization(), parts)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ChannelStatistics:
        """Return the statistics that `save` wrote.

        Parameters
        ----------
        path : str or path
            The file.

        Returns
        -------
        ChannelStatistics
            Equal to what was saved.

        Raises
        ------
        OSError
            If the file cannot be opened.
        ValueError
            If it is no such file, is damaged, or its numbers contradict each other. Nothing in it is executed.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np, bytenorm as bn
        >>> from bytenorm.calibration import ChannelStatistics
        >>> statistics = ChannelStatistics(2)
        >>> statistics.update(bn.QuantizedTensor(np.array([[130, 4], [132, 4]], np.uint8), 0.5, 128))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "conv1.npz")
        ...     statistics.save(path)
        ...     ChannelStatistics.load(path) == statistics
        True
        """
        found = file.read(path)
        made = cls(found.channels, histogram=found.counts is not None)
        made._count = found.count
        made._dtype, made._scale, made._zero_point = found.quantization
        if found.counts is not None:
            made._counts = found.counts
        else:
            made._sums, made._range = _narrowed(found.sums, found.count), found.range
        return made

    def __copy__(self) -> ChannelStatistics:
        return copy.deepcopy(self)  # `update` adds to arrays in place

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ChannelStatistics):
            return NotImplemented
        if (self._channels, self._count) != (other._channels, other._count):
            return False
        if not _checks.equal_quantizations(self._quantization(), other._quantization()):
            return False
        if self._counts is not None and other._counts is not None:
            return np.array_equal(self._counts, other._counts)
        if self._counts is not other._counts:  # one of them is None
            return False
        return np.array_equal(self._sums, other._sums) and np.array_equal(self._range, other._range)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = [f"{self._channels}"]
        if self._counts is None:
            parts.append("histogram=False")
        what = "nothing gathered" if self._dtype is None else f"{self._count} {self._dtype!r} codes a channel"
        return f"<ChannelStatistics({', '.join(parts)}): {what}>"

    def _quantization(self) -> tuple[DType | None, Any, Any]:
        return self._dtype, self._scale, self._zero_point

    def _lowest(self) -> int:
        return 0 if self._dtype is None else self._dtype.qmin

    def _require_codes(self, what: str, least: int) -> None:
        if self._count < least:
            raise ValueError(f"{what} needs at least {least} codes a channel, there are {self._count}")

    def _totals(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of the codes, counted from the smallest, and of their squares, as Python integers."""
        if self._counts is None:
            sums, squares = self._sums.astype(object)
            return sums, squares
        # Halves of 32 bits: 256 * 2^32 * 65025 < 2^56.
        low, high = self._counts & 0xFFFFFFFF, self._counts >> 32
        sums, squares = ((low @ v).astype(object) + ((high @ v).astype(object) << 32) for v in (CODES, CODES**2))
        return sums, squares

    def _extremes(self) -> tuple[np.ndarray, np.ndarray]:
        self._require_codes("a minimum or maximum", 1)
        if self._counts is None:
            return self._range[0] + self._lowest(), self._range[1] + self._lowest()
        seen = self._counts > 0
        return seen.argmax(1) + self._lowest(), 255 - seen[:, ::-1].argmax(1) + self._lowest()

    def _parts(self) -> dict[str, np.ndarray]:
        halves = [[[int(v) >> 64, int(v) & (1 << 64) - 1] for v in row] for row in self._sums]
        return {"sums": np.array(halves, np.uint64), "range": self._range.astype(np.uint8)}

    def _ratios(self) -> list[tuple[int, int]]:
        scales = np.broadcast_to(self._scale, (self._channels,)).tolist()
        return [float(scale).as_integer_ratio() for scale in scales]

    def _zero_points(self) -> list[int]:
        return list(np.broadcast_to(self._zero_point, (self._channels,)).tolist())


def _added(a: np.ndarray, b: np.ndarray, count: int) -> np.ndarray:
    """Return sums of `count` codes: Python integers where int64 might not hold them."""
    total: np.ndarray = a.astype(object) + b.astype(object) if count > INT64_HOLDS else a + b
    return total


def _narrowed(sums: np.ndarray, count: int) -> np.ndarray:
    return sums if count > INT64_HOLDS else sums.astype(np.int64)
