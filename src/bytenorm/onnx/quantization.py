"""From a float model to an 8-bit one: ONNX Runtime's static quantizer, and batch norms in 8 bits."""

from __future__ import annotations

import io
import logging
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import onnx
from onnxruntime import quantization as ort_quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from .. import _checks
from .comparison import Comparison, compare
from .data import Dataset, ImageInput, open_data
from .folding import fold
from .function import DOMAIN
from .graph import Graph, is_op, label, opset_of, type_name
from .inspection import is_quantized
from .lowering import (
    IR_VERSION,
    Lowering,
    Outcome,
    check_lowering,
    free_initializers,
    lower_graph,
    refuse_invalid,
    refuse_lowered,
    warn_of,
)
from .marking import Marks
from .model import load_model, without_functions
from .norms import Norm, find_norms

if TYPE_CHECKING:
    import numpy as np

QuantFormat = Literal["QDQ", "QOperator"]
ByteType = Literal["uint8", "int8"]
CalibrateMethod = Literal["minmax", "entropy", "percentile"]

_OLDEST_OPSET = 13  # scales per channel
_TYPES = {"uint8": ort_quantization.QuantType.QUInt8, "int8": ort_quantization.QuantType.QInt8}
_METHODS = {
    "minmax": ort_quantization.CalibrationMethod.MinMax,
    "entropy": ort_quantization.CalibrationMethod.Entropy,
    "percentile": ort_quantization.CalibrationMethod.Percentile,
}

