"""From a float model to an 8-bit one."""

from .quantize import quantize_with_report

__all__ = ["quantize_with_report"]
