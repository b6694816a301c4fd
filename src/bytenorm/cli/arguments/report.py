"""What ``bytenorm report`` is called with."""

from __future__ import annotations

import argparse

from .command import Command
from .shared import add_data, add_json, add_output

DESCRIPTION = """\
Run a quantized model on data and write a web page about its batch norms: what
they read and make, which outputs are clipped, how far the codes are from the
norm in float, and what the best scale would bring; the most damaged first.
With the float model it says where along the network accuracy is lost, norm by
norm and layer by layer. The page is one file that needs nothing else.
"""
EPILOG = """\
--json:
  model, output, data, skipped (files of no known kind), samples, norms: each
  with name, written, activation, channels, codes (how many were measured),
  snr_db, worst_channel,
  worst_channel_snr_db, mse, clipped (0 to 1), scale, zero_point, best_scale,
  best_zero_point, best_mse, best_clipped, gain_db; and left_out: each with
  name and problem. An snr_db is null where there is no error (mse 0), or
  nothing but error; a gain_db where the best scale leaves none. With --float
  also drift: each 8-bit tensor, in the network's order, with name, kind and
  nodes (what makes it in the float model), snr_db (accumulated), own_snr_db,
  what the own error is made of (clipped, rounded, moved, computed: shares
  from 0 to 1) and problem; unmatched: each with name and problem; and
  findings: snr_db (of the outputs), samples, tried (tensors that were put in
  float, one by one), found: each with name, cause (range, rounding, mean or
  weights), share (of its own error), option (of bytenorm quantize), advice,
  float_gain_db and option_gain_db (at the outputs: by the tensor in float,
  by the option there); and problems: each with name and problem. correction
  is what quantize noted, or null: samples, steps (name, taken, problem,
  before_db, after_db), corrected (name, kind, moved, stretched, moved_after)
  and problem; unlike: how far the data is from what the network was trained on
  or calibrated with, or empty

examples:
  bytenorm report model.int8.onnx --data held-out.npz -o report.html
  bytenorm report model.int8.onnx --float model.onnx --data held-out.npz \\
      -o report.html
  bytenorm report model.int8.onnx --data photos/ --limit 100 -o report.html \\
      --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 --force
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is called with."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX file, quantized")
    parser.add_argument(
        "--float", metavar="FLOAT", help="the float model it was made of: show where accuracy is lost"
    )
    add_data(parser, required=True)
    add_output(parser)
    add_json(parser)


COMMAND = Command(
    "report",
    usage="MODEL --data PATH -o OUT",
    summary="write a page about what the batch norms of a quantized model lose",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=add_arguments,
    extra="report",
    packages=("onnx", "onnxruntime", "rich", "jinja2"),
)
