"""Normalize real photographs from uint8 straight to the int8 input of a network, and check every code.

A network trained on ImageNet wants ``(x / 255 - mean) / std`` for each colour, and an 8-bit network wants that
quantized. A photograph is already quantized (scale 1/255, zero point 0), so both steps together are one batch norm
on 8-bit data: no float array is made. The photographs are those that the scikit-image package carries in its
``data`` folder; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import signal
import statistics
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

import bytenorm as bn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels = NDArray[np.uint8]  # (1, height, width, 3)
Codes = NDArray[np.int8]

MEAN = np.array([0.485, 0.456, 0.406])  # of ImageNet's training set: red, green, blue, of 1
STD = np.array([0.229, 0.224, 0.225])
INPUT_SCALE = 1 / 255
CHANNELS = ("red", "green", "blue")

# Images in the data folder that are drawings or test patterns.
NOT_PHOTOGRAPHS = {"chessboard_GRAY", "chessboard_RGB", "color", "phantom"}
SHOWN_FIRST = ("coffee", "chelsea", "rocket", "motorcycle_left")  # in colour, nearly 3:2
SHOWN = 4

# float32 places the exact value to about 0.00001 of a step; only a tie nearly that near may round the other way.
NEAR_TIE = 1e-4
WARM_UP, REPEATS = 2, 9

PICTURE = "normalize_photos.png"

PAGE_EXAMPLE = """\
rand = np.random.default_rng(0).random
qx = bn.quantize_per_tensor(rand((2, 2, 2, 2)), 1.5, 3, bn.quint8)
qy = bn.quantized_batch_norm(qx, np.ones(2), np.zeros(2), rand(2), rand(2), 0.00001, 0.2, 2)
"""


class BadInputError(Exception):
    """Something the caller can put right: said in one line, exit code 2."""


@dataclass(frozen=True)
class Check:
    """How one photograph's codes compare with the float computation."""

    name: str
    height: int
    width: int
    differ: int
    largest: int
    away_from_ties: int

    @property
    def codes(self) -> int:
        """How many codes were compared."""
        return self.height * self.width * len(CHANNELS)

    @property
    def passed(self) -> bool:
        """Whether codes differ at most by one step, and only at ties."""
        return self.largest <= 1 and self.away_from_ties == 0


@dataclass(frozen=True)
class Timing:
    """One way to normalize all photographs, and how long it takes."""

    way: str
    milliseconds: float
    megapixels_per_second: float
    ratio: float


# The data


def load_photographs() -> dict[str, Pixels]:
    """Return the photographs inside the installed scikit-image, grey ones with three equal channels."""
    import skimage
    from skimage.io import imread

    folder = Path(skimage.__file__).parent / "data"
    files = sorted(path for path in folder.glob("*") if path.suffix in {".png", ".jpg", ".jpeg"})
    photographs = {}
    for path in files:
        if path.stem in NOT_PHOTOGRAPHS:
            continue
        image = np.asarray(imread(path))
        if image.dtype == np.uint8 and image.ndim == 2:
            image = np.repeat(image[..., np.newaxis], len(CHANNELS), axis=2)
        if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == len(CHANNELS):
            photographs[path.stem] = np.ascontiguousarray(image)[np.newaxis]
    if not photographs:
        raise BadInputError("the installed scikit-image carries no photographs: pip install bytenorm[demo]")
    return photographs


# The normalization, in 8 bits and in float


def normalized(pixels: Pixels) -> NDArray[np.float64]:
    """Return the real numbers that the network should see."""
    result: NDArray[np.float64] = (pixels * INPUT_SCALE - MEAN) / STD
    return result


def every_input() -> Pixels:
    """Return a picture of 256 pixels that holds every input of every channel: (1, 1, 256, 3)."""
    return np.repeat(np.arange(256, dtype=np.uint8)[:, np.newaxis], len(CHANNELS), axis=1)[np.newaxis, np.newaxis]


def network_input() -> bn.BatchNorm:
    """Prepare the norm; its output quantization covers what the inputs 0 to 255 can give, and no more."""
    reals = normalized(every_input())
    cover = bn.quantize_per_tensor_dynamic(np.array([reals.min(), reals.max()]), bn.qint8)
    return bn.BatchNorm(
        None, None, MEAN, STD**2, eps=0.0,
        output_scale=cover.q_scale(), output_zero_point=cover.q_zero_point(), output_dtype=bn.qint8, axis=-1,
    )  # fmt: skip


def normalize(norm: bn.BatchNorm, pixels: Pixels) -> Codes:
    """Normalize one photograph in 8 bits."""
    codes: Codes = norm(bn.QuantizedTensor(pixels, INPUT_SCALE, 0)).data
    return codes


