"""ONNX models: read from files and checked, described, and written without leaving halves behind."""

from __future__ import annotations

import copy
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import onnx
import onnx.inliner
from onnx import external_data_helper

from ... import _checks
from ..._errors import bad_type, bad_value
from ..._files.writing import as_path, replacing, require_file, require_place
from .external_tensors import all_tensors, bring_in, moved_out
from .fatal_rules import unsure_slices
from .serialization import pieces
from .soundness import require_sound
from .unnamed_outputs import name_outputs
from .weightless import bytes_of, inferred_graph

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


OLDEST_OPSET = 7  # before, operators had other ways to broadcast
LARGEST_FILE = 2**31 - 1  # bytes; protobuf reads and writes no message above
DEFAULT_DOMAIN = ("", "ai.onnx")
_KNOWN_TYPES = frozenset(onnx.TensorProto.DataType.values())


def load_model(model: onnx.ModelProto | str | os.PathLike[str], *, argument: str = "model") -> onnx.ModelProto:
    """Return a model of one's own, with all its data in memory.

    Parameters
    ----------
    model : onnx.ModelProto or path
        A model is copied, a file is read, with the files that hold its tensors where there are such.
    argument : str, optional
        What messages call the model.

    Returns
    -------
    onnx.ModelProto
        With at least one node and an opset of the default domain that the installed onnx knows. Outputs of nodes
        that have no name, and that ONNX Runtime writes to all the same, which ends its process, have one.

    Raises
    ------
    TypeError
        If `model` is neither.
    FileNotFoundError
        If there is no such file, or a file with its tensors is missing.
    ValueError
        If the file is no ONNX model or a damaged one, or leaves the folder of the model for its tensors. If it
        holds a model without nodes, or with an opset below 7 or above the newest that is known.

    Examples
    --------
    >>> from bytenorm import onnx as bno
    >>> model = bno.load_model(bno.digits_model())
    >>> model.graph.input[0].name, model.graph.node[0].op_type
    ('image', 'BatchNormalization')
    """
    if isinstance(model, onnx.ModelProto):
        require_whole(model, argument)
        return name_outputs(copy.deepcopy(model))
    path = as_path(model, argument, "an onnx.ModelProto or a path")
    label = f"{argument} {str(path)!r}"
    require_file(path, label)
    loaded = _parsed(path, label)
    _check(loaded, label)
    for tensor in all_tensors(loaded):
        if external_data_helper.uses_external_data(tensor):
            bring_in(tensor, path, label)
    return name_outputs(loaded)


def require_whole(model: onnx.ModelProto, label: str) -> None:
    """Raise the ValueError that :func:`load_model` raises of a model that is no file."""
    _check(model, label)
    for tensor in all_tensors(model):
        if external_data_helper.uses_external_data(tensor):
            raise bad_value(
                label,
                f"has its tensor {tensor.name!r} in another file, which only the model's path tells: "
                "pass the path",
            )


def without_functions(model: onnx.ModelProto, kept: str) -> onnx.ModelProto:
    """Return a model whose functions are written out where they are called, but for those of one domain.

    Parameters
    ----------
    model : onnx.ModelProto
    kept : str
        The domain whose functions stay.

    Returns
    -------
    onnx.ModelProto
        The model itself if there is nothing to write out.

    Raises
    ------
    ValueError
        If a call does not fit its function, or what it becomes is no valid node.
    """
    if all(f.domain == kept for f in model.functions):
        return model
    try:
        made = _written_out(model, kept)
    except Exception as error:  # it asserts, where a call does not fit its function
        why = " ".join(str(error).split())
        raise bad_value("model", f": its functions cannot be written out: {why}") from None
    require_sound(made, "model")
    return made


def _written_out(model: onnx.ModelProto, kept: str) -> onnx.ModelProto:
    opsets = {opset.version for opset in model.opset_import if opset.domain in DEFAULT_DOMAIN}
    staying = [f for f in model.functions if f.domain == kept]
    others = (f for f in model.functions if f.domain != kept)
    if opsets.issuperset(o.version for f in others for o in f.opset_import if o.domain in DEFAULT_DOMAIN):
        names = sorted({(f.domain, f.name) for f in staying})
        return onnx.inliner.inline_selected_functions(model, names, exclude=True)
    # What is converted has to be of known types, initializers too; what stays is no part of it.
    typed = copy.deepcopy(model)
    typed.ClearField("functions")
    typed.functions.extend(f for f in model.functions if f.domain != kept)
    inferred = inferred_graph(typed)
    del typed.graph.value_info[:]
    known = {value.name for value in (*model.graph.input, *model.graph.output)}
    typed.graph.value_info.extend(v for v in (*inferred.input, *inferred.value_info) if v.name not in known)
    typed.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in inferred.initializer
    )
    made = onnx.inliner.inline_local_functions(typed, convert_version=True)
    made.functions.extend(staying)
    return made


def require_lengths(model: onnx.ModelProto, label: str) -> None:
    """Raise ValueError if a model has a Slice of a length below 0, of which ONNX Runtime dies."""
    if any(node.op_type == "Slice" for function in model.functions for node in function.node):
        with suppress(ValueError):  # what cannot be written out ONNX Runtime refuses
            model = without_functions(model, "bytenorm")
    if unsure_slices(model.graph):
        inferred_graph(model, label)


