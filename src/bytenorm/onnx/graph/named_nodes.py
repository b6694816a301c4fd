"""Nodes that a caller names: as messages call them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ..._alike import most_alike
from ..._errors import bad_type, bad_value
from .graph import all_graphs, label

if TYPE_CHECKING:
    import onnx
    from onnx import NodeProto


def check_names(nodes_to_exclude: object) -> None:
    """Require that these can be names of nodes."""
    if isinstance(nodes_to_exclude, str) or not isinstance(nodes_to_exclude, Collection):
        came = type(nodes_to_exclude).__name__
        raise bad_type("nodes_to_exclude", f"must be names of nodes, got {came}")


def named_nodes(
    model: onnx.ModelProto, names: Collection[str], argument: str = "nodes_to_exclude"
) -> list[NodeProto]:
    """Return the nodes of a model's main graph that messages call by one of these names.

    Raises
    ------
    ValueError
        If there is no such node, in subgraphs neither.
    """
    known = {label(node) for part in all_graphs(model.graph) for node in part.node}
    for name in names:
        if name not in known:
            raise bad_value(argument, f": the model has no node {name!r}{meant(name, known)}")
    return [node for node in model.graph.node if label(node) in names]


def meant(name: str, known: Iterable[str]) -> str:
    """Return the end of an error's text: the known name that is most alike; empty if none is."""
    found = most_alike(name, known)
    return f": did you mean {found!r}?" if found else ""
