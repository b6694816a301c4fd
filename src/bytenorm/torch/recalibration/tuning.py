"""A program in 8 bits and what brings it nearer to the float one: tried, judged, and taken where it helps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..._errors import bad_value
from ..._outcomes import RecalibratedNorm
from ...calibration.judging import is_better
from ..pt2e.graph import label, open_program, operator_name
from ..pt2e.running import Part, Runner, keeps_state
from .activations import find_activations
from .correction import correct
from .fitting import fit_norms, warn_of_moves
from .judging import Judge, Unrounded, open_inputs, pick
from .reference import Reference, find_layers, in_8_bits
from .rescaling import fit_activations, keep
from .sites import NORMS, QUANTIZE, find_site, unchanged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch.fx import GraphModule, Node

    from ...calibration.qparams.output_qparams import Method
    from ..pt2e.graph import Program
    from .fitting import Fit, Progress


@dataclass(frozen=True)
class _Made:
    """A changed program: what got a scale, and why what was not corrected was not, by the names of nodes."""

    program: GraphModule
    scales: Mapping[str, RecalibratedNorm] = field(default_factory=dict)
    corrections: Mapping[str, str] = field(default_factory=dict)


class Tuning:
    """A program, what it could be judged by, and what has been changed in it so far.

    Parameters
    ----------
    program : GraphModule
        Not changed.
    data : list
    reference : GraphModule, ExportedProgram, torch.nn.Module or None
    progress : callable or None
    layers, activations : bool
        Whether they are reported beside the norms.

    Attributes
    ----------
    program : GraphModule
        With the changes that are taken.
    report : dict of str to RecalibratedNorm
        By the names of nodes.
    """

    def __init__(
        self,
        program: GraphModule,
        data: Any,
        reference: Any,
        progress: Progress | None,
        *,
        layers: bool,
        activations: bool,
    ) -> None:
        copied = open_program(program)
        self.program: GraphModule = copied.finish()
        self._progress = progress
        self.report = {n.name: _kept(copied, n) for n in copied.graph.nodes if operator_name(n) in NORMS}
        if layers:
            self.report.update(_layers(copied))
        self._corrected = list(self.report)
        self.report.update(_inside(copied))
        if not self.report:
            raise bad_value("program", "must have norms in 8 bits, got one without (lower makes them)")
        self._activations: list[str] = []
        if activations:
            found = {one.writers[0].name: keep(one) for one in find_activations(copied)}
            self._activations = list(found)
            self.report.update(found)
        items = open_inputs(data, sum(node.op == "placeholder" for node in copied.graph.nodes))
        Runner(self.program).outputs(Part(0, items[0]))
        self._reference = None if reference is None else Reference(reference, next(iter(data)))
        programs = [self.program]
        if self._reference is not None:
            programs.append(self._reference.module)
            self._reference.match(copied)
            self._reference.check(self.program, items[0])
        self._samples = pick(items, programs)

    def bring_nearer(self, method: Method | None, *, relative: bool) -> None:
        """Choose scales by a method, and correct norms and layers relative to the float program, where that helps.

        New scales are judged with the corrections behind them first: what a new range cuts off moves means, which
        corrections put right. Alone they may lose what both gain.
        """
        refusal = self._refusal()
        if not refusal and keeps_state(self.program):
            refusal = "a run of the program changes what it has"
        if relative and refusal:
            self._note(self._corrected, f"not re-estimated: {refusal}")
        relative = relative and not refusal
        start = _Made(self.program)
        scaled = start if method is None else self._rescaled(method)
        if method is None and not relative:
            return
        judge = self._judge(self.program)
        least = judge.errors(self.program)
        taken = start
        for made in self._tries(start, scaled, relative=relative):
            errors = judge.errors(made.program)
            if is_better(errors, least):
                taken, least = made, errors
        if relative and taken is start:
            for base in (scaled, start):
                made = self._with_corrections(base, layers=False)
                if is_better(judge.errors(made.program), least):
                    taken = made
                    break
        self._take(taken, scaled, relative=relative)

    def _tries(self, start: _Made, scaled: _Made, *, relative: bool) -> Iterator[_Made]:
        if relative:
            if scaled is not start:
                yield self._with_corrections(scaled, layers=True)
            yield self._with_corrections(start, layers=True)
        if scaled is not start:
            yield scaled

    def take_statistics(self, method: Method | None) -> None:
        """Give norms the statistics of the data, and with them scales where that helps."""
        parts = self._samples.every
        made, found = fit_norms(self.program, parts, method, fresh=True, progress=self._progress)
        warn_of_moves(found.values(), 4)
        if method is not None:
            plain, alone = fit_norms(self.program, parts, None, fresh=True, progress=self._progress)
            judge = self._judge(made)
            if not is_better(judge.errors(made), judge.errors(plain)):
                self._give(_norms(alone))
                self._note_kept(_norms(found))
                self.program = plain
                return
        self._give(_norms(found))
        self.program = made

    def _refusal(self) -> str:
        """Say why nothing is corrected, or no activation rescaled; empty if they are."""
        if self._samples.shortage:
            return self._samples.shortage
        return "" if self._samples.vary else "all samples of the data are the same"

    def _rescaled(self, method: Method) -> _Made:
        """Return the program with other scales."""
        samples, refusal = self._samples, self._refusal()
        program, scales = self.program, dict[str, RecalibratedNorm]()
        if self._activations and refusal:
            self._note(self._activations, refusal)
        elif self._activations:
            program, scales = fit_activations(program, samples.measured, method, progress=self._progress)
        parts = samples.every if samples.shortage else samples.measured
        made, found = fit_norms(program, parts, method, fresh=False, progress=self._progress)
        return _Made(made, _norms(found) | scales)

    def _with_corrections(self, base: _Made, *, layers: bool) -> _Made:
        """Return a program whose norms are corrected, and layers if asked for."""
        assert self._reference is not None
        copied = open_program(base.program)
        parts = self._samples.measured
        made, outcomes = correct(copied, self._reference, parts, layers=layers, progress=self._progress)
        return _Made(made, base.scales, outcomes)

    def _judge(self, program: GraphModule) -> Judge:
        """Return what judges by the float program, or by this one, its norms' outputs not rounded."""
        samples = self._samples
        parts = samples.every if samples.shortage else samples.aside
        if self._reference is not None:
            return Judge(self._reference.runner(), parts, codes=False)
        return Judge(_unrounded(program), parts, codes=True)

    def _take(self, taken: _Made, tried: _Made, *, relative: bool) -> None:
        """Take a program, and put down what of the scales and corrections that were tried it has."""
        self.program = taken.program
        if relative and not taken.corrections:
            self._note(self._corrected, "not re-estimated: it brings the outputs no nearer to the reference's")
        elif relative:
            for name in self._corrected:
                no_layers = "corrected layers bring the outputs no nearer to the reference's"
                why = taken.corrections.get(name, no_layers)
                self._note([name], f"not re-estimated: {why}" if why else "")
                self.report[name] = replace(self.report[name], reestimated=not why)
        if taken.scales:
            self._give(taken.scales)
        else:
            self._note_kept(tried.scales)

    def _give(self, found: Mapping[str, RecalibratedNorm]) -> None:
        for name, new in found.items():
            old = self.report[name]
            self.report[name] = replace(new, reestimated=old.reestimated or new.reestimated, problem=old.problem)
            self._note([name], new.problem)

    def _note_kept(self, found: Mapping[str, RecalibratedNorm]) -> None:
        for name, one in found.items():
            self._note([name], one.problem or "its scale stays: another brings the outputs no nearer")

    def _note(self, names: Iterable[str], problem: str) -> None:
        for name in names:
            said = [one for one in (self.report[name].problem, problem) if one]
            self.report[name] = replace(self.report[name], problem="; ".join(dict.fromkeys(said)))