def steps_in_float(norm: bn.BatchNorm, pixels: Pixels) -> NDArray[np.float64]:
    """Return the normalized numbers in output steps, before rounding, computed in float64."""
    return normalized(pixels) / norm.output_scale


def codes_in_float(norm: bn.BatchNorm, steps: NDArray[np.float64]) -> Codes:
    """Round and clamp float64 steps to codes."""
    codes: Codes = np.clip(np.rint(steps) + norm.output_zero_point, bn.qint8.qmin, bn.qint8.qmax).astype(np.int8)
    return codes


def distance_to_tie(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each number is from the nearest half."""
    result: NDArray[np.float64] = np.abs(steps - np.floor(steps) - 0.5)
    return result


def difference(norm: bn.BatchNorm, pixels: Pixels) -> NDArray[np.int16]:
    """Return the 8-bit codes minus the float computation's."""
    expected = codes_in_float(norm, steps_in_float(norm, pixels))
    return normalize(norm, pixels).astype(np.int16) - expected


def check(norm: bn.BatchNorm, name: str, pixels: Pixels) -> Check:
    """Compare one photograph's codes with the float computation."""
    off = difference(norm, pixels)
    differs = off != 0
    distances = distance_to_tie(steps_in_float(norm, pixels)[differs])
    return Check(
        name=name,
        height=pixels.shape[1],
        width=pixels.shape[2],
        differ=int(np.count_nonzero(differs)),
        largest=int(np.abs(off).max()),
        away_from_ties=int(np.count_nonzero(distances > NEAR_TIE)),
    )


# The time


def numpy_float32(norm: bn.BatchNorm) -> Callable[[Pixels], Codes]:
    """Return the usual way: normalize in float32, then quantize."""
    mean, std, full = MEAN.astype(np.float32), STD.astype(np.float32), np.float32(255)
    scale, zero_point = np.float32(norm.output_scale), np.float32(norm.output_zero_point)

    def run(pixels: Pixels) -> Codes:
        reals = (pixels.astype(np.float32) / full - mean) / std
        codes: Codes = np.clip(np.rint(reals / scale) + zero_point, bn.qint8.qmin, bn.qint8.qmax).astype(np.int8)
        return codes

    return run


def numpy_table(norm: bn.BatchNorm) -> Callable[[Pixels], Codes]:
    """Return NumPy's fastest way: look each channel up in its table of 256 codes."""
    tables = codes_in_float(norm, steps_in_float(norm, every_input()))[0, 0].T.copy()

    def run(pixels: Pixels) -> Codes:
        codes = np.empty(pixels.shape, np.int8)
        for channel, table in enumerate(tables):
            codes[..., channel] = table[pixels[..., channel]]
        return codes

    return run


def with_threads(norm: bn.BatchNorm, threads: int) -> Callable[[Pixels], Codes]:
    """Return bytenorm's way with a number of threads."""

    def run(pixels: Pixels) -> Codes:
        bn.set_num_threads(threads)
        return normalize(norm, pixels)

    return run


def time_all(norm: bn.BatchNorm, photographs: Sequence[Pixels]) -> list[Timing]:
    """Time every way on all photographs, in turns; the median of the turns after the warm-up."""
    threads = bn.get_num_threads()
    ways = {"bytenorm, 1 thread": with_threads(norm, 1)}
    if threads > 1:
        ways[f"bytenorm, {threads} threads"] = with_threads(norm, threads)
    ways["NumPy, float32"] = numpy_float32(norm)
    ways["NumPy, table of 256 codes a channel"] = numpy_table(norm)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(WARM_UP + REPEATS):
        for way, run in ways.items():
            start = time.perf_counter()
            for pixels in photographs:
                run(pixels)
            seconds[way].append(time.perf_counter() - start)
    bn.set_num_threads(threads)
    medians = {way: statistics.median(times[WARM_UP:]) for way, times in seconds.items()}
    first = next(iter(medians.values()))
    count = sum(pixels.size for pixels in photographs) / len(CHANNELS)
    return [Timing(way, 1e3 * t, 1e-6 * count / t, t / first) for way, t in medians.items()]


# The picture


def choose_shown(photographs: dict[str, Pixels]) -> list[str]:
    """Return the names of the few photographs to draw, in colour where there are any."""

    def rank(name: str) -> tuple[int, bool]:
        pixels = photographs[name]
        grey = bool(np.all(pixels == pixels[..., :1]))
        return (SHOWN_FIRST.index(name) if name in SHOWN_FIRST else len(SHOWN_FIRST)), grey

    return sorted(photographs, key=rank)[:SHOWN]


def largest_channel(off: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return, for each pixel, the difference of the channel that is furthest off."""
    at = np.abs(off).argmax(axis=-1)[..., np.newaxis]
    return np.take_along_axis(off, at, axis=-1)[..., 0]


def bare(axes: Axes, row_label: str | None) -> None:
    """Take ticks and frame off an image; name its row at the left edge."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if row_label is not None:
        axes.set_ylabel(row_label, labelpad=8)


def draw_photograph(column: Sequence[Axes], norm: bn.BatchNorm, name: str, pixels: Pixels, *, left: bool) -> Any:
    """Draw before, after and difference of one photograph below each other; return the mapped colours."""
    before, after, below = column
    before.imshow(pixels[0])
    before.set_title(name.replace("_", " "), fontweight="bold")
    # Codes -128 to 127 of each channel as brightness 0 to 255: the real numbers, linearly rescaled.
    after.imshow((normalize(norm, pixels)[0].astype(np.int16) - bn.qint8.qmin).astype(np.uint8))
    off = difference(norm, pixels)[0]
    colours: dict[str, Any] = {"cmap": "coolwarm", "vmin": -1, "vmax": 1}
    worst = largest_channel(off)
    image = below.imshow(worst, **colours)
    rows, columns = np.nonzero(worst)  # single pixels would be lost when the map is scaled down
    below.scatter(columns, rows, c=worst[rows, columns], s=4, linewidths=0, **colours)
    below.set_title(f"{np.count_nonzero(off):,} of {off.size:,} codes differ", fontsize=11)
    labels = ("before: uint8", "after: int8 as brightness", "int8 minus float")
    for axes, label in zip(column, labels, strict=True):
        bare(axes, label if left else None)
    return image


def draw_map(axes: Axes, norm: bn.BatchNorm) -> None:
    """Draw the code that each of the 256 inputs of each channel becomes."""
    inputs = every_input()
    codes = normalize(norm, inputs)[0, 0]
    for channel, (name, colour) in enumerate(zip(CHANNELS, ("#c0392b", "#1e8449", "#1f5fa8"), strict=True)):
        axes.step(inputs[0, 0, :, channel], codes[:, channel], where="mid", color=colour, label=name)
    axes.set(xlim=(0, 255), ylim=(-132, 132), xticks=[*range(0, 255, 51), 255], yticks=[-128, -64, 0, 64, 127])
    axes.set(xlabel="uint8 code in", ylabel="int8 code out")
    axes.set_title("the whole operator: 256 inputs a channel, each with one output", fontsize=11)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False)


def draw(norm: bn.BatchNorm, photographs: dict[str, Pixels]) -> Figure:
    """Draw before, after and difference of a few photographs, and the map of each channel."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = choose_shown(photographs)
    with rc_context({"font.size": 12, "axes.titlesize": 13, "axes.labelsize": 12}):
        figure = Figure(figsize=(16, 11.1), dpi=100)
        widths = [1.0] * len(names) + [0.03]
        grid = figure.add_gridspec(
            3, len(widths), width_ratios=widths,
            left=0.06, right=0.955, top=0.965, bottom=0.305, wspace=0.04, hspace=0.12,
        )  # fmt: skip
        columns = [[figure.add_subplot(grid[row, at]) for row in range(3)] for at in range(len(names))]
        for at, (name, column) in enumerate(zip(names, columns, strict=True)):
            image = draw_photograph(column, norm, name, photographs[name], left=at == 0)
        bar = figure.colorbar(image, cax=figure.add_subplot(grid[2, -1]), ticks=[-1, 0, 1])
        bar.set_label("codes", labelpad=0)
        bar.outline.set_visible(False)
        below = figure.add_gridspec(
            1, len(widths), width_ratios=widths, left=0.06, right=0.955, top=0.25, bottom=0.06
        )
        draw_map(figure.add_subplot(below[0, :-1]), norm)
    return figure


# Files


def check_writable(folder: Path) -> None:
    """Find out before the work whether a file can be made in a folder."""
    with tempfile.TemporaryFile(dir=folder):
        pass


def prepare_paths(output: Path, results: Path | None) -> None:
    """Make the output folder; refuse paths that cannot be written."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        check_writable(output)
    except FileExistsError:
        raise BadInputError(f"--output must be a folder, and {output} is a file") from None
    except OSError as error:
        raise BadInputError(f"--output {output} cannot be written: {error.strerror}") from None
    if results is None:
        return
    if results.is_dir():
        raise BadInputError(f"--json must be a file, and {results} is a folder")
    try:
        check_writable(results.parent)
    except OSError as error:
        raise BadInputError(f"--json {results} cannot be written: {error.strerror}") from None


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file, or say why that cannot be done."""
    try:
        with path.open("wb") as file:
            write(file)
    except OSError as error:
        raise BadInputError(f"{path} cannot be written: {error.strerror}") from None


# What it says


def page_example() -> str:
    """Run the documented example and return its result as text."""
    names: dict[str, Any] = {"np": np, "bn": bn}
    exec(PAGE_EXAMPLE, names)
    return repr(names["qy"])


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: framed on a terminal, plain columns in a pipe. Numbers are right-aligned."""
    from rich.box import ROUNDED
    from rich.console import Console
    from rich.table import Table

    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        for first, *others in (head, *rows):
            cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
            print("  " + "   ".join((first.ljust(widths[0]), *cells)).rstrip())
        return
    table = Table(box=ROUNDED, header_style="bold")
    for at, title in enumerate(head):
        table.add_column(title, justify="right" if at else "left")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)


