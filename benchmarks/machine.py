"""The machine and the versions that figures belong to. No host name, no path."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import bytenorm as bn

PACKAGES = ("bytenorm", "numpy", "torch", "onnx", "onnxruntime", "numba")
CPU = Path("/sys/devices/system/cpu")


def describe() -> dict[str, str]:
    """Return what a reader needs to know about where figures come from, by name."""
    config = bn.show_config()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _field("/proc/cpuinfo", "model name") + (" (virtual machine)" if _virtual() else ""),
        "cores": f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}",
        "caches": ", ".join(f"{name} {size}" for name, size in caches().items()) or "unknown",
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 2**20:.0f} GiB",
        "huge pages": _chosen("/sys/kernel/mm/transparent_hugepage/enabled"),
        "os": f"{platform.system()} {platform.machine()}, {_os_name()}, {' '.join(platform.libc_ver())}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "compiler": str(config["compiler"]),
        "isa": f"{config['isa']} (of {', '.join(config['isas'])})",
    }


def caches() -> dict[str, str]:
    """Return the sizes of the caches that one core sees, as the system writes them, by level."""
    found: dict[str, str] = {}
    for index in sorted((CPU / "cpu0" / "cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        found[f"L{level}" + {"Data": "d", "Instruction": "i"}.get(kind, "")] = size
    return found


def level2() -> int:
    """Return the bytes of the second-level cache of one core; 1 MiB if the system does not say."""
    size = caches().get("L2", "1024K")
    return int(size.rstrip("KM")) << {"K": 10, "M": 20}[size[-1]]


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return "0 unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "0 unknown")


def _virtual() -> bool:
    return "hypervisor" in _field("/proc/cpuinfo", "flags").split()


def _chosen(path: str) -> str:
    try:
        return Path(path).read_text().partition("[")[2].partition("]")[0]
    except OSError:
        return "unknown"


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
