"""The networks that the onnx package carries, through ``quantize`` in every lowering, beside stock.

``python tests/light_models.py`` runs all with 3 sets of weights; ``--models shufflenet densenet121 --weights 1``
some. Their own weights are one number each, made by ConstantOfShape. So each set draws others, a third of them
lognormal as trained ones are, and gives the norms the statistics of what they read. For each network it prints the
signal-to-noise ratio (SNR), against float on images that were not for calibration, of ONNX Runtime's quantizer
alone and of each lowering; what is more than 0.3 dB below stock is wrong.
"""

import argparse
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from exact_sums import exact_session
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from bytenorm import onnx as bno
from bytenorm.onnx.graph.graph import Graph
from bytenorm.onnx.quantization.quantize import quantize_with_report

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
MODELS = [path.stem.removeprefix("light_") for path in sorted(LIGHT.glob("*.onnx"))]
LOWERINGS = ("qdq", "portable", "exact", "fused")
WORSE = 0.3  # dB
CALIBRATED, JUDGED = 8, 4  # images


def images(rng, count, size):
    """Return smooth random images: noise of several widths, as photographs have."""
    made = []
    for _ in range(count):
        image = np.zeros((3, size, size))
        for width in (4, 8, 16, 56, size):
            coarse = rng.normal(size=(3, width, width)) / np.sqrt(width)
            image += np.kron(coarse, np.ones((1, size // width + 1, size // width + 1)))[:, :size, :size]
        made.append(image[None].astype(np.float32))
    return made


def with_weights(name, seed):
    """Return a network with weights of its own, and the name of its input."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    graph, rng = Graph(model), np.random.default_rng([seed, MODELS.index(name)])
    for node in list(graph.nodes):
        if node.op_type in ("Conv", "Gemm", "BatchNormalization", "Mul", "Add", "Scale"):
            for at, tensor in enumerate(node.input):
                value = graph.constant(tensor)
                if value is not None and value.dtype == np.float32 and value.size > 1:
                    other = graph.add_constant(f"{tensor}/{at}/drawn", drawn(rng, node, at, value))
                    graph.set_input(node, at, other)
    graph.finish()
    model.ir_version = max(model.ir_version, 4)
    constants = {t.name for t in model.graph.initializer}
    for value in [v for v in model.graph.input if v.name in constants]:
        model.graph.input.remove(value)
    return model


def drawn(rng, node, at, value):
    """Return numbers in place of an input of a node that is constant."""
    if node.op_type in ("Conv", "Gemm") and at == 1:
        each = value.size // value.shape[0]
        spread = np.exp(rng.normal(0, 0.5, (value.shape[0], *[1] * (value.ndim - 1))))
        made = rng.normal(size=value.shape) * np.sqrt(2 / each) * spread
    elif (node.op_type, at) == ("BatchNormalization", 1) or node.op_type == "Mul":
        made = np.exp(rng.normal(0, 0.3, value.shape))
    elif (node.op_type, at) == ("BatchNormalization", 4):
        made = np.ones(value.shape)
    else:
        made = rng.normal(0, 0.2, value.shape)
    return made.astype(np.float32)


def settled(model, data):
    """Give each norm the mean and the variance of what it reads, all before it normalized by its own."""
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    if not norms:
        return
    told = onnx.ModelProto()
    told.CopyFrom(model)
    del told.graph.node[:], told.graph.output[:]
    told.graph.initializer.append(numpy_helper.from_array(np.float32(1e-5), "told/epsilon"))
    for i, node in enumerate(model.graph.node):
        if node.op_type != "BatchNormalization":
            told.graph.node.append(node)
            continue
        x, t = node.input[0], f"told/{i}"
        axes = {"axes": [0, 2, 3], "keepdims": 1}
        shape = f"{t}/shape"
        told.graph.initializer.append(numpy_helper.from_array(np.array([1, -1, 1, 1]), shape))
        told.graph.node.extend((
            helper.make_node("ReduceMean", [x], [f"{t}/mean"], **axes),
            helper.make_node("Sub", [x, f"{t}/mean"], [f"{t}/centred"]),
            helper.make_node("Mul", [f"{t}/centred"] * 2, [f"{t}/square"]),
            helper.make_node("ReduceMean", [f"{t}/square"], [f"{t}/variance"], **axes),
            helper.make_node("Add", [f"{t}/variance", "told/epsilon"], [f"{t}/sum"]),
            helper.make_node("Sqrt", [f"{t}/sum"], [f"{t}/deviation"]),
            helper.make_node("Div", [f"{t}/centred", f"{t}/deviation"], [f"{t}/unit"]),
            helper.make_node("Reshape", [node.input[1], shape], [f"{t}/gain"]),
            helper.make_node("Reshape", [node.input[2], shape], [f"{t}/bias"]),
            helper.make_node("Mul", [f"{t}/unit", f"{t}/gain"], [f"{t}/scaled"]),
            helper.make_node("Add", [f"{t}/scaled", f"{t}/bias"], [node.output[0]]),
        ))  # fmt: skip
        told.graph.output.extend(onnx.ValueInfoProto(name=f"{t}/{what}") for what in ("mean", "variance"))
    found = [np.mean(values, axis=0) for values in zip(*(run(told, x) for x in data), strict=True)]
    constants = {t.name: t for t in model.graph.initializer}
    for node, mean, variance in zip(norms, found[::2], found[1::2], strict=True):
        for tensor, value in zip(node.input[3:5], (mean, np.maximum(variance, 1e-3)), strict=True):
            constants[tensor].CopyFrom(numpy_helper.from_array(value.ravel().astype(np.float32), tensor))


def run(model, image):
    session = exact_session(model, library=True)
    return session.run(None, {session.get_inputs()[0].name: image})


class Images(CalibrationDataReader):
    def __init__(self, name, data):
        self._left = iter({name: x} for x in data)

    def get_next(self):
        return next(self._left, None)


def stock(model, name, data, quant_format):
    """Return what ONNX Runtime's quantizer makes of a model, behind its own preparation."""
    with tempfile.TemporaryDirectory() as folder:
        before, prepared, behind = (str(Path(folder, f"{what}.onnx")) for what in "abc")
        newer = model if model.opset_import[0].version >= 13 else onnx.version_converter.convert_version(model, 13)
        onnx.save(newer, before)
        quant_pre_process(before, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared, behind, Images(name, data), quant_format=QuantFormat[quant_format], per_channel=True
        )
        return onnx.load(behind)


def snr(want, made, data):
    noise = signal = 0.0
    session = exact_session(made, library=True)
    for wanted, x in zip(want, data, strict=True):
        got = session.run(None, {session.get_inputs()[0].name: x})[0].astype(np.float64)
        noise += float(np.sum((got - wanted) ** 2))
        signal += float(np.sum(wanted.astype(np.float64) ** 2))
    return 10 * np.log10(signal / max(noise, 1e-30))


def without_ends(model):
    """Take out the Softmax at the end: what comes out of it is nearly the same for all."""
    (last,) = (node for node in model.graph.node if model.graph.output[0].name in node.output)
    if last.op_type == "Softmax":
        model.graph.output[0].name = last.input[0]
        model.graph.output[0].type.tensor_type.ClearField("shape")
        model.graph.node.remove(last)


def judge(name, seed, quant_format, *, fast):
    """Quantize one network; return whether a lowering is too far below stock, and print how far each is."""
    model = with_weights(name, seed)
    without_ends(model)
    rng = np.random.default_rng([seed, 99])
    entry = model.graph.input[0]
    size = entry.type.tensor_type.shape.dim[2].dim_value
    data = images(rng, CALIBRATED + JUDGED, size)
    settled(model, data[:2])
    calibrated, judged = data[:CALIBRATED], data[CALIBRATED:]
    float_session = exact_session(model)
    want = [float_session.run(None, {entry.name: x})[0] for x in judged]
    begin = time.process_time()
    base = snr(want, stock(model, entry.name, calibrated, quant_format), judged)
    feeds = [{entry.name: x} for x in calibrated]
    made, report = quantize_with_report(
        model, feeds, lowering="qdq", quant_format=quant_format, fast=fast, compare=False
    )
    found = {"qdq": snr(want, made, judged)}
    if not bno.inspect(made).norms:
        found.update(dict.fromkeys(LOWERINGS[1:], found["qdq"]))
    else:
        found.update((way, snr(want, bno.lower(made, lowering=way), judged)) for way in LOWERINGS[1:])
    kept = [outcome for outcome in report.outcomes if outcome.problem]
    bad = bool(min(found.values()) < base - WORSE)
    text = " ".join(f"{way} {value:.2f}" for way, value in found.items())
    print(
        f"{name} weights {seed} {quant_format}: stock {base:.2f} dB; {text}; norms folded {len(report.folded)}, "
        f"in 8 bits {len(report.outcomes) - len(kept)}, in float {len(kept)}; "
        f"{time.process_time() - begin:.0f} s of CPU{'  WORSE' * bad}",
        flush=True,
    )
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--weights", type=int, default=3, help="how many sets")
    parser.add_argument("--first", type=int, default=0, help="the first set")
    parser.add_argument("--formats", nargs="+", choices=("QDQ", "QOperator"), default=("QDQ", "QOperator"))
    parser.add_argument("--fast", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    ort.set_default_logger_severity(4)
    warnings.simplefilter("ignore")
    seeds = range(options.first, options.first + options.weights)
    bad = [
        judge(name, seed, quant_format, fast=options.fast)
        for name in options.models
        for seed in seeds
        for quant_format in options.formats
    ]
    print(f"{sum(bad)} of {len(bad)} are more than {WORSE} dB below stock")
    sys.exit(any(bad))


if __name__ == "__main__":
    main()
