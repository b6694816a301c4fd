"""Compiles for macOS on arm64 and Windows on x86-64 with Zig's Clang: python release/elsewhere.py [--quick].

The ONNX Runtime library is linked, too; of the Python module, whose interpreter is not here, each file is
compiled for macOS, none for Windows. Nothing is run. `--quick` does not optimize and links nothing. Warnings are
errors.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cross
import zig
from commands import run

ROOT = Path(__file__).resolve().parent.parent
TARGETS = (cross.MACOS_ARM64, cross.WINDOWS_X86)


def configure(target: cross.Target, place: Path, *, python: bool, quick: bool) -> Path:
    """Configure a build; return its folder."""
    build = place / ("python" if python else "library")
    options: list[str] = []
    if python:
        (place / "python.lib").touch()
        options = [
            *cross.python_options(cross.numpy_headers(target, place / "numpy")),
            f"-DPython_LIBRARY={place / 'python.lib'}", f"-DPython_SABI_LIBRARY={place / 'python.lib'}",
            "-DSKBUILD_SABI_COMPONENT=Development.SABIModule", "-DSKBUILD_PROJECT_VERSION_FULL=elsewhere",
        ]  # fmt: skip
    options += [f"-DCMAKE_TOOLCHAIN_FILE={zig.toolchain(target, place, links=not quick)}", "-DBYTENORM_WERROR=ON"]
    options += [f"-DBYTENORM_PYTHON={'ON' if python else 'OFF'}", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"]
    run("cmake", "-S", ROOT, "-B", build, "-G", "Ninja", *options)
    return build


def files_of(build: Path, *, quick: bool) -> list[tuple[str, str, str]]:
    """Return the folder, the command and the name of each of our files."""
    found = []
    for entry in json.loads((build / "compile_commands.json").read_text()):
        name = os.path.relpath(entry["file"], ROOT)
        if name.startswith("native"):
            whole = f"{entry['command']} -O0" if quick else entry["command"]
            found.append((entry["directory"], whole, name))
    return found


def compile_one(job: tuple[str, str, str]) -> str:
    """Return what a compiler has to say."""
    folder, command, name = job
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    return f"{name}: {done.stderr}" if done.returncode else ""


def main() -> None:
    """Compile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without optimizing and linking")
    options = parser.parse_args()
    bad = 0
    for target in TARGETS:
        place = ROOT / "build" / "elsewhere" / target.python
        place.mkdir(parents=True, exist_ok=True)
        jobs = {
            name: job
            for job in files_of(
                configure(target, place, python=target.system != "Windows", quick=options.quick),
                quick=options.quick,
            )
            for name in job[2:]
        }
        with ThreadPoolExecutor(2) as pool:
            problems = [problem for problem in pool.map(compile_one, jobs.values()) if problem]
        print(f"{target.python}: {len(jobs) - len(problems)} of {len(jobs)} files compile", flush=True)
        print(*problems, sep="\n", end="\n" if problems else "")
        bad += len(problems)
        if not options.quick and not problems:
            build = configure(target, place, python=False, quick=False)
            run("cmake", "--build", build)
            library = next(f for f in build.iterdir() if f.suffix in (".dylib", ".dll"))
            print(f"{target.python}: {library.name} is linked, {library.stat().st_size} bytes", flush=True)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
