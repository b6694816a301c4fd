"""A model as the bytes of a file, an initializer at a time: protobuf takes twice a message's bytes to write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx import GraphProto, ModelProto, TensorProto

if TYPE_CHECKING:
    from collections.abc import Iterator

_BYTES = 2  # protobuf's number for what comes with its length


def pieces(model: ModelProto) -> tuple[int, Iterator[bytes]]:
    """Return how many bytes a model's file has, and what these are, piece by piece."""
    graph = bytes(without(model.graph, "initializer").SerializeToString())
    tensors = list(model.graph.initializer)
    starts = [_start(tensor) for tensor in tensors]
    sizes = [len(start) + len(tensor.raw_data) for start, tensor in zip(starts, tensors, strict=True)]
    heads = [_head(GraphProto, "initializer", size) for size in sizes]
    inside = len(graph) + sum(map(len, heads)) + sum(sizes)
    front = bytes(without(model, "graph").SerializeToString()) + _head(ModelProto, "graph", inside)

    def written() -> Iterator[bytes]:
        yield front + graph
        for head, start, tensor in zip(heads, starts, tensors, strict=True):
            yield head + start
            yield tensor.raw_data

    return len(front) + inside, written()


def _start(tensor: TensorProto) -> bytes:
    """Return all of a tensor but its bytes, and what says how many these are."""
    start = bytes(without(tensor, "raw_data").SerializeToString())
    return start + _head(TensorProto, "raw_data", len(tensor.raw_data)) if tensor.HasField("raw_data") else start


def without(message: Any, name: str) -> Any:
    """Return a copy of a message without one of its fields, which may be larger than all of the rest."""
    made = type(message)()
    for field, value in message.ListFields():
        if field.name == name:
            continue
        if hasattr(value, "ListFields"):
            getattr(made, field.name).CopyFrom(value)
        elif isinstance(value, str | bytes | int | float):
            setattr(made, field.name, value)
        else:
            getattr(made, field.name).extend(value)
    return made


def _head(kind: Any, name: str, size: int) -> bytes:
    """Return the number of a field and the length of what it holds, as protobuf writes them."""
    return _number(kind.DESCRIPTOR.fields_by_name[name].number << 3 | _BYTES) + _number(size)


def _number(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
