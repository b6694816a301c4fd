"""The 8-bit types and the ways their bytes stand for real numbers."""

from __future__ import annotations

import copyreg
from typing import Final

import numpy as np


class DType:
    """An 8-bit quantized type: `quint8` or `qint8`.

    Attributes
    ----------
    name : str
        ``"quint8"`` or ``"qint8"``.
    numpy : numpy.dtype
        The dtype of the stored bytes: uint8 or int8.
    qmin, qmax : int
        The smallest and largest code.

    Examples
    --------
    >>> import bytenorm as bn
    >>> bn.qint8, bn.qint8.qmin, bn.qint8.qmax, bn.qint8.numpy
    (bytenorm.qint8, -128, 127, dtype('int8'))
    """

    __slots__ = ("name", "numpy", "qmax", "qmin")
    name: Final[str]  # type: ignore[misc]
    numpy: Final[np.dtype[np.uint8] | np.dtype[np.int8]]  # type: ignore[misc]
    qmin: Final[int]  # type: ignore[misc]
    qmax: Final[int]  # type: ignore[misc]

    def __init__(self, name: str, numpy: np.dtype[np.uint8] | np.dtype[np.int8]) -> None:
        limits = np.iinfo(numpy)
        for field, value in (
            ("name", name),
            ("numpy", numpy),
            ("qmin", int(limits.min)),
            ("qmax", int(limits.max)),
        ):
            object.__setattr__(self, field, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self!r} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{self!r} is immutable")

    def __repr__(self) -> str:
        return f"bytenorm.{self.name}"


class QScheme:
    """How scale and zero point are laid out: `per_tensor_affine` or `per_channel_affine`.

    Attributes
    ----------
    name : str
        ``"per_tensor_affine"`` or ``"per_channel_affine"``.

    Examples
    --------
    >>> import numpy as np, bytenorm as bn
    >>> bn.QuantizedTensor(np.zeros(3, np.uint8), 0.5, 0).qscheme()
    bytenorm.per_tensor_affine
    """

    __slots__ = ("name",)
    name: Final[str]  # type: ignore[misc]

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "name", name)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{self!r} is immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{self!r} is immutable")

    def __repr__(self) -> str:
        return f"bytenorm.{self.name}"


def _by_name(constant: DType | QScheme) -> str:
    return constant.name  # pickle and copy find the constant of this name in this module: one object each


copyreg.pickle(DType, _by_name)
copyreg.pickle(QScheme, _by_name)

quint8: Final = DType("quint8", np.dtype(np.uint8))
qint8: Final = DType("qint8", np.dtype(np.int8))
per_tensor_affine: Final = QScheme("per_tensor_affine")
per_channel_affine: Final = QScheme("per_channel_affine")


def dtype_of(data: np.ndarray) -> DType:
    """Return the quantized type of an array of bytes."""
    return qint8 if data.dtype == np.int8 else quint8
