"""Data that a network cannot run: what came, and which small change of it the network would take."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import torch

from ..._errors import bad_type, bad_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    Network = Callable[..., Any]

# What operators, guards and calls of a module raise of inputs that do not fit.
REFUSALS = RuntimeError, TypeError, ValueError, IndexError, AssertionError


def inputs_of(item: Any, number: int) -> tuple[Any, ...]:
    """Return what the network is called with."""
    if isinstance(item, torch.Tensor):
        return (item,)
    if not isinstance(item, tuple | list):
        mend = ": torch.from_numpy(array)" if type(item).__name__ == "ndarray" else ""
        raise bad_type(
            "data", f"must hold tensors or tuples of inputs, got {type(item).__name__} as item {number}{mend}"
        )
    return tuple(item)


def run(network: Network, inputs: tuple[Any, ...], number: int) -> Any:
    """Call a network with an item of the data.

    Raises
    ------
    ValueError
        If it cannot run the item. The message has the item's types and shapes and torch's reason; where a usual
        slip explains it, also what mends it: float32, channels first, an axis of samples.
    """
    with torch.no_grad():
        try:
            return network(*inputs)
        except REFUSALS as error:
            why = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            came = ", ".join(map(_described, inputs)) or "no inputs"
            mend = next((f"; it can with {mend}" for mend, mended in _mends(inputs) if _runs(network, mended)), "")
            raise bad_value("data", f": the network cannot run item {number} ({came}): {why}{mend}") from error


def _described(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


def _mends(inputs: tuple[Any, ...]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield usual changes of all tensors, and what they make of the inputs; the smallest changes first."""
    shapes: dict[str, Callable[[Tensor], Tensor]] = {
        "": lambda x: x,
        ".permute(0, 2, 1)": lambda x: x.permute(0, 2, 1),
        ".permute(0, 3, 1, 2)": lambda x: x.permute(0, 3, 1, 2),
        ".unsqueeze(0)": lambda x: x.unsqueeze(0),
        ".permute(2, 0, 1).unsqueeze(0)": lambda x: x.permute(2, 0, 1).unsqueeze(0),
    }
    types: dict[str, Callable[[Tensor], Tensor]] = {"": lambda x: x, ".float()": lambda x: x.float()}
    for (shape, reshaped), (kind, typed) in product(shapes.items(), types.items()):
        if shape or kind:
            try:
                mended = tuple(typed(reshaped(x)) if isinstance(x, torch.Tensor) else x for x in inputs)
            except RuntimeError:  # of another rank
                continue
            yield shape + kind, mended


def _runs(network: Network, inputs: tuple[Any, ...]) -> bool:
    try:
        network(*inputs)
    except REFUSALS:
        return False
    return True
