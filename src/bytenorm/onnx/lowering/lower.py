"""Lets the batch norms of a quantized model run in 8 bits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import onnx

from ... import _checks
from ..._errors import bad_value
from ..._outcomes import Outcome, warn_of, warn_of_none
from ..fusion.concats_and_sums import Concatenation, Sum, find_patterns
from ..graph.captured import guard_captured
from ..graph.graph import Graph, label
from ..graph.named_nodes import check_names, meant
from ..graph.quantized import is_quantized
from ..model.weightless import weightless
from ..norms.code_maps import every_code
from ..norms.code_paths import CodePaths
from ..norms.conversions import unify
from ..norms.find import LOWERED, find_hidden, find_norms, is_prepared
from ..run.saturation import warn_of_saturation
from . import exact, fused, qdq
from .byte_nodes import ByteNodes
from .given import opened, refuse_lowered
from .into_layers import move_into_layers
from .names import QUANTIZE, RESTORE, check_lowering
from .portable import Portable
from .uint8_activations import convert_mixed, make_unsigned

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Container

    from ..norms.norm import Norm, QuantizedNorm
    from ..norms.qparams import QParams
    from .names import Lowering

IR_VERSION = 9  # what ONNX Runtime 1.17 reads; a newer model keeps its own


class _Way(Protocol):
    """How a norm is lowered."""

    def obstacle(self, graph: Graph, site: QuantizedNorm, /) -> str: ...

    def replace(self, graph: Graph, site: QuantizedNorm, /) -> QParams: ...


def lower(
    model: onnx.ModelProto | str | os.PathLike[str],
    *,
    lowering: Lowering = "portable",
    keep_int8: bool = False,
    nodes_to_exclude: Collection[str] = (),
) -> onnx.ModelProto:
    """Let the batch norms of an already quantized model run in 8 bits.

    Parameters
    ----------
    model : onnx.ModelProto or path
        In QDQ or QOperator format. Not changed.
    lowering : {"portable", "exact", "fused", "qdq"}
        ``"portable"`` writes a norm as a depthwise 1x1 convolution in standard ONNX, within one step of the exact
        result. In QOperator format that is a ``QLinearConv``; in QDQ format a ``Conv`` between conversions, of
        which ONNX Runtime makes the same. ``"exact"`` writes ``bytenorm::QLinearBatchNormalization``: the bits of
        :func:`bytenorm.quantized_batch_norm`, fastest where :func:`register` was called, and slower, with the same
        bits, where it was not. ``"fused"`` does so too, and where a norm reads a concatenation or a sum, writes
        one operator for both: fastest of all with :func:`register`. Pieces of a concatenation keep their own
        scales, and a sum is normalized before it is rounded, so results may differ by a step, and are closer to
        those in float. A model with several numbers of pieces, or with sums that are read elsewhere and others
        that are not, needs IR version 10, and so ONNX Runtime 1.18. ``"qdq"`` lets a norm be one, whatever it was
        written as: a ``BatchNormalization`` in float between 8-bit conversions, for runtimes that make these 8-bit
        themselves, as OpenVINO does. A concatenation that it reads joins codes then, and a sum that nothing else
        reads is not rounded.
    keep_int8 : bool
        Whether int8 activations of a model in QDQ format stay int8. By default they become uint8, with zero points
        128 higher, which is the same numbers: ONNX Runtime on x86 is fast on uint8 only.
    nodes_to_exclude : sequence of str, optional
        Names of norms that stay as they are, as `inspect` has them.

    Returns
    -------
    onnx.ModelProto

    Warns
    -----
    LoweringWarning
        For each norm that stays as it is, and if there is none at all: a norm that its quantizer folded is gone.
    UserWarning
        If the model has inputs with values of their own, which a caller may replace: they become constants.
    SaturationWarning
        If the model, whoever quantized it, computes wrong numbers on this CPU in a session with ONNX Runtime's
        defaults.

    Raises
    ------
    TypeError
        If the model is neither a ``ModelProto`` nor a path.
    ValueError
        If it is no valid model, not quantized or lowered already, or `nodes_to_exclude` names what is no norm.

    Examples
    --------
    >>> import onnx
    >>> from bytenorm import onnx as bno
    >>> model = onnx.parser.parse_model('''
    ...     <ir_version: 9, opset_import: ["": 17]>
    ...     small (uint8[N, 2, 4, 4] x) => (uint8[N, 2, 4, 4] y)
    ...     <float s = {0.1}, uint8 z = {128}, float[2] weight = {1.0, 0.5}, float[2] bias = {0.0, 1.0}> {
    ...         real = DequantizeLinear (x, s, z)
    ...         normalized = BatchNormalization (real, weight, bias, bias, weight)
    ...         y = QuantizeLinear (normalized, s, z)
    ...     }''')
    >>> [node.op_type for node in bno.lower(model).graph.node if node.op_type != "DequantizeLinear"]
    ['Conv', 'QuantizeLinear']
    >>> [node.op_type for node in bno.lower(model, lowering="exact").graph.node]
    ['Transpose', 'QLinearBatchNormalization', 'Transpose']
    """
    made, outcomes = lower_with_report(
        model, lowering=lowering, keep_int8=keep_int8, nodes_to_exclude=nodes_to_exclude
    )
    warn_of(outcomes)
    if not outcomes:
        warn_of_none("model")
    warn_of_saturation(made)
    return made


def lower_with_report(
    model: onnx.ModelProto | str | os.PathLike[str],
    *,
    lowering: Lowering = "portable",
    keep_int8: bool = False,
    nodes_to_exclude: Collection[str] = (),
) -> tuple[onnx.ModelProto, tuple[Outcome, ...]]:
    """Do as :func:`lower`, and say what became of each norm instead of warning.

    Parameters
    ----------
    model, lowering, keep_int8, nodes_to_exclude : as for :func:`lower`

    Returns
    -------
    model : onnx.ModelProto
    outcomes : tuple of Outcome
        One for each batch norm, in the order of the graph.

    Raises
    ------
    TypeError, ValueError
        As :func:`lower`.

    Examples
    --------
    >>> import onnx
    >>> from bytenorm import onnx as bno
    >>> model = onnx.parser.parse_model('''
    ...     <ir_version: 8, opset_import: ["": 17]>
    ...     net (uint8[1, 1, 2] x) => (float[1, 1, 2] y)
    ...     <float s = {0.5}, uint8 z = {0}, float[1] one = {1.0}, float[1] zero = {0.0}> {
    ...         real = DequantizeLinear (x, s, z)
    ...         y = BatchNormalization (real, one, zero, zero, one)
    ...     }''')
    >>> lowered, outcomes = bno.lower_with_report(model)
    >>> outcomes[0].name, outcomes[0].problem
    ('y', 'its output is not quantized')
    """
    check_lowering(lowering)
    _checks.flag(keep_int8, "keep_int8")
    check_names(nodes_to_exclude)
    loaded = opened(model)
    graph = Graph(loaded)
    if not is_quantized(graph):
        raise bad_value("model", "must be quantized, got a model in float (", QUANTIZE, " takes those)")
    if is_prepared(loaded):
        raise bad_value("model", ": its norms are in disguise: ", RESTORE, " brings them back and lowers them")
    if all(norm.lowered for norm in find_norms(graph)):
        refuse_lowered(loaded, "model")
    norms = [norm.name for norm in find_norms(graph) if not norm.lowered]
    for name in sorted(set(nodes_to_exclude).difference(norms)):
        raise bad_value("nodes_to_exclude", f": the model has no batch norm {name!r}{meant(name, norms)}")
    return loaded, tuple(lower_graph(graph, lowering, nodes_to_exclude, keep_int8=keep_int8))


def lower_graph(
    graph: Graph, lowering: Lowering, excluded: Container[str] = (), *, keep_int8: bool = False
) -> list[Outcome]:
    """Lower every norm of a graph that can be, finish the graph and say what became of each.

    Norms whose names are `excluded`, and those of the last axis that have such nodes, stay as they are; int8
    activations become uint8 unless `keep_int8`.

    Raises
    ------
    ValueError
        If the result does not pass ONNX's checker.
    """
    # ONNX Runtime takes models that the checker refuses, as with inputs without a shape.
    faulty = bool(_fault(graph.model))
    graph = unify(graph, excluded)
    order = {norm.name: i for i, norm in enumerate(find_norms(graph))}
    graph, moved = (graph, set[str]()) if lowering == "qdq" else move_into_layers(graph, excluded)
    paths, norms = _to_lower(graph)
    signed = any(q.signed for n in norms if not n.problem for q in (n.site().source, n.site().target))
    if not keep_int8 and (signed or moved or paths.mixes):
        make_unsigned(graph)
        paths, norms = _to_lower(graph)
        while convert_mixed(graph, paths.mixed.values()):  # a concatenation of concatenations comes next
            paths, norms = _to_lower(graph)
    if lowering == "fused":
        outcomes = _fuse(graph, norms, excluded)
    elif lowering == "qdq":
        outcomes = _keep(graph, norms, excluded)
    else:
        outcomes = _replace(graph, norms, excluded, exact if lowering == "exact" else Portable.of(graph))
    outcomes += [Outcome(name, "") for name in moved]
    outcomes.sort(key=lambda o: order.get(o.name, len(order)))
    outcomes += [
        Outcome(label(inner), f"it is in a subgraph of the {outer.op_type} {label(outer)}")
        for inner, outer in find_hidden(graph)
    ]
    guard_captured(graph)
    graph.finish()
    if lowering == "fused":
        fused.finish(graph)
    model = graph.model
    if any(not o.problem for o in outcomes):
        if lowering != "qdq":  # whose norms still are norms, which another lowering takes
            _note(model, lowering)
        model.ir_version = max(model.ir_version, IR_VERSION)
    fault = "" if faulty else _fault(model)
    if fault:
        raise bad_value("model", f": the result is not valid: {fault}")
    return outcomes


def _note(model: onnx.ModelProto, lowering: str) -> None:
    """Write into a model's metadata how its norms were lowered."""
    before = [entry for entry in model.metadata_props if entry.key == LOWERED]
    entry = before[0] if before else model.metadata_props.add()
    ways = [*filter(None, entry.value.split(", ")), lowering]
    entry.key, entry.value = LOWERED, ", ".join(dict.fromkeys(ways))


