"""Threads: same bits for any number, after a fork, from many Python threads, beside torch, at exit."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

import bytenorm as bn
from bytenorm import _core


@pytest.fixture(autouse=True)
def threads_as_before():
    before = bn.get_num_threads()
    yield
    bn.set_num_threads(before)


def norm_and_input(rng, shape=(4, 64, 80, 80)):
    channels = shape[1]
    norm = bn.BatchNorm(
        *rng.normal(size=(3, channels)), rng.uniform(0.1, 2, channels), output_scale=0.04, output_zero_point=100
    )
    return norm, bn.QuantizedTensor(rng.integers(0, 256, shape).astype(np.uint8), 0.03, 120)


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 8, 17])
@pytest.mark.parametrize(
    "shape", [(4, 64, 80, 80), (1, 3, 640, 640), (1, 1, 1000, 999), (5000, 130), (7, 50, 40, 41)], ids=str
)
def test_any_number_of_threads(rng, threads, shape):
    norm, x = norm_and_input(rng, shape)
    last = bn.QuantizedTensor(np.moveaxis(np.ascontiguousarray(np.moveaxis(x.data, 1, -1)), -1, 1), 0.03, 120)
    bn.set_num_threads(1)
    want = norm(x).data
    bn.set_num_threads(threads)
    for _ in range(3):
        np.testing.assert_array_equal(norm(x).data, want)
        np.testing.assert_array_equal(norm(last).data, want)


def test_many_python_threads_share_the_pool(rng):
    """A call that finds the pool busy runs alone."""
    norm, x = norm_and_input(rng)
    bn.set_num_threads(1)
    want = norm(x).data
    bn.set_num_threads(4)
    wrong = []

    def work():
        for _ in range(30):
            if not np.array_equal(norm(x).data, want):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not wrong


@pytest.mark.parametrize("used_before", [False, True])
def test_fork(rng, used_before):
    """A child has none of its parent's workers and must not wait for them."""
    code = f"""
import os, numpy as np, bytenorm as bn, signal
signal.alarm(60)
bn.set_num_threads(4)
rng = np.random.default_rng(1)
norm = bn.BatchNorm(None, None, np.zeros(64), np.ones(64), output_scale=0.04, output_zero_point=100)
x = bn.QuantizedTensor(rng.integers(0, 256, (4, 64, 80, 80)).astype(np.uint8), 0.03, 120)
want = norm(x).data if {used_before} else None
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        a = norm(x).data
        grandchild = os.fork()
        b = norm(x).data
        good = np.array_equal(a, b) and (want is None or np.array_equal(a, want))
        if grandchild:
            good = good and os.waitpid(grandchild, 0)[1] == 0
        os._exit(0 if good else 1)
    children.append(pid)
first = norm(x).data
assert want is None or np.array_equal(first, want)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_process_ends_while_workers_wait():
    """Waiting workers neither keep a process alive nor end it with an error."""
    code = """
import numpy as np, bytenorm as bn, threading
bn.set_num_threads(8)
norm = bn.BatchNorm(None, None, np.zeros(64), np.ones(64), output_scale=0.04, output_zero_point=100)
x = bn.QuantizedTensor(np.ones((4, 64, 80, 80), np.uint8), 0.03, 120)
threading.Thread(target=lambda: [norm(x) for _ in range(300)], daemon=True).start()
for _ in range(20): norm(x)
"""
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_in_a_process_that_runs_torch(rng):
    norm, x = norm_and_input(rng)
    want = norm(x).data
    bn.set_num_threads(3)
    torch.set_num_threads(2)
    a = torch.randn(400, 400)
    product = a @ a
    for _ in range(20):
        np.testing.assert_array_equal(norm(x).data, want)
        assert torch.equal(a @ a, product)


def test_default_is_the_affinity_mask():
    cpus = min(len(os.sched_getaffinity(0)), 8)
    code = "import bytenorm as bn; print(bn.get_num_threads())"
    environment = {k: v for k, v in os.environ.items() if k != "BYTENORM_NUM_THREADS"}
    for extra, want in (({}, cpus), ({"BYTENORM_NUM_THREADS": "5"}, 5)):
        out = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**environment, **extra}
        )
        assert int(out.stdout) == want
    one = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}}); " + code
    assert (
        int(
            subprocess.run(
                [sys.executable, "-c", one], capture_output=True, text=True, check=True, env=environment
            ).stdout
        )
        == 1
    )


@pytest.mark.parametrize(
    ("n", "error"),
    [(0, ValueError), (-1, ValueError), (1025, ValueError), (2.0, TypeError), ("2", TypeError), (True, TypeError)],
)
def test_set_num_threads_refuses(n, error):
    with pytest.raises(error, match="n must be"):
        bn.set_num_threads(n)


def test_a_thread_that_works_alone_is_the_only_one():
    """Other threads, and what is set for the process, know nothing of it."""
    bn.set_num_threads(4)
    assert _core.work_alone(True) is False
    try:
        assert bn.get_num_threads() == 1
        elsewhere = []
        other = threading.Thread(target=lambda: elsewhere.append(bn.get_num_threads()))
        other.start()
        other.join()
        assert elsewhere == [4]
        bn.set_num_threads(3)
        assert bn.get_num_threads() == 1
    finally:
        assert _core.work_alone(False) is True
    assert bn.get_num_threads() == 3
