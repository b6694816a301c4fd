"""The report on networks, out of the blocks that the report on operators is made of."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from ..report import Block, Bullets, Heading, Table, Text, of_machine
from .measure import STOCK, Result, Row, ratios

METHOD = (
    "Whole networks on one image of 3 x 224 x 224, one thread, in one process on one core. The contestants take "
    "turns in a shuffled order; a turn makes one run that does not count, then one that does. Times are medians "
    "over the turns, the spread is from the 10th to the 90th percentile. `x stock` says how many times as fast as "
    "ONNX Runtime's own 8-bit model: by medians, and by the fastest run of each; `x best peer` is by medians. SNR "
    "is that of the logits against the float model, in decibels, over pictures that calibrated nothing: the "
    "median and the worst. On x86 CPUs without VNNI, whose 8-bit sums saturate, the other quantizers make "
    "7-bit weights; `weights` below says what was made here. They are random (He), the norms' statistics those of "
    "real pictures: the times are those of a trained network, the accuracy only shows who rounds more than whom."
)
PROFILE = (
    "Milliseconds in ONNX Runtime's own profile, node by node the fastest of 20 runs. `norms` are those that "
    "nothing could fold, as they are executed: with the conversions to float and back around them, without the "
    "Transposes that they cause, which stand beside, as do concatenations; a fused norm includes its own. "
    "`x stock if free` is how many times as fast as the stock model the whole network would be if its norms took "
    "no time: what no faster norm can pass."
)


def blocks(machine: Mapping[str, str], results: Sequence[Result], quick: bool) -> list[Block]:
    """Return the whole report."""
    report: list[Block] = [Heading("bytenorm in whole networks", 1)]
    if quick:
        report.append(Text("A quick run: few rounds, figures only roughly right."))
    report += [Text(METHOD), *of_machine(machine)]
    for result in results:
        report += _network(result)
    return report


def _network(result: Result) -> list[Block]:
    report: list[Block] = [
        Heading(result.network, 2),
        Text(
            f"{result.norms} batch norms, of which {result.norms_left} stand where nothing can fold them. "
            f"ONNX Runtime in float differs from torch by {result.float_error:.1g} of the largest logit at most."
        ),
        _times(result),
    ]
    if result.missing:
        report.append(Bullets([f"not available: {name} ({why})" for name, why in result.missing]))
    return [*report, Text(PROFILE), _profiles(result)]


def _times(result: Result) -> Table:
    stock = result.named(STOCK)
    peer = result.best_peer()
    columns = ["", "median, ms", "p10 to p90", "fastest", "x stock", "of fastest", "x best peer", "SNR", "worst"]
    rows = []
    for row in result.rows:
        t = row.timing
        times = [_ms(t.median), f"{_ms(t.p10)} to {_ms(t.p90)}", _ms(t.fastest)]
        speeds = [f"{ratio:.2f}" for ratio in ratios(row, stock)]
        speeds.append(f"{ratios(row, peer)[0]:.2f}" if peer else "-")
        rows.append([row.name, *times, *speeds, *_accuracy(row)])
    return Table(columns, rows)


def _accuracy(row: Row) -> list[str]:
    if row.snr_db is None:
        return ["-", "-"]
    return [f"{statistics.median(row.snr_db):.1f}", f"{min(row.snr_db):.1f}"]


def _profiles(result: Result) -> Table:
    columns = ["", "all nodes", "norms", "in them", "share", "x stock if free"]
    columns += ["Transposes", "in them", "in Concats", "most time goes to"]
    rows = []
    for row in result.rows:
        p = row.profile
        if p is None:
            continue
        largest = ", ".join(f"{op} {ms:.1f}" for op, ms in list(p.by_op.items())[:5])
        norms = [str(p.norms), f"{p.norms_ms:.2f}", f"{p.norms_ms / p.total_ms:.0%}"]
        rest = row.timing.median * (1 - p.norms_ms / p.total_ms)
        norms.append(f"{result.named(STOCK).timing.median / rest:.2f}")
        transposes = [str(p.transposes), f"{p.transposes_ms:.2f}"]
        concats = sum(ms for op, ms in p.by_op.items() if op.endswith("Concat"))
        rows.append([row.name, f"{p.total_ms:.1f}", *norms, *transposes, f"{concats:.2f}", largest])
    return Table(columns, rows)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}"
