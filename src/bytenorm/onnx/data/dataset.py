"""Data to calibrate and compare models with: arrays, NumPy files and images, checked and cut into batches."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

import numpy as np
import onnx

from ... import _checks
from ..._files import npz
from ..._files.given import GivenFiles, given_files, told_of_skipped
from ..._files.npy import let_go, map_array, reading, size_of
from ...calibration.judging import evenly
from ..model.files import InputInfo, input_infos, load_model
from . import passes
from .array_mending import as_wanted, fits, with_axes
from .batch_axes import BatchAxes, batch_axes_of, part_of, samples_in, size_of_batches

LARGEST_BATCH = 32  # samples, where the model leaves it open
# Bytes of inputs in such a batch. What a network makes of them is large: eight layers of 8 channels as large as a
# photograph's 3 have a hundred times the bytes in a run. Larger batches are no faster.
LARGEST_BYTES = 2 << 20
ARRAYS = (".npy", ".npz")
IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
LARGEST_IMAGE = 2 * 89_478_485  # pixels; Pillow opens no larger one
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")  # Pillow knows many more, and starts programs for some

Layouts = Mapping[Any, tuple[tuple[int, ...], np.dtype]]
Array = np.ndarray | npz.Rows


@dataclass(frozen=True)
class ImageInput:
    """How the pixels of an image become numbers: ``(pixel * scale - mean) / std`` in float32.

    An image is converted to RGB, or to grey for a model with one channel, and scaled (bilinear) so that it just
    covers the model's height and width, of which the centre is taken: the shorter side decides, the proportions
    stay. Where the model leaves height and width open the image keeps its own. Transparency is dropped, and an
    orientation that a camera has noted is not followed. A model with a uint8 input gets the pixels themselves.

    Parameters
    ----------
    mean, std : tuple of float, optional
        One number, or one a channel; in the unit that `scale` leads to.
    scale : float, optional
        From the pixels 0 to 255 to that unit.

    Raises
    ------
    TypeError
        If one is no number or tuple of numbers.
    ValueError
        If one is not finite in float32, or std or scale is not positive there.

    Examples
    --------
    >>> from bytenorm.onnx.data.dataset import ImageInput
    >>> ImageInput(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).std
    (0.229, 0.224, 0.225)
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1 / 255

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Iterable):
                raise TypeError(f"{name} must be a tuple of numbers, got {type(value).__name__}")
            numbers = tuple(_checks.real(number, f"{name}[{i}]") for i, number in enumerate(value))
            if len(numbers) not in (1, 3):
                raise ValueError(f"{name} must have 1 or 3 numbers, got {len(numbers)}")
            for number in numbers:
                _require_float32(number, name, positive=name == "std")
            object.__setattr__(self, name, numbers)
        scale = _checks.real(self.scale, "scale")
        _require_float32(scale, "scale", positive=True)
        object.__setattr__(self, "scale", scale)


def _require_float32(number: float, name: str, *, positive: bool) -> None:
    with np.errstate(all="ignore"):
        narrow = np.float32(number)
    if not np.isfinite(narrow) or (positive and narrow <= 0):
        raise ValueError(f"{name} must be {'positive and ' * positive}finite in float32, got {number}")


