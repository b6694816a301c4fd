"""ONNX models: read from files and checked, described, and written without leaving halves behind."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import onnx.inliner
from onnx import external_data_helper, numpy_helper

from ... import _checks
from ..._files.writing import a_kind, as_path, kind_of, replacing, require_file, require_place
from .constants import array_of
from .serialization import pieces
from .soundness import parts, require_sound
from .weightless import bytes_of

OLDEST_OPSET = 7  # before, operators had other ways to broadcast
LARGEST_FILE = 2**31 - 1  # bytes; protobuf reads and writes no message above
SMALLEST_EXTERNAL = 1024  # bytes; smaller tensors stay in the model, where shape inference needs them
ALIGNMENT = 4096  # bytes; a tensor that begins on a page can be mapped into memory
DEFAULT_DOMAIN = ("", "ai.onnx")
_KNOWN_TYPES = frozenset(onnx.TensorProto.DataType.values())

DTYPES: dict[int, np.dtype] = {  # what NumPy has itself
    onnx.TensorProto.FLOAT: np.dtype(np.float32),
    onnx.TensorProto.DOUBLE: np.dtype(np.float64),
    onnx.TensorProto.FLOAT16: np.dtype(np.float16),
    onnx.TensorProto.INT8: np.dtype(np.int8),
    onnx.TensorProto.INT16: np.dtype(np.int16),
    onnx.TensorProto.INT32: np.dtype(np.int32),
    onnx.TensorProto.INT64: np.dtype(np.int64),
    onnx.TensorProto.UINT8: np.dtype(np.uint8),
    onnx.TensorProto.UINT16: np.dtype(np.uint16),
    onnx.TensorProto.UINT32: np.dtype(np.uint32),
    onnx.TensorProto.UINT64: np.dtype(np.uint64),
    onnx.TensorProto.BOOL: np.dtype(np.bool_),
}


@dataclass(frozen=True)
class InputInfo:
    """What a model wants for one of its inputs.

    Attributes
    ----------
    name : str
    shape : tuple of int or None
        None where the model leaves a dimension open.
    dtype : numpy.dtype
    names : tuple of str
        What the model calls its dimensions; empty where it does not.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype
    names: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        dims = ", ".join("?" if n is None else str(n) for n in self.shape)
        return f"{self.name!r} ({self.dtype} [{dims}])"


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
        With at least one node and an opset of the default domain that the installed onnx knows.

    Raises
    ------
    TypeError
        If `model` is neither.
    FileNotFoundError
        If there is no such file, or a file with its tensors is missing.
    ValueError
        If the file is no ONNX model or a damaged one, leaves the folder of the model for its tensors, or holds a
        model without nodes or with an opset below 7 or above the newest that is known.

    Examples
    --------
    >>> from onnx import TensorProto, helper
    >>> from bytenorm.onnx.model.files import load_model
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy")
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    >>> made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    >>> load_model(made).graph.node[0].op_type
    'Relu'
    """
    if isinstance(model, onnx.ModelProto):
        label = argument
        _check(model, label)
        for tensor in _tensors(model):
            if external_data_helper.uses_external_data(tensor):
                raise ValueError(
                    f"{label} has its tensor {tensor.name!r} in another file, which only the model's path tells: "
                    "pass the path"
                )
        return copy.deepcopy(model)
    path = as_path(model, argument, "an onnx.ModelProto or a path")
    label = f"{argument} {str(path)!r}"
    require_file(path, label)
    loaded = _parsed(path, label)
    _check(loaded, label)
    for tensor in _tensors(loaded):
        if external_data_helper.uses_external_data(tensor):
            _bring_in(tensor, path, label)
    return loaded


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
    staying = sorted({(f.domain, f.name) for f in model.functions if f.domain == kept})
    try:
        made = onnx.inliner.inline_selected_functions(model, staying, exclude=True)
    except Exception as error:  # it asserts, where a call does not fit its function
        why = " ".join(str(error).split())
        raise ValueError(f"model: its functions cannot be written out: {why}") from None
    require_sound(made, "model")
    return made


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
    >>> from onnx import TensorProto, helper
    >>> from bytenorm.onnx.model.files import load_model, save_model
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy")
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    >>> made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(made, pathlib.Path(folder, "relu.onnx"))
    ...     load_model(pathlib.Path(folder, "relu.onnx")) == made
    True
    """
    if not isinstance(model, onnx.ModelProto):
        raise TypeError(f"model must be an onnx.ModelProto, got {type(model).__name__}")
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
        light = _serialized(_moved_out(model, data_file, data.name))
        if light is None:
            raise ValueError(f"model has more than {LARGEST_FILE} bytes even without its initializers")
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
        entry for t in _tensors(model) if external_data_helper.uses_external_data(t) for entry in t.external_data
    )
    return {path.parent / entry.value for entry in told if entry.key == "location" and "\0" not in entry.value}


