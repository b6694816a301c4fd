"""Norms and layers that fit the 8-bit program they are in.

What is changed is judged by the outputs on samples kept aside, and is not taken where it does not help.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

from .. import _checks
from ..calibration import arguments as calibration_arguments
from ..calibration.judging import is_better
from .correction import correct
from .fitting import Progress, fit_norms, warn_of_moves
from .graph import label, open_program, operator_name
from .judging import Judge, Unrounded, open_inputs, pick
from .reference import Reference, find_layers, in_8_bits
from .running import Part, Runner, keeps_state
from .sites import NORMS, QUANTIZE, RecalibratedNorm, find_site, unchanged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..calibration.output_qparams import Method
    from .fitting import Fit
    from .graph import Program
    from .reference import Layer


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
    """Bring a program in 8 bits nearer to the float one: its norms' statistics, layers' biases and norms' scales.

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
        program: see `bytenorm.calibration.choose_output_qparams`. None keeps them.
    reestimate : bool, optional
        Whether what quantization moved is put right, relative to `reference`: norms get the mean and the variance
        with which their outputs have the moments of the float program's (`bytenorm.calibration.reestimate`),
        convolutions and linear layers, those with folded norms too, a bias with which their outputs have its
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
        One for each norm that runs in 8 bits, in the order of the program, with `reestimate` then one for each
        layer. What stays as it is, since its codes are clamped or since nothing was gained, has a `problem`.

    Warns
    -----
    UserWarning
        If `data_statistics` moves statistics far.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If no norm of the program runs in 8 bits, there is no data or the program cannot run it, `method` is
        unknown, nothing is to be done, `reference` is none of this program, or the data tells `data_statistics` no
        variance of a norm's input.

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
        raise TypeError(
            "program must be a torch.fx.GraphModule, got an ExportedProgram: give its .module(), "
            "or recalibrate before exporting"
        )
    if not isinstance(program, GraphModule):
        raise TypeError(
            f"program must be a torch.fx.GraphModule, as lower returns it, got {type(program).__name__}"
        )
    if method is not None:
        calibration_arguments.method(method)
    fresh, relative = _checks.flag(data_statistics, "data_statistics"), _checks.flag(reestimate, "reestimate")
    if relative and reference is None:
        raise ValueError("reestimate: wanted the float program as reference, got None")
    if relative and fresh:
        raise ValueError("reestimate: wanted False beside data_statistics=True, got True")
    if method is None and not fresh and not relative:
        raise ValueError(
            "method must be given where reestimate and data_statistics are False, got None: there is nothing to do"
        )
    tuning = _Tuning(program, _batches(data), reference, progress, relative=relative)
    if relative:
        tuning.reestimate()
    if fresh:
        tuning.take_statistics(method)
    elif method is not None:
        tuning.choose_scales(method)
    return tuning.program, tuple(tuning.report)


def _batches(data: Any) -> Any:
    """Refuse what cannot be gone through more than once."""
    if isinstance(data, torch.Tensor | str | bytes | dict):
        raise TypeError(f"data must be a list of inputs, got {type(data).__name__}")
    if not isinstance(data, Iterable) or not isinstance(data, Sized) or iter(data) is data:
        raise TypeError(
            "data must be a list, or what else has a length and can be gone through more than once, "
            f"got {type(data).__name__}"
        )
    if len(data) == 0:
        raise ValueError("data must hold at least one input, got none")
    return data


