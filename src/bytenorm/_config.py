"""Threads, and what this build and this machine offer."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from . import _checks, _core
from ._errors import bad_value

MOST_THREADS = 1024

__version__ = _core.version


def _refuse(text: str) -> NoReturn:
    """Refuse a variable; the command, which is not yet there while its package is imported, says it in a line."""
    as_module = ("-m", "bytenorm") in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    if as_module or Path(sys.argv[0]).stem == "bytenorm":
        sys.stderr.write(f"bytenorm: error: {text}\n")
        raise SystemExit(2)
    raise ImportError(text)


def _from_environment() -> None:
    isa, threads = os.environ.get("BYTENORM_ISA"), os.environ.get("BYTENORM_NUM_THREADS")
    if isa is not None and isa not in _core.isas():
        _refuse(f"BYTENORM_ISA={isa!r} is not available: this machine has {', '.join(_core.isas())}")
    _core.select_isa(isa or _core.isas()[-1])
    if threads is not None and not (threads.isdecimal() and 1 <= int(threads) <= MOST_THREADS):
        _refuse(f"BYTENORM_NUM_THREADS={threads!r} must be a whole number from 1 to {MOST_THREADS}")
    _core.set_num_threads(_core.default_num_threads() if threads is None else int(threads))


_from_environment()


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use.

    Parameters
    ----------
    n : int
        From 1 to 1024. Small work takes fewer, no call takes more than 64.

    Raises
    ------
    TypeError, ValueError
        If `n` is no integer or out of range.

    Examples
    --------
    >>> import bytenorm as bn
    >>> before = bn.get_num_threads()
    >>> bn.set_num_threads(2)
    >>> bn.get_num_threads()
    2
    >>> bn.set_num_threads(before)
    """
    number = _checks.integer(n, "n")
    if not 1 <= number <= MOST_THREADS:
        raise bad_value("n", f"must be from 1 to {MOST_THREADS} threads, got {number}")
    _core.set_num_threads(number)


def get_num_threads() -> int:
    """Return how many threads a call may use.

    The environment variable BYTENORM_NUM_THREADS sets the first value; without it, it is the number of CPUs in
    the process's affinity mask, at most 8.

    Returns
    -------
    int

    Examples
    --------
    >>> import bytenorm as bn
    >>> bn.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


def show_config() -> dict[str, Any]:
    """Return the versions and the instruction sets in use: what a bug report needs.

    Returns
    -------
    dict
        version, isa (the one in use; BYTENORM_ISA forces one), isas (what this machine can run), kernels (layout,
        arithmetic and instruction set of each), num_threads, compiler, python, numpy, machine.

    Examples
    --------
    >>> import bytenorm as bn
    >>> bn.show_config()["isa"] in bn.show_config()["isas"]
    True
    """
    return {
        "version": __version__,
        "isa": _core.isa(),
        "isas": _core.isas(),
        "kernels": [" ".join(name).lower() for name in _core.kernel_names()],
        "num_threads": get_num_threads(),
        "compiler": _core.compiler,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
    }
