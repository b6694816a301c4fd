"""Weights of torch files as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def load(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of a state by name, reading nothing but tensors."""
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.numpy().astype(np.float32) for name, tensor in state.items() if tensor.ndim}