# What has a range of its own behind it when it is quantized.
_OWN_RANGE = ("Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class QuantizationReport:
    """What happened on the way to an 8-bit model.

    Attributes
    ----------
    folded : tuple of str
        Norms that the layer before them took up.
    outcomes : tuple of Outcome
        The other norms; with a problem where one stays in float.
    comparison : Comparison
        The result against the float model, on the calibration data.
    """

    folded: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    comparison: Comparison


def quantize(
    model: onnx.ModelProto | str | os.PathLike[str],
    calibration_data: object,
    *,
    lowering: Lowering = "portable",
    quant_format: QuantFormat = "QDQ",
    activation_type: ByteType = "uint8",
    weight_type: ByteType = "int8",
    keep_int8: bool = False,
    per_channel: bool = True,
    reduce_range: bool = False,
    calibrate_method: CalibrateMethod = "minmax",
    nodes_to_exclude: Sequence[str] = (),
    limit: int | None = None,
    images: ImageInput | None = None,
) -> onnx.ModelProto:
    """Make an 8-bit model of a float one, its batch norms included.

    Norms that can be folded are folded; ONNX Runtime's static quantizer does the rest of the network; the other
    norms, with the Relu or Clip behind them, get 8-bit inputs and outputs and are lowered as by :func:`lower`.

    Parameters
    ----------
    model : onnx.ModelProto or path
        In float. Not changed.
    calibration_data : iterable of dict, or path
        Inputs by name, or a `.npz` or `.npy` file, an image, or a folder of these; see :func:`compare`, which
        takes the same.
    lowering : {"portable", "exact", "fused"}
        See :func:`lower`.
    quant_format : {"QDQ", "QOperator"}
    activation_type, weight_type : {"uint8", "int8"}
        ONNX Runtime runs uint8 activations and int8 weights fastest on x86.
    keep_int8 : bool
        Whether activations chosen as int8 stay int8 in QDQ format; see :func:`lower`.
    per_channel : bool
        Whether each output channel of a convolution has a weight scale of its own.
    reduce_range : bool
        7-bit weights: for CPUs with AVX2 or AVX-512 but without VNNI, whose sums can saturate.
    calibrate_method : {"minmax", "entropy", "percentile"}
        How ranges of activations are chosen. With the 128 bins of ONNX Runtime's calibrator ``"entropy"`` often
        chooses what ``"minmax"`` does.
    nodes_to_exclude : sequence of str
        Names of nodes that stay in float.
    limit : int, optional
        Use so many samples at most.
    images : ImageInput, optional
        How image files become inputs.

    Returns
    -------
    onnx.ModelProto

    Warns
    -----
    LoweringWarning
        For each norm that stays in float.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, names what is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from bytenorm import onnx as bno
    >>> batch = {"image": np.random.default_rng(0).random((8, 1, 28, 28), dtype=np.float32)}
    >>> print(bno.inspect(bno.quantize(bno.digits_model(), [batch])).summary())
    9 batch norms: 0 in float, 9 in 8 bits; 0 can be folded
    """
    made, report = quantize_with_report(
        model,
        calibration_data,
        lowering=lowering,
        quant_format=quant_format,
        activation_type=activation_type,
        weight_type=weight_type,
        keep_int8=keep_int8,
        per_channel=per_channel,
        reduce_range=reduce_range,
        calibrate_method=calibrate_method,
        nodes_to_exclude=nodes_to_exclude,
        limit=limit,
        images=images,
    )
    warn_of(list(report.outcomes))
    return made


def quantize_with_report(
    model: onnx.ModelProto | str | os.PathLike[str],
    calibration_data: object,
    *,
    lowering: Lowering = "portable",
    quant_format: QuantFormat = "QDQ",
    activation_type: ByteType = "uint8",
    weight_type: ByteType = "int8",
    keep_int8: bool = False,
    per_channel: bool = True,
    reduce_range: bool = False,
    calibrate_method: CalibrateMethod = "minmax",
    nodes_to_exclude: Sequence[str] = (),
    limit: int | None = None,
    images: ImageInput | None = None,
    progress: Progress | None = None,
) -> tuple[onnx.ModelProto, QuantizationReport]:
    """Do as :func:`quantize`, and say what happened instead of warning.

    `progress` is called with the stage, how much of it is done, and how much there is.
    """
    check_lowering(lowering)
    _check_choice("quant_format", quant_format, QuantFormat)
    _check_choice("activation_type", activation_type, ByteType)
    _check_choice("weight_type", weight_type, ByteType)
    _check_choice("calibrate_method", calibrate_method, CalibrateMethod)
    if weight_type == "uint8" and activation_type == "int8":
        raise ValueError("weight_type: 'uint8' with activation_type 'int8' is nothing the quantizer can do")
    _checks.flag(keep_int8, "keep_int8")
    _checks.flag(per_channel, "per_channel")
    _checks.flag(reduce_range, "reduce_range")
    if isinstance(nodes_to_exclude, str) or not isinstance(nodes_to_exclude, Collection):
        came = type(nodes_to_exclude).__name__
        raise TypeError(f"nodes_to_exclude: wanted names of nodes, got {came}")
    original = load_model(model)
    prepared = _with_opset(without_functions(original, DOMAIN))
    free_initializers(prepared)
    graph = Graph(prepared)
    refuse_lowered(prepared, "model")
    if is_quantized(graph):
        raise ValueError("model: wanted a model in float, got a quantized one (lower() takes those)")
    data = open_data(calibration_data, original, limit=limit, images=images)
    names = {node.name for node in graph.nodes}
    for name in nodes_to_exclude:
        if name not in names:
            raise ValueError(f"nodes_to_exclude: the model has no node {name!r}")

    norms = find_norms(graph)
    refuse_invalid(norms)
    for norm in norms:
        data_type = graph.type_of(norm.input)[0]
        if data_type not in (0, onnx.TensorProto.FLOAT):
            works = f"the {norm.written} {norm.name} works in {type_name(data_type)}"
            raise ValueError(f"model: {works}: convert the model to float32")
    excluded = [n for n in norms if any(node.name in nodes_to_exclude for node in n.nodes)]
    folded = fold(graph, [n for n in norms if n not in excluded])
    kept = [n for n in norms if n not in folded]
    excluded_nodes = [_named(graph, node, n.name) for n in excluded for node in n.nodes]
    marks = Marks()
    for norm in kept:
        if norm not in excluded:
            marks.set(graph, norm)
    left_out = [*nodes_to_exclude, *excluded_nodes, *_needed_activations(graph, kept, quant_format)]
    borders = {tensor for n in kept for tensor in (n.input, n.output) if graph.maker(tensor) is not None}
    graph.finish()

    options = {
        "quant_format": getattr(ort_quantization.QuantFormat, quant_format),
        "activation_type": _TYPES[activation_type],
        "weight_type": _TYPES[weight_type],
        "per_channel": per_channel,
        "reduce_range": reduce_range,
        "calibrate_method": _METHODS[calibrate_method],
        "nodes_to_exclude": left_out,
    }
    made = _run_quantizer(prepared, borders, data, options, progress)
    made.ir_version = max(IR_VERSION, original.ir_version)
    _drop_unused_domains(made)
    graph = Graph(made)
    marks.lift(graph)
    outcomes = lower_graph(graph, lowering, {n.name for n in excluded}, keep_int8=keep_int8)
    comparison = compare(original, made, data, progress=_stage(progress, "compare"))
    return made, QuantizationReport(tuple(n.name for n in folded), tuple(outcomes), comparison)


def _check_choice(name: str, value: object, kind: Any) -> None:
    if value not in get_args(kind):
        raise ValueError(f"{name}: wanted {' or '.join(map(repr, get_args(kind)))}, got {value!r}")


def _with_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model with the standard operators that quantization needs."""
    opset = opset_of(model)
    if opset >= _OLDEST_OPSET:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    try:
        return onnx.version_converter.convert_version(model, _OLDEST_OPSET)
    except Exception as error:
        why = " ".join(str(error).split())
        raise ValueError(
            f"model: opset {opset} is too old to quantize, and onnx cannot convert it to {_OLDEST_OPSET}: {why}"
        ) from None


def _needed_activations(graph: Graph, norms: list[Norm], quant_format: QuantFormat) -> list[str]:
    """Return the names of Relu and Clip nodes that have to run as they are.

    ONNX Runtime's quantizer drops each behind a quantized tensor, and lets the range of its codes do the work.
    That fails where 0 is not within the limits, since every range has a code for 0; and, in QOperator format,
    where the tensor has other readers or takes its range from what is before it.
    """
    needed = [n.activation for n in norms if n.activation is not None and not n.floor <= 0 <= n.ceiling]
    if quant_format == "QOperator":
        for node in graph.nodes:
            alone = is_op(node, "Relu", "Clip") and graph.only_reader(node.input[0]) is not None
            if is_op(node, "Relu", "Clip") and not (alone and is_op(graph.maker(node.input[0]), *_OWN_RANGE)):
                needed.append(node)
    return [_named(graph, node, label(node)) for node in needed]


def _named(graph: Graph, node: onnx.NodeProto, wanted: str) -> str:
    """Return the name of a node, which it gets if it has none."""
    node.name = node.name or graph.new_node_name(f"{wanted}/{node.op_type}")
    return node.name


def _run_quantizer(
    model: onnx.ModelProto,
    borders: Set[str],
    data: Dataset,
    options: dict[str, Any],
    progress: Progress | None,
) -> onnx.ModelProto:
    """Prepare a model and quantize it; `borders` are the tensors before and behind its norms."""
    minmax = options["calibrate_method"] == _METHODS["minmax"]
    reader = _Reader(data, _stage(progress, "calibrate"), one_by_one=not minmax)
    with tempfile.TemporaryDirectory(prefix="bytenorm-") as folder, _quiet():
        before, between, behind = (
            str(Path(folder, name)) for name in ("float.onnx", "prepared.onnx", "8bit.onnx")
        )
        try:
            # The preparation merges a convolution with what is around it. A mark has to stay what it is, and an
            # excluded norm where it is: what is an output of the model is merged with nothing.
            outputs = {v.name for v in model.graph.output}
            model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(borders - outputs))
            onnx.save_model(model, before)
            quant_pre_process(before, between, skip_symbolic_shape=True)
            prepared = onnx.load_model(between)
            for value in [v for v in prepared.graph.output if v.name not in outputs]:
                prepared.graph.output.remove(value)
            onnx.save_model(prepared, between)
            ort_quantization.quantize_static(between, behind, reader, **options)
        except Exception as error:
            if reader.error is not None:
                raise reader.error from None
            why = " ".join(str(error).split())
            raise ValueError(f"model: ONNX Runtime's quantizer failed: {why}") from error
        return onnx.load_model(behind)


class _Reader(ort_quantization.CalibrationDataReader):  # type: ignore[misc]
    """Hands batches to the quantizer, or sample by sample: its histograms take no batches of different sizes."""

    def __init__(
        self, data: Dataset, progress: Callable[[int, int], None] | None, *, one_by_one: bool = False
    ) -> None:
        one_by_one = one_by_one and all(info.shape and info.shape[0] is None for info in data.inputs)
        self._batches = _samples(data) if one_by_one else iter(data)
        self._done, self._all, self._progress = 0, data.samples if one_by_one else len(data), progress
        self.error: Exception | None = None  # of the data, which the quantizer may report as its own

    def get_next(self) -> dict[str, np.ndarray] | None:
        if self._progress is not None:
            self._progress(self._done, self._all)
        self._done += 1
        try:
            return next(self._batches, None)
        except Exception as error:
            self.error = error
            raise


def _samples(data: Dataset) -> Iterator[dict[str, np.ndarray]]:
    for batch in data:
        for i in range(len(next(iter(batch.values())))):
            yield {name: array[i : i + 1] for name, array in batch.items()}


def _stage(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, whole: progress(name, done, whole)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's remarks, which it prints and sends to the root logger, from the terminal."""
    root = logging.getLogger()
    level = root.level
    handler = logging.NullHandler()  # without any handler a remark would make one, and leave it
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def _drop_unused_domains(model: onnx.ModelProto) -> None:
    """Drop the imports of domains that no node uses: ONNX Runtime's optimizer writes all that it knows."""
    used = {node.domain for node in model.graph.node} | {f.domain for f in model.functions}
    for i in reversed(range(len(model.opset_import))):
        domain = model.opset_import[i].domain
        if domain not in ("", "ai.onnx") and domain not in used:
            del model.opset_import[i]
