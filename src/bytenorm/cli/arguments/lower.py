"""What ``bytenorm lower`` is called with."""

from __future__ import annotations

import argparse

from .command import Command
from .shared import add_json, add_lowering, add_output

DESCRIPTION = """\
Let the batch norms of an already quantized model, in QDQ or QOperator format,
run in 8 bits. No data is needed. A norm that has to stay as it is is listed
with the reason.
"""
EPILOG = """\
--json:
  model, output, lowering, size_before, size_after (bytes), in_8_bits,
  in_float, and norms: each with name, channels, became ("8-bit" or "float"),
  problem, pattern and unfused (see inspect; empty unless --lowering is fused;
  with qdq the pattern is "qdq"); saturates (see quantize)

examples:
  bytenorm lower quantized.onnx -o model.int8.onnx
  bytenorm lower quantized.onnx --lowering exact -o model.int8.onnx
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is called with."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX file, quantized")
    add_output(parser)
    add_lowering(parser)
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="NORM",
        help="name of a norm that stays in float; may be given again",
    )
    add_json(parser)


COMMAND = Command(
    "lower",
    usage="MODEL -o OUT",
    summary="let a quantized model's batch norms run in 8 bits",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=add_arguments,
)
