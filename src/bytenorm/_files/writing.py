"""Places of files: looked at before the work begins, and written whole or not at all."""

from __future__ import annotations

import atexit
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

from .._alike import most_alike
from .._errors import Argument, bad, bad_type, bad_value

ALIKE = 0.8  # from 0 to 1: "digit.onnx" and "digits.onnx" have 0.95, "old.onnx" and "new.onnx" 0.75


def as_path(value: object, argument: str, wanted: str) -> Path:
    """Return a str or PathLike as a Path."""
    text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise bad_type(argument, f"must be {wanted}, got {type(value).__name__}")
    if not text or "\0" in text:
        raise bad_value(argument, f"must be {wanted}, got {text!r}")
    return Path(text)


def kind_of(path: Path, label: str) -> str:
    """Return what is at a path: a file, a folder, a broken link, something else, or nothing."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "broken link" if path.is_symlink() else "nothing"
    except OSError as error:  # a name that is too long, a folder that may not be searched, links in a circle
        raise bad_value(label, f"cannot be reached: {error.strerror}") from None
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "no plain file"


def require_file(path: Path, label: str) -> None:
    """Refuse a path that is no plain file: what is missing, folders, pipes, devices."""
    kind = kind_of(path, label)
    if kind == "nothing":
        raise bad(FileNotFoundError, label, f"does not exist{_meant(path)}")
    if kind != "file":
        raise bad_value(label, f"is {a_kind(kind)}: a file is wanted")


def _meant(path: Path) -> str:
    """Return the end of a message: the file beside it whose name is most alike; empty if none is."""
    try:
        names = [file.name for file in path.parent.iterdir()]
    except OSError:
        return ""
    found = most_alike(path.name, names, alike=ALIKE)
    return f": did you mean {str(path.with_name(found))!r}?" if found else ""


def a_kind(kind: str) -> str:
    return kind if kind.startswith("no ") else f"a {kind}"


def require_place(path: Path, label: str, force: bool) -> None:
    """Refuse a path that cannot or must not be written to."""
    kind = kind_of(path, label)
    if kind not in ("nothing", "file"):
        raise bad_value(label, f"is {a_kind(kind)} and is not replaced: a file is wanted")
    if kind == "file" and not force:
        raise bad(FileExistsError, label, "exists: give ", Argument("force", True), " to replace it")
    parent = path.parent
    kind = kind_of(parent, label)
    if kind != "folder":
        came = "does not exist" if kind == "nothing" else "is no folder"
        raise bad_value(label, f"cannot be written: the folder {str(parent)!r} {came}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise bad_value(label, f"cannot be written: the folder {str(parent)!r} is not writable")


def same_file(one: Path, other: Path) -> bool:
    """Return whether two paths lead to one file, by whatever names."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # there is none, or none can be
        return False


_unfinished: set[Path] = set()


@atexit.register
def _remove_unfinished() -> None:
    """Remove what an interrupt in the middle of the cleaning up has left."""
    while _unfinished:
        with suppress(OSError):
            _unfinished.pop().unlink(missing_ok=True)


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_unfinished.clear)


@contextmanager
def replacing(target: Path, label: str) -> Iterator[BinaryIO]:
    """Give a new file beside the target, which takes its place at the end, or vanishes after an error.

    It gets the permissions of the file that it replaces, and its owner where that is allowed.
    """
    temporary = target.with_name(f".bytenorm-{secrets.token_hex(8)}")
    _unfinished.add(temporary)
    try:
        with temporary.open("xb") as file:
            _be_like(target, file.fileno())
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        _refuse_writing(label, error)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
            _unfinished.discard(temporary)


def _be_like(target: Path, file: int) -> None:
    if not hasattr(os, "fchown"):  # Windows: the folder says who may do what
        return
    with suppress(OSError):  # there may be none
        old = target.stat()
        if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            with suppress(PermissionError):
                os.fchown(file, old.st_uid, old.st_gid)
        os.fchmod(file, stat.S_IMODE(old.st_mode) & 0o777)


def _sync_folder(folder: Path) -> None:
    """Have a new name on the disk, too, where the file system can do that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)  # Windows opens none
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _refuse_writing(label: str, error: OSError) -> NoReturn:
    if error.errno is None:  # it has been worded already, by the other of two files
        raise error
    raise bad(type(error), label, f"cannot be written: {error.strerror}") from None
