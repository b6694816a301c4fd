"""Writes the nodes on bytes that make the codes which a lowered norm reads, as `code_paths` found them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from onnx import NodeProto

from ..graph.graph import Graph, is_op, label
from ..graph.picks import PICKS, pick_codes

if TYPE_CHECKING:
    from ..norms.qparams import Path, QParams


class ByteNodes:
    """The nodes on bytes beside those in float that they do the work of, each once.

    Parameters
    ----------
    graph : Graph
        Changed in place.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._made: dict[tuple[str, ...], QParams] = {}
        self._exact: dict[str, NodeProto] = {}  # what may read the codes as well, by the tensor in float

    def write(self, q: QParams) -> QParams:
        """Add the nodes that make codes, unless they are there, and return how these are quantized."""
        path = q.path
        if path is None:
            return q
        if path.real not in self._made:
            self._made[path.real] = self._written(q, path, [self.write(part) for part in path.parts])
        return self._made[path.real]

    def finish(self) -> None:
        """Let the codes make the tensors in float that something else reads, where they are the same numbers."""
        graph = self._graph
        for real in reversed(self._exact):
            node, q = self._exact[real], self._made[real,]
            if graph.maker(real) is node and graph.is_needed(real):
                graph.remove(node)
                inputs = [q.codes, q.scale_name, *filter(None, [q.zero_point_name])]
                graph.make("DequantizeLinear", inputs, real, f"{real}/DequantizeLinear")

    def _written(self, q: QParams, path: Path, parts: list[QParams]) -> QParams:
        graph, node = self._graph, path.node
        name = "/".join(path.real)
        codes = graph.new_name(f"{name}/codes")
        names = q.scale_name, q.zero_point_name
        if not q.per_tensor:
            names = (
                graph.add_constant(f"{name}/scales", q.scale),
                graph.add_constant(f"{name}/zero_points", q.zero_point),
            )
        elif not is_op(node, "Concat") and path.off == 0 and path.real == tuple(filter(None, node.output)):
            self._exact[name] = node
        if is_op(node, "Relu", "Clip"):
            byte = q.zero_point.dtype
            bounds = [
                "" if code is None else graph.add_constant(f"{name}/{what}", np.asarray(code, byte))
                for what, code in zip(("lowest", "highest"), path.limits, strict=True)
            ]
            graph.make("Clip", [parts[0].codes, *bounds], codes, label(node))
        elif is_op(node, *PICKS):
            pick_codes(graph, node, path.real[0], (parts[0].codes, codes), q.zero_point.ravel()[0])
        else:
            inputs = [*(part.codes for part in parts), *node.input[len(parts) :]]
            graph.make_like(node, inputs, codes, label(node))
        return replace(q, codes=codes, scale_name=names[0], zero_point_name=names[1], path=None)
