"""Kinds of CPU: what the folders in ``cpus`` are named for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import bytenorm as bn

# By vendor and family, models from and to: the ones that differ in what is measured here.
_CORES = {
    ("AuthenticAMD", 23): ((0x00, 0x2F, "zen"), (0x30, 0xFF, "zen2")),
    ("AuthenticAMD", 25): (
        (0x00, 0x0F, "zen3"),
        (0x10, 0x1F, "zen4"),
        (0x20, 0x5F, "zen3"),
        (0x60, 0x7F, "zen4"),
        (0xA0, 0xAF, "zen4"),
    ),
    ("AuthenticAMD", 26): ((0x00, 0xFF, "zen5"),),
    ("GenuineIntel", 6): (
        (63, 63, "haswell"),
        (79, 79, "broadwell"),
        (85, 85, "skylake-server"),
        (106, 108, "ice-lake-server"),
        (143, 143, "sapphire-rapids"),
        (173, 174, "granite-rapids"),
        (207, 207, "emerald-rapids"),
    ),
}


def kind(about: Mapping[str, str] | None = None, isa: str | None = None) -> str:
    """Return the name of a kind of CPU: its cores, the instruction set that is used, and whether it has AMX.

    Parameters
    ----------
    about : mapping, optional
        Fields of ``/proc/cpuinfo``; None asks this machine.
    isa : str, optional
        The instruction set; None asks bytenorm.
    """
    fields = _cpuinfo() if about is None else about
    numbers = [int(fields.get(name, "-1")) for name in ("cpu family", "model")]
    cores = next(
        (name for low, high, name in _CORES.get((fields.get("vendor_id", ""), numbers[0]), ())
         if low <= numbers[1] <= high),
        "cpu",
    )  # fmt: skip
    parts = [cores, isa or str(bn.show_config()["isa"])]
    if "amx_int8" in fields.get("flags", "").split():
        parts.append("amx")
    return "-".join(parts)


def _cpuinfo() -> dict[str, str]:
    """Return what the system says of its first CPU; nothing where it has no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    lines = text.partition("\n\n")[0].splitlines()
    return dict(re.split(r"\s*:\s*", line, maxsplit=1) for line in lines if ":" in line)
