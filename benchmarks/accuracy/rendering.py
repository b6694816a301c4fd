"""Lines and pages of text as pictures, with the fonts that matplotlib carries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # left, top, right, bottom
FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSansMono",
    "STIXGeneral", "STIXGeneralBol",
)  # fmt: skip
WORDS = Path(__file__).with_name("words.txt").read_text().split()


def words(rng: np.random.Generator, length: int) -> str:
    """Return some words, a number now and then, of not more than so many characters in all."""
    text = ""
    while True:
        word = str(rng.choice(WORDS)) if rng.random() < 0.75 else str(rng.integers(10_000))
        word = word.capitalize() if rng.random() < 0.3 else word
        if len(text) + 1 + len(word) > length:
            return text or word[:length]
        text = f"{text} {word}" if text else word


def line(rng: np.random.Generator, text: str) -> Pixels:
    """Return a picture that is just one line of text: any of the fonts, dark on light or the other way round."""
    font = _font(rng, int(rng.integers(28, 44)))
    left, top, right, bottom = font.getbbox(text)
    margin = rng.integers(2, 7, size=4)
    size = int(right - left + margin[0] + margin[1]), int(bottom - top + margin[2] + margin[3])
    paper, ink = _colours(rng)
    picture = Image.new("RGB", size, paper)
    ImageDraw.Draw(picture).text((int(margin[0] - left), int(margin[2] - top)), text, ink, font)
    return _noisy(rng, picture)


def page(rng: np.random.Generator, side: int) -> tuple[Pixels, list[Box]]:
    """Return a square picture of a page with lines of text here and there, and the lines' boxes."""
    paper, _ = _colours(rng)
    picture = Image.new("RGB", (side, side), paper)
    boxes: list[Box] = []
    draw = ImageDraw.Draw(picture)
    y = int(rng.integers(10, 40))
    while y < side - 40:
        font = _font(rng, int(rng.integers(14, 36)))
        ink = tuple(int(255 - c) if abs(c - 127) > 40 else 0 for c in paper)
        x = int(rng.integers(8, side // 3))
        text = words(rng, int(rng.integers(8, 40)))
        while text and x + font.getbbox(text)[2] > side - 8:
            text = text[:-1].strip()
        box = draw.textbbox((x, y), text, font)
        draw.text((x, y), text, ink, font)
        left, top, right, bottom = (int(n) for n in box)
        boxes.append((left, top, right, bottom))
        y = bottom + int(rng.integers(8, 48))
    return _noisy(rng, picture), boxes


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """Return a picture in another size, bilinear."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def _font(rng: np.random.Generator, size: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{rng.choice(FONTS)}.ttf"), size)


def _colours(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    light = tuple(int(n) for n in rng.integers(190, 256, size=3))
    dark = tuple(int(n) for n in rng.integers(0, 90, size=3))
    return (light, dark) if rng.random() < 0.8 else (dark, light)


def _noisy(rng: np.random.Generator, picture: Image.Image) -> Pixels:
    noise = rng.normal(scale=rng.uniform(0, 8), size=(*picture.size[::-1], 3))
    return np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)
