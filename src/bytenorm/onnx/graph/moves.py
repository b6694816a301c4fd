"""Nodes that only move axes, add axes of size 1 or drop them: where an axis comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .graph import Graph, attribute, int_list, is_op

if TYPE_CHECKING:
    from onnx import NodeProto

MOVES = ("Identity", "Transpose", "Squeeze", "Unsqueeze", "Reshape", "Flatten")
# What gives numbers that it reads, in another order or shape, or the largest of some: it does the same with codes.
KEEPING = (*MOVES, "MaxPool")


def axis_before(graph: Graph, node: NodeProto, axis: int) -> int | None:
    """Return the axis of what a node reads that becomes this axis of what it makes.

    Parameters
    ----------
    graph : Graph
    node : NodeProto
    axis : int
        Not negative.

    Returns
    -------
    int or None
        None if the node computes, or joins or splits axes, or if the shapes are not known that would tell.
    """
    if not is_op(node, *MOVES):
        return None
    if node.op_type == "Identity":
        return axis
    before, behind = (graph.type_of(tensor)[1] for tensor in (node.input[0], node.output[0]))
    if node.op_type == "Transpose":
        perm = permutation(node, None if before is None else len(before))
        return perm[axis] if perm is not None and axis < len(perm) else None
    if before is None or behind is None or axis >= len(behind):
        return None
    if node.op_type == "Squeeze":
        gone = named_axes(graph, node, len(before))
        if gone is None:
            gone = {i for i, n in enumerate(before) if n == 1} if None not in before else None
        left = [] if gone is None else [i for i in range(len(before)) if i not in gone]
        return left[axis] if axis < len(left) else None
    if node.op_type == "Unsqueeze":
        new = named_axes(graph, node, len(behind))
        return None if new is None or axis in new else axis - sum(i < axis for i in new)
    # Without those of size 1 the axes are the same; of one whose size is open the others leave no doubt.
    old, new_axes = ([i for i, n in enumerate(shape) if n != 1] for shape in (before, behind))
    same = [before[i] for i in old] == [behind[i] for i in new_axes] and sum(n is None for n in before) <= 1
    return old[new_axes.index(axis)] if same and axis in new_axes else None


def axis_named(node: NodeProto, rank: int | None) -> int | None:
    """Return the axis that an attribute names, not negative; None if that takes a rank that nobody knows."""
    axis: int = attribute(node, "axis", 1)
    return axis if axis >= 0 else None if rank is None else axis + rank


def permutation(node: NodeProto, rank: int | None) -> list[int] | None:
    """Return the order that a Transpose brings axes to; None if it is none of so many axes, or nobody knows."""
    perm = int_list(node, "perm")
    if perm is None:
        return None if rank is None else list(range(rank))[::-1]
    return perm if sorted(perm) == list(range(len(perm) if rank is None else rank)) else None


def named_axes(graph: Graph, node: NodeProto, rank: int) -> set[int] | None:
    """Return the axes that a Squeeze or Unsqueeze names, all if they are not known; None if it names none."""
    axes = int_list(node, "axes")
    if axes is None and len(node.input) > 1 and node.input[1]:
        value = graph.constant(node.input[1])
        axes = [rank] if value is None or value.dtype != np.int64 else [int(i) for i in value.ravel()]
    if axes is None:
        return None
    known = all(-rank <= i < rank for i in axes)
    return {i % rank for i in axes} if known else set(range(rank))
