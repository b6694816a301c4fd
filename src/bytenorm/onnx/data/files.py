"""Files of arrays and images as inputs of a model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..._errors import bad_value
from ..._files import npz
from ..._files.npy import map_array, reading
from .images import ImageInput, ImageReader
from .input_checks import Item, layouts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ..._files.given import GivenFiles
    from ..model.inputs import InputInfo
    from .input_checks import Array, InputChecks


ARRAYS = (".npy", ".npz")
IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


# --- files ------------------------------------------------------------------------------------------------------


def items_of_files(
    files: GivenFiles, checks: InputChecks, images: ImageInput | None, label: str
) -> Iterator[Item]:
    """Return the items of files."""
    if images is not None and not any(_is_image(found) for found in files.paths):
        raise bad_value("images", f"are for files of images, {label} has none")
    reader = ImageReader(checks, images or ImageInput()) if any(map(_is_image, files.paths)) else None
    return _file_items(files.paths, checks, reader)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGES


def _file_items(paths: list[Path], checks: InputChecks, reader: ImageReader | None) -> Iterator[Item]:
    at_a_time = checks.fixed or 1
    waiting: list[Path] = []
    for path in paths:
        label = f"{checks.argument} {str(path)!r}"
        if reader is not None and _is_image(path):
            waiting.append(path)
            if len(waiting) == at_a_time:
                yield Item(label, at_a_time, at_a_time, partial(reader.read, tuple(waiting)))
                waiting.clear()
            continue
        _require_whole(waiting, checks)
        if path.suffix.lower() == ".npz":
            named = partial(_npz_layouts, path, label, checks.inputs)
            layouts = {n: (at.shape, at.dtype) for n, at in named().items()}
            yield checks.item(label, layouts, partial(_read_npz, path, label, named))
            continue
        if len(checks.inputs) != 1:
            wanted = ", ".join(map(str, checks.inputs))
            raise bad_value(label, f"holds one array, the model wants {wanted}: a .npz file is wanted")
        load = partial(_map_npy, path, label, checks.inputs[0].name)
        yield checks.item(label, layouts_of(load()), load)
    _require_whole(waiting, checks)


def _require_whole(waiting: list[Path], checks: InputChecks) -> None:
    if waiting:
        raise bad_value(
            f"{checks.argument} {str(waiting[-1])!r}",
            f"is the last of {len(waiting)} images that are left over: the model takes {checks.fixed} at a time",
        )


def _map_npy(path: Path, label: str, name: str) -> dict[str, np.ndarray]:
    return {name: map_array(path, label)}


def _npz_layouts(path: Path, label: str, inputs: Sequence[InputInfo]) -> dict[str, npz.Layout]:
    """Return what a file holds by input name; where there is one of both, the array's own name tells nothing."""
    with reading(label, "a .npz file"):
        found = npz.layouts(path)
    return {inputs[0].name: next(iter(found.values()))} if len(found) == len(inputs) == 1 else found


def _read_npz(path: Path, label: str, named: Callable[[], dict[str, npz.Layout]]) -> dict[str, Array]:
    """Return the arrays of a file; what has rows is unpacked when these are wanted."""
    found: dict[str, Array] = {}
    for name, layout in named().items():
        if layout.shape:
            found[name] = npz.Rows(path, layout, label)
        else:
            with reading(label, "a .npz file"):
                found[name] = npz.whole(path, layout)
    return found
