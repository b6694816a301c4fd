"""Norms between conversions become operators on codes."""

from .lower import lower_with_report

__all__ = ["lower_with_report"]
