"""What ``bytenorm quantize`` is called with."""

from __future__ import annotations

import argparse
import json
import math

from .command import Command
from .shared import add_data, add_json, add_lowering, add_output

DESCRIPTION = """\
Make an 8-bit model of a float one. Batch norms that a layer before them can
take up are folded, the others run in 8 bits; ONNX Runtime's static quantizer
does the rest. A norm that has to stay in float is listed with the reason.
What quantization moved is then corrected, if that brings the outputs nearer
to the float model's on a quarter of the samples, which is kept aside.
"""
EPILOG = """\
--json:
  model, output, lowering, format, activations, weights, calibrate_method (how
  the ranges were found that are taken, such as "percentile 99.999"),
  norm_method, fast, data_statistics, per_channel, reduce_range (true: 7 bits,
  false: all of 8, null: what sums need), samples,
  skipped (files of no known kind), size_before, size_after (bytes), folded,
  in_8_bits, in_float, comparison (see compare),
  alone (the same of what ONNX Runtime's quantizer alone makes, or null: asked
  only if an output has less than 20 dB), far (what is far from the float
  model), stayed (norms that could not go into the layer behind them), weak
  (nodes that stay in float because they only lose in 8 bits), unlike (how far
  the data is from what the network was trained on, or empty), few (that so
  few samples tell little of others, or empty), not_excluded (nodes that ONNX
  Runtime's preparation left out), norms: each with name, channels, became
  ("folded", "8-bit" or "float"), folds_into, problem, pattern and unfused
  (see inspect; empty unless --lowering is fused; with qdq the pattern is
  "qdq"); steps: what was tried, each with name, taken, problem, before_db,
  after_db and corrections (name, kind, moved, stretched); and, with
  --norm-method or --data-statistics, recalibrated: norms, each with name,
  method, reestimated, scale, zero_point, clipped (a share), mse, problem and
  kind (always "norm"); minimum_snr (as asked, or null); saturates: whether
  the model computes wrong numbers on this CPU with ONNX Runtime's default
  options, as with --full-range and without VNNI

examples:
  bytenorm quantize model.onnx --data calibration.npz -o model.int8.onnx
  bytenorm quantize model.onnx --data photos/ --limit 200 -o model.int8.onnx \\
      --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225
  bytenorm quantize model.onnx --data calibration/ --norm-method mse \\
      -o model.int8.onnx
  bytenorm quantize model.onnx --data calibration/ --lowering exact \\
      --exclude first_conv --exclude classifier -o model.int8.onnx --force
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is called with; the library's options lie under their names there."""
    parser.add_argument("model", metavar="MODEL", help="an ONNX file, in float")
    add_data(parser, required=True)
    add_output(parser)
    add_lowering(parser)
    parser.add_argument(
        "--format", dest="quant_format", choices=["QDQ", "QOperator"], default="QDQ", help="default: QDQ"
    )
    bytes_ = ["uint8", "int8"]
    for option, dest, usual in (("activations", "activation_type", "uint8"), ("weights", "weight_type", "int8")):
        said = f"their type (default: {usual})"
        parser.add_argument(f"--{option}", dest=dest, choices=bytes_, default=usual, help=said)
    parser.add_argument(
        "--calibrate-method",
        choices=["minmax", "entropy", "percentile", "best"],
        help="how ranges of activations are chosen; best tries minmax, the percentiles 99.999 and 99.99 and the "
        "least squared error on samples kept aside (default: minmax and the percentile 99.999, the better one)",
    )
    parser.add_argument(
        "--norm-method",
        dest="method",
        choices=["mse", "minmax", "percentile", "entropy"],
        help="how the output scales of norms are chosen, from exact counts of their inputs; no other ranges are "
        "tried then; taken if that brings the outputs nearer to the float model's on samples "
        "kept aside, or if fewer than 8 samples cannot tell (default: as --calibrate-method)",
    )
    _add_steps(parser)
    parser.add_argument(
        "--per-tensor",
        dest="per_channel",
        action="store_false",
        help="one weight scale for all channels of a layer",
    )
    _add_range(parser)
    _add_quantizers_own(parser)
    _add_judgement(parser)
    add_json(parser)


