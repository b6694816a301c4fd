"""The arguments of the program: which commands there are."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ... import __version__
from ..completion import SHELLS, Completion
from ..usage import Parser, parse_known
from . import (
    bench,
    compare,
    inspect,
    lower,
    prepare,
    quantize,
    report,
    restore,
    statistics,
)
from .shared import add_traceback

if TYPE_CHECKING:
    from collections.abc import Sequence

DESCRIPTION = """\
Batch norms in 8 bits for ONNX models: find them, convert them, see what it
costs and what it brings; and exact statistics of 8-bit data.
"""
EPILOG = """\
exit codes:
  0 done; 2 bad input or usage, nothing is written; 3 written, but too far
  from the float model (quantize --fail-below); 1 a fault of bytenorm or of a
  library; 130 interrupted (SIGINT), 143 terminated (SIGTERM), 129 hung up
  (SIGHUP); 141 nobody reads the output. A file is written whole or not at
  all, and nothing else is left.

examples:
  bytenorm inspect model.onnx
  bytenorm quantize model.onnx --data calibration/ -o model.int8.onnx
  bytenorm lower quantized.onnx -o model.int8.onnx
  bytenorm prepare model.onnx -o prepared.onnx
  bytenorm restore quantized.onnx -o model.int8.onnx
  bytenorm compare model.onnx model.int8.onnx --data held-out.npz
  bytenorm bench model.onnx model.int8.onnx
  bytenorm statistics --data 'codes/*.npy' --scale 0.1 --zero-point 3 -o s.npz
  bytenorm report model.int8.onnx --data held-out.npz -o report.html

"bytenorm COMMAND --help" tells more, also which keys --json has; they stay.
"""

MODULES = (inspect, quantize, lower, prepare, restore, compare, bench, statistics, report)  # as help lists them
COMMANDS = tuple(module.COMMAND for module in MODULES)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; raises SystemExit after help, version or an error."""
    parser, commands = _parser()
    if not argv:
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    return parse_known(parser, commands, argv)


def _parser() -> tuple[Parser, dict[str, Parser]]:
    """Return the parser of the program and those of its commands."""
    parser = Parser(
        prog="bytenorm",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_to_program(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        made = commands.add_parser(
            command.name,
            usage=f"bytenorm {command.name} {command.usage} [options]",
            help=command.summary,
            description=command.description,
            epilog=command.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(made)
    return parser, commands.choices


def _add_to_program(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"bytenorm {__version__}")
    parser.add_argument(
        "--print-completion",
        action=Completion,
        choices=SHELLS,
        help='print a script for completion with TAB (pip install "bytenorm[completion]"), as in '
        'eval "$(bytenorm --print-completion bash)"',
    )
    add_traceback(parser)
