"""Interrupted, terminated, hung up: nothing is left half-written."""

import os
import signal

import pytest
from command_line import DIGITS, contents
from onnxruntime import quantization as ort_quantization

from bytenorm.onnx.measurement import inspection
from bytenorm.onnx.quantization import comparing


@pytest.mark.parametrize(
    "place_of",
    [
        (ort_quantization, "quantize_static"),
        (comparing, "compare"),
        (os, "fsync"),
    ],
    ids=["quantizing", "comparing", "writing"],
)
def test_an_interruption_leaves_nothing(place_of, made, bad, run, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(*place_of, interrupt)
    before = contents(bad)
    arguments = ["quantize", DIGITS, "--data", made / "data.npz", "-o", "there.onnx", "--force"]
    assert run(*arguments) == (130, "", "bytenorm: interrupted\n")
    assert contents(bad) == before


SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


@pytest.fixture
def quantizing(made, bad, run, monkeypatch):
    """Run a function in the middle of a command, which it ends; return the command's code and what it wrote."""

    def call(inside, *options):
        monkeypatch.setattr(ort_quantization, "quantize_static", lambda *_, **__: inside())
        before = contents(bad), {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
        done = run("quantize", DIGITS, "--data", made / "data.npz", "-o", "there.onnx", "--force", *options)
        assert (contents(bad), {number: signal.getsignal(number) for number in before[1]}) == before
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        return done

    return call


def forever():
    while True:
        signal.pause()  # until the next try


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_signals(number, quantizing):
    before = signal.signal(number, lambda *_: None)  # under nohup one is ignored, and stays so
    try:
        done = quantizing(lambda: signal.raise_signal(number))
    finally:
        signal.signal(number, before)
    assert done == (128 + number, "", f"bytenorm: {SIGNALS[number]}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_signals_that_were_ignored(number, quantizing):
    """As a shell starts a command in the background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        done = quantizing(lambda: signal.raise_signal(number))
    finally:
        signal.signal(number, before)
    assert done == (128 + number, "", f"bytenorm: {SIGNALS[number]}\n")


def test_nohup(made, place, output, monkeypatch):
    find_norms = inspection.find_norms

    def hang_up(graph, **options):
        signal.raise_signal(signal.SIGHUP)
        return find_norms(graph, **options)

    monkeypatch.setattr(inspection, "find_norms", hang_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        output("inspect", DIGITS)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_first_signal_counts(quantizing):
    def several():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:  # what cleans up is not disturbed
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            cleaned.append(True)

    cleaned = []
    assert quantizing(several) == (143, "", "bytenorm: terminated\n")
    assert cleaned == [True]


def test_a_signal_waits_for_the_end_of_an_import(quantizing, tmp_path, monkeypatch):
    (tmp_path / "slowly_imported.py").write_text("import signal\nsignal.raise_signal(2)\nwhole = True\n")
    monkeypatch.syspath_prepend(tmp_path)

    def load():
        import slowly_imported

        assert slowly_imported.whole
        forever()

    assert quantizing(load) == (130, "", "bytenorm: interrupted\n")


def test_a_signal_that_is_lost_is_tried_again(quantizing):
    class Finalized:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def lose():
        Finalized()
        forever()

    def make_another_of_it():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    for inside in (lose, make_another_of_it):
        assert quantizing(inside) == (130, "", "bytenorm: interrupted\n")


def test_threads_that_take_long_to_begin(run_python):
    """Are no sign of anything, nor are those that are over: no clock tells that one will never begin."""
    done = run_python("""
import threading
from bytenorm.cli.endings import ending, has_unborn_threads, noticing_unborn_threads
begin, asked, may, seen = threading.Thread._bootstrap, threading.Event(), threading.Event(), []
def beginning(thread):
    if thread.name == "slow":
        asked.set()
        may.wait()
    begin(thread)
def look():
    asked.wait()
    seen.append((slow in threading._limbo, has_unborn_threads()))
    may.set()
threading.Thread._bootstrap = beginning
with ending(), noticing_unborn_threads():
    slow = threading.Thread(target=int, name="slow")
    threading.Thread(target=look).start()
    slow.start()
    slow.join()
    seen.append((slow in threading._limbo, has_unborn_threads()))
print(seen, threading.Thread._bootstrap is beginning)
""")
    assert (done.stdout, done.stderr) == ("[(True, False), (False, False)] True\n", "")
