"""Arrays as inputs of a model: whether they fit, and how many samples they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._errors import Argument, bad_value
from ..._files import npz
from ..._files.npy import size_of
from .array_mending import as_wanted, fits, with_axes
from .batch_axes import batch_axes_of, part_of, size_of_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..model.inputs import InputInfo
    from .batch_axes import BatchAxes


LARGEST_BATCH = 32  # samples, where the model leaves it open
# Bytes of inputs in such a batch. What a network makes of them is large: eight layers of 8 channels as large as a
# photograph's 3 have a hundred times the bytes in a run. Larger batches are no faster.
LARGEST_BYTES = 2 << 20

Layouts = Mapping[Any, tuple[tuple[int, ...], np.dtype]]
Array = np.ndarray | npz.Rows


@dataclass(frozen=True)
class Item:
    """Some rows of data: an element of what came, or a file, which is read when it is loaded."""

    label: str
    rows: int
    at_once: int  # rows of a batch
    load: Callable[[], Mapping[str, Array]]


class InputChecks:
    """What a model wants, and the words for what it does not get."""

    def __init__(self, inputs: tuple[InputInfo, ...], batch_axes: BatchAxes | None, argument: str) -> None:
        if not inputs:
            raise bad_value("model", f": it has no inputs: there is nothing to feed it {argument}")
        for info in inputs:
            if 0 in info.shape:
                raise bad_value("model", f": its input {info} has a dimension of 0: there is no data for it")
        self.axes = batch_axes_of(inputs, batch_axes)
        self.inputs = inputs
        self.argument = argument
        self.fixed = size_of_batches(inputs, self.axes)

    def item(self, label: str, layouts: Layouts, load: Callable[[], Mapping[str, Array]]) -> Item:
        """Return some rows of data, after checking names, dtypes and shapes."""
        rows = self.rows(label, layouts)
        if self.fixed is not None:
            return Item(label, rows, self.fixed, load)
        batched = (layouts[name] for name, axis in self.axes.items() if axis is not None)
        size = sum(size_of(shape, dtype) for shape, dtype in batched) // rows
        return Item(label, rows, max(1, min(LARGEST_BATCH, LARGEST_BYTES // max(1, size))), load)

    def limit(self, limit: int | None) -> int | None:
        """Return the most samples to use in whole batches."""
        if limit is None or self.fixed is None:
            return limit
        if limit < self.fixed:
            raise bad_value(
                "limit", f"must be at least {self.fixed}, which the model takes at a time, got {limit}"
            )
        return limit - limit % self.fixed

    def rows(self, label: str, layouts: Layouts) -> int:
        """Return how many samples there are, after checking names, dtypes and shapes."""
        names = [info.name for info in self.inputs]
        wrong = [f"{name!r} is missing" for name in names if name not in layouts]
        wrong += [f"{name!r} is unknown" for name in layouts if name not in names]
        if wrong:
            wanted = ", ".join(map(str, self.inputs))
            raise bad_value(label, f": {', '.join(wrong)}; the model wants {wanted}")
        counts = {}
        for info in self.inputs:
            shape, dtype = layouts[info.name]
            which = f"{label}: input {info.name!r}"
            if dtype != info.dtype:
                raise bad_value(which, f"must be {info.dtype}, got {dtype}{as_wanted(dtype, info.dtype)}")
            axis = self.axes[info.name]
            if not fits(shape, info, axis):
                hint = with_axes(shape, info, axis)
                if axis is None and shape and not hint:
                    raise bad_value(
                        which,
                        f"must fit {info}, got shape {shape} (it goes to every batch as it is: ",
                        Argument("batch_axes"),
                        " tells otherwise)",
                    )
                raise bad_value(which, f"must fit {info}, got shape {shape}{hint}")
            if 0 in shape:
                raise bad_value(which, f"is empty, got shape {shape}")
            if axis is not None:
                counts[info.name] = shape[axis]
        if len(set(counts.values())) > 1:
            sizes = ", ".join(f"{name!r}: {n}" for name, n in counts.items())
            raise bad_value(
                label,
                f": the inputs must have one number of rows, got {sizes} (",
                Argument("batch_axes"),
                " tells where they are)",
            )
        rows = next(iter(counts.values()), 1)
        if self.fixed is not None and rows % self.fixed:
            raise bad_value(
                label, f"has {rows} rows: the model takes {self.fixed} at a time, a multiple is wanted"
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
                    raise bad_value(label, f": input {info.name!r} holds {value} at {at}")
            batch[info.name] = rows
        return batch


def layouts_of(arrays: Mapping[Any, Array]) -> Layouts:
    """Return shapes and types of arrays, by name."""
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}
