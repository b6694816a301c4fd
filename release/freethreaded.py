"""Builds a Python without its lock, and runs tests there: python release/freethreaded.py [PYTEST ARGUMENTS...].

Debian has no such Python, but its sources: they are compiled below build, without optimizations, some five minutes
of CPU once. NumPy's wheel for it is the package index's. Without arguments the tests of the core run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cross
import debian
from commands import run

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build" / "freethreaded"
VERSION, RELEASE = "3.13", "trixie"  # sources of sid's Pythons come and go
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64")
NEEDED = ("hypothesis", "numpy", "pytest")
TESTS = (
    "shared_by_threads", "results", "layouts", "golden", "quantize", "fused", "calibration_statistics",
    "arrays_that_change", "bad_input", "bad_out", "bad_fused", "bad_quantize", "dtypes", "integers", "kernels",
)  # fmt: skip


def python() -> Path:
    """Return a Python without its lock, compiled unless it is there."""
    made = PLACE / "python" / "bin" / f"python{VERSION}t"
    if made.exists():
        return made
    folder = PLACE / "source"
    shutil.rmtree(folder, ignore_errors=True)
    wrong = debian.source(f"python{VERSION}", folder, RELEASE)
    if wrong:
        sys.exit(f"no sources of Python {VERSION} from Debian's {RELEASE}: {wrong}")
    (inner,) = folder.glob("Python-*")
    options = ("--disable-gil", "--disable-test-modules", "--without-doc-strings", "--with-ensurepip=no", "-q")
    run("./configure", f"--prefix={PLACE / 'python'}", *options, cwd=inner)
    run("make", f"-j{os.cpu_count()}", cwd=inner)
    run("make", "install", cwd=inner)
    shutil.rmtree(folder)
    return made


def main() -> None:
    """Build and test."""
    inner, site, package = python(), PLACE / "site", PLACE / "package"
    if not site.exists():
        abis = ("--abi", f"cp{VERSION.replace('.', '')}t", "--abi", "none")
        cross.install(PLATFORMS, VERSION, site, "--implementation", "cp", *abis, *NEEDED)
    nanobind = run(sys.executable, "-m", "nanobind", "--cmake_dir").strip()
    run("cmake", "-S", ROOT, "-B", PLACE / "module", "-G", "Ninja", f"-DPython_EXECUTABLE={inner}",
        f"-DPython_NumPy_INCLUDE_DIR={site / 'numpy/_core/include'}", f"-Dnanobind_DIR={nanobind}",
        "-DBYTENORM_WERROR=ON", "-DSKBUILD_PROJECT_VERSION_FULL=freethreaded")  # fmt: skip
    run("cmake", "--build", PLACE / "module")
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(ROOT / "src", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (module,) = (PLACE / "module").glob("_core*.so")
    shutil.copy(module, package / "bytenorm")
    chosen = [f"tests/test_{name}.py" for name in TESTS]
    chosen += ["-m", "not thorough"]
    # Assigning a shape frees the old one, which only the lock keeps from a call that reads it: docs/platforms.md.
    chosen += ["--deselect", "tests/test_arrays_that_change.py::test_shapes_assigned_to_while_calls_work"]
    environment = {**os.environ, "PYTHONPATH": f"{package}:{site}"}
    tested = subprocess.run(
        [inner, "-m", "pytest", "-p", "no:cacheprovider", *(sys.argv[1:] or chosen)],
        cwd=ROOT, env=environment, check=False,
    )  # fmt: skip
    sys.exit(tested.returncode)


if __name__ == "__main__":
    main()
