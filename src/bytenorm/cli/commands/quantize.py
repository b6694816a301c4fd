"""``bytenorm quantize``."""

from __future__ import annotations

import sys
from collections import Counter
from inspect import signature
from typing import TYPE_CHECKING

from onnxruntime.quantization import QuantType

from ..._errors import bad_value
from ...onnx.graph.graph import Graph
from ...onnx.graph.quantized import is_quantized
from ...onnx.lowering.given import refuse_lowered
from ...onnx.measurement.accuracy import LOWEST, complaints
from ...onnx.measurement.inspection import inspect
from ...onnx.model.constant_inputs import free_initializers
from ...onnx.model.files import load_model
from ...onnx.quantization.quantize import quantize_with_report
from ..arguments.quantize import COMMAND
from ..console import as_size, next_command, one_line
from ..data import samples
from ..output import require_output, size_on_disk, write
from ..results import MEANING, Fate, fates, show
from ..saturation_note import note
from ..wording import File, naming
from . import compare

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ..._outcomes import RecalibratedNorm
    from ...onnx.quantization.tuning.notes import Step
    from ..console import Screen


_SPELLINGS = COMMAND.spellings()
_PARAMETERS = [*signature(quantize_with_report).parameters]
# The options that are handed on as they are, and what an error calls them.
OPTIONS = [name for name in _PARAMETERS if {name, f"{name}=False"} & set(_SPELLINGS) and name != "limit"]
NAMES = {key: option for key, option in _SPELLINGS.items() if key.partition("=")[0] in OPTIONS}
FAR = 3  # exit code: the model is written, and far worse than the float one


def run(options: argparse.Namespace, screen: Screen) -> int:
    """Make an 8-bit model of a float one."""
    label = File("model", options.model)
    require_output(options.output, options.force, models=[options.model], data=options.data, makes_model=True)
    if not options.compare and options.fail_below is not None:
        raise bad_value("--fail-below", "wants the comparison that --no-compare leaves out")
    with (
        naming(options.model, **NAMES, reference=label, candidate="the 8-bit model"),
        screen.progress() as progress,
    ):
        model = load_model(options.model)
        before = size_on_disk(options.model, model)
        constants = free_initializers(model)
        refuse_lowered(model, "model")
        if is_quantized(Graph(model)):
            raise bad_value(str(label), "is quantized: bytenorm lower takes those")
        norms = inspect(model).norms
        data = samples(options, model, options.limit, screen)
        asked = {name: getattr(options, name) for name in OPTIONS} | {
            "extra_options": _with_types(dict(options.extra_options))
        }
        del model  # it may be large: there is none beside the one that is quantized
        made, report = quantize_with_report(
            options.model,
            data,
            **asked,
            progress=lambda stage, done, whole: progress(*_stage(stage, done, whole)),
        )
        after = write(made, options.output, options.force)
    became = fates(norms, report.outcomes, report.folded)
    counts = show(became, screen)
    screen.line(f"size: {as_size(before)} before, {as_size(after)} now")
    if report.unlike:
        screen.line(f"warning: {report.unlike}")
    for name in report.stayed:
        screen.line(f"not folded: {name}, whose gains 8-bit weights of the layer behind it cannot hold")
    for name in report.weak:
        screen.line(f"in float: {name}, which only loses in 8 bits")
    for step in report.steps:
        screen.line(_told(step))
    if report.recalibrated:
        screen.line()
        _show(report.recalibrated, screen)
    screen.line()
    if options.compare:
        screen.line("the 8-bit model against the float one, on the calibration data:")
        compare.show(report.comparison, screen)
        if report.few:
            screen.line(f"warning: {report.few}")
    lowest = LOWEST if options.fail_below is None else options.fail_below
    far = complaints(report.comparison, report.alone, lowest)
    for text in far:
        screen.line(f"far from the float model: {text}")
    for name in report.gone:
        screen.line(f"not excluded: ONNX Runtime's preparation left {name} out")
    how = f"{options.quant_format} format, lowering {options.lowering}: {MEANING[options.lowering]}"
    screen.line(f"written to {options.output} ({how})")
    if constants:
        screen.line(constants)
    remark = note(made, options.output)
    if remark:
        screen.line(remark if not options.compare else f"{remark}; the figures above are those of exact sums")
    screen.line(next_command("compare", options.model, options.output, "--data", "HELD-OUT"))
    screen.result(
        model=options.model,
        output=options.output,
        lowering=options.lowering,
        format=options.quant_format,
        activations=options.activation_type,
        weights=options.weight_type,
        calibrate_method=report.ranges,
        norm_method=options.method,
        fast=options.fast,
        minimum_snr=options.minimum_snr_db,
        data_statistics=options.data_statistics,
        per_channel=options.per_channel,
        reduce_range=options.reduce_range,
        samples=data.samples,
        size_before=before,
        size_after=after,
        folded=counts[Fate.FOLDED],
        in_8_bits=counts[Fate.IN_8_BITS],
        in_float=counts[Fate.IN_FLOAT],
        comparison=report.comparison.to_dict() if options.compare else None,
        alone=None if report.alone is None else report.alone.to_dict(),
        far=list(far),
        stayed=list(report.stayed),
        weak=list(report.weak),
        unlike=report.unlike,
        few=report.few,
        not_excluded=list(report.gone),
        saturates=bool(remark),
        norms=[fate.to_dict() for fate in became],
        steps=[step.to_dict() for step in report.steps],
        recalibrated=[norm.to_dict() for norm in report.recalibrated],
    )
    if far and options.fail_below is not None:
        sys.stderr.write(f"bytenorm: far from the float model: {one_line('; '.join(far))}\n")
        return FAR
    return 0


