"""Networks whose weights were never trained: those of ``benchmarks.networks``, and the light models of onnx.

The light models come without weights: they get random ones, and norms the statistics of what they read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, helper, numpy_helper, version_converter

from bytenorm import onnx as bno
from bytenorm.onnx.model.constant_inputs import free_initializers

from ...networks import images
from ...networks.network import build
from ..network import Array, Network

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
OPSET = 13
FEW = 4  # pictures


def known(name: str) -> Network:
    """Return a network of ``benchmarks.networks``, calibrated with few pictures."""
    made = build(name)
    source = f"benchmarks.networks.{name}, random weights"
    return Network(made.model, made.calibration[:FEW], made.held_out, None, source, _described(made.held_out))


def light(path: Path) -> Network:
    """Return a model that the onnx package carries, with random weights."""
    model = onnx.load(path)
    free_initializers(model)
    model = version_converter.convert_version(model, OPSET)
    rng = np.random.default_rng(0)
    weights = {t for node in model.graph.node if node.op_type != "ConstantOfShape" for t in node.input}
    statistics = {n.input[4] for n in model.graph.node if n.op_type == "BatchNormalization"}
    shapes = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in [n for n in model.graph.node if n.op_type == "ConstantOfShape" and n.output[0] in weights]:
        shape = tuple(int(n) for n in shapes[node.input[0]])
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 0
        if node.output[0] in statistics:
            values = rng.uniform(0.5, 2, shape)
        elif fan_in:
            values = rng.normal(size=shape) * np.sqrt(2 / fan_in)
        else:
            values = rng.uniform(0.5, 1.5, shape)
        model.graph.node.remove(node)
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), node.output[0]))
    calibration, held_out = images.load(images.CALIBRATION[:FEW]), images.load(images.HELD_OUT[:FEW])
    _set_statistics(model, calibration)
    source = f"{path.stem} of onnx, random weights"
    return Network(model, calibration, held_out, None, source, _described(held_out))


def _described(held_out: Array) -> str:
    return f"{FEW} photographs calibrate, {len(held_out)} judge; 224 x 224"


def _set_statistics(model: ModelProto, pictures: Array) -> None:
    """Give norms the mean and the variance of what they read, on average over pictures.

    Without them a random network of many layers is chaotic: the last bit of a scale changes its SNR by decibels.
    """
    norms = [n for n in model.graph.node if n.op_type == "BatchNormalization"]
    if not norms:
        return
    measured = ModelProto()
    measured.CopyFrom(model)
    graph = measured.graph
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if node.op_type == "BatchNormalization":
            x, mean, variance = node.input[0], f"{node.output[0]}/mean", f"{node.output[0]}/variance"
            axes = [0, 2, 3]
            graph.node.append(helper.make_node("ReduceMean", [x], [f"{mean}4"], axes=axes, keepdims=1))
            graph.node.append(helper.make_node("Sub", [x, f"{mean}4"], [f"{mean}/from"]))
            graph.node.append(helper.make_node("Mul", [f"{mean}/from", f"{mean}/from"], [f"{variance}/of"]))
            graph.node.append(
                helper.make_node("ReduceMean", [f"{variance}/of"], [f"{variance}4"], axes=axes, keepdims=1)
            )
            for name in (mean, variance):
                graph.node.append(helper.make_node("Squeeze", [f"{name}4", "statistics/axes"], [name]))
                graph.output.append(onnx.ValueInfoProto(name=name))
            node.input[3], node.input[4] = mean, variance
        graph.node.append(node)
    graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 3]), "statistics/axes"))
    run = bno.session(measured)
    wanted = [v.name for v in graph.output][len(model.graph.output) :]
    found = [run.run(wanted, {model.graph.input[0].name: picture[np.newaxis]}) for picture in pictures]
    values = dict(zip(wanted, (np.mean(parts, 0) for parts in zip(*found, strict=True)), strict=True))
    tensors = {t.name: t for t in model.graph.initializer}
    for node in norms:
        for at, what in ((3, "mean"), (4, "variance")):
            value = values[f"{node.output[0]}/{what}"].astype(np.float32)
            tensors[node.input[at]].CopyFrom(numpy_helper.from_array(value, node.input[at]))
