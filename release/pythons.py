"""Pythons that wheels are tried on: those of the machine, and Debian's newest, unpacked beside it.

Debian's packages of a later release are not installed: they are unpacked into a folder and run with their own C
library, those of another processor under qemu. A Python is a path that can be run like any other.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
LIBRARIES = (
    "libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libssl3t64 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1 "
    "libzstd1"
)
LOADERS = {"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}
TRIPLES = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}


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


def of_debian(versions: tuple[str, ...], architecture: str, folder: Path) -> dict[str, Path]:
    """Unpack Debian's Pythons of a later release; those that it does not have are left out."""
    if not Path("/etc/debian_version").exists():
        return {}
    emulator = None if architecture == "amd64" else shutil.which("qemu-aarch64")
    if architecture != "amd64" and emulator is None:
        return {}
    folder = folder.absolute() / architecture
    root, environment = folder / "root", _lists(architecture, folder)
    found = {}
    for version in versions:
        wrapper = folder / f"python{version}"
        parts = f"python{version} python{version}-minimal libpython{version}-minimal libpython{version}-stdlib"
        if not wrapper.exists() and not _unpack(parts.split() + LIBRARIES.split(), root, environment):
            continue
        library = root / "usr/lib" / TRIPLES[architecture]
        program = root / f"usr/bin/python{version}"
        if emulator is None:
            run = f'"{library / LOADERS[architecture]}" --argv0 "$0" --library-path "{library}" "{program}"'
        else:
            run = f'"{emulator}" -L "{root}" -0 "$0" "{program}"'
        wrapper.write_text(f'#!/bin/sh\nPYTHONHOME="{root}/usr" exec {run} "$@"\n', encoding="utf-8")
        wrapper.chmod(0o755)
        found[version] = wrapper
    return found


def _lists(architecture: str, folder: Path) -> dict[str, str]:
    """Return the environment of an apt for Debian's unstable release that changes nothing of the machine."""
    for name in ("state/lists/partial", "cache/archives/partial", "parts", "root"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    usual = "\n".join(f.read_text() for f in Path("/etc/apt").glob("sources.list*/*") if f.is_file())
    usual += Path("/etc/apt/sources.list").read_text() if Path("/etc/apt/sources.list").exists() else ""
    mirror = re.search(r"\bhttps?://\S+/debian/?(?=\s)", usual)
    (folder / "sources.list").write_text(f"deb {mirror[0] if mirror else ''} sid main\n", encoding="utf-8")
    settings = {
        "Dir::State": "state", "Dir::State::status": "status", "Dir::Cache": "cache",
        "Dir::Etc::sourcelist": "sources.list", "Dir::Etc::sourceparts": "parts",
    }  # fmt: skip
    lines = [f'{name} "{folder / value}";' for name, value in settings.items()]
    lines += [f'APT::Architecture "{architecture}";', f'APT::Architectures "{architecture}";']
    (folder / "apt.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf")}
    if not any((folder / "state/lists").glob("*Packages*")):
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
    return environment


def _unpack(packages: list[str], root: Path, environment: dict[str, str]) -> bool:
    place = root.parent / "packages"
    place.mkdir(exist_ok=True)
    command = ["apt-get", "download", "-qq", *packages]
    if subprocess.run(command, cwd=place, env=environment, capture_output=True, check=False).returncode:
        return False
    for package in place.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, root], check=True)
        package.unlink()
    if not (root / "lib").exists():  # which a package of Debian's installer makes
        (root / "lib").symlink_to("usr/lib")
    return True
