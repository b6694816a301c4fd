"""Tables as a page holds them: they scroll where a page is too narrow, and are closed where they are long."""

from __future__ import annotations

from collections.abc import Sequence

from .texts import text

_LONG = 40  # rows; a longer table is closed until somebody opens it


def table(columns: Sequence[str], rows: Sequence[str], *, caption: str = "", about: str) -> str:
    """Return a table.

    Parameters
    ----------
    columns : sequence of str
    rows : sequence of str
        In HTML.
    caption : str, optional
        In HTML.
    about : str
        What it is called where it is not seen; one that begins with # names the heading that says so.
    """
    named = f'aria-labelledby="{about[1:]}"' if about.startswith("#") else f'aria-label="{text(about)}"'
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    lines = "\n".join(rows)
    captioned = f"<caption>{caption}</caption>\n" if caption else ""
    return f"""<div class="wide" role="region" {named} tabindex="0">
<table>
{captioned}<thead><tr>{head}</tr></thead>
<tbody>
{lines}
</tbody>
</table>
</div>"""


def foldable(summary: str, columns: Sequence[str], rows: Sequence[str], *, caption: str, about: str) -> str:
    """Return a table under a line that opens and closes it."""
    return f"""<details{" open" * (len(rows) <= _LONG)}>
<summary>{summary}</summary>
{table(columns, rows, caption=caption, about=about)}
</details>"""
