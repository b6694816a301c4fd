"""CMake toolchains for other systems out of one Python package: Zig's, which carries Clang and their headers."""

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
MACOS_ARM64 = Target("aarch64-macos", "Darwin", "arm64", "macosx-11.0-arm64", ("macosx_14_0_arm64",))
WINDOWS_X86 = Target("x86_64-windows-gnu", "Windows", "AMD64", "win-amd64", ("win_amd64",))


NO_LINKS = """set(CMAKE_CXX_COMPILER_ID_TEST_FLAGS_FIRST -c)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
"""


def numpy_headers(target: Target, folder: Path) -> Path:
    """Unpack a NumPy of a target into a folder unless it is there; return where its headers are."""
    if not folder.exists():
        platforms = [f"--platform={name}" for name in target.numpy]
        run(sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, "--only-binary", ":all:",
            "--python-version", "3.12", "--no-deps", *platforms, "numpy")  # fmt: skip
    return folder / "numpy/_core/include"


def compiler() -> Path:
    """Return the program of the package ziglang."""
    program = Path(sysconfig.get_path("purelib"), "ziglang", "zig")
    if not program.exists():
        sys.exit("no Zig here: pip install ziglang")
    return program


def toolchain(target: Target, folder: Path, *, links: bool = True) -> Path:
    """Write a toolchain file for a target, and what it names, to a folder; return its path.

    Before Zig links the first time for a target it compiles the C++ library, about a minute of CPU.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, called in {"c++": f"c++ -target {target.zig}", "ar": "ar", "ranlib": "ranlib"}.items():
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{compiler()}" {called} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    file = folder / "toolchain.cmake"
    file.write_text(
        f"""set(CMAKE_SYSTEM_NAME {target.system})
set(CMAKE_SYSTEM_PROCESSOR {target.processor})
set(CMAKE_CXX_COMPILER "{folder}/c++")
set(CMAKE_AR "{folder}/ar" CACHE FILEPATH "")
set(CMAKE_RANLIB "{folder}/ranlib" CACHE FILEPATH "")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
{"" if links else NO_LINKS}""",
        encoding="utf-8",
    )
    return file
