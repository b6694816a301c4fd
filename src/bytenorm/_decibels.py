"""How far numbers are from others, in decibels."""

import math


def snr_db(signal: float, noise: float) -> float:
    """Return the ratio of two energies in dB: inf without noise, -inf where there is nothing else."""
    if noise == 0:
        return math.inf
    return 10 * (math.log10(signal) - math.log10(noise)) if signal else -math.inf
