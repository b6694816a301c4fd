"""Which axis of each input of a model counts the samples."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..._errors import bad_type, bad_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ..model.inputs import InputInfo

BatchAxes = Mapping[str, int | None]


def batch_axes_of(inputs: Sequence[InputInfo], given: BatchAxes | None = None) -> dict[str, int | None]:
    """Find the batch axis of each input, where it is not given.

    It is the first axis, with these exceptions. An input without axes has none. Where the first axis of some input
    has a name, as in ``x[N, 3]``, another input that has the name at another axis, as a recurrent state
    ``h[2, N, 64]``, has its batch there. Where first axes are fixed, the first such input with two axes or more
    tells the batch. An input whose first axis has another size, as ``size[2]`` of an image, has no batch axis: it
    goes to every batch as it is.

    Parameters
    ----------
    inputs : sequence of InputInfo
    given : mapping of str to int or None, optional
        Axes by input name, None for an input that goes to every batch as it is.

    Returns
    -------
    dict of str to int or None
        For each input.

    Raises
    ------
    TypeError
        If `given` is no mapping of names to integers or None.
    ValueError
        If it names another input, or an axis that is not there.
    """
    known = _checked(inputs, given)
    name = _batch_name(inputs, known)
    axes: dict[str, int | None] = {}
    for info in inputs:
        if info.name in known:
            axes[info.name] = known[info.name]
            continue
        elsewhere = [i for i, dim in enumerate(info.names) if dim == name] if name else []
        axes[info.name] = elsewhere[0] if len(elsewhere) == 1 else (0 if info.shape else None)
    # What is left: inputs with a fixed first axis that is not the batch.
    sizes = {info.name: info.shape[axis] for info in inputs if (axis := axes[info.name]) is not None}
    ordered = sorted(inputs, key=lambda info: info.name not in known)
    fixed = [i for i in ordered if sizes.get(i.name) is not None]
    if None in sizes.values() or any(len(i.shape) > 1 for i in fixed):
        fixed = [i for i in fixed if len(i.shape) > 1 or i.name in known]
    batch = sizes[fixed[0].name] if fixed else None
    for info in inputs:
        if info.name not in known and sizes.get(info.name) not in (None, batch):
            axes[info.name] = None
    return axes


def size_of_batches(inputs: Sequence[InputInfo], axes: BatchAxes) -> int | None:
    """Return how many samples a model takes at a time; None where it leaves that open.

    Raises
    ------
    ValueError
        If inputs differ in it.
    """
    sizes = {info.name: info.shape[axis] for info in inputs if (axis := axes[info.name]) is not None}
    fixed = {name: size for name, size in sizes.items() if size is not None}
    if len(set(fixed.values())) > 1:
        listed = ", ".join(f"{name!r}: {size} on axis {axes[name]}" for name, size in fixed.items())
        raise bad_value("batch_axes", f": the model's inputs differ in the sizes of their batches: {listed}")
    return next(iter(fixed.values()), None)


def samples_in(batch: Mapping[str, np.ndarray], axes: BatchAxes) -> int:
    """Return the number of samples in a batch."""
    return max((array.shape[axis] for name, array in batch.items() if (axis := axes[name]) is not None), default=1)


def part_of(array: np.ndarray, axis: int | None, start: int, stop: int) -> np.ndarray:
    """Return some samples of one input; all of it if it has no batch axis."""
    return array if axis is None else array[(slice(None),) * axis + (slice(start, stop),)]


def _checked(inputs: Sequence[InputInfo], given: BatchAxes | None) -> dict[str, int | None]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise bad_type("batch_axes", f"must be a dict of axes by input name, got {type(given).__name__}")
    ranks = {info.name: len(info.shape) for info in inputs}
    checked: dict[str, int | None] = {}
    for name, axis in given.items():
        if name not in ranks:
            raise bad_value(
                "batch_axes", f": the model has no input {name!r}, its inputs are {', '.join(map(repr, ranks))}"
            )
        if axis is None:
            checked[name] = None
            continue
        try:
            number = operator.index(axis)
        except TypeError:
            number = None
        if number is None or isinstance(axis, bool):
            raise bad_type(f"batch_axes[{name!r}]", f"must be an integer or None, got {type(axis).__name__}")
        if not -ranks[name] <= number < ranks[name]:
            raise bad_value(f"batch_axes[{name!r}]", f"must be an axis of {ranks[name]} dimensions, got {number}")
        checked[name] = number % ranks[name]
    return checked


def _batch_name(inputs: Sequence[InputInfo], known: Mapping[str, int | None]) -> str:
    """Return the name of the batch's size: that of a given axis, or of the first input that has one in front."""
    ordered = sorted(inputs, key=lambda info: info.name not in known)
    for info in ordered:
        axis = known.get(info.name, 0)
        if axis is not None and info.names and info.names[axis]:
            return info.names[axis]
    return ""
