"""Data that models are calibrated, compared and timed with."""

from .dataset import open_data

__all__ = ["open_data"]
