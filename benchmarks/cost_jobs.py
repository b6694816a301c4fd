"""What ``python -m benchmarks.costs`` measures: each job runs once, in a process of its own.

``python -m benchmarks.cost_jobs NAME FOLDER`` does one job on what :func:`prepare` wrote into the folder, and
prints the most memory that its process had. A job imports what it needs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

IMAGES = 32
FEW = 8  # images of a report
LARGE = 300_000_000  # bytes of weights
SIDE, CHANNELS, LAYERS = 224, 8, 8  # of the network whose calibration keeps outputs
SAMPLES = (20, 80)
FILES, FILE_SHAPE = 32, (32, 64, 128, 128)  # 1 GiB of codes


# --- what the jobs read -----------------------------------------------------------------------------------------


def prepare(folder: Path, names: list[str]) -> None:
    """Write what these jobs read."""
    import onnx

    if any("densenet" in name for name in names):
        from bytenorm import onnx as bno

        from .networks import images
        from .networks.network import build

        network = build("densenet121")
        pictures = images.load(images.CALIBRATION + images.HELD_OUT)
        np.save(folder / "images.npy", np.concatenate([pictures, pictures[..., ::-1]])[:IMAGES])
        np.save(folder / "few.npy", pictures[:FEW])
        onnx.save(network.model, folder / "densenet.onnx")
        onnx.save(bno.lower(network.stock), folder / "densenet8.onnx")
    if any("large" in name for name in names):
        onnx.save(_large(), folder / "large.onnx")
    if any("percentile" in name for name in names):
        onnx.save(_wide(), folder / "wide.onnx")
        np.save(folder / "wide.npy", _rng().random((max(SAMPLES), 3, SIDE, SIDE), np.float32))
    if any("files" in name for name in names):
        (folder / "files").mkdir()
        for i in range(FILES):
            codes = np.frombuffer(_rng().bytes(int(np.prod(FILE_SHAPE))), np.uint8)
            np.save(folder / "files" / f"{i:02}.npy", codes.reshape(FILE_SHAPE))


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _large() -> Any:
    """Return a model with 300 MB of weights, in float but for the conversions around its norm."""
    from onnx import helper, numpy_helper

    n = 5000
    width = LARGE // 3 // 4 // n
    rng = _rng()
    arrays = {
        "scale": np.float32(0.1),
        "zero": np.uint8(128),
        **{name: rng.uniform(0.5, 1.5, n).astype(np.float32) for name in ("gain", "bias", "mean", "var")},
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["real"]),
        helper.make_node("BatchNormalization", ["real", "gain", "bias", "mean", "var"], ["normed"], "norm"),
        helper.make_node("QuantizeLinear", ["normed", "scale", "zero"], ["out codes"]),
        helper.make_node("DequantizeLinear", ["out codes", "scale", "zero"], ["out"]),
    ]
    for i in range(3):
        arrays[f"weight{i}"] = rng.random((n, width), np.float32)
        nodes.append(helper.make_node("MatMul", ["out", f"weight{i}"], [f"y{i}"]))
    ends = [helper.make_tensor_value_info(f"y{i}", 1, ["N", width]) for i in range(3)]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()]
    start = helper.make_tensor_value_info("x", 1, ["N", n])
    graph = helper.make_graph(nodes, "large", [start], ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _wide() -> Any:
    """Return a network with large outputs: convolutions, each with a Relu and a norm that stays."""
    from onnx import helper, numpy_helper

    rng, arrays, nodes, tensor, read = _rng(), {}, [], "x", 3
    for i in range(LAYERS):
        weight = rng.normal(size=(CHANNELS, read, 3, 3)).astype(np.float32) / np.float32(np.sqrt(9 * read))
        arrays[f"w{i}"] = weight
        own = [f"{what}{i}" for what in ("gain", "bias", "mean", "var")]
        arrays |= {name: rng.uniform(0.5, 1.5, CHANNELS).astype(np.float32) for name in own}
        nodes += [
            helper.make_node("Conv", [tensor, f"w{i}"], [f"c{i}"], f"conv{i}", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{i}"], [f"r{i}"], f"relu{i}"),
            helper.make_node("BatchNormalization", [f"r{i}", *own], [f"n{i}"], f"norm{i}"),
        ]
        tensor, read = f"n{i}", CHANNELS
    start = helper.make_tensor_value_info("x", 1, [1, 3, SIDE, SIDE])
    end = helper.make_tensor_value_info(tensor, 1, [1, CHANNELS, SIDE, SIDE])
    tensors = [numpy_helper.from_array(value, name) for name, value in arrays.items()]
    graph = helper.make_graph(nodes, "wide", [start], [end], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


# --- the jobs ---------------------------------------------------------------------------------------------------


def _stock(folder: Path, model: str, data: str, method: str = "MinMax", limit: int | None = None) -> None:
    """Do what a user of the stock quantizer does, from file to file."""
    import onnx
    from onnxruntime import quantization as ort
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = onnx.load(folder / model).graph.input[0].name
    batches = [{name: image[np.newaxis]} for image in np.load(folder / data)[:limit]]

    class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return batches.pop(0) if batches else None

    quant_pre_process(folder / model, folder / "prepared.onnx", skip_symbolic_shape=True)
    ort.quantize_static(
        folder / "prepared.onnx",
        folder / "made.onnx",
        Reader(),
        per_channel=True,
        calibrate_method=getattr(ort.CalibrationMethod, method),
        activation_type=ort.QuantType.QUInt8,
        weight_type=ort.QuantType.QInt8,
    )


def _quantize(folder: Path, model: str, data: str, **options: Any) -> None:
    import onnx

    from bytenorm import onnx as bno

    onnx.save(bno.quantize(folder / model, folder / data, **options), folder / "made.onnx")


def _command(folder: Path, *arguments: str) -> None:
    from bytenorm.cli import main

    code = main([text.replace("@", f"{folder}/") for text in arguments])
    if code:
        raise SystemExit(code)


def _means(folder: Path) -> None:
    """Do with NumPy what a norm's statistics take, of all files."""
    for path in sorted((folder / "files").iterdir()):
        codes = np.load(path)
        codes.mean((0, 2, 3))
        codes.var((0, 2, 3), dtype=np.float32)


