"""Whether the weights of a float model can be those that a quantized model holds in 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..._errors import bad_value
from ...onnx.graph.graph import LAYERS, attribute, is_op
from ...onnx.run.layer_weights import weight_of
from .belonging import ASKED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from onnx import NodeProto

    from ...onnx.graph.graph import Graph
    from .matching import Codes

    Reals = np.ndarray

# What rounding leaves is a twelfth of a squared step. Rounding up or down at will, as AdaRound does, leaves up to
# four times that, a clipped weight here and there more.
_ROUNDING = 6.0
_OTHER = 1e-3  # of a weight's energy; a checkpoint of a few hundred steps of training before has ten times that
_WHOLLY_OTHER = 0.1
_FREE = 3  # weights for each number that is fitted


def require_same_weights(graph: Graph, reference: Graph, codes: Mapping[str, Codes]) -> None:
    """Refuse a float model whose layers have other weights than the quantized model, but for rounding.

    A norm that was folded into a layer gives each of its output channels a gain, one that was folded forward, and
    equalized weights, each of its input channels, too. So what is compared is the weight up to such gains.

    Parameters
    ----------
    graph, reference : Graph
        In 8 bits and in float.
    codes : mapping of str to Codes
        The 8-bit tensors by the name of the float one.

    Raises
    ------
    ValueError
    """
    unlike, wholly, compared = [], [], 0
    for theirs, ours in _pairs(graph, reference, codes):
        share = _unexplained(graph, ours, reference, theirs)
        if share is None:
            continue
        compared += 1
        if share > _OTHER:
            unlike.append(theirs.output[0])
        if share > _WHOLLY_OTHER:
            wholly.append(theirs.output[0])
    if wholly or 2 * len(unlike) > compared:
        first = (wholly or unlike)[0]
        raise bad_value(
            "reference",
            f": its weights are not those of the model in {len(unlike)} of {compared} layers, that of "
            f"{first!r} the first: {ASKED}",
        )


def _pairs(graph: Graph, reference: Graph, codes: Mapping[str, Codes]) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Yield the layers that make the same tensors, in float and in 8 bits."""
    ends = {one.tensor for one in codes.values()}
    for name, one in codes.items():
        theirs, ours = _makers(reference, name, codes.keys()), _makers(graph, one.tensor, ends)
        if len(theirs) == len(ours) == 1:
            yield theirs[0], ours[0]


def _makers(graph: Graph, tensor: str, ends: Collection[str]) -> list[NodeProto]:
    """Return the layers right before a tensor, none of them beyond other tensors that belong together."""
    found: dict[int, NodeProto] = {}
    seen: set[str] = set()
    waiting = [tensor]
    while waiting:
        name = waiting.pop()
        node = graph.maker(name)
        if node is None or name in seen or (name in ends and name != tensor):
            continue
        seen.add(name)
        if is_op(node, *LAYERS) or weight_of(graph, node) is not None:
            found[id(node)] = node
        else:
            waiting += [read for read in node.input if read]
    return list(found.values())


def _unexplained(graph: Graph, ours: NodeProto, reference: Graph, theirs: NodeProto) -> float | None:
    """Return the share of a weight's energy that is neither the float one's nor rounding; None: not known."""
    wanted, made = _weight(reference, theirs), _weight(graph, ours)
    step = _step(graph, ours)
    if wanted is None or made is None or step is None or wanted.shape != made.shape or not made.any():
        return None
    rows, columns = len(made), made.shape[1]
    if made.size < _FREE * rows:
        return None  # as of a norm that is written as a convolution
    step = step.reshape(-1, 1, 1) if step.size == rows else step.max()
    fitted = _by_rows(wanted, made)
    if not _rounded(made - fitted, step) and made.size >= _FREE * (rows + columns) and columns > 1:
        fitted = _by_rows_and_columns(wanted, made)
    elif not _rounded(made - fitted, step) and _may_have_gains(reference, theirs):
        return None
    left = made - fitted
    return 0.0 if _rounded(left, step) else float(np.sum(left**2) / np.sum(made**2))