def print_check(norm: bn.BatchNorm, checks: Sequence[Check]) -> None:
    """Print what was normalized and how the codes compare with float64."""
    codes = sum(c.codes for c in checks)
    reals, nearest = normalized(every_input()), distance_to_tie(steps_in_float(norm, every_input())).min()
    pixels = codes // len(CHANNELS)
    print_table(
        ("uint8 photographs to the int8 input of a network", ""),
        (
            ("photographs", f"{len(checks)}"),
            ("pixels, of 3 codes each", f"{pixels:,}"),
            ("range of the normalized values", f"{reals.min():.3f} to {reals.max():.3f}"),
            ("output scale, zero point", f"{norm.output_scale:.6f}, {norm.output_zero_point}"),
            ("largest difference to float64, in codes", f"{max(c.largest for c in checks)}"),
            ("codes that differ", f"{sum(c.differ for c in checks):,} of {codes:,}"),
        ),
    )
    print("A code may differ only where the exact value lies on a tie of the rounding, and then by one step.")
    print(f"The nearest that any input of any channel comes to a tie is {nearest:.5f} of a step.")


def print_times(timings: Sequence[Timing], photographs: int) -> None:
    """Print how long each way takes."""
    rows = [
        (t.way, f"{t.milliseconds:.2f}", f"{t.megapixels_per_second:,.0f}", f"{t.ratio:.2f}x") for t in timings
    ]
    print_table((f"all {photographs} photographs, median of {REPEATS}", "ms", "megapixels/s", "time, ratio"), rows)


