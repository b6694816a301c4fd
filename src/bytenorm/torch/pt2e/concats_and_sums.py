"""Finds the concatenation or sum of quantized tensors that feeds a norm: one operator can do it with the norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.fx import Node

from .graph import arguments, changes_in_place, operator_name
from .norms import is_norm
from .qparams import TracedQParams, UnusableError, is_dequantize, is_quantize, read_qparams

if TYPE_CHECKING:
    from torch import Tensor

    from .graph import Program
    from .norms import Norm

_CHANNELS = 1  # the axis
_CONCATENATIONS = {"aten::cat", "aten::concat", "aten::concatenate"}
_SUMS = {"aten::add", "aten::add_"}


@dataclass(frozen=True)
class Piece:
    """A quantized tensor that is concatenated or added."""

    dequantize: Node
    codes: Node
    qparams: TracedQParams


@dataclass(frozen=True)
class Feed:
    """What feeds a norm.

    Attributes
    ----------
    pieces : tuple of Piece
        What is concatenated along the channels, or the two that are added.
    is_sum : bool
    join : Node
        Concatenates or adds.
    quantize : Node
        Gives the codes that the norm read.
    qparams : TracedQParams
        What it quantizes to.
    """

    pieces: tuple[Piece, ...]
    is_sum: bool
    join: Node
    quantize: Node
    qparams: TracedQParams

    def read_elsewhere(self, norm: Norm) -> bool:
        """Say whether the codes have a reader other than this norm."""
        return list(self.quantize.users) != [norm.input] or list(norm.input.users) != [norm.node]


def find_feed(program: Program, norm: Norm, codes: Node, source: TracedQParams) -> Feed | None:
    """Return what feeds a norm whose input has these codes, if one operator can do it and the norm."""
    if not is_quantize(codes) or not source.per_tensor:
        return None
    join = codes.args[0]
    if not isinstance(join, Node) or list(join.users) != [codes]:
        return None
    name, given = operator_name(join), arguments(join)
    if name in _CONCATENATIONS:
        if not _along_channels(join, given["dim"]):
            return None
        feed = _feed(program, given["tensors"], False, join, codes)
    elif name in _SUMS and given.get("alpha") == 1:
        feed = _feed(program, (given["self"], given["other"]), True, join, codes)
    else:
        return None
    if feed is None or any(piece.qparams.dtype != source.dtype for piece in feed.pieces):
        return None
    if _numbers(feed.qparams) != _numbers(source):  # dequantized otherwise than it was quantized
        return None
    if feed.is_sum:
        limits = torch.iinfo(source.dtype)
        if (feed.qparams.lowest, feed.qparams.highest) != (limits.min, limits.max) or not _of_one_shape(feed):
            return None
    elif not all(is_dequantize(user) and all(map(is_norm, user.users)) for user in codes.users):
        return None  # the concatenation is needed all the same
    if not program.kept.isdisjoint(node.name for node in (codes, join, *(p.dequantize for p in feed.pieces))):
        return None
    return feed


def _feed(program: Program, tensors: object, is_sum: bool, join: Node, quantize: Node) -> Feed | None:
    assert isinstance(tensors, list | tuple)
    pieces: list[Piece] = []
    for tensor in tensors:
        if not is_dequantize(tensor):
            return None
        codes = next(iter(arguments(tensor).values()))
        if any(changes_in_place(user, codes) for user in codes.users):
            return None
        if any(
            changes_in_place(user, tensor) and (user is not join or len(tensor.users) > 1) for user in tensor.users
        ):
            return None
        qparams = _per_tensor(program, tensor)
        if qparams is None:
            return None
        pieces.append(Piece(tensor, codes, qparams))
    joined = _per_tensor(program, quantize)
    return None if joined is None else Feed(tuple(pieces), is_sum, join, quantize, joined)


def _per_tensor(program: Program, node: Node) -> TracedQParams | None:
    try:
        qparams = read_qparams(node, program.tensor, "it")
    except UnusableError:
        return None
    return qparams if qparams.per_tensor else None


def _numbers(qparams: TracedQParams) -> tuple[torch.dtype, float, int]:
    return qparams.dtype, *qparams.scalars


def _along_channels(join: Node, axis: int) -> bool:
    if axis >= 0:
        return axis == _CHANNELS
    value = _value(join)
    return value is not None and axis + value.dim() == _CHANNELS


def _of_one_shape(feed: Feed) -> bool:
    """Say whether it is certain that two summands are not broadcast."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # noqa: PLC0415 (experimental)

    a, b = (_value(piece.dequantize) for piece in feed.pieces)
    return (
        a is not None
        and b is not None
        and a.dim() == b.dim()
        and all(statically_known_true(m == n) for m, n in zip(a.shape, b.shape, strict=True))
    )


def _value(node: Node) -> Tensor | None:
    """Return what tracing knows of a tensor; quantizing and dequantizing change no shape."""
    while "val" not in node.meta and (is_dequantize(node) or is_quantize(node)):
        before = node.args[0]
        if not isinstance(before, Node):
            return None
        node = before
    value = node.meta.get("val")
    return value if isinstance(value, torch.Tensor) else None
