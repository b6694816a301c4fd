"""``bytenorm report``."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..._errors import bad_value
from ..._files.writing import replacing
from ...onnx.graph.graph import Graph
from ...onnx.graph.quantized import is_quantized
from ...onnx.model.files import load_model
from ...report import gather, page
from ..console import as_size
from ..data import named, samples
from ..output import require_output
from ..wording import File, naming

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from ...report.accuracy.accumulation import Drift
    from ...report.accuracy.correction import Correction
    from ...report.accuracy.findings import Findings
    from ...report.results import NormReport, Report
    from ..console import Screen

STEPS = ("tensor", "made by", "accumulated SNR dB", "own SNR dB", "problem")
COLUMNS = ("norm", "channels", "SNR dB", "clipped %", "best scale brings, dB")


def run(options: argparse.Namespace, screen: Screen) -> None:
    """Write a page about what the norms of a quantized model lose."""
    label = f"model {options.model!r}"
    models = [options.model, *filter(None, [options.float])]
    require_output(options.output, options.force, models=models, data=options.data)
    with (
        naming(options.model, data="--data", reference=File("--float", options.float)),
        screen.progress() as progress,
    ):
        model = load_model(options.model)
        if not is_quantized(Graph(model)):
            raise bad_value(label, "is in float: bytenorm quantize makes an 8-bit one of it first")
        data = samples(options, model, options.limit, screen)
        found = gather(model, data, reference=options.float, progress=progress)
        text = page(found, model=options.model, data=named(options.data), progress=progress).encode()
        with replacing(Path(options.output), f"output {options.output!r}") as file:
            file.write(text)
    screen.line(f"{options.model}, on {found.samples} sample{'s' * (found.samples != 1)}")
    if found.unlike:
        screen.line(f"warning: {found.unlike}")
    if found.findings is not None:  # what to do comes before the numbers
        for line in _findings(found.findings, len(found.drift)):
            screen.line(line)
    if found.correction is not None:
        for line in _correction(found.correction):
            screen.line(line)
    if found.norms:
        screen.line()
        screen.table(COLUMNS, [_row(norm) for norm in found.norms])
    if found.drift:
        screen.line()
        screen.table(STEPS, [_step(one) for one in found.drift])
    screen.line()
    for name, why in found.left_out:
        screen.line(f"not measured: {name}: {why}")
    for why, n in Counter(why for _, why in found.unmatched).items():
        screen.line(f"not compared: {n} tensor{'s' * (n != 1)}, listed in the page: {why}")
    screen.line(f"written to {options.output} ({as_size(len(text))})")
    screen.result(
        model=options.model,
        output=options.output,
        data=options.data,
        samples=found.samples,
        norms=[norm.to_dict() for norm in found.norms],
        left_out=[{"name": name, "problem": why} for name, why in found.left_out],
        correction=None if found.correction is None else found.correction.to_dict(),
        unlike=found.unlike,
        **_drift(found),
    )


def _drift(found: Report) -> dict[str, object]:
    if not found.drift:
        return {}
    unmatched = [{"name": name, "problem": why} for name, why in found.unmatched]
    findings = None if found.findings is None else found.findings.to_dict()
    return {"drift": [asdict(one) for one in found.drift], "unmatched": unmatched, "findings": findings}


def _step(one: Drift) -> list[str]:
    if one.problem:
        return [one.name, one.kind, "-", "-", one.problem]
    return [one.name, one.kind, f"{one.snr_db:.2f}", f"{one.own_snr_db:.2f}", ""]


def _findings(findings: Findings, tensors: int) -> Iterator[str]:
    n = findings.samples
    yield (
        f"outputs: {findings.snr_db:.2f} dB on {n} sample{'s' * (n != 1)}; "
        f"{findings.tried} of {tensors} tensors were put in float, one by one"
    )
    for one in findings.found:
        yield f"{one.name}: in float the outputs would gain {one.float_gain_db:.2f} dB"
        yield f"  {one.cause}, {100 * one.share:.0f} % of its own error: {one.advice}"
        if one.option:
            yield f"  bytenorm quantize {one.option}: {one.option_gain_db:.2f} dB, in this tensor alone"
    if not findings.found:
        yield "none of them costs the outputs a tenth of a decibel alone"
    for name, why in findings.problems:
        yield f"not tried in float: {name}: {why}"


def _correction(correction: Correction) -> Iterator[str]:
    if correction.problem:
        yield f"the model's note of its correction cannot be read: {correction.problem}"
    for step in correction.steps:
        before, after = ("-" if db is None else f"{db:.2f}" for db in (step.before_db, step.after_db))
        what = "taken" if step.taken else "not taken"
        yield f"{what}: {step.name}: {before} to {after} dB" + (f": {step.problem}" if step.problem else "")


def _row(norm: NormReport) -> list[str]:
    return [
        norm.name,
        str(norm.channels),
        f"{norm.snr_db:.2f}",
        f"{100 * norm.clipped:.3g}",
        f"{norm.gain_db:.2f}",
    ]