class Dataset:
    """Batches of a model's inputs; every pass gives the same ones, checked again. Made by `open_data`.

    Iterating gives dicts of arrays by input name, C-contiguous, with the dtypes and fixed dimensions that the
    model wants and without NaN and infinities. Files are read in each pass, one at a time. ``len`` is the number
    of batches.

    Attributes
    ----------
    inputs : tuple of InputInfo
        What the model wants.
    batch_axes : dict of str to int or None
        The axis of each input that counts samples; None for one that goes to every batch as it is.
    samples : int
        The number of samples in a pass.
    skipped : tuple of str
        Files of no known kind that lie between those that are read.

    Examples
    --------
    >>> import numpy as np
    >>> from onnx import TensorProto, helper
    >>> from bytenorm.onnx.data.dataset import open_data
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy")
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    >>> data = open_data([{"x": np.ones((40, 3), np.float32)}], helper.make_model(graph))
    >>> data.samples, len(data), [batch["x"].shape for batch in data]
    (40, 2, [(32, 3), (8, 3)])
    """

    def __init__(self, items: Iterable[_Item], plan: list[tuple[int, int, int]], checks: _Checks) -> None:
        if not plan:
            raise ValueError(f"{checks.argument} holds no samples")
        self._items = items
        self._plan = plan  # of each item the rows that it has, those that are used, and those of a batch
        self._checks = checks
        self.inputs, self.batch_axes = checks.inputs, checks.axes
        self.samples = sum(used for _, used, _ in plan)
        self.skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(-(-used // at_once) for _, used, at_once in self._plan)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        items = iter(self._items)
        for rows, used, at_once in self._plan:
            item = next(items, None)
            if item is None:
                raise ValueError(f"{self._checks.argument} has fewer samples in a later pass than in the first")
            arrays = dict(item.load())
            now = self._checks.rows(item.label, _layouts(arrays))
            if now != rows:
                raise ValueError(f"{item.label} has {now} rows in a later pass, {rows} in the first")
            for name, axis in self.batch_axes.items():
                if axis != 0 and arrays[name].ndim:  # archives give rows only
                    arrays[name] = arrays[name][:]
            for start in range(0, used, at_once):
                batch = self._checks.cut(item.label, arrays, start, min(start + at_once, used))
                for array in arrays.values():
                    let_go(array)
                yield batch

    def count(self, batch: Mapping[str, np.ndarray]) -> int:
        """Return the number of samples in a batch."""
        return samples_in(batch, self.batch_axes)

    def first(self, most: int) -> Dataset:
        """Return the first samples, at most so many, but one batch where the model fixes its size."""
        return self._limited(max(most, self._checks.fixed or 1))

    @property
    def takes_any_number(self) -> bool:
        """Whether the model leaves open how many samples it takes at a time."""
        return self._checks.fixed is None and any(axis is not None for axis in self.batch_axes.values())

    def one_by_one(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the samples, each as a batch."""
        for batch in self:
            for i in range(self.count(batch)):
                yield {name: part_of(array, self.batch_axes[name], i, i + 1) for name, array in batch.items()}

    def spread(self, most: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield so many samples at most, each as a batch, spread evenly over all.

        Batches, where the model fixes how many samples one has: one at least.
        """
        alone = self.takes_any_number
        count = self.samples if alone else len(self)
        chosen = set(evenly(count, most if alone else max(1, most * count // self.samples)))
        for i, batch in enumerate(self.one_by_one() if alone else self):
            if i in chosen:
                yield batch

    def __repr__(self) -> str:
        inputs = ", ".join(map(str, self.inputs))
        return f"<Dataset of {self.samples} samples in {len(self)} batches for {inputs}>"

    def _limited(self, limit: int | None) -> Dataset:
        """Return the same data with fewer samples."""
        most = self._checks.limit(limit)
        plan = [(rows, now, size) for (rows, _, size), now in _up_to(most, self._plan, lambda entry: entry[1])]
        made = Dataset(self._items, plan, self._checks)
        made.skipped = self.skipped
        return made


def open_data(
    data: object,
    model: onnx.ModelProto | str | os.PathLike[str],
    *,
    limit: int | None = None,
    images: ImageInput | None = None,
    batch_axes: BatchAxes | None = None,
    argument: str = "calibration_data",
) -> Dataset:
    """Check data against a model's inputs and cut it into batches.

    A model with a fixed batch of B gets batches of B: arrays must have a multiple of B rows, and B successive
    images make a batch. Otherwise batches have at most 32 samples, and at most 2 MiB or one sample; each image is
    one. The batch is an input's first axis, or that which has the same name: ``h[2, N, 64]`` beside ``x[N, 3]``.
    Inputs without a batch go to every batch of their dict as they are: those without axes, and those whose first
    axis has a size of its own, as ``size[2]`` beside ``image[N, 3, 640, 640]``.

    Parameters
    ----------
    data : iterable of dict, CalibrationDataReader, path, list of paths, or Dataset
        Dicts of arrays by input name. One that can be gone through only once (a generator) is copied as far as
        `limit` wants it: 256 MiB stay in memory, the rest goes to a temporary file. Or a reader as ONNX Runtime's
        quantizer takes it, with `get_next`: with a method `rewind`, too, each pass begins with that and nothing is
        kept; without, it is read once, from where it is, and copied.
        Or a file: `.npz` with arrays by input name, `.npy` or an `.npz` with one array
        for a model with one input, an image (bmp, jpeg, jpg, png, tif, tiff, webp) for a model with one input of
        images, NCHW or NHWC with 1 or 3 channels, float32 or uint8. Or a folder of such files and folders, which
        take turns: sorted by name, hidden ones left out. Or a pattern, such as ``photos/*/*.png``. Files of no
        known kind are skipped in folders and patterns, with a UserWarning; `Dataset.skipped` names them.
    model : onnx.ModelProto or path
        The model that is fed.
    limit : int, optional
        The most samples to use, from the front; with a fixed batch rounded down to whole batches.
    images : ImageInput, optional
        How pixels become numbers; without it they are divided by 255.
    batch_axes : dict of str to int or None, optional
        The batch axes of inputs by name, where others are wanted than those above; None for an input that goes to
        every batch as it is.
    argument : str, optional
        What messages call the data.

    Returns
    -------
    Dataset

    Raises
    ------
    TypeError
        If an argument or an item of the data is of another type.
    FileNotFoundError
        If there is no such file or folder.
    ValueError
        If there are no samples; if names, dtype, rank or fixed dimensions differ from what the model wants; if a
        file is of another kind or damaged. NaN, infinities and damage inside of a file are found while iterating.
        Nothing is converted: float64 for a float32 input is an error.

    Examples
    --------
    >>> import numpy as np
    >>> from onnx import TensorProto, helper
    >>> from bytenorm.onnx.data.dataset import open_data
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 3]) for name in "xy")
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    >>> data = open_data(({"x": np.full((4, 3), i, np.float32)} for i in range(5)), helper.make_model(graph))
    >>> [float(batch["x"].max()) for batch in data]
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    if limit is not None:
        limit = _checks.integer(limit, "limit")
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
    if images is not None and not isinstance(images, ImageInput):
        raise TypeError(f"images must be a bytenorm.onnx.ImageInput, got {type(images).__name__}")
    proto = model if isinstance(model, onnx.ModelProto) else load_model(model)
    inputs = tuple(input_infos(proto))
    if batch_axes is None and isinstance(data, Dataset) and data.inputs == inputs:
        batch_axes = data.batch_axes
    checks = _Checks(inputs, batch_axes, argument)
    given = [data] if isinstance(data, (str, os.PathLike)) else data
    if _are_paths(given):
        files = given_files(given, ARRAYS + IMAGES, argument)
        label = f"{argument} {os.fspath(given[0])!r}" if len(given) == 1 else argument
        made = _dataset(_files(files, checks, images, label), checks, limit, keep=True)
        made.skipped = tuple(map(os.fspath, files.skipped))
        if made.skipped:
            warnings.warn(f"{argument}: {told_of_skipped(made.skipped)}", stacklevel=2)
        return made
    if images is not None:
        raise ValueError(f"images is for files of images, {argument} is {type(data).__name__}")
    if isinstance(data, Dataset) and (data.inputs, data.batch_axes) == (checks.inputs, checks.axes):
        return data._limited(limit)
    if passes.is_reader(data):
        data = passes.batches_of(data, argument)
    wanted = f"{argument} must be dicts of arrays by input name or a path"
    if isinstance(data, (Mapping, np.ndarray)):
        hint = "[data]" if isinstance(data, Mapping) else "[{" + repr(checks.inputs[0].name) + ": data}]"
        raise TypeError(f"{wanted}, got one {type(data).__name__}: put it into a list, {hint}")
    if isinstance(data, (bytes, bytearray, memoryview)) or not isinstance(data, Iterable):
        raise TypeError(f"{wanted}, got {type(data).__name__}")
    if isinstance(data, Iterator):
        return _dataset(_Dicts(data, checks), checks, limit, keep=True, once=passes.Kept())
    return _dataset(_Dicts(data, checks), checks, limit, keep=isinstance(data, (list, tuple)))


def _are_paths(data: object) -> TypeGuard[Sequence[str | os.PathLike[str]]]:
    return (
        isinstance(data, list | tuple) and bool(data) and all(isinstance(one, str | os.PathLike) for one in data)
    )


def _dataset(
    items: Iterable[_Item], checks: _Checks, limit: int | None, *, keep: bool, once: passes.Kept | None = None
) -> Dataset:
    """Go through the items once for their numbers of rows; `keep` them, and what comes `once` only as a copy."""
    plan, kept = [], []
    for item, used in _up_to(checks.limit(limit), items, lambda item: item.rows):
        plan.append((item.rows, used, item.at_once))
        if once is not None:
            kept.append(replace(item, load=once.keep(item.load(), checks.argument)))
        elif keep:
            kept.append(item)
    return Dataset(kept if keep else items, plan, checks)


T = TypeVar("T")


def _up_to(limit: int | None, things: Iterable[T], rows: Callable[[T], int]) -> Iterator[tuple[T, int]]:
    """Yield things and how many rows of each are used; look at no more of them than the limit needs."""
    for thing in things:
        used = rows(thing) if limit is None else min(rows(thing), limit)
        yield thing, used
        if limit is not None:
            limit -= used
            if limit == 0:
                return


@dataclass(frozen=True)
class _Item:
    """Some rows of data: an element of what came, or a file, which is read when it is loaded."""

    label: str
    rows: int
    at_once: int  # rows of a batch
    load: Callable[[], Mapping[str, Array]]


class _Checks:
    """What a model wants, and the words for what it does not get."""

    def __init__(self, inputs: tuple[InputInfo, ...], batch_axes: BatchAxes | None, argument: str) -> None:
        if not inputs:
            raise ValueError(f"the model has no inputs: there is nothing to feed it {argument}")
        for info in inputs:
            if 0 in info.shape:
                raise ValueError(f"the model's input {info} has a dimension of 0: there is no data for it")
        self.axes = batch_axes_of(inputs, batch_axes)
        self.inputs = inputs
        self.argument = argument
        self.fixed = size_of_batches(inputs, self.axes)

    def item(self, label: str, layouts: Layouts, load: Callable[[], Mapping[str, Array]]) -> _Item:
        """Return some rows of data, after checking names, dtypes and shapes."""
        rows = self.rows(label, layouts)
        if self.fixed is not None:
            return _Item(label, rows, self.fixed, load)
        batched = (layouts[name] for name, axis in self.axes.items() if axis is not None)
        size = sum(size_of(shape, dtype) for shape, dtype in batched) // rows
        return _Item(label, rows, max(1, min(LARGEST_BATCH, LARGEST_BYTES // max(1, size))), load)

    def limit(self, limit: int | None) -> int | None:
        """Return the most samples to use in whole batches."""
        if limit is None or self.fixed is None:
            return limit
        if limit < self.fixed:
            raise ValueError(f"limit must be at least {self.fixed}, which the model takes at a time, got {limit}")
        return limit - limit % self.fixed

    def rows(self, label: str, layouts: Layouts) -> int:
        """Return how many samples there are, after checking names, dtypes and shapes."""
        names = [info.name for info in self.inputs]
        wrong = [f"{name!r} is missing" for name in names if name not in layouts]
        wrong += [f"{name!r} is unknown" for name in layouts if name not in names]
        if wrong:
            wanted = ", ".join(map(str, self.inputs))
            raise ValueError(f"{label}: {', '.join(wrong)}; the model wants {wanted}")
        counts = {}
        for info in self.inputs:
            shape, dtype = layouts[info.name]
            which = f"{label}: input {info.name!r}"
            if dtype != info.dtype:
                raise ValueError(f"{which} must be {info.dtype}, got {dtype}{as_wanted(dtype, info.dtype)}")
            axis = self.axes[info.name]
            if not fits(shape, info, axis):
                hint = with_axes(shape, info, axis)
                if axis is None and shape and not hint:
                    hint = " (it goes to every batch as it is: batch_axes tells otherwise)"
                raise ValueError(f"{which} must fit {info}, got shape {shape}{hint}")
            if 0 in shape:
                raise ValueError(f"{which} is empty, got shape {shape}")
            if axis is not None:
                counts[info.name] = shape[axis]
        if len(set(counts.values())) > 1:
            sizes = ", ".join(f"{name!r}: {n}" for name, n in counts.items())
            raise ValueError(
                f"{label}: the inputs must have one number of rows, got {sizes} (batch_axes tells where they are)"
            )
        rows = next(iter(counts.values()), 1)
        if self.fixed is not None and rows % self.fixed:
            raise ValueError(
                f"{label} has {rows} rows: the model takes {self.fixed} at a time, a multiple is wanted"
            )
        return rows

    def cut(self, label: str, arrays: Mapping[str, Array], start: int, stop: int) -> dict[str, np.ndarray]:
        """Return some rows of every input, after looking for NaN and infinities."""
        batch = {}
        for info in self.inputs:
            array = arrays[info.name]
            axis = self.axes[info.name]
            part = part_of(array, axis, start, stop) if isinstance(array, np.ndarray) else array[start:stop]
            rows = np.array(part, order="C")
            if rows.dtype.kind == "f":
                bad = ~np.isfinite(rows)
                if bad.any():
                    at = [int(i) for i in np.unravel_index(int(np.argmax(bad)), rows.shape)]
                    value = rows[tuple(at)]
                    if axis is not None:
                        at[axis] += start
                    raise ValueError(f"{label}: input {info.name!r} holds {value} at {at}")
            batch[info.name] = rows
        return batch


def _layouts(arrays: Mapping[Any, Array]) -> Layouts:
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}


class _Dicts:
    """The items of an iterable of dicts."""

    def __init__(self, data: Iterable[object], checks: _Checks) -> None:
        self._data = data
        self._checks = checks

    def __iter__(self) -> Iterator[_Item]:
        for number, entry in enumerate(self._data):
            label = f"{self._checks.argument}[{number}]"
            if not isinstance(entry, Mapping):
                wanted = ", ".join(map(str, self._checks.inputs))
                raise TypeError(f"{label} must be a dict of arrays for {wanted}, got {type(entry).__name__}")
            arrays = {name: _checks.as_array(value, f"{label}: input {name!r}") for name, value in entry.items()}
            yield self._checks.item(label, _layouts(arrays), partial(dict, arrays))


# --- files ------------------------------------------------------------------------------------------------------


def _files(files: GivenFiles, checks: _Checks, images: ImageInput | None, label: str) -> Iterator[_Item]:
    """Return the items of files."""
    if images is not None and not any(_is_image(found) for found in files.paths):
        raise ValueError(f"images is for files of images, {label} has none")
    reader = _ImageReader(checks, images or ImageInput()) if any(map(_is_image, files.paths)) else None
    return _file_items(files.paths, checks, reader)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGES


def _file_items(paths: list[Path], checks: _Checks, reader: _ImageReader | None) -> Iterator[_Item]:
    at_a_time = checks.fixed or 1
    waiting: list[Path] = []
    for path in paths:
        label = f"{checks.argument} {str(path)!r}"
        if reader is not None and _is_image(path):
            waiting.append(path)
            if len(waiting) == at_a_time:
                yield _Item(label, at_a_time, at_a_time, partial(reader.read, tuple(waiting)))
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
            raise ValueError(f"{label} holds one array, the model wants {wanted}: a .npz file is wanted")
        load = partial(_map_npy, path, label, checks.inputs[0].name)
        yield checks.item(label, _layouts(load()), load)
    _require_whole(waiting, checks)


def _require_whole(waiting: list[Path], checks: _Checks) -> None:
    if waiting:
        raise ValueError(
            f"{checks.argument} {str(waiting[-1])!r} is the last of {len(waiting)} images that are left over: "
            f"the model takes {checks.fixed} at a time"
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


# --- images -----------------------------------------------------------------------------------------------------


class _ImageReader:
    """From files of images to the input of a model."""

    def __init__(self, checks: _Checks, images: ImageInput) -> None:
        try:
            import PIL  # noqa: F401, PLC0415 (arrays do without)
        except ImportError:
            raise ImportError('images need Pillow: pip install "bytenorm[onnx]"', name="PIL") from None
        wanted = ", ".join(map(str, checks.inputs))
        info = checks.inputs[0]
        if len(checks.inputs) != 1 or len(info.shape) != 4:
            raise ValueError(f"images are for a model with one input of 4 dimensions, this one wants {wanted}")
        self._first = info.shape[1] in (1, 3)  # the channels, NCHW; a model with both is taken for that
        if not self._first and info.shape[3] not in (1, 3):
            raise ValueError(
                f"images are for a model with 1 or 3 channels on axis 1 or 3, this one wants {wanted}"
            )
        if info.dtype not in (np.float32, np.uint8):
            raise ValueError(f"images are for float32 or uint8, this model wants {wanted}")
        if info.dtype == np.uint8 and images != ImageInput():
            raise ValueError(f"images must be ImageInput() for {wanted}, which gets the pixels, got {images}")
        self._channels = info.shape[1 if self._first else 3]
        for name in ("mean", "std"):
            n = len(getattr(images, name))
            if n not in (1, self._channels):
                raise ValueError(f"images has {n} numbers as {name}, the model wants {wanted}")
        self._height, self._width = info.shape[2:] if self._first else info.shape[1:3]
        self._argument = checks.argument
        self._name = info.name
        self._dtype = info.dtype
        self._images = images

    def read(self, paths: tuple[Path, ...]) -> dict[str, np.ndarray]:
        """Return the batch that some files make."""
        made: list[np.ndarray] = []
        for path in paths:
            label = f"{self._argument} {str(path)!r}"
            pixels = self._pixels(path, label)
            if made and pixels.shape != made[0].shape:
                raise ValueError(
                    f"{label} has shape {pixels.shape}, the others of its batch {made[0].shape}: one is wanted"
                )
            made.append(pixels)
        batch = np.stack(made)
        if self._dtype != np.uint8:
            mean, std = (np.asarray(v, np.float32) for v in (self._images.mean, self._images.std))
            with np.errstate(all="ignore"):  # an infinity is found later
                batch = (batch.astype(np.float32) * np.float32(self._images.scale) - mean) / std
        return {self._name: np.moveaxis(batch, 3, 1) if self._first else batch}

    def _pixels(self, path: Path, label: str) -> np.ndarray:
        """Return an image as uint8 of shape (height, width, channels)."""
        from PIL import Image, ImageOps  # noqa: PLC0415

        with reading(label, "an image"), path.open("rb") as file, Image.open(file, formats=FORMATS) as opened:
            image: Image.Image = opened
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"its pixels are {image.mode}, 8 bits a channel are wanted")
            if image.mode in ("P", "PA"):  # a palette whose transparency is no single entry warns otherwise
                image = image.convert("RGBA")
            image = image.convert("RGB" if self._channels == 3 else "L")
            bilinear = Image.Resampling.BILINEAR
            if self._height and self._width:
                image = ImageOps.fit(image, (self._width, self._height), bilinear)
            elif self._height:
                width = max(1, round(image.width * self._height / image.height))
                image = image.resize(_bounded(width, self._height), bilinear)
            elif self._width:
                height = max(1, round(image.height * self._width / image.width))
                image = image.resize(_bounded(self._width, height), bilinear)
            pixels = np.array(image, np.uint8)
        return pixels.reshape(*pixels.shape[:2], -1)


def _bounded(width: int, height: int) -> tuple[int, int]:
    """Return a size; refuse that of a line of pixels, a file of some bytes, scaled to a picture of gigabytes."""
    if width * height > LARGEST_IMAGE:
        raise ValueError(f"it would be scaled to {width} x {height} pixels, at most {LARGEST_IMAGE} are wanted")
    return width, height
