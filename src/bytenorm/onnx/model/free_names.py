"""Names that nothing has yet."""

from __future__ import annotations


def free_name(wanted: str, names: set[str]) -> str:
    """Return a name that is none of these, `wanted` itself if possible, and add it to them."""
    name, n = wanted, 1
    while name in names:
        n += 1
        name = f"{wanted}_{n}"
    names.add(name)
    return name