def as_json(norm: bn.BatchNorm, checks: Sequence[Check], timings: Sequence[Timing], picture: Path) -> str:
    """Return all results, machine-readable."""
    results = {
        "passed": all(c.passed for c in checks),
        "photographs": len(checks),
        "pixels": sum(c.codes for c in checks) // len(CHANNELS),
        "differ": sum(c.differ for c in checks),
        "largest_difference": max(c.largest for c in checks),
        "output_scale": norm.output_scale,
        "output_zero_point": norm.output_zero_point,
        "times": [asdict(t) for t in timings],
        "each": [asdict(c) for c in checks],
        "picture": str(picture),
        "config": bn.show_config(),
    }
    return json.dumps(results, indent=2) + "\n"


# The command


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Normalize the photographs that scikit-image carries from uint8 straight to the int8\n"
        "input of an ImageNet network, check every code against float64, time it and draw it.",
        epilog="example:\n  python examples/normalize_photos.py --output demo --json demo/results.json\n\n"
        "exit codes:\n  0  fine\n  1  a code is not what the float computation gives\n  2  bad arguments, "
        "or a package is missing",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, metavar="DIR", default=Path("demo"),
                        help=f"folder for {PICTURE}, made if it is not there (default: demo)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    return parser.parse_args(arguments)


def require_packages() -> None:
    """Refuse to start without the packages of the demo extra."""
    packages = {"skimage": "scikit-image", "matplotlib": "matplotlib", "rich": "rich"}
    missing = [name for module, name in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise BadInputError(f"{', '.join(missing)} missing: pip install bytenorm[demo]")


def run(output: Path, results: Path | None) -> bool:
    """Do it all; return whether the check passed."""
    require_packages()
    prepare_paths(output, results)

    print("The example of the page of torch.quantized_batch_norm:\n")
    print(textwrap.indent(PAGE_EXAMPLE, "  "))
    print(textwrap.indent(page_example(), "  "), end="\n\n")

    photographs, norm = load_photographs(), network_input()
    checks = [check(norm, name, pixels) for name, pixels in photographs.items()]
    print_check(norm, checks)
    print()
    timings = time_all(norm, list(photographs.values()))
    print_times(timings, len(photographs))

    picture = output / PICTURE
    figure = draw(norm, photographs)
    write_whole(picture, lambda file: figure.savefig(file, format="png"))
    if results is not None:
        text = as_json(norm, checks, timings, picture)
        write_whole(results, lambda file: file.write(text.encode()))
    print(f"\nPicture: {picture}")
    return all(c.passed for c in checks)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse(arguments)
    try:
        passed = run(options.output, options.json)
    except BadInputError as error:
        print(f"normalize_photos: {error}", file=sys.stderr)
        return 2
    if not passed:
        print("normalize_photos: codes differ from the float computation away from a tie", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # end quietly when the reader of a pipe goes away
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
