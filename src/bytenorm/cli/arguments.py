"""The arguments of the command; nothing here needs onnx, so that help is there without it."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence

from .. import __version__
from .completion import SHELLS, Completion
from .usage import Parser, parse_known

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
  bytenorm calibrate --data 'codes/*.npy' --scale 0.1 --zero-point 3 -o s.npz
  bytenorm report model.int8.onnx --data held-out.npz -o report.html

"bytenorm COMMAND --help" tells more, also which keys --json has; they stay.
"""

INSPECT = """\
List the batch norms of a model and what feeds them: in a float model, which
of them a layer before them can take up; in a quantized one, which run in
float and which in 8 bits, and which lower can fuse with the concatenation or
the sum that they read.
"""
INSPECT_EPILOG = """\
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

QUANTIZE = """\
Make an 8-bit model of a float one. Batch norms that a layer before them can
take up are folded, the others run in 8 bits; ONNX Runtime's static quantizer
does the rest. A norm that has to stay in float is listed with the reason.
What quantization moved is then corrected, if that brings the outputs nearer
to the float model's on a quarter of the samples, which is kept aside.
"""
QUANTIZE_EPILOG = """\
--json:
  model, output, lowering, format, activations, weights, method (how the
  ranges were found that are taken, such as "percentile 99.999"), norm_method,
  fast, data_statistics, per_channel, reduce_range, samples, skipped (files of
  no known kind), size_before,
  size_after (bytes), folded, in_8_bits, in_float, comparison (see compare),
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
  method, reestimated, scale, zero_point, clipped (a share), mse; saturates:
  whether the model computes wrong numbers on this CPU with ONNX Runtime's
  default options, as full-range weights do without VNNI

examples:
  bytenorm quantize model.onnx --data calibration.npz -o model.int8.onnx
  bytenorm quantize model.onnx --data photos/ --limit 200 -o model.int8.onnx \\
      --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225
  bytenorm quantize model.onnx --data calibration/ --norm-method mse \\
      -o model.int8.onnx
  bytenorm quantize model.onnx --data calibration/ --lowering exact \\
      --exclude first_conv --exclude classifier -o model.int8.onnx --force
"""

LOWER = """\
Let the batch norms of an already quantized model, in QDQ or QOperator format,
run in 8 bits. No data is needed. A norm that has to stay as it is is listed
with the reason.
"""
LOWER_EPILOG = """\
--json:
  model, output, lowering, size_before, size_after (bytes), in_8_bits,
  in_float, and norms: each with name, channels, became ("8-bit" or "float"),
  problem, pattern and unfused (see inspect; empty unless --lowering is fused;
  with qdq the pattern is "qdq"); saturates (see quantize)

examples:
  bytenorm lower quantized.onnx -o model.int8.onnx
  bytenorm lower quantized.onnx --lowering exact -o model.int8.onnx
"""

PREPARE = """\
Disguise the batch norms of a float model as layers, for any static quantizer;
bytenorm restore undoes that in what the quantizer makes. Norms that the layer
before them can take up are folded.
"""
PREPARE_EPILOG = """\
--json:
  model, output, size_before, size_after (bytes), and names of norms: folded,
  disguised and left (as they are: their parameters are not constant, or not
  float32)

examples:
  bytenorm prepare model.onnx -o prepared.onnx
"""

RESTORE = """\
Turn the norms that bytenorm prepare disguised, in what a quantizer made of
that model, into norms again, with their own parameters, and lower them. A norm
whose disguise the quantizer took apart stays as it is and is listed with the
reason.
"""
RESTORE_EPILOG = """\
--json:
  model, output, lowering, size_before, size_after (bytes), in_8_bits,
  in_float, saturates and norms: see lower

examples:
  bytenorm restore quantized.onnx -o model.int8.onnx
  bytenorm restore quantized.onnx --lowering qdq -o model.int8.onnx
"""

COMPARE = """\
Run two models on the same data and tell how far the outputs of the second are
from those of the first.
"""
COMPARE_EPILOG = """\
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
      --scale 1 --mean 127.5 --std 127.5
