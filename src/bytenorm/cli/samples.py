"""The data that a command is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..onnx.data import Dataset, ImageInput, open_data

if TYPE_CHECKING:
    import argparse

    import onnx


def samples(options: argparse.Namespace, model: onnx.ModelProto, limit: int | None) -> Dataset:
    """Return the data of the options for a model."""
    images, axes = _images(options), given_axes(options)
    return open_data(options.data, model, limit=limit, images=images, batch_axes=axes, argument="--data")


def given_axes(options: argparse.Namespace) -> dict[str, int | None] | None:
    """Return the axes of inputs that the options tell."""
    return dict(options.batch_axis) or None


def _images(options: argparse.Namespace) -> ImageInput | None:
    given = {"mean": options.mean, "std": options.std, "scale": options.scale}
    wanted = {name: value for name, value in given.items() if value is not None}
    return ImageInput(**wanted) if wanted else None
