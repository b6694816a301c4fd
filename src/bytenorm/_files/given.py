"""The files that paths, folders and patterns lead to."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

from .._errors import bad_value
from .writing import as_path, kind_of, require_file

MOST_NAMED = 3


class GivenFiles(NamedTuple):
    """Files in the order in which they are read, and those of no known kind that lie between them."""

    paths: list[Path]
    skipped: list[Path]


def told_of_skipped(paths: Sequence[str]) -> str:
    """Say which files were skipped, in a line."""
    more = f" and {len(paths) - MOST_NAMED} more" * (len(paths) > MOST_NAMED)
    return f"skipped, of no known kind: {', '.join(map(repr, paths[:MOST_NAMED]))}{more}"


def what_is_read(given: Iterable[str]) -> Iterator[Path]:
    """Yield the paths, and what they lead to; nothing is refused."""
    for text in given:
        path = Path(text)
        for one in (path, *map(Path, glob.glob(text, recursive=True))):  # noqa: PTH207
            yield one
            if os.path.isdir(one):  # noqa: PTH112 (raises nothing)
                yield from one.rglob("*")


def given_files(given: Iterable[object], kinds: Sequence[str], argument: str) -> GivenFiles:
    """Return the files that are named, those of folders and of patterns.

    A folder stands for the files in it and in its folders, sorted by name, hidden ones left out. Its folders take
    turns: where there is one a class, the first hundred files are of all classes. Files of no known kind are
    skipped in folders and among what fits a pattern; one that is named itself is an error.

    Parameters
    ----------
    given : iterable of str or os.PathLike
        Files, folders, and patterns such as ``codes/*.npy`` or ``photos/**/*.png``.
    kinds : sequence of str
        The suffixes of files that can be read, in small letters.
    argument : str
        What messages call `given`.

    Raises
    ------
    TypeError
        If one is no path.
    FileNotFoundError
        If there is no such file.
    ValueError
        If a folder or pattern leads to no file that can be read, or one file is named twice.
    """
    made, skipped = [], []
    for one in given:
        path = as_path(one, argument, "a path")
        label = f"{argument} {os.fspath(path)!r}"
        found, several = _found(path, label)
        known = [file for file in found if file.suffix.lower() in kinds]
        foreign = [file for file in found if file.suffix.lower() not in kinds]
        if not known or (foreign and not several):
            wanted = f"{', '.join(kind.removeprefix('.') for kind in kinds)} {'are' if kinds[1:] else 'is'} wanted"
            raise bad_value(f"{argument} {os.fspath(foreign[0])!r}", f"is of no known kind: {wanted}")
        for file in known:
            require_file(file, f"{argument} {os.fspath(file)!r}")
        made += known
        skipped += foreign
    _refuse_twice(made, argument)
    return GivenFiles(made, skipped)


def _found(path: Path, label: str) -> tuple[list[Path], bool]:
    """Return the files that a path leads to, and whether it may lead to several."""
    kind = kind_of(path, label)
    if kind == "folder":
        if found := _all_in(path, label):
            return found, True
        raise bad_value(label, "is a folder without files")
    if kind != "nothing" or not glob.has_magic(str(path)):
        require_file(path, label)
        return [path], False
    # Path.glob takes no pattern from the root.
    fitting = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    folders = [name for name in fitting if name.is_dir()]
    # "photos/**" fits folders and what is in them; "photos/*" folders alone, which stand for their files then.
    found = [name for name in fitting if name not in folders] or list(
        chain.from_iterable(_all_in(folder, label) for folder in folders)
    )
    if not found:
        raise bad_value(label, "fits no file")
    return found, True


def _all_in(folder: Path, label: str) -> list[Path]:
    turns = zip_longest(*_levels(folder, label, ()))
    return [file for turn in turns for file in turn if file is not None]


def _levels(folder: Path, label: str, above: tuple[str, ...]) -> Iterator[list[Path]]:
    """Yield the files of a folder, then of each of its folders."""
    try:
        names = sorted(found for found in folder.iterdir() if not found.name.startswith("."))
    except OSError as error:
        raise bad_value(label, f"cannot be read: {error.strerror}") from None
    real = os.path.realpath(folder)
    if real in above:
        raise bad_value(label, f"leads in a circle: {os.fspath(folder)!r} is a link to a folder above it")
    folders = [name for name in names if kind_of(name, label) == "folder"]
    yield [name for name in names if name not in folders]
    for inner in folders:
        yield from _levels(inner, label, (*above, real))


def _refuse_twice(paths: Iterable[Path], argument: str) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        real = os.path.realpath(path)
        if real in seen:
            also = f", as {os.fspath(seen[real])!r} too" if seen[real] != path else ""
            raise bad_value(f"{argument} {os.fspath(path)!r}", f"is named twice{also}: it would be counted twice")
        seen[real] = path
