"""Texts, numbers and pictures as a page holds them."""

from __future__ import annotations

import base64
import math

from markupsafe import Markup


def printable(value: object) -> object:
    """Return a text with its control characters, which HTML cannot hold, as they are written in Python."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def decibels(value: float) -> str:
    """Return a ratio for people."""
    if math.isnan(value):
        return "-"
    return ("∞" if value > 0 else "-∞") if math.isinf(value) else f"{value:.2f}"


def percent(share: float) -> str:
    """Return a share from 0 to 1 as a percentage."""
    return f"{100 * share:.3g}"


def plural(number: int) -> str:
    """Return what a word for so many things ends with."""
    return "" if number == 1 else "s"


def as_uri(svg: str) -> str:
    """Return a picture as an address that holds it."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
