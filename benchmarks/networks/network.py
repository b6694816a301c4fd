"""A network to measure: its float model, ONNX Runtime's 8-bit one, and the pictures that go with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto

from . import images, stock
from .builder import Builder, Value
from .densenet import densenet121
from .resnet import resnet50v2

Images = NDArray[np.float32]

NETWORKS: dict[str, Callable[[Builder], Value]] = {"densenet121": densenet121, "resnet50v2": resnet50v2}
SEED = 0


@dataclass(frozen=True)
class Network:
    """A network in float and, by the stock quantizer, in 8 bits.

    Attributes
    ----------
    name : str
    model : ModelProto
        In float, for one image of 3 x 224 x 224.
    stock : ModelProto
        In QDQ form.
    norms : int
        The batch norms in `model`.
    calibration, held_out : ndarray
        float32, N x 3 x 224 x 224: what set the norms' statistics and every scale, and what judges.
    logits : ndarray
        What torch computed for `calibration`.
    """

    name: str
    model: ModelProto
    stock: ModelProto
    norms: int
    calibration: Images
    held_out: Images
    logits: Images

    @property
    def norms_left(self) -> int:
        """The batch norms that the stock quantizer could not fold."""
        return len(stock.norms_left(self.stock))


def build(name: str) -> Network:
    """Return a network by its name in `NETWORKS`; the same one every time."""
    calibration = images.load(images.CALIBRATION)
    builder = Builder(name, calibration, SEED)
    with torch.inference_mode():
        output = NETWORKS[name](builder)
    model = builder.model(output)
    held_out = images.load(images.HELD_OUT)
    held_out.setflags(write=False)  # every contestant gets the same array
    return Network(
        name=name,
        model=model,
        stock=stock.quantize(model, calibration),
        norms=len(builder.norms),
        calibration=calibration,
        held_out=held_out,
        logits=output.data.numpy(),
    )