"""

BENCH = """\
Time models side by side: they take turns in one process, so that a slow
moment of the machine hits all of them. The time of the batch norms and the
number of Transposes are from ONNX Runtime's profile of other runs. With
--runtime openvino each model takes turns in OpenVINO, too, in a process of its
own; one that OpenVINO does not run, or dies of, is listed with the reason.
"""
BENCH_EPILOG = """\
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

CALIBRATE = """\
Gather exact statistics of the channels of 8-bit arrays in .npy files, which
need not fit any memory: workers map them, and count a piece at a time. Arrays
of floats are quantized, piece by piece. The result is the same bits for any
number of workers, and also if some of them die while they count.
"""
CALIBRATE_EPILOG = """\
--json:
  data, skipped (files of no known kind), output, files, size (bytes), dtype
  (of the codes), channels, axis, scale, zero_point, workers (null: the
  command itself counted), scheduler (null: none that was there), count (values
  of each channel), and, one number a channel: minimum and maximum (as codes),
  mean and var (in real units)

examples:
  bytenorm calibrate --data 'codes/*.npy' --scale 0.1 --zero-point 128 \\
      -o statistics.npz
  bytenorm calibrate --data 'codes/*.npy' --scale 0.1 --zero-point 128 \\
      --workers 4 --memory-limit 1GB -o statistics.npz
  bytenorm calibrate --data '/data/codes/*.npy' --scale 0.1 --zero-point 128 \\
      --scheduler tcp://10.0.0.1:8786 -o statistics.npz
"""

