"""A float network becomes one in 8 bits, its batch norms included: torchao's export flow and what follows it."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

from ... import _checks
from ..._decibels import snr_db
from ..._errors import bad_type, bad_value
from ..._outcomes import warn_of
from ..._signatures import bound, same_arguments
from ...calibration import checks as calibration_arguments
from ..pt2e.graph import arguments, open_program, operator_name
from ..pt2e.lower import lower_with_report, norm_name
from ..pt2e.norms import find_norms
from ..recalibration.recalibrate import batches, recalibrate
from .quantizer import BatchNormQuantizer
from .report import QuantizationReport
from .torchao import (
    ComposableQuantizer,
    X86InductorQuantizer,
    convert_pt2e,
    get_default_x86_inductor_quantization_config,
    prepare_pt2e,
)
from .unfit_data import inputs_of, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from ..._outcomes import RecalibratedNorm
    from ...calibration.qparams.output_qparams import Method
    from ..recalibration.fitting import Progress


def quantize_with_report(
    model: torch.nn.Module | ExportedProgram,
    data: Iterable[Any],
    *,
    quantizer: Any = None,
    dynamic_shapes: Any = None,
    method: Method | None = "mse",
    reestimate: bool = True,
    fast: bool = False,
    progress: Progress | None = None,
) -> tuple[GraphModule, QuantizationReport]:
    """Do as :func:`quantize`, and say what happened instead of warning of it.

    Parameters
    ----------
    model, data, quantizer, dynamic_shapes, method, reestimate, fast, progress
        As `quantize` takes them.

    Returns
    -------
    program : torch.fx.GraphModule
    report : QuantizationReport

    Raises
    ------
    ImportError, TypeError, ValueError
        As `quantize`.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> import bytenorm.torch as bt
    >>> net = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 8, 3)).eval()
    >>> small, report = bt.quantize_with_report(net, [torch.randn(16, 3, 8, 8)], fast=True)
    >>> print(str(report).splitlines()[0])
    1 batch norm: 0 folded, 1 in 8 bits, 0 left in float
    """
    items = [inputs_of(item, number) for number, item in enumerate(batches(data))]
    quick, relative = _checks.flag(fast, "fast"), _checks.flag(reestimate, "reestimate")
    if method is not None:
        calibration_arguments.method(method)
    program = _exported(model, items[0], dynamic_shapes)
    if quantizer is None:
        quantizer = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())
    exported = _apart(program.module())
    names = [norm_name(open_program(exported), norm) for norm in find_norms(exported.graph)]
    with warnings.catch_warnings():  # of torch and torchao, of their own code
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)
        warnings.filterwarnings("ignore", "Not fusing linear", UserWarning)
        warnings.filterwarnings("ignore", ".*reduce_range will be deprecated", UserWarning)
        prepared = prepare_pt2e(exported, ComposableQuantizer([quantizer, BatchNormQuantizer()]))
        _calibrate(prepared, items, progress)
        _respell(prepared, torch.ops.aten.batch_norm)
        converted = convert_pt2e(prepared)
    _respell(converted, torch.ops.aten.batch_norm.default)
    made, outcomes = lower_with_report(converted)
    folded = tuple((Counter(names) - Counter(outcome.name for outcome in outcomes)).elements())
    recalibrated: tuple[RecalibratedNorm, ...] = ()
    reference = program.module()
    if not quick and (method is not None or relative) and any(not outcome.problem for outcome in outcomes):
        made, recalibrated = recalibrate(
            made, items, method=method, reestimate=relative, reference=reference, progress=progress
        )
    return made, QuantizationReport(folded, outcomes, _snr_db(reference, made, items), recalibrated)


@same_arguments(quantize_with_report)
def quantize(*args: Any, **named: Any) -> GraphModule:
    """Make a program in 8 bits of a float network, its batch norms included.

    The network is exported (``torch.export``), prepared, calibrated and converted by torchao's export flow, with
    `BatchNormQuantizer` beside `quantizer`. Then its norms are lowered (`lower`), and it is brought nearer to the
    float network (`recalibrate`), as far as that helps. docs/torch-export.md has the steps one by one.

    Parameters
    ----------
    model : torch.nn.Module or torch.export.ExportedProgram
        In float and in evaluation. Not changed.
    data : list of inputs
        Some hundred samples of what the network will see. Each item is a tensor, or a tuple or list of what the
        network is called with. Gone through more than once, so no iterator.
    quantizer : torchao.quantization.pt2e.quantizer.Quantizer, optional
        Of the rest of the network; ``X86InductorQuantizer`` with its default configuration if left out.
    dynamic_shapes : optional
        As ``torch.export.export`` takes it, which is called with the first item. If left out, the size of axis 0
        of each tensor is free wherever it is 2 or more there and the network lets it be. Not for a program, which
        is exported already.
    method, reestimate : optional
        As `recalibrate` takes them. None and False keep what quantization made.
    fast : bool, optional
        Whether the last step is left out. It takes as long as running the network some dozen times.
    progress : callable, optional
        Called with the stage, how much of it is done, and how much there is.

    Returns
    -------
    torch.fx.GraphModule
        As `lower` returns it: to be called, compiled, exported again, or given to `to_onnx` once it is.

    Warns
    -----
    LoweringWarning
        For each norm that stays in float.

    Raises
    ------
    ImportError
        If torchao is missing: ``pip install torchao``.
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `model` is in training, `data` is empty or the network cannot run it, nothing is quantized, or an
        argument has a wrong value.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> import bytenorm.torch as bt
    >>> net = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 8, 3)).eval()
    >>> small = bt.quantize(net, [torch.randn(16, 3, 8, 8)], fast=True)
    >>> [str(node.target) for node in small.graph.nodes if "bytenorm" in str(node.target)]
    ['bytenorm.batch_norm.default']
    >>> tuple(small(torch.randn(4, 3, 8, 8)).shape)
    (4, 8, 6, 6)
    """
    made, report = quantize_with_report(**bound(quantize, args, named))
    warn_of(report.outcomes)
    return made


def _exported(model: Any, example: tuple[Any, ...], dynamic_shapes: Any) -> ExportedProgram:
    if isinstance(model, ExportedProgram):
        if dynamic_shapes is not None:
            raise bad_value("dynamic_shapes", "must be None beside a program, which is exported already")
        return model
    if not isinstance(model, torch.nn.Module):
        raise bad_type("model", f"must be a torch.nn.Module or an ExportedProgram, got {type(model).__name__}")
    if model.training and not isinstance(model, GraphModule):  # of which that says nothing
        raise bad_value("model", "must be in evaluation (model.eval()), got one in training")
    kinds = {value.dtype for value in model.parameters() if value.is_floating_point()}
    if len(kinds) == 1 and torch.float32 not in kinds:
        raise bad_value("model", f"must be in float32 (model.float()), got parameters of {kinds.pop()}")
    run(model, example, 0)  # whose words are clearer than those of an export
    if dynamic_shapes is None:
        dynamic_shapes = torch.utils._pytree.tree_map(_free, example)
    return torch.export.export(model, example, dynamic_shapes=dynamic_shapes)


def _free(value: Any) -> Any:
    """Leave the size of axis 0 open, where that is the size of a batch; torch fixes what is of size 1."""
    if isinstance(value, torch.Tensor) and value.ndim and value.shape[0] > 1:
        return {0: torch.export.Dim.AUTO}
    return None


def _apart(program: GraphModule) -> GraphModule:
    """Put a copy between a norm and a layer that has other readers, or whose weight another layer has, too.

    torchao (0.18) merges a norm with the layer before it all the same. The others then read what is not theirs:
    ``y = conv(x); y + norm(y)`` is wrong without a word.
    """
    weights = Counter(
        node.target for node in program.graph.nodes if node.op == "get_attr" for _ in node.users
    )  # how often each is read
    for norm in find_norms(program.graph):
        layer = norm.input
        name = operator_name(layer)
        if not name.startswith("aten::conv") and name != "aten::linear":
            continue
        weight = arguments(layer)["weight"]
        if len(layer.users) > 1 or weights[getattr(weight, "target", "")] > 1:
            with program.graph.inserting_before(norm.node):
                between = program.graph.call_function(torch.ops.aten.clone.default, (layer,))
            between.meta["val"] = layer.meta.get("val")  # and not what makes it a part of the layer
            norm.node.replace_input_with(layer, between)
    program.recompile()
    return program


def _respell(program: GraphModule, target: Any) -> None:
    """Let norms call the operator by another of its two names.

    Where ``convert_pt2e`` (torchao 0.18) sees ``aten.batch_norm.default``, it looks for norms that were trained
    with convolutions, half a minute and more. There are none: this is no preparation for training.
    """
    for norm in find_norms(program.graph):
        if operator_name(norm.node) == "aten::batch_norm":
            norm.node.target = target
    program.recompile()


def _calibrate(prepared: GraphModule, items: Sequence[tuple[Any, ...]], progress: Progress | None) -> None:
    for number, inputs in enumerate(items):
        if progress is not None:
            progress("calibrating", number, len(items))
        run(prepared, inputs, number)


def _snr_db(network: GraphModule, program: GraphModule, items: Sequence[tuple[Any, ...]]) -> tuple[float, ...]:
    """Return how far each output in float is from the float network's."""
    sums: list[list[float]] = []
    with torch.no_grad():
        for inputs in items:
            pairs = zip(_outputs(network(*inputs)), _outputs(program(*inputs)), strict=True)
            for i, (wanted, made) in enumerate(pairs):
                if i == len(sums):
                    sums.append([0.0, 0.0])
                sums[i][0] += float(wanted.double().square().sum())
                sums[i][1] += float((wanted.double() - made.double()).square().sum())
    return tuple(snr_db(signal, noise) for signal, noise in sums)


def _outputs(given: Any) -> Iterator[Tensor]:
    for value in torch.utils._pytree.tree_leaves(given):
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            yield value
