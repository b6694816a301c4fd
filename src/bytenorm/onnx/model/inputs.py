"""What a model wants for its inputs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.inliner

from ..._errors import bad_value

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
    >>> from bytenorm.onnx.model.inputs import input_infos
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
        raise bad_value("model", f": its input {value.name!r} {came}: only tensors can be fed")
    tensor = value.type.tensor_type
    if tensor.elem_type not in DTYPES:
        names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
        came = names.get(tensor.elem_type, f"element type {tensor.elem_type}")
        raise bad_value("model", f": its input {value.name!r} holds {came}: only NumPy's numbers can be fed")
    if not tensor.HasField("shape"):
        raise bad_value("model", f": its input {value.name!r} has no shape: how many dimensions is not known")
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None for dim in tensor.shape.dim
    )
    return InputInfo(value.name, shape, DTYPES[tensor.elem_type], tuple(dim.dim_param for dim in tensor.shape.dim))
