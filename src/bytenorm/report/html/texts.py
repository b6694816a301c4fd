"""Texts, numbers and pictures as a page holds them."""

from __future__ import annotations

import base64
import math
from html import escape


def text(value: str) -> str:
    """Return a text for HTML; control characters, which it cannot hold, as they are written in Python."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
    return escape(shown)


def decibels(value: float) -> str:
    """Return a ratio for people."""
    if math.isnan(value):
        return "-"
    return ("∞" if value > 0 else "-∞") if math.isinf(value) else f"{value:.2f}"


def percent(share: float) -> str:
    """Return a share from 0 to 1 as a percentage."""
    return f"{100 * share:.3g}"


def as_uri(svg: str) -> str:
    """Return a picture as an address that holds it."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
