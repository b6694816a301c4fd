"""Files that no worker's memory holds, counted by a cluster on this machine: ``python -m benchmarks.cluster``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from distributed import Client

import bytenorm as bn
from bytenorm.calibration import ChannelStatistics, files
from bytenorm.dask.cluster import count_files, local_cluster
from bytenorm.dask.merging import merged

from . import machine, report
from .output import add_markdown, publish, target, write

SHAPE = (32, 64, 128, 128)  # of a file: 32 MiB
SCALE, ZERO_POINT = 0.05, 128
FULL, QUICK = 256, 16  # files
IN_FLOAT = 32  # files that Dask's own mean and variance get, which take long
LIMIT = 1_000_000_000  # bytes of a worker
ROUNDS = 3

METHOD = (
    "Files of random codes, {size}, 64 channels, read from the page cache where they fit it. Each worker is a "
    "process with one thread and 1 GB. Times are medians of {rounds} runs that took turns, without the cluster's "
    "start; the killed worker, which gets SIGKILL when half of the bytes are counted, is one run more. Every "
    "result was compared: all are the same bits. In float, `mean` and `var` of dask.array get {part} of the same "
    "files, as float32, on the same workers."
)


@dataclass(frozen=True)
class Row:
    """What one way took."""

    name: str
    seconds: float
    size: int  # bytes

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.size / self.seconds


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the report and write it to files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="512 MiB: figures are only roughly right")
    parser.add_argument("--json", type=target, metavar="FILE", help="write all figures as JSON")
    add_markdown(parser)
    options = parser.parse_args(arguments)
    about = machine.describe() | {name: version(name) for name in ("dask", "distributed")}
    n = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="bytenorm-") as folder:
        needed = n * int(np.prod(SHAPE))
        free = shutil.disk_usage(folder).free
        if free < 2 * needed:
            sys.stderr.write(f"{folder}: {2 * needed} bytes of disk are wanted, {free} are free\n")
            return 2
        rows, workers = _measured(_written(Path(folder), n))
    text = report.markdown(_blocks(about, rows, workers))
    if options.json:
        content = {"machine": about, "quick": options.quick, "workers": workers, "rows": [asdict(r) for r in rows]}
        write(options.json, json.dumps(content, indent=1) + "\n")
    publish(text, options.markdown)
    return 0


def _written(folder: Path, n: int) -> list[str]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:03}.npy" for i in range(n)]
    for path in paths:
        np.save(path, np.frombuffer(rng.bytes(int(np.prod(SHAPE))), np.uint8).reshape(SHAPE))
    return [str(path) for path in paths]


def _measured(paths: list[str]) -> tuple[list[Row], int]:
    how = files.Reading(SCALE, ZERO_POINT)
    looked = how.look_at(paths, paths)
    size = sum(file.size for file in looked)
    workers = len(os.sched_getaffinity(0))
    before = bn.get_num_threads()
    bn.set_num_threads(1)  # also the processes' only thread, outside of a task
    began = time.perf_counter()
    with local_cluster(workers, LIMIT) as client:
        started = time.perf_counter() - began

        def alone() -> ChannelStatistics:
            shares = files.shares(looked, how.axis)
            return merged([files.count([piece for share in shares for piece in share], how, SHAPE[1])])

        def together() -> ChannelStatistics:
            return count_files(client, looked, how)

        want, _ = _timed(alone)  # which brings the files into the page cache
        times: dict[str, list[float]] = {"one core, without Dask": [], f"{workers} workers": []}
        for _ in range(ROUNDS):
            for name, work in zip(times, (alone, together), strict=True):
                found, seconds = _timed(work)
                assert found == want, name
                times[name].append(seconds)
        rows = [Row(name, float(np.median(seconds)), size) for name, seconds in times.items()]
        found, seconds = _timed(lambda: _killed(client, looked, how))
        assert found == want, "a worker was killed"
        rows.append(Row(f"{workers} workers, one killed halfway", seconds, size))
        client.wait_for_workers(workers)
        some = paths[:IN_FLOAT]
        part = len(some) * int(np.prod(SHAPE))
        rows.append(Row("dask.array's mean and var, in float", _timed(lambda: _in_float(some))[1], part))
    bn.set_num_threads(before)
    return [*rows, Row(f"(start of {workers} workers)", started, 0)], workers


def _timed(work: Callable[[], object]) -> tuple[object, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def _killed(client: Client, looked: list[files.ArrayFile], how: files.Reading) -> ChannelStatistics:
    victims = [next(iter(client.run(os.getpid).values()))]

    def kill(done: int, whole: int) -> None:
        if done >= whole // 2 and victims:
            assert done < whole
            os.kill(victims.pop(), signal.SIGKILL)

    found = count_files(client, looked, how, kill)
    assert not victims
    return found


def _in_float(paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    load = delayed(np.load)
    x = da.concatenate([da.from_delayed(load(path, mmap_mode="r"), SHAPE, np.uint8) for path in paths])
    real = (x.astype(np.float32) - np.float32(ZERO_POINT)) * np.float32(SCALE)
    mean, var = compute(real.mean((0, 2, 3)), real.var((0, 2, 3)))
    return mean, var


def _blocks(about: dict[str, str], rows: list[Row], workers: int) -> list[report.Block]:
    one = rows[0]
    part = next(row.size for row in rows if "float" in row.name)
    method = METHOD.format(size=_size(one.size), rounds=ROUNDS, part=_size(part))
    table = [
        [row.name, f"{row.seconds:.2f}", f"{row.rate / 1e9:.2f}", f"{row.rate / one.rate:.2f}"]
        if row.size
        else [row.name, f"{row.seconds:.2f}", "-", "-"]
        for row in rows
    ]
    return [
        report.Heading("bytenorm statistics on files", 1),
        report.Text(method),
        *report.of_machine(about),
        report.Heading("Times", 2),
        report.Table(["", "seconds", "GB/s", "x one core"], table),
    ]


def _size(n: int) -> str:
    return f"{n / 1e9:.2f} GB"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
