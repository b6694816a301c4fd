"""What ``bytenorm statistics`` is called with."""

from __future__ import annotations

import argparse

from .command import Command
from .shared import add_json, add_output

DESCRIPTION = """\
Gather exact statistics of the channels of 8-bit arrays in .npy files, which
need not fit any memory: workers map them, and count a piece at a time. Arrays
of floats are quantized, piece by piece. The result is the same bits for any
number of workers, and also if some of them die while they count.
"""
EPILOG = """\
--json:
  data, skipped (files of no known kind), output, files, size (bytes), dtype
  (of the codes), channels, axis, scale, zero_point, workers (null: the
  command itself counted), scheduler (null: none that was there), count (values
  of each channel), and, one number a channel: minimum and maximum (as codes),
  mean and var (in real units)

examples:
  bytenorm statistics --data 'codes/*.npy' --scale 0.1 --zero-point 128 \\
      -o statistics.npz
  bytenorm statistics --data 'codes/*.npy' --scale 0.1 --zero-point 128 \\
      --workers 4 --memory-limit 1GB -o statistics.npz
  bytenorm statistics --data '/data/codes/*.npy' --scale 0.1 --zero-point 128 \\
      --scheduler tcp://10.0.0.1:8786 -o statistics.npz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is called with."""
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        action="extend",
        metavar="PATH",
        help=".npy files, folders of these, or patterns such as 'codes/*.npy'",
    )
    parser.add_argument(
        "--scale", required=True, type=float, nargs="+", metavar="S", help="of the codes: one, or one a channel"
    )
    parser.add_argument(
        "--zero-point", required=True, type=int, nargs="+", metavar="Z", help="of the codes: one, or one a channel"
    )
    parser.add_argument("--axis", type=int, default=1, metavar="A", help="where the channels are (default: 1)")
    parser.add_argument(
        "--dtype", choices=["uint8", "int8"], help="to which codes arrays of floats are quantized (default: uint8)"
    )
    add_output(parser)
    where = parser.add_argument_group(
        "workers", "By default, above 4 GiB, a cluster on this machine, for that time."
    )
    where.add_argument("--workers", type=int, metavar="N", help="processes (default: one a CPU)")
    where.add_argument(
        "--memory-limit", metavar="SIZE", help="of each, as 1GB (default: they share what there is)"
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a Dask cluster, instead; its workers need bytenorm, and the files under the same paths",
    )
    add_json(parser)


COMMAND = Command(
    "statistics",
    usage="--data PATH --scale S --zero-point Z -o OUT",
    summary="gather the exact statistics of files, on one machine or many",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=add_arguments,
    extra="dask",
    packages=("rich",),
)
