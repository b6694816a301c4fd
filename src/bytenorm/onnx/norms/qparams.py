"""How a tensor of bytes is quantized, as the nodes around it say, or how its codes come from others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from ..._norms import obstacles
from ..._tensors.quantization import ByteQuantization, range_of_codes
from ..graph.graph import attribute, is_conversion, is_op, type_name

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnx import NodeProto

    from ..graph.graph import Graph


BYTES = (TensorProto.UINT8, TensorProto.INT8)
SUMS = ("Add", "Sum")


@dataclass(frozen=True)
class QParams(ByteQuantization):
    """The quantization of a tensor of bytes, and the tensors that hold it.

    Where `path` says how the bytes are made, there is no such tensor yet, and `codes` is empty.
    """

    codes: str = ""
    scale_name: str = ""
    zero_point_name: str = ""  # empty: there is none, it is 0
    path: Path | None = None

    @property
    def signed(self) -> bool:
        """Whether the bytes are int8."""
        return self.zero_point.dtype == np.int8

    def range(self) -> tuple[float, float]:
        """Return the numbers of the lowest and the highest code, quantized per tensor."""
        return range_of_codes(*self.scalars, signed=self.signed)

    def codes_of(self, numbers: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return the codes of numbers, as QuantizeLinear makes them in float32: of all, or one for each scale."""
        lowest = -128 if self.signed else 0
        with np.errstate(over="ignore"):  # of the largest floats, which exporters write for no limit
            steps = np.asarray(numbers).astype(np.float32) / self.scale.astype(np.float32).ravel()
        codes = np.rint(np.clip(steps, -1024, 1024)).astype(np.int64) + self.zero_point.astype(np.int64).ravel()
        return np.asarray(np.clip(codes, lowest, lowest + 255), np.int64)

    def equals(self, other: QParams) -> bool:
        """Say whether codes mean the same in another quantization."""
        return (
            self.zero_point.dtype == other.zero_point.dtype
            and np.array_equal(self.scale.ravel(), other.scale.ravel())
            and np.array_equal(self.zero_point.ravel(), other.zero_point.ravel())
        )


@dataclass(frozen=True)
class Path:
    """How codes come from others: those of what a node in float reads, by the same node on bytes.

    `node` makes the tensor `real` in float, or a piece of it, and `parts` are the codes of what it reads. `limits`
    are the codes that a Relu or Clip leaves, and `off` is how far a limit lies from the number of its code, at
    most. A sum has no codes of its own: it is not rounded, and a Relu or Clip behind it leaves `numbers`.
    """

    node: NodeProto
    real: tuple[str, ...]
    parts: tuple[QParams, ...]
    limits: tuple[int | None, int | None] = (None, None)
    off: float = 0.0
    numbers: tuple[float, float] = (-np.inf, np.inf)
    pieces: int = 1  # that concatenations join

    @property
    def is_sum(self) -> bool:
        """Whether it is a sum, which only an operator that adds can read."""
        return is_op(self.node, *SUMS)


def dequantized(graph: Graph, tensor: str, what: str = "") -> tuple[QParams | None, str]:
    """Return the quantization of the codes that a tensor in float is made of, or why there is none."""
    maker = graph.maker(tensor)
    if maker is None or not is_conversion(maker, "DequantizeLinear"):
        return None, obstacles.INPUT_IN_FLOAT
    return qparams(graph, maker, 1, maker.input[0], what)


def qparams(graph: Graph, node: NodeProto, at: int, codes: str, what: str) -> tuple[QParams | None, str]:
    """Return the quantization of a tensor whose scale is input `at` of a node, or why it is of no use.

    `what` is what the reason calls the tensor.
    """
    if len(node.input) <= at:  # of an operator that has any number of inputs
        return None, f"{what} has no scale"
    scale_name = node.input[at]
    zero_point_name = node.input[at + 1] if len(node.input) > at + 1 else ""
    scale = graph.constant(scale_name)
    if scale is None:
        return None, obstacles.of_scale("scale", what)
    if attribute(node, "block_size", 0):
        return None, f"{what} is quantized in blocks"
    precision = attribute(node, "precision", int(TensorProto.FLOAT))
    if precision not in (0, TensorProto.FLOAT):
        return None, f"{what} is quantized in {type_name(precision)}"
    zero_point: npt.NDArray[np.generic] | None
    if zero_point_name:
        zero_point = graph.constant(zero_point_name)
        if zero_point is None:
            return None, obstacles.of_scale("zero point", what)
    else:
        data_type = graph.type_of(codes)[0] or attribute(node, "output_dtype", 0) or TensorProto.UINT8
        if data_type not in BYTES:
            return None, obstacles.of_type(what, type_name(data_type))
        zero_point = np.zeros((), np.int8 if data_type == TensorProto.INT8 else np.uint8)
    if zero_point.dtype not in (np.uint8, np.int8):
        return None, obstacles.of_type(what, str(zero_point.dtype))
    scale = np.asarray(scale)
    sizes = scale.size, zero_point.size
    if 0 in sizes or (sizes[0] != sizes[1] and 1 not in sizes):
        return None, obstacles.of_counts(what, *sizes)
    if scale.dtype != np.float32:
        return None, f"the scale of {what} is {scale.dtype}"
    numbers = scale.astype(np.float32)
    with np.errstate(divide="ignore", over="ignore"):
        usable = np.isfinite(numbers) & (numbers > 0) & np.isfinite(np.float32(1) / numbers)
    if not np.all(usable):
        return None, f"the scale of {what} is {scale.ravel()[np.flatnonzero(~usable.ravel())[0]]!s}"
    return QParams(numbers, zero_point, codes, scale_name, zero_point_name), ""
