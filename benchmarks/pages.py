"""The pages of each kind of CPU, and the page that shows them side by side: ``python -m benchmarks.pages``.

`keep` writes what a run measured into the folder of its kind; the command writes again what follows from all that
is kept: the header of a page that is older than something that changed its figures, and the page beside.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import report
from .changes import CHANGES, missing
from .kinds import kind
from .output import write
from .sections import SECTIONS

CPUS = Path(__file__).parent / "cpus"
OLDER = "**Older than "
ABOUT = (
    "Every kind of CPU that was at hand: ratios of medians, each of one run on one machine, as its own pages have "
    "them with times, spread and floors. `make benchmark` measures the kind at hand and writes this page again; "
    "what is empty has not been measured there."
)
# What the page shows: the speed, from which everything else follows.
SHOWN = {
    "nchw": ("of memcpy", "x torch"),
    "nhwc": ("of memcpy", "x torch"),
    "inplace": ("of memcpy",),
    "channels": ("of C=64",),
    "large": ("of memcpy",),
    "calls": ("norm(qx, out=qy)", "norm(qx)", "one-shot, x torch", "out=, x numba"),
    "concat": ("time, x one norm",),
    "add": ("time, x memcpy of both",),
    "quantize": ("x torch",),
}


def keep(page: str, content: Mapping[str, Any], text: str) -> Path:
    """Write a run's figures and its report into the folder of this kind of CPU; return the folder."""
    folder = CPUS / kind()
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / f"{page}.json", json.dumps(content, indent=1) + "\n")
    write(folder / f"{page}.md", text)
    refresh()
    return folder


def refresh() -> None:
    """Write headers and the page side by side again."""
    for path, content in kept():
        page = path.with_suffix(".md")
        write(page, with_age(page.read_text(encoding="utf-8"), path, content))
    write(CPUS / "README.md", side_by_side())


def kept() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the files of figures and what they hold, kind by kind."""
    for page in CHANGES:
        for path in sorted(CPUS.glob(f"*/{page}.json")):
            yield path, json.loads(path.read_text(encoding="utf-8"))


def with_age(text: str, figures: Path, content: Mapping[str, Any]) -> str:
    """Return a page that says below its title what it is older than, and nothing if that is nothing."""
    title, *blocks = text.split("\n\n")
    if blocks and blocks[0].startswith(OLDER):
        del blocks[0]
    lacks = _lacks(figures.stem, figures.parent.name, content)
    said = [f"{OLDER}{'; '.join(lacks)}.** Measured on {content['machine']['date'][:10]}."] if lacks else []
    return "\n\n".join([title, *said, *blocks])


def _lacks(page: str, of: str, content: Mapping[str, Any]) -> list[str]:
    return missing(page, of, content["machine"]["date"])


def side_by_side() -> str:
    """Return the page that shows all kinds."""
    kinds = sorted({path.parent.name for path, _ in kept()})
    of = {(path.stem, path.parent.name): content for path, content in kept()}
    blocks: list[report.Block] = [report.Heading("Kinds of CPU, side by side", 1), report.Text(ABOUT)]
    blocks += [report.Heading("Machines", 2), report.Table(["", *kinds], _machines(kinds, of), 1 + len(kinds))]
    for section, figures in SHOWN.items():
        columns = [_figures(of.get(("measured", one)), section, figures) for one in kinds]
        rows = list(dict.fromkeys(name for column in columns for name in column))
        if rows:
            cells = [[*name, *(column.get(name, "") for column in columns)] for name in rows]
            title = SECTIONS[section].title
            blocks += [report.Heading(title, 2), report.Table(["case", "", *kinds], cells, 2)]
    columns = [_networks(of.get(("networks", one))) for one in kinds]
    rows = list(dict.fromkeys(name for column in columns for name in column))
    cells = [[*name, *(column.get(name, "") for column in columns)] for name in rows]
    blocks += [
        report.Heading("Whole networks", 2),
        report.Text("Times as fast as ONNX Runtime's own 8-bit model."),
        report.Table(["network", "", *kinds], cells, 2),
    ]
    return report.markdown(blocks)


def _machines(kinds: list[str], of: Mapping[tuple[str, str], Any]) -> list[list[str]]:
    """Return the rows that say what each kind was measured on, with links to its pages."""
    rows = []
    for page in CHANGES:
        cells = []
        for one in kinds:
            content = of.get((page, one))
            if content is None:
                cells.append("-")
                continue
            link = f"[{content['machine']['date'][:10]}]({one}/{page}.md)"
            lacks = _lacks(page, one, content)
            cells.append(f"{link}, older than {'; '.join(lacks)}" if lacks else link)
        rows.append([page, *cells])
    for field in ("cpu", "caches", "isa", "compiler", "torch", "onnxruntime"):
        values = [of.get(("measured", one), {}).get("machine", {}).get(field, "-") for one in kinds]
        rows.append([field, *values])
    return rows


def _figures(content: Any, section: str, names: tuple[str, ...]) -> dict[tuple[str, str], str]:
    """Return figures of a section by case and name."""
    cases = content["sections"].get(section, {}).get("cases", []) if content else []
    found = {}
    for case in cases:
        for figure in case["figures"]:
            if figure["name"] in names:
                unit = f" {figure['unit']}" if figure["unit"] else ""
                found[case["label"], figure["name"]] = report.number(figure["value"]) + unit
    return found


def _networks(content: Any) -> dict[tuple[str, str], str]:
    """Return speeds of networks, of the stock model's, by network and contestant."""
    found = {}
    for network, result in (content["networks"] if content else {}).items():
        medians = {row["name"]: row["timing"]["median"] for row in result["rows"]}
        for name, median in medians.items():
            found[network, name] = f"{medians['ORT stock QDQ'] / median:.2f}"
    return found


def main(arguments: list[str] | None = None) -> int:
    """Write the pages again that follow from what is kept."""
    argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__).parse_args(arguments)
    refresh()
    return 0


if __name__ == "__main__":
    sys.exit(main())
