"""Images as inputs of a model: read, cut out, made numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ... import _checks
from ..._errors import bad_type, bad_value
from ..._files.npy import reading

if TYPE_CHECKING:
    from pathlib import Path

    from ..model.inputs import InputInfo
    from .input_checks import InputChecks


LARGEST_IMAGE = 2 * 89_478_485  # pixels; Pillow opens no larger one
FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")  # Pillow knows many more, and starts programs for some


@dataclass(frozen=True)
class ImageInput:
    """How the pixels of an image become numbers: ``(pixel * rescale - mean) / std`` in float32.

    An image is converted to RGB, or to grey for a model with one channel, and scaled (bilinear) so that it just
    covers the model's height and width. The shorter side decides, the proportions stay, and the centre is taken.
    Where the model leaves height and width open the image keeps its own. Transparency is dropped, and an
    orientation that a camera has noted is not followed. A model with a uint8 input gets the pixels themselves.

    Parameters
    ----------
    mean, std : tuple of float, optional
        Of one number, or of one a channel; in the unit that `rescale` leads to.
    rescale : float, optional
        From the pixels 0 to 255 to that unit.

    Raises
    ------
    TypeError
        If one is no number or tuple of numbers.
    ValueError
        If one is not finite in float32, or std or rescale is not positive there.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> from bytenorm import onnx as bno
    >>> images = bno.ImageInput(mean=(0.5,), std=(0.25,))  # 51 / 255 is 0.2
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("L", (56, 28), 51).save(pathlib.Path(folder, "grey.png"))
    ...     batch = next(iter(bno.open_data(folder, bno.digits_model(), images=images)))["image"]
    >>> batch.shape, round(float(batch.mean()), 3)
    ((1, 1, 28, 28), -1.2)
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    rescale: float = 1 / 255

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = getattr(self, name)
            if isinstance(value, str) or not isinstance(value, Iterable):
                raise bad_type(name, f"must be a tuple of numbers, such as (0.5,), got {type(value).__name__}")
            numbers = tuple(_checks.real(number, f"{name}[{i}]") for i, number in enumerate(value))
            if len(numbers) not in (1, 3):
                raise bad_value(name, f"must have 1 or 3 numbers, got {len(numbers)}")
            for number in numbers:
                _require_float32(number, name, positive=name == "std")
            object.__setattr__(self, name, numbers)
        rescale = _checks.real(self.rescale, "rescale")
        _require_float32(rescale, "rescale", positive=True)
        object.__setattr__(self, "rescale", rescale)


def _require_float32(number: float, name: str, *, positive: bool) -> None:
    with np.errstate(all="ignore"):
        narrow = np.float32(number)
    if not np.isfinite(narrow) or (positive and narrow <= 0):
        raise bad_value(name, f"must be {'positive and ' * positive}finite in float32, got {number}")


# --- images -----------------------------------------------------------------------------------------------------


class ImageReader:
    """From files of images to the input of a model."""

    def __init__(self, checks: InputChecks, images: ImageInput) -> None:
        try:
            import PIL  # noqa: F401, PLC0415 (arrays do without)
        except ImportError:
            raise ImportError('images need Pillow: pip install "bytenorm[onnx]"', name="PIL") from None
        wanted = ", ".join(map(str, checks.inputs))
        info = checks.inputs[0]
        if len(checks.inputs) != 1 or len(info.shape) != 4:
            raise bad_value("images", f"are for a model with one input of 4 dimensions, this one wants {wanted}")
        self._first = info.shape[1] in (1, 3)  # the channels, NCHW; a model with both is taken for that
        if not self._first and info.shape[3] not in (1, 3):
            raise bad_value(
                "images", f"are for a model with 1 or 3 channels on axis 1 or 3, this one wants {wanted}"
            )
        if info.dtype not in (np.float32, np.uint8):
            raise bad_value("images", f"are for float32 or uint8, this model wants {wanted}")
        if info.dtype == np.uint8 and images != ImageInput():
            raise bad_value("images", f"must be ImageInput() for {wanted}, which gets the pixels, got {images}")
        self._channels = info.shape[1 if self._first else 3]
        for name in ("mean", "std"):
            n = len(getattr(images, name))
            if n not in (1, self._channels):
                raise bad_value("images", f"have {n} numbers as {name}, the model wants {wanted}")
        self._height, self._width = info.shape[2:] if self._first else info.shape[1:3]
        self._argument = checks.argument
        self._name = info.name
        self._dtype = info.dtype
        self._images = images

    def read(self, paths: tuple[Path, ...]) -> dict[str, np.ndarray]:
        """Return the batch that some files make."""
        made: list[np.ndarray] = []
        for path in paths:
            label = f"{self._argument} {str(path)!r}"
            pixels = self._pixels(path, label)
            if made and pixels.shape != made[0].shape:
                raise bad_value(
                    label, f"has shape {pixels.shape}, the others of its batch {made[0].shape}: one is wanted"
                )
            made.append(pixels)
        batch = np.stack(made)
        if self._dtype != np.uint8:
            mean, std = (np.asarray(v, np.float32) for v in (self._images.mean, self._images.std))
            with np.errstate(all="ignore"):  # an infinity is found later
                batch = (batch.astype(np.float32) * np.float32(self._images.rescale) - mean) / std
        return {self._name: np.moveaxis(batch, 3, 1) if self._first else batch}

    def _pixels(self, path: Path, label: str) -> np.ndarray:
        """Return an image as uint8 of shape (height, width, channels)."""
        from PIL import Image, ImageOps  # noqa: PLC0415

        with reading(label, "an image"), path.open("rb") as file, Image.open(file, formats=FORMATS) as opened:
            image: Image.Image = opened
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"its pixels are {image.mode}, 8 bits a channel are wanted")
            if image.mode in ("P", "PA"):  # a palette whose transparency is no single entry warns otherwise
                image = image.convert("RGBA")
            image = image.convert("RGB" if self._channels == 3 else "L")
            bilinear = Image.Resampling.BILINEAR
            if self._height and self._width:
                image = ImageOps.fit(image, (self._width, self._height), bilinear)
            elif self._height:
                width = max(1, round(image.width * self._height / image.height))
                image = image.resize(_bounded(width, self._height), bilinear)
            elif self._width:
                height = max(1, round(image.height * self._width / image.width))
                image = image.resize(_bounded(self._width, height), bilinear)
            pixels = np.array(image, np.uint8)
        return pixels.reshape(*pixels.shape[:2], -1)


def lost_colours(paths: Iterable[Path], info: InputInfo) -> str:
    """Say that colours are lost, if an input has one channel and the first of some images more; else nothing."""
    first, *_ = [*paths, None]
    if first is None or 1 not in info.shape[1:4:2] or 3 in info.shape[1:2]:
        return ""
    from PIL import Image  # noqa: PLC0415

    # What is wrong with a file is said where it is read.
    with (
        warnings.catch_warnings(action="ignore"),
        suppress(Exception),
        Image.open(first, formats=FORMATS) as image,
    ):
        if image.mode not in ("1", "L", "LA", "La"):
            return f"images in colour are made grey: input {info.name!r} of the model has one channel"
    return ""


def _bounded(width: int, height: int) -> tuple[int, int]:
    """Return a size; refuse that of a line of pixels, a file of some bytes, scaled to a picture of gigabytes."""
    if width * height > LARGEST_IMAGE:
        raise ValueError(f"it would be scaled to {width} x {height} pixels, at most {LARGEST_IMAGE} are wanted")
    return width, height