REPORT = """\
Run a quantized model on data and write a web page about its batch norms: what
they read and make, which outputs are clipped, how far the codes are from the
norm in float, and what the best scale would bring; the most damaged first.
With the float model it says where along the network accuracy is lost, norm by
norm and layer by layer. The page is one file that needs nothing else.
"""
REPORT_EPILOG = """\
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

LOWERINGS = """\
portable (default): standard ONNX, fast everywhere, within one step of the exact result; exact: bytenorm's own
operator, for ONNX Runtime with bytenorm's library; fused: the same, and one operator for a norm with the
concatenation or the sum that it reads, for ONNX Runtime 1.18 or newer; qdq: a norm in float between 8-bit
conversions, for runtimes that make it 8-bit themselves, as OpenVINO does"""


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

    def command(name: str, usage: str, summary: str, description: str, epilog: str) -> Parser:
        made: Parser = commands.add_parser(
            name,
            usage=f"bytenorm {name} {usage} [options]",
            help=summary,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        return made

    made = command("inspect", "MODEL", "list the batch norms of a model", INSPECT, INSPECT_EPILOG)
    made.add_argument("model", metavar="MODEL", help="an ONNX file")
    _add_json(made)

    made = command(
        "quantize", "MODEL --data PATH -o OUT", "make an 8-bit model of a float one", QUANTIZE, QUANTIZE_EPILOG
    )
    made.add_argument("model", metavar="MODEL", help="an ONNX file, in float")
    _add_data(made, required=True)
    _add_output(made)
    _add_lowering(made)
    made.add_argument("--format", choices=["QDQ", "QOperator"], default="QDQ", help="default: QDQ")
    bytes_ = ["uint8", "int8"]
    made.add_argument("--activations", choices=bytes_, default="uint8", help="their type (default: uint8)")
    made.add_argument("--weights", choices=bytes_, default="int8", help="their type (default: int8)")
    made.add_argument(
        "--method",
        choices=["minmax", "entropy", "percentile", "best"],
        help="how ranges of activations are chosen (calibrate_method in Python); best tries minmax, the "
        "percentiles 99.999 and 99.99 and the least squared error on samples kept aside (default: minmax and the "
        "percentile 99.999, the better one)",
    )
    made.add_argument(
        "--norm-method",
        choices=["mse", "minmax", "percentile", "entropy"],
        help="how the output scales of norms are chosen, from exact counts of their inputs (method in Python); no "
        "other ranges are tried then; taken if that brings the outputs nearer to the float model's on samples "
        "kept aside, or if fewer than 8 samples cannot tell (default: as --method)",
    )
    _add_steps(made)
    made.add_argument("--per-tensor", action="store_true", help="one weight scale for all channels of a layer")
    made.add_argument(
        "--reduce-range",
        action="store_true",
        help="7-bit weights: for CPUs with AVX2 or AVX-512 but without VNNI, whose sums saturate",
    )
    _add_quantizers_own(made)
    _add_judgement(made)
    _add_json(made)

    made = command(
        "lower", "MODEL -o OUT", "let a quantized model's batch norms run in 8 bits", LOWER, LOWER_EPILOG
    )
    made.add_argument("model", metavar="MODEL", help="an ONNX file, quantized")
    _add_output(made)
    _add_lowering(made)
    _add_json(made)

    _add_disguise(
        command("prepare", "MODEL -o OUT", "make batch norms fit for any quantizer", PREPARE, PREPARE_EPILOG),
        command("restore", "MODEL -o OUT", "undo that in a quantized model", RESTORE, RESTORE_EPILOG),
    )

    made = command(
        "compare",
        "A B --data PATH",
        "tell how far one model's outputs are from another's",
        COMPARE,
        COMPARE_EPILOG,
    )
    made.add_argument("reference", metavar="A", help="an ONNX file")
    made.add_argument("candidate", metavar="B", help="an ONNX file with the same inputs")
    _add_data(made, required=True)
    _add_json(made)

    made = command("bench", "MODEL [MODEL ...]", "time models side by side", BENCH, BENCH_EPILOG)
    made.add_argument("models", metavar="MODEL", nargs="+", help="ONNX files with the same inputs")
    _add_data(made, required=False)
    made.add_argument(
        "--batch", type=int, metavar="N", help="samples in a run, where the model leaves it open (default: 1)"
    )
    made.add_argument("--threads", type=int, default=1, metavar="N", help="default: 1")
    made.add_argument(
        "--runtime",
        choices=["onnxruntime", "openvino"],
        default="onnxruntime",
        help="openvino: in OpenVINO, too (pip install 'bytenorm[openvino]'; default: onnxruntime alone)",
    )
    long = made.add_mutually_exclusive_group()
    long.add_argument(
        "--seconds", type=float, default=3.0, metavar="S", help="how long for each model (default: 3)"
    )
    long.add_argument("--repeats", type=int, metavar="N", help="this many timed runs of each model instead")
    _add_json(made)

    _add_calibrate(
        command(
            "calibrate",
            "--data PATH --scale S --zero-point Z -o OUT",
            "gather the exact statistics of files, on one machine or many",
            CALIBRATE,
            CALIBRATE_EPILOG,
        )
    )
    _add_report(
        command(
            "report",
            "MODEL --data PATH -o OUT",
            "write a page about what the batch norms of a quantized model lose",
            REPORT,
            REPORT_EPILOG,
        )
    )
    return parser, commands.choices


def _add_report(made: argparse.ArgumentParser) -> None:
    """Add what a report is made of."""
    made.add_argument("model", metavar="MODEL", help="an ONNX file, quantized")
    made.add_argument(
        "--float", metavar="FLOAT", help="the float model it was made of: show where accuracy is lost"
    )
    _add_data(made, required=True)
    _add_output(made)
    _add_json(made)


def _add_steps(made: argparse.ArgumentParser) -> None:
    """Add what is tried to bring the 8-bit model nearer to the float one."""
    steps = made.add_mutually_exclusive_group()
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


def _add_quantizers_own(made: argparse.ArgumentParser) -> None:
    """Add which nodes get 8 bits, and what else ONNX Runtime's quantizer knows."""
    made.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="NODE",
        help="name of a node that stays in float; may be given again",
    )
    of_quantizer = made.add_argument_group(
        "of ONNX Runtime's quantizer",
        "Its op_types_to_quantize, nodes_to_quantize and extra_options: docs/onnx.md.",
    )
    of_quantizer.add_argument(
        "--only-type",
        action="append",
        metavar="TYPE",
        help="type of nodes that get 8 bits, and no others do; BatchNormalization stands for norms, however they "
        "are written; may be given again",
    )
    of_quantizer.add_argument(
        "--only",
        action="append",
        metavar="NODE",
        help="name of a node that gets 8 bits, and no others do; may be given again",
    )
    of_quantizer.add_argument(
        "--extra-option",
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


def _add_judgement(made: argparse.ArgumentParser) -> None:
    """Add how the result is held against the float model."""
    made.add_argument(
        "--fail-below",
        type=_decibels,
        nargs="?",
        const=10.0,
        metavar="DB",
        help="exit with 3, the model being written, if an output has less than DB decibels (default: 10) of the "
        "float model's, or 6 less than what ONNX Runtime's quantizer alone makes of it",
    )
    made.add_argument(
        "--no-compare",
        action="store_true",
        help="do not run both models on all samples to compare their outputs; a few tell one that is far off",
    )


def _add_calibrate(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--data",
        required=True,
        nargs="+",
        action="extend",
        metavar="PATH",
        help=".npy files, folders of these, or patterns such as 'codes/*.npy'",
    )
    made.add_argument(
        "--scale", required=True, type=float, nargs="+", metavar="S", help="of the codes: one, or one a channel"
    )
    made.add_argument(
        "--zero-point", required=True, type=int, nargs="+", metavar="Z", help="of the codes: one, or one a channel"
    )
    made.add_argument("--axis", type=int, default=1, metavar="A", help="where the channels are (default: 1)")
    made.add_argument(
        "--dtype", choices=["uint8", "int8"], help="to which codes arrays of floats are quantized (default: uint8)"
    )
    _add_output(made)
    where = made.add_argument_group(
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
    _add_json(made)


def _batch_axis(text: str) -> tuple[str, int | None]:
    name, _, axis = text.rpartition("=")
    if not name or not (axis == "none" or axis.lstrip("-").isdecimal()):
        raise argparse.ArgumentTypeError(f"INPUT=AXIS is wanted, such as state=1 or size=none, got {text!r}")
    return name, None if axis == "none" else int(axis)


def _decibels(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise argparse.ArgumentTypeError(f"must be a number of decibels, got {text!r}")
    return found


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    _add_traceback(parser)


def _add_to_program(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"bytenorm {__version__}")
    parser.add_argument(
        "--print-completion",
        action=Completion,
        choices=SHELLS,
        help='print a script for completion with TAB (pip install "bytenorm[completion]"), as in '
        'eval "$(bytenorm --print-completion bash)"',
    )
    _add_traceback(parser)


def _add_traceback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--traceback", action="store_true", help="show where an error was raised, for a report of it"
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the file to write")
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def _add_disguise(prepare: argparse.ArgumentParser, restore: argparse.ArgumentParser) -> None:
    prepare.add_argument("model", metavar="MODEL", help="an ONNX file, in float")
    restore.add_argument("model", metavar="MODEL", help="an ONNX file, prepared and then quantized")
    for parser in (prepare, restore):
        _add_output(parser)
        _add_json(parser)
    _add_lowering(restore)


def _add_lowering(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lowering", choices=["portable", "exact", "fused", "qdq"], default="portable", help=LOWERINGS
    )
    parser.add_argument(
        "--keep-int8",
        action="store_true",
        help="leave int8 activations int8; otherwise they become uint8 with zero points 128 higher, the same "
        "numbers: ONNX Runtime on x86 is fast on uint8 only",
    )


def _add_data(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--data",
        required=required,
        nargs="+",
        action="extend",
        metavar="PATH",
        help=".npz with arrays by input name, .npy, images, folders of these, whose folders take turns, or "
        "patterns such as 'photos/*/*.png'" + ("" if required else " (default: random numbers)"),
    )
    if required:
        parser.add_argument(
            "--limit", type=int, metavar="N", help="use the first N samples at most, as they are sorted"
        )
    parser.add_argument(
        "--batch-axis",
        action="append",
        default=[],
        type=_batch_axis,
        metavar="INPUT=AXIS",
        help="the axis of an input that counts samples, or none for one that goes to every batch as it is "
        "(default: the first, or the one named as another input's); may be given again",
    )
    group = parser.add_argument_group(
        "images", "Pixels become (pixel * scale - mean) / std; one number, or one a channel."
    )
    group.add_argument("--mean", type=float, nargs="+", metavar="X", help="default: 0")
    group.add_argument("--std", type=float, nargs="+", metavar="X", help="default: 1")
    group.add_argument("--scale", type=float, metavar="X", help="default: 1/255")