def _norms(found: Mapping[str, Fit]) -> dict[str, RecalibratedNorm]:
    return {name: fit.norm for name, fit in found.items()}


def _kept(program: Program, node: Node) -> RecalibratedNorm:
    outcomes: dict[Node, RecalibratedNorm] = {}
    find_site(program, node, outcomes)
    return replace(outcomes[node], problem="")


def _layers(program: Program) -> dict[str, RecalibratedNorm]:
    """Return what is said of the layers in 8 bits before one is corrected."""
    return {
        layer.node.name: RecalibratedNorm(
            layer.path, None, False, None, None, kind=operator_name(layer.node).partition("::")[2]
        )
        for layer in find_layers(program)
        if in_8_bits(layer)
    }


def _inside(program: Program) -> dict[str, RecalibratedNorm]:
    """Return what is said of norms in subgraphs."""
    return {
        f"{name}.{node.name}": unchanged(label(node), node, f"it is in the subgraph {name}")
        for name, module in program.subgraphs()
        for node in module.graph.nodes
        if operator_name(node) in NORMS
    }


def _unrounded(program: GraphModule) -> Unrounded:
    copied = open_program(program)
    copied.finish()
    sites = [find_site(copied, node, {}) for node in copied.graph.nodes if operator_name(node) in NORMS]
    free = [site for site in sites if site is not None and not site.problem]
    again = {r.node.name for site in free for r in site.readers if operator_name(r.node) == QUANTIZE}
    return Unrounded(program, {site.node.name for site in free}, again)
