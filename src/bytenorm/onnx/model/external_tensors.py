"""Tensors that are kept in files beside a model: brought in, and moved out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import onnx
import onnx.inliner
from onnx import external_data_helper, numpy_helper

from ..._errors import bad, bad_value
from ..._files.writing import a_kind, kind_of
from .constants import array_of
from .inputs import DTYPES
from .serialization import without
from .soundness import parts
from .weightless import bytes_of

if TYPE_CHECKING:
    from collections.abc import Iterator


SMALLEST_EXTERNAL = 1024  # bytes; smaller tensors stay in the model, where shape inference needs them
ALIGNMENT = 4096  # bytes; a tensor that begins on a page can be mapped into memory


def _initializers(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for root in (model.graph, *model.functions):
        for part in parts(root):
            if isinstance(part, onnx.GraphProto):
                yield from part.initializer


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
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


def bring_in(tensor: onnx.TensorProto, path: Path, label: str) -> None:
    """Read the data of a tensor from the file beside the model that holds it."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    location = told.get("location", "")
    file = path.parent / location
    what = f": the file {location!r} with its tensor {tensor.name!r}"
    if not location or "\0" in location:
        raise bad_value(label, f"does not say which file holds its tensor {tensor.name!r}")
    # A model from elsewhere must not read what it likes. Caches hold model and data as links into one folder.
    # (realpath: Path.resolve raises on links in a circle.)
    real = Path(os.path.realpath(file))
    inside = (os.path.realpath(path.parent), Path(os.path.realpath(path)).parent)
    if Path(location).is_absolute() or not any(real.is_relative_to(folder) for folder in inside):
        raise bad_value(label, f"{what} is outside of the model's folder")
    kind = kind_of(file, label + what)
    if kind == "nothing":
        raise bad(FileNotFoundError, label, f"{what} is missing")
    if kind != "file":
        raise bad_value(label, f"{what} is {a_kind(kind)}: a file is wanted")
    try:
        offset, length = int(told.get("offset", 0)), int(told.get("length", -1))
    except ValueError:
        raise bad_value(label, f"{what} has an offset or length that is no number") from None
    if offset < 0 or length < -1:
        raise bad_value(label, f"{what} has a negative offset or length")
    try:
        with file.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            if length < 0:
                length = max(0, size - offset)
            if offset + length > size:
                raise bad_value(label, f"{what} is truncated: it has {size} bytes, {offset + length} are wanted")
            source.seek(offset)
            tensor.raw_data = source.read(length)
    except OSError as error:
        raise bad_value(label, f"{what} cannot be read: {error.strerror}") from None
    if tensor.data_type in DTYPES:
        wanted = DTYPES[tensor.data_type].itemsize
        for n in tensor.dims:
            wanted *= n
        if length != wanted:
            raise bad_value(label, f"{what} gives {length} bytes for it: {wanted} are wanted")
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def moved_out(model: onnx.ModelProto, file: BinaryIO, location: str) -> onnx.ModelProto:
    """Return a copy of a model without its larger initializers, which go to a file."""
    light: onnx.ModelProto = without(model, "graph")
    light.graph.CopyFrom(without(model.graph, "initializer"))
    for tensor in _initializers(light):  # of graphs inside
        there = _moved_out(tensor, file, location)
        if there is not tensor:
            tensor.CopyFrom(there)
    light.graph.initializer.extend(_moved_out(tensor, file, location) for tensor in model.graph.initializer)
    return light


def _moved_out(tensor: onnx.TensorProto, file: BinaryIO, location: str) -> onnx.TensorProto:
    """Return a tensor with its data in the file, if they are many."""
    if bytes_of(tensor) < SMALLEST_EXTERNAL or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return tensor
    if not tensor.HasField("raw_data"):
        if tensor.data_type not in DTYPES:
            return tensor
        tensor = numpy_helper.from_array(array_of(tensor), tensor.name)
    file.write(bytes(-file.tell() % ALIGNMENT))
    offset = file.tell()
    length = file.write(tensor.raw_data)
    light: onnx.TensorProto = without(tensor, "raw_data")
    light.raw_data = b""  # which is asked for
    external_data_helper.set_external_data(light, location, offset, length)
    light.ClearField("raw_data")
    return light
