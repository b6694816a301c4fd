"""Data that models are calibrated, compared and timed with."""
