"""Statistics in a file: what is written, and every check of what is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from .. import _checks
from .._dtypes import DType, qint8, quint8
from .._errors import argument_of, bad_value
from .._files import npy, npz
from .._files.writing import replacing

FORMAT = "bytenorm channel statistics"
VERSION = 1
ZIP = b"PK\x03\x04"
DTYPES = {"": None, quint8.name: quint8, qint8.name: qint8}
HEADER = {"format", "version", "channels", "count", "dtype", "scale", "zero_point"}
SINGLE = {"channels": "i", "count": "i", "dtype": "U"}  # the kinds of dtype
LONGEST = 1024  # bytes of a text


@dataclass(frozen=True)
class Found:
    """What a file holds: counts, or sums (Python integers) and range, of codes from the smallest on."""

    channels: int
    count: int
    quantization: tuple[DType | None, Any, Any]
    counts: np.ndarray | None
    sums: np.ndarray
    range: np.ndarray


def write(
    path: str | os.PathLike[str],
    channels: int,
    count: int,
    quantization: tuple[DType | None, Any, Any],
    parts: Mapping[str, np.ndarray],
) -> None:
    """Write a file beside its place, then move it there."""
    dtype, scale, zero_point = quantization
    target = Path(path)
    members = {
        "format": np.array(FORMAT),
        "version": np.array(VERSION),
        "channels": np.array(channels, np.int64),
        "count": np.array(count, np.int64),
        "dtype": np.array("" if dtype is None else dtype.name),
        "scale": np.array(0.0 if scale is None else scale, np.float64),
        "zero_point": np.array(0 if zero_point is None else zero_point, np.int64),
        **parts,
    }
    with replacing(target, f"path {str(target)!r}") as file:
        np.savez_compressed(file, **members)  # type: ignore[arg-type]


def read(path: str | os.PathLike[str]) -> Found:
    """Read a file and check it."""
    members = _members(path)
    channels, count = int(members["channels"]), int(members["count"])
    if count < 0:
        _refuse(path, f"{channels} channels of {count} codes")
    quantization = _quantization(path, members, channels)
    if quantization[0] is None and count > 0:
        _refuse(path, f"{count} codes a channel of no dtype")
    if "counts" in members:
        counts = members["counts"]
        # In two halves, so that no sum of 256 wraps.
        high, low = (counts >> 32).sum(1), (counts & 0xFFFFFFFF).sum(1)
        same = (high + (low >> 32) == count >> 32) & (low & 0xFFFFFFFF == count & 0xFFFFFFFF)
        if (counts < 0).any() or not same.all():
            _refuse(path, f"a histogram whose total is not the count of {count} codes a channel")
        nothing = np.zeros((2, channels), np.int64)
        return Found(channels, count, quantization, counts, nothing, nothing)
    halves, ends = members["sums"].astype(object), members["range"].astype(np.int64)
    sums = (halves[..., 0] << 64) + halves[..., 1]
    _check_sums(path, count, sums, ends)
    return Found(channels, count, quantization, None, sums, ends)


def _members(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return the arrays of a file; nothing is unpacked whose header is not as it should be."""
    with Path(path).open("rb") as stream:
        try:
            if stream.read(4) != ZIP:
                _refuse(path, "another kind of file")
            layouts = npz.layouts(stream, npy.NUMBERS + "U")
            if _short(stream, layouts, "format", "U") != FORMAT:
                _refuse(path, "another kind of file")
            version = _short(stream, layouts, "version", "i")
            if version != VERSION:
                _refuse(path, f"version {version}, not {VERSION}")
            names = sorted(layouts)
            parts = [["counts"], ["range", "sums"]]
            if names not in [sorted(HEADER | set(part)) for part in parts]:
                _refuse(path, f"other parts than it should have: {', '.join(names)}")
            for name, kind in SINGLE.items():
                if _short(stream, layouts, name, kind) is None:
                    _refuse(path, f"{name} of dtype {layouts[name].dtype} and shape {layouts[name].shape}")
            channels = int(npz.whole(stream, layouts["channels"]))
            if channels < 1:
                _refuse(path, f"{channels} channels")
            for name, (dtype, shape) in _wanted(channels).items():
                if name in layouts:
                    _require(path, name, layouts[name], dtype, shape)
            for name, kind in (("scale", "f"), ("zero_point", "i")):
                if layouts[name].dtype.kind != kind or layouts[name].shape not in ((), (channels,)):
                    came = f"{name} of dtype {layouts[name].dtype} and shape {layouts[name].shape}"
                    _refuse(path, f"{came}, not one value, or one value for each of {channels} channels")
            found = {name: npz.whole(stream, layouts[name]) for name in names}
        except Exception as error:  # NumPy and zipfile raise nearly anything for what is damaged or foreign
            if argument_of(error):
                raise
            reason = " ".join(str(error).split())
            raise bad_value(
                _name(path), f"cannot be read as channel statistics: {reason}", argument="path"
            ) from None
    return found


