"""How the bytes of a tensor stand for numbers, as a network says it: what graphs of ONNX and PyTorch share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


def scalars(scale: npt.NDArray[np.generic], zero_point: npt.NDArray[np.generic]) -> tuple[float, int]:
    """Return a scale and a zero point of one number each, whatever their shapes."""
    return float(scale.ravel()[0]), int(zero_point.ravel()[0])


def range_of_codes(scale: float, zero_point: int, *, signed: bool) -> tuple[float, float]:
    """Return the numbers of the lowest and the highest code."""
    lowest = -128 if signed else 0
    return (lowest - zero_point) * scale, (lowest + 255 - zero_point) * scale


@dataclass(frozen=True)
class ByteQuantization:
    """Scale and zero point of a tensor of bytes: one number each, or one for each channel."""

    scale: npt.NDArray[np.floating[Any]]
    zero_point: npt.NDArray[np.generic]

    @property
    def per_tensor(self) -> bool:
        """Whether one scale is for all channels."""
        return self.scale.size == 1 and self.zero_point.size == 1

    @property
    def scalars(self) -> tuple[float, int]:
        """The scale and the zero point, quantized per tensor."""
        return scalars(self.scale, self.zero_point)
