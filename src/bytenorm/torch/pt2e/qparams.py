"""Reads how a traced program quantizes: the nodes that quantize and dequantize, in all their spellings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from ..._norms import obstacles
from ..._tensors.quantization import ByteQuantization
from .graph import arguments, operator_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Lookup = Callable[[Node], Tensor | None]

_SPELLINGS = (
    "quantized_decomposed::{}quantize_per_tensor",
    "quantized_decomposed::{}quantize_per_channel",
    "torchao::{}quantize_affine",
)
_QUANTIZE = {spelling.format("") for spelling in _SPELLINGS}
_DEQUANTIZE = {spelling.format("de") for spelling in _SPELLINGS}
_CODES = {torch.uint8: (0, 255), torch.int8: (-128, 127)}
_CHANNELS = 1  # the axis
_FLOAT32 = 6  # as schemas write it


class UnusableError(Exception):
    """Why what a program does cannot be left to the operator, in a few words."""


def refuse(reason: str) -> None:
    """Raise a reason, if there is one."""
    if reason:
        raise UnusableError(reason)


@dataclass(frozen=True)
class TracedQParams(ByteQuantization):
    """The quantization of a traced tensor of bytes, and the nodes that hold it.

    Attributes
    ----------
    scale, zero_point : numpy.ndarray
        float64 and int64, of one entry, or one for each channel.
    dtype : torch.dtype
        uint8 or int8.
    scale_node, zero_point_node : Node or None
        Where the program has them, if it has tensors.
    lowest, highest : int
        The codes that quantizing leaves; they may be fewer than the dtype has.
    """

    dtype: torch.dtype
    scale_node: Node | None
    zero_point_node: Node | None
    lowest: int
    highest: int

    def code(self, number: float) -> int:
        """Return the code that the program makes of a number; infinite ones make the lowest and highest."""
        real = torch.tensor(number, dtype=torch.float32)
        scale, zero_point = self.scalars
        steps = torch.round(real * (1.0 / scale)) + zero_point
        return int(torch.clamp(steps, self.lowest, self.highest))


def is_quantize(node: Any) -> bool:
    """Say whether a node quantizes."""
    return isinstance(node, Node) and operator_name(node) in _QUANTIZE


def is_dequantize(node: Any) -> bool:
    """Say whether a node dequantizes."""
    return isinstance(node, Node) and operator_name(node) in _DEQUANTIZE


def read_qparams(node: Node, tensor: Lookup, what: str) -> TracedQParams:
    """Return how a node quantizes or dequantizes.

    Parameters
    ----------
    node : Node
        One for which `is_quantize` or `is_dequantize` holds.
    tensor : callable
        Returns the tensor that a node stands for; None if it is not constant.
    what : str
        What is quantized, for the reason.

    Raises
    ------
    UnusableError
        If it is no affine quantization to 8 bits, per tensor or per channel, with constants.
    """
    given = arguments(node)
    names = ("input_dtype", "dtype", "output_dtype") if is_dequantize(node) else ("dtype", "output_dtype")
    dtype = next(given[name] for name in names if name in given)
    if dtype not in _CODES:
        raise UnusableError(obstacles.of_type(what, type_name(dtype)))
    if is_dequantize(node):
        real = given["output_dtype"] if "input_dtype" in given else given.get("out_dtype")
        if real not in (None, torch.float32, _FLOAT32):
            raise UnusableError(f"{what} is dequantized to {type_name(real)}")

    scale_given, zero_point_given = (
        given[name if name in given else f"{name}s"] for name in ("scale", "zero_point")
    )
    scale = _constant(scale_given, tensor, "scale", what)
    zero_point = _whole(_constant(zero_point_given, tensor, "zero point", what), what)
    if scale is None:
        raise UnusableError(f"{what} has no scale")
    scale = scale.reshape(-1)
    zero_point = torch.zeros(scale.shape, dtype=torch.int64) if zero_point is None else zero_point.reshape(-1)
    if scale.shape != zero_point.shape:
        raise UnusableError(obstacles.of_counts(what, scale.numel(), zero_point.numel()))
    if scale.numel() > 1 and not _along_channels(given):
        raise UnusableError(f"{what} is quantized along another axis than that of the channels")

    smallest, largest = _CODES[dtype]
    limits = []
    for name, default in (("quant_min", smallest), ("quant_max", largest)):
        value = _constant(given[name], tensor, name, what)
        limits.append(default if value is None else int(value))
    return TracedQParams(
        scale.double().numpy(),
        zero_point.numpy(),
        dtype,
        scale_given if isinstance(scale_given, Node) else None,
        zero_point_given if isinstance(zero_point_given, Node) else None,
        max(limits[0], smallest),
        min(limits[1], largest),
    )


def type_name(dtype: torch.dtype) -> str:
    """Return the name of a type as messages write it."""
    return str(dtype).removeprefix("torch.")


def _constant(value: Any, tensor: Lookup, name: str, what: str) -> Tensor | None:
    """Return a number or a constant tensor as a tensor; None for none."""
    if isinstance(value, Node):
        found = tensor(value)
        if found is None:
            raise UnusableError(obstacles.of_scale(name, what))
        return found.detach().cpu() if found.numel() else None
    return None if value is None else torch.tensor(value, dtype=torch.float64)


def _whole(zero_point: Tensor | None, what: str) -> Tensor | None:
    """Return zero points as whole numbers: torchao keeps them as floats."""
    if zero_point is None or not zero_point.is_floating_point():
        return zero_point
    whole = zero_point.to(torch.int64)
    if not torch.equal(whole.to(zero_point.dtype), zero_point):
        raise UnusableError(f"the zero point of {what} is no whole number")
    return whole


def _along_channels(given: dict[str, Any]) -> bool:
    """Say whether a quantization with many scales has one for each channel."""
    if "axis" in given:
        return bool(given["axis"] == _CHANNELS)
    block = given["block_size"]
    return len(block) > _CHANNELS and block[_CHANNELS] == 1
