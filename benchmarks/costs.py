"""What bytenorm's tools cost beside the stock ones: ``python -m benchmarks.costs``, in the repository's root.

Each job of ``benchmarks.cost_jobs`` is a process of its own, the libraries' import included; jobs of a section
take turns. CPU seconds are those of the process and of those that it started, memory is the most that it had.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from . import machine, report
from .cost_jobs import JOBS, prepare
from .output import add_markdown, publish

ROUNDS = 3
METHOD = (
    "Each line is a process of its own, the import of its libraries included, the lines of a table in turns; "
    "medians of {rounds}. CPU seconds are of all its threads and processes, memory is the most that the process "
    "had. A limit that is not kept says MISS. `python -m benchmarks.costs` repeats it."
)


@dataclass(frozen=True)
class Cost:
    """What one run of a job took: CPU seconds, seconds, MiB."""

    cpu: float
    wall: float
    memory: float


@dataclass(frozen=True)
class Line:
    """A job, what it is held against, and how many times that it may take; None where nothing is wanted.

    `cpu` and `memory` are limits of the ratio to the job `beside`, `size` one of the ratio of memory to the bytes
    of a file, `seconds` and `wall` limits themselves.
    """

    job: str
    title: str
    beside: str | None = None
    cpu: float | None = None
    memory: float | None = None
    size: tuple[str, float] | None = None
    seconds: float | None = None
    wall: float | None = None


SECTIONS: dict[str, tuple[str, list[Line]]] = {
    "quantize": (
        "`quantize` of DenseNet-121, 32 images",
        [
            Line("densenet stock", "ONNX Runtime: `quant_pre_process`, `quantize_static`"),
            Line("densenet plain", "bytenorm, `fast=True`", "densenet stock", 1.2, 1.15),
            Line("densenet default", "bytenorm", "densenet stock", 2, 1.15),
        ],
    ),
    "methods": (
        "`quantize` of DenseNet-121 with a method for norms, 32 images",
        [
            Line("densenet stock", "ONNX Runtime: `quant_pre_process`, `quantize_static`"),
            Line("densenet mse", 'bytenorm, `method="mse"`', "densenet stock", 2.5, 1.15),
        ],
    ),
    "report": (
        "`bytenorm report` of DenseNet-121, 8 images",
        [
            Line("densenet report", "bytenorm", seconds=10),
            Line("densenet report float", "bytenorm, `--float`", "densenet report"),
        ],
    ),
    "large": (
        "a model with 300 MB of weights",
        [
            Line("large inspect", "`bytenorm inspect`", size=("large.onnx", 2.5)),
            Line("large lower", "`bytenorm lower`", size=("large.onnx", 2.5)),
        ],
    ),
    "percentile": (
        "percentile calibration of eight layers of 8x224x224",
        [
            Line("percentile stock 20", "ONNX Runtime, 20 samples"),
            Line("percentile stock 80", "ONNX Runtime, 80 samples"),
            Line("percentile own 20", "bytenorm, 20 samples", "percentile stock 20"),
            Line("percentile own 80", "bytenorm, 80 samples", "percentile own 20", memory=1.15),
        ],
    ),
    "statistics": (
        "statistics of 1 GiB of codes in 32 files",
        [
            Line("files numpy", "NumPy: `mean` and `var` of each file"),
            Line("files statistics", "`bytenorm statistics`", "files numpy", wall=0.5),
        ],
    ),
    "import": (
        "importing",
        [
            Line("import stock", "`onnx`, `onnxruntime`"),
            Line("import own", "`bytenorm.onnx`", "import stock"),
        ],
    ),
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the report and write it to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each job (default: {ROUNDS})")
    add_markdown(parser)
    options = parser.parse_args(arguments)
    about = machine.describe()
    blocks: list[report.Block] = [
        report.Heading("What the tools cost", 1),
        report.Text(METHOD.format(rounds=options.rounds)),
        *report.of_machine(about),
    ]
    with tempfile.TemporaryDirectory(prefix="bytenorm-") as folder:
        prepare(Path(folder), [line.job for name in options.only for line in SECTIONS[name][1]])
        for name in options.only:
            title, lines = SECTIONS[name]
            costs = _costs(lines, Path(folder), options.rounds)
            rows = [_row(line, costs, Path(folder)) for line in lines]
            columns = ["", "CPU s", "s", "MiB", "CPU, times", "memory, times"]
            blocks += [report.Heading(title, 2), report.Table(columns, rows)]
    text = report.markdown(blocks)
    publish(text, options.markdown)
    return 0


def _costs(lines: list[Line], folder: Path, rounds: int) -> dict[str, Cost]:
    found: dict[str, list[Cost]] = {line.job: [] for line in lines}
    for _ in range(rounds):
        for job, costs in found.items():
            sys.stderr.write(f"{job}\n")
            costs.append(_run(job, folder))
    return {job: _middle(costs) for job, costs in found.items()}


def _middle(costs: list[Cost]) -> Cost:
    def of(what: Callable[[Cost], float]) -> float:
        return median(map(what, costs))

    return Cost(of(lambda c: c.cpu), of(lambda c: c.wall), of(lambda c: c.memory))


def _run(job: str, folder: Path) -> Cost:
    assert job in JOBS, job
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.cost_jobs", job, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)  # its own children are in it, as far as it waited for them
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(f"{job}: exit status {process.returncode}")
    # The system's own figure of a child counts what its parent had before.
    return Cost(usage.ru_utime + usage.ru_stime, wall, int(output.split()[-1]) / 1024)


def _row(line: Line, costs: dict[str, Cost], folder: Path) -> list[str]:
    cost = costs[line.job]
    cpu = _judged(f"{cost.cpu:.2f}", cost.cpu, line.seconds)
    wall = _judged(f"{cost.wall:.2f}", cost.wall, line.wall)
    times = memory = "-"
    if line.beside is not None:
        other = costs[line.beside]
        times = _judged(f"{cost.cpu / other.cpu:.2f}", cost.cpu / other.cpu, line.cpu)
        memory = _judged(f"{cost.memory / other.memory:.2f}", cost.memory / other.memory, line.memory)
    if line.size is not None:
        name, most = line.size
        ratio = cost.memory * 2**20 / (folder / name).stat().st_size
        memory = _judged(f"{ratio:.2f}", ratio, most)
    return [line.title, cpu, wall, f"{cost.memory:.0f}", times, memory]


def _judged(text: str, value: float, most: float | None) -> str:
    return text if most is None else f"{text}/{most:g} {'ok' if value <= most else 'MISS'}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
