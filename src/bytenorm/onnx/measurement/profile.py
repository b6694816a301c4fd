"""What of a model's time its batch norms take, by ONNX Runtime's profile."""

from __future__ import annotations

import json
import os
import re
import statistics
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ..._errors import with_subject
from ..graph.graph import Graph
from ..model.files import load_model, save_model
from ..norms.find import find_norms
from ..run.apart import run_session
from ..run.session import session
from .feeds import at_least_one, session_options

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence


_EVENT = "_kernel_time"
_CONTROL = ("If", "Loop", "Scan")  # their time is that of the nodes inside, which have events of their own
_OWN = re.compile(r"(QLinear(Concat|Add)?)?BatchNormalization")
# In its blocked layout ONNX Runtime makes a convolution of a Mul by a number for each channel, and names it by the
# tensor that the Mul makes and this.
_PRODUCT = "_mul_nchwc"


@dataclass(frozen=True)
class Profile:
    """Where the time of one run goes, by ONNX Runtime's own profile, in milliseconds.

    The profile makes every node a little slower: compare shares, and take times from :func:`measure`.

    Attributes
    ----------
    total_ms : float
        In all nodes.
    norms_ms : float
        In the nodes that do the work of batch norms: conversions to float and back belong
        to it, Transposes do not.
    norms : int
        How many norms are executed.
    transposes_ms : float
        In Transposes.
    transposes : int
        How many Transposes are executed.
    by_op : dict of str to float
        By operator, the longest first.

    Examples
    --------
    >>> from bytenorm import onnx as bno
    >>> model = bno.digits_model()
    >>> found = bno.profile(model, bno.random_feeds(model), runs=3)
    >>> found.norms, found.transposes, next(iter(found.by_op))
    (9, 0, 'Conv')
    >>> 0 < found.norms_share < 1
    True
    """

    total_ms: float
    norms_ms: float
    norms: int
    transposes_ms: float
    transposes: int
    by_op: dict[str, float]

    @property
    def norms_share(self) -> float:
        """The norms' part of the whole, 0 to 1."""
        return self.norms_ms / self.total_ms if self.total_ms else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold.

        Returns
        -------
        dict

        Examples
        --------
        >>> from bytenorm import onnx as bno
        >>> bno.Profile(2.0, 0.5, norms=3, transposes_ms=0.0, transposes=0, by_op={}).to_dict()["norms_share"]
        0.25
        """
        return asdict(self) | {"norms_share": self.norms_share}


# --- where the time goes ----------------------------------------------------------------------------------------


def profile(
    model: onnx.ModelProto | str | os.PathLike[str],
    feeds: Mapping[str, Any],
    *,
    threads: int = 1,
    runs: int = 20,
    dropped: int = 5,
) -> Profile:
    """Run a model in a session of its own that writes a profile, and sum it up.

    Parameters
    ----------
    model : onnx.ModelProto or path
        In float, quantized or lowered.
    feeds : mapping of str to ndarray
    threads : int, optional
        As `session_options` takes it.
    runs, dropped : int, optional
        Runs that count, and runs before them that do not.

    Returns
    -------
    Profile

    Raises
    ------
    TypeError, FileNotFoundError, ValueError
        As `load_model` and `session`; if ONNX Runtime fails to run the model.

    Examples
    --------
    >>> from bytenorm import onnx as bno
    >>> model = bno.digits_model()
    >>> bno.profile(model, bno.random_feeds(model), runs=3).norms > 0
    True
    """
    runs = at_least_one(runs, "runs")
    name = "model" if isinstance(model, onnx.ModelProto) else f"model {os.fspath(model)!r}"
    proto = load_model(model)
    written_out = [
        [name for node in norm.nodes for name in (node.name, node.output[0] + _PRODUCT)]
        for norm in find_norms(_named(proto))
        if not norm.lowered and norm.written != "BatchNormalization"
    ]
    with tempfile.TemporaryDirectory(prefix="bytenorm-") as folder:
        named, executed = Path(folder, "named.onnx"), Path(folder, "executed.onnx")
        save_model(proto, named)  # models may be too large to be handed over in memory
        del proto
        options = session_options(threads)
        options.optimized_model_filepath = str(executed)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", "executed.weights"
        )
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        try:
            made = session(named, options, saturate=True)  # what is profiled is ONNX Runtime
        except ValueError as error:
            raise with_subject(error, name) from None
        run_session(made, None, feeds, name)
        for _ in range(dropped + runs - 1):
            made.run(None, feeds)
        events = json.loads(Path(made.end_profiling()).read_text(encoding="utf-8"))
        graph = onnx.load_model(executed, load_external_data=False).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    return summarize(events, norm_groups(graph.node, shapes, written_out), dropped)


def _named(model: onnx.ModelProto) -> Graph:
    """Give every node of a model a name: the profile has nothing else to tell them by."""
    graph = Graph(model)
    for node in graph.nodes:
        node.name = node.name or graph.new_node_name(node.op_type)
    return graph


def summarize(events: Iterable[Mapping[str, Any]], groups: Sequence[Collection[str]], dropped: int = 0) -> Profile:
    """Sum up the events of a profile: the median over the runs of each node.

    Parameters
    ----------
    events : iterable of dict
        What ONNX Runtime wrote.
    groups : sequence of collection of str
        The names of the nodes that do the work of each norm.
    dropped : int, optional
        The first runs, left out.

    Returns
    -------
    Profile

    Raises
    ------
    ValueError
        If a group has a node that was not executed: the two do not belong together.
    """
    nodes, ops = _node_times(list(events), dropped)
    names = {name for group in groups for name in group}
    unknown = sorted(names - nodes.keys())
    if unknown:
        raise ValueError(f"the profile has no node {unknown[0]!r}, which is in the executed graph")
    by_op: defaultdict[str, float] = defaultdict(float)
    for name, milliseconds in nodes.items():
        by_op[ops[name]] += milliseconds
    return Profile(
        total_ms=sum(nodes.values()),
        norms_ms=sum(nodes[name] for name in names),
        norms=len(groups),
        transposes_ms=by_op.get("Transpose", 0.0),
        transposes=sum(op == "Transpose" for op in ops.values()),
        by_op=dict(sorted(by_op.items(), key=lambda item: -item[1])),
    )


def _node_times(events: Sequence[Mapping[str, Any]], dropped: int) -> tuple[dict[str, float], dict[str, str]]:
    """Return the milliseconds of a run and the operators, by the names of nodes.

    A node inside of a loop has many events in one run, and one in a branch that is not taken none.
    """
    ends = sorted(event["ts"] + event["dur"] for event in events if event["name"] == "model_run")
    kept = range(min(dropped, len(ends) - 1), len(ends))
    by_run: defaultdict[str, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    ops: dict[str, str] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith(_EVENT):
            continue
        name, op = event["name"].removesuffix(_EVENT), event["args"]["op_name"]
        if op not in _CONTROL:
            ops[name] = op
            by_run[name][int(np.searchsorted(ends, event["ts"]))] += event["dur"] / 1000
    return {name: statistics.median(runs.get(i, 0.0) for i in kept) for name, runs in by_run.items()}, ops


def norm_groups(
    nodes: Iterable[onnx.NodeProto],
    shapes: Mapping[str, Sequence[int]],
    written_out: Iterable[Collection[str]] = (),
) -> list[set[str]]:
    """Return the names of the nodes that do the work of each norm in a graph that ONNX Runtime executes.

    A norm in float is a BatchNormalization, or a Mul and Add; where its input or output is quantized, with the
    DequantizeLinear before it and the QuantizeLinear behind it, and the Relu or Clip between. A norm in 8 bits is
    bytenorm's operator or a 1 x 1 convolution with a group for each channel, as is one in float in ONNX Runtime's
    blocked layout; with the Relu or Clip behind it. The convolution that the blocked layout makes of a Mul is no
    norm of its own.

    Parameters
    ----------
    nodes : iterable of NodeProto
    shapes : mapping of str to sequence of int
        Of the constants, by name.
    written_out : iterable of collection of str, optional
        The names of the nodes of each norm that the model spells as arithmetic, and of what they may have become:
        only its source tells.

    Returns
    -------
    list of set of str
    """
    listed = list(nodes)
    maker = {output: node for node in listed for output in node.output}
    readers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in listed:
        for tensor in dict.fromkeys(node.input):
            readers[tensor].append(node)

    def surroundings(node: onnx.NodeProto) -> set[str]:
        found = {maker[t].name for t in node.input if t in maker and maker[t].op_type == "DequantizeLinear"}
        in_8_bits = node.op_type.startswith("QLinear")
        for reader in readers[node.output[0]]:
            if reader.op_type == "QuantizeLinear":
                found.add(reader.name)
            elif reader.op_type in ("Relu", "Clip"):
                quantizers = {r.name for r in readers[reader.output[0]] if r.op_type == "QuantizeLinear"}
                if quantizers or in_8_bits:
                    found |= quantizers | {reader.name}
        return found

    by_name = {node.name: node for node in listed}
    cores = [[node] for node in listed if _OWN.fullmatch(node.op_type) or _is_depthwise_1x1(node, shapes)]
    cores += [[by_name[name] for name in names if name in by_name] for names in written_out]
    return [{node.name for node in core}.union(*(surroundings(node) for node in core)) for core in cores if core]


def _is_depthwise_1x1(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> bool:
    if not node.op_type.endswith("Conv") or node.name.endswith(_PRODUCT):
        return False
    quantized = node.op_type.startswith("QLinear")
    position = 3 if quantized else 1
    shape = list(shapes.get(node.input[position], ())) if len(node.input) > position else []
    group = next((a.i for a in node.attribute if a.name == "group"), 1)
    # In float, a convolution of one channel may well be one; in 8 bits it is what the portable lowering makes.
    return (group > 1 or quantized) and len(shape) > 2 and shape == [group, 1, *[1] * (len(shape) - 2)]
