"""Lets the batch norms of a quantized model run in 8 bits."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import onnx

from . import exact, portable
from .graph import Graph, label
from .inspection import is_quantized
from .model import load_model
from .norms import Norm, find_hidden, find_norms

if TYPE_CHECKING:
    import os

Lowering = Literal["portable", "exact"]

IR_VERSION = 9  # what ONNX Runtime 1.17 reads; a newer model keeps its own
_METADATA = "bytenorm.lowering"
_LOWERINGS = {"portable": portable, "exact": exact}


class LoweringWarning(UserWarning):
    """A batch norm stays in float; the message says which one and why."""


@dataclass(frozen=True)
class Outcome:
    """What became of one norm: empty `problem` if it runs in 8 bits now."""

    name: str
    problem: str


def lower(model: onnx.ModelProto | str | os.PathLike[str], *, lowering: Lowering = "portable") -> onnx.ModelProto:
    """Let the batch norms of an already quantized model run in 8 bits.

    Parameters
    ----------
    model : onnx.ModelProto or path
        In QDQ or QOperator format. Not changed.
    lowering : {"portable", "exact"}
        ``"portable"`` writes a norm as a depthwise 1x1 ``QLinearConv``: standard ONNX, within one step of the
        exact result. ``"exact"`` writes ``bytenorm::QLinearBatchNormalization``: the bits of
        :func:`bytenorm.quantized_batch_norm`, fastest where :func:`register` was called, and slower, with the
        same bits, where it was not.

    Returns
    -------
    onnx.ModelProto

    Warns
    -----
    LoweringWarning
        For each norm that stays as it is.

    Raises
    ------
    TypeError
        If the model is neither a ``ModelProto`` nor a path.
    ValueError
        If it is no valid model, not quantized, lowered already, or has a norm without valid parameters.

    Examples
    --------
    >>> from bytenorm import onnx as bno
    >>> small = bno.lower("model.int8.onnx", lowering="exact")  # doctest: +SKIP
    """
    check_lowering(lowering)
    loaded = load_model(model)
    graph = Graph(loaded)
    if not is_quantized(graph):
        raise ValueError("model: wanted a quantized model, got one in float (quantize() takes those)")
    refuse_lowered(loaded, "model")
    outcomes = lower_graph(graph, lowering)
    warn_of(outcomes)
    return loaded


def check_lowering(lowering: str) -> None:
    """Refuse what is no lowering."""
    if lowering not in get_args(Lowering):
        raise ValueError(f"lowering: wanted {' or '.join(map(repr, get_args(Lowering)))}, got {lowering!r}")


def refuse_lowered(model: onnx.ModelProto, argument: str) -> None:
    """Refuse a model that was lowered before."""
    for entry in model.metadata_props:
        if entry.key == _METADATA:
            raise ValueError(f"{argument}: its norms are lowered already ({entry.value!r})")


def refuse_invalid(norms: list[Norm]) -> None:
    """Refuse norms whose parameters are missing, not constant or inconsistent."""
    for norm in norms:
        if norm.parameters is None and not norm.lowered:
            raise ValueError(f"model: the {norm.written} {norm.name}: {norm.problem}")


def lower_graph(graph: Graph, lowering: Lowering) -> list[Outcome]:
    """Lower every norm of a graph that can be, finish the graph and say what became of each.

    Raises
    ------
    ValueError
        If a norm has no valid parameters, or if the result does not pass ONNX's checker.
    """
    norms = [norm for norm in find_norms(graph) if not norm.lowered]
    refuse_invalid(norms)
    way = _LOWERINGS[lowering]
    outcomes = []
    for norm in norms:
        problem = norm.problem or way.obstacle(graph, norm.site())
        if not problem:
            _take_out(graph, norm)
            way.replace(graph, norm.site())
        outcomes.append(Outcome(norm.name, problem))
    outcomes += [
        Outcome(label(inner), f"it is in a subgraph of the {outer.op_type} {label(outer)}")
        for inner, outer in find_hidden(graph)
    ]
    graph.finish()
    model = graph.model
    if any(not o.problem for o in outcomes):
        entry = model.metadata_props.add()
        entry.key, entry.value = _METADATA, lowering
    model.ir_version = max(model.ir_version, IR_VERSION)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ValueError(f"model: the result is not valid: {' '.join(str(error).split())}") from None
    return outcomes


def warn_of(outcomes: list[Outcome]) -> None:
    """Warn of each norm that stays in float."""
    for outcome in outcomes:
        if outcome.problem:
            warnings.warn(f"{outcome.name} stays in float: {outcome.problem}", LoweringWarning, stacklevel=3)


def _take_out(graph: Graph, norm: Norm) -> None:
    gone = [*norm.nodes, *norm.between, norm.activation, norm.quantize]
    for node in gone:
        if node is not None:
            graph.remove(node)
