"""What this machine has, on every system: CPUs and memory."""

import os
import sys


def cpus() -> int:
    """Return how many CPUs this process may use, as far as the system tells."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have none
        return os.cpu_count() or 1


def memory() -> int:
    """Return the bytes of the computer's memory, or as many as can be addressed."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not every system tells
        return sys.maxsize
