"""What only some systems have is not needed."""

import os
import re
import sys
from pathlib import Path

import onnxruntime
import pytest

from bytenorm import _core
from bytenorm import onnx as bno
from bytenorm._system import machine

# What the package uses of these where it is there; Windows has none of it.
OF_POSIX = {
    "os": [
        "O_DIRECTORY",
        "fchmod",
        "fchown",
        "getegid",
        "geteuid",
        "register_at_fork",
        "sched_getaffinity",
        "sysconf",
    ],
    "signal": ["ITIMER_REAL", "SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "pause", "pthread_sigmask", "setitimer"],
}
WITHOUT_POSIX = f"""
import multiprocessing, os, signal, subprocess, sys
import numpy, onnx, onnxruntime, rich  # they have their own ways
from multiprocessing import resource_tracker
for module, names in {OF_POSIX}.items():
    for name in names:
        delattr(sys.modules[module], name)
"""


@pytest.mark.thorough
def test_the_package_works_without_what_posix_has(run_python, tmp_path):
    """Core, command, models, and files that are replaced."""
    done = run_python(
        WITHOUT_POSIX
        + f"""
import bytenorm as bn
from bytenorm._system import machine
from bytenorm import onnx as bno
from bytenorm.cli import main
assert (machine.cpus(), machine.memory()) == (os.cpu_count(), sys.maxsize)
q = bn.QuantizedTensor(numpy.arange(8, dtype="uint8").reshape(2, 2, 2), 0.1, 3)
bn.BatchNorm([1, 2], [0, 1], [0, 0], [1, 1], output_scale=0.1, output_zero_point=0)(q)
numpy.savez({str(tmp_path / "data.npz")!r}, image=numpy.ones((4, 1, 28, 28), "float32"))
for _ in range(2):
    assert main(["quantize", bno.digits_model(), "--data", {str(tmp_path / "data.npz")!r}, "--fast", "--force",
                 "-o", {str(tmp_path / "made.onnx")!r}]) == 0
assert main(["inspect", "nowhere.onnx"]) == 2
assert not any(name.startswith((".bytenorm", "bytenorm")) for name in os.listdir({str(tmp_path)!r}))
""",
        TMPDIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr


def test_an_interrupt_that_has_to_wait_comes_without_a_timer(run_python):
    """One that comes during an import, as test_cli_signals has it with a timer."""
    done = run_python(
        WITHOUT_POSIX
        + """
import time
from bytenorm.cli.endings import Ended, ending, held
try:
    with ending():
        with held():
            signal.raise_signal(signal.SIGINT)
            print("held")
        while True:
            time.sleep(0.01)
except Ended as error:
    print(error.number, error)
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""
    )
    assert (done.returncode, done.stdout) == (0, "held\n2 interrupted\n"), done.stderr


def test_the_machine_is_asked_where_it_tells(monkeypatch):
    assert machine.cpus() == len(os.sched_getaffinity(0))
    assert 1 << 20 < machine.memory() < sys.maxsize
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cpus() == 1


def test_instruction_sets_are_those_that_the_system_lists():
    """Our own question to the processor, beside Linux's: a set of which a part is missing is none."""
    flags = set(re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1].split())
    needs = {"scalar": set(), "avx2": {"avx2", "fma"}}
    needs["avx512"] = needs["avx2"] | {"avx512f", "avx512bw", "avx512vl", "avx512dq"}
    needs["avx512vbmi"] = needs["avx512"] | {"avx512vbmi", "avx512_vnni"}
    assert _core.isas() == [name for name, wanted in needs.items() if wanted <= flags]


def test_the_oldest_runtime_cannot_quantize(monkeypatch):
    """It runs and lowers models; its quantizer lacks what is asked of it."""
    monkeypatch.setattr(onnxruntime, "__version__", "1.17.3")
    with pytest.raises(ImportError, match=r"ONNX Runtime 1\.18 or newer, this is 1\.17\.3"):
        bno.quantize(bno.digits_model(), [])
