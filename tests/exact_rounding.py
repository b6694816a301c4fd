"""Rational numbers rounded as the contract says, without a floating-point operation of ours."""

from fractions import Fraction

import numpy as np


def round_to_float32(exact: Fraction) -> np.float32:
    """Round a rational number to float32 once, half to even, by looking at both neighbours."""
    guess = np.float32(float(exact))
    near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    distance = [abs(Fraction(float(n)) - exact) if np.isfinite(n) else Fraction(10) ** 60 for n in near]
    best = min(distance)
    ties = [n for n, d in zip(near, distance, strict=True) if d == best]
    return next((n for n in ties if n.view(np.uint32) % 2 == 0), ties[0])


def round_half_even(exact: Fraction) -> int:
    return round(exact)  # Python rounds a Fraction half to even
