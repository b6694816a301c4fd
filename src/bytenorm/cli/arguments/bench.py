"""What ``bytenorm bench`` is called with."""

from __future__ import annotations

import argparse

from .command import Command
from .shared import add_data, add_json

DESCRIPTION = """\
Time models side by side: they take turns in one process, so that a slow
moment of the machine hits all of them. The time of the batch norms and the
number of Transposes are from ONNX Runtime's profile of other runs. With
--runtime openvino each model takes turns in OpenVINO, too, in a process of its
own; one that OpenVINO does not run, or dies of, is listed with the reason.
"""
EPILOG = """\
--json:
  onnxruntime, openvino (versions; null: not asked, or it ran none), threads,
  batch, data (null: random numbers), with data skipped (files of no known
  kind), and models, once a runtime: each with
  model, runtime, median_ms, q1_ms, q3_ms, fastest_ms, runs, speed (the first
  model's median over its own; all null where it did not run), problem (why)
  and profile (null in OpenVINO): total_ms, norms_ms, norms_share, norms,
  transposes_ms, transposes, by_op (milliseconds by operator)

examples:
  bytenorm bench model.onnx model.int8.onnx
  bytenorm bench stock.onnx model.int8.onnx --data calibration.npz \\
      --repeats 100 --threads 4
  bytenorm bench model.onnx portable.onnx qdq.onnx --runtime openvino
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is called with."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help="ONNX files with the same inputs")
    add_data(parser, required=False)
    parser.add_argument(
        "--batch", type=int, metavar="N", help="samples in a run, where the model leaves it open (default: 1)"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument(
        "--runtime",
        choices=["onnxruntime", "openvino"],
        default="onnxruntime",
        help="openvino: in OpenVINO, too (pip install 'bytenorm[openvino]'; default: onnxruntime alone)",
    )
    long = parser.add_mutually_exclusive_group()
    long.add_argument(
        "--seconds", type=float, default=3.0, metavar="S", help="how long for each model (default: 3)"
    )
    long.add_argument("--repeats", type=int, metavar="N", help="this many timed runs of each model instead")
    add_json(parser)


COMMAND = Command(
    "bench",
    usage="MODEL [MODEL ...]",
    summary="time models side by side",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=add_arguments,
)
