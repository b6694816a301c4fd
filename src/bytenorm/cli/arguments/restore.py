"""What ``bytenorm restore`` is called with."""

from __future__ import annotations

import argparse

from .command import Command
from .shared import add_json, add_lowering, add_output

DESCRIPTION = """\
Turn the norms that bytenorm prepare disguised, in what a quantizer made of
that model, into norms again, with their own parameters, and lower them. A norm
whose disguise the quantizer took apart stays as it is and is listed with the
reason.
"""
EPILOG = """\
--json:
  model, output, lowering, size_before, size_after (bytes), in_8_bits,
  in_float, saturates and norms: see lower

examples:
  bytenorm restore quantized.onnx -o model.int8.onnx
  bytenorm restore quantized.onnx --lowering qdq -o model.int8.onnx
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is called with."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX file, prepared and then quantized")
    add_output(parser)
    add_json(parser)
    add_lowering(parser)


COMMAND = Command(
    "restore",
    usage="MODEL -o OUT",
    summary="undo that in a quantized model",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=add_arguments,
)
