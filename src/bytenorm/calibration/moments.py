"""The mean and the variance of each channel of batches, pooled."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Vector = np.ndarray


@dataclass(frozen=True)
class Moments:
    """Of one tensor: for each batch how many numbers a channel has, their means and variances (divided by n)."""

    counts: list[int] = field(default_factory=list)
    means: list[Vector] = field(default_factory=list)
    variances: list[Vector] = field(default_factory=list)

    def add(self, count: int, mean: Vector, variance: Vector) -> None:
        """Add a batch; a variance of NaN is one that is not known."""
        self.counts.append(count)
        self.means.append(mean)
        self.variances.append(variance)

    def covers(self, batches: int, channels: int, *, spread: bool) -> bool:
        """Say whether this is of so many batches at least, and channels, with variances where wanted."""
        if len(self.counts) < batches or any(len(mean) != channels for mean in self.means):
            return False
        return not (spread and any(np.isnan(variance).all() for variance in self.variances))

    def pooled(self, batches: int | None = None) -> tuple[Vector, Vector]:
        """Return the mean and the variance of the first batches, or all, laid end to end, in float64."""
        counts = np.array(self.counts[:batches], np.float64)
        means, variances = (np.array(v[:batches], np.float64) for v in (self.means, self.variances))
        weights = counts / counts.sum()
        mean = weights @ means
        return mean, weights @ (variances + (means - mean) ** 2)
