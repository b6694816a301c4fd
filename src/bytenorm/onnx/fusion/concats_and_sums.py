"""Finds norms that one operator computes together with the concatenation or the sum that they read.

Long, for it is concatenations and sums are told apart by the same steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

import bytenorm as bn

from ..graph.graph import CONTRIBUTED, attribute, is_op, label, what_feeds
from ..graph.moves import axis_named, permutation
from ..norms.code_maps import every_code
from ..norms.code_paths import unlike_shapes
from ..norms.norm import CHANNELS
from ..norms.qparams import qparams
from .pools import pool_behind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..graph.graph import Graph
    from ..norms.norm import QuantizedNorm
    from ..norms.qparams import QParams
    from .pools import Pool


@dataclass(frozen=True)
class Single:
    """A norm for itself; `reason` says why it is not computed with what it reads."""

    name: ClassVar[str] = "single"
    reason: str


@dataclass(frozen=True)
class Concatenation:
    """A norm of pieces of its channels, each in a quantization of its own.

    The norm reads axis `perm[i]` of the pieces as its axis i.
    """

    reason: ClassVar[str] = ""
    pieces: tuple[QParams, ...]
    perm: tuple[int, ...]
    pool: Pool | None = None

    @property
    def name(self) -> str:
        """What reports call it."""
        return "concat" if self.pool is None else "concat + pool"


@dataclass(frozen=True)
class Sum:
    """A norm of a sum of two tensors, quantized or, if `total` has no codes, not: then of any number of them.

    The norm reads axis `perm[i]` of the summands as its axis i. It can take the sum unrounded if `exact`. What is
    not quantized may be cut off at two numbers.
    """

    name: ClassVar[str] = "add"
    reason: ClassVar[str] = ""
    summands: tuple[QParams, ...]
    total: QParams
    perm: tuple[int, ...]
    exact: bool = False
    limits: tuple[float, float] = (-np.inf, np.inf)

    @property
    def plain(self) -> bool:
        """Whether it is of two tensors, and nothing is cut off."""
        return len(self.summands) == 2 and not np.isfinite(self.limits).any()


Pattern = Single | Concatenation | Sum


class _NotFused(Exception):  # noqa: N818 - no error: it carries the reason
    """What stands against it."""


def find_patterns(graph: Graph, sites: Iterable[QuantizedNorm]) -> Iterator[Pattern]:
    """Say of each norm what it can be computed with.

    Parameters
    ----------
    graph : Graph
        Not changed.
    sites : iterable of QuantizedNorm
        In the order of the graph: where several norms read one sum, the first one makes it.

    Yields
    ------
    Single, Concatenation or Sum
    """
    made: dict[str, str] = {}
    for site in sites:
        try:
            found = _pattern(graph, site)
            if isinstance(found, Sum) and found.total.codes:
                other = made.setdefault(found.total.codes, site.name)
                if other != site.name:
                    raise _NotFused(f"the norm {other} makes its sum")
        except _NotFused as why:
            found = Single(str(why))
        yield found


def _pattern(graph: Graph, site: QuantizedNorm) -> Pattern:
    rank = site.rank(graph)
    path = site.source.path
    if path is not None and path.is_sum:
        return Sum(path.parts, site.source, tuple(range(rank or 0)), exact=True, limits=path.numbers)
    source, perm = _behind_path(site.source, rank)
    if source.path is not None:
        if not is_op(source.path.node, "Concat"):
            raise _NotFused(f"it reads the {source.path.node.op_type} {label(source.path.node)}")
        return _unrounded_concatenation(graph, site, source, perm)
    if not source.per_tensor:
        raise _NotFused("its input is quantized per channel")
    codes, behind = _behind_transposes(graph, source, rank)
    perm = tuple(behind[axis] for axis in perm)
    joint = _joint(graph, replace(source, codes=codes))
    if joint is None:
        raise _NotFused(f"it reads the {what_feeds(graph, codes)}")
    if joint.op == "Add":
        return _sum(graph, site, joint, perm)
    if len(perm) == 1:
        raise _NotFused("its input has no axis for channels")
    channels = perm[CHANNELS] if perm else CHANNELS
    pieces = tuple(_pieces(graph, joint, channels, rank))
    if len({p.signed for p in pieces}) > 1:
        raise _NotFused(f"{joint.label} joins uint8 and int8")
    return _concatenation(graph, site, pieces, perm, joint.label)


def _concatenation(
    graph: Graph, site: QuantizedNorm, pieces: tuple[QParams, ...], perm: tuple[int, ...], what: str
) -> Concatenation:
    try:  # no other scale gives larger numbers than the largest
        every_code(replace(site, source=max(pieces, key=lambda p: p.scalars[0])))
    except ValueError as error:
        raise _NotFused(f"{what}: {error}") from None
    if any(site.saturates_inside(*piece.range()) for piece in pieces):
        raise _NotFused(f"{what}: codes between the steps of the norm cut off numbers of a piece")
    return Concatenation(pieces, perm, pool_behind(graph, site, site.rank(graph)))


def _unrounded_concatenation(
    graph: Graph, site: QuantizedNorm, joined: QParams, perm: tuple[int, ...]
) -> Concatenation:
    """Return the concatenation whose pieces have codes, while it has none."""
    assert joined.path is not None
    what, rank = f"the Concat {label(joined.path.node)}", site.rank(graph)
    if len(perm) == 1:
        raise _NotFused("its input has no axis for channels")
    channels = perm[CHANNELS] if perm else CHANNELS
    pieces: list[QParams] = []
    waiting = [joined]
    while waiting:
        piece = waiting.pop()
        path = piece.path
        if path is not None and is_op(path.node, "Concat") and axis_named(path.node, rank) == channels:
            waiting += reversed(path.parts)
        else:
            pieces.append(piece)
        if len(pieces) + len(waiting) > max(site.parameters.channels, len(joined.path.parts)):
            raise _NotFused(f"{what} joins more pieces than there are channels")
    if len(pieces) == 1:
        raise _NotFused(f"{what} is along axis {attribute(joined.path.node, 'axis', 1)}, not that of the channels")
    if not all(piece.per_tensor for piece in pieces):
        raise _NotFused(f"{what} reads what is quantized per channel")
    return _concatenation(graph, site, tuple(pieces), perm, what)


def _behind_path(source: QParams, rank: int | None) -> tuple[QParams, tuple[int, ...]]:
    """Return what the codes on a path are another order of the axes of, and the order; `()` if nobody knows."""
    perm = tuple(range(rank or 0))
    while perm and source.path is not None and is_op(source.path.node, "Transpose"):
        order = permutation(source.path.node, len(perm))
        if order is None:
            break
        source, perm = source.path.parts[0], tuple(order[axis] for axis in perm)
    return source, perm


def _behind_transposes(graph: Graph, source: QParams, rank: int | None) -> tuple[str, tuple[int, ...]]:
    """Return what a tensor is another order of the axes of, and the order; `()` if nobody knows how many."""
    codes, perm = source.codes, tuple(range(rank or 0))
    while perm:
        node, read = graph.maker(codes), ""
        if node is not None and is_op(node, "QuantizeLinear") and is_op(graph.maker(node.input[0]), "Transpose"):
            made, _ = qparams(graph, node, 1, codes, "")
            node = graph.maker(node.input[0])
            before = _dequantized(graph, node.input[0]) if node is not None else None
            if before is not None and made is not None and before.equals(source) and made.equals(source):
                read = before.codes
        elif node is not None and is_op(node, "Transpose"):
            read = node.input[0]
        order = permutation(node, len(perm)) if node is not None and read else None
        if order is None:
            break
        codes, perm = read, tuple(order[axis] for axis in perm)
    return codes, perm


@dataclass(frozen=True)
class _Joint:
    """A concatenation or a sum in either format: `made` is what it gives, `parts` what it is of."""

    op: str
    label: str
    axis: int
    made: QParams
    parts: tuple[QParams, ...]


def _joint(graph: Graph, made: QParams) -> _Joint | None:
    """Return the concatenation or sum that makes these codes; None if something else does."""
    maker = graph.maker(made.codes)
    if maker is None:
        return None
    if maker.domain == CONTRIBUTED and maker.op_type in ("QLinearConcat", "QLinearAdd"):
        op, node = maker.op_type.removeprefix("QLinear"), maker
        at, first = (0, 2) if op == "Concat" else (6, 0)
        given, _ = qparams(graph, node, at, made.codes, "")
        places = range(first, len(node.input) if op == "Concat" else 6, 3)
        found = [qparams(graph, node, i + 1, node.input[i], "a part") for i in places]
    elif is_op(maker, "QuantizeLinear") and is_op(graph.maker(maker.input[0]), "Concat", "Add"):
        inner = graph.maker(maker.input[0])
        assert inner is not None
        op, node = inner.op_type, inner
        given, _ = qparams(graph, maker, 1, made.codes, "")
        found = [_converted(graph, tensor) for tensor in node.input]
    elif is_op(maker, "Concat"):  # of codes, which all are of its own quantization
        op, node, given = maker.op_type, maker, made
        found = [(_before_rounding(graph, replace(made, codes=tensor)), "") for tensor in node.input]
    else:
        return None
    what = f"the {node.op_type} {label(node)}"
    for _, problem in found:
        if problem:
            raise _NotFused(f"{what}: {problem}")
    if given is None or not given.equals(made):
        raise _NotFused(f"{what} is quantized in another way than it is read")
    parts = tuple(part for part, _ in found if part is not None)
    if not all(part.per_tensor for part in parts):
        raise _NotFused(f"{what} reads what is quantized per channel")
    return _Joint(op, what, attribute(node, "axis", 1), made, parts)


def _converted(graph: Graph, tensor: str) -> tuple[QParams | None, str]:
    """Return the codes that a tensor is made of, or why there are none."""
    maker = graph.maker(tensor)
    if maker is None or not is_op(maker, "DequantizeLinear"):
        feeds = f"{maker.op_type} {label(maker)}" if maker is not None else what_feeds(graph, tensor)
        return None, f"it reads the {feeds} in float"
    return qparams(graph, maker, 1, maker.input[0], "a part")


def _before_rounding(graph: Graph, piece: QParams) -> QParams:
    """Return the codes that the codes of a piece are made of by conversions alone, or these themselves."""
    maker = graph.maker(piece.codes)
    if not is_op(maker, "QuantizeLinear"):
        return piece
    assert maker is not None
    made, _ = qparams(graph, maker, 1, piece.codes, "")
    before = _dequantized(graph, maker.input[0])
    return before if made is not None and made.equals(piece) and before is not None else piece


def _dequantized(graph: Graph, tensor: str) -> QParams | None:
    return _converted(graph, tensor)[0]


# Concatenations


def _pieces(graph: Graph, joint: _Joint, channels: int, rank: int | None) -> Iterator[QParams]:
    """Yield the pieces of a concatenation, and those of its pieces which are concatenations, and so on."""
    if joint.axis < 0 and rank is None:
        raise _NotFused(f"{joint.label} has an unknown rank")
    axis = joint.axis + (rank or 0) if joint.axis < 0 else joint.axis
    if axis != channels:
        raise _NotFused(f"{joint.label} is along axis {joint.axis}, not that of the channels")
    for part in joint.parts:
        if _is_cut(graph, part, joint.made):
            raise _NotFused(f"{joint.label} cuts off numbers of {part.codes}, as an activation does")
        try:
            inner = _joint(graph, part)
            nested = inner is not None and inner.op == "Concat"
            within = list(_pieces(graph, inner, channels, rank)) if nested and inner is not None else [part]
        except _NotFused:  # the inner one stays a concatenation, and is a piece
            within = [part]
        yield from within


def _is_cut(graph: Graph, part: QParams, joined: QParams) -> bool:
    """Say whether numbers of a piece lie outside the range of the concatenation.

    A quantizer drops a Relu or Clip in front of a conversion that saturates where the activation does. The piece
    alone would not. Two tensors calibrated alone are a step apart at most. More may be only what a pool or another
    operator passes on, which has the range of what it reads. Then a cut at 0 is the one that tells.
    """
    (low, high), (lowest, highest) = part.range(), joined.range()
    steps = part.scalars[0] + joined.scalars[0]
    below, above = lowest - low, high - highest
    if (lowest == 0 and below > steps / 2) or (highest == 0 and above > steps / 2):
        return True
    return max(below, above) > steps and not _has_range_of_input(graph, part)


def _has_range_of_input(graph: Graph, tensor: QParams) -> bool:
    """Say whether what makes a tensor passes on the quantization of what it reads."""
    maker = graph.maker(tensor.codes)
    if maker is None:
        return False
    if is_op(maker, "QuantizeLinear"):
        maker = graph.maker(maker.input[0])
        before = _dequantized(graph, maker.input[0]) if maker is not None and maker.input else None
    elif maker.domain == CONTRIBUTED:
        pools = "Pool" in maker.op_type and maker.input
        before = qparams(graph, maker, 1, maker.input[0], "")[0] if pools else None
    else:
        return not maker.op_type.startswith("QLinear")  # it has bytes of one quantization in and out
    return before is not None and before.equals(tensor)


# Sums


def _sum(graph: Graph, site: QuantizedNorm, joint: _Joint, perm: tuple[int, ...]) -> Sum:
    a, b = joint.parts
    if len({q.signed for q in (a, b, joint.made)}) > 1:
        raise _NotFused(f"{joint.label} mixes uint8 and int8")
    problem = unlike_shapes(*(graph.type_of(q.codes)[1] for q in (a, b)))
    if problem:
        raise _NotFused(f"{joint.label} reads {problem}")
    problem = _sum_problem(a, b, joint.made)
    if problem:
        raise _NotFused(f"{joint.label}: {problem}")
    return Sum((a, b), joint.made, perm, _may_stay_exact(site, joint))


def _may_stay_exact(site: QuantizedNorm, joint: _Joint) -> bool:
    """Say whether a norm may read a sum that is not rounded.

    Not where rounding does the work of a dropped Relu: it cuts off the numbers of one sign. Nor where it cuts off
    numbers that codes between the steps of the norm would.
    """
    low, high = (sum(ends) for ends in zip(*(part.range() for part in joint.parts), strict=True))
    if 0 in joint.made.range() or site.saturates_inside(low, high):
        return False
    try:
        for part in joint.parts:
            every_code(replace(site, source=part))
    except ValueError:  # a scale that is too large for a slope, though not for the sum
        return False
    return True


def _sum_problem(a: QParams, b: QParams, total: QParams) -> str:
    """Say why the library cannot compute a sum in this quantization; empty if it can."""
    codes = np.zeros((1, 1), total.zero_point.dtype)
    one, other = (bn.QuantizedTensor(codes, *q.scalars) for q in (a, b))
    scale, zero_point = total.scalars
    norm = bn.BatchNorm(None, None, [0.0], [1.0], output_scale=scale, output_zero_point=zero_point)
    try:
        bn.add_batch_norm(one, other, norm, sum_scale=scale, sum_zero_point=zero_point)
    except ValueError as error:
        return str(error)
    return ""
