"""Pythons that wheels are tried on: those of the machine, and Debian's newest, unpacked beside it.

Debian's packages of a later release are not installed: they are unpacked into a folder and run with their own C
library, those of another processor under qemu. A Python is a path that can be run like any other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import debian

VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")


def of_the_machine() -> dict[str, Path]:
    """Return the Pythons on the path, and those of pyenv, by their version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    places = [*(Path(p) for p in os.get_exec_path()), *sorted(pyenv.glob("*/bin"))]
    found: dict[str, Path] = {}
    for version in VERSIONS:
        for place in places:
            candidate = place / f"python{version}"
            if version not in found and candidate.exists() and _runs(candidate):
                found[version] = candidate
    return found


def _runs(python: Path) -> bool:
    """Say whether it is a Python that can make environments; pyenv has placeholders, Debian leaves that out."""
    code = "import ensurepip, venv"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def emulator_of_arm64(folder: Path) -> Path:
    """Return a qemu, the machine's or Debian's."""
    installed = shutil.which("qemu-aarch64")
    if installed:
        return Path(installed)
    return debian.program("qemu-aarch64-static", "qemu-user-static", folder / "qemu")


def of_debian(versions: tuple[str, ...], architecture: str, folder: Path, release: str = "sid") -> dict[str, Path]:
    """Unpack Pythons of a release of Debian's; those that it does not have are left out."""
    if debian.release_of_the_machine() is None:
        return {}
    emulator = None if architecture == "amd64" else emulator_of_arm64(folder)
    place = folder.absolute() / f"{release}-{architecture}"
    root, found = place / "root", {}
    for version in versions:
        wrapper = place / f"python{version}"
        packages = [f"python{version}", "libstdc++6"]
        if not wrapper.exists() and debian.unpack(packages, place, architecture, release):
            continue
        library = root / "usr/lib" / debian.TRIPLES[architecture]
        program = root / f"usr/bin/python{version}"
        if emulator is None:
            run = f'"{library / debian.LOADERS[architecture]}" --argv0 "$0" --library-path "{library}" "{program}"'
        else:
            run = f'"{emulator}" -L "{root}" -0 "$0" "{program}"'
        wrapper.write_text(f'#!/bin/sh\nPYTHONHOME="{root}/usr" exec {run} "$@"\n', encoding="utf-8")
        wrapper.chmod(0o755)
        found[version] = wrapper
    return found
