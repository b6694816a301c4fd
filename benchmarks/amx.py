"""Which convolutions ONNX Runtime runs faster with weights one lower, by AMX: ``python -m benchmarks.amx``."""

from __future__ import annotations

import argparse
import itertools
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from bytenorm import onnx as bno
from bytenorm.onnx.run.amx import LEAST_DEPTH, LEAST_OUTPUTS, has_amx, weights_for_amx

from . import machine, report
from .output import add_markdown, publish
from .timing import Contestant, Method, measure

# Input channels, output channels, kernel, height and width: those of ResNet-50, on both sides of the rule.
SHAPES = (
    (64, 64, 3, 56), (64, 256, 1, 56), (256, 64, 1, 56), (256, 128, 1, 56), (128, 128, 3, 28), (128, 512, 1, 28),
    (512, 128, 1, 28), (512, 256, 1, 28), (256, 256, 3, 14), (256, 1024, 1, 14), (1024, 256, 1, 14),
    (512, 512, 3, 7), (512, 2048, 1, 7), (2048, 512, 1, 7), (512, 32, 1, 28), (1024, 48, 1, 14),
)  # fmt: skip
METHOD = Method(rounds=61, dropped=6)
NETWORKS = ("resnet50v2", "densenet121")
ABOUT = (
    "Microseconds of a run on one thread, medians of contestants that take turns: weights as they are, and one "
    f"lower with their zero points. The rule takes a depth (input channels x kernel) of {LEAST_DEPTH} with "
    f"{LEAST_OUTPUTS} outputs, and more. The codes are equal, which is checked."
)
DECISION = (
    "What these figures decide: the least depth and the least outputs, among those measured, with which the "
    "geometric mean of all times is the smallest if what has both goes one lower and the rest stays as it is; of "
    "equals the greater depth and then the fewer outputs. No rule at all is one of the choices."
)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the report and write it to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.amx", description=__doc__)
    parser.add_argument("--networks", action="store_true", help="whole networks, too")
    add_markdown(parser)
    options = parser.parse_args(arguments)
    about = machine.describe() | {"AMX": "yes" if has_amx() else "no: the figures say nothing of the rule"}
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    columns = ["", "depth", "as it is, us", "one lower, us", "lower / as it is", "by the rule"]
    measured = [_measured(*shape) for shape in SHAPES]
    blocks: list[report.Block] = [
        report.Heading("ONNX Runtime's convolutions and AMX", 1),
        report.Text(ABOUT),
        *report.of_machine(about),
        report.Heading("Convolutions", 2),
        report.Table(columns, [one.row() for one in measured]),
        report.Text(f"{DECISION} {verdict(decide(measured))}"),
    ]
    if options.networks:
        columns = ["", "weights one lower", "as it is, us", "one lower, us", "lower / as it is"]
        rows = [row for name in NETWORKS for row in _network(name)]
        blocks += [report.Heading("Networks", 2), report.Table(columns, rows)]
    text = report.markdown(blocks)
    publish(text, options.markdown)
    return 0


@dataclass(frozen=True)
class Measured:
    """A convolution's microseconds with its weights as they are, and one lower."""

    name: str
    depth: int
    outputs: int
    before: float
    after: float

    def row(self) -> list[str]:
        """Return its row of the table."""
        ruled = "lower" if self.depth >= LEAST_DEPTH and self.outputs >= LEAST_OUTPUTS else "as it is"
        return [self.name, str(self.depth), *_texts(self.before, self.after), ruled]


@dataclass(frozen=True)
class Rule:
    """The least depth and outputs of what goes one lower, and the mean time of all, of that without."""

    depth: float
    outputs: float
    mean: float


def decide(measured: Sequence[Measured]) -> Rule:
    """Return the rule that figures decide; infinite where nothing is to be changed.

    Parameters
    ----------
    measured : sequence of Measured
        One and more.
    """

    def mean(depth: float, outputs: float) -> float:
        gains = (math.log(m.after / m.before) for m in measured if m.depth >= depth and m.outputs >= outputs)
        return math.exp(sum(gains) / len(measured))

    depths = sorted({*(float(m.depth) for m in measured), math.inf})
    outputs = sorted({*(float(m.outputs) for m in measured), math.inf})
    rules = [Rule(*of, mean(*of)) for of in itertools.product(depths, outputs)]
    return min(rules, key=lambda rule: (round(rule.mean, 9), -rule.depth, rule.outputs))


