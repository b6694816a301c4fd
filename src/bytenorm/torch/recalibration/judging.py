"""Samples kept aside, and what they say of a change of a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..._errors import bad_type, bad_value
from ...calibration.judging import EVERY, MOST, as_table, evenly, shortage, squared_errors
from ..pt2e.graph import operator_name
from ..pt2e.norms import BATCH_NORM
from ..pt2e.running import Part, Runner
from .sites import ADD, CONCAT, DEQUANTIZE, NORMS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch.fx import GraphModule, Node

_AT_ONCE = 16  # samples in a batch, where the program leaves that open


@dataclass(frozen=True)
class Samples:
    """The data: what is measured, what is kept aside, and all of it; `count` is how many samples there are."""

    measured: Sequence[Part]
    aside: Sequence[Part]
    every: Sequence[Part]
    count: int

    @property
    def shortage(self) -> str:
        """Why what is kept aside tells nothing; empty if it does."""
        return shortage(self.count, len(self.aside))

    @property
    def vary(self) -> bool:
        """Whether one sample differs from another."""
        rows = [row for part in self.every for row in _each(part.inputs)]
        return any(not _same(row, rows[0]) for row in rows[1:])


def open_inputs(data: Any, wanted: int) -> list[list[Any]]:
    """Return the inputs of each item of the data, flat."""
    return [_flat(batch, number, wanted) for number, batch in enumerate(data)]


def _flat(batch: Any, number: int, wanted: int) -> list[Any]:
    if not isinstance(batch, torch.Tensor | tuple | list):
        raise bad_type(
            "data", f"must hold tensors or tuples of inputs, got {type(batch).__name__} as item {number}"
        )
    from torch.utils._pytree import arg_tree_leaves  # noqa: PLC0415 (no public name)

    inputs = [batch] if isinstance(batch, torch.Tensor) else arg_tree_leaves(*batch)
    if len(inputs) != wanted:
        raise bad_value("data", f": the program takes {wanted} inputs, item {number} has {len(inputs)}")
    return inputs


def pick(items: Sequence[list[Any]], programs: Sequence[GraphModule]) -> Samples:
    """Choose which samples are kept aside: every fourth, of batches that can be divided, or every fourth batch."""
    every = [Part(number, inputs) for number, inputs in enumerate(items)]
    rows = [_rows(inputs) for inputs in items]
    count = sum(n or 1 for n in rows)
    largest = int(np.argmax([n or 0 for n in rows]))
    most = rows[largest] or 0
    whole = None in rows or any(not _divides(program, items[largest], most) for program in programs)
    if whole:
        every_so_many = min(EVERY, max(2, len(items)))
        kept: tuple[list[Part], list[Part]] = ([], [])
        for part in every:
            kept[part.item % every_so_many == every_so_many - 1].append(part)
        return Samples(kept[0], [kept[1][i] for i in evenly(len(kept[1]), MOST // EVERY)], every, count)
    kept_aside = set(evenly(count, MOST)[EVERY - 1 :: EVERY])
    measured: list[Part] = []
    aside: list[Part] = []
    first = 0
    for part, n in zip(every, rows, strict=True):
        assert n is not None
        mine = [i for i in range(n) if first + i not in kept_aside]
        other = [i for i in range(n) if first + i in kept_aside]
        for into, chosen in ((measured, mine), (aside, other)):
            for at in range(0, len(chosen), _AT_ONCE):
                into.append(Part(part.item, _taken(part.inputs, chosen[at : at + _AT_ONCE])))
        first += n
    return Samples(measured, aside, every, count)


def _rows(inputs: Sequence[Any]) -> int | None:
    """Return how many samples a batch has, if all its inputs have as many on axis 0."""
    sizes = {len(x) if isinstance(x, torch.Tensor) and x.ndim else 0 for x in inputs}
    return sizes.pop() or None if len(sizes) == 1 else None


def _divides(program: GraphModule, inputs: list[Any], rows: int) -> bool:
    """Say whether a part of a batch gives that part of the outputs."""
    if rows < 2:
        return True
    chosen = list(range(rows - 1))
    try:
        whole, part = (_outputs(program, x) for x in (inputs, _taken(inputs, chosen)))
    except Exception:  # whatever the operators of a program raise
        return False
    return bool(whole) and all(_is_part(x, y) for x, y in zip(whole, part, strict=True))


def _outputs(program: GraphModule, inputs: Sequence[Any]) -> list[torch.Tensor]:
    return [x for x in Runner(program).outputs(Part(0, inputs)) if isinstance(x, torch.Tensor)]


def _is_part(whole: torch.Tensor, part: torch.Tensor) -> bool:
    if whole.ndim == 0 or part.shape != (len(whole) - 1, *whole.shape[1:]):
        return False
    # Other sums in another order may move a code by one; samples that know of each other move much more.
    one, other = whole[:-1].double(), part.double()
    return bool((one - other).square().sum() <= 1e-2 * one.square().sum())


def _taken(inputs: Sequence[Any], rows: list[int]) -> list[Any]:
    return [x[rows] for x in inputs]


def _each(inputs: Sequence[Any]) -> list[list[Any]]:
    rows = _rows(inputs)
    return [list(inputs)] if rows is None else [[x[i] for x in inputs] for i in range(rows)]


def _same(one: list[Any], other: list[Any]) -> bool:
    return all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor) else x is y
        for x, y in zip(one, other, strict=True)
    )


class Judge:
    """Tells how far the outputs of programs are from those that they should be.

    Parameters
    ----------
    right : Runner
        Of a program that makes the outputs as they should be.
    parts : list of Part
    codes : bool
        Whether outputs that are codes count; those of another program than the judged mean something else.
    """

    def __init__(self, right: Runner, parts: Sequence[Part], *, codes: bool) -> None:
        self._parts, self._codes = parts, codes
        self._wanted = [right.outputs(part) for part in parts]

    def errors(self, program: GraphModule) -> np.ndarray | None:
        """Return the squared errors of a program's outputs, of shape (samples, outputs); None without any."""
        run = Runner(program)
        rows: list[list[np.ndarray]] = []
        for part, wanted in zip(self._parts, self._wanted, strict=True):
            row = []
            for right, made in zip(wanted, run.outputs(part), strict=True):
                if not self._counts(right) or not self._counts(made) or right.shape != made.shape:
                    continue
                row.append(squared_errors(right.numpy(), made.double().numpy()))
            rows.append(row)
        if not rows[0]:
            return None
        return as_table(rows)

    def _counts(self, value: Any) -> bool:
        return isinstance(value, torch.Tensor) and (self._codes or value.is_floating_point())


