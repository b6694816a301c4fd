"""What ``bytenorm compare`` is called with."""

from __future__ import annotations

import argparse

from .command import Command
from .shared import add_data, add_json

DESCRIPTION = """\
Run two models on the same data and tell how far the outputs of the second are
from those of the first.
"""
EPILOG = """\
--json:
  reference, candidate, samples, skipped (files of no known kind), and
  outputs: each with name, snr_db, cosine,
  top1_agreement, max_abs_error, worst_sample, worst_sample_snr_db, problem
  (why the output cannot be compared, or ""; the numbers are null then), broken
  (the candidate's is NaN or infinite, the reference's is a number); an
  infinite snr_db is null (with max_abs_error 0 the outputs are equal);
  reference_saturates and candidate_saturates (see quantize)

examples:
  bytenorm compare model.onnx model.int8.onnx --data held-out.npz
  bytenorm compare model.onnx model.int8.onnx --data photos/ --limit 100 \\
      --rescale 1 --mean 127.5 --std 127.5
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is called with."""
    parser.add_argument("reference", metavar="REFERENCE", help="an ONNX file")
    parser.add_argument("candidate", metavar="CANDIDATE", help="an ONNX file with the same inputs")
    add_data(parser, required=True)
    add_json(parser)


COMMAND = Command(
    "compare",
    usage="REFERENCE CANDIDATE --data PATH",
    summary="tell how far one model's outputs are from another's",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=add_arguments,
)