class _Tuning:
    """A program, what it could be judged by, and what has been changed in it so far."""

    def __init__(
        self, program: GraphModule, data: Any, reference: Any, progress: Progress | None, *, relative: bool
    ) -> None:
        copied = open_program(program)
        self.program: GraphModule = copied.finish()
        self._progress = progress
        self._layers = _layers(copied) if relative else []
        self.report = [_kept(copied, node) for node in copied.graph.nodes if operator_name(node) in NORMS]
        self._norms = len(self.report)
        inside = [
            unchanged(label(node), node, f"it is in the subgraph {name}")
            for name, module in copied.subgraphs()
            for node in module.graph.nodes
            if operator_name(node) in NORMS
        ]
        if not self.report and not inside and not self._layers:
            raise ValueError("program: wanted one with norms in 8 bits, got one without (lower makes them)")
        for layer in self._layers:
            kind = operator_name(layer.node).partition("::")[2]
            self.report.append(RecalibratedNorm(layer.path, None, False, None, None, kind=kind))
        self.report += inside
        items = open_inputs(data, sum(node.op == "placeholder" for node in copied.graph.nodes))
        Runner(self.program).outputs(Part(0, items[0]))
        self._reference = None if reference is None else Reference(reference, next(iter(data)))
        programs = [self.program]
        if self._reference is not None:
            programs.append(self._reference.module)
            self._reference.match(copied)
            self._reference.check(self.program, items[0])
        self._samples = pick(items, programs)

    def reestimate(self) -> None:
        """Correct norms and layers relative to the float program, where that helps."""
        assert self._reference is not None
        problem = self._samples.shortage
        if not problem and not self._samples.vary:
            problem = "all samples of the data are the same"
        elif not problem and keeps_state(self.program):
            problem = "a run of the program changes what it has"
        if problem:
            self._say(f"not re-estimated: {problem}")
            return
        judge = self._judge(self.program)
        before = judge.errors(self.program)
        for layers in (True, False):
            copied = open_program(self.program)
            made, outcomes = correct(
                copied, self._reference, self._samples.measured, layers=layers, progress=self._progress
            )
            if not is_better(judge.errors(made), before):
                continue
            self.program = made
            nodes = [node for node in copied.graph.nodes if operator_name(node) in NORMS]
            nodes += [layer.node for layer in _layers(copied)]
            for at, node in enumerate(nodes):
                why = outcomes.get(node.name, "corrected layers bring the outputs no nearer to the reference's")
                self._note(at, f"not re-estimated: {why}" if why else "")
                self.report[at] = replace(self.report[at], reestimated=not why)
            return
        self._say("not re-estimated: it brings the outputs no nearer to the reference's")

    def choose_scales(self, method: Method) -> None:
        """Give norms the scales that suit what they make, where that helps."""
        samples = self._samples
        parts = samples.every if samples.shortage else samples.measured
        made, found = fit_norms(self.program, parts, method, fresh=False, progress=self._progress)
        judge = self._judge(self.program)
        if is_better(judge.errors(made), judge.errors(self.program)):
            self._take(made, found)
        else:
            self._keep_scales(found)

    def take_statistics(self, method: Method | None) -> None:
        """Give norms the statistics of the data, and with them scales where that helps."""
        parts = self._samples.every
        made, found = fit_norms(self.program, parts, method, fresh=True, progress=self._progress)
        warn_of_moves(found.values(), 4)
        if method is None:
            self._take(made, found)
            return
        plain, alone = fit_norms(self.program, parts, None, fresh=True, progress=self._progress)
        judge = self._judge(made)
        if is_better(judge.errors(made), judge.errors(plain)):
            self._take(made, found)
        else:
            self._take(plain, alone)
            self._keep_scales(found)

    def _judge(self, program: GraphModule) -> Judge:
        """Return what judges by the float program, or by this one, its norms' outputs not rounded."""
        samples = self._samples
        parts = samples.every if samples.shortage else samples.aside
        if self._reference is not None:
            return Judge(self._reference.runner(), parts, codes=False)
        return Judge(_unrounded(program), parts, codes=True)

    def _take(self, made: GraphModule, found: Mapping[str, Fit]) -> None:
        self.program = made
        for at, fit in enumerate(found.values()):
            old, new = self.report[at], fit.norm
            self.report[at] = replace(new, reestimated=old.reestimated or new.reestimated, problem=old.problem)
            self._note(at, new.problem)

    def _keep_scales(self, found: Mapping[str, Fit]) -> None:
        for at, fit in enumerate(found.values()):
            self._note(at, fit.norm.problem or "its scale stays: another brings the outputs no nearer")

    def _say(self, problem: str) -> None:
        for at in range(self._norms + len(self._layers)):
            self._note(at, problem)

    def _note(self, at: int, problem: str) -> None:
        said = [one for one in (self.report[at].problem, problem) if one]
        self.report[at] = replace(self.report[at], problem="; ".join(dict.fromkeys(said)))


def _kept(program: Program, node: Any) -> RecalibratedNorm:
    outcomes: dict[Any, RecalibratedNorm] = {}
    find_site(program, node, outcomes)
    return replace(outcomes[node], problem="")


def _layers(program: Program) -> list[Layer]:
    return [layer for layer in find_layers(program) if in_8_bits(layer)]


def _unrounded(program: GraphModule) -> Unrounded:
    copied = open_program(program)
    copied.finish()
    sites = [find_site(copied, node, {}) for node in copied.graph.nodes if operator_name(node) in NORMS]
    free = [site for site in sites if site is not None and not site.problem]
    again = {r.node.name for site in free for r in site.readers if operator_name(r.node) == QUANTIZE}
    return Unrounded(program, {site.node.name for site in free}, again)