def _import(folder: Path) -> None:
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401


def _import_own(folder: Path) -> None:
    import bytenorm.onnx  # noqa: F401


_stock_dense = partial(_stock, model="densenet.onnx", data="images.npy")
_own_dense = partial(_quantize, model="densenet.onnx", data="images.npy")
_stock_wide = partial(_stock, model="wide.onnx", data="wide.npy", method="Percentile")
_own_wide = partial(_quantize, model="wide.onnx", data="wide.npy", calibrate_method="percentile", fast=True)
_report = ("report", "@densenet8.onnx", "--data", "@few.npy", "-o", "@report.html", "--force")
_statistics = (
    "statistics",
    "--data",
    "@files",
    "--scale",
    "0.05",
    "--zero-point",
    "128",
    "-o",
    "@s.npz",
    "--force",
)

JOBS: dict[str, Callable[[Path], None]] = {
    "densenet stock": _stock_dense,
    "densenet plain": partial(_own_dense, fast=True),
    "densenet default": _own_dense,
    "densenet mse": partial(_own_dense, method="mse"),
    "densenet report": lambda folder: _command(folder, *_report),
    "densenet report float": lambda folder: _command(folder, *_report, "--float", "@densenet.onnx"),
    "large inspect": lambda folder: _command(folder, "inspect", "@large.onnx"),
    "large lower": lambda folder: _command(folder, "lower", "@large.onnx", "-o", "@made.onnx", "--force"),
    "files numpy": _means,
    "files statistics": lambda folder: _command(folder, *_statistics),
    **{f"percentile stock {n}": partial(_stock_wide, limit=n) for n in SAMPLES},
    **{f"percentile own {n}": partial(_own_wide, limit=n) for n in SAMPLES},
    "import stock": _import,
    "import own": _import_own,
}


def main(name: str, folder: str) -> None:
    """Do a job and print how many KiB its process had at most."""
    JOBS[name](Path(folder))
    lines = Path("/proc/self/status").read_text().splitlines()
    sys.stdout.write("\n" + next(line.split()[1] for line in lines if line.startswith("VmHWM")) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
