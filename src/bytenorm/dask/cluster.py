"""Files counted by the workers of a cluster, one on this machine or somebody's."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import partial

import dask
from distributed import Client, KilledWorker, LocalCluster, as_completed
from distributed.comm.addressing import get_address_host_port, parse_address

from .. import __version__
from .._errors import bad_value
from ..calibration import ChannelStatistics
from ..calibration.files import SHARE, ArrayFile, Reading, count, work_of
from .merging import TOGETHER, merged

CONNECT = 10.0  # seconds to find a scheduler
ARRIVE = 60.0  # seconds for its first worker
SMALLEST_MEMORY = 256_000_000  # bytes of a worker: Python, Dask and a piece, and below what it pauses at


@contextmanager
def local_cluster(workers: int, memory_limit: int | str = "auto") -> Iterator[Client]:
    """Give a client of workers on this machine: a process and a thread each, nothing but this machine hears them.

    Parameters
    ----------
    workers : int
    memory_limit : int or str, optional
        Bytes of each worker; "auto" shares what the machine has.

    Raises
    ------
    ValueError
        If that is less than a worker needs for itself.
    """
    if isinstance(memory_limit, int) and memory_limit < SMALLEST_MEMORY:
        raise bad_value("memory_limit", f"must be at least {SMALLEST_MEMORY} bytes, got {memory_limit}")
    with (
        tempfile.TemporaryDirectory(prefix="bytenorm-") as scratch,
        dask.config.set({"temporary-directory": scratch}),  # of the workers and of this process
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=memory_limit,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # any free port; None would be one that others want, too
            scheduler_kwargs={"dashboard": False},
            preload=[count.__module__, merged.__module__],  # or one without memory for them would not say so
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Give a client of the scheduler at an address.

    Raises
    ------
    ValueError
        If there is no scheduler, it has no workers, or these lack bytenorm or have another version of it.
    """
    try:  # a client of an address that is none would be told so, and wait for 20 seconds at its end
        if parse_address(address)[0] in ("tcp", "tls"):
            get_address_host_port(address)
    except ValueError as error:
        raise bad_value(f"scheduler {address!r}", f"must be an address such as tcp://host:8786: {error}") from None
    try:
        # Not Dask's default, in which a client that fails to connect stays, and with it the scheduler that is set.
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise bad_value(f"scheduler {address!r}", f"cannot be reached: {error}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=ARRIVE)
        except TimeoutError:
            raise bad_value(f"scheduler {address!r}", "has no workers") from None
        try:
            versions = set(client.run(_version).values())
        except ImportError as error:
            raise bad_value(f"scheduler {address!r}", f"has workers without bytenorm: {error}") from None
        if versions != {__version__}:
            others = ", ".join(sorted(versions - {__version__}))
            raise bad_value(
                f"scheduler {address!r}", f"has workers with bytenorm {others}, here it is {__version__}"
            )
        yield client


def _version() -> str:
    return __version__


def count_files(
    client: Client,
    files: Sequence[ArrayFile],
    how: Reading,
    progress: Callable[[int, int], None] = lambda done, whole: None,
    *,
    share: int = SHARE,
) -> ChannelStatistics:
    """Return the statistics of files, counted by a cluster.

    Each task reads its share of the files and returns integers; others merge those. What a worker takes with it
    when it dies is counted again by the rest. Merging is exact, so nothing of that shows in the result.

    Parameters
    ----------
    client : distributed.Client
        Its workers must see the files under the same paths.
    files : sequence of ArrayFile
        As `Reading.look_at` returns them.
    how : Reading
    progress : callable, optional
        Is told the bytes that are done, and all of them.
    share : int, optional
        Bytes that one task reads.

    Raises
    ------
    ValueError
        If a file cannot be read any more, has changed or holds NaN.
    RuntimeError
        If the cluster was lost, or several workers died of the same share.
    """
    axis = how.axis % len(files[0].shape)
    work = work_of(files, how, share)
    whole = sum(file.size for file in files)
    try:
        # Not pure: the same file may hold something else when it is counted another time.
        counted = client.map(partial(count, how=how, channels=files[0].shape[axis]), work, pure=False)
        loads = [sum(piece.size for piece in pieces) for pieces in work]
        sizes = {future.key: load for future, load in zip(counted, loads, strict=True)}
        parts = counted
        while len(parts) > 1:
            groups = [parts[i : i + TOGETHER] for i in range(0, len(parts), TOGETHER)]
            parts = client.map(merged, groups, pure=False)
        # From here on the scheduler drops each part when it is merged: only the last one is asked for.
        arriving = as_completed(counted, loop=client.loop)  # else that of the default client
        del counted
        done = 0
        progress(0, whole)
        for future in arriving:
            if future.status != "finished":
                future.result()
            done += sizes[future.key]
            progress(done, whole)
        found: ChannelStatistics = parts[0].result()
    except KilledWorker as error:
        raise RuntimeError(
            f"workers died again and again while they counted the same files: they may need more memory ({error})"
        ) from None
    except CancelledError as error:
        raise RuntimeError(f"the connection to the scheduler was lost: {error}") from None
    return found
