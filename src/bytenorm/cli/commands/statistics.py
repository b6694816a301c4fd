"""``bytenorm statistics``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..._dtypes import qint8, quint8
from ..._errors import bad_value
from ..._files.given import given_files
from ..._system.machine import cpus
from ...calibration.files import Reading, count_here
from .. import require_extra
from ..console import as_size
from ..endings import held, noticing_unborn_threads
from ..output import require_output
from ..wording import naming

if TYPE_CHECKING:
    import argparse

    from distributed import Client

    from ...calibration import ChannelStatistics
    from ...calibration.files import ArrayFile
    from ..console import Screen

LARGEST = 4 << 30  # bytes of files that one process counts: two seconds, as long as workers take to start
DTYPES = {None: None, "uint8": quint8, "int8": qint8}
NAMES = {
    "scale": "--scale",
    "zero_point": "--zero-point",
    "axis": "--axis",
    "dtype": "--dtype",
    "memory_limit": "--memory-limit",
    "scheduler": "--scheduler",
}

T = TypeVar("T")


def run(options: argparse.Namespace, screen: Screen) -> None:
    """Gather the statistics of files."""
    given = given_files(options.data, [".npy"], "--data")
    paths = list(map(str, given.paths))
    screen.skipped(list(map(str, given.skipped)))
    require_output(options.output, options.force, data=paths)
    how = Reading(_one_or_all(options.scale), _one_or_all(options.zero_point), options.axis, DTYPES[options.dtype])
    with naming(**NAMES), screen.progress() as progress:
        # Where a worker looks for them; it need not have been started in this folder.
        files = how.look_at([str(Path(path).absolute()) for path in paths], [_label(path) for path in paths])
        kind = how.codes(files[0])
        size = sum(file.size for file in files)
        if _is_for_one(options, size):
            workers = None
            found = count_here(files, how, lambda done, whole: progress("counting", done, whole))
        else:
            workers, found = _counted_by_workers(options, files, how, progress)
    found.save(options.output)
    mean, var = found.mean(), found.var()
    channels = files[0].shape[options.axis]
    count = size // files[0].dtype.itemsize // channels
    its = f"{_several(len(files), 'file')}, {as_size(size)} of {files[0].dtype}, {_several(channels, 'channel')}"
    who = "one process" if workers is None else _several(workers, "worker")
    screen.line(f"{its} on axis {options.axis}, {who}")
    screen.line(f"{_several(count, 'value')} a channel, codes from {found.minimum.min()} to {found.maximum.max()}")
    screen.line(
        f"means of the channels from {mean.min():.4g} to {mean.max():.4g}, "
        f"standard deviations from {np.sqrt(var.min()):.4g} to {np.sqrt(var.max()):.4g}"
    )
    screen.line(f"written to {options.output}")
    screen.result(
        data=options.data,
        output=options.output,
        files=len(files),
        size=size,
        dtype=str(kind.numpy),
        channels=channels,
        axis=options.axis,
        scale=how.scale,
        zero_point=how.zero_point,
        workers=workers,
        scheduler=options.scheduler,
        count=count,
        minimum=found.minimum.tolist(),
        maximum=found.maximum.tolist(),
        mean=mean.tolist(),
        var=var.tolist(),
    )


def _label(path: str) -> str:
    return f"--data {path!r}"


def _several(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _one_or_all(values: list[T]) -> T | list[T]:
    return values[0] if len(values) == 1 else values


def _is_for_one(options: argparse.Namespace, size: int) -> bool:
    """Say whether this process counts: no workers are asked for, and it takes no longer than starting some."""
    asked = (options.scheduler, options.workers, options.memory_limit)
    return size <= LARGEST and all(one is None for one in asked)


def _counted_by_workers(
    options: argparse.Namespace, files: list[ArrayFile], how: Reading, progress: Callable[[str, int, int], None]
) -> tuple[int, ChannelStatistics]:
    """Return how many workers there are, and what they counted."""
    require_extra("dask", ("dask", "distributed"))
    from ...dask.cluster import count_files  # noqa: PLC0415 (half a second)

    progress("starting", 0, 0)
    with noticing_unborn_threads(), _cluster(options) as client:
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        return workers, count_files(client, files, how, lambda done, whole: progress("counting", done, whole))


@contextmanager
def _cluster(options: argparse.Namespace) -> Iterator[Client]:
    """Give a client of the cluster that the options name."""
    from ...dask.cluster import connected, local_cluster  # noqa: PLC0415

    if options.scheduler is not None:
        for name, value in (("--workers", options.workers), ("--memory-limit", options.memory_limit)):
            if value is not None:
                raise bad_value(name, f"is for a cluster on this machine, got --scheduler {options.scheduler!r}")
        with connected(options.scheduler) as client:
            yield client
        return
    workers = cpus() if options.workers is None else options.workers
    if workers < 1:
        raise bad_value("--workers", f"must be at least 1, got {workers}")
    with ExitStack() as stack:
        with held(from_children=True):
            client = stack.enter_context(local_cluster(workers, _memory(options.memory_limit)))
        yield client


def _memory(text: str | None) -> int | str:
    if text is None:
        return "auto"
    from dask.utils import parse_bytes  # noqa: PLC0415

    try:
        return int(parse_bytes(text))
    except ValueError:
        raise bad_value("--memory-limit", f"must be a size such as 1GB, got {text!r}") from None