def _rounded(left: Reals, step: Reals) -> bool:
    """Say whether what is left is what rounding leaves."""
    return bool(np.mean((left / step) ** 2) * 12 <= _ROUNDING)


def _by_rows(wanted: Reals, made: Reals) -> Reals:
    """Return the float weight with the gains of its output channels that bring it nearest to the other one."""
    energy = np.sum(wanted**2, axis=(1, 2), keepdims=True)
    product = np.sum(wanted * made, axis=(1, 2), keepdims=True)
    return np.asarray(wanted * (product / np.where(energy > 0, energy, 1)))


def _by_rows_and_columns(wanted: Reals, made: Reals) -> Reals:
    """Do the same with gains of input channels, too, one after the other until they stay."""
    columns = np.ones((1, wanted.shape[1], 1))
    for _ in range(8):
        fitted = _by_rows(wanted * columns, made)
        scaled = np.divide(fitted, columns, out=np.zeros_like(fitted), where=columns != 0)
        energy = np.sum(scaled**2, axis=(0, 2), keepdims=True)
        columns = np.sum(scaled * made, axis=(0, 2), keepdims=True) / np.where(energy > 0, energy, 1)
    return _by_rows(wanted * columns, made)


def _may_have_gains(reference: Graph, layer: NodeProto) -> bool:
    """Say whether a norm stands before a layer, which may have been folded into it."""
    waiting, seen = [layer.input[0]], set()
    while waiting:
        name = waiting.pop()
        node = reference.maker(name)
        if node is None or name in seen or is_op(node, *LAYERS):
            continue
        seen.add(name)
        if node.op_type.endswith("Normalization") or is_op(node, "Mul", "Div"):
            return True
        waiting += [read for read in node.input if read]
    return False


def _weight(graph: Graph, node: NodeProto) -> Reals | None:
    """Return the constant weight of a layer in real units: output channels, a group's input channels, the rest."""
    on_codes = weight_of(graph, node)
    if on_codes is not None and on_codes.real is not None:  # between conversions, which constants go through
        on_codes = None
    value = graph.constant([*node.input, ""][1] if on_codes is None else on_codes.codes)
    if value is None or value.ndim < 2:
        return None
    weight = value.astype(np.float64)
    if on_codes is not None:
        scale, zero_point = graph.constant(on_codes.scale), graph.constant(on_codes.zero_point)
        if scale is None or zero_point is None:
            return None
        axis = 0 if node.op_type == "QLinearConv" or attribute(node, "transB", 0) else value.ndim - 1
        shape = [1] * value.ndim
        shape[axis] = -1
        scale, zero_point = (
            x.astype(np.float64).reshape(shape if x.size > 1 else ()) for x in (scale, zero_point)
        )
        weight = (weight - zero_point) * scale
    if not np.all(np.isfinite(weight)):
        return None
    if node.op_type == "ConvTranspose":
        if attribute(node, "group", 1) != 1:
            return None
        weight = weight.swapaxes(0, 1)
    elif node.op_type not in ("Conv", "QLinearConv"):
        if value.ndim != 2:
            return None
        weight = weight if attribute(node, "transB", 0) else weight.T
    return weight.reshape(*weight.shape[:2], -1)


def _step(graph: Graph, node: NodeProto) -> Reals | None:
    """Return the scale of a layer's 8-bit weight, one or one a channel; None if it has none."""
    weight = weight_of(graph, node)
    if weight is not None:
        scale = graph.constant(weight.scale)
    else:
        maker = graph.maker(node.input[1])
        while maker is not None and is_op(maker, "Transpose", "Reshape", "Identity", "Cast"):
            maker = graph.maker(maker.input[0])
        if maker is None or not is_op(maker, "DequantizeLinear"):
            return None
        scale = graph.constant(maker.input[1])
    steps = np.zeros(1) if scale is None else scale.astype(np.float64).ravel()
    return steps if steps.min() > 0 else None