def save_model(model: onnx.ModelProto, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write a model to a file: all of it, or nothing.

    The file is written beside its place and then renamed. What does not fit a file of 2 GiB goes to a second one
    beside it, named as the first with ``.data`` at its end. The second file of a model that is replaced is removed
    where the new one needs none.

    Parameters
    ----------
    model : onnx.ModelProto
    path : str or path
        In a folder that exists.
    force : bool, optional
        Replace a file that is there; a link is replaced, not what it leads to.

    Raises
    ------
    TypeError
        If an argument is of another type.
    FileExistsError
        If there is such a file, and `force` is False.
    ValueError
        If `path` is a folder or no plain file, or its folder is missing or cannot be written to.
    OSError
        If writing fails, as on a full disk.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from bytenorm import onnx as bno
    >>> made = bno.prepare(bno.digits_model())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bno.save_model(made, pathlib.Path(folder, "prepared.onnx"))
    ...     bno.load_model(pathlib.Path(folder, "prepared.onnx")) == made
    True
    """
    if not isinstance(model, onnx.ModelProto):
        raise bad_type("model", f"must be an onnx.ModelProto, got {type(model).__name__}")
    target = as_path(path, "path", "a path")
    replace = _checks.flag(force, "force")
    label = f"path {str(target)!r}"
    require_place(target, label, replace)
    written = _serialized(model)
    data = data_beside(target)
    if written is not None:
        left = data in external_files(target)
        with replacing(target, label) as file:
            file.writelines(written)
        if left:  # it was the replaced model's
            with suppress(OSError):
                data.unlink()
        return
    data_label = f"path {str(data)!r}"
    require_place(data, data_label, replace)
    # The tensors take their place first: a model that is there finds them. A reader in between, of a model that
    # is being replaced, sees old and new; no file system renames two files at once.
    with replacing(target, label) as file, replacing(data, data_label) as data_file:
        light = _serialized(moved_out(model, data_file, data.name))
        if light is None:
            raise bad_value("model", f"has more than {LARGEST_FILE} bytes even without its initializers")
        file.writelines(light)


def data_beside(path: Path) -> Path:
    """Return where `save_model` puts the tensors of a model that does not fit one file."""
    return path.with_name(path.name + ".data")


def external_files(path: Path) -> set[Path]:
    """Return the files that hold tensors of the model in a file; none if there is no such model."""
    model = onnx.ModelProto()
    try:
        if path.stat().st_size > LARGEST_FILE:
            return set()
        model.ParseFromString(path.read_bytes())
    except Exception:  # protobuf's errors differ among its versions
        return set()
    told = (
        entry
        for t in all_tensors(model)
        if external_data_helper.uses_external_data(t)
        for entry in t.external_data
    )
    return {path.parent / entry.value for entry in told if entry.key == "location" and "\0" not in entry.value}


def fits_one_file(model: onnx.ModelProto) -> bool:
    """Say whether the tensors of a model leave it within what protobuf writes as one message.

    They are asked first: protobuf's own answer to too large a message differs among its versions.
    """
    return sum(bytes_of(tensor) for tensor in all_tensors(model)) <= LARGEST_FILE


# --- reading ----------------------------------------------------------------------------------------------------


def _parsed(path: Path, label: str) -> onnx.ModelProto:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise bad_value(label, f"has {size} bytes: no ONNX model has more than {LARGEST_FILE} in one file")
        content = path.read_bytes()
    except OSError as error:
        raise bad_value(label, f"cannot be read: {error.strerror}") from None
    if not content:
        raise bad_value(label, "is empty: an ONNX model is wanted")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception:  # protobuf's errors differ among its versions, and say nothing about the file
        raise bad_value(label, "is no ONNX model, or a damaged one") from None
    if not model.HasField("graph"):
        # Protobuf takes many short texts and random bytes, and a model cut off before its graph.
        raise bad_value(label, "is no ONNX model, or a truncated one: there is no graph in it")
    return model


def _check(model: onnx.ModelProto, label: str) -> None:
    if not model.HasField("graph"):
        raise bad_value(label, "has no graph")
    if not model.graph.node:
        raise bad_value(label, "has no nodes")
    versions = {opset.version for opset in model.opset_import if opset.domain in DEFAULT_DOMAIN}
    if not versions:
        raise bad_value(label, "imports no opset of the default domain: it is damaged or truncated")
    if len(versions) > 1:
        raise bad_value(label, f"imports several opsets of the default domain: {sorted(versions)}")
    version = versions.pop()
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= version <= newest:
        raise bad_value(
            label, f"has opset {version}: {OLDEST_OPSET} to {newest} are wanted (onnx {onnx.__version__})"
        )
    require_sound(model, label)
    for tensor in all_tensors(model):
        if tensor.data_type not in _KNOWN_TYPES:
            raise bad_value(label, f"has a tensor {tensor.name!r} of the unknown element type {tensor.data_type}")
        if any(n < 0 for n in tensor.dims):
            raise bad_value(label, f"has a tensor {tensor.name!r} of the impossible shape {tuple(tensor.dims)}")


# --- writing ----------------------------------------------------------------------------------------------------


def _serialized(model: onnx.ModelProto) -> Iterator[bytes] | None:
    """Return a model as one file's content, in pieces, or None where that would be too large."""
    if not fits_one_file(model):
        return None
    try:
        size, content = pieces(model)
    except Exception:
        return None
    return content if size <= LARGEST_FILE else None
