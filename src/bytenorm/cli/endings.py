"""The signals that end a command: each becomes an exception, at a moment that leaves nothing behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType

from .._system.signals import Alarm, blocked

_ENDING = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
ENDING = {signal.Signals[name]: said for name, said in _ENDING.items() if hasattr(signal, name)}
AGAIN = 0.02  # seconds, after which a signal that had to wait is tried again
UNBORN = 20.0  # seconds, after which a thread that has not begun never will; most take a millisecond


class Ended(KeyboardInterrupt):
    """A signal has come that ends the command; libraries let a KeyboardInterrupt pass."""

    def __init__(self, number: int) -> None:
        super().__init__(ENDING[signal.Signals(number)])
        self.number = number


class _Waiting:
    """The signal that has come, if one has, what it has to wait for, and what then calls for it."""

    number: int | None = None
    held = 0
    late = False
    at_once = False
    until = float("inf")  # when to wait no longer
    alarm = Alarm()
    threads: dict[int, float] | None = None  # started and not begun, and since when; None: nobody looks


@contextmanager
def ending(*, ignored_afterwards: bool = False) -> Iterator[None]:
    """Let signals raise `Ended` in the block, where this is the main thread.

    That includes an interrupt that the process was started to ignore, as a shell starts what it runs in the
    background; not a hang-up that it was started to ignore, as nohup does.

    Parameters
    ----------
    ignored_afterwards : bool, optional
        For a process that has nothing to do any more but to end: what comes then is too late.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Waiting.number, _Waiting.held, _Waiting.late, _Waiting.alarm = None, 0, False, Alarm()
    numbers = [n for n in ENDING if ENDING[n] != "hung up" or signal.getsignal(n) is not signal.SIG_IGN]
    if _Waiting.alarm.number is not None:
        numbers.append(_Waiting.alarm.number)
    before = {n: signal.signal(n, _handle) for n in numbers}
    hook, sys.unraisablehook = sys.unraisablehook, _say_nothing_of_ends
    try:
        yield
    finally:
        too_late()
        _Waiting.alarm.stop()
        sys.unraisablehook = hook
        for number, handler in before.items():
            after = signal.SIG_IGN if ignored_afterwards and number in ENDING else handler
            signal.signal(number, signal.SIG_DFL if after is None else after)


def too_late() -> None:
    """Let no signal of the rest of the block raise anything: there is only something left to say."""
    _Waiting.held += 1
    _Waiting.late = True


def came() -> int | None:
    """Return the signal that has come, also if a library has made something else of its exception."""
    return _Waiting.number


def _handle(number: int, frame: FrameType | None) -> None:
    """Raise the first signal that comes, now or when it can be; what comes after it changes nothing.

    An exception in a module that is being imported becomes an ImportError, or ends the process (onnx's, 1 in 200).
    One in a finalizer is lost. One in what the first has set going would keep that from cleaning up.
    """
    if _Waiting.number is None:
        if number == _Waiting.alarm.number:
            if not _Waiting.late and has_unborn_threads():
                raise MemoryError
            if not _Waiting.late and time.monotonic() > _Waiting.until:
                raise TimeoutError("what the command waits for does not come: memory may be short")
            return
        _Waiting.number = number
        _Waiting.alarm.start(number, AGAIN)
    if _Waiting.held == 0 and not _cleaning_up() and not _importing(frame):
        raise Ended(_Waiting.number)


@contextmanager
def noticing_unborn_threads() -> Iterator[None]:
    """Raise MemoryError in the block if a thread that is started never begins, as where memory is short.

    Python then waits for it without end, and so may what is to clean up: the error is raised again each second.
    """
    if _Waiting.alarm.number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _Waiting.threads = {}
    _Waiting.alarm.start(_Waiting.alarm.number, 1.0)
    sys.warnoptions.append("ignore")  # of Pythons that are started: one remarks what it has to tidy up
    try:
        yield
    finally:
        sys.warnoptions.remove("ignore")
        _Waiting.at_once = True
        if _Waiting.number is None and not has_unborn_threads():
            signal.setitimer(signal.ITIMER_REAL, 0)
            _Waiting.threads = None


@contextmanager
def waiting_at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer, within one that notices unborn threads."""
    _Waiting.until = time.monotonic() + seconds
    try:
        yield
    finally:
        _Waiting.until = float("inf")


def has_to_end_at_once() -> bool:
    """Say whether other libraries' threads are about, which at an exit may wait for each other without end."""
    return _Waiting.at_once


def has_unborn_threads() -> bool:
    """Say whether a thread was started so long ago that it will never begin."""
    if _Waiting.threads is None:
        return False
    now, known = time.monotonic(), _Waiting.threads
    limbo = list(threading._limbo)  # type: ignore[attr-defined]
    _Waiting.threads = {id(thread): known.get(id(thread), now) for thread in limbo}
    return any(now - since > UNBORN for since in _Waiting.threads.values())


def _cleaning_up() -> bool:
    error = sys.exception()
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _say_nothing_of_ends(unraisable: sys.UnraisableHookArgs) -> None:
    if not isinstance(unraisable.exc_value, Ended | MemoryError):
        sys.__unraisablehook__(unraisable)


@contextmanager
def held(*, from_children: bool = False) -> Iterator[None]:
    """Let signals wait for the end of the block.

    Parameters
    ----------
    from_children : bool, optional
        A terminal sends interrupts and hang-ups to all processes that a command has started. Those, and threads,
        that are started in the block never get them: they have them blocked, as they inherit. Their parent ends
        them.
    """
    _Waiting.held += 1
    try:
        if not from_children:
            yield
            return
        if os.name == "posix":  # started with the first process, it would unblock them again
            resource_tracker.ensure_running()
        with blocked("SIGINT", "SIGHUP"):
            yield
    finally:
        _Waiting.held -= 1
