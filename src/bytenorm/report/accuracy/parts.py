"""A network run part by part on a batch: no more of it is held than a part and what later parts read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...onnx.graph.cutting import cut
from ...onnx.graph.graph import captured_by
from ...onnx.run.apart import run_session
from ...onnx.run.session import session_for_a_pass

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import onnxruntime

    from ...onnx.graph.graph import Graph

    Arrays = dict[str, np.ndarray]


class Parts:
    """Runs a graph in parts, each of which makes some of its tensors.

    In this process: what the whole network does not survive must not come here.

    Parameters
    ----------
    graph : Graph
        Parts are cut from it when they first run; until then it may be changed.
    wanted : list of list of str
        What each part makes.
    what : str
        What messages call the model.
    """

    def __init__(self, graph: Graph, wanted: Sequence[Sequence[str]], what: str) -> None:
        self._graph, self._wanted, self._what = graph, wanted, what
        self._parts: dict[int, tuple[list[str], onnxruntime.InferenceSession]] = {}  # what each reads, and runs
        self._last = _last_readers(graph, wanted)

    def make(self, k: int, there: Mapping[str, np.ndarray]) -> Arrays:
        """Return what a part makes of tensors that are there: of the batch, or of what parts before it made."""
        wanted = [name for name in self._wanted[k] if name not in there]
        if not wanted:
            return {}
        if k not in self._parts:
            part = cut(self._graph, wanted, there)
            self._parts[k] = [value.name for value in part.graph.input], session_for_a_pass(part)
        read, session = self._parts[k]
        made = run_session(session, wanted, {name: there[name] for name in read}, self._what)
        return dict(zip(wanted, made, strict=True))

    def forget(self) -> None:
        """Let go of the memory that its sessions have."""
        self._parts.clear()

    def next(self, k: int, there: Arrays) -> Arrays:
        """Return all that a part wants; put into `there` what later parts read, and take out what none does."""
        there.update(self.make(k, there))
        made = {name: there[name] for name in self._wanted[k]}
        for name in [name for name in there if self._last.get(name, len(self._wanted)) <= k]:
            del there[name]
        return made


def _last_readers(graph: Graph, wanted: Sequence[Sequence[str]]) -> Mapping[str, int]:
    """Return by tensor the last part that reads it."""
    place = {name: k for k, names in enumerate(wanted) for name in names}
    read: dict[str, set[str]] = {}
    last = dict(place)
    for node in graph.in_order():
        before: set[str] = set()
        for tensor in (*node.input, *captured_by(node)):
            before |= {tensor} if tensor in place else read.get(tensor, set())
        for made in node.output:
            read[made] = before
            for tensor in before if made in place else ():
                last[tensor] = max(last[tensor], place[made])
    return last