def _to_lower(graph: Graph) -> tuple[CodePaths, list[Norm]]:
    paths = CodePaths(graph)
    return paths, [norm for norm in find_norms(graph, source=paths.source) if not norm.lowered]


def _replace(graph: Graph, norms: list[Norm], excluded: Container[str], way: _Way) -> list[Outcome]:
    outcomes = []
    byte_nodes = ByteNodes(graph)
    for i, norm in enumerate(norms):
        problem = _problem(graph, norm, excluded, way) or _sum_alone(norm)
        if not problem:
            _take_out(graph, norm)
            site = norm.site()
            made = way.replace(graph, replace(site, source=byte_nodes.write(site.source)))
            if made.signed != site.target.signed:  # a norm behind this one reads another type now
                paths = CodePaths(graph)
                for other in norms[i + 1 :]:
                    if other.source is not None:
                        other.source, why = paths.source(other)
                        other.problem = other.problem or why
        outcomes.append(Outcome(norm.name, problem))
    byte_nodes.finish()
    return outcomes


def _fuse(graph: Graph, norms: list[Norm], excluded: Container[str]) -> list[Outcome]:
    """Find what to fuse before anything changes, then do it."""
    problems = [_problem(graph, norm, excluded, exact) for norm in norms]
    sites = [norm.site() for norm, problem in zip(norms, problems, strict=True) if not problem]
    patterns = iter(list(find_patterns(graph, sites)))
    outcomes = []
    byte_nodes = ByteNodes(graph)
    for norm, problem in zip(norms, problems, strict=True):
        if problem:
            outcomes.append(Outcome(norm.name, problem))
            continue
        pattern = next(patterns)
        _take_out(graph, norm)
        site = norm.site()
        if isinstance(pattern, Concatenation):
            pattern = replace(pattern, pieces=tuple(byte_nodes.write(piece) for piece in pattern.pieces))
        elif isinstance(pattern, Sum):
            pattern = replace(pattern, summands=tuple(byte_nodes.write(of) for of in pattern.summands))
        else:
            site = replace(site, source=byte_nodes.write(site.source))
        fused.replace(graph, site, pattern)
        outcomes.append(Outcome(norm.name, "", pattern.name, pattern.reason))
    byte_nodes.finish()
    return outcomes


