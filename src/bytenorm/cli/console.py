"""What a command shows: tables and progress by rich on a terminal, plain text in a pipe, or one JSON object."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .._files.given import told_of_skipped

Progress = Callable[[str, float, float], None]

REDRAW = 0.1  # seconds
GAP = 2  # between columns
BYTES = 1000


def one_line(value: object) -> str:
    """Return a text that fits a line: names in models may hold line ends and a terminal's control codes."""
    text = " ".join(str(value).split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_size(n: int) -> str:
    """Return a number of bytes for people."""
    if n < BYTES:
        return f"{n} B"
    for power, unit in enumerate(("kB", "MB", "GB"), 1):
        amount = n / BYTES**power
        if amount < BYTES or unit == "GB":
            break
    return f"{amount:.3g} {unit}" if amount < 100 else f"{amount:.0f} {unit}"


def next_command(command: str, *words: str) -> str:
    """Return the line that names the command that comes next, to be copied."""
    return f"next: bytenorm {command} {' '.join(map(shlex.quote, words))}"


def for_json(value: Any) -> Any:
    """Return a value as JSON can hold it: infinities and NaN are None."""
    if isinstance(value, dict):
        return {key: for_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Screen:
    """Where a command's output goes.

    Parameters
    ----------
    as_json : bool
        Nothing but what :meth:`result` gets is written, as JSON.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._skipped: Sequence[str] | None = None
        self._untold: list[str] = []
        self._rich = sys.stdout.isatty()

    def skipped(self, paths: Sequence[str], note: str = "") -> None:
        """Take the files that are not read, and a note, for the front of the next line: progress is drawn now."""
        self._skipped = paths
        self._untold = [text for text in (told_of_skipped(paths) if paths else "", note) if text]

    def line(self, text: str = "") -> None:
        """Write a line, if it is for people."""
        if self._as_json:
            return
        self._tell()
        if self._rich:
            _rich_line(one_line(text))
        else:
            _write(one_line(text) + "\n")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table, if it is for people."""
        if self._as_json:
            return
        self._tell()
        cells = [[one_line(cell) for cell in row] for row in rows]
        if self._rich:
            _rich_table(columns, cells)
        else:
            from .._text_table import text_table  # noqa: PLC0415

            _write(text_table(columns, cells) + "\n")

    def result(self, **values: Any) -> None:
        """Write what came out as one JSON object, if it is for programs."""
        if self._as_json:
            if self._skipped is not None:
                values["skipped"] = list(self._skipped)
            _write(json.dumps(for_json(values), indent=2, allow_nan=False) + "\n")

    def _tell(self) -> None:
        texts, self._untold = self._untold, []
        for text in texts:
            self.line(text)

    @contextmanager
    def progress(self, *, live: bool = True) -> Iterator[Progress]:
        """Give a function that takes the stage, how much of it is done and how much there is (0: not known).

        The bar goes to stderr and only to a terminal; nothing is left of it. With `live` False it is drawn
        by the calls alone, so that nothing else runs beside what is being timed.
        """
        if not sys.stderr.isatty():
            yield lambda *_: None
            return
        from rich import progress  # noqa: PLC0415
        from rich.console import Console  # noqa: PLC0415

        bar = progress.Progress(
            progress.SpinnerColumn(),
            "{task.description}",
            progress.BarColumn(),
            progress.TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            auto_refresh=live,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        drawn = 0.0

        def show(stage: str, done: float, whole: float) -> None:
            nonlocal drawn
            bar.update(task, description=stage, completed=done, total=whole or None)
            if not live and time.monotonic() - drawn > REDRAW:
                bar.refresh()
                drawn = time.monotonic()

        with bar:
            task = bar.add_task("reading", total=None)
            yield show


def _write(text: str) -> None:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _rich_line(text: str) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    Console(highlight=False).print(Text(text))  # breaks between words; no markup: names may look like it


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from .._text_table import is_number  # noqa: PLC0415

    console = Console(highlight=False)
    cells = [[row[i] for row in rows] for i in range(len(columns))]
    numeric = [all(map(is_number, column)) for column in cells]
    widths, whole = _widths(columns, cells, numeric, console.width)
    table = Table(
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0),
        header_style="bold",
        row_styles=["", "dim"] if widths != whole else None,  # rows of several lines, to be told apart
    )
    for name, numbers, width in zip(columns, numeric, widths, strict=True):
        table.add_column(name, justify="right" if numbers else "left", overflow="fold", width=width)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _widths(
    columns: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool], width: int
) -> tuple[list[int], list[int]]:
    """Return the widths of columns that fit a terminal, such that as few words as possible are cut, and whole."""
    from rich.cells import cell_len  # noqa: PLC0415 (some characters are two cells wide)

    texts = [(name, *column) for name, column in zip(columns, cells, strict=True)]
    whole = [max(map(cell_len, column)) for column in texts]
    words = [max((cell_len(word) for text in column for word in text.split()), default=1) for column in texts]
    words = [w if numbers else word for w, word, numbers in zip(whole, words, numeric, strict=True)]
    room = width - GAP * (len(columns) - 1)
    for longest in range(max(words), 0, -1):
        least = [word if numbers else min(word, longest) for word, numbers in zip(words, numeric, strict=True)]
        if sum(least) <= room:
            break
    # The rest makes columns whole, the nearest to it first, then goes to where most is missing.
    left = room - sum(least)
    for i in sorted(range(len(whole)), key=lambda i: whole[i] - least[i]):
        if whole[i] - least[i] <= left:
            left -= whole[i] - least[i]
            least[i] = whole[i]
    while left > 0 and least != whole:
        least[max(range(len(whole)), key=lambda i: whole[i] - least[i])] += 1
        left -= 1
    return least, whole
