"""What ``bytenorm prepare`` is called with."""

from __future__ import annotations

import argparse

from .command import Command
from .shared import add_json, add_output

DESCRIPTION = """\
Disguise the batch norms of a float model as layers, for any static quantizer;
bytenorm restore undoes that in what the quantizer makes. Norms that the layer
before them can take up are folded.
"""
EPILOG = """\
--json:
  model, output, size_before, size_after (bytes), and names of norms: folded,
  disguised and left (as they are: their parameters are not constant, or not
  float32)

examples:
  bytenorm prepare model.onnx -o prepared.onnx
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is called with."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX file, in float")
    add_output(parser)
    add_json(parser)


COMMAND = Command(
    "prepare",
    usage="MODEL -o OUT",
    summary="make batch norms fit for any quantizer",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=add_arguments,
)
