"""Cross-builds for aarch64 with GCC and runs tests under emulation: python release/arm64.py [PYTEST ARGUMENTS...].

The compiler, the emulator and the Python that runs there are Debian's, unpacked below build unless the machine has
them; nothing is installed. Warnings are errors. Without arguments the tests of all kernels run; none needs torch,
whose own answers there are others. ONNX Runtime's wheel loads the library of its operators there.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import cross
import debian
import pythons
from commands import run

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build" / "arm64"
ONNXRUNTIME = "1.24.1"  # the emulator ends 1.32.0 in its import
NEEDED = ("hypothesis", "numpy", "pytest", "pytest-xdist")
# Not those of bad input: what tells it, and its words, are the same everywhere.
TESTS = ("kernels", "layouts", "golden", "bad_out", "quantize", "fused", "calibration_statistics", "results")
# Of files, not of numbers; and what goes through the scalar set, but for its kernels: the same code everywhere.
LEFT_OUT = ("truncated_and_damaged_files", "contradict_each_other", "scalar-", "-scalar")


def compiler() -> Path:
    """Return a compiler for aarch64."""
    folder = PLACE / "compiler"
    program = debian.program("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu", folder)
    root, wrapper = folder / "root", folder / "c++"
    if not program.is_relative_to(folder):
        return program
    libraries = root / "usr/lib" / debian.TRIPLES["amd64"]
    wrapper.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{libraries}" exec "{program}" --sysroot="{root}" "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def python() -> Path:
    """Return a Python of this version for aarch64."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for release in (debian.release_of_the_machine(), "sid"):
        found = pythons.of_debian((version,), "arm64", ROOT / "build/pythons", release) if release else {}
        if found:
            return found[version]
    sys.exit(f"no Python {version} for aarch64: it is unpacked from packages of Debian's, on a Debian that has it")


def build(cxx: Path, *options: str) -> Path:
    """Build the Python module and the library without Python; return their folder."""
    folder = PLACE / "module"
    target = ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_CXX_COMPILER={cxx}")
    run("cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", *target, "-DBYTENORM_WERROR=ON", *options)
    run("cmake", "--build", folder, "--target", "all", "bytenorm_onnxruntime")
    return folder


def run_in_onnxruntime(inner: Path, library: Path) -> None:
    """Let ONNX Runtime's own wheel load the library, and hold its norms to what they give here."""
    site, models = PLACE / f"onnxruntime-{ONNXRUNTIME}", PLACE / "models"
    if not site.exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        cross.install(cross.LINUX_ARM64.numpy, version, site, "--no-deps", f"onnxruntime=={ONNXRUNTIME}")
    shutil.rmtree(models, ignore_errors=True)
    run(sys.executable, ROOT / "tests/oldest/write_models.py", models)
    for network in models.glob("*digits*"):  # whose float layers give other numbers on other processors
        network.unlink()
    environment = {"PYTHONPATH": f"{site}:{PLACE / 'site'}", "PATH": "/usr/bin:/bin", "HOME": str(PLACE)}
    print(run(inner, ROOT / "tests/oldest/run_models.py", models, library, env=environment).strip(), flush=True)


def main() -> None:
    """Build and test."""
    if platform.machine() != "x86_64":
        sys.exit(f"make arm64 cross-builds on x86-64, and this is {platform.machine()}: make test")
    inner, cxx, site = python(), compiler(), PLACE / "site"
    if not site.exists():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        cross.install(cross.LINUX_ARM64.numpy, version, site, *NEEDED)
    options = cross.python_options(site / "numpy/_core/include")
    built = build(cxx, "-DSKBUILD_PROJECT_VERSION_FULL=arm64", *options)
    run_in_onnxruntime(inner, built / "libbytenorm_onnxruntime.so")
    # What is only measured is compiled at least.
    run(cxx, "-std=c++17", "-fsyntax-only", "-I", ROOT / "native", ROOT / "benchmarks/cycles.cpp")
    package = PLACE / "package"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(ROOT / "src", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(built / "_core.so", package / "bytenorm")
    chosen = [f"tests/test_{name}.py" for name in TESTS]
    chosen += ["-m", "not thorough", "-k", f"not ({' or '.join(LEFT_OUT)})"]
    arguments = sys.argv[1:] or chosen
    environment = {"PYTHONPATH": f"{package}:{site}", "PATH": "/usr/bin:/bin", "HOME": str(PLACE)}
    tested = subprocess.run(
        [inner, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", *arguments],
        cwd=ROOT, env=environment, check=False,
    )  # fmt: skip
    sys.exit(tested.returncode)


if __name__ == "__main__":
    main()
