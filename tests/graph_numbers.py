"""What the codes of a random graph may be: its arithmetic in float64, and which roundings may be left out."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

# Float32 on the way of a number to its code, in codes: products of some hundred steps, rounded four times.
FLOAT_ERROR = 2e-3


@dataclass
class Q:
    """A quantization per tensor, or per channel of axis 1."""

    scale: np.ndarray
    zero_point: np.ndarray

    def broadcast(self, rank):
        shape = (1, -1, *[1] * (rank - 2)) if self.scale.size > 1 else (1,) * rank
        return self.scale.astype(np.float64).reshape(shape), self.zero_point.astype(np.float64).reshape(shape)

    @property
    def dtype(self):
        return self.zero_point.dtype

    def real(self, codes):
        scale, zero_point = self.broadcast(codes.ndim)
        return (codes.astype(np.float64) - zero_point) * scale

    def steps(self, real):
        """Return numbers in steps from the zero point, the codes before they are rounded, within their limits."""
        scale, zero_point = self.broadcast(real.ndim)
        info = np.iinfo(self.dtype)
        return np.clip(real / scale + zero_point, info.min, info.max)

    def codes(self, real):
        return np.rint(self.steps(real)).astype(self.dtype)

    @property
    def step(self):
        return float(self.scale.item())

    @property
    def zero(self):
        return int(self.zero_point.item())

    @property
    def per_tensor(self):
        return self.scale.size == 1

    def range(self):
        info = np.iinfo(self.dtype)
        return [(end - self.zero) * self.step for end in (info.min, info.max)]


@dataclass
class Tensor:
    """A tensor of codes, and what it is made of.

    `make` gives the numbers before rounding, of those of the `parents`, each read in a quantization of its own.
    `joined`: a norm that reads it may read what it is made of instead. `slope` is how many codes a norm takes a
    code of its input.
    """

    name: str
    q: Q
    shape: tuple[int, ...]
    parents: list[tuple[Tensor, Q]] = field(default_factory=list)
    make: Callable[..., list[np.ndarray]] | None = None
    twin: str = ""  # the same codes under another name
    joined: bool = False
    apart: bool = False  # each number is of one parent alone
    arithmetic: bool = False  # a norm written as Mul and Add: several, one behind the other, are one
    slope: np.ndarray | float = 0.0
    norm: bool = False
    slack: float = 0.0  # in codes, where averages and a convolution have changed places
    part: float = 0.0  # in codes, of a step of the bias of a layer that makes what a norm made


def stepwise(x, steps, inner, relaxed):
    """Return what steps make of numbers: with the conversions among them and, `relaxed`, without some.

    Where a number is half way between two codes, either may be right: float32 is not exact.
    """
    made = []
    ways = (-FLOAT_ERROR, FLOAT_ERROR, None) if relaxed else (-FLOAT_ERROR, FLOAT_ERROR)
    for chosen in itertools.product(ways, repeat=len(inner)):
        y = x
        for i, step in enumerate([*steps, None]):
            for (done, q, read), nudge in zip(inner, chosen, strict=True):
                if done == i:
                    gone = nudge is None and read is q
                    y = _cut_off(y, q) if gone else read.real(q.codes(y + (nudge or 0) * q.step))
            y = y if step is None else _applied(step, y)
        made.append(y)
    return made


def _cut_off(y, q):
    """Return numbers cut off where codes saturate, half a step beyond the last one, as rounding may move them."""
    low, high = q.range()
    return np.clip(y, low - q.step / 2, high + q.step / 2)


def _cut_at_zero(y, q):
    """Return numbers of which the part beyond a range that ends at 0 is cut off."""
    low, high = q.range()
    return np.clip(y, 0 if low == 0 else None, 0 if high == 0 else None) if 0 in (low, high) else y


def _applied(step, y):
    if step[0] == "affine":
        return y * step[1] + step[2]
    if step[0] == "clip":
        return np.clip(y, step[1], step[2])
    if step[0] == "picked":
        return step[1](y)
    return maximum_of_windows(y)


def maximum_of_windows(y):
    """Return the largest of the 3 x 3 numbers around each."""
    padded = np.pad(y, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows.max(axis=(4, 5), initial=-np.inf)


def _codes(tensor, found):
    """Return the codes that a run made of a tensor, or those that it would have."""
    if tensor.name not in found:
        found[tensor.name] = tensor.q.codes(_exact(tensor, found)[0])
    return found[tensor.name]


def _exact(tensor, found):
    return tensor.make(False, *(q.real(_codes(parent, found)) for parent, q in tensor.parents))


def _relaxed(tensor, found):
    """Return the numbers that a tensor may have before rounding: what it reads rounded, or not."""
    options = [
        [q.real(_codes(parent, found)), *(_unrounded(parent, found) if _is_open(tensor, parent, q) else [])]
        for parent, q in tensor.parents
    ]
    if tensor.apart:
        most = max(map(len, options))
        options = [o + o[:1] * (most - len(o)) for o in options]
        ways = zip(*options, strict=True)
    else:
        ways = itertools.product(*options)
    return [y for arrays in ways for y in tensor.make(True, *arrays)]


def _is_open(tensor, parent, q):
    """Say whether a tensor may read another one before it is rounded."""
    if tensor.slack:
        return True
    return q is parent.q and (parent.joined or (tensor.arithmetic and parent.arithmetic))


def _unrounded(tensor, found):
    """Return the numbers of a sum or a concatenation before they are rounded, cut off where a Relu may be gone."""
    return [_cut_at_zero(y, tensor.q) for y in _relaxed(tensor, found)]


def mismatches(tensors, found, lowering):
    """Yield tensors of codes that are not what they may be, with how far they are off."""
    for tensor in tensors:
        if tensor.make is None or tensor.name not in found:
            continue
        got, before = found[tensor.name].astype(np.float64), dict(found)
        free = lowering and (tensor.norm or tensor.joined or tensor.slack)
        variants = [tensor.q.steps(y) for y in (_relaxed if free else _exact)(tensor, before)]
        low, high = np.min(variants, axis=0), np.max(variants, axis=0)
        bound = 0.5 + FLOAT_ERROR
        if tensor.norm and lowering == "portable":  # weights of 64 at least, and a bias rounded to one
            bound += min(tensor.slope / 128, 1.0)
        if lowering == "fused":
            bound += tensor.slack
        if lowering not in ("", "qdq"):  # a bias rounded to a step; `into_layers` takes no larger ones
            bound += min(tensor.part, 1 / 8) / 2
        off = np.maximum(low - got, got - high)
        if off.size and off.max() > bound:
            yield tensor, float(off.max() - 0.5)
