"""The work that contestants compete on: codes, a batch norm's parameters, and memory to write to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

SEED = 20
PAGE = 4096
BLOCK = 1 << 22  # random codes are drawn once and repeated: no contestant's speed depends on them

Codes = np.ndarray[Any, np.dtype[np.uint8]]
Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Problem:
    """One batch norm over one tensor.

    Attributes
    ----------
    x, y : numpy.ndarray of uint8
        The input, and an output of the same strides. N, C, then the spatial axes, whatever their order in memory.
    weight, bias, mean, var : numpy.ndarray of float32
    """

    x: Codes
    y: Codes
    channels_last: bool
    weight: Floats
    bias: Floats
    mean: Floats
    var: Floats
    scale: float = 0.047
    zero_point: int = 121
    eps: float = 1e-5
    output_scale: float = 0.031
    output_zero_point: int = 117

    @property
    def slope(self) -> Floats:
        """The codes of output a code of input is worth, per channel."""
        gain = self.weight / np.sqrt(self.var + np.float32(self.eps))
        return np.asarray(gain * (self.scale / self.output_scale), np.float32)

    @property
    def intercept(self) -> Floats:
        """The output of the input's zero point in codes, without the output's zero point."""
        gain = self.weight / np.sqrt(self.var + np.float32(self.eps))
        return np.asarray((self.bias - self.mean * gain) / self.output_scale, np.float32)

    @cached_property
    def z(self) -> Codes:
        """A second buffer with the input in it, for work in place."""
        z = like(self.x)
        np.copyto(z, self.x)
        return z

    def flat(self, array: Codes) -> Codes:
        """Return one of the arrays as a vector over its memory."""
        return self.in_memory_order(array).reshape(-1)

    def in_memory_order(self, array: Codes) -> Codes:
        """Return one of the arrays with its axes as they lie in memory."""
        return np.moveaxis(array, 1, -1) if self.channels_last else array


def problem(shape: tuple[int, ...], channels_last: bool = False) -> Problem:
    """Return random codes and realistic parameters: slopes from 0.3 to 2.5, so that few results saturate.

    Parameters
    ----------
    shape : tuple of int
        N, C, and the spatial axes.
    channels_last : bool, optional
        Whether C comes last in memory.
    """
    rng = np.random.default_rng(SEED)
    count, channels = int(np.prod(shape)), shape[1]
    drawn = rng.normal(121, 30, min(count, BLOCK)).round().clip(1, 255).astype(np.uint8)
    x, y = (_array(shape, channels_last) for _ in "xy")
    flat = (np.moveaxis(x, 1, -1) if channels_last else x).reshape(-1)
    for start in range(0, count, BLOCK):
        flat[start : start + BLOCK] = drawn[: count - start]
    np.copyto(y, 1)  # touches every page

    var = rng.lognormal(0, 0.7, channels).astype(np.float32)
    slope = np.exp(rng.uniform(np.log(0.3), np.log(2.5), channels)) * rng.choice([1, -1], channels, p=[0.95, 0.05])
    return Problem(
        x=x,
        y=y,
        channels_last=channels_last,
        weight=(slope * np.sqrt(var) * Problem.output_scale / Problem.scale).astype(np.float32),
        bias=rng.normal(0, 10 * Problem.output_scale, channels).astype(np.float32),
        mean=rng.normal(0, 10 * Problem.scale, channels).astype(np.float32),
        var=var,
    )


def like(array: Codes) -> Codes:
    """Return new memory of the same shape and strides, starting on a page as all buffers here do."""
    channels_last = array.ndim > 1 and array.strides[1] == 1 and array.shape[1] > 1
    return _array(array.shape, channels_last)


def _array(shape: tuple[int, ...], channels_last: bool) -> Codes:
    count = int(np.prod(shape))
    memory: Codes = np.empty(count + PAGE, np.uint8)
    memory = memory[-memory.ctypes.data % PAGE :][:count]
    if not channels_last:
        return memory.reshape(shape)
    return np.moveaxis(memory.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
