"""How many axes tensors have that only a run tells, as what comes out of a sequence or of a branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import helper

from ..graph.cutting import cut, feed
from ..graph.graph import Graph
from ..run.apart import run_session, runner_for_a_pass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..data.dataset import Dataset
    from ..norms.norm import Norm


def unranked(graph: Graph, norms: Iterable[Norm]) -> list[str]:
    """Return what norms read whose number of axes the model does not tell."""
    return list(dict.fromkeys(norm.input for norm in norms if graph.type_of(norm.input)[1] is None))


def with_ranks(graph: Graph, norms: Iterable[Norm], data: Dataset) -> Graph:
    """Return a graph that knows the axes of what these norms read, by a run of the first sample.

    It is the graph itself if they are known, or if that part of it cannot be run.
    """
    tensors = unranked(graph, norms)
    if not tensors:
        return graph
    try:
        part = cut(graph, tensors)
        batch = next(iter(data.first(1)))
        made = run_session(runner_for_a_pass(part), tensors, feed(part, batch), "model")
    except Exception:  # what is wrong with it is said where it is quantized
        return graph
    graph.finish()
    model = graph.model
    for name, array in zip(tensors, made, strict=True):
        if not isinstance(array, np.ndarray):
            continue
        for i in reversed(range(len(model.graph.value_info))):
            if model.graph.value_info[i].name == name:
                del model.graph.value_info[i]
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        model.graph.value_info.append(helper.make_tensor_value_info(name, kind, [None] * array.ndim))
    return Graph(model)
