"""Norms through other quantizers, as they are and in disguise: ``python -m benchmarks.any_quantizer``.

Each network goes to NNCF and to ONNX Runtime's quantize_static, first as it is, then as `bytenorm.onnx.prepare`
writes it; `lower` and `restore` follow. What is counted: norms left in float, errors, and the SNR against float.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime.quantization as ort_quantization
from onnx import ModelProto

from bytenorm import onnx as bno
from bytenorm.onnx import Outcome, lower_with_report
from bytenorm.onnx.disguise.prepare_and_restore import restore_with_report
from bytenorm.onnx.lowering.names import Lowering

from . import lone_norms, machine, report
from .accuracy.measure import snr_db
from .accuracy.networks.digits import digits
from .accuracy.running import feeds, outputs_of
from .output import add_markdown, publish
from .quantizers import Reader, quiet

LOWERINGS: tuple[Lowering, ...] = ("portable", "exact", "fused", "qdq")
ABOUT = (
    "`as it is` is the quantizer's model, and `lower`; `in disguise` what it makes of `prepare`, and `restore`. "
    "A norm that reads or gives numbers in float cannot run in 8 bits. SNR of all outputs together, in decibels."
)
Feed = dict[str, Any]
Quantizer = Callable[[ModelProto, list[Feed]], ModelProto]


@dataclass(frozen=True)
class Subject:
    """A network and its data."""

    model: ModelProto
    calibration: list[Feed]
    held_out: Any
    wrong: Callable[[Any], float] | None = None


def nncf(model: ModelProto, data: list[Feed]) -> ModelProto:
    """Quantize with NNCF's defaults."""
    os.environ.setdefault("NNCF_CI", "1")  # it sends reports otherwise
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import nncf as peer

        peer.set_log_level(logging.ERROR)
        made: ModelProto = peer.quantize(model, peer.Dataset(data), subset_size=len(data))
        return made


def stock(model: ModelProto, data: list[Feed]) -> ModelProto:
    """Quantize with ONNX Runtime's own, with a scale a channel, in QDQ format."""
    with tempfile.TemporaryDirectory() as folder, quiet(), contextlib.redirect_stdout(io.StringIO()):
        source, made = Path(folder, "float.onnx"), Path(folder, "quantized.onnx")
        onnx.save(model, source)
        ort_quantization.quantize_static(
            source,
            made,
            Reader(data),
            per_channel=True,
            activation_type=ort_quantization.QuantType.QUInt8,
            weight_type=ort_quantization.QuantType.QInt8,
        )
        return onnx.load(made)


QUANTIZERS: dict[str, Quantizer] = {"NNCF": nncf, "quantize_static": stock}


def _digits() -> Subject:
    network = digits()
    assert network.task is not None
    return Subject(
        network.model, list(feeds(network.model, network.calibration)), network.held_out, network.task.figure
    )


def _large(name: str) -> Subject:
    from .networks.network import build  # torch and the photographs, for these alone

    network = build(name)
    return Subject(network.model, list(feeds(network.model, network.calibration)), network.held_out)


def _small(name: str) -> Subject:
    model = lone_norms.build(name)
    data = np.random.default_rng(0).normal(size=(72, *lone_norms.NETS[name][1])).astype(np.float32)
    return Subject(model, list(feeds(model, data[:24])), data[24:])


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "digits": _digits,
    "densenet121": lambda: _large("densenet121"),
    "resnet50v2": lambda: _large("resnet50v2"),
}


def main(arguments: list[str] | None = None) -> int:
    """Count, print the report and write it to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.any_quantizer", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=[*SUBJECTS, "small"], default=["digits", "densenet121", "small"]
    )
    parser.add_argument("--quantizers", nargs="+", choices=[*QUANTIZERS], default=[*QUANTIZERS])
    add_markdown(parser)
    options = parser.parse_args(arguments)
    blocks: list[report.Block] = [
        report.Heading("Norms through other quantizers", 1),
        report.Text(ABOUT),
        *report.of_machine(machine.describe()),
    ]
    columns = ["", "", "norms left", *(f"{lowering}: in float" for lowering in LOWERINGS), "SNR, dB", "errors"]
    for name in options.only:
        if name == "small":
            rows = list(_sums(options.quantizers))
            blocks += [report.Heading("Eight small networks", 2), report.Table(columns[:7], rows, 2)]
        else:
            subject = SUBJECTS[name]()
            rows = [row for of in options.quantizers for row in _rows(name, subject, of)]
            blocks += [report.Heading(name, 2), report.Table(columns, rows, 2)]
    text = report.markdown(blocks)
    publish(text, options.markdown)
    return 0


def _rows(name: str, subject: Subject, quantizer: str) -> Iterator[list[str]]:
    """Yield a row for what a quantizer makes of a network, and one of the network in disguise."""
    want = outputs_of(subject.model, subject.held_out)
    for how, models in _ways(subject, quantizer, name):
        snrs, errors = [], []
        for made, _ in models:
            got = outputs_of(made, subject.held_out)
            snrs.append(f"{snr_db(_together(want), _together(got)):.1f}")
            errors.append("" if subject.wrong is None else f"{subject.wrong(got):.0f}")
        in_float = [str(sum(bool(o.problem) for o in outcomes)) for _, outcomes in models]
        of = "" if subject.wrong is None else f"{', '.join(errors)} (float {subject.wrong(want):.0f})"
        yield [quantizer, how, str(len(models[0][1])), *in_float, ", ".join(snrs), of]


def _together(outputs: Sequence[Any]) -> Any:
    return np.concatenate([values.astype(np.float64).ravel() for values in outputs])


def _ways(
    subject: Subject, quantizer: str, name: str
) -> Iterator[tuple[str, Sequence[tuple[ModelProto, tuple[Outcome, ...]]]]]:
    sys.stderr.write(f"{name}: {quantizer}\n")
    quantize = QUANTIZERS[quantizer]
    made = quantize(subject.model, subject.calibration)
    yield "as it is", [lower_with_report(made, lowering=lowering) for lowering in LOWERINGS]
    made = quantize(bno.prepare(subject.model), subject.calibration)
    yield "in disguise", [restore_with_report(made, lowering=lowering) for lowering in LOWERINGS]


def _sums(quantizers: Sequence[str]) -> Iterator[list[str]]:
    """Yield rows for the small networks, all together."""
    for quantizer in quantizers:
        left: dict[str, list[int]] = {}
        for name in lone_norms.NETS:
            for how, models in _ways(_small(name), quantizer, name):
                counts = [len(models[0][1]), *(sum(bool(o.problem) for o in outcomes) for _, outcomes in models)]
                left[how] = [a + b for a, b in zip(left.get(how, [0] * len(counts)), counts, strict=True)]
        for how, counts in left.items():
            yield [quantizer, how, *map(str, counts)]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
