"""What models are run with to be timed: options of a session, random inputs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime

from ... import _checks
from ..._errors import bad_value
from ..data.batch_axes import batch_axes_of
from ..model.files import load_model
from ..model.inputs import input_infos

if TYPE_CHECKING:
    from ..data.batch_axes import BatchAxes


_ONLY_FATAL = 4  # what ONNX Runtime has to say otherwise is in its exceptions


def session_options(threads: int = 1) -> onnxruntime.SessionOptions:
    """Return the options under which models are compared: full optimization, quiet.

    Parameters
    ----------
    threads : int, optional
        For the work within a node; nodes run one after another.

    Returns
    -------
    onnxruntime.SessionOptions

    Raises
    ------
    TypeError, ValueError
        If `threads` is no integer of at least 1.

    Examples
    --------
    >>> from bytenorm.onnx import session_options
    >>> session_options(threads=2).intra_op_num_threads
    2
    """
    threads = at_least_one(threads, "threads")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _ONLY_FATAL
    if threads > 1:  # threads that wait for their next work by spinning slow down the other models
        options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def random_feeds(
    model: onnx.ModelProto | str | os.PathLike[str],
    *,
    batch: int = 1,
    batch_axes: BatchAxes | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Make random inputs of the shapes that a model wants.

    Parameters
    ----------
    model : onnx.ModelProto or path
    batch : int, optional
        How many samples, where the model leaves it open.
    batch_axes : dict of str to int or None, optional
        As `bytenorm.onnx.compare` takes it.
    seed : int, optional

    Returns
    -------
    dict of str to ndarray
        Real inputs are normally distributed, bytes are uniform over all codes, other integers and booleans are 0
        or 1. Never all zeros: zeros can be faster than what a model really gets.

    Raises
    ------
    TypeError, FileNotFoundError, ValueError
        As `load_model`; if an input is no tensor of numbers, or the model leaves another dimension than that of
        the batch open.

    Examples
    --------
    >>> from bytenorm import onnx as bno
    >>> bno.random_feeds(bno.digits_model(), batch=2)["image"].shape
    (2, 1, 28, 28)
    """
    batch = at_least_one(batch, "batch")
    proto = model if isinstance(model, onnx.ModelProto) else load_model(model)
    rng = np.random.default_rng(seed)
    feeds = {}
    inputs = input_infos(proto)
    axes = batch_axes_of(inputs, batch_axes)
    for info in inputs:
        open_axes = [i for i, n in enumerate(info.shape) if n is None]
        if 0 in info.shape or open_axes not in ([], [axes[info.name]]):
            raise bad_value("model", f": its input {info} has a size that is not known: real data must be given")
        shape = tuple(batch if n is None else n for n in info.shape)
        feeds[info.name] = _random(rng, shape, info.dtype)
    return feeds


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if dtype.kind == "f":
        return np.asarray(rng.standard_normal(shape), dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        drawn = np.asarray(rng.integers(limits.min, limits.max, shape, dtype, endpoint=True))
    else:
        drawn = np.asarray(rng.integers(0, 2, shape), dtype)
    if not drawn.any():
        drawn.reshape(-1)[:1] = 1
    return drawn


def at_least_one(value: object, name: str) -> int:
    """Return a whole number of at least 1; refuse others."""
    number = _checks.integer(value, name)
    if number < 1:
        raise bad_value(name, f"must be at least 1, got {number}")
    return number
