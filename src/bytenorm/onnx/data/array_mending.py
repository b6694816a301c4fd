"""What makes an array that does not fit a model's input fit: the end of a message, as code to be copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from ..model.inputs import InputInfo


def fits(shape: Sequence[int], info: InputInfo, axis: int | None) -> bool:
    """Say whether an array of such a shape can be fed; its axis of samples may have any length."""
    return len(shape) == len(info.shape) and all(
        want in (None, n) or i == axis for i, (n, want) in enumerate(zip(shape, info.shape, strict=True))
    )


def as_wanted(dtype: np.dtype, wanted: np.dtype) -> str:
    """Return how numbers of one type become those of another, where nothing but rounding happens."""
    if dtype.kind == wanted.kind == "f" or (dtype.kind in "iu" and wanted.kind in "iu" and wanted.itemsize > 2):
        return f": array.astype(np.{wanted.name})"
    if dtype.kind in "iu" and wanted.kind == "f":
        return f": array.astype(np.{wanted.name}), normalized as in the training"
    return ""


def with_axes(shape: tuple[int, ...], info: InputInfo, axis: int | None) -> str:
    """Return how an array comes to the axes that are wanted, if one is missing or the channels are elsewhere."""
    ways = {
        "array[np.newaxis]": (1, *shape),
        "array[:, np.newaxis]": (*shape[:1], 1, *shape[1:]),
        "array[..., np.newaxis]": (*shape, 1),
        "np.moveaxis(array, -1, 1)": (*shape[:1], *shape[-1:], *shape[1:-1]),
        "np.moveaxis(array, 1, -1)": (*shape[:1], *shape[2:], *shape[1:2]),
        # One image, as picture libraries give them.
        "array[np.newaxis, np.newaxis]": (1, 1, *shape),
        "array[np.newaxis, ..., np.newaxis]": (1, *shape, 1),
        "np.moveaxis(array, -1, 0)[np.newaxis]": (1, *shape[-1:], *shape[:-1]),
        "np.moveaxis(array, 0, -1)[np.newaxis]": (1, *shape[1:], *shape[:1]),
    }
    found = [way for way, made in ways.items() if fits(made, info, axis)]
    return f": {found[0]}" if found else ""
