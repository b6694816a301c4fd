"""Interrupts that wait while processes are started."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Let an interrupt wait for the end of the block; to be entered in the main thread.

    A terminal sends it to all processes that a command has started. Those, and threads, that are started in the
    block never get it: they have it blocked, as they inherit. Their parent ends them.
    """
    waiting = []
    resource_tracker.ensure_running()  # which, started with the first process, would unblock it again
    # A thread from before the block may still get it, which Python then hands to this one.
    before = signal.signal(signal.SIGINT, lambda *_: waiting.append(True))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt
