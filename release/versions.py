"""Tries a wheel with the oldest and the newest versions that are declared: python release/versions.py WHEEL...

Each row is an environment of its own: what is named is installed, and what pip takes for the rest. The smoke test
and fast tests of the parts run there; torch's rows, some gigabytes, with `--torch`. Pythons that the machine lacks
are Debian's, unpacked. Prints a table for docs/platforms.md; ends with 1 where anything failed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cross
import pythons
from commands import run

ROOT = Path(__file__).resolve().parent.parent
CORE = ("test_kernels.py", "test_layouts.py", "test_dtypes.py", "test_hostile_arrays.py")  # that import no torch
ONNX = ("test_onnx_operator.py", "test_onnx_folding.py")
TORCH = ("test_torch_operator.py", "test_torch_modules.py")
NEEDED = ("pytest", "hypothesis")


@dataclass(frozen=True)
class Row:
    """A Python, what is asked for there, and what is tried."""

    python: str
    requirements: tuple[str, ...]
    extras: str
    tests: tuple[str, ...]


ROWS = (
    Row("3.11", ("numpy==1.26.4", "onnx==1.16.2", "onnxruntime==1.17.3"), "onnx", CORE + ONNX),
    Row("3.12", ("numpy==1.26.4", "onnx==1.16.2", "onnxruntime==1.17.3"), "onnx", CORE + ONNX),
    Row("3.11", (), "onnx", CORE + ONNX),
    Row("3.12", (), "onnx", CORE + ONNX),
    Row("3.13", (), "onnx", CORE + ONNX),
    Row("3.14", (), "onnx", CORE + ONNX),
)
TORCH_ROWS = (
    Row("3.11", ("torch==2.13.*",), "onnx,torch", TORCH),
    Row("3.11", ("torch==2.14.*",), "onnx,torch", TORCH),
)
SHOWN = ("numpy", "onnx", "onnxruntime", "torch")


def wheel_for(python: str, wheels: list[Path]) -> Path:
    """Return the wheel of a Python: of the stable interface but for 3.11."""
    tag = "-cp311-cp311-" if python == "3.11" else "-cp312-abi3-"
    return next(wheel for wheel in wheels if tag in wheel.name)


def installed(row: Row, python: Path, wheel: Path, place: Path) -> tuple[list[Path | str], dict[str, str]]:
    """Install what a row asks for; return the command of its Python, and the environment that it needs."""
    wanted = (f"{wheel}[{row.extras}]", *row.requirements, *NEEDED)
    if python.is_relative_to(ROOT):  # unpacked: it has no pip
        shutil.rmtree(place, ignore_errors=True)
        cross.install(cross.LINUX_X86, row.python, place, *wanted)
        return [python], {**os.environ, "PYTHONPATH": str(place)}
    inner = place / "bin/python"
    if not inner.exists():
        run(python, "-m", "venv", place)
    run(inner, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wheel)
    run(inner, "-m", "pip", "install", "--quiet", *wanted)
    return [inner], {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def tried(row: Row, python: Path, wheel: Path) -> tuple[list[str], str, bool]:
    """Return the versions, what happened, and whether all is well."""
    name = "-".join([row.python, *(re.sub(r"[^\w.]+", "", text) for text in row.requirements)])
    place = ROOT / "build" / "versions" / name
    try:
        inner, environment = installed(row, python, wheel, place)
    except SystemExit as problem:
        return [row.python], f"not installed: {str(problem).strip().splitlines()[-1]}", False

    def ran(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*inner, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True,
                              text=True, check=False)  # fmt: skip

    code = f"import importlib.metadata as m; print(*(m.version(n) if n in {row.extras + ',numpy,onnxruntime'!r} "
    code += f"else '' for n in {SHOWN!r}), sep=',')"
    versions = ran("-c", code).stdout.strip()
    smoke = ran(ROOT / "release/smoke.py", "onnx")
    said = "smoke test" if smoke.returncode == 0 else f"smoke test fails: {smoke.stderr.strip().splitlines()[-1]}"
    tests = ran(
        "-m", "pytest", "-p", "no:cacheprovider", "-m", "not thorough", *(f"tests/{name}" for name in row.tests)
    )
    lines = tests.stdout.strip().splitlines() or tests.stderr.strip().splitlines() or ["nothing"]
    (place / "tests.log").write_text(tests.stdout + tests.stderr, encoding="utf-8")
    return (
        [row.python, *versions.split(",")],
        f"{said}; {lines[-1].strip('= ')}",
        not (smoke.returncode or tests.returncode),
    )


def main() -> None:
    """Try each row for which there is a Python."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", type=Path, nargs="+")
    parser.add_argument("--torch", action="store_true", help="with the rows of torch")
    options = parser.parse_args()
    good, rows = True, (*ROWS, *(TORCH_ROWS if options.torch else ()))
    machine = pythons.of_the_machine()
    missing = tuple({row.python for row in rows} - set(machine))
    machine |= pythons.of_debian(missing, "amd64", ROOT / "build/pythons")
    print("| Python | NumPy | onnx | ONNX Runtime | torch | |\n|---|---|---|---|---|---|", flush=True)
    for row in rows:
        if row.python not in machine:
            continue
        wheel = wheel_for(row.python, options.wheels).absolute()
        versions, happened, well = tried(row, machine[row.python], wheel)
        good &= well
        print(
            "| " + " | ".join([*versions, *[""] * (len(SHOWN) + 1 - len(versions)), happened]) + " |", flush=True
        )
    sys.exit(not good)


if __name__ == "__main__":
    main()