def _short(stream: IO[bytes], layouts: Mapping[str, npz.Layout], name: str, kind: str) -> Any:
    """Return one number or a short text, None if it is something else or not there."""
    layout = layouts.get(name)
    if layout is None or (layout.dtype.kind, layout.shape) != (kind, ()) or layout.size > LONGEST:
        return None
    return npz.whole(stream, layout).item()


def _wanted(channels: int) -> dict[str, tuple[Any, tuple[int, ...]]]:
    return {
        "counts": (np.int64, (channels, 256)),
        "sums": (np.uint64, (2, channels, 2)),
        "range": (np.uint8, (2, channels)),
    }


def _quantization(
    path: str | os.PathLike[str], members: Mapping[str, np.ndarray], channels: int
) -> tuple[DType | None, Any, Any]:
    name, scale, zero_point = str(members["dtype"]), members["scale"], members["zero_point"]
    if name not in DTYPES:
        _refuse(path, f"unknown dtype {name!r}")
    dtype = DTYPES[name]
    if dtype is None:
        return None, None, None
    try:
        if scale.ndim == 0 and zero_point.ndim == 0:
            return (
                dtype,
                _checks.scale(float(scale), "scale"),
                _checks.zero_point(int(zero_point), dtype, "zero_point"),
            )
        pair = _checks.channel_quantization(scale, zero_point, dtype, channels, ("scale", "zero_point"))
    except (ValueError, TypeError) as error:
        raise bad_value(_name(path), f"is damaged: {error}", argument="path") from None
    return dtype, *pair


def _check_sums(path: str | os.PathLike[str], count: int, sums: np.ndarray, ends: np.ndarray) -> None:
    """Refuse sums that no codes have: of n codes u from a to b, with both ends among them."""
    for c, (s, square, a, b) in enumerate(zip(*sums, *ends.astype(object), strict=True)):
        if count == 0:
            good = (s, square, a, b) == (0, 0, 255, 0)
        elif count == 1 or a == b:
            good = a == b and (s, square) == (count * a, count * a * a)
        else:
            good = a < b and (count - 1) * a + b <= s <= (count - 1) * b + a
            good = good and count * square >= s * s  # the variance is not negative
            good = good and square <= (a + b) * s - count * a * b  # (u - a) (b - u) is not negative
            good = good and (square - s) % 2 == 0  # u^2 and u are both odd or both even
        if not good:
            _refuse(path, f"numbers of channel {c} that no {count} codes have")


def _require(
    path: str | os.PathLike[str], name: str, layout: npz.Layout, dtype: Any, shape: tuple[int, ...]
) -> None:
    if layout.dtype != dtype or layout.shape != shape:
        came = f"{name} of dtype {layout.dtype} and shape {layout.shape}"
        _refuse(path, f"{came}, not {np.dtype(dtype)} and {shape}")


def _name(path: str | os.PathLike[str]) -> str:
    return os.fspath(path)


def _refuse(path: str | os.PathLike[str], why: str) -> NoReturn:
    raise bad_value(_name(path), f"holds no channel statistics of this package: {why}", argument="path")