def _with_types(extra: dict[str, object]) -> dict[str, object]:
    """Return extra options with types of tensors, which JSON has by name, as the quantizer takes them."""
    tensors = extra.get("TensorQuantOverrides")
    for listed in tensors.values() if isinstance(tensors, dict) else ():
        for said in listed if isinstance(listed, list) else ():
            name = said.get("quant_type") if isinstance(said, dict) else None
            if isinstance(name, str):
                if name not in QuantType.__members__:
                    known = ", ".join(QuantType.__members__)
                    raise bad_value(
                        "--extra-option",
                        f": TensorQuantOverrides: quant_type must be one of {known}, got {name!r}",
                    )
                said["quant_type"] = QuantType[name]
    return extra


def _told(step: Step) -> str:
    """Say what became of a step."""
    text = f"{step.name}: "
    if step.before_db is not None and step.after_db is not None:
        text += f"{step.before_db:.1f} dB before, {step.after_db:.1f} dB with it, on the samples kept aside; "
    if not step.taken:
        return f"{text}not taken: {step.problem}"
    kinds = Counter("norm" if one.kind == "norm" else "layer" for one in step.corrections)
    counts = " and ".join(f"{n} {kind}{'s' * (n != 1)}" for kind, n in sorted(kinds.items(), reverse=True))
    done = f"{counts} corrected" if counts else "taken"
    return f"{text}{done}{step.problem and ', '}{step.problem}"


def _show(norms: Sequence[RecalibratedNorm], screen: Screen) -> None:
    """Write what norms got from the data, as a table."""
    screen.table(
        ["norm", "output scale", "zero point", "clipped %", "mean square error", "statistics"],
        [
            [
                norm.name,
                f"{norm.qparams[0]:.6g}",
                str(norm.zero_point),
                "-" if norm.clipped is None else f"{100 * norm.clipped:.4f}",
                "-" if norm.mse is None else f"{norm.mse:.4g}",
                "re-estimated" if norm.reestimated else "kept",
            ]
            for norm in norms
        ],
    )


def _stage(stage: str, done: int, whole: int) -> tuple[str, int, int]:
    if stage == "compare":
        return "comparing", done, whole
    of, _, what = stage.rpartition(": ")  # "norms 1/7: calibrate"
    if what == "calibrate" and done >= whole:
        return f"quantizing{of and ', '}{of}", 0, 0  # the quantizer does not tell of its work behind that
    doing = {
        "calibrate": "calibrating",
        "run": "counting",
        "compare": "comparing",
        "correct": "correcting",
        "rank": "trying norms in float",
    }[what]
    return f"{doing}{of and ', '}{of}", done, whole
