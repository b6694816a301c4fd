"""Data to calibrate and compare models with: arrays, NumPy files and images, checked and cut into batches."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeGuard, TypeVar

import numpy as np
import onnx

from ... import _checks
from ..._errors import bad_type, bad_value
from ..._files.given import given_files, told_of_skipped
from ..._files.npy import let_go
from ...calibration.judging import evenly
from ..model.files import load_model
from ..model.inputs import input_infos
from . import passes
from .batch_axes import part_of, samples_in
from .dicts import Dicts
from .files import ARRAYS, IMAGES, items_of_files
from .images import ImageInput, lost_colours
from .input_checks import InputChecks, layouts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .batch_axes import BatchAxes
    from .input_checks import Item


class Dataset:
    """Batches of a model's inputs; every pass gives the same ones, checked again. Made by `open_data`.

    Iterating gives dicts of arrays by input name, C-contiguous, with the dtypes and fixed dimensions that the
    model wants and without NaN and infinities. Files are read in each pass, one at a time. ``len`` is the number
    of batches.

    Parameters
    ----------
    items, plan, checks
        What `open_data` found in the data.

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
    note : str
        That images in colour are made grey for a model with one channel; else empty.

    Examples
    --------
    >>> import numpy as np
    >>> from onnx import TensorProto, helper
    >>> from bytenorm.onnx import open_data
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy")
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    >>> data = open_data([{"x": np.ones((40, 3), np.float32)}], helper.make_model(graph))
    >>> data.samples, len(data), [batch["x"].shape for batch in data]
    (40, 2, [(32, 3), (8, 3)])
    """

    def __init__(self, items: Iterable[Item], plan: list[tuple[int, int, int]], checks: InputChecks) -> None:
        if not plan:
            raise bad_value(checks.argument, "holds no samples")
        self._items = items
        self._plan = plan  # of each item the rows that it has, those that are used, and those of a batch
        self._checks = checks
        self.inputs, self.batch_axes = checks.inputs, checks.axes
        self.samples = sum(used for _, used, _ in plan)
        self.skipped: tuple[str, ...] = ()
        self.note = ""

    def __len__(self) -> int:
        return sum(-(-used // at_once) for _, used, at_once in self._plan)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        items = iter(self._items)
        for rows, used, at_once in self._plan:
            item = next(items, None)
            if item is None:
                raise bad_value(self._checks.argument, "has fewer samples in a later pass than in the first")
            arrays = dict(item.load())
            now = self._checks.rows(item.label, layouts_of(arrays))
            if now != rows:
                raise bad_value(item.label, f"has {now} rows in a later pass, {rows} in the first")
            for name, axis in self.batch_axes.items():
                if axis != 0 and arrays[name].ndim:  # archives give rows only
                    arrays[name] = arrays[name][:]
            for start in range(0, used, at_once):
                batch = self._checks.cut(item.label, arrays, start, min(start + at_once, used))
                for array in arrays.values():
                    let_go(array)
                yield batch

    def count(self, batch: Mapping[str, np.ndarray]) -> int:
        """Return the number of samples in a batch.

        Parameters
        ----------
        batch : mapping of str to numpy.ndarray

        Returns
        -------
        int

        Examples
        --------
        >>> import numpy as np
        >>> from bytenorm import onnx as bno
        >>> data = bno.open_data([{"image": np.zeros((40, 1, 28, 28), np.float32)}], bno.digits_model())
        >>> [data.count(batch) for batch in data]
        [32, 8]
        """
        return samples_in(batch, self.batch_axes)

    def first(self, most: int) -> Dataset:
        """Return the first samples, at most so many, but one batch where the model fixes its size.

        Parameters
        ----------
        most : int

        Returns
        -------
        Dataset

        Examples
        --------
        >>> import numpy as np
        >>> from bytenorm import onnx as bno
        >>> data = bno.open_data([{"image": np.zeros((40, 1, 28, 28), np.float32)}], bno.digits_model())
        >>> data.first(5).samples
        5
        """
        return self._limited(max(most, self._checks.fixed or 1))

    @property
    def takes_any_number(self) -> bool:
        """Whether the model leaves open how many samples it takes at a time."""
        return self._checks.fixed is None and any(axis is not None for axis in self.batch_axes.values())

    def one_by_one(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the samples, each as a batch.

        Returns
        -------
        iterator of dict of str to numpy.ndarray

        Examples
        --------
        >>> import numpy as np
        >>> from bytenorm import onnx as bno
        >>> data = bno.open_data([{"image": np.zeros((40, 1, 28, 28), np.float32)}], bno.digits_model())
        >>> next(data.one_by_one())["image"].shape
        (1, 1, 28, 28)
        """
        for batch in self:
            for i in range(self.count(batch)):
                yield {name: part_of(array, self.batch_axes[name], i, i + 1) for name, array in batch.items()}

    def spread(self, most: int) -> Iterator[dict[str, np.ndarray]]:
        """Yield so many samples at most, each as a batch, spread evenly over all.

        Batches, where the model fixes how many samples one has: one at least.

        Parameters
        ----------
        most : int

        Returns
        -------
        iterator of dict of str to numpy.ndarray

        Examples
        --------
        >>> import numpy as np
        >>> from bytenorm import onnx as bno
        >>> data = bno.open_data([{"image": np.zeros((40, 1, 28, 28), np.float32)}], bno.digits_model())
        >>> len(list(data.spread(10)))
        10
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
        made.skipped, made.note = self.skipped, self.note
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
        quantizer takes it, with `get_next`. If it has a method `rewind`, too, each pass begins with that and
        nothing is kept. If not, it is read once, from where it is, and copied. Or a file: `.npz` with arrays by
        input name; `.npy`, or an `.npz` with one array, for a model with one input; an image (bmp, jpeg, jpg, png,
        tif, tiff, webp) for a model with one input of images. These are NCHW or NHWC, with 1 or 3 channels,
        float32 or uint8. Or a folder of such files and folders, which take turns: sorted by name, hidden ones left
        out. Or a pattern, such as ``photos/*/*.png``. Files of no known kind are skipped in folders and patterns,
        with a UserWarning; `Dataset.skipped` names them.
    model : onnx.ModelProto or path
        The model that is fed.
    limit : int, optional
        The most samples to use, from the front; with a fixed batch rounded down to whole batches.
    images : ImageInput, optional
        How pixels become numbers; without it they are divided by 255.
    batch_axes : dict of str to int or None, optional
        The batch axes of inputs by name, where others are wanted than those above. None: the input goes to every
        batch as it is.
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
    >>> from bytenorm.onnx import open_data
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 3]) for name in "xy")
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    >>> data = open_data(({"x": np.full((4, 3), i, np.float32)} for i in range(5)), helper.make_model(graph))
    >>> [float(batch["x"].max()) for batch in data]
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    if limit is not None:
        limit = _checks.integer(limit, "limit")
        if limit < 1:
            raise bad_value("limit", f"must be at least 1, got {limit}")
    if images is not None and not isinstance(images, ImageInput):
        raise bad_type("images", f"must be a bytenorm.onnx.ImageInput, got {type(images).__name__}")
    proto = model if isinstance(model, onnx.ModelProto) else load_model(model)
    inputs = tuple(input_infos(proto))
    if batch_axes is None and isinstance(data, Dataset) and data.inputs == inputs:
        batch_axes = data.batch_axes
    checks = InputChecks(inputs, batch_axes, argument)
    given = [data] if isinstance(data, (str, os.PathLike)) else data
    if _are_paths(given):
        files = given_files(given, ARRAYS + IMAGES, argument)
        label = f"{argument} {os.fspath(given[0])!r}" if len(given) == 1 else argument
        made = _dataset(items_of_files(files, checks, images, label), checks, limit, keep=True)
        made.skipped = tuple(map(os.fspath, files.skipped))
        pictures = (path for path in files.paths if path.suffix.lower() in IMAGES)
        made.note = lost_colours(pictures, checks.inputs[0])
        if made.skipped:
            warnings.warn(f"{argument}: {told_of_skipped(made.skipped)}", stacklevel=2)
        return made
    if images is not None:
        raise bad_value("images", f"are for files of images, {argument} is {type(data).__name__}")
    if isinstance(data, Dataset) and (data.inputs, data.batch_axes) == (checks.inputs, checks.axes):
        return data._limited(limit)
    if passes.is_reader(data):
        data = passes.batches_of(data, argument)
    wanted = "must be dicts of arrays by input name or a path"
    if isinstance(data, (Mapping, np.ndarray)):
        hint = "[data]" if isinstance(data, Mapping) else "[{" + repr(checks.inputs[0].name) + ": data}]"
        raise bad_type(argument, f"{wanted}, got one {type(data).__name__}: put it into a list, {hint}")
    if isinstance(data, (bytes, bytearray, memoryview)) or not isinstance(data, Iterable):
        raise bad_type(argument, f"{wanted}, got {type(data).__name__}")
    if isinstance(data, Iterator):
        return _dataset(Dicts(data, checks), checks, limit, keep=True, once=passes.Kept())
    return _dataset(Dicts(data, checks), checks, limit, keep=isinstance(data, (list, tuple)))


def _are_paths(data: object) -> TypeGuard[Sequence[str | os.PathLike[str]]]:
    return (
        isinstance(data, list | tuple) and bool(data) and all(isinstance(one, str | os.PathLike) for one in data)
    )


def _dataset(
    items: Iterable[Item], checks: InputChecks, limit: int | None, *, keep: bool, once: passes.Kept | None = None
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
