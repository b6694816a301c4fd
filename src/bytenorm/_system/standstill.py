"""Whether processes do nothing but wait, and not for a processor: a busy machine makes them slow, not still."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

LOOKS = 60  # in a row
LITTLE = 10  # ticks of a processor between two looks, which beats of a heart take: a hundred are a second


class Standstill:
    """Looks at processes from time to time; only Linux tells what is wanted of them."""

    def __init__(self) -> None:
        self._looks = 0
        self._before: dict[str, int] = {}

    def look(self, processes: Iterable[int]) -> bool:
        """Say whether each thread of these slept at all of the last looks, and next to none has run in between."""
        now: dict[str, int] = {}
        asleep = True
        for process in processes:
            for thread in Path("/proc").glob(f"{process}/task/*/stat"):
                try:
                    # A name may have anything in it; the rest are numbers and the state.
                    fields = thread.read_text(errors="replace").rpartition(")")[2].split()
                    now[str(thread)] = int(fields[11]) + int(fields[12])
                    asleep &= fields[0] == "S"
                except (OSError, IndexError):  # it has ended
                    asleep = False
        same = bool(now) and now.keys() == self._before.keys()
        still = same and asleep and sum(now.values()) - sum(self._before.values()) <= LITTLE
        self._looks = self._looks + 1 if still else 0
        self._before = now
        return self._looks >= LOOKS
