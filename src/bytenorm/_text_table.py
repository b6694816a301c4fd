"""Tables in plain text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIGURE = r"-?(\d[\d.,]*(e[-+]?\d+)?|inf)"
_NUMBER = re.compile(rf"{_FIGURE}( to {_FIGURE})?( ?[%x])?")


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under their columns' names, padded so that columns line up; numbers to the right."""
    lines = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    numeric = [all(is_number(row[i]) for row in rows) for i in range(len(columns))]
    text = []
    for line in lines:
        cells = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(line, widths, numeric, strict=True))
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def is_number(text: str) -> bool:
    """Say whether a cell holds a number, or what stands for one that is not there."""
    return text in ("", "?", "-") or _NUMBER.fullmatch(text) is not None