def fits_one_file(model: onnx.ModelProto) -> bool:
    """Say whether the tensors of a model leave it within what protobuf writes as one message.

    They are asked first: protobuf's own answer to too large a message differs among its versions.
    """
    return sum(bytes_of(tensor) for tensor in _tensors(model)) <= LARGEST_FILE


def input_infos(model: onnx.ModelProto) -> list[InputInfo]:
    """Return what a model wants to be fed: its inputs that are not initializers.

    Parameters
    ----------
    model : onnx.ModelProto

    Returns
    -------
    list of InputInfo
        In the model's order.

    Raises
    ------
    ValueError
        If an input is no tensor of numbers or booleans, or its rank is unknown.

    Examples
    --------
    >>> from onnx import TensorProto, helper
    >>> from bytenorm.onnx.model.files import input_infos
    >>> x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in "xy")
    >>> graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    >>> input_infos(helper.make_model(graph))
    [InputInfo(name='x', shape=(None, 3), dtype=dtype('float32'))]
    """
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer}
    known |= {tensor.values.name for tensor in graph.sparse_initializer}
    return [_input_info(value) for value in graph.input if value.name not in known]


def _input_info(value: onnx.ValueInfoProto) -> InputInfo:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        came = "has no type" if kind is None else f"is a {kind.removesuffix('_type').replace('_', ' ')}"
        raise ValueError(f"the model's input {value.name!r} {came}: only tensors can be fed")
    tensor = value.type.tensor_type
    if tensor.elem_type not in DTYPES:
        names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
        came = names.get(tensor.elem_type, f"element type {tensor.elem_type}")
        raise ValueError(f"the model's input {value.name!r} holds {came}: only NumPy's numbers can be fed")
    if not tensor.HasField("shape"):
        raise ValueError(f"the model's input {value.name!r} has no shape: how many dimensions is not known")
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None for dim in tensor.shape.dim
    )
    return InputInfo(value.name, shape, DTYPES[tensor.elem_type], tuple(dim.dim_param for dim in tensor.shape.dim))


# --- reading ----------------------------------------------------------------------------------------------------


def _parsed(path: Path, label: str) -> onnx.ModelProto:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise ValueError(f"{label} has {size} bytes: no ONNX model has more than {LARGEST_FILE} in one file")
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{label} cannot be read: {error.strerror}") from None
    if not content:
        raise ValueError(f"{label} is empty: an ONNX model is wanted")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception:  # protobuf's errors differ among its versions, and say nothing about the file
        raise ValueError(f"{label} is no ONNX model, or a damaged one") from None
    if not model.HasField("graph"):
        # Protobuf takes many short texts and random bytes, and a model cut off before its graph.
        raise ValueError(f"{label} is no ONNX model, or a truncated one: there is no graph in it")
    return model


