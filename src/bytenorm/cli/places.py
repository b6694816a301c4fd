"""Where a command writes: looked at before the work begins, written at its end."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .._files import as_path, require_place

if TYPE_CHECKING:
    import onnx


def require_output(output: str, force: bool, *, model: str | None = None, data: Sequence[str] = ()) -> None:
    """Refuse an output that could not be written in the end, or would take the place of what is read.

    Raises
    ------
    FileExistsError
        If there is such a file, and `force` is False.
    ValueError
        If it is a folder or no plain file, its folder is missing or cannot be written to, or it is the data.
    """
    path = as_path(output, "output", "a path")
    label = f"output {output!r}"
    if any(_same(path, Path(read)) for read in data):
        raise ValueError(f"{label} is the data")
    try:
        require_place(path, label, force)
    except FileExistsError:
        itself = model is not None and _same(path, Path(model))
        which = "is the model itself" if itself else "exists"
        raise FileExistsError(f"{label} {which}: --force replaces it") from None
    try:  # permissions do not tell all
        with tempfile.TemporaryFile(prefix=".bytenorm-", dir=path.parent):
            pass
    except OSError as error:
        raise ValueError(f"{label} cannot be written: {error.strerror}") from None


def write(model: onnx.ModelProto, output: str, force: bool) -> int:
    """Write a model to its place, all of it or nothing, and return its size in bytes."""
    from ..onnx.model import save_model  # noqa: PLC0415 (not every command has onnx)

    try:
        save_model(model, output, force=force)
    except OSError as error:
        text = str(error).removeprefix("path ").replace("give force=True to replace it", "--force replaces it")
        raise type(error)(f"output {text}") from None
    return size_on_disk(output, model)


def size_on_disk(path: str, model: onnx.ModelProto) -> int:
    """Return the bytes of a model's file, and of its tensors where these are in files of their own."""
    file = Path(path).stat().st_size
    tensors = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    return file if tensors <= file else file + tensors


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
