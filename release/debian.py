"""Debian's packages unpacked into a folder: nothing of the machine is changed, and nobody has to be root."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

TRIPLES = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
LOADERS = {"amd64": "ld-linux-x86-64.so.2", "arm64": "ld-linux-aarch64.so.1"}


def release_of_the_machine() -> str | None:
    """Return the name of its release, None where it is no Debian whose packages can be downloaded."""
    told = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    found = told.get("ID") == "debian" and all(map(shutil.which, ("apt-get", "dpkg")))
    return told.get("VERSION_CODENAME", "sid") if found else None


def unpack(packages: list[str], folder: Path, architecture: str, release: str, *, beside: bool = False) -> str:
    """Unpack packages, and what they need, into `root` of a folder; return what went wrong, "" if nothing.

    With `beside`, what the machine has installed is left out: for programs that run with its libraries.
    """
    root, environment = folder / "root", _lists(folder, architecture, release)
    command = ["apt-get", "install", "--download-only", "--no-install-recommends", "--yes", "-qq"]
    if beside:
        command += ["-o", "Dir::State::status=/var/lib/dpkg/status"]
    done = subprocess.run([*command, *packages], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip()
    for package in (folder / "cache/archives").glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, root], check=True)
        package.unlink()
    if not (root / "lib").exists():  # which a package of Debian's installer makes
        (root / "lib").symlink_to("usr/lib")
    return ""


def source(package: str, folder: Path, release: str) -> str:
    """Unpack what the sources of a package are before Debian's changes; return what went wrong, "" if nothing."""
    environment = _lists(folder, "amd64", release, kind="deb-src")
    command = ["apt-get", "source", "--download-only", "-qq", package]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        return done.stderr.strip()
    for archive in folder.glob("*.orig.tar.*[!c]"):  # and not its signature
        subprocess.run(["tar", "-xf", archive.name], cwd=folder, check=True)
    return ""


def program(name: str, package: str, folder: Path) -> Path:
    """Return a program of the machine, or that of a package, unpacked unless it is; end where there is none."""
    at_hand = shutil.which(name)
    if at_hand is not None:
        return Path(at_hand)
    unpacked, release = folder.absolute() / "root/usr/bin" / name, release_of_the_machine()
    if not unpacked.exists():
        if release is None:
            sys.exit(
                f"no {name} here: it has to be installed, for this is no Debian whose packages could be unpacked"
            )
        wrong = unpack([package], folder.absolute(), "amd64", release, beside=True)
        if wrong:
            sys.exit(f"no {name} here, and Debian's package {package} cannot be unpacked instead: {wrong}")
    return unpacked


def _lists(folder: Path, architecture: str, release: str, kind: str = "deb") -> dict[str, str]:
    """Return the environment of an apt of its own."""
    for name in ("state/lists/partial", "cache/archives/partial", "parts", "root"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    usual = "\n".join(f.read_text() for f in Path("/etc/apt").glob("sources.list*/*") if f.is_file())
    usual += Path("/etc/apt/sources.list").read_text() if Path("/etc/apt/sources.list").exists() else ""
    mirror = re.search(r"\bhttps?://\S+/debian/?(?=\s)", usual)
    address = mirror[0] if mirror else "http://deb.debian.org/debian"
    (folder / "sources.list").write_text(f"{kind} {address} {release} main\n", encoding="utf-8")
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
