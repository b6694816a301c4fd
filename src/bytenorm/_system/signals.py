"""Signals as far as a system has them: on Windows there are few, and neither masks nor timers."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def blocked(*names: str) -> Iterator[None]:
    """Let signals wait, for this thread and what it starts in the block, for good; here, until its end.

    Where the system cannot, nothing waits.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name) for name in names})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # and now they come


class Alarm:
    """Calls for the main thread again and again: with a signal of its own, or with the one it is started for.

    A timer of the system also ends what the thread waits for in a call of the system; another thread, where there
    are no timers, has to wait until that is over.
    """

    def __init__(self) -> None:
        self.number = getattr(signal, "SIGALRM", None) if hasattr(signal, "setitimer") else None
        self._stopped = threading.Event()

    def start(self, number: int, every: float) -> None:
        """Call every so many seconds; `number` is what has come."""
        if self.number is not None:
            signal.setitimer(signal.ITIMER_REAL, every, every)
            return

        def call() -> None:
            while not self._stopped.wait(every):
                _thread.interrupt_main(signal.Signals(number))

        threading.Thread(target=call, daemon=True).start()

    def stop(self) -> None:
        """Call no more."""
        self._stopped.set()
        if self.number is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            # Drops one that is on its way to another thread, which would end the process there.
            signal.signal(self.number, signal.SIG_IGN)