def verdict(rule: Rule) -> str:
    """Return in words what a rule is, beside that of the code."""
    if math.isinf(rule.depth):
        return "Here no convolution should be changed."
    same = (rule.depth, rule.outputs) == (LEAST_DEPTH, LEAST_OUTPUTS)
    beside = "that of the code" if same else f"that of the code is {LEAST_DEPTH} and {LEAST_OUTPUTS}"
    return f"Here these are {rule.depth:.0f} and {rule.outputs:.0f}, the mean {rule.mean:.2f}: {beside}."


def _measured(channels: int, outputs: int, kernel: int, side: int) -> Measured:
    name = f"{channels} to {outputs}, {kernel}x{kernel} at {side}x{side}"
    sys.stderr.write(f"{name}\n")
    rng = np.random.default_rng(0)
    model = _convolution(rng, channels, outputs, kernel, side)
    x = rng.integers(0, 256, (1, channels, side, side)).astype(np.uint8)
    lower = weights_for_amx(model, least_depth=0, least_outputs=0)
    return Measured(name, channels * kernel**2, outputs, *_times(model, lower, {"x": x}))


def _times(model: onnx.ModelProto, lower: onnx.ModelProto, feeds: dict[str, Any]) -> tuple[float, float]:
    """Return microseconds with weights as they are, and one lower."""
    sessions = {"as it is": _session(model), "one lower": _session(lower)}
    results = [session.run(None, feeds)[0] for session in sessions.values()]
    if not np.array_equal(*results):
        raise RuntimeError("the weights one lower give other results")
    contestants = [
        Contestant(name, "other", "run(None, feeds)", {"run": session.run, "feeds": feeds}, results[0].size)
        for name, session in sessions.items()
    ]
    before, after = (one.median * 1e6 for one in measure(contestants, METHOD, lambda _done, _whole: None))
    return before, after


def _texts(before: float, after: float) -> list[str]:
    return [f"{before:.0f}", f"{after:.0f}", f"{after / before:.2f}"]


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return bno.session(model, options, amx=False, saturate=True)


def _convolution(rng: np.random.Generator, channels: int, outputs: int, kernel: int, side: int) -> onnx.ModelProto:
    """Return a QLinearConv, with one scale a channel."""
    values = {
        "x_scale": np.float32(0.02),
        "x_zero_point": np.uint8(3),
        "w": rng.integers(-127, 128, (outputs, channels, kernel, kernel)).astype(np.int8),
        "w_scale": rng.uniform(0.0005, 0.001, outputs).astype(np.float32),
        "w_zero_point": np.zeros(outputs, np.int8),
        "y_scale": np.float32(0.2),
        "y_zero_point": np.uint8(120),
        "bias": rng.integers(-1000, 1000, outputs).astype(np.int32),
    }
    node = helper.make_node("QLinearConv", ["x", *values], ["y"], pads=[kernel // 2] * 4)
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [1, channels, side, side])
    y = helper.make_tensor_value_info("y", TensorProto.UINT8, [1, outputs, side, side])
    graph = helper.make_graph([node], "convolution", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _network(name: str) -> list[list[str]]:
    from .networks.network import build

    sys.stderr.write(f"{name}\n")
    network = build(name)
    rows = []
    for lowering in ("exact", "fused"):
        model = bno.lower(network.stock, lowering=lowering)
        lower = weights_for_amx(model)
        feeds = {model.graph.input[0].name: network.held_out[:1]}
        rows.append([f"{name}, {lowering}", str(moved(model, lower)), *_texts(*_times(model, lower, feeds))])
    return rows


def moved(model: onnx.ModelProto, lower: onnx.ModelProto) -> int:
    """Return how many weights of convolutions are others than they were."""
    known = {tensor.name for tensor in model.graph.initializer}
    return sum(tensor.name not in known and len(tensor.dims) == 4 for tensor in lower.graph.initializer)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
