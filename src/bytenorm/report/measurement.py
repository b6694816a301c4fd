"""Runs a quantized model on data and measures what its batch norms make of it.

A channel of a norm has only 256 inputs. So a histogram of the codes that it reads, and the code that it makes of
each, say everything about its output: the numbers here are exact, not estimated from samples.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

import bytenorm as bn

from .._decibels import snr_db
from .._errors import bad_value
from ..calibration import ChannelStatistics
from ..calibration.qparams.distribution import CODES, Distribution
from ..calibration.qparams.least_error import SPAN, least_error
from ..calibration.qparams.output_qparams import LARGEST, SMALLEST
from ..onnx.data.dataset import open_data
from ..onnx.graph.graph import Graph, label
from ..onnx.graph.quantized import is_quantized
from ..onnx.model.files import load_model, without_functions
from ..onnx.norms.find import find_hidden, find_norms
from ..onnx.observation.data_scale import unlike_codes, unlike_statistics
from ..onnx.operators.schema import DOMAIN
from ..onnx.run.apart import run_session, runner_for_a_pass
from .accuracy.accumulation import Accumulation
from .accuracy.correction import read_correction, with_after
from .accuracy.findings import find
from .results import NormReport, Report
from .taps import NotMeasured, spot_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ..onnx.data.batch_axes import BatchAxes
    from ..onnx.data.dataset import Dataset
    from ..onnx.norms.qparams import QParams
    from .accuracy.correction import Correction
    from .accuracy.findings import Findings
    from .taps import Spot

    Codes = npt.NDArray[np.int64]


# Decibels: other samples of the same kind move an output by a few; norms of another checkpoint by 30 and more.
_FAR = 10


def gather(
    model: onnx.ModelProto | str | os.PathLike[str],
    data: object,
    *,
    reference: onnx.ModelProto | str | os.PathLike[str] | None = None,
    limit: int | None = None,
    batch_axes: BatchAxes | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Run a quantized model in ONNX Runtime and measure its batch norms.

    Parameters
    ----------
    model : onnx.ModelProto or path
        In QDQ or QOperator format, its norms lowered or not. Not changed.
    data : iterable of dict, path, or Dataset
        As `bytenorm.onnx.compare` takes it.
    reference : onnx.ModelProto or path, optional
        The float model that the model was made of: how far the tensors are from its is measured too.
    limit : int, optional
        The most samples to use.
    batch_axes : dict of str to int or None, optional
        As `bytenorm.onnx.compare` takes it.
    progress : callable, optional
        Called with ``"running"`` and the numbers of samples that are done and of all, then with ``"measuring"``
        and those of norms, and with ``"trying"`` when tensors are put in float.

    Returns
    -------
    Report

    Raises
    ------
    TypeError, FileNotFoundError, ValueError
        As `load_model` and `open_data`.
    ValueError
        If the reference does not belong to the model: other inputs, another number of outputs, no common names,
        other weights, or most tensors nothing like its own.
    ValueError
        If the model is in float, ONNX Runtime cannot run it, or it has no norm that can be measured and there is
        no reference.

    Examples
    --------
    >>> import numpy as np, onnx
    >>> from bytenorm.report import gather
    >>> model = onnx.parser.parse_model('''
    ...     <ir_version: 9, opset_import: ["": 17]>
    ...     small (uint8[N, 2] x) => (uint8[N, 2] y)
    ...     <float s = {0.1}, uint8 z = {128}, float[2] weight = {1.0, 4.0}, float[2] bias = {0.0, 1.0}> {
    ...         real = DequantizeLinear (x, s, z)
    ...         normalized = BatchNormalization (real, weight, bias, bias, weight)
    ...         y = QuantizeLinear (normalized, s, z)
    ...     }''')
    >>> norm = gather(model, [{"x": np.arange(512, dtype=np.uint16).reshape(256, 2).astype(np.uint8)}]).norms[0]
    >>> norm.name, norm.channels, round(norm.clipped, 3), round(norm.snr_db, 1), round(norm.best_scale, 3)
    ('normalized', 2, 0.25, 9.9, 0.2)
    """
    loaded = load_model(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(without_functions(loaded, DOMAIN))
    graph = Graph(copy)
    if not is_quantized(graph):
        raise bad_value(
            "model", "must be quantized, got a model in float: bytenorm quantize makes one of it first"
        )
    spots, left_out = _spots(graph)
    if not spots and reference is None:
        why = f": {left_out[0][0]}: {left_out[0][1]}" if left_out else ""
        raise bad_value("model", f": it has no batch norm between 8-bit tensors{why}")
    batches = open_data(data, loaded, limit=limit, batch_axes=batch_axes, argument="data")
    gathered = [_Gathered(spot) for spot in spots]
    wanted = None if reference is None else load_model(reference, argument="reference")
    beside = None if wanted is None else Accumulation(loaded, wanted, batches)
    unlike = _unlike(loaded, wanted, batches)
    samples = _run(copy, batches, gathered, beside, progress)
    norms = []
    for i, one in enumerate(gathered):
        if progress is not None:
            progress("measuring", i, len(gathered))
        norms.append(one.result())
    norms.sort(key=lambda norm: norm.snr_db)
    correction = read_correction(loaded)
    if beside is None or wanted is None:
        return Report(tuple(norms), tuple(left_out), samples, correction=correction, unlike=unlike)
    drift = beside.result()
    if correction is not None:
        correction = with_after(correction, drift, beside)
    if progress is not None:
        progress("trying", 0, 1)
    findings = find(loaded, wanted, beside, drift, correction)
    unlike = "; ".join(filter(None, (unlike, _far_from_the_note(correction, findings))))
    return Report(tuple(norms), tuple(left_out), samples, drift, beside.unmatched, correction, findings, unlike)


def _unlike(model: onnx.ModelProto, reference: onnx.ModelProto | None, data: Dataset) -> str:
    """Say how far the data is from what the float network was trained on, else from what calibrated the model."""
    found = ""
    if reference is not None:
        graph = Graph(reference)
        found = unlike_statistics(graph, find_norms(graph), data)
    return found or unlike_codes(Graph(model), data)


def _far_from_the_note(correction: Correction | None, findings: Findings) -> str:
    """Say that the outputs are far from where they were when the model was made, as by another float model."""
    noted = None if correction is None else correction.noted_db
    if noted is None or not findings.snr_db < noted - _FAR:
        return ""
    return (
        f"the outputs have {findings.snr_db:.1f} dB here and had {noted:.1f} dB when the model was made: is the "
        "float model the one that it was made of, and are the samples of the same kind?"
    )


def _spots(graph: Graph) -> tuple[list[Spot], list[tuple[str, str]]]:
    spots, left_out = [], []
    for norm in find_norms(graph):
        try:
            spots.append(spot_of(graph, norm))
        except NotMeasured as why:
            left_out.append((norm.name, str(why)))
    for inner, outer in find_hidden(graph):
        left_out.append((label(inner), f"it is in a subgraph of the {outer.op_type} {label(outer)}"))
    return spots, left_out


def _run(
    model: onnx.ModelProto,
    batches: Dataset,
    gathered: list[_Gathered],
    beside: Accumulation | None,
    progress: Callable[[str, int, int], None] | None,
) -> int:
    """Let the model give the codes of its norms; return the number of samples."""
    wanted = {q.codes: q for one in gathered for q in (*one.spot.pieces, one.spot.target)}
    fed = {v.name for v in model.graph.input}
    outputs = {v.name for v in model.graph.output}
    for name, q in wanted.items():
        if name not in fed | outputs:
            kind = TensorProto.INT8 if q.signed else TensorProto.UINT8
            model.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    # At least one, so that a model that ends the process does so in one of its own: parts of it run in this one.
    names = [name for name in wanted if name not in fed] or [model.graph.output[0].name]
    made_by = runner_for_a_pass(model)
    done = 0
    for batch in batches:
        made = dict(zip(names, run_session(made_by, names, batch, "model"), strict=True))
        for one in gathered:
            one.add(batch | made)
        if beside is not None:
            beside.add(batch)
        done += batches.count(batch)
        if progress is not None:
            progress("running", done, batches.samples)
    return done


class _Gathered:
    """The codes that a norm read, how often, and what it made of each."""

    def __init__(self, spot: Spot) -> None:
        self.spot = spot
        self.statistics = ChannelStatistics(len(spot.gain))
        self.made: Codes = np.zeros((len(spot.gain), CODES), np.int64)
        self.seen = np.zeros((len(spot.gain), CODES), bool)
        self._scale: Any = None
        self._zero_point: Any = None

    def add(self, tensors: dict[str, np.ndarray]) -> None:
        """Take in a batch."""
        axis, pieces = self.spot.axis, self.spot.pieces
        parts = [tensors[q.codes] for q in pieces]
        if self._scale is None:
            self._scale, self._zero_point = _quantization(pieces, [part.shape[axis] for part in parts])
        x = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=axis)
        y = tensors[self.spot.target.codes]
        if self.spot.limits != (None, None):
            y = np.clip(y, *self.spot.limits)
        along = None if np.ndim(self._scale) == 0 else axis
        self.statistics.update(bn.QuantizedTensor(x, self._scale, self._zero_point, axis=along), axis)
        counts = self.statistics.histogram
        assert counts is not None, "it is counted here"
        if np.array_equal(counts > 0, self.seen):
            return
        # Where a channel's first code stands in a flat table: 256 a channel.
        rows = CODES * np.arange(len(self.made)).reshape([-1] + [1] * (x.ndim - 2 if axis == 1 else 0))
        at = np.add(x, rows - int(np.iinfo(x.dtype).min), dtype=np.intp)
        self.made.reshape(-1)[at.reshape(-1)] = y.reshape(-1)
        self.seen = counts > 0

    def result(self) -> NormReport:
        """Measure what came."""
        spot, statistics = self.spot, self.statistics
        counts = statistics.histogram
        assert counts is not None and statistics.dtype is not None, "data has been gathered"
        shape = (len(spot.gain), 1)
        scale_in = np.broadcast_to(np.asarray(statistics.scale, np.float64), shape[0]).reshape(shape)
        zero_in = np.broadcast_to(statistics.zero_point, shape[0]).reshape(shape)
        inputs = scale_in * (np.arange(statistics.dtype.qmin, statistics.dtype.qmax + 1) - zero_in)
        outputs = np.clip(spot.gain[:, None] * inputs + spot.shift[:, None], spot.floor, spot.ceiling)

        target = spot.target
        dtype = bn.qint8 if target.signed else bn.quint8
        scale, zero_point = target.scalars
        errors = np.where(self.seen, scale * (self.made - zero_point) - outputs, 0.0)
        signal, noise = (np.sum(counts * part**2, axis=1) for part in (np.where(self.seen, outputs, 0.0), errors))

        output = Distribution.of(outputs.ravel(), counts.ravel())
        low = dtype.qmin - zero_point
        best_scale, best_low = 1.0, 0
        if output.values.any():
            lows = np.array([0]) if spot.floor >= 0 else np.arange(-SPAN, 1)
            best_scale, best_low = least_error(output, lows, SMALLEST, LARGEST)
        best_mse, best_clipped = output.error(best_scale, best_low, best_low + SPAN)
        return NormReport(
            name=spot.name,
            written=spot.written,
            activation=spot.activation,
            notes=spot.notes,
            statistics=statistics,
            outputs=outputs,
            errors=errors,
            distribution=output,
            dtype=dtype,
            scale=scale,
            zero_point=zero_point,
            clipped=output.error(scale, low, low + SPAN)[1],
            mse=float(noise.sum() / counts.sum()),
            snr_db=snr_db(signal.sum(), noise.sum()),
            channel_snr_db=np.array([snr_db(s, n) for s, n in zip(signal, noise, strict=True)]),
            best_scale=best_scale,
            best_zero_point=dtype.qmin - best_low,
            best_mse=best_mse,
            best_clipped=best_clipped,
        )


def _quantization(pieces: tuple[QParams, ...], widths: list[int]) -> tuple[Any, Any]:
    """Return the scale and the zero point of pieces side by side: one of all, or one a channel."""
    if len(pieces) == 1 and pieces[0].per_tensor:
        return pieces[0].scalars
    scales, zero_points = (
        np.concatenate([np.broadcast_to(v.ravel(), n) for v, n in zip(values, widths, strict=True)])
        for values in ([q.scale for q in pieces], [q.zero_point for q in pieces])
    )
    return scales.astype(np.float64), zero_points.astype(np.int64)
