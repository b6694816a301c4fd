"""The report: the same blocks of text, lists and tables, as Markdown or by rich."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .results import Case, Figure, Outcome, Row, best_peer, faster_than_bytenorm, named
from .sections import SECTIONS

if TYPE_CHECKING:
    from rich.console import Console

METHOD = (
    "Contestants take turns in one process, in a shuffled order; a turn makes one call that does not count, "
    "then calls for at least 2 ms. Times are medians over the turns, the spread is from the 10th to the 90th "
    "percentile. "
    "Ratios are ratios of medians and say how many times as fast. `value/floor` stands where a floor is set, and "
    "MISS where it is not reached. Data: random codes, slopes from 0.3 to 2.5. Before timing, every result is "
    "compared with bytenorm's."
)


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 to 3."""

    text: str
    level: int


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: list[str]


@dataclass(frozen=True)
class Table:
    """A table; the first `left` columns are words, the others numbers."""

    columns: list[str]
    rows: list[list[str]]
    left: int = 1


Block = Heading | Text | Bullets | Table


def blocks(machine: Mapping[str, str], outcomes: Mapping[str, Outcome], quick: bool) -> list[Block]:
    """Return the whole report.

    Parameters
    ----------
    machine : mapping
        Names and values that describe it.
    outcomes : mapping of str to Outcome
        By section.
    quick : bool
        Whether the figures come from a short run.
    """
    report: list[Block] = [Heading("bytenorm benchmarks", 1)]
    if quick:
        report.append(Text("A quick run: few rounds, figures only roughly right."))
    report += [Text(METHOD), *of_machine(machine)]
    report += _outstanding(outcomes)
    for name, outcome in outcomes.items():
        report += _section(name, outcome)
    return report


def of_machine(about: Mapping[str, str]) -> list[Block]:
    """Return what a report says of the machine that it was made on."""
    return [Heading("Machine", 2), Table(["", ""], [list(item) for item in about.items()], 2)]


def markdown(report: Iterable[Block]) -> str:
    """Return the report as Markdown, readable as plain text too."""
    return "\n\n".join(_markdown(block) for block in report) + "\n"


def show(report: Iterable[Block], console: Console) -> None:
    """Print the report on a terminal."""
    from rich.markdown import Markdown
    from rich.table import Table as RichTable
    from rich.text import Text as RichText

    for block in report:
        if not isinstance(block, Table):
            console.print(Markdown(_markdown(block)))
            continue
        table = RichTable(show_header=any(block.columns))
        for i, column in enumerate(block.columns):
            table.add_column(column, justify="left" if i < block.left else "right")
        for cells in block.rows:
            table.add_row(*(RichText(cell, style="bold red" if "MISS" in cell else "") for cell in cells))
        console.print(table)


def wrong(outcomes: Mapping[str, Outcome]) -> list[str]:
    """Return where a result that has to equal bytenorm's does not: nowhere, it should be."""
    return [
        f"{name}, {case.label}: {row.name} differs in {row.differing} of {row.elements} elements"
        for name, case in _all_cases(outcomes)
        for row in case.rows
        if row.exact and row.differing
    ]


def _outstanding(outcomes: Mapping[str, Outcome]) -> list[Block]:
    cases = list(_all_cases(outcomes))
    judged = [f for _, case in cases for f in case.figures if f.met is not None]
    missed = [
        f"{name}, {case.label}: {figure.name} {_reach(figure)}"
        for name, case in cases
        for figure in case.figures
        if figure.met is False
    ]
    faster = []
    for name, case in cases:
        for other, mine in faster_than_bytenorm(case):
            times = mine.median_us / other.median_us
            faster.append(f"{name}, {case.label}: {other.name} is {times:.2f} times as fast as {mine.name}")
    absent: dict[str, list[str]] = {}
    for name, case in cases:
        for who, why in case.missing:
            absent.setdefault(f"{who} ({why})", []).append(f"{name}, {case.label}")
    report: list[Block] = [
        Heading("What stands out", 2),
        Text(f"Floors reached: {len(judged) - len(missed)} of {len(judged)}."),
    ]
    failed = [f"{name}: {outcome.failed}" for name, outcome in outcomes.items() if outcome.failed]
    for title, items in (
        ("Sections that stopped:", failed),
        ("Results that should be equal and are not:", wrong(outcomes)),
        ("Floors missed:", missed),
        ("Faster than bytenorm:", faster),
        ("Not available:", [f"{who}: {'; '.join(where)}" for who, where in absent.items()]),
    ):
        report += [Text(title), Bullets(items)] if items else [Text(f"{title} none.")]
    return report


