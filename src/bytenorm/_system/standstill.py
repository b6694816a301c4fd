"""Whether processes do nothing but wait, and not for a processor: a busy machine makes them slow, not still."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

LOOKS = 60  # at which all slept
BACK = 10  # of these, that one takes back at which one did not: a thread that looks for news is awake at times
LITTLE = 10  # ticks of a processor between two looks, which beats of a heart take: a hundred are a second


class Standstill:
    """Looks at processes from time to time; only Linux tells what is wanted of them."""

    def __init__(self) -> None:
        self._looks = 0
        self._before: dict[str, int] = {}

    def look(self, processes: Iterable[int]) -> bool:
        """Say whether the threads of these slept at nearly all of the last looks, and that next to nothing ran.

        Of this process it is all threads but the one that looks.
        """
        now: dict[str, int] = {}
        looking = f"/task/{threading.get_native_id()}/"
        asleep = True
        for process in processes:
            for thread in Path("/proc").glob(f"{process}/task/*/stat"):
                if looking in str(thread):
                    continue
                try:
                    # A name may have anything in it; the rest are numbers and the state.
                    fields = thread.read_text(errors="replace").rpartition(")")[2].split()
                    now[str(thread)] = int(fields[11]) + int(fields[12])
                    asleep &= fields[0] == "S"
                except (OSError, IndexError):  # it has ended
                    asleep = False
        same = bool(now) and now.keys() == self._before.keys()
        idle = same and sum(now.values()) - sum(self._before.values()) <= LITTLE
        self._looks = 0 if not idle else self._looks + 1 if asleep else max(self._looks - BACK, 0)
        self._before = now
        return self._looks >= LOOKS
