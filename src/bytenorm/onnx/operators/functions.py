"""The functions that a model's nodes of these operators need, once all of them are in it.

One function says the single norm. Of the others there is a variant for each kind of node that a model has. Where
all nodes are of one kind, one function of the operator's name does, in any IR version with functions. Where they
are not, there are overloads of one name, told apart by the nodes' `overload`: IR version 10, which ONNX Runtime
reads from 1.18 on. A registered operator takes the place of all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..graph.graph import all_graphs
from . import add_batch_norm, concat_batch_norm, sum_batch_norm
from .batch_norm import add_function, require_operators
from .schema import ADD, CONCAT, DOMAIN, SUM, norm_schema

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OVERLOADS_IR = 10

# Of each: the name of a node's kind, and the function of that kind for a model's opset.
_VARIANTS = (
    (CONCAT, concat_batch_norm.kind, concat_batch_norm.function_of),
    (ADD, add_batch_norm.kind, add_batch_norm.function_of),
    (SUM, sum_batch_norm.kind, sum_batch_norm.function_of),
)


def add_functions(model: ModelProto) -> None:
    """Give a model the functions of all its nodes of bytenorm's operators, the single norm's among them.

    Parameters
    ----------
    model : onnx.ModelProto
        Changed in place: functions, the nodes' `overload`, imports, and the IR version if it has to rise. Its own
        functions of these operators are replaced, but for the single norm's.

    Raises
    ------
    ValueError
        If the model's standard operators are older than the functions can use.
    """
    nodes = [node for graph in all_graphs(model.graph) for node in graph.node if norm_schema(node)]
    if not nodes:
        return
    opset = require_operators(model, nodes[0].op_type)
    add_function(model)
    for schema, kind, make in _VARIANTS:
        kinds: dict[str, NodeProto] = {}
        own = [node for node in nodes if node.op_type == schema.operator]
        for node in own:
            kinds.setdefault(kind(node), node)
        if not own:
            continue
        others = [f for f in model.functions if (f.domain, f.name) != (DOMAIN, schema.operator)]
        made = {name: make(opset, kinds[name]) for name in sorted(kinds)}
        if len(kinds) > 1:
            model.ir_version = max(model.ir_version, OVERLOADS_IR)
            for name, function in made.items():
                function.overload = name
        for node in own:
            node.overload = kind(node) if len(kinds) > 1 else ""
        del model.functions[:]
        model.functions.extend([*others, *made.values()])
