"""One native thread a task: Dask fills the cores with tasks already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .. import _core


@contextmanager
def one_thread() -> Iterator[None]:
    """Let the calls of this thread run in it alone.

    `bytenorm.set_num_threads` holds for a process, in which a worker may run several tasks at once, and in which
    the threaded scheduler runs beside its user's own calls. This holds for the thread that a task has.
    """
    before = _core.work_alone(True)
    try:
        yield
    finally:
        _core.work_alone(before)
