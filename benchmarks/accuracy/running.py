"""Runs a network on samples, one at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import ModelProto

from bytenorm import onnx as bno

from .network import Array, Outputs

if TYPE_CHECKING:
    from collections.abc import Iterator


def input_of(model: ModelProto) -> str:
    """Return the name of the only input that is no weight."""
    weights = {tensor.name for tensor in model.graph.initializer}
    (name,) = (str(value.name) for value in model.graph.input if value.name not in weights)
    return name


def feeds(model: ModelProto, data: Array) -> Iterator[dict[str, Array]]:
    """Return samples as a session takes them."""
    name = input_of(model)
    return ({name: sample[np.newaxis]} for sample in data)


def outputs_of(model: ModelProto, data: Array) -> Outputs:
    """Return all outputs on all samples."""
    session = bno.session(model)
    found = [session.run(None, feed) for feed in feeds(model, data)]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]
