"""Builds what can be built here of a release, and tries it: python release/wheels.py [--output dist] [--quick].

The source distribution is built first, the wheels from it alone: one of Python's stable interface for 3.12 and
newer, one for 3.11, and one for aarch64, cross-built. They are repaired (auditwheel), audited (abi3audit, twine),
and each is installed into an empty environment of every Python at hand that it is for, without a compiler, where
release/smoke.py runs, README's first example with it. Some tests of the source distribution run from it, unpacked.
Prints a table; ends with 1 where anything failed.

Wheels of a release are built by .github/workflows/wheels.yml, on older systems than this one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tarfile
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import cross
import pythons
import zig
from commands import run

ROOT = Path(__file__).resolve().parent.parent
SMOKE = Path(__file__).with_name("smoke.py")
ONNX_ON = ("3.11", "3.12", "3.13")  # the others take the core alone: fewer downloads
# Tests of a source distribution that need NumPy alone; whether all that its pages link to is in it, among them.
SDIST_TESTS = ("test_docs.py::test_every_relative_link_leads_somewhere", "test_dtypes.py", "test_golden.py",
               "test_layouts.py")  # fmt: skip
MAKERS = ("cmake>=3.26", "ninja")  # beside what pyproject.toml asks for
LARGEST = 1_420_000  # bytes: docs/platforms.md says where they are


@dataclass
class Wheel:
    """A wheel and what became of it."""

    path: Path
    audits: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)


def tool(name: str, *arguments: object) -> str:
    """Run a program of the environment that this Python is of."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return run(Path(sys.executable).parent / name, *arguments, env={**os.environ, "PATH": path})


def build_sdist(output: Path) -> Path:
    """Build the source distribution."""
    run(sys.executable, "-m", "build", "--sdist", "--outdir", output, ROOT)
    return next(output.glob("*.tar.gz"))


def build_wheel(python: Path, source: Path, work: Path, target: cross.Target | None = None) -> Path:
    """Build a wheel in an environment of its own."""
    environment = {**os.environ}
    if target is not None:
        headers = cross.numpy_headers(target, work / f"numpy-{target.python}")
        file = zig.toolchain(target, work / target.python)
        environment |= {
            "_PYTHON_HOST_PLATFORM": target.python,
            "CMAKE_ARGS": f"-DCMAKE_TOOLCHAIN_FILE={file} -DPython_NumPy_INCLUDE_DIR={headers}",
        }
    made = work / f"made-{python.name}-{target.python if target else 'here'}"
    maker = work / f"maker-{python.name}"
    if not maker.exists():
        run(python, "-m", "venv", maker)
        run(maker / "bin/python", "-m", "pip", "install", "--quiet", "build")
    options = ["--outdir", made]
    if target is not None:  # pip would take the other processor's tools for an isolated build
        asked = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
        run(maker / "bin/python", "-m", "pip", "install", "--quiet", *asked, *MAKERS)
        environment["PATH"] = f"{maker / 'bin'}{os.pathsep}{environment['PATH']}"
        options.append("--no-isolation")
    run(maker / "bin/python", "-m", "build", "--wheel", *options, source, env=environment)
    return next(made.glob("*.whl"))


def audited(made: Path, output: Path) -> Wheel:
    """Repair a wheel and look at it."""
    before = set(output.glob("*.whl"))
    tool("auditwheel", "repair", "--wheel-dir", output, made)
    wheel = Wheel(next(iter(set(output.glob("*.whl")) - before)))
    wheel.audits.append("auditwheel")
    if "abi3" in wheel.path.name:
        tool("abi3audit", "--strict", wheel.path)
        wheel.audits.append("abi3audit")
    tool("twine", "check", "--strict", wheel.path)
    wheel.audits.append("twine")
    if wheel.path.stat().st_size > LARGEST:
        sys.exit(f"{wheel.path.name} has {wheel.path.stat().st_size} bytes, more than {LARGEST}")
    return wheel


