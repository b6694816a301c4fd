"""The data that a command is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..onnx.data.dataset import Dataset, open_data
from ..onnx.data.images import ImageInput
from .wording import naming

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    import onnx

    from .console import Screen


def samples(options: argparse.Namespace, model: onnx.ModelProto, limit: int | None, screen: Screen) -> Dataset:
    """Return the data of the options for a model; what is skipped of it is shown."""
    images, axes = _images(options), given_axes(options)
    data = open_data(options.data, model, limit=limit, images=images, batch_axes=axes, argument="--data")
    screen.skipped(data.skipped, data.note)
    return data


def named(data: Sequence[str]) -> str:
    """Return the paths of --data as one text."""
    return ", ".join(data)


def given_axes(options: argparse.Namespace) -> dict[str, int | None] | None:
    """Return the axes of inputs that the options tell."""
    return dict(options.batch_axis) or None


def _images(options: argparse.Namespace) -> ImageInput | None:
    given = {"mean": options.mean, "std": options.std, "rescale": options.rescale}
    wanted = {name: value for name, value in given.items() if value is not None}
    with naming(mean="--mean", std="--std", rescale="--rescale"):
        return ImageInput(**wanted) if wanted else None
