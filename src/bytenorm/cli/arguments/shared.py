"""Arguments that several commands have."""

from __future__ import annotations

import argparse

LOWERINGS = """\
portable (default): standard ONNX, fast everywhere, within one step of the exact result; exact: bytenorm's own
operator, for ONNX Runtime with bytenorm's library; fused: the same, and one operator for a norm with the
concatenation or the sum that it reads, for ONNX Runtime 1.18 or newer; qdq: a norm in float between 8-bit
conversions, for runtimes that make it 8-bit themselves, as OpenVINO does"""


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add what every command has: its result as JSON, and where an error was raised."""
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    add_traceback(parser)


def add_traceback(parser: argparse.ArgumentParser) -> None:
    """Add --traceback."""
    parser.add_argument(
        "--traceback", action="store_true", help="show where an error was raised, for a report of it"
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the file that a command writes."""
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the file to write")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def add_lowering(parser: argparse.ArgumentParser) -> None:
    """Add how norms are lowered."""
    parser.add_argument(
        "--lowering", choices=["portable", "exact", "fused", "qdq"], default="portable", help=LOWERINGS
    )
    parser.add_argument(
        "--keep-int8",
        action="store_true",
        help="leave int8 activations int8; otherwise they become uint8 with zero points 128 higher, the same "
        "numbers: ONNX Runtime on x86 is fast on uint8 only",
    )


def add_data(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the data that a command runs models on."""
    parser.add_argument(
        "--data",
        required=required,
        nargs="+",
        action="extend",
        metavar="PATH",
        help=".npz with arrays by input name, .npy, images, folders of these, whose folders take turns, or "
        "patterns such as 'photos/*/*.png'" + ("" if required else " (default: random numbers)"),
    )
    if required:
        parser.add_argument(
            "--limit", type=int, metavar="N", help="use the first N samples at most, as they are sorted"
        )
    parser.add_argument(
        "--batch-axis",
        action="append",
        default=[],
        type=_batch_axis,
        metavar="INPUT=AXIS",
        help="the axis of an input that counts samples, or none for one that goes to every batch as it is "
        "(default: the first, or the one named as another input's); may be given again",
    )
    group = parser.add_argument_group(
        "images", "Pixels become (pixel * rescale - mean) / std; one number, or one a channel."
    )
    group.add_argument("--mean", type=float, nargs="+", metavar="X", help="default: 0")
    group.add_argument("--std", type=float, nargs="+", metavar="X", help="default: 1")
    group.add_argument("--rescale", type=float, metavar="X", help="default: 1/255")


def _batch_axis(text: str) -> tuple[str, int | None]:
    name, _, axis = text.rpartition("=")
    if not name or not (axis == "none" or axis.lstrip("-").isdecimal()):
        raise argparse.ArgumentTypeError(f"INPUT=AXIS is wanted, such as state=1 or size=none, got {text!r}")
    return name, None if axis == "none" else int(axis)
