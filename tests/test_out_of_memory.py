"""Memory that runs out is a MemoryError: nothing is left half done, and the next call is right."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

CODE = """
import resource
import numpy as np, bytenorm as bn

C = 300_000
rng = np.random.default_rng(1)
parameters = *rng.normal(size=(3, C)), rng.uniform(0.5, 2, C)
norm = bn.BatchNorm(*parameters, output_scale=0.05, output_zero_point=100, axis=AXIS)
shape = (C, 2) if AXIS == 0 else (2, C)
a, b = (bn.QuantizedTensor(rng.integers(0, 256, shape, np.uint8), 0.03, zero) for zero in (7, 120))
first = norm(a)  # the same numbers, prepared for a single use
out = np.full(shape, 9, np.uint8)
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
bn.set_num_threads(4)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
failed = worked = 0
for more in [2**k for k in range(16, 29)]:
    resource.setrlimit(resource.RLIMIT_AS, (used + more, hard))
    add = lambda: bn.add_batch_norm(a, b, norm, out=out)
    calls = lambda: norm(a, out=out), add, lambda: norm.replace(relu=True)
    for call in calls:
        try:
            call()
            worked += 1
        except MemoryError:
            failed += 1
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
assert failed > 3 and worked > 3, (failed, worked)
assert np.array_equal(norm(a, out=out).data, first.data)
print("done")
"""


@pytest.mark.parametrize("axis", [0, 1])
def test_memory_that_runs_out(run_python, axis):
    done = run_python(f"AXIS = {axis}\n{CODE}")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_every_call_for_memory_that_fails(tmp_path):
    """The first, the second, the third ... in every native entry, and in nodes of models."""
    tests = Path(__file__).parent
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    hook = tmp_path / "failing_new.so"
    command = [*compiler.split(), "-std=c++17", "-O1", "-shared", "-fPIC", "-o", hook, tests / "failing_new.cpp"]
    subprocess.run(command, check=True)
    done = subprocess.run(
        [sys.executable, tests / "failing_calls.py"],
        env={**os.environ, "LD_PRELOAD": str(hook)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 300, done.stdout
