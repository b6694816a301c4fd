"""Where a command writes: looked at before the work begins, written at its end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .._errors import bad_value
from .._files.given import what_is_read
from .._files.writing import as_path, require_place, same_file
from .wording import naming

if TYPE_CHECKING:
    import onnx


def require_output(
    output: str, force: bool, *, models: Sequence[str] = (), data: Sequence[str] = (), makes_model: bool = False
) -> None:
    """Refuse an output that could not be written in the end, or would take the place of what is read.

    Parameters
    ----------
    output : str
        The option's value.
    force : bool
        Whether a file that is there is replaced, unless it is read.
    models : sequence of str, optional
        The models that are read.
    data : sequence of str, optional
        Files, folders and patterns that are read.
    makes_model : bool, optional
        The output is a model, whose tensors may need a second file.

    Raises
    ------
    FileExistsError
        If there is such a file, and `force` is False.
    ValueError
        If it is a folder or no plain file, its folder is missing or cannot be written to, or it is what is read,
        by whatever name.
    """
    path = as_path(output, "output", "a path")
    label = f"output {output!r}"
    if not path.name or output.endswith(("/", os.sep)):  # Path forgets the slash
        raise bad_value(label, "names a folder: a file is wanted")
    if makes_model:
        from ..onnx.model.files import data_beside  # noqa: PLC0415 (not every command has onnx)

        _refuse_what_is_read(
            data_beside(path), f"{label}, whose tensors may go to {output + '.data'!r},", models, data
        )
    _refuse_what_is_read(path, label, models, data)
    with naming():
        require_place(path, label, force)
    try:  # permissions do not tell all
        with tempfile.TemporaryFile(prefix=".bytenorm-", dir=path.parent):
            pass
    except OSError as error:
        raise bad_value(label, f"cannot be written: {error.strerror}") from None


def _refuse_what_is_read(path: Path, label: str, models: Sequence[str], data: Sequence[str]) -> None:
    if not os.path.exists(path):  # noqa: PTH110 (raises nothing; nothing is replaced then)
        return
    for i, model in enumerate(models):
        if same_file(path, Path(model)):
            raise bad_value(label, f"is the {'float ' * (i > 0)}model itself")
        from ..onnx.model.files import external_files  # noqa: PLC0415 (not every command has onnx)

        if any(same_file(path, file) for file in external_files(Path(model))):
            raise bad_value(label, "is a file with tensors of the model")
    if any(same_file(path, Path(read)) for read in data):
        raise bad_value(label, "is the data")
    if any(same_file(path, file) for file in what_is_read(data)):
        raise bad_value(label, "is a file of the data")


def write(model: onnx.ModelProto, output: str, force: bool) -> int:
    """Write a model to its place, all of it or nothing, and return its size in bytes."""
    from ..onnx.model.files import save_model  # noqa: PLC0415 (not every command has onnx)

    with naming():
        save_model(model, output, force=force)
    return size_on_disk(output, model)


def size_on_disk(path: str, model: onnx.ModelProto) -> int:
    """Return the bytes of a model's file, and of its tensors where these are in files of their own."""
    file = Path(path).stat().st_size
    tensors = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    return file if tensors <= file else file + tensors
