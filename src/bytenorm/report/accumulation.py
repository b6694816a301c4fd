"""How far a quantized network has drifted from the float one, tensor by tensor in the network's order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ..onnx.apart import run_session, runner
from ..onnx.comparison import candidate_order, require_same_inputs, snr_db
from ..onnx.cutting import cut, feed
from ..onnx.graph import Graph, is_op
from ..onnx.quantizer_names import CODES, MADE, OUTPUT


@dataclass(frozen=True)
class Drift:
    """How far one 8-bit tensor is from the float network's, with all errors before it.

    Attributes
    ----------
    name : str
        Of the tensor in the float network.
    kind : str
        The operator that makes it there.
    snr_db : float
        ``10 log10(sum(float**2) / sum(error**2))`` over all samples; nan if it cannot be compared.
    problem : str
        Why it cannot be compared; empty if it can.
    """

    name: str
    kind: str
    snr_db: float
    problem: str = ""


class Accumulation:
    """Runs two networks side by side and keeps sums, no samples.

    Attributes
    ----------
    unmatched : tuple of str
        The tensors of the 8-bit model that have no partner.
    """

    def __init__(self, model: onnx.ModelProto, reference: onnx.ModelProto) -> None:
        self._kinds = {name: node.op_type for node in reference.graph.node for name in node.output if name}
        self._quantizations, self.unmatched = _matched(model, Graph(reference), set(self._kinds))
        if not self._quantizations:
            raise ValueError("reference: no 8-bit tensor of the model has the name of one of the float model's")
        plain = runner(reference), runner(model)
        require_same_inputs(*plain)
        candidate_order(*([out.name for out in one.get_outputs()] for one in plain))
        self._names = [name for name in self._kinds if name in self._quantizations]
        self._codes = list(dict.fromkeys(self._quantizations[name][0] for name in self._names))
        # Not the model that tells the codes of norms: there a norm of a sum reads it rounded.
        self._parts = cut(Graph(reference), self._names), cut(Graph(model), self._codes)
        self._float, self._made = map(runner, self._parts)
        self._sums = np.zeros((len(self._names), 2))
        self._problems = [""] * len(self._names)

    def add(self, batch: dict[str, np.ndarray]) -> None:
        """Take in a batch."""
        wanted = run_session(self._float, self._names, feed(self._parts[0], batch), "reference")
        codes_made = run_session(self._made, self._codes, feed(self._parts[1], batch), "model")
        made = dict(zip(self._codes, codes_made, strict=True))
        for i, (name, real) in enumerate(zip(self._names, wanted, strict=True)):
            tensor, scale, zero_point = self._quantizations[name]
            codes = made[tensor]
            if real.shape != codes.shape:
                self._problems[i] = f"its shape is {codes.shape}, the float network's {real.shape}"
            elif not np.isfinite(real).all():
                self._problems[i] = "the float network's holds NaN or an infinity"
            else:
                values = real.astype(np.float64)
                error = (codes.astype(np.float64) - zero_point) * scale - values
                self._sums[i] += np.vdot(values, values), np.vdot(error, error)

    def result(self) -> tuple[Drift, ...]:
        """Return what came out, in the order of the float network."""
        return tuple(
            Drift(name, self._kinds[name], math.nan if problem else snr_db(*map(float, sums)), problem)
            for name, sums, problem in zip(self._names, self._sums, self._problems, strict=True)
        )


def _matched(
    model: onnx.ModelProto, reference: Graph, floats: set[str]
) -> tuple[dict[str, tuple[str, float, int]], tuple[str, ...]]:
    """Return by the float tensor's name the 8-bit one, its scale and zero point; and what has no partner."""
    graph = Graph(model)
    found: dict[str, tuple[str, float, int]] = {}
    alone = []
    there = {name for node in model.graph.node for name in (*node.input, *node.output)}
    fed = {v.name for v in model.graph.input}
    for node in model.graph.node:
        for made, scale_name, zero_name in _eight_bit(node):
            codes = made if is_op(node, "QuantizeLinear") else _past_moves(graph, made)
            name = node.input[0] if is_op(node, "QuantizeLinear") else codes
            name = name.removesuffix(OUTPUT).removesuffix(CODES).removesuffix(MADE)
            scale, zero_point = (graph.constant(n) if n else np.zeros(1) for n in (scale_name, zero_name))
            if scale is None or zero_point is None or scale.size != 1 or zero_point.size != 1:
                continue
            if name in floats:
                found.setdefault(
                    _past_dropped(reference, name, there),
                    (codes, float(scale.ravel()[0]), int(zero_point.ravel()[0])),
                )
            elif name not in fed:
                alone.append(name)
    return found, tuple(dict.fromkeys(alone))


def _past_dropped(reference: Graph, name: str, there: set[str]) -> str:
    """Return the activation's output where the quantizer has dropped it, since the range does its work."""
    reader = reference.only_reader(name)
    if reader is None or not is_op(reader, "Relu", "Clip"):
        return name
    after = reader.output[0]
    return name if {after, after + CODES, after + OUTPUT, after + MADE} & there else after


def _past_moves(graph: Graph, codes: str) -> str:
    """Return the tensor behind the moves that a lowering puts behind its operator."""
    reader = graph.only_reader(codes)
    while reader is not None and is_op(reader, "Transpose", "Reshape", "Clip") and reader.input[0] == codes:
        codes = reader.output[0]
        reader = graph.only_reader(codes)
    return codes


def _eight_bit(node: Any) -> list[tuple[str, str, str]]:
    """Return what a node makes in 8 bits: codes, scale, zero point."""
    places = {
        "QuantizeLinear": (1, 2),
        "QLinearConv": (6, 7),
        "QLinearMatMul": (6, 7),
        "QLinearBatchNormalization": (7, 8),
        "QLinearAdd": (6, 7),
        "QLinearMul": (6, 7),
        "QGemm": (7, 8),
        "QLinearConcat": (0, 1),
        "QLinearConcatBatchNormalization": (4, 5),
        "QLinearAddBatchNormalization": (12, 13),
        "QLinearGlobalAveragePool": (3, 4),
        "QLinearAveragePool": (3, 4),
        "QLinearSigmoid": (3, 4),
        "QLinearLeakyRelu": (3, 4),
        "QLinearSoftmax": (3, 4),
    }.get(node.op_type)
    if places is None or len(node.input) <= places[0]:
        return []
    zero_point = node.input[places[1]] if len(node.input) > places[1] else ""
    return [(node.output[0], node.input[places[0]], zero_point)]
