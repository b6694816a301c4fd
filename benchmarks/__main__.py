"""The command: ``python -m benchmarks``, in the repository's root."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

from . import machine, pages, report
from .output import add_markdown, target, write
from .results import Outcome, to_json
from .runner import Progress, run
from .sections import SECTIONS

RICH = find_spec("rich") is not None


def main(arguments: list[str] | None = None) -> int:
    """Run sections, print the report and write it to files; 1 if a section stopped or a result is wrong."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.keep and (options.quick or options.only != list(SECTIONS)):
        parser.error("--keep keeps whole runs: leave out --quick and --only")
    about = machine.describe()
    outcomes: dict[str, Outcome] = {}
    with _progress(options.only) as progress:
        for name in options.only:
            outcomes[name] = run(name, options.quick, progress(name))
    blocks = report.blocks(about, outcomes, options.quick)
    if options.json:
        write(options.json, json.dumps(_as_json(about, outcomes, options.quick), indent=1) + "\n")
    if options.markdown:
        write(options.markdown, report.markdown(blocks))
    if options.keep:
        pages.keep("measured", _as_json(about, outcomes, options.quick), report.markdown(blocks))
    _print(blocks)
    return int(any(outcome.failed for outcome in outcomes.values()) or bool(report.wrong(outcomes)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure bytenorm beside PyTorch, ONNX Runtime, numba and memcpy, and print a report.",
        epilog="sections:\n"
        + "".join(f"  {name:10}{section.title}\n" for name, section in SECTIONS.items())
        + "\nexample:\n  python -m benchmarks --quick --only nchw,calls --json quick.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: figures are only roughly right")
    parser.add_argument(
        "--only",
        type=_sections,
        metavar="NAME[,NAME]",
        default=list(SECTIONS),
        help="these sections (default: all)",
    )
    parser.add_argument("--json", type=target, metavar="FILE", help="write all figures as JSON")
    add_markdown(parser)
    parser.add_argument(
        "--keep", action="store_true", help="write both into benchmarks/cpus, in the folder of this kind of CPU"
    )
    return parser


def _sections(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    return names


@contextmanager
def _progress(names: list[str]) -> Iterator[Any]:
    """Give a function that makes a section's progress callback: bars on a terminal, nothing in a pipe."""
    if not (sys.stderr.isatty() and RICH):
        yield lambda name: lambda label, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Bars(*columns, TimeElapsedColumn(), console=Console(stderr=True), refresh_per_second=2) as bars:
        sections = bars.add_task("sections", total=len(names))
        rounds = bars.add_task("", total=1)

        def start(name: str) -> Progress:
            bars.update(sections, completed=names.index(name))
            return lambda label, done, total: bars.update(
                rounds, description=f"{name}: {label}", completed=done, total=total
            )

        yield start
        bars.update(sections, completed=len(names))


def _as_json(about: Mapping[str, str], outcomes: Mapping[str, Outcome], quick: bool) -> dict[str, Any]:
    return {
        "machine": about,
        "quick": quick,
        "sections": {
            name: {**asdict(outcome), "title": SECTIONS[name].title, "cases": [to_json(c) for c in outcome.cases]}
            for name, outcome in outcomes.items()
        },
    }


def _print(blocks: list[report.Block]) -> None:
    if sys.stdout.isatty() and RICH:
        from rich.console import Console

        report.show(blocks, Console())
    else:
        sys.stdout.write(report.markdown(blocks))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