def _check(model: onnx.ModelProto, label: str) -> None:
    if not model.HasField("graph"):
        raise ValueError(f"{label} has no graph")
    if not model.graph.node:
        raise ValueError(f"{label} has no nodes")
    versions = {opset.version for opset in model.opset_import if opset.domain in DEFAULT_DOMAIN}
    if not versions:
        raise ValueError(f"{label} imports no opset of the default domain: it is damaged or truncated")
    if len(versions) > 1:
        raise ValueError(f"{label} imports several opsets of the default domain: {sorted(versions)}")
    version = versions.pop()
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= version <= newest:
        raise ValueError(
            f"{label} has opset {version}: {OLDEST_OPSET} to {newest} are wanted (onnx {onnx.__version__})"
        )
    require_sound(model, label)
    for tensor in _tensors(model):
        if tensor.data_type not in _KNOWN_TYPES:
            raise ValueError(
                f"{label} has a tensor {tensor.name!r} of the unknown element type {tensor.data_type}"
            )


def _initializers(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for root in (model.graph, *model.functions):
        for part in parts(root):
            if isinstance(part, onnx.GraphProto):
                yield from part.initializer


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a model that may have its data elsewhere."""
    yield from _initializers(model)
    for root in (model.graph, *model.functions):
        for part in parts(root):
            sparse = list(part.sparse_initializer) if isinstance(part, onnx.GraphProto) else []
            for node in part.node:
                for attribute in node.attribute:
                    if attribute.HasField("t"):
                        yield attribute.t
                    yield from attribute.tensors
                    sparse += [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
                    sparse += attribute.sparse_tensors
            for tensor in sparse:
                yield from (tensor.values, tensor.indices)


def _bring_in(tensor: onnx.TensorProto, path: Path, label: str) -> None:
    """Read the data of a tensor from the file beside the model that holds it."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    location = told.get("location", "")
    file = path.parent / location
    what = f"{label}: the file {location!r} with its tensor {tensor.name!r}"
    if not location or "\0" in location:
        raise ValueError(f"{label} does not say which file holds its tensor {tensor.name!r}")
    # A model from elsewhere must not read what it likes. Caches hold model and data as links into one folder.
    # (realpath: Path.resolve raises on links in a circle.)
    real = Path(os.path.realpath(file))
    inside = (os.path.realpath(path.parent), Path(os.path.realpath(path)).parent)
    if Path(location).is_absolute() or not any(real.is_relative_to(folder) for folder in inside):
        raise ValueError(f"{what} is outside of the model's folder")
    kind = kind_of(file, what)
    if kind == "nothing":
        raise FileNotFoundError(f"{what} is missing")
    if kind != "file":
        raise ValueError(f"{what} is {a_kind(kind)}: a file is wanted")
    try:
        offset, length = int(told.get("offset", 0)), int(told.get("length", -1))
    except ValueError:
        raise ValueError(f"{what} has an offset or length that is no number") from None
    if offset < 0 or length < -1:
        raise ValueError(f"{what} has a negative offset or length")
    try:
        with file.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            if length < 0:
                length = max(0, size - offset)
            if offset + length > size:
                raise ValueError(f"{what} is truncated: it has {size} bytes, {offset + length} are wanted")
            source.seek(offset)
            tensor.raw_data = source.read(length)
    except OSError as error:
        raise ValueError(f"{what} cannot be read: {error.strerror}") from None
    if tensor.data_type in DTYPES:
        wanted = DTYPES[tensor.data_type].itemsize
        for n in tensor.dims:
            wanted *= n
        if length != wanted:
            raise ValueError(f"{what} gives {length} bytes for it: {wanted} are wanted")
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


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


def _moved_out(model: onnx.ModelProto, file: BinaryIO, location: str) -> onnx.ModelProto:
    """Return a copy of a model without its larger initializers, which go to a file."""
    light = copy.deepcopy(model)
    for tensor in _initializers(light):
        if bytes_of(tensor) < SMALLEST_EXTERNAL:
            continue
        if not tensor.HasField("raw_data"):
            if tensor.data_type not in DTYPES:
                continue
            tensor.CopyFrom(numpy_helper.from_array(array_of(tensor), tensor.name))
        file.write(bytes(-file.tell() % ALIGNMENT))
        offset = file.tell()
        file.write(tensor.raw_data)
        external_data_helper.set_external_data(tensor, location, offset, file.tell() - offset)
        tensor.ClearField("raw_data")
    return light
