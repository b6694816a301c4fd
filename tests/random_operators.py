"""Random calls of the public operators against the specification, bit for bit, and random refusals.

Anything may come together: shapes, orders in memory, steps, cuts, misaligned memory, `out` absent, apart, in
place or overlapping, pieces, sums, types, threads, stores past the cache, every instruction set. Cases are
numbered; a seed, a number and an instruction set are one case.

    python tests/random_operators.py --cases 200000 --seed 1 --isa avx2
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import traceback

import numpy as np
from random_calls import CALLS
from random_refusals import refusal

import bytenorm as bn
from bytenorm import _core

CACHE, THREAD = 64 << 20, 32 << 10  # where stores past the cache and other threads begin


def run_case(seed, number, isa):
    """Run one case; an AssertionError, or anything but the documented errors, if it is wrong."""
    rng = np.random.default_rng((seed, number, _core.isas().index(isa)))
    _core.select_isa(isa)
    _core.set_stream_from(1 if rng.random() < 0.4 else CACHE)
    several = rng.random() < 0.15
    bn.set_num_threads(int(rng.integers(2, 5)) if several else 1)
    _core.set_bytes_a_thread(int(rng.choice((1, 64, 512))) if several else THREAD)
    with np.errstate(all="ignore"):
        if rng.random() < 0.15:
            refusal(rng)
        else:
            CALLS[int(rng.integers(len(CALLS)))](rng)


def work(seed, first, cases, isas, place):
    """Run cases; write the number of each to an open file before it, so that it is known when the process dies."""
    for number in range(first, first + cases):
        isa = isas[number % len(isas)]
        os.pwrite(place, b"%20d" % number, 0)
        try:
            run_case(seed, number, isa)
        except BaseException:
            traceback.print_exc()
            return 1
    return 0


def again(seed, number, isas):
    isa = isas[number % len(isas)]
    return f"python tests/random_operators.py --seed {seed} --first {number} --cases 1 --isa {isa}"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="how many (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed gives other cases (default: %(default)s)"
    )
    parser.add_argument("--first", type=int, default=0, help="the number of the first case (default: %(default)s)")
    parser.add_argument(
        "--isa",
        nargs="+",
        default=_core.isas(),
        choices=_core.isas(),
        help="in turn (default: all of this machine)",
    )
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.worker is not None:
        return work(given.seed, given.first, given.cases, given.isa, given.worker)
    start = time.monotonic()
    with tempfile.TemporaryFile() as place:
        command = [sys.executable, __file__, "--seed", str(given.seed), "--first", str(given.first)]
        command += ["--cases", str(given.cases), "--isa", *given.isa, "--worker", str(place.fileno())]
        code = subprocess.run(command, pass_fds=[place.fileno()], check=False).returncode
        number = int(os.pread(place.fileno(), 20, 0) or given.first)
    if code:
        how = f"ended with {code}" if code != 1 else "failed"
        print(f"case {number} {how}; again: {again(given.seed, number, given.isa)}")
        return 1
    print(f"{given.cases} cases of seed {given.seed} on {', '.join(given.isa)}: {time.monotonic() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
