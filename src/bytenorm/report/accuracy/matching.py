"""Which 8-bit tensor of a quantized network stands for which tensor of the float one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..._tensors.quantization import scalars
from ...onnx.graph.graph import is_op
from ...onnx.graph.quantizer_names import CODES, MADE, OUTPUT
from ...onnx.operators.schema import ON_CODES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt
    from onnx import NodeProto

    from ...onnx.graph.graph import Graph

Unmatched = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Codes:
    """A tensor of codes, and what they stand for."""

    tensor: str
    scale: float
    zero_point: int

    def numbers(self, array: np.ndarray, dtype: npt.DTypeLike = np.float64) -> np.ndarray:
        """Return the numbers that codes stand for."""
        if dtype == np.float32 and self.scale == np.float32(self.scale):  # one rounding, as from float64
            steps = np.subtract(array, np.float32(self.zero_point), dtype=np.float32)
            return np.asarray(np.multiply(steps, np.float32(self.scale)))
        # An array without axes would become a number of NumPy's.
        return np.asarray((array.astype(np.float64) - self.zero_point) * self.scale, dtype)


def match(graph: Graph, reference: Graph) -> tuple[dict[str, Codes], Unmatched]:
    """Find the 8-bit tensors of a quantized network that have the name of one of the float network's.

    Parameters
    ----------
    graph, reference : Graph
        In 8 bits and in float. Not changed.

    Returns
    -------
    matched : dict of str to Codes
        By the name of the float tensor, in the float network's order, its inputs first.
    unmatched : tuple of (str, str)
        Tensors of either network that have no partner, each with the reason.
    """
    order = _tensors(reference)
    there = {name for node in graph.nodes for name in (*node.input, *node.output)}
    found: dict[str, Codes] = {}
    alone: dict[str, str] = {}
    for node in graph.nodes:
        if node.op_type not in ON_CODES and node.op_type.startswith(("QLinear", "QGemm")):
            alone[node.output[0]] = f"where {node.op_type} says what its codes stand for is not known"
        for made, scale_name, zero_name in _eight_bit(node):
            codes = _past_moves(graph, made)
            name = _float_name(codes)
            # What a conversion reads has the float tensor's name, unless a lowering wrote the conversion.
            if _quantizes(node) and (name not in order or _float_name(node.input[0]) in order):
                codes, name = made, _float_name(node.input[0])
            scale, zero_point = (graph.constant(n) if n else np.zeros(1) for n in (scale_name, zero_name))
            if graph.constant(name) is not None:  # a weight
                continue
            behind = [r.output[0] for r in graph.readers(codes) if r.op_type == "DequantizeLinear"]
            if name not in order:  # as where a norm of vectors was made one of images
                name = next((tensor for tensor in behind if tensor in order), name)
            if scale is None or zero_point is None or scale.size != 1 or zero_point.size != 1:
                alone[name] = "its scale and zero point are no constant numbers"
            elif name in order:
                active = any(
                    is_op(r, "Relu", "Clip") for tensor in (codes, *behind) for r in graph.readers(tensor)
                )
                partner = _past_dropped(reference, name, behind, there, active=active)
                found.setdefault(partner, Codes(codes, *scalars(scale, zero_point)))
            else:
                alone[name] = "the float network has no tensor of this name"
    unmatched = {name: why for name, why in alone.items() if name not in found}
    for name in order:
        if name not in found and name not in unmatched:
            unmatched[name] = (
                "it stays in float in the 8-bit network"
                if name in there
                else "it lies within an operator of the 8-bit network, or is folded"
            )
    return {name: found[name] for name in order if name in found}, tuple(unmatched.items())


def _tensors(reference: Graph) -> Mapping[str, None]:
    """Return what depends on the inputs of a network, these first."""
    inputs = [value.name for value in reference.proto.input if value.name in reference.inputs]
    made = [name for node in reference.in_order() for name in node.output if name]
    return dict.fromkeys((*inputs, *(name for name in made if reference.constant(name) is None)))


def _past_dropped(reference: Graph, name: str, behind: list[str], there: set[str], *, active: bool) -> str:
    """Return what activations make that the quantizer has dropped, since the range does their work.

    Their names are gone then, or are what the codes are dequantized to, `behind` them. `active` says whether an
    activation reads them in 8 bits.
    """
    chain: list[str] = []
    reader = reference.only_reader(name)
    while reader is not None and is_op(reader, "Relu", "Clip"):
        chain.append(reader.output[0])
        reader = reference.only_reader(chain[-1])
    for after in chain:
        if after in behind:
            return after
    for after in chain if not active else ():
        if {after, after + CODES, after + OUTPUT, after + MADE} & there:
            break
        name = after
    return name


def _float_name(tensor: str) -> str:
    return tensor.removesuffix(OUTPUT).removesuffix(CODES).removesuffix(MADE)


def _past_moves(graph: Graph, codes: str) -> str:
    """Return the tensor behind the moves that a lowering puts behind its operator."""
    reader = graph.only_reader(codes)
    while reader is not None and is_op(reader, "Transpose", "Reshape", "Clip") and reader.input[0] == codes:
        codes = reader.output[0]
        reader = graph.only_reader(codes)
    return codes


def _quantizes(node: NodeProto) -> bool:
    return node.op_type == "QuantizeLinear"


def _eight_bit(node: NodeProto) -> Iterator[tuple[str, str, str]]:
    """Yield what a node makes in 8 bits: codes, scale, zero point."""
    schema = ON_CODES.get(node.op_type)
    if schema is not None and len(node.input) > schema.place("y_scale"):
        yield node.output[0], schema.of(node, "y_scale"), schema.of(node, "y_zero_point")
