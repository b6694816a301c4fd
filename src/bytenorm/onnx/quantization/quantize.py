"""From a float model to an 8-bit one: ONNX Runtime's static quantizer, and batch norms in 8 bits."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import onnx

from ..._outcomes import warn_of
from ..._signatures import bound, same_arguments
from ...calibration.qparams.output_qparams import Method
from ..data.dataset import open_data
from ..data.samples import Samples, pick
from ..graph.graph import Graph, label, tell_nodes_apart
from ..graph.named_nodes import check_names, named_nodes
from ..lowering.given import require_float, warn_of_constants
from ..lowering.lower import lower_graph
from ..lowering.names import check_lowering
from ..measurement.accuracy import complaints, is_doubtful, too_few_to_compare, warn_of_accuracy
from ..model.files import load_model, without_functions
from ..model.weightless import require_told
from ..operators.schema import DOMAIN
from ..quantizer.chosen_nodes import ChosenNodes
from ..quantizer.extra_options import check_extra_options
from ..quantizer.reader import stage
from ..quantizer.static_quantizer import StaticQuantizer
from ..run.runtime_types import note_types
from ..run.saturation import warn_of_saturation
from .codes_first import move_codes_first
from .comparing import compared, quantizer_alone
from .options import (
    CalibrateMethod,
    QuantFormat,
    check_choice,
    check_flags,
    check_minimum,
    check_types,
    is_reestimated,
    ort_options,
    require_quantizer,
)
from .plan import plan_of
from .report import QuantizationReport
from .step_order import as_fused, ranges_to_try, take_steps
from .tuning.recalibration import recalibrate
from .tuning.steps import DATA_STATISTICS, NO_RANGES, NORMS_IN_FLOAT, REESTIMATION, Tuning, norm_scales
from .versions import set_versions, with_opset

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..data.batch_axes import BatchAxes
    from ..data.images import ImageInput
    from ..lowering.names import Lowering
    from ..quantizer.reader import Progress
    from .options import ByteType


JUDGED = 4  # samples that tell an output which is far from the float model's, where no comparison is asked for


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
    reduce_range: bool | None = None,
    calibrate_method: CalibrateMethod | None = None,
    method: Method | None = None,
    reestimate: bool | None = None,
    data_statistics: bool = False,
    fast: bool = False,
    minimum_snr_db: float | None = None,
    nodes_to_exclude: Sequence[str] = (),
    nodes_to_quantize: Sequence[str] | None = None,
    op_types_to_quantize: Sequence[str] | None = None,
    extra_options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    images: ImageInput | None = None,
    batch_axes: BatchAxes | None = None,
    compare: bool = False,
    progress: Progress | None = None,
) -> tuple[onnx.ModelProto, QuantizationReport]:
    """Make an 8-bit model as :func:`quantize` does, and return what happened instead of warning of it.

    Parameters
    ----------
    model, calibration_data : as for :func:`quantize`
    lowering, quant_format, activation_type, weight_type, keep_int8, per_channel, reduce_range : as for `quantize`
    calibrate_method, method, reestimate, data_statistics, fast, minimum_snr_db : as for `quantize`
    nodes_to_exclude, nodes_to_quantize, op_types_to_quantize, extra_options : as for `quantize`
    limit, images, batch_axes, compare, progress : as for `quantize`

    Returns
    -------
    model : onnx.ModelProto
    report : QuantizationReport
        Which norms were folded and which stay, what was tried and taken, and the figures of the comparison.

    Raises
    ------
    TypeError, ValueError
        As :func:`quantize`.

    Examples
    --------
    >>> import numpy as np
    >>> from bytenorm import onnx as bno
    >>> batch = {"image": np.random.default_rng(0).random((16, 1, 28, 28), dtype=np.float32)}
    >>> small, report = bno.quantize_with_report(bno.digits_model(), [batch], compare=True)
    >>> report.comparison.samples, report.comparison.outputs[0].snr_db > 20
    (16, True)
    >>> report.steps[0].name
    'ranges by percentile 99.999'
    """
    check_lowering(lowering)
    require_quantizer()
    check_choice("quant_format", quant_format, QuantFormat)
    check_types(activation_type, weight_type)
    check_choice("calibrate_method", calibrate_method, CalibrateMethod, optional=True)
    check_choice("method", method, Method, optional=True)
    seven_bits = False if reduce_range is None else reduce_range
    check_flags(keep_int8=keep_int8, per_channel=per_channel, reduce_range=seven_bits, compare=compare)
    reestimate = is_reestimated(reestimate, fast=fast, data_statistics=data_statistics)
    least = check_minimum(minimum_snr_db, quant_format)
    check_names(nodes_to_exclude)
    extra = check_extra_options(
        extra_options,
        quant_format=quant_format,
        activation_type=activation_type,
        weight_type=weight_type,
        per_channel=per_channel,
        calibrate_method=calibrate_method,
        method=method,
    )
    original = load_model(model)
    prepared = _opened(original)
    asked = ChosenNodes.of(prepared, op_types_to_quantize, nodes_to_quantize, nodes_to_exclude)
    left_out = named_nodes(prepared, nodes_to_exclude)
    graph = Graph(prepared)
    apart = {label(node) for node in left_out}
    tell_nodes_apart(original.graph)
    require_float(graph)
    data = open_data(calibration_data, original, limit=limit, images=images, batch_axes=batch_axes)
    plan = plan_of(graph, data, apart, asked, extra, per_channel=per_channel, reduce_range=seven_bits)

    options = ort_options(quant_format, activation_type, weight_type, per_channel, seven_bits, calibrate_method)
    judged = None if data_statistics else method
    ranges = ranges_to_try(calibrate_method, judged, reestimate=reestimate and not extra.choose_ranges)
    samples = pick(data) if ranges or judged or reestimate or least is not None else Samples()
    quantizer = StaticQuantizer(
        prepared,
        plan.borders,
        plan.marks,
        plan.left_out,
        data,
        options,
        extra=extra,
        asked=asked,
        watched=None if samples.shortage or not reestimate else samples,
        chosen=method is not None,
        sums_fit=reduce_range is None,
        progress=progress,
    )
    del prepared, graph, left_out  # so that the model is not kept beside what was prepared of it
    graph, chosen = recalibrate(quantizer, data, method, progress) if data_statistics else (quantizer.run()[0], ())
    as_run = partial(as_fused, excluded={*plan.excluded, *apart}) if lowering == "fused" else None
    tuning = Tuning(quantizer, graph, original, samples, data.count, progress, as_run)
    steps = partial(
        take_steps, tuning, ranges, method, reestimate=reestimate, given=chosen if data_statistics else None
    )
    steps()
    if least is not None:
        tuning.leave_norms_in_float(least, steps)
    made = tuning.graph.model
    set_versions(made, original)
    tuning.note()
    lowered = lower_graph(tuning.graph, lowering, {*plan.excluded, *apart}, keep_int8=keep_int8)
    move_codes_first(tuning.graph)
    extra.spell(made)
    few = None if compare else tuning.compare(made, JUDGED)
    seen = data if compare else data.first(JUDGED)
    comparison = few or compared(original, made, seen, stage(progress, "compare"))
    doubtful = compare and is_doubtful(comparison)
    alone = quantizer_alone(original, data, options, extra, plan.left_out, progress) if doubtful else None
    return made, QuantizationReport(
        folded=plan.folded,
        outcomes=tuple(replace(one, problem=tuning.in_float.get(one.name, one.problem)) for one in lowered),
        comparison=comparison,
        recalibrated=chosen or tuning.recalibrated,
        alone=alone,
        gone=tuple(name for name in quantizer.gone if name in plan.told),
        steps=tuning.steps,
        stayed=plan.stayed,
        weak=quantizer.weak,
        unlike=plan.unlike,
        ranges=tuning.ranges or ("minmax" if calibrate_method in (None, "best") else calibrate_method),
        few=too_few_to_compare(data.samples),
    )


@same_arguments(quantize_with_report)
def quantize(*args: Any, **named: Any) -> onnx.ModelProto:
    """Make an 8-bit model of a float one, its batch norms included.

    Norms that can be folded, back or forward, are folded. The other norms, with the Relu or Clip behind them, get
    8-bit inputs and outputs and are lowered as by :func:`lower`. ONNX Runtime's static quantizer does the rest of
    the network.

    Parameters
    ----------
    model : onnx.ModelProto or path
        In float. Not changed.
    calibration_data : iterable of dict, CalibrationDataReader, or path
        Inputs by name, or a `.npz` or `.npy` file, an image, or a folder of these; see :func:`compare`, which
        takes the same. A `CalibrationDataReader` of ONNX Runtime begins anew by its `rewind`, if it has one; else
        it is read once and copied: 256 MiB stay in memory, the rest goes to a temporary file.
    lowering : {"portable", "exact", "fused", "qdq"}
        See :func:`lower`.
    quant_format : {"QDQ", "QOperator"}
    activation_type, weight_type : {"uint8", "int8"}
        ONNX Runtime runs uint8 activations and int8 weights fastest on x86.
    keep_int8 : bool
        Whether activations chosen as int8 stay int8 in QDQ format; see :func:`lower`.
    per_channel : bool
        Whether each output channel of a convolution has a weight scale of its own.
    reduce_range : bool, optional
        None: weights use as much of 8 bits as lets their sums be right on every CPU, also where those of other
        models do not (:func:`sums_saturate`). True: 7 bits. False: 8 bits, a little nearer where CPUs have VNNI.
    calibrate_method : {"minmax", "entropy", "percentile", "best"}, optional
        How ranges of activations are chosen. ONNX Runtime's calibrator finds those of the first three; with its
        128 bins ``"entropy"`` often chooses what ``"minmax"`` does. ``"best"`` starts with ``"minmax"``, and tries
        percentiles and the range of the least squared error on the samples kept aside (see `reestimate`). None
        does so with one percentile, 99.999, and with none if `fast`.
    method : {"mse", "minmax", "percentile", "entropy"}, optional
        How the scale and the zero point of each norm's output are chosen, by
        :func:`bytenorm.calibration.choose_output_qparams` from the exact distribution of the norm's 8-bit input.
        `calibrate_method` is for the ranges of all other tensors. The scales are taken if they bring the outputs
        on the samples kept aside (see `reestimate`) nearer to the float network's, and wherever nothing can be
        judged, as with fewer than 8 samples. None leaves the norms to `calibrate_method` too.
    reestimate : bool, optional
        Whether norms, and the biases of layers, are corrected relative to the float network. Quantization moves
        the mean and the variance of what a norm reads, and the mean of what a layer makes; both are put right.
        None: without `fast`. A quarter of the samples is kept aside, and the correction is taken if it brings the
        outputs on these nearer to the float network's; with fewer than 8 samples it is not tried.
    data_statistics : bool
        Whether each norm gets the mean and the variance that its input has on the data, in place of those of the
        training: for data unlike that of the training alone. It takes the network away from the float one; folded
        norms, and those that are written as arithmetic, keep what they have.
    fast : bool
        Nothing is tried behind the quantizer that no other argument asks for: half the time, less accuracy.
    minimum_snr_db : float, optional
        Norms are left in float, those first that gain the most, until each output has so many decibels of the
        float model's on the samples kept aside (see `reestimate`), or no norm gains any more. What a norm in
        float reads and makes is not rounded, so the layers beside it run in float as well. Where all other steps
        do not reach the number, each norm is tried by itself, on these samples, and the steps are taken anew.
        In QDQ format.
    nodes_to_exclude : sequence of str
        Names of nodes that stay in float; a node without one is called by its first output.
    nodes_to_quantize : sequence of str, optional
        Names of the only nodes that get 8 bits.
    op_types_to_quantize : sequence of str, optional
        The only types of nodes of the model that get 8 bits. ``"BatchNormalization"`` stands for norms, however
        they are written. Norms that nobody asks for are folded where they can be, and stay in float otherwise.
    extra_options : dict, optional
        Those of ONNX Runtime's ``quantize_static``, such as ``{"ActivationSymmetric": True}``. Refused are those
        that cannot be honoured here, that the format or another argument makes void, and unknown ones: see
        docs/onnx-quantize.md.
    limit : int, optional
        Use so many samples at most.
    images : ImageInput, optional
        How image files become inputs.
    batch_axes : dict of str to int or None, optional
        By input name, the axis that counts samples, where it is neither the first nor named as another input's.
        None: the input goes to every batch as it is.
    compare : bool
        Whether the result is compared with the float model on all calibration data, which takes about half as
        long as all the rest; else on a few. What it warns of is below; :func:`quantize_with_report` returns
        the figures.
    progress : callable, optional
        Called with the stage, how much of it is done, and how much there is.

    Returns
    -------
    onnx.ModelProto

    Warns
    -----
    LoweringWarning
        For each norm that stays in float.
    UserWarning
        If the model has inputs with values of their own, which a caller may replace: they become constants.
    QuantizationWarning
        For each output that has less than 10 dB of the float model's, or that is NaN or infinite where the float
        model's is a number. For each node to be excluded that ONNX Runtime's preparation left out. For what an
        argument asks for and cannot be tried, as with fewer than 8 samples. If the data is more than 20 times as
        wide, or as narrow, as the statistics of the network's first norm say. With `compare` also for each output
        that has less by 6 dB than what ONNX Runtime's quantizer alone makes of it. That one is run only if an
        output has less than 20 dB, and takes about as long again.
    SaturationWarning
        If the model computes wrong numbers here in a session with ONNX Runtime's defaults (`reduce_range`).

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, options contradict each other, or the model or the data cannot be used.
        If the data tells `data_statistics` no variance of a norm's input. The message names what is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from bytenorm import onnx as bno
    >>> batch = {"image": np.random.default_rng(0).random((8, 1, 28, 28), dtype=np.float32)}
    >>> print(bno.inspect(bno.quantize(bno.digits_model(), [batch])).summary())
    9 batch norms: 0 in float, 9 in 8 bits; 0 can be folded
    """
    given = bound(quantize, args, named)
    made, report = quantize_with_report(**given)
    warn_of(list(report.outcomes))
    warn_of_accuracy([report.unlike] if report.unlike else [])
    asked = {
        NO_RANGES: given["calibrate_method"] == "best",
        norm_scales(given["method"]): given["method"] is not None,
        REESTIMATION: given["reestimate"] is True,
        DATA_STATISTICS: given["data_statistics"],
        NORMS_IN_FLOAT: given["minimum_snr_db"] is not None,
    }
    untried = (step for step in report.steps if not step.taken and step.before_db is None)
    warn_of_accuracy(f"{one.name}: not taken: {one.problem}" for one in untried if asked.get(one.name))
    warn_of_accuracy(complaints(report.comparison, report.alone))
    warn_of_accuracy(f"nodes_to_exclude: ONNX Runtime's preparation left {name!r} out" for name in report.gone)
    warn_of_saturation(made, "reduce_range=None, the default")
    return made


def _opened(original: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model as it is quantized; warn in the name of the caller's caller's caller."""
    prepared = with_opset(without_functions(original, DOMAIN))
    warn_of_constants(prepared, 5)
    note_types(prepared)
    require_told(prepared, "model")
    return prepared
