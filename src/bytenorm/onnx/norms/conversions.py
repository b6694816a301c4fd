"""Conversions between float and 8 bits, brought to one spelling: the same numbers, in places where norms look.

Quantizers write some conversions as ONNX Runtime's own operators, one QuantizeLinear for each reader, or none
between a norm and what only moves its numbers about. Nothing here rounds anything: each change is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..graph.graph import CONTRIBUTED, Graph, attribute, is_op, label, opset_of
from ..graph.moves import KEEPING
from ..graph.picks import PICKS, pads_with_zero, pick_problem
from .find import find_norms
from .last_axis import to_axis_1
from .norm import Norm
from .qparams import qparams
from .surroundings import activation_limits

if TYPE_CHECKING:
    from collections.abc import Container

    from onnx import NodeProto

_OLDEST_CONVERSIONS, _OLDEST_PER_CHANNEL = 10, 13  # opsets
_OLDEST_POOL_OF_BYTES = 12


def unify(graph: Graph, apart: Container[str] = ()) -> Graph:
    """Bring the conversions of a graph to the spelling in which norms are found.

    Parameters
    ----------
    graph : Graph
        Its model is changed in place. Of no use any more.
    apart : container of str, optional
        Labels of nodes that get no Transposes around them.

    Returns
    -------
    Graph
        Of the same model.
    """
    _drop_stated_types(graph)
    changed = make_standard(graph)
    changed = _merge(graph) or changed
    if to_axis_1(graph, apart):
        changed = True
        graph = graph.finished()
    for norm in find_norms(graph):
        if norm.parameters is not None and not norm.lowered and not norm.written.startswith("QLinear"):
            changed = _convert_before_moving(graph, norm) or changed
    return graph.finished() if changed else graph


def _drop_stated_types(graph: Graph) -> None:
    """Let zero points alone say the type of codes.

    ONNX Runtime makes int8 codes uint8, forgets the attribute that says int8, and then refuses the model.
    """
    for node in graph.nodes:
        if is_op(node, "QuantizeLinear") and len(node.input) > 2 and node.input[2]:
            for stated in [a for a in node.attribute if a.name == "output_dtype"]:
                node.attribute.remove(stated)


def make_standard(graph: Graph) -> bool:
    """Write ONNX Runtime's own conversions of 8 bits, and of biases, as the standard ones, which say the same.

    It has its own for types that the standard operators did not know; some quantizers then use them for all.
    """
    opset, changed = opset_of(graph.model), False
    for node in graph.nodes:
        if node.domain != CONTRIBUTED or node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        q, _ = qparams(graph, node, 1, node.output[0] if node.op_type == "QuantizeLinear" else node.input[0], "")
        bias = graph.constant(node.input[0]) if node.op_type == "DequantizeLinear" else None
        of_bias = bias is not None and bias.dtype == np.int32
        oldest = _OLDEST_CONVERSIONS if q is not None and q.per_tensor else _OLDEST_PER_CHANNEL
        if (of_bias or q is not None) and opset >= oldest:
            node.domain, changed = "", True
    return changed


def _merge(graph: Graph) -> bool:
    """Let one QuantizeLinear do what several equal ones do."""
    kept: dict[tuple[object, ...], NodeProto] = {}
    changed = False
    nodes = [node for node in graph.nodes if is_op(node, "QuantizeLinear")]
    # What an output or a subgraph reads keeps its name.
    for node in sorted(nodes, key=lambda node: not graph.is_read_elsewhere(node.output[0])):
        q, _ = qparams(graph, node, 1, node.output[0], "")
        if q is None:
            continue
        axis = 0 if q.per_tensor else attribute(node, "axis", 1)
        numbers = q.scale.tobytes(), q.zero_point.dtype.str, q.zero_point.tobytes()
        first = kept.setdefault((node.input[0], axis, *numbers), node)
        if first is node:
            continue
        changed = True
        graph.remove(node)
        graph.redirect(node.output[0], first.output[0])
        if graph.is_read_elsewhere(node.output[0]):
            graph.make("Identity", [first.output[0]], node.output[0], f"{first.output[0]}/Identity")
    return changed


def _convert_before_moving(graph: Graph, norm: Norm) -> bool:
    """Let what moves a norm's results, before they are quantized, move codes: norm, moves, QuantizeLinear.

    Several may move them, each for a QuantizeLinear of its own, if these are equal.
    """
    moves: list[NodeProto] = []
    activation = None
    tensor = norm.output
    node = graph.only_reader(tensor)
    while node is not None and node.input[0] == tensor:
        if _moves_bytes(graph, node) and len(node.output) == 1:
            moves.append(node)
        elif activation is None and activation_limits(graph, node) is not None:
            activation = node
        else:
            break
        tensor = node.output[0]
        node = graph.only_reader(tensor)
    quantizers = _ways_to_codes(graph, tensor, moves)
    found = [qparams(graph, node, 1, node.output[0], "")[0] for node in quantizers]
    q = found[0] if found else None
    if not moves or q is None or not all(q.equals(other) for other in found if other) or None in found:
        return False
    if not q.per_tensor:
        return False
    for one in [*moves, *quantizers, *([activation] if activation is not None else [])]:
        graph.remove(one)
        one.name = label(one)
    last = norm.output
    before: dict[str, str] = {}
    if activation is not None:
        before[activation.output[0]] = activation.input[0]  # the codes are those behind it
        activation.input[0], activation.output[0] = last, graph.new_name(f"{norm.output}/activated")
        graph.add(activation)
        last = activation.output[0]
    codes: dict[str, str] = {before.get(node.input[0], node.input[0]): node.output[0] for node in quantizers}

    def codes_of(real: str) -> str:
        real = before.get(real, real)
        if real not in codes:
            codes[real] = graph.new_name(f"{real}/codes")
        return codes[real]

    quantizers[0].input[0], quantizers[0].output[0] = last, codes_of(norm.output)
    graph.add(quantizers[0])
    for one in moves:
        if pads_with_zero(one):
            one.input.extend([""] * (3 - len(one.input)))
            one.input[2] = graph.add_constant(f"{one.output[0]}/zero_point", q.zero_point.reshape(()))
        one.input[0], one.output[:] = codes_of(one.input[0]), [made and codes_of(made) for made in one.output]
        graph.add(one)
    return True


def _ways_to_codes(graph: Graph, tensor: str, moves: list[NodeProto]) -> list[NodeProto]:
    """Return each QuantizeLinear that reads a tensor, moved or not; none if anything else reads it.

    What moves it is put behind `moves`, in order.
    """
    quantizers = []
    waiting = [tensor]
    while waiting:
        tensor = waiting.pop()
        if graph.is_read_elsewhere(tensor):
            return []
        for node in graph.readers(tensor):
            if list(node.input).count(tensor) > 1 or node.input[0] != tensor:
                return []
            if is_op(node, "QuantizeLinear"):
                quantizers.append(node)
            elif _moves_bytes(graph, node):
                moves.append(node)
                waiting += filter(None, node.output)
            else:
                return []
    return quantizers


def _moves_bytes(graph: Graph, node: NodeProto) -> bool:
    """Say whether a node only moves or picks numbers, bytes too."""
    if is_op(node, *PICKS):
        return not is_op(node, "GlobalMaxPool") and not pick_problem(graph, node)  # which takes floats alone
    if not is_op(node, *KEEPING):
        return False
    if node.op_type != "MaxPool":
        return True
    return opset_of(graph.model) >= _OLDEST_POOL_OF_BYTES and not any(node.output[1:])
