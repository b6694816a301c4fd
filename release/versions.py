"""Tries a wheel with the oldest and the newest versions that are declared: python release/versions.py WHEEL...

Each row is an environment of its own: what is named is installed, and what pip takes for the rest. The smoke test
and fast tests of the parts run there; torch's rows, some gigabytes, with `--torch`. Prints a table for
docs/platforms.md; ends with 1 where anything failed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pythons

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


def tried(row: Row, python: Path, wheel: Path) -> tuple[list[str], str, bool]:
    """Return the versions, what happened, and whether all is well."""
    name = "-".join([row.python, *(re.sub(r"[^\w.]+", "", text) for text in row.requirements)])
    place = ROOT / "build" / "versions" / name
    inner = place / "bin/python"
    if not inner.exists():
        subprocess.run([python, "-m", "venv", place], check=True)
    install = [inner, "-m", "pip", "install", "--quiet", "--force-reinstall", "--no-deps", wheel]
    subprocess.run(install, check=True, capture_output=True)
    install = [inner, "-m", "pip", "install", "--quiet", f"{wheel}[{row.extras}]", *row.requirements, *NEEDED]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        return [row.python], f"not installed: {done.stderr.strip().splitlines()[-1]}", False
    code = f"import importlib.metadata as m; print(*(m.version(n) if n in {row.extras + ',numpy,onnxruntime'!r} "
    code += f"else '' for n in {SHOWN!r}), sep=',')"
    versions = subprocess.run([inner, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    smoke = subprocess.run(
        [inner, "-I", ROOT / "release/smoke.py", "onnx"], capture_output=True, text=True, check=False
    )
    said = "smoke test" if smoke.returncode == 0 else f"smoke test fails: {smoke.stderr.strip().splitlines()[-1]}"
    tests = [f"tests/{name}" for name in row.tests]
    ran = subprocess.run([inner, "-m", "pytest", "-p", "no:cacheprovider", *tests],
                         cwd=ROOT, capture_output=True, text=True, check=False)  # fmt: skip
    lines = ran.stdout.strip().splitlines() or ran.stderr.strip().splitlines() or ["nothing"]
    (place / "tests.log").write_text(ran.stdout + ran.stderr, encoding="utf-8")
    return (
        [row.python, *versions.split(",")],
        f"{said}; {lines[-1].strip('= ')}",
        not (smoke.returncode or ran.returncode),
    )


def main() -> None:
    """Try each row for which there is a Python."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", type=Path, nargs="+")
    parser.add_argument("--torch", action="store_true", help="with the rows of torch")
    options = parser.parse_args()
    machine, good = pythons.of_the_machine(), True
    print("| Python | NumPy | onnx | ONNX Runtime | torch | |\n|---|---|---|---|---|---|", flush=True)
    for row in (*ROWS, *(TORCH_ROWS if options.torch else ())):
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
