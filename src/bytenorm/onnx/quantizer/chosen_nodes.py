"""Which nodes of a float model are quantized, where a caller names types or nodes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from ..._errors import Argument, bad_type, bad_value
from ..graph.graph import label
from ..graph.named_nodes import meant, named_nodes

if TYPE_CHECKING:
    import onnx
    from onnx import NodeProto

    from ..graph.graph import Graph
    from ..norms.norm import Norm

_NORM = "BatchNormalization"


@dataclass(frozen=True)
class ChosenNodes:
    """What is asked for: nodes of these types and of these names; None does not ask.

    The quantizer's own arguments of these names would be asked of the model that it gets, in which norms are
    convolutions and a MatMul with an Add may be a Gemm. Here they are asked of the model as it came.
    """

    types: frozenset[str] | None = None
    names: frozenset[str] | None = None

    @classmethod
    def of(
        cls,
        model: onnx.ModelProto,
        op_types: Collection[str] | None,
        names: Collection[str] | None,
        excluded: Collection[str],
    ) -> ChosenNodes:
        """Check what a caller names.

        Raises
        ------
        TypeError
            If these are no names.
        ValueError
            If there are none, if the quantizer has no such type, the model no such node, or one is excluded.
        """
        types = None if op_types is None else _names(op_types, "op_types_to_quantize")
        known = {_NORM, *QDQRegistry, *QLinearOpsRegistry}
        for op_type in sorted(types or ()):
            if op_type not in known:
                raise bad_value(
                    "op_types_to_quantize", f": the quantizer knows no {op_type!r}{meant(op_type, known)}"
                )
        if names is None:
            return cls(types)
        wanted = _names(names, "nodes_to_quantize")
        named_nodes(model, sorted(wanted), "nodes_to_quantize")
        for name in excluded:
            if name in wanted:
                raise bad_value("nodes_to_quantize", f": {name!r} is in ", Argument("nodes_to_exclude"), ", too")
        return cls(types, wanted)

    def has(self, node: NodeProto) -> bool:
        """Say whether a node is asked for, or nothing is."""
        return (self.types is None or node.op_type in self.types) and (
            self.names is None or label(node) in self.names
        )

    def names_it(self, node: NodeProto) -> bool:
        """Say whether somebody asked for just this node, or for its type."""
        return (self.types is not None or self.names is not None) and self.has(node)

    def has_norm(self, norm: Norm) -> bool:
        """Say whether a norm is asked for: all of its nodes, or by its name and as a BatchNormalization."""
        by_type = self.types is None or _NORM in self.types or all(n.op_type in self.types for n in norm.nodes)
        by_name = self.names is None or norm.name in self.names or all(label(n) in self.names for n in norm.nodes)
        return by_type and by_name

    def others(self, graph: Graph, norms: Collection[Norm]) -> list[NodeProto]:
        """Return the nodes that the quantizer would take and nobody asks for, besides those of some norms."""
        if self.types is None and self.names is None:
            return []
        ours = {id(node) for norm in norms for node in norm.nodes}
        taken = {_NORM, *QDQRegistry, *QLinearOpsRegistry}
        return [n for n in graph.nodes if n.op_type in taken and id(n) not in ours and not self.has(n)]


def _names(value: object, argument: str) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Collection) or not all(isinstance(n, str) for n in value):
        came = value if isinstance(value, Collection) else type(value).__name__
        raise bad_type(argument, f"must be a list of names, got {came!r}")
    if not value:
        raise bad_value(argument, "must have one name at least, got none; None is for all")
    return frozenset(value)
