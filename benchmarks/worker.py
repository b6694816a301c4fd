"""One section in a process of its own: ``python -m benchmarks.worker NAME``, started by `runner`.

Writes one JSON list a line: ["setup", {...}], ["progress", label, done, total], ["case", {...}].
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

import bytenorm as bn

from .results import to_json
from .sections import SECTIONS, Bench


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()

    # What libraries print goes to stderr: stdout is for the lines above.
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def write(*parts: Any) -> None:
        lines.write(json.dumps(parts) + "\n")
        lines.flush()

    section = SECTIONS[options.name]
    if section.pinned:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    write("setup", _setup(section.pinned))
    bench = Bench(options.quick, lambda label, done, total: write("progress", label, done, total))
    for case in section.run(bench):
        write("case", to_json(case))


def _setup(pinned: bool) -> dict[str, Any]:
    if pinned:
        bn.set_num_threads(1)
    setup = {"isa": bn.show_config()["isa"], "threads": bn.get_num_threads(), "pinned": pinned}
    try:
        import torch
    except ImportError:
        return setup
    if pinned:
        torch.set_num_threads(1)
    return {**setup, "torch": torch.backends.cpu.get_cpu_capability()}


if __name__ == "__main__":
    main()
