"""Where the time of a model goes: ONNX Runtime's own profile, beside the graph that it really executes."""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnx import ModelProto, NodeProto

Event = Mapping[str, Any]

OWN_NORM = re.compile(r"QLinear\w*BatchNormalization")
KERNEL_TIME = "_kernel_time"


@dataclass(frozen=True)
class Profile:
    """What one run of a model spends.

    Attributes
    ----------
    total_ms : float
        In all nodes.
    norms_ms : float
        In the nodes that do the norms' work: conversions to float and back belong to it, Transposes do not.
    norms : int
        How many there are.
    transposes_ms : float
    transposes : int
        How many Transposes are executed.
    by_op : dict of str to float
        Milliseconds by operator, the longest first.
    """

    total_ms: float
    norms_ms: float
    norms: int
    transposes_ms: float
    transposes: int
    by_op: dict[str, float]


def profile(
    open_session: Callable[[onnxruntime.SessionOptions], onnxruntime.InferenceSession],
    options: onnxruntime.SessionOptions,
    feeds: Mapping[str, Any],
    runs: int = 20,
    dropped: int = 5,
) -> Profile:
    """Run a model in a session of its own that writes a profile, and return what is in it.

    Parameters
    ----------
    open_session : callable
        Makes the session out of options.
    options : SessionOptions
        Changed: the session also saves the graph that it executes.
    feeds : mapping
        Inputs by name.
    runs, dropped : int, optional
        Runs that count, and runs before them that do not.
    """
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder, "executed.onnx")
        options.optimized_model_filepath = str(graph)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = open_session(options)
        for _ in range(dropped + runs):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
        return summarize(events, onnx.load(graph), dropped)


def summarize(events: Iterable[Event], executed: ModelProto, dropped: int = 0) -> Profile:
    """Return the shortest time of each node over the runs, summed up: what the machine does undisturbed.

    Parameters
    ----------
    events : iterable of dict
        Of ONNX Runtime's profile.
    executed : ModelProto
        The graph that the profiled session executed.
    dropped : int, optional
        The first runs, left out.
    """
    nodes, ops = _node_times(events, dropped)
    groups = norm_groups(executed.graph.node, {t.name: list(t.dims) for t in executed.graph.initializer})
    by_op: defaultdict[str, float] = defaultdict(float)
    for name, milliseconds in nodes.items():
        by_op[ops[name]] += milliseconds
    return Profile(
        total_ms=sum(nodes.values()),
        norms_ms=norm_time(nodes, groups),
        norms=len(groups),
        transposes_ms=by_op["Transpose"],
        transposes=sum(op == "Transpose" for op in ops.values()),
        by_op=dict(sorted(by_op.items(), key=lambda item: -item[1])),
    )


def norm_time(milliseconds: Mapping[str, float], groups: Iterable[Iterable[str]]) -> float:
    """Return the time of all nodes that `norm_groups` found, none of them twice.

    Raises
    ------
    ValueError
        A node is in the graph and not in the profile, so the two do not belong together.
    """
    names = {name for group in groups for name in group}
    unknown = sorted(names - milliseconds.keys())
    if unknown:
        raise ValueError(f"the profile has no node {unknown[0]!r}, which the executed graph has")
    return sum(milliseconds[name] for name in names)


def norm_groups(nodes: Sequence[NodeProto], constants: Mapping[str, Sequence[int]]) -> list[set[str]]:
    """Return the names of the nodes that do the work of each norm in an executed graph.

    A norm is one of: a BatchNormalization with the DequantizeLinear before it and the Relu and QuantizeLinear
    behind it; a 1 x 1 convolution with a group for each channel; an operator of bytenorm.

    Parameters
    ----------
    nodes : sequence of NodeProto
    constants : mapping of str to sequence of int
        The shapes of the initializers, by name.
    """
    maker = {output: node for node in nodes for output in node.output}
    readers: defaultdict[str, list[NodeProto]] = defaultdict(list)
    for node in nodes:
        for name in node.input:
            readers[name].append(node)

    groups = []
    for node in nodes:
        if OWN_NORM.fullmatch(node.op_type) or _pointwise_depthwise(node, constants):
            groups.append({node.name})
        elif node.op_type == "BatchNormalization":
            before = [maker[name] for name in node.input if name in maker]
            behind = list(readers[node.output[0]])
            behind += [n for relu in behind if relu.op_type == "Relu" for n in readers[relu.output[0]]]
            parts = [n for n in before if n.op_type == "DequantizeLinear"]
            parts += [n for n in behind if n.op_type in {"Relu", "QuantizeLinear"}]
            groups.append({node.name, *(n.name for n in parts)})
    return groups


def _pointwise_depthwise(node: NodeProto, constants: Mapping[str, Sequence[int]]) -> bool:
    if not node.op_type.endswith("Conv"):
        return False
    weight = node.input[3 if "QLinear" in node.op_type else 1]
    group = next((a.i for a in node.attribute if a.name == "group"), 1)
    shape = list(constants.get(weight, []))
    return group > 1 and shape == [group, 1, *[1] * (len(shape) - 2)]


def _node_times(events: Iterable[Event], dropped: int) -> tuple[dict[str, float], dict[str, str]]:
    """Return milliseconds and operators by the names of nodes."""
    times: defaultdict[str, list[float]] = defaultdict(list)
    ops: dict[str, str] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL_TIME):
            name = event["name"].removesuffix(KERNEL_TIME)
            times[name].append(event["dur"] / 1000)
            ops[name] = event["args"]["op_name"]
    return {name: min(taken[dropped:]) for name, taken in times.items()}, ops
