"""What makes some tensors of a graph, as a model of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from .graph import Graph, captured_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def cut(graph: Graph, tensors: Iterable[str], given: Mapping[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """Return the model whose outputs are tensors of a graph, with what they need of it and nothing else.

    Parameters
    ----------
    graph : Graph
        Not changed.
    tensors : iterable of str
    given : mapping of str to array, optional
        Tensors that are known: the model reads these that it needs in place of what makes them. Values stand for
        their types and ranks, their sizes may be others.

    Returns
    -------
    onnx.ModelProto
        Its nodes in order; its inputs those of the graph that it needs, and needed ones of `given`.
    """
    # A sequence is made again of what it is made of: nothing tells the type of its parts.
    known = {name: value for name, value in (given or {}).items() if isinstance(value, np.ndarray)}
    wanted = list(tensors)
    ends = {value.name: value for value in graph.proto.input}
    sparse = {t.values.name: t for t in graph.proto.sparse_initializer}
    made = onnx.ModelProto(ir_version=graph.model.ir_version)
    made.opset_import.extend(graph.model.opset_import)
    made.functions.extend(graph.model.functions)
    made.graph.name = "part"
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    seen: set[str] = set()
    placed: set[int] = set()
    stack = [(tensor, False) for tensor in reversed(wanted)]
    while stack:
        tensor, ready = stack.pop()
        maker = graph.maker(tensor)
        if ready and maker is not None:
            if id(maker) not in placed:
                placed.add(id(maker))
                made.graph.node.append(maker)
            continue
        if tensor in seen:
            continue
        seen.add(tensor)
        initializer = graph.initializer(tensor)
        if tensor in known:
            made.graph.input.append(_value(tensor, known[tensor]))
        elif maker is not None:
            stack.append((tensor, True))
            stack += [(before, False) for before in (*captured_by(maker), *maker.input) if before]
        elif initializer is not None:
            made.graph.initializer.append(initializer)
        elif tensor in sparse:
            made.graph.sparse_initializer.append(sparse[tensor])
        elif tensor in ends:
            made.graph.input.append(ends[tensor])
    return made


def feed(part: onnx.ModelProto, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what of a batch a part of a model reads."""
    return {value.name: batch[value.name] for value in part.graph.input}


def bytes_in(values: Iterable[object]) -> int:
    """Return how many bytes the arrays among what a model makes take; sequences and the like are few and small."""
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def _value(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, kind, [None] * array.ndim)