def _add_steps(parser: argparse.ArgumentParser) -> None:
    """Add what is tried to bring the 8-bit model nearer to the float one."""
    steps = parser.add_mutually_exclusive_group()
    steps.add_argument(
        "--reestimate",
        action="store_true",
        default=None,
        help="correct norms and layers relative to the float model, if that helps on samples kept aside: the "
        "default, which neither of the next two goes with",
    )
    steps.add_argument(
        "--fast",
        action="store_true",
        help="try nothing behind ONNX Runtime's quantizer that no other option asks for: half the time, less "
        "accuracy",
    )
    steps.add_argument(
        "--data-statistics",
        action="store_true",
        help="give norms the mean and variance of the data in place of re-estimation: only for data unlike that "
        "of the training",
    )


def _add_range(parser: argparse.ArgumentParser) -> None:
    """Add how much of 8 bits weights use."""
    ranges = parser.add_mutually_exclusive_group()
    ranges.add_argument(
        "--reduce-range",
        action="store_true",
        default=None,
        help="7-bit weights, as ONNX Runtime's quantizer makes them (default: of 8 bits as much as lets sums be "
        "right on every CPU, also on those with AVX2 or AVX-512 but without VNNI)",
    )
    ranges.add_argument(
        "--full-range",
        dest="reduce_range",
        action="store_false",
        default=None,
        help="weights use all of 8 bits: a little more accuracy, and wrong sums on CPUs without VNNI",
    )


def _add_quantizers_own(parser: argparse.ArgumentParser) -> None:
    """Add which nodes get 8 bits, and what else ONNX Runtime's quantizer knows."""
    parser.add_argument(
        "--exclude",
        dest="nodes_to_exclude",
        action="append",
        default=[],
        metavar="NODE",
        help="name of a node that stays in float; may be given again",
    )
    of_quantizer = parser.add_argument_group(
        "of ONNX Runtime's quantizer",
        "Its own arguments of the same meaning: see docs/onnx-quantize.md.",
    )
    of_quantizer.add_argument(
        "--only-type",
        dest="op_types_to_quantize",
        action="append",
        metavar="TYPE",
        help="type of nodes that get 8 bits, and no others do; BatchNormalization stands for norms, however they "
        "are written; may be given again",
    )
    of_quantizer.add_argument(
        "--only",
        dest="nodes_to_quantize",
        action="append",
        metavar="NODE",
        help="name of a node that gets 8 bits, and no others do; may be given again",
    )
    of_quantizer.add_argument(
        "--extra-option",
        dest="extra_options",
        action="append",
        default=[],
        type=_extra_option,
        metavar="NAME=VALUE",
        help='such as ActivationSymmetric=true; the value is JSON: true, 0.1, ["Conv"]; may be given again',
    )


def _extra_option(text: str) -> tuple[str, object]:
    name, found, value = text.partition("=")
    try:
        return name, json.loads(value if found else "")
    except (ValueError, RecursionError):
        raise argparse.ArgumentTypeError(f"wanted NAME=VALUE with a value in JSON, got {text!r}") from None


def _add_judgement(parser: argparse.ArgumentParser) -> None:
    """Add how the result is held against the float model."""
    parser.add_argument(
        "--minimum-snr",
        dest="minimum_snr_db",
        type=_decibels,
        metavar="DB",
        help="leave norms in float, those first that gain the most, until each output has DB decibels of the "
        "float model's on samples kept aside, or no norm gains any more; the layers beside them run in float too",
    )
    parser.add_argument(
        "--fail-below",
        type=_decibels,
        nargs="?",
        const=10.0,
        metavar="DB",
        help="exit with 3, the model being written, if an output has less than DB decibels (default: 10) of the "
        "float model's, or 6 less than what ONNX Runtime's quantizer alone makes of it",
    )
    parser.add_argument(
        "--no-compare",
        dest="compare",
        action="store_false",
        help="do not run both models on all samples to compare their outputs; a few tell one that is far off",
    )


def _decibels(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise argparse.ArgumentTypeError(f"must be a number of decibels, got {text!r}")
    return found


COMMAND = Command(
    "quantize",
    usage="MODEL --data PATH -o OUT",
    summary="make an 8-bit model of a float one",
    description=DESCRIPTION,
    epilog=EPILOG,
    add_arguments=add_arguments,
)
