"""What ``bytenorm inspect`` is called with."""

from __future__ import annotations

import argparse

from .command import Command
from .shared import add_json

DESCRIPTION = """\
List the batch norms of a model and what feeds them: in a float model, which
of them a layer before them can take up; in a quantized one, which run in
float and which in 8 bits, and which lower can fuse with the concatenation or
the sum that they read.
"""
EPILOG = """\
--json:
  model, opset, ir_version, quantized, note (inputs that are read as
  constants), in_float, in_8_bits, foldable, and
  norms: each with name, channels, written, reads, activation, runs_in,
  folds_into, reason, lowerable, problem, pattern ("concat", "concat + pool",
  "add", "single" or ""), unfused (why it is single), forward (whether
  folds_into is behind it), reason_forward (why no layer behind it takes it up)

examples:
  bytenorm inspect model.onnx
  bytenorm inspect model.int8.onnx --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is called with."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX file")
    add_json(parser)


COMMAND = Command(
    "inspect",
    usage="MODEL",
    summary="list the batch norms of a model",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=add_arguments,
)
