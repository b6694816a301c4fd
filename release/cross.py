"""What is built for, when it is not this machine, and what a build for it has to be told of Python."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from commands import run


@dataclass(frozen=True)
class Target:
    """A system and a processor as Zig, CMake, Python's build tools and pip call them."""

    zig: str
    system: str
    processor: str
    python: str  # what sysconfig.get_platform returns there
    numpy: tuple[str, ...]  # platforms of NumPy's wheels, whose headers are taken


LINUX_ARM64 = Target(
    "aarch64-linux-gnu.2.28",
    "Linux",
    "aarch64",
    "linux-aarch64",
    ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64"),
)
LINUX_X86 = ("manylinux_2_35_x86_64", "manylinux_2_28_x86_64", "manylinux_2_27_x86_64")  # platforms of wheels
MACOS_ARM64 = Target("aarch64-macos", "Darwin", "arm64", "macosx-11.0-arm64", ("macosx_14_0_arm64",))
WINDOWS_X86 = Target("x86_64-windows-gnu", "Windows", "AMD64", "win-amd64", ("win_amd64",))


def install(platforms: tuple[str, ...], python: str, folder: Path, *what: object) -> None:
    """Unpack wheels of other platforms into a folder, for a version of Python."""
    options = [f"--platform={name}" for name in platforms]
    if python != f"{sys.version_info.major}.{sys.version_info.minor}":
        options.append("--ignore-requires-python")  # which pip 23 asks the Python that runs it
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--target", folder,
        "--only-binary", ":all:", "--python-version", python, *options, *what)  # fmt: skip


def numpy_headers(target: Target, folder: Path) -> Path:
    """Unpack a NumPy of a target into a folder unless it is there; return where its headers are."""
    if not folder.exists():
        install(target.numpy, "3.12", folder, "--no-deps", "numpy")
    return folder / "numpy/_core/include"


def python_options(headers: Path) -> list[str]:
    """Return CMake's options for a module of this version of Python, whose own headers are the same everywhere."""
    return [
        f"-DPython_EXECUTABLE={sys.executable}", f"-DPython_INCLUDE_DIR={sysconfig.get_path('include')}",
        f"-DPython_NumPy_INCLUDE_DIR={headers}", "-DNB_SUFFIX=.so",
    ]  # fmt: skip