def _keep(graph: Graph, norms: list[Norm], excluded: Container[str]) -> list[Outcome]:
    """Let norms be in float between conversions; find what they may read unrounded before anything changes."""
    problems = ["it is excluded" if norm.name in excluded else norm.problem for norm in norms]
    sites = [norm.site() for norm, problem in zip(norms, problems, strict=True) if not problem]
    patterns = iter(list(find_patterns(graph, sites)))
    outcomes = []
    for norm, problem in zip(norms, problems, strict=True):
        if not problem:
            read = qdq.unrounded(graph, norm, next(patterns))
            qdq.join_codes(graph, norm)
            _take_out(graph, norm)
            qdq.replace(graph, norm, read)
        outcomes.append(Outcome(norm.name, problem, "" if problem else qdq.PATTERN))
    return outcomes


def _problem(graph: Graph, norm: Norm, excluded: Container[str], way: _Way) -> str:
    """Say why a norm stays in float; empty if it does not."""
    problem = "it is excluded" if norm.name in excluded else norm.problem
    return problem or _refusal(norm.site()) or way.obstacle(graph, norm.site())


def _sum_alone(norm: Norm) -> str:
    """Say whether a norm reads a sum that has no codes of its own; empty if not."""
    if norm.source is None or norm.source.path is None or not norm.source.path.is_sum:
        return ""
    return 'it reads a sum that is not rounded to codes, which lowering="fused" takes'


def _fault(model: onnx.ModelProto) -> str:
    try:
        onnx.checker.check_model(weightless(model))
    except onnx.checker.ValidationError as error:
        return " ".join(str(error).split())
    except ValueError as error:  # Python's protobuf reads messages that C++'s does not: fields of no number
        raise bad_value("model", f": it is damaged: {' '.join(str(error).split())}") from None
    return ""


def _refusal(site: QuantizedNorm) -> str:
    """Say why the library cannot compute a norm; empty if it can."""
    try:
        every_code(site)
    except ValueError as error:
        return str(error)
    return ""


def _take_out(graph: Graph, norm: Norm) -> None:
    gone = [*norm.nodes, *norm.between, norm.activation, norm.quantize]
    for node in gone:
        if node is not None:
            graph.remove(node)
