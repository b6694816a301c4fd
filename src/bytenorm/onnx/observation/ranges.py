"""The smallest and the largest value of each tensor of a float network on data, for ONNX Runtime's quantizer.

Its own calibrator finds the same numbers. It looks through all nodes for the place of each that it adds. It runs
the convolutions that stand for norms as such, which takes as long as half of all others; here they are a Mul and
an Add, rounded as these are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper
from onnxruntime.quantization import calibrate
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from ..graph.graph import int_list, is_op, subgraphs
from ..model.constants import array_of
from ..run.session import session_for_a_pass

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
    from pathlib import Path

    import onnxruntime
    from onnx import ModelProto, NodeProto

    from ...calibration.moments import Moments
    from ..graph.graph import Graph
    from .moments import Watch

_ENDS = {"ReduceMin": np.fmin, "ReduceMax": np.fmax}  # past NaN, as the quantizer's calibrator


def measure(
    model: Path,
    batches: Iterable[Mapping[str, np.ndarray]],
    marks: Container[str],
    file: Path,
    watch: Watch | None = None,
    watched: Iterable[Mapping[str, np.ndarray]] = (),
    *,
    whole: bool = False,
    apart: bool = True,
) -> dict[str, Moments]:
    """Write the ranges of tensors to a file, as ONNX Runtime's quantizer reads them.

    Parameters
    ----------
    model : path
        A float network.
    batches : iterable of dict
        Of its inputs.
    marks : container of str
        The names of the convolutions that stand for norms.
    file : path
        What is written.
    watch : Watch, optional
        What is measured besides.
    watched : iterable of dict
        Further batches, which come first: those that `watch` is of.
    whole : bool
        Whether these are all of the data: `batches` are only run if a tensor has a NaN in each of them.
    apart : bool
        Whether `watched` tell ranges, too: not where samples depend on the others of their batch.

    Returns
    -------
    dict of str to Moments
        What `watch` found, batch by batch.
    """
    found: dict[str, np.ndarray] = {}
    moments = {} if watch is None else watch.start()
    tensors: list[str] = []
    for part, besides in ((watched, watch), (batches, None)):
        if besides is None and whole and not any(np.isnan(value).any() for value in found.values()):
            break
        session, names = None, []
        for batch in part:
            if session is None:
                tensors, session = _session(model, marks, besides)
                names = [output.name for output in session.get_outputs()]
            made = dict(zip(names, session.run(names, batch), strict=True))
            for end, way in _ENDS.items():
                for name in (f"{tensor}_{end}" for tensor in tensors):
                    value = made[name].reshape(-1)
                    if apart or besides is None:
                        found[name] = way(found[name], value) if name in found else value
            if besides is not None:
                besides.add(moments, made)
    ranges = {tensor: tuple(found[f"{tensor}_{end}"] for end in _ENDS) for tensor in tensors}
    calibrate.save_tensors_data(calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, ranges), file)
    return moments


def are_samples_apart(graph: Graph) -> bool:
    """Say whether what a network makes of a sample does not depend on the others of its batch.

    It may where something is reduced along the axis of samples, or in a subgraph, into which nobody looks.
    """
    return not any(next(subgraphs(node), None) or _reduces_samples(graph, node) for node in graph.nodes)


def _reduces_samples(graph: Graph, node: NodeProto) -> bool:
    if not (is_op(node, node.op_type) and node.op_type.startswith("Reduce")):
        return False
    axes = int_list(node, "axes")
    if axes is None and len(node.input) > 1 and node.input[1]:
        value = graph.constant(node.input[1])
        axes = None if value is None else value.ravel().tolist()
    _, shape = graph.type_of(node.input[0])
    return not axes or any(axis == 0 or (axis < 0 and (shape is None or axis == -len(shape))) for axis in axes)


def _session(
    path: Path, marks: Container[str], watch: Watch | None
) -> tuple[list[str], onnxruntime.InferenceSession]:
    """Return the tensors that have a range, and a session that tells the ends of each."""
    quantized = {*QLinearOpsRegistry, *QDQRegistry}
    calibrator = calibrate.CalibraterBase(path, quantized)
    model = calibrator.model
    tensors, types = calibrator.select_tensors_to_calibrate(model)
    wanted = sorted(tensors)
    nodes = list(model.graph.node)
    replaced = {name for node in nodes if node.name in marks for name in node.input[1:]}
    del model.graph.node[:]

    def behind(tensor: str) -> None:
        _add_ends(model, tensor, tensors, types)
        if watch is not None:
            model.graph.node.extend(watch.nodes(model, tensor))

    for value in model.graph.input:
        behind(value.name)
    for node in nodes:
        model.graph.node.extend(_as_arithmetic(model, node) if node.name in marks else [node])
        for output in node.output:
            behind(output)
    read = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name in replaced - read]:
        model.graph.initializer.remove(tensor)
    return wanted, session_for_a_pass(model, optimized=False, arena=True)


def _add_ends(model: ModelProto, tensor: str, tensors: Container[str], types: dict[str, ValueInfoProto]) -> None:
    if tensor not in tensors:
        return
    for end in _ENDS:
        name = f"{tensor}_{end}"
        model.graph.node.append(helper.make_node(end, [tensor], [name], name, keepdims=1))
        kind = types[tensor].type.tensor_type.elem_type
        model.graph.output.append(helper.make_tensor_value_info(name, kind, None))


def _as_arithmetic(model: ModelProto, mark: NodeProto) -> list[NodeProto]:
    """Return what computes a depthwise convolution of single pixels."""
    product, numbers = f"{mark.name}/product", []
    initializers: dict[str, TensorProto] = {t.name: t for t in model.graph.initializer if t.name in mark.input}
    weight, bias = (array_of(initializers[name]) for name in mark.input[1:3])
    for what, value in (("gain", weight), ("shift", bias)):
        numbers.append(f"{mark.name}/{what}")
        shaped = value.reshape(-1, *weight.shape[2:])  # behind the channels only axes of one
        model.graph.initializer.append(numpy_helper.from_array(shaped, numbers[-1]))
    return [
        helper.make_node("Mul", [mark.input[0], numbers[0]], [product], f"{mark.name}/Mul"),
        helper.make_node("Add", [product, numbers[1]], mark.output, f"{mark.name}/Add"),
    ]
