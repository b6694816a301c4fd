"""Norms and layers that fit the 8-bit program they are in.

What is changed is judged by the outputs on samples kept aside, and is not taken where it does not help.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

from ... import _checks
from ..._errors import bad_type, bad_value
from ...calibration import checks as calibration_arguments
from .tuning import Tuning

if TYPE_CHECKING:
    from ..._outcomes import RecalibratedNorm
    from ...calibration.qparams.output_qparams import Method
    from .fitting import Progress


def recalibrate(
    program: GraphModule,
    data: Iterable[Any],
    *,
    method: Method | None = "mse",
    reestimate: bool = False,
    reference: GraphModule | ExportedProgram | torch.nn.Module | None = None,
    data_statistics: bool = False,
    progress: Progress | None = None,
) -> tuple[GraphModule, tuple[RecalibratedNorm, ...]]:
    """Bring a program in 8 bits nearer to the float one: its norms' statistics, layers' biases and all scales.

    Nothing is taken that does not help: every fourth sample, at most 64 of them, is kept aside, and the outputs'
    error there decides, by more than chance. It is taken against the outputs of `reference`, or without one of the
    same program whose norms do not round what they make.

    Parameters
    ----------
    program : torch.fx.GraphModule
        As `lower` returns it. Not changed; tensors that stay the same are not copied.
    data : list of inputs
        Each a tensor, or a tuple or list of what the program is called with. Gone through more than once, so no
        iterator. Samples are the entries of axis 0 where the program takes parts of a batch, else the inputs.
    method : {"mse", "minmax", "percentile", "entropy"}, optional
        How norms' output scales and zero points are chosen, by the codes that come to the norms in the 8-bit
        program: see `bytenorm.calibration.choose_output_qparams`. With `reference` those of the other activations
        are, too, by the numbers that come there. None keeps them.
    reestimate : bool, optional
        Whether what quantization moved is put right, relative to `reference`. Norms get the mean and the variance
        with which their outputs have the moments of the float program's (`bytenorm.calibration.reestimate`).
        Convolutions and linear layers, those with folded norms too, get a bias with which their outputs have its
        means. Nothing is with fewer than 8 samples.
    reference : GraphModule, ExportedProgram or torch.nn.Module, optional
        The float program, from before `prepare_pt2e`, in evaluation. Norms and layers are found in it by the
        modules that their parameters are of.
    data_statistics : bool, optional
        Whether norms get the mean and the variance of what they read, in place of those of the training: for data
        unlike that of the training alone. It takes the program away from the float one, and is not judged.
    progress : callable, optional
        Called with the stage, how much of it is done, and how much there is.

    Returns
    -------
    program : torch.fx.GraphModule
    recalibrated : tuple of RecalibratedNorm
        One for each norm that runs in 8 bits, in the order of the program. With `reestimate` then one for each
        layer; with `method` and `reference` then one for each other activation. What stays as it is, since its
        codes are clamped or since nothing was gained, has a `problem`.

    Warns
    -----
    UserWarning
        If `data_statistics` moves statistics far.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If no norm of the program runs in 8 bits, or nothing is to be done. If there is no data, or the program
        cannot run it. If `method` is unknown, `reference` is none of this program, or the data tells
        `data_statistics` no variance of a norm's input.

    Examples
    --------
    >>> import torch
    >>> from torch.ao.quantization.fx import _decomposed  # what convert_pt2e writes
    >>> from bytenorm.torch import lower, recalibrate
    >>> class Normalized(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.norm = torch.nn.BatchNorm2d(3)
    ...     def forward(self, codes):
    ...         q = torch.ops.quantized_decomposed
    ...         x = q.dequantize_per_tensor(codes, 0.02, 128, 0, 255, torch.uint8)
    ...         y = q.quantize_per_tensor(self.norm(x), 1.0, 0, 0, 255, torch.uint8)
    ...         return q.dequantize_per_tensor(y, 1.0, 0, 0, 255, torch.uint8)
    >>> codes = torch.arange(384).to(torch.uint8).reshape(8, 3, 4, 4)
    >>> lowered = lower(torch.export.export(Normalized().eval(), (codes,)).module())
    >>> better, (norm,) = recalibrate(lowered, [codes])
    >>> norm.name, round(norm.scale, 3), norm.clipped  # the codes of the input came from one of 0.02
    ('norm', 0.02, 0.0)
    """
    if isinstance(program, ExportedProgram):
        raise bad_type(
            "program",
            "must be a torch.fx.GraphModule, got an ExportedProgram: give its .module(), "
            "or recalibrate before exporting",
        )
    if not isinstance(program, GraphModule):
        raise bad_type(
            "program", f"must be a torch.fx.GraphModule, as lower returns it, got {type(program).__name__}"
        )
    if method is not None:
        calibration_arguments.method(method)
    fresh, relative = _checks.flag(data_statistics, "data_statistics"), _checks.flag(reestimate, "reestimate")
    if relative and reference is None:
        raise bad_value("reestimate", "must come with the float program as reference, got None")
    if relative and fresh:
        raise bad_value("reestimate", "must be False beside data_statistics=True, got True")
    if method is None and not fresh and not relative:
        raise bad_value(
            "method",
            "must be given where reestimate and data_statistics are False, got None: there is nothing to do",
        )
    fits_others = method is not None and reference is not None and not fresh
    tuning = Tuning(program, batches(data), reference, progress, layers=relative, activations=fits_others)
    if fresh:
        tuning.take_statistics(method)
    else:
        tuning.bring_nearer(method, relative=relative)
    return tuning.program, tuple(tuning.report.values())


def batches(data: Any) -> Any:
    """Refuse what cannot be gone through more than once."""
    if isinstance(data, torch.Tensor | str | bytes | dict):
        mend = ": give [data], or batches of it" if isinstance(data, torch.Tensor) else ""
        raise bad_type("data", f"must be a list of inputs, got {type(data).__name__}{mend}")
    if not isinstance(data, Iterable) or not isinstance(data, Sized) or iter(data) is data:
        raise bad_type(
            "data",
            "must be a list, or what else has a length and can be gone through more than once, "
            f"got {type(data).__name__}",
        )
    if len(data) == 0:
        raise bad_value("data", "must hold at least one input, got none")
    return data
