"""The body of a model-local function, node after node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto, helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import NodeProto


def _refer(node: NodeProto, name: str, to: str, kind: str) -> None:
    """Give a node an attribute that is an attribute of the function around it, a "float" or an "int"."""
    reference = node.attribute.add()
    reference.name, reference.ref_attr_name = name, to
    reference.type = helper.make_attribute("", 1.0 if kind == "float" else 1).type


class Body:
    """Nodes of a function, written one after another."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []

    def __call__(self, op: str, *inputs: str, out: str = "", **attributes: object) -> str:
        """Add a node of a standard operator; return the name of its output."""
        name = out or f"{op}_{len(self.nodes)}"
        node = helper.make_node(op, inputs, [name])
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return name

    def node(
        self, op: str, inputs: Sequence[str], out: str, domain: str, passed_on: dict[str, str], **attributes: int
    ) -> None:
        """Add a node of another function, some of whose attributes are this one's: a name and a kind each."""
        node = helper.make_node(op, inputs, [out], domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        for name, kind in passed_on.items():
            _refer(node, name, name, kind)
        self.nodes.append(node)

    def attribute(self, kind: str, name: str) -> str:
        """Return a Constant whose value is an attribute of the function."""
        node = helper.make_node("Constant", [], [f"attribute_{name}_{len(self.nodes)}"])
        _refer(node, f"value_{kind}", name, kind)
        self.nodes.append(node)
        return str(node.output[0])

    def constant(self, data_type: int, value: float | Sequence[float]) -> str:
        """Add a constant number, or a vector."""
        values = list(value) if not isinstance(value, int | float) else [value]
        dims = [len(values)] if not isinstance(value, int | float) else []
        return self("Constant", value=helper.make_tensor("", data_type, dims, values))

    def cast(self, x: str, data_type: int) -> str:
        """Convert to another type."""
        return self("Cast", x, to=data_type)

    def rounded(self, x: str) -> str:
        """Round doubles to float32. ONNX Runtime may drop a Cast right behind another: here none is."""
        return self("Neg", self.cast(self("Neg", self.cast(x, TensorProto.FLOAT)), TensorProto.DOUBLE))
