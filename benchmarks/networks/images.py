"""Real pictures, as a network trained on ImageNet would get them: the photographs that scikit-image carries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

SIZE = 224
# Two sets of pictures that share none: one sets the norms' statistics and all scales, the other judges.
CALIBRATION = ("astronaut", "brick", "camera", "chelsea", "coffee", "hubble_deep_field", "motorcycle_left", "page")
HELD_OUT = ("coins", "grass", "gravel", "ihc", "moon", "retina", "rocket", "text")
MEAN = np.array([0.485, 0.456, 0.406])  # of ImageNet's training set: red, green, blue, of 1
STD = np.array([0.229, 0.224, 0.225])


def load(names: Sequence[str]) -> NDArray[np.float32]:
    """Return the middle squares of photographs, normalized: len(names) x 3 x 224 x 224.

    Raises
    ------
    FileNotFoundError
        The installed scikit-image carries no picture of that name.
    """
    return np.stack([_prepared(name) for name in names])


def _prepared(name: str) -> NDArray[np.float32]:
    import skimage
    from skimage.io import imread

    folder = Path(skimage.__file__).parent / "data"
    path = next(iter(sorted(folder.glob(f"{name}.*"))), None)
    if path is None:
        raise FileNotFoundError(f"the installed scikit-image carries no picture {name!r}")
    pixels = np.asarray(imread(path))
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., np.newaxis], 3, axis=2)
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = (pixels[top : top + side, left : left + side, :3] / 255 - MEAN) / STD
    channels_first = torch.from_numpy(np.moveaxis(square, 2, 0)[np.newaxis])
    small = interpolate(channels_first, (SIZE, SIZE), mode="bilinear", antialias=True)
    return np.ascontiguousarray(small[0].numpy(), np.float32)
