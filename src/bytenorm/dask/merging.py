"""Several statistics merged into one, by workers that need no Dask arrays for it."""

from __future__ import annotations

from collections.abc import Sequence

from ..calibration import ChannelStatistics

TOGETHER = 8  # statistics that one task merges


def merged(parts: Sequence[ChannelStatistics]) -> ChannelStatistics:
    """Return statistics of all that the parts are of, as a new object.

    Workers keep the parts, and merge them again after another worker was lost: a part must stay what it is.
    """
    total = ChannelStatistics(parts[0].channels, histogram=parts[0].histogram is not None)
    for part in parts:
        total.merge(part)
    return total
