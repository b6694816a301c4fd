"""The report: SNR, task figures and CPU time of every contestant, and whether the default keeps its floors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

from ..report import Block, Bullets, Heading, Table, Text, of_machine
from .contestants import CONTESTANTS
from .measure import Result

Results = Mapping[str, Mapping[str, Result]]  # by network, then by contestant; "float" is one
WANTED, ALLOWED = 1.0, -0.5  # dB over minmax: of the median, of the worst
TASK_COLUMNS = ("float", "minmax", "percentile", "entropy", "NNCF", "plain", "default")

METHOD = (
    "SNR in dB of the outputs against those in float, on samples that calibrated nothing; of several outputs the "
    "worst. minmax, percentile and entropy are ONNX Runtime's quantizer alone, NNCF is with its fast bias "
    "correction; plain is `bytenorm quantize --fast`, default is `bytenorm quantize`; the others add one option. "
    "A dash: not measured, or no network that runs, which is said below. Weights of bytenorm's use of 8 bits what "
    "lets sums be right on every CPU, those of the others all of them: sums are exact here. Networks that end in "
    "-few get four samples; densenet121, resnet50v2 and the light models have weights that were never trained, "
    "and are chaotic: a change of one part in a million of their weights moves the SNR by up to 3 dB."
)
COMMAND = "Made by `python -m benchmarks.accuracy --json accuracy.json --markdown accuracy.md`."


def blocks(
    machine: Mapping[str, str], about: Mapping[str, Mapping[str, str]], results: Results, trained: Iterable[str]
) -> list[Block]:
    """Return the whole report.

    Parameters
    ----------
    machine : mapping
        What the figures belong to.
    about : mapping
        By network: its task, source and data.
    results : mapping
    trained : iterable of str
        The networks whose gains the median is of.
    """
    made = [name for name in ("float", *CONTESTANTS) if any(name in row for row in results.values())]
    shown = [name for name in made if name != "float"]
    tasks = [name for name in TASK_COLUMNS if name in made]
    return [
        Heading("How near to float networks stay in 8 bits", 1),
        Text(METHOD),
        Text(COMMAND),
        *_verdicts(results, set(trained)),
        Heading("Signal to noise, dB", 2),
        Table(["network", *shown], [[n, *(_snr(row.get(c)) for c in shown)] for n, row in results.items()]),
        Heading("Steps that the default took", 2),
        Table(
            ["network", "over minmax, dB", "over plain, dB", "steps"],
            [
                [name, _signed(_gain(row, "minmax")), _signed(_gain(row, "plain")), row["default"].note or "none"]
                for name, row in results.items()
                if "default" in row
            ],
        ),
        Heading("What the networks are for", 2),
        Table(
            ["network", "counted", *tasks],
            [
                [name, about[name]["task"], *(_figure(row.get(c)) for c in tasks)]
                for name, row in results.items()
                if about[name]["task"]
            ],
            left=2,
        ),
        Heading("CPU seconds of quantizing", 2),
        Table(["network", *shown], [[n, *(_seconds(row.get(c)) for c in shown)] for n, row in results.items()]),
        *_refusals(results),
        Heading("Networks and data", 2),
        Bullets([f"{n}: {about[n]['source']}; {about[n]['data']}" for n in results if not n.endswith("-few")]),
        *of_machine(machine),
    ]


def _verdicts(results: Results, trained: set[str]) -> list[Block]:
    gains = {name: gain for name, row in results.items() if (gain := _gain(row, "minmax")) is not None}
    if not gains:
        return []
    ours = [gain for name, gain in gains.items() if name in trained]
    worst = min(gains, key=lambda name: gains[name])
    lines = []
    if ours:
        lines.append(
            f"Default over minmax, median of {len(ours)} trained networks: {median(ours):+.2f} dB "
            f"({_met(median(ours) >= WANTED)}: {WANTED:+.1f} wanted); of all {len(gains)}: "
            f"{median(gains.values()):+.2f} dB."
        )
    lines.append(
        f"The worst: {worst}, {gains[worst]:+.2f} dB ({_met(gains[worst] >= ALLOWED)}: not below {ALLOWED:+.1f})."
    )
    plain = {name: gain for name, row in results.items() if (gain := _gain(row, "plain")) is not None}
    if plain:
        lost = [f"{name} {gain:+.2f}" for name, gain in plain.items() if gain < 0]
        lines.append(
            f"Networks that the steps made worse than plain on held-out samples: {', '.join(lost) or 'none'}."
        )
    return [Bullets(lines)]


def _refusals(results: Results) -> list[Block]:
    lines = [
        f"{contestant}, {name}: {result.note}"
        for name, row in results.items()
        for contestant, result in row.items()
        if contestant != "float" and result.snr_db is None
    ]
    return [Heading("Who made no network", 2), Bullets(lines)] if lines else []


def _gain(row: Mapping[str, Result], over: str) -> float | None:
    default, other = (row[name].snr_db if name in row else None for name in ("default", over))
    return None if default is None or other is None else default - other


def _met(is_met: bool) -> str:
    return "ok" if is_met else "MISS"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _snr(result: Result | None) -> str:
    return "-" if result is None or result.snr_db is None else f"{result.snr_db:.2f}"


def _figure(result: Result | None) -> str:
    return "-" if result is None or result.figure is None else f"{result.figure:.4g}"


def _seconds(result: Result | None) -> str:
    return "-" if result is None or result.snr_db is None else f"{result.seconds:.1f}"