def try_in_venv(wheel: Wheel, python: Path, place: Path, *, onnx: bool) -> None:
    """Install into an empty environment, where no compiler is to be found, and run."""
    venv_python = place / "bin/python"
    run(python, "-m", "venv", place)
    extra = "[onnx]" if onnx else ""
    bare = {**os.environ, "PATH": str(place / "bin"), "CXX": "/no/compiler", "CC": "/no/compiler"}
    run(venv_python, "-m", "pip", "install", "--quiet", f"{wheel.path}{extra}", env=bare)
    wheel.ran.append(run(venv_python, "-I", SMOKE, *(["onnx"] if onnx else []), env=bare, cwd=place).strip())


def try_tests(source: Path, place: Path) -> str:
    """Run tests of a source distribution, from where it is unpacked, in an environment with its wheel."""
    python = place / "bin/python"
    run(python, "-m", "pip", "install", "--quiet", "pytest", "hypothesis")
    tests = [f"tests/{name}" for name in SDIST_TESTS]
    said = run(python, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not thorough", *tests, cwd=source)
    return said.strip().splitlines()[-1]


def try_unpacked(wheel: Wheel, version: str, python: Path, place: Path, platforms: tuple[str, ...]) -> None:
    """Install beside a Python that has no pip."""
    cross.install(platforms, version, place, wheel.path)
    environment = {"PATH": str(place), "PYTHONPATH": str(place), "HOME": str(place)}
    wheel.ran.append(run(python, SMOKE, env=environment, cwd=place).strip())


def tell(wheel: Wheel) -> None:
    """Print the rows of a wheel."""
    print(f"{wheel.path.name}: {wheel.path.stat().st_size / 1000:.0f} KB; {', '.join(wheel.audits)}")
    for ran in wheel.ran or ["not run: no Python for it here"]:
        print(f"    {ran}", flush=True)


def main() -> None:
    """Build and try."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="a folder, which is emptied")
    parser.add_argument("--quick", action="store_true", help="this machine's Pythons and processor alone")
    options = parser.parse_args()
    output = options.output.absolute()
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    machine = pythons.of_the_machine()
    stable = next((machine[v] for v in pythons.VERSIONS[1:] if v in machine), None)
    with tempfile.TemporaryDirectory(prefix="bytenorm-wheels-") as folder:
        work = Path(folder)
        sdist = build_sdist(output)
        tool("twine", "check", "--strict", sdist)
        print(f"{sdist.name}: {sdist.stat().st_size / 1000:.0f} KB; twine", flush=True)
        with tarfile.open(sdist) as archive:
            archive.extractall(work, filter="data")
        source = work / sdist.name.removesuffix(".tar.gz")
        wheels = []
        if "3.11" in machine:
            wheel = audited(build_wheel(machine["3.11"], source, work), output)
            try_in_venv(wheel, machine["3.11"], work / "try-3.11", onnx=True)
            tell(wheel)
            wheels.append(wheel)
        if stable is not None:
            wheel = audited(build_wheel(stable, source, work), output)
            for version in pythons.VERSIONS[1:]:
                if version in machine:
                    try_in_venv(wheel, machine[version], work / f"try-{version}", onnx=version in ONNX_ON)
            if not options.quick:
                wanted = tuple(v for v in pythons.VERSIONS[1:] if v not in machine)
                unpacked = pythons.of_debian(wanted, "amd64", ROOT / "build/pythons")
                for version, python in unpacked.items():
                    try_unpacked(wheel, version, python, work / f"try-{version}", cross.LINUX_X86)
            tell(wheel)
            wheels.append(wheel)
        if stable is not None and not options.quick:
            wheel = audited(build_wheel(stable, source, work, cross.LINUX_ARM64), output)
            unpacked = pythons.of_debian(("3.13",), "arm64", ROOT / "build/pythons")
            for version, python in unpacked.items():
                try_unpacked(wheel, version, python, work / f"try-arm64-{version}", cross.LINUX_ARM64.numpy)
            tell(wheel)
            wheels.append(wheel)
        print(f"its tests, from it: {try_tests(source, work / f'try-{next(iter(machine))}')}", flush=True)
    digests = {ran.rsplit(" ", 1)[1] for wheel in wheels for ran in wheel.ran}
    if len(digests) != 1:
        sys.exit(f"results differ: {sorted(digests)}")


if __name__ == "__main__":
    main()
