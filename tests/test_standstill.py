"""Processes at a standstill are told from those that are slow: no look at a clock is needed."""

import os
import subprocess
import sys
import threading

import pytest

from bytenorm._system import standstill
from bytenorm._system.standstill import Standstill


@pytest.fixture
def started():
    children = []

    def start(code):
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        children.append(child)
        assert child.stdout.readline()
        return child.pid

    yield start
    for child in children:
        child.kill()
        child.communicate()


def looks(process, most):
    """Return after how many looks there is a standstill, or None."""
    watch = Standstill()
    return next((n for n in range(1, most + 1) if watch.look([process])), None)


@pytest.mark.parametrize("beats", [False, True])
def test_a_process_that_sleeps(started, beats):
    """Or that only wakes up to sleep on, as a worker does that waits for what will not come."""
    code = (
        "import time\nprint(flush=True)\nwhile True: time.sleep(0.01)" if beats else "print(flush=True); input()"
    )
    pid = started(code)
    found = looks(pid, 100_000)
    assert found is not None and found > standstill.LOOKS


@pytest.mark.parametrize("thread", [False, True])
def test_a_process_that_works(started, thread):
    """Or that waits for a processor to do so, which looks the same."""
    work = "import threading\ndef work():\n    while True: pass\nprint(flush=True)\n"
    pid = started(work + ("threading.Thread(target=work).start(); input()" if thread else "work()"))
    assert looks(pid, 3 * standstill.LOOKS) is None


def test_this_process():
    """All threads but the one that looks are asked: one that waits, then one that works."""
    go, end = threading.Event(), threading.Event()

    def wait_and_work():
        go.wait()
        while not end.is_set():
            pass

    thread = threading.Thread(target=wait_and_work)
    thread.start()
    try:
        assert looks(os.getpid(), 100_000) is not None
        go.set()
        assert looks(os.getpid(), 3 * standstill.LOOKS) is None
    finally:
        go.set()
        end.set()
        thread.join()


def test_no_process():
    watch = Standstill()
    assert not any(watch.look([]) for _ in range(3 * standstill.LOOKS))
