"""A worker that is killed in the middle of its work, and a record of what all workers did."""

import os
import signal
from pathlib import Path

from distributed import WorkerPlugin


class DieOnce(WorkerPlugin):
    """Kill the first worker that has finished so many tasks of a name, before it can tell of the last of them."""

    name = "die-once"

    def __init__(self, folder, prefix, after):
        self.folder, self.prefix, self.after = folder, prefix, after

    def setup(self, worker):
        self.finished = 0

    def transition(self, key, start, finish, **kwargs):
        if finish != "memory" or start != "executing" or not str(key).startswith(self.prefix):
            return
        with Path(self.folder, f"{os.getpid()}.log").open("a") as log:
            log.write(f"{key}\n")
        self.finished += 1
        if self.finished < self.after:
            return
        try:
            with Path(self.folder, "killed").open("x") as killed:
                killed.write(f"{os.getpid()} {key}")
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)
