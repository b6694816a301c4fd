"""One network of the benchmark: a float model, what calibrates it, what judges it, and what it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

Array = NDArray[np.float32]
Outputs = list[NDArray[np.float32]]  # of all samples, by output


@dataclass(frozen=True)
class Task:
    """What a network is for, as one number.

    Attributes
    ----------
    name : str
        What is counted, such as "wrong digits of 500".
    figure : callable
        From the outputs on all held-out samples, the samples along their first axis, to the number.
    """

    name: str
    figure: Callable[[Outputs], float]


@dataclass(frozen=True)
class Network:
    """A float model with one input, and its data, one sample a row.

    Attributes
    ----------
    model : ModelProto
    calibration, held_out : ndarray
        Share no sample.
    task : Task or None
        None where the weights were never trained.
    source : str
        Where the weights come from, with version and licence.
    data : str
        What the samples are.
    """

    model: ModelProto
    calibration: Array
    held_out: Array
    task: Task | None
    source: str
    data: str