def _section(name: str, outcome: Outcome) -> list[Block]:
    section, setup = SECTIONS[name], outcome.setup
    about = section.about
    if setup:
        capability = f", torch {setup['torch']}" if "torch" in setup else ""
        where = "pinned to one core" if setup["pinned"] else "not pinned"
        threads = f", {setup['threads']} thread" if setup["pinned"] else ""
        about += f" (bytenorm {setup['isa']}{capability}{threads}, {where})"
    report: list[Block] = [Heading(f"{section.title} (`{name}`)", 2), Text(about)]
    if outcome.failed:
        report.append(Text(f"Not complete: {outcome.failed}"))
    if outcome.cases:
        report += [_summary(name, outcome.cases), Heading("Everyone", 3), _details(name, outcome.cases)]
    return report


def _summary(name: str, cases: list[Case]) -> Table:
    section = SECTIONS[name]
    figures = list(dict.fromkeys(f.name for case in cases for f in case.figures))
    peers = any(best_peer(case.rows) for case in cases)
    columns = ["case", *(f"{who}, {section.unit}" for who in section.show)]
    columns += [f"best other peer, {section.unit}"] * peers + figures
    rows = []
    for case in cases:
        shown = [_time(named(case.rows, who), section.unit) for who in section.show]
        peer = best_peer(case.rows) if peers else None
        shown += [f"{_time(peer, section.unit)} ({peer.name})" if peer else "-"] * peers
        found = {f.name: _reach(f) for f in case.figures}
        rows.append([case.label, *shown, *(found.get(figure, "") for figure in figures)])
    return Table(columns, rows)


def _details(name: str, cases: list[Case]) -> Table:
    unit = SECTIONS[name].unit
    columns = ["case", "contestant", f"median, {unit}", "p10 to p90", "elements/ns"]
    columns += ["x torch", "x best other peer", "of memcpy", "differing", "at most by"]
    rows = []
    for case in cases:
        references = named(case.rows, "torch"), best_peer(case.rows), named(case.rows, "memcpy")
        for row in case.rows:
            rows.append(
                [
                    case.label,
                    row.name,
                    _time(row, unit),
                    f"{_in(unit, row.p10_us)} to {_in(unit, row.p90_us)}",
                    number(row.elements / row.median_us / 1e3) if row.elements else "-",
                    *(number(other.median_us / row.median_us) if other else "-" for other in references),
                    *(["-", "-"] if row.differing is None else [_differing(row), f"{row.largest:g}"]),
                ]
            )
        rows += [[case.label, who, "not available", *[""] * 7] for who, _ in case.missing]
    used = [i for i in range(len(columns)) if any(cells[i] not in {"", "-"} for cells in rows)]
    return Table([columns[i] for i in used], [[cells[i] for i in used] for cells in rows], left=2)


def _differing(row: Row) -> str:
    return f"{row.differing} ({row.differing / row.elements:.2g})" if row.differing else "0"


def _all_cases(outcomes: Mapping[str, Outcome]) -> Iterable[tuple[str, Case]]:
    return ((name, case) for name, outcome in outcomes.items() for case in outcome.cases)


def _reach(figure: Figure) -> str:
    unit = f" {figure.unit}" if figure.unit else ""
    if figure.wanted is None:
        return number(figure.value) + unit
    value = number(figure.value)
    if value == number(figure.wanted):
        value = f"{figure.value:.5g}"
    return f"{value}/{figure.wanted:g}{unit} {'ok' if figure.met else 'MISS'}"


def _time(row: Row | None, unit: str) -> str:
    return _in(unit, row.median_us) if row else "-"


def _in(unit: str, microseconds: float) -> str:
    return number(microseconds * {"us": 1, "ns": 1000}[unit])


def number(value: float) -> str:
    """Return a number as reports write it: three digits, or whole."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Text(text):
            return text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Table(columns, rows, left):
            widths = [max(3, *map(len, cells)) for cells in zip(columns, *rows, strict=True)]
            rule = ["-" * w if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
            lines = [_aligned(columns, widths, left), rule, *(_aligned(r, widths, left) for r in rows)]
            return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _aligned(cells: list[str], widths: list[int], left: int) -> list[str]:
    return [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
