"""The three networks of PP-OCR, which read text: where it is, which way up, and what it says."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
from numpy.typing import NDArray

from .. import rendering
from ..network import Array, Network, Outputs, Task
from ..packages import Package

PACKAGE = Package("rapidocr-onnxruntime", "1.4.4", "Apache-2.0")
HEIGHT, WIDTH = 48, 320  # of a line that is read
LONGEST = 18  # characters of it
SIDE = 480  # pixels, of a page
SMALLEST = 9  # pixels of a region
CALIBRATION, HELD_OUT = 64, 64
PAGES = 24  # that calibrate


def recognition() -> Network:
    """Return PP-OCRv4's recognizer on lines of text."""
    model = onnx.load(PACKAGE.file("rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"))
    alphabet = ["", *next(p.value for p in model.metadata_props if p.key == "character").splitlines(), " "]
    texts, lines = _lines()
    wanted = texts[CALIBRATION:]

    def wrong(outputs: Outputs) -> float:
        read = [_text(codes, alphabet) for codes in outputs[0].argmax(-1)]
        errors = sum(_distance(a, b) for a, b in zip(read, wanted, strict=True))
        return 100 * errors / sum(map(len, wanted))

    return Network(
        model,
        lines[:CALIBRATION],
        lines[CALIBRATION:],
        Task("character errors, %", wrong),
        str(PACKAGE),
        f"lines of text, rendered; {HEIGHT} x {WIDTH}",
    )


def direction() -> Network:
    """Return PP-OCR's classifier of lines: upright or upside down."""
    model = onnx.load(PACKAGE.file("rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"))
    rng = np.random.default_rng(1)
    turned = np.arange(CALIBRATION + 4 * HELD_OUT) % 2 == 1
    lines = []
    for half in turned:
        picture = rendering.line(rng, rendering.words(rng, int(rng.integers(4, 12))))
        lines.append(_prepared(picture[::-1, ::-1] if half else picture, 192))
    wanted = turned[CALIBRATION:]

    def wrong(outputs: Outputs) -> float:
        return float(np.sum((outputs[0][:, 1] > outputs[0][:, 0]) != wanted))

    data = np.stack(lines)
    task = Task(f"wrong directions of {len(wanted)}", wrong)
    described = f"lines of text, rendered, half of them upside down; {HEIGHT} x 192"
    return Network(model, data[:CALIBRATION], data[CALIBRATION:], task, str(PACKAGE), described)


def detection() -> Network:
    """Return PP-OCRv4's detector on pages."""
    model = onnx.load(PACKAGE.file("rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"))
    rng = np.random.default_rng(2)
    pages = [rendering.page(rng, SIDE) for _ in range(PAGES + 16)]
    data = np.stack([_normalized(pixels) for pixels, _ in pages])
    wanted = [boxes for _, boxes in pages[PAGES:]]

    def wrong(outputs: Outputs) -> float:
        return float(
            sum(_lines_wrong(page[0] > 0.3, boxes) for page, boxes in zip(outputs[0], wanted, strict=True))
        )

    task = Task(f"missed or wrong lines of {sum(map(len, wanted))}", wrong)
    return Network(
        model, data[:PAGES], data[PAGES:], task, str(PACKAGE), f"pages of text, rendered; {SIDE} x {SIDE}"
    )


def _lines_wrong(found: NDArray[np.bool_], boxes: list[rendering.Box]) -> int:
    """Count the lines of a page that no region lies in, and the regions that lie in no line."""
    from scipy.ndimage import center_of_mass, label

    labels, count = label(found)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    large = [at for at in range(1, count + 1) if sizes[at] >= SMALLEST]
    middles = center_of_mass(found, labels, large)
    inside = [[left <= x < right and top <= y < bottom for left, top, right, bottom in boxes] for y, x in middles]
    hit = np.array(inside, bool).reshape(len(middles), len(boxes))
    return int(np.sum(~hit.any(0)) + np.sum(~hit.any(1)))


@cache
def _lines() -> tuple[list[str], Array]:
    rng = np.random.default_rng(0)
    texts = [rendering.words(rng, int(rng.integers(10, LONGEST))) for _ in range(CALIBRATION + HELD_OUT)]
    return texts, np.stack([_prepared(rendering.line(rng, text), WIDTH) for text in texts])


def _prepared(pixels: rendering.Pixels, width: int) -> Array:
    """Return a line in the network's height, with zeros behind it, as the package prepares it."""
    height, length = pixels.shape[:2]
    length = min(width, -(-HEIGHT * length // height))
    made = np.zeros((3, HEIGHT, width), np.float32)
    made[:, :, :length] = _normalized(rendering.resized(np.ascontiguousarray(pixels), length, HEIGHT))
    return made


def _normalized(pixels: rendering.Pixels) -> Array:
    return np.ascontiguousarray(np.moveaxis((pixels[..., ::-1] / 255 - 0.5) / 0.5, 2, 0), np.float32)


def _text(codes: NDArray[np.int64], alphabet: list[str]) -> str:
    """Return what the likeliest codes say: repeated ones once, blanks not at all."""
    kept = [code for at, code in enumerate(codes) if code and (at == 0 or code != codes[at - 1])]
    return "".join(alphabet[code] for code in kept)


def _distance(read: str, wanted: str) -> int:
    """Return how many characters have to be changed, left out or put in."""
    row = list(range(len(wanted) + 1))
    for i, a in enumerate(read, 1):
        before, row = row, [i]
        for j, b in enumerate(wanted, 1):
            row.append(min(row[-1] + 1, before[j] + 1, before[j - 1] + (a != b)))
    return row[-1]
