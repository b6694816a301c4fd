"""Which of several words may have been meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def most_alike(word: str, known: Iterable[str], *, alike: float = 0.6) -> str:
    """Return the known word that is most alike, in any case; empty if none is.

    `alike`, from 0 to 1, is how much it must be: "quantise" and "quantize" have 0.88, "--out" and "--output" 0.67.
    """
    spelt = {one.lower(): one for one in known}
    found = get_close_matches(word.lower(), spelt, n=1, cutoff=alike)
    return spelt[found[0]] if found else ""
