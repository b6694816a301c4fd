"""Transposes around bytenorm's operators, for ONNX Runtime's optimizer to cancel.

Convolutions of ONNX Runtime run channels-last inside. An operator that did not would make it transpose around
every norm; between Transposes of its own, which the optimizer cancels against those of its neighbours, it joins
the chain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .graph import Graph, int_list, is_op

if TYPE_CHECKING:
    from collections.abc import Sequence


def to_last(rank: int) -> list[int]:
    """Return the permutation that moves the channels from axis 1 to the last one."""
    return [0, *range(2, rank), 1]


def read_in_order(graph: Graph, tensor: str, perm: Sequence[int], name: str) -> str:
    """Return a tensor with its axes in another order, by one Transpose for all that want it so.

    `name` is for the new tensor and, with another end, the new node.
    """
    if list(perm) == list(range(len(perm))):
        return tensor
    for reader in graph.readers(tensor):
        if is_op(reader, "Transpose") and int_list(reader, "perm") == list(perm):
            return str(reader.output[0])
    made = graph.new_name(f"{name}/channels_last")
    graph.make("Transpose", [tensor], made, f"{name}/to_channels_last", perm=list(perm))
    return made


def write_in_order(graph: Graph, tensor: str, perm: Sequence[int], name: str) -> str:
    """Let a Transpose make a tensor, and return the name of what it reads: the tensor with its axes so ordered."""
    if list(perm) == list(range(len(perm))):
        return tensor
    source = graph.new_name(f"{name}/channels_last/normalized")
    inverse = [int(axis) for axis in np.argsort(perm)]
    graph.make("Transpose", [source], tensor, f"{name}/to_channels_first", perm=inverse)
    return source
