"""Cycles of the NEON kernels for 16 bytes, by LLVM's models of ARM's processors: python -m benchmarks.cycles.

Needs a cross compiler (Debian's g++-aarch64-linux-gnu) and llvm-mca (llvm-19), both named by options. The inner
loop of each function of cycles.cpp, as it is compiled, runs 300 times in the model. No memory, no caches and no
mispredicted branch: what comes out compares loops with each other, and is no time.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
CPUS = ("neoverse-n1", "neoverse-v1", "neoverse-v2")
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-stack-protector"]
RUNS = 300
VECTOR = 16


def compile_loops(compiler: str) -> str:
    """Return cycles.cpp as assembly, with the options of the build."""
    command = [compiler, *FLAGS, "-I", str(HERE.parent / "native"), "-S", "-o", "-", str(HERE / "cycles.cpp")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def inner_loop(lines: list[str]) -> list[str]:
    """Return the first run of instructions, from a label to a jump back to it, that has no such run inside."""
    labels, loops = {}, []
    for at, line in enumerate(lines):
        if label := re.match(r"(\.L\w+):", line):
            labels[label[1]] = at
        elif (jump := re.match(r"\s+(?:b\.?\w*|cbn?z|tbn?z)\s.*?(\.L\w+)$", line)) and jump[1] in labels:
            loops.append((labels[jump[1]], at))
    inner = [(a, b) for a, b in loops if not any((a, b) != (c, d) and a <= c and d <= b for c, d in loops)]
    start, end = min(inner)
    return [line for line in lines[start : end + 1] if re.match(r"\s+[a-z]", line)]


def cycles(loop: list[str], cpu: str, model: str) -> float:
    """Return what one turn of a loop takes."""
    command = [model, "-mtriple=aarch64-linux-gnu", f"-mcpu={cpu}", f"-iterations={RUNS}"]
    said = subprocess.run(command, input="\n".join(loop), capture_output=True, text=True, check=True).stdout
    (total,) = re.findall(r"Total Cycles:\s+(\d+)", said)
    return int(total) / RUNS


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", default="aarch64-linux-gnu-g++")
    parser.add_argument("--llvm-mca", default="llvm-mca-19")
    options = parser.parse_args()
    for option, program in (("--compiler", options.compiler), ("--llvm-mca", options.llvm_mca)):
        if shutil.which(program) is None:
            parser.error(f"{option}: there is no {program} here")
    assembly = compile_loops(options.compiler).splitlines()
    print(f"| loop | instructions | {' | '.join(CPUS)} |\n|---|{'---|' * (1 + len(CPUS))}")
    starts = [at for at, line in enumerate(assembly) if re.match(r"[a-z]\w+_\d+:", line)]
    for start, end in zip(starts, [*starts[1:], len(assembly)], strict=True):
        name, size = assembly[start].rstrip(":").rsplit("_", 1)
        loop = inner_loop(assembly[start:end])
        share = VECTOR / int(size)
        cells = [f"{share * cycles(loop, cpu, options.llvm_mca):.1f}" for cpu in CPUS]
        print(f"| {name.replace('_', ' ')} | {share * len(loop):.0f} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
