"""CMake toolchains for other systems out of one Python package: Zig's, which carries Clang and their headers."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from cross import Target

NO_LINKS = """set(CMAKE_CXX_COMPILER_ID_TEST_FLAGS_FIRST -c)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
"""


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
