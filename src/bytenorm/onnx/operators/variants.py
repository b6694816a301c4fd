"""Functions of an operator that one function cannot say: a variant for each kind of node that a model has.

Where all nodes are of one kind, one function of the operator's name does, in any IR version with functions. Where
they are not, there are overloads of one name, told apart by the nodes' `overload`: IR version 10, which ONNX
Runtime reads from 1.18 on. A registered operator takes the place of all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..graph.graph import all_graphs
from .batch_norm import add_function, require_operators
from .schema import DOMAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import FunctionProto, ModelProto, NodeProto

OVERLOADS_IR = 10


def add_variants(
    model: ModelProto,
    operator: str,
    kind: Callable[[NodeProto], str],
    make: Callable[[int, NodeProto], FunctionProto],
) -> None:
    """Give a model the functions of all its nodes of an operator, and the single norm's, which these call.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place: functions, the nodes' `overload`, imports, and the IR version if it has to rise. Its own
        functions of that operator are replaced.
    operator : str
    kind : callable
        Names the kind of a node.
    make : callable
        Makes the function for the model's opset and a node of the kind.

    Raises
    ------
    ValueError
        If the model's standard operators are older than the functions can use.
    """
    kinds: dict[str, NodeProto] = {}
    everywhere = (node for graph in all_graphs(model.graph) for node in graph.node)
    nodes = [node for node in everywhere if (node.domain, node.op_type) == (DOMAIN, operator)]
    for node in nodes:
        kinds.setdefault(kind(node), node)
    if not nodes:
        return
    opset = require_operators(model, operator)
    add_function(model)
    others = [f for f in model.functions if (f.domain, f.name) != (DOMAIN, operator)]
    made = {name: make(opset, kinds[name]) for name in sorted(kinds)}
    if len(kinds) > 1:
        model.ir_version = max(model.ir_version, OVERLOADS_IR)
        for name, function in made.items():
            function.overload = name
    for node in nodes:
        node.overload = kind(node) if len(kinds) > 1 else ""
    del model.functions[:]
    model.functions.extend([*others, *made.values()])