class Unrounded(Runner):
    """Runs a program whose norms do not round what they make; all else does what it did.

    Codes of norms are then numbers between codes, also beyond the last ones.

    Parameters
    ----------
    module : GraphModule
    norms, again : collection of str
        The names of norms whose codes go to nothing but what knows their scale, and of the nodes that quantize
        numbers of theirs as they were.
    """

    def __init__(self, module: GraphModule, norms: Collection[str], again: Collection[str]) -> None:
        super().__init__(module)
        self._norms, self._again = norms, again

    def run_node(self, n: Node) -> Any:
        """Return what a node makes."""
        name = operator_name(n)
        if name in NORMS:
            return self._norm(n, name)
        if name == DEQUANTIZE:
            given = self.values(self.env, n)
            if given["input"].is_floating_point():
                return ((given["input"] - given["zero_point"]) * given["scale"]).float()
        if n.name in self._again:
            given = self.values(self.env, n)
            return given["input"].double() / given["scale"] + given["zero_point"]
        return super().run_node(n)

    def _norm(self, n: Node, name: str) -> Any:
        given = self.values(self.env, n)
        total = None
        if name == BATCH_NORM:
            x = _real(given["x"], given["x_scale"], given["x_zero_point"])
        elif name == CONCAT:
            pieces = zip(given["pieces"], given["scales"], given["zero_points"], strict=True)
            x = torch.cat([_real(*piece) for piece in pieces], 1)
        else:
            a, b = (_real(given[s], given[f"{s}_scale"], given[f"{s}_zero_point"]) for s in "ab")
            x = a + b
            total = (
                x / given["sum_scale"] + given["sum_zero_point"]
            ).round()  # as it was, but for what it clamped
            if not all(given[s].is_floating_point() for s in "ab"):
                total = _codes(total, next(given[s].dtype for s in "ab" if not given[s].is_floating_point()))
            x = _real(total, given["sum_scale"], given["sum_zero_point"])
        shape = (1, -1, *[1] * (x.ndim - 2))
        mean, var, weight, bias = (
            None if given[which] is None else given[which].detach().double().reshape(shape)
            for which in ("mean", "var", "weight", "bias")
        )
        assert mean is not None
        assert var is not None
        y = (x - mean) / (var + given["eps"]).sqrt()
        y = y if weight is None else y * weight
        y = y if bias is None else y + bias
        codes = (y.relu() if given["relu"] else y) / given["y_scale"] + given["y_zero_point"]
        if n.name not in self._norms:
            codes = _codes(codes, given["output_dtype"])
        return codes if name != ADD else (codes, total)


def _real(codes: torch.Tensor, scale: Any, zero_point: Any) -> torch.Tensor:
    scale, zero_point = (
        q.double().reshape(1, -1, *[1] * (codes.ndim - 2)) if isinstance(q, torch.Tensor) and q.ndim else q
        for q in (scale, zero_point)
    )
    real: torch.Tensor = (codes.double() - zero_point) * scale
    return real


def _codes(numbers: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    limits = torch.iinfo(dtype)
    return numbers.round().clamp(limits.min, limits.max).to(dtype)
