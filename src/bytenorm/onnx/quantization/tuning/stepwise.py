"""A network run on samples in steps: between two steps it may be changed, and nothing is computed twice.

What a correction needs to know of a layer depends on the corrections before it. To run the network from its inputs
for each layer is quadratic in their number: 7 CPU minutes for the 62 norms of a DenseNet-121. So what the steps so
far have made is kept, 8-bit codes nearly all of it, and each step runs its own nodes alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...graph.cutting import bytes_in, cut
from ...graph.graph import Graph, captured_by, is_op
from ...run.session import session_for_a_pass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    import onnx

    Batch = dict[str, np.ndarray]

ROOM = 32 << 20  # bytes that are kept between steps; what would be more is the last batches, which are given up


class Stepwise:
    """A graph whose chosen nodes, the sites, are each the first of a step.

    Parameters
    ----------
    graph : Graph
        May be changed between steps, as long as nodes and tensors that are there stay.
    sites : iterable of NodeProto
        They are in the step after that which makes what they read.
    batches : list of dict
        Of the graph's inputs.

    Attributes
    ----------
    batches : int
        How many batches are left: the first ones of those given.
    """

    def __init__(self, graph: Graph, sites: Iterable[onnx.NodeProto], batches: Sequence[Batch]) -> None:
        self._graph = graph
        self._kept: list[Batch] = [dict(batch) for batch in batches]
        chosen = {id(node) for node in sites}
        graph.finish()
        self._levels = dict.fromkeys(graph.inputs, 0)  # of the tensors that depend on an input
        self._last: dict[str, int] = {}  # the last step that reads a tensor
        self._steps: dict[int, list[onnx.NodeProto]] = {}
        levels: dict[int, int] = {}
        nodes = graph.in_order()
        for node in nodes:
            read = [self._levels[t] for t in (*node.input, *captured_by(node)) if t in self._levels]
            if read:
                levels[id(node)] = level = max(read) + (id(node) in chosen)
                self._levels.update(dict.fromkeys((t for t in node.output if t), level))
                if id(node) in chosen:
                    self._steps.setdefault(level, []).append(node)
        wanted = set(chosen)
        for node in reversed(nodes):
            if id(node) not in levels:
                continue
            if id(node) not in wanted and not any(t in self._last for t in node.output):
                continue  # no site depends on it
            for tensor in self._sources((*node.input, *captured_by(node))):
                self._last[tensor] = max(self._last.get(tensor, 0), levels[id(node)])

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[list[onnx.NodeProto]]:
        """Yield the sites of each step, when what they read is there."""
        for level, sites in sorted(self._steps.items()):
            self._run(level - 1)
            yield sites

    @property
    def batches(self) -> int:
        """How many batches are left."""
        return len(self._kept)

    def read(self, tensor: str) -> Iterator[np.ndarray]:
        """Yield what a tensor that a site reads is for each batch."""
        for batch in self._kept:
            yield batch[tensor]

    def _sources(self, tensors: Iterable[str]) -> Iterator[str]:
        """Yield the tensors that have to be there to make these: codes rather than the numbers they stand for."""
        for tensor in tensors:
            if tensor not in self._levels:
                continue
            maker = self._graph.maker(tensor)
            if maker is not None and is_op(maker, "DequantizeLinear"):
                yield from self._sources(maker.input)
            else:
                yield tensor

    def _run(self, level: int) -> None:
        """Make what the nodes up to a level make and later ones read; forget what nobody reads any more."""
        there = self._kept[0].keys()
        wanted = [t for t, last in self._last.items() if self._levels[t] <= level < last and t not in there]
        if wanted:
            part = cut(self._graph, wanted, self._kept[0])
            read = [value.name for value in part.graph.input]
            run = session_for_a_pass(part)
            for batch in self._kept:
                made = run.run(wanted, {t: batch[t] for t in read})
                batch.update(zip(wanted, made, strict=True))
        for batch in self._kept:
            for tensor in [t for t in batch if self._last.get(t, 0) <= level]:
                del batch[tensor]
        size = bytes_in(self._kept[0].values())
        del self._kept[max(1, ROOM // max(size, 1)) :]
