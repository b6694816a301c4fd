"""Whether a change brings an 8-bit network nearer to what it should be: judged on samples kept aside."""

from __future__ import annotations

import math

import numpy as np

FEWEST = 8  # samples; with fewer nothing is tried: two to judge and six to measure
EVERY = 4  # one sample of so many is kept aside
MOST = 256  # samples that are used, spread evenly
# A step is taken if the error on the samples kept aside is less by this share at least, and by so many of its
# standard errors. With a whole one a sample whose error is larger than that of all others together, as is usual
# behind a Softmax, could not count: its gain is just one standard error.
_GAIN = 0.01
_SURE = 0.5
# And a sample's error has to be less in decibels on average, too: one large error is not all that counts. What is
# below this share of the mean error does not.
_NOTHING = 0.01


def too_few(samples: int) -> str:
    """Say that there are too few samples."""
    return f"{samples} sample{'s' * (samples != 1)} of data: {FEWEST} are needed to judge it"


def shortage(samples: int, aside: int) -> str:
    """Say why samples, so many things of which are kept aside, tell nothing of a change; empty if they do."""
    if samples < FEWEST:
        return too_few(samples)
    return "" if aside else "the data is one batch, and cannot be divided: 2 are needed to judge it"


def evenly(count: int, most: int) -> list[int]:
    """Return the places of things that are spread evenly over all, no more than so many."""
    chosen = min(count, most)
    return [i * count // chosen for i in range(chosen)]


def squared_errors(wanted: np.ndarray, made: np.ndarray) -> np.ndarray:
    """Return the squared error of each sample of an output, a row a sample; one number if it has no axes."""
    square = (wanted.astype(np.float64) - made) ** 2
    rows: np.ndarray = square.reshape(len(square), -1) if square.ndim else square.reshape(1, 1)
    return np.asarray(rows.sum(axis=1))


def as_table(batches: list[list[np.ndarray]]) -> np.ndarray | None:
    """Return the squared errors of batches, of each a list by output, as a row a sample and a column an output.

    Where outputs differ in how many rows they have, a row is a batch. None if an error is not finite.
    """
    if any(len({len(errors) for errors in batch}) > 1 for batch in batches):
        batches = [[errors.sum(keepdims=True) for errors in batch] for batch in batches]
    table = np.concatenate([np.stack(batch, axis=1) for batch in batches])
    return table if np.all(np.isfinite(table)) else None


def is_better(errors: np.ndarray | None, before: np.ndarray | None, sure: float = 0.0) -> bool:
    """Say whether errors are smaller than others on the same samples, by more than chance makes them.

    Each output counts as much as its error did before. `sure` is how many standard errors the mean gain in
    decibels has to have.
    """
    if errors is None or before is None or errors.shape != before.shape:
        return False
    total = before.sum(axis=0)
    if not np.any(total > 0):
        return False
    weights = np.where(total > 0, 1 / np.where(total > 0, total, 1), 0) / np.count_nonzero(total > 0)
    # An output that had no error must not get one.
    if np.any(errors.sum(axis=0)[total == 0] > 0):
        return False
    old, new = before @ weights, errors @ weights  # the old ones add up to 1
    floor = _NOTHING / len(old)
    gains, logs = old - new, np.log((old + floor) / (new + floor))
    return bool(gains.sum() > max(_GAIN, _SURE * _error(gains)) and logs.sum() > sure * _error(logs))


def _error(numbers: np.ndarray) -> float:
    """Return the standard error of a sum; none is known of one number."""
    return float(numbers.std(ddof=1)) * math.sqrt(len(numbers)) if len(numbers) > 1 else 0.0
