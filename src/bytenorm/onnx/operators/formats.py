"""The two formats of 8-bit models: QOperator, with operators on bytes, and QDQ, float ones between conversions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .schema import DOMAIN

if TYPE_CHECKING:
    from ..graph.graph import Graph


def has_operators_on_bytes(graph: Graph) -> bool:
    """Say whether a graph is in QOperator format, at least in part. bytenorm's own operators may be in either."""
    return any(node.op_type.startswith(("QLinear", "QGemm")) and node.domain != DOMAIN for node in graph.nodes)
