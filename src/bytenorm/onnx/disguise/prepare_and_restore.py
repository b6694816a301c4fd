"""Batch norms that go through anybody's quantizer as layers: a disguise before it, undone behind it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import numpy as np

from ... import _checks
from ..._errors import bad_value
from ..._outcomes import Outcome, warn_of
from ..folding.backward import fold
from ..graph.graph import Graph, attribute, is_op
from ..graph.qlinear_conv import moves
from ..graph.quantized import is_quantized
from ..graph.quantizer_names import NODE
from ..lowering.given import opened, require_float
from ..lowering.lower import IR_VERSION, lower_graph
from ..lowering.names import PREPARE, Lowering, check_lowering
from ..norms.conversions import make_standard
from ..norms.find import PREPARED, find_norms, is_prepared
from ..norms.float_graph import plain
from ..norms.last_axis import cancel_transposes
from ..norms.norm import PARAMETER_NAMES, Norm, Parameters, bad_values
from ..run.runtime_types import note_types
from ..run.saturation import warn_of_saturation
from .norms_as_convs import Marks, markable

if TYPE_CHECKING:
    import os

    import numpy.typing as npt
    import onnx


def prepare(model: onnx.ModelProto | str | os.PathLike[str]) -> onnx.ModelProto:
    """Disguise the batch norms of a float model as layers, for a quantizer that knows no batch norm.

    Norms that the layer before them can take up are folded. Each other one becomes a depthwise 1x1 convolution,
    which any static quantizer gives an 8-bit input and output; the model's metadata says what it was.
    :func:`restore` turns the quantized convolutions into norms again, with parameters that were never rounded.

    Parameters
    ----------
    model : onnx.ModelProto or path
        In float. Not changed.

    Returns
    -------
    onnx.ModelProto
        It computes the same, but for float rounding.

    Warns
    -----
    UserWarning
        If the model has inputs with values of their own, which a caller may replace: they become constants.

    Raises
    ------
    TypeError
        If the model is neither a ``ModelProto`` nor a path.
    ValueError
        If it is no valid model, quantized, prepared already, or has no norm to disguise.

    Examples
    --------
    >>> from bytenorm import onnx as bno
    >>> made = bno.prepare(bno.digits_model())
    >>> any(node.op_type == "BatchNormalization" for node in made.graph.node)
    False
    """
    prepared, _ = prepare_with_report(model)
    return prepared


def prepare_with_report(
    model: onnx.ModelProto | str | os.PathLike[str],
) -> tuple[onnx.ModelProto, dict[str, list[str]]]:
    """Do as :func:`prepare`, and return the names of norms: ``folded``, ``disguised`` and ``left``."""
    made = opened(model)
    if is_prepared(made):
        raise bad_value("model", ": it is prepared already")
    note_types(made)
    graph = Graph(made)
    require_float(graph)
    graph = plain(graph)
    norms = find_norms(graph)
    folded = fold(graph, norms)
    cancel_transposes(graph, norms)
    kept, left = markable(graph, norms, folded)
    if not kept:
        raise bad_value("model", f": it has no batch norm to disguise ({len(folded)} fold into layers)")
    marks = Marks()
    for norm in kept:
        marks.set(graph, norm)
    graph.finish()
    made.metadata_props.add(key=PREPARED, value=_to_text(marks))
    names = {"folded": folded, "disguised": kept, "left": left}
    return made, {kind: [norm.name for norm in which] for kind, which in names.items()}


def restore(
    model: onnx.ModelProto | str | os.PathLike[str], *, lowering: Lowering = "portable", keep_int8: bool = False
) -> onnx.ModelProto:
    """Turn the disguised norms of a quantized model back into norms, and lower them.

    Parameters
    ----------
    model : onnx.ModelProto or path
        What a quantizer made of a model of :func:`prepare`, in QDQ or QOperator format. Not changed.
    lowering, keep_int8
        As :func:`lower` takes them.

    Returns
    -------
    onnx.ModelProto

    Warns
    -----
    LoweringWarning
        For each norm that stays in float, or whose disguise the quantizer took apart: it stays what it is.
    UserWarning, SaturationWarning
        As :func:`lower`.

    Raises
    ------
    TypeError
        If the model is neither a ``ModelProto`` nor a path.
    ValueError
        If it is no valid model, not quantized, or has no norm in disguise.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> from bytenorm import onnx as bno
    >>> from onnxruntime.quantization import CalibrationDataReader, quantize_static
    >>> class Images(CalibrationDataReader):
    ...     batches = iter([{"image": np.random.default_rng(0).random((8, 1, 28, 28), dtype=np.float32)}])
    ...     def get_next(self):
    ...         return next(self.batches, None)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "quantized.onnx"
    ...     quantize_static(bno.prepare(bno.digits_model()), path, Images(), per_channel=True)
    ...     print(bno.inspect(bno.restore(path)).summary())
    9 batch norms: 0 in float, 9 in 8 bits; 0 can be folded
    """
    made, outcomes = restore_with_report(model, lowering=lowering, keep_int8=keep_int8)
    warn_of(outcomes)
    warn_of_saturation(made)
    return made


def restore_with_report(
    model: onnx.ModelProto | str | os.PathLike[str], *, lowering: Lowering = "portable", keep_int8: bool = False
) -> tuple[onnx.ModelProto, tuple[Outcome, ...]]:
    """Do as :func:`restore`, and say what became of the norms instead of warning."""
    check_lowering(lowering)
    _checks.flag(keep_int8, "keep_int8")
    made = opened(model)
    norms = disguised(made)
    graph = Graph(made)
    if not is_quantized(graph):
        raise bad_value("model", "must be quantized, got a model in float: quantize what ", PREPARE, " made")
    if make_standard(graph):
        graph = graph.finished()
    taken_apart = {mark: problem for mark in norms if (problem := _problem(graph, mark, norms[mark]))}
    Marks.of({mark: norm for mark, norm in norms.items() if mark not in taken_apart}).lift(graph)
    graph.finish()
    made.metadata_props.remove(_entry(made))
    made.ir_version = max(made.ir_version, IR_VERSION)
    outcomes = lower_graph(Graph(made), lowering, keep_int8=keep_int8)
    return made, (*outcomes, *(Outcome(norms[mark].name, problem) for mark, problem in taken_apart.items()))


def disguised(model: onnx.ModelProto) -> dict[str, Norm]:
    """Return the norms that a model's metadata says to be in disguise, by the nodes that stand for them."""
    return _from_text(_entry(model).value)


