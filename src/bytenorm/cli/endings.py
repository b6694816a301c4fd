"""The signals that end a command: each becomes an exception, at a moment that leaves nothing behind."""

from __future__ import annotations

import multiprocessing.process
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from types import FrameType

from .._system.signals import Alarm, blocked
from .._system.standstill import Standstill

_ENDING = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}
ENDING = {signal.Signals[name]: said for name, said in _ENDING.items() if hasattr(signal, name)}
SIGNALLED = 128  # and the signal's number: the exit code of what a signal has ended
AGAIN = 0.02  # seconds, after which a signal that had to wait is tried again


class Ended(KeyboardInterrupt):
    """A signal has come that ends the command; libraries let a KeyboardInterrupt pass."""

    def __init__(self, number: int) -> None:
        super().__init__(ENDING[signal.Signals(number)])
        self.number = number


class _Waiting:
    """The signal that has come, if one has, what it has to wait for, and what then calls for it."""

    number: int | None = None
    held = 0
    held_by_others = 0  # of these, those in whose blocks other processes may keep this one waiting
    standstill = Standstill()  # of these
    again = False
    late = False
    at_once = False
    alarm = Alarm()
    threads: dict[threading.Thread, weakref.ref[Callable[[], None]]] | None = None  # and what each runs, if known


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
    _Waiting.held_by_others, _Waiting.again, _Waiting.standstill = 0, False, Standstill()
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

    But where the first one waits for other processes, which may never be ready, the next one ends that.
    An exception in a module that is being imported becomes an ImportError, or ends the process (onnx's, 1 in 200).
    One in a finalizer is lost. One in what the first has set going would keep that from cleaning up.
    """
    if number != _Waiting.alarm.number:
        _note(number)
    elif _Waiting.held_by_others:
        for waiting in signal.sigpending() & set(ENDING):
            _note(signal.sigwait([waiting]))
    if _Waiting.number is None:
        if not _Waiting.late and has_unborn_threads():
            raise MemoryError
        # One that died before anybody watched it has left nobody to wait for.
        if _Waiting.held_by_others and _Waiting.standstill.look(_children() or [os.getpid()]):
            raise TimeoutError("a process of the command waits without end: memory may be short")
        return
    now = _Waiting.held == 0 or (_Waiting.again and not _Waiting.late)
    if now and not _cleaning_up() and not _importing(frame):
        raise Ended(_Waiting.number)


def _children() -> list[int]:
    """Return the processes that were started; `active_children` takes away the ends that others wait for."""
    started = list(multiprocessing.process._children)  # type: ignore[attr-defined]
    return [child.pid for child in started if child.pid is not None]


def _note(number: int) -> None:
    """Take note of a signal that ends the command."""
    if _Waiting.number is None:
        _Waiting.number = number
        _Waiting.alarm.start(number, AGAIN)
    elif _Waiting.alarm.number is not None and _Waiting.held_by_others:
        _Waiting.again = _Waiting.at_once = True


@contextmanager
def noticing_unborn_threads() -> Iterator[None]:
    """Raise MemoryError in the block if a thread that is started never begins, as where memory is short.

    Python then waits for it without end, and so may what is to clean up: the error is raised again each second.
    That it never begins is known when what it was to run has been let go, however long it takes to get there.
    """
    if _Waiting.alarm.number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    begin = threading.Thread._bootstrap  # type: ignore[attr-defined]

    def watched(thread: threading.Thread) -> Callable[[], None]:
        run = partial(begin, thread)
        if _Waiting.threads is not None:
            _Waiting.threads[thread] = weakref.ref(run)
        return run

    _Waiting.threads = {}
    _Waiting.alarm.start(_Waiting.alarm.number, 1.0)
    sys.warnoptions.append("ignore")  # of Pythons that are started: one remarks what it has to tidy up
    threading.Thread._bootstrap = property(watched)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        threading.Thread._bootstrap = begin  # type: ignore[attr-defined]
        sys.warnoptions.remove("ignore")
        _Waiting.at_once = True
        if _Waiting.number is None and not has_unborn_threads():
            signal.setitimer(signal.ITIMER_REAL, 0)
            _Waiting.threads = None


def has_to_end_at_once(code: int) -> bool:
    """Say whether other libraries' threads are about, which at an exit may wait for each other without end.

    Where a signal has ended the command, with such a code, they have cleaned up, unless it took a second one.
    """
    return _Waiting.at_once and (_Waiting.again or code < SIGNALLED)


def has_unborn_threads() -> bool:
    """Say whether a thread that was started has ended before it began.

    The system lets go of what a thread is to run when that has ended, which is not before the thread has begun,
    unless Python had no memory for it.
    """
    if _Waiting.threads is None:
        return False
    for thread, run in list(_Waiting.threads.items()):
        ended = run() is None
        if thread not in threading._limbo:  # type: ignore[attr-defined]
            _Waiting.threads.pop(thread, None)
        elif ended:
            return True
    return False


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
        them. A second signal does not wait, as they may never be ready; what is left is for the system to remove.
    """
    _Waiting.held += 1
    _Waiting.held_by_others += from_children
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
        _Waiting.held_by_others -= from_children
