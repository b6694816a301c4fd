"""One way to run a network, as the measurement sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bytenorm.onnx import Profile

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Entry:
    """A network made ready by one contestant.

    Attributes
    ----------
    logits : callable
        From one image, 1 x 3 x height x width, to its logits, 1 x classes.
    timed : callable
        One run, on an image that is always the same and already in place.
    profile : callable, optional
        Where a run's time goes, if the contestant can tell.
    """

    logits: Callable[[Array], Array]
    timed: Callable[[], object]
    profile: Callable[[], Profile] | None = None