def _entry(model: onnx.ModelProto) -> onnx.StringStringEntryProto:
    entries: list[onnx.StringStringEntryProto] = [e for e in model.metadata_props if e.key == PREPARED]
    if not entries:
        raise bad_value(
            "model",
            ": it has no norm in disguise: wanted a quantized model of ",
            PREPARE,
            ", with its metadata",
        )
    return entries[0]


def _problem(graph: Graph, mark: str, norm: Norm) -> str:
    """Say why a disguise cannot be undone; empty if it can."""
    assert norm.parameters is not None
    node = next((node for node in graph.nodes if node.name.removesuffix(NODE) == mark), None)
    if node is None:
        return f"the quantizer took its convolution {mark} out, merged it with another node or renamed it"
    if not is_op(node, "Conv", "QLinearConv"):
        return f"the quantizer made a {node.op_type} of its convolution {mark}"
    if attribute(node, "group", 1) != norm.parameters.channels:
        return f"the quantizer changed the channels of its convolution {mark}"
    if moves(node):
        return f"the quantizer merged its convolution {mark} with a Pad before it"
    if not _has_weights_of(graph, node, norm.parameters):
        return (
            f"the quantizer changed the weights of its convolution {mark}, and so what comes before or behind it"
        )
    return ""


def _has_weights_of(graph: Graph, node: onnx.NodeProto, parameters: Parameters) -> bool:
    """Say whether a convolution has a norm's gains, rounded: some quantizers move scales from layer to layer."""
    gain, _ = parameters.gain_and_shift()
    if node.op_type == "QLinearConv":
        codes, scale, zero_point = (graph.constant(tensor) for tensor in node.input[3:6])
        if codes is None or scale is None or zero_point is None:
            return False
        step = np.asarray(scale, np.float64).ravel()
        weight = (codes.astype(np.float64).ravel() - zero_point.astype(np.float64).ravel()) * step
    else:
        real, maker = graph.constant(node.input[1]), graph.maker(node.input[1])
        steps = (
            graph.constant(maker.input[1]) if maker is not None and maker.op_type == "DequantizeLinear" else None
        )
        if real is None:
            return False
        weight = real.astype(np.float64).ravel()
        step = np.zeros(1) if steps is None else np.asarray(steps, np.float64).ravel()
    if weight.size != gain.size or step.size not in (1, gain.size):
        return False
    return bool(np.all(np.abs(weight - gain) <= step + 0.1 * np.abs(gain) + 1e-6))


def _to_text(marks: Marks) -> str:
    """Write what norms were, by their marks."""
    return json.dumps(
        {
            mark: {"name": norm.name, "epsilon": norm.parameters.epsilon}
            | {what: _encoded(getattr(norm.parameters, what)) for what in PARAMETER_NAMES}
            for mark, norm in marks.norms.items()
            if norm.parameters is not None
        }
    )


def _from_text(text: str) -> dict[str, Norm]:
    """Read what :func:`_to_text` wrote."""
    try:
        norms = {}
        said = json.loads(text)
        if not isinstance(said, dict):
            raise TypeError("no object with an entry for each norm")
        for mark, entry in said.items():
            name, vectors = entry["name"], [_decoded(entry[what]) for what in PARAMETER_NAMES]
            parameters = Parameters(vectors[0], vectors[1], vectors[2], vectors[3], float(entry["epsilon"]))
            if len({v.size for v in vectors}) > 1 or not vectors[0].size or not isinstance(name, str):
                raise ValueError("parameters of different lengths")
            problem = bad_values(parameters)
            if problem:
                raise ValueError(problem)
            norms[mark] = Norm(
                name, "BatchNormalization", [], "", "", channels=parameters.channels, parameters=parameters
            )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise bad_value("model", f": what its metadata says under {PREPARED!r} is damaged: {error}") from None
    return norms


def _encoded(vector: npt.NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _decoded(text: str) -> npt.NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
