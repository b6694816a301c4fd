"""Which steps are tried on an 8-bit network, and which are taken: those that bring it nearer to the float one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx

from ....calibration.judging import is_better
from ...graph.graph import Graph
from ...quantizer.reader import stage
from ...run.apart import may_be_fatal, runner
from ...scales.rescaling import activations, set_qparams
from . import judging
from .clipping import SURE_OF_RANGES, Distribution, Range, Way, chosen_qparams, distributions
from .correction import Correction, correct
from .float_norms import Candidate, candidates, leave_in_float
from .norm_scales import choose_norm_scales
from .notes import Step, write_note

if TYPE_CHECKING:
    import numpy as np

    from ...._outcomes import RecalibratedNorm
    from ....calibration.qparams.output_qparams import Method
    from ...data.samples import Samples
    from ...measurement.comparison import Comparison
    from ...quantizer.reader import Progress
    from ...quantizer.static_quantizer import StaticQuantizer
    from .judging import Batch, Judge


_NO_NEARER = "it does not bring the outputs nearer to the float network's"
_BY_CHANCE = "it brings the outputs no nearer to the float network's than chance may"
_NO_NORM = "no norm of the network stays: all are folded, or in float"
REESTIMATION = "re-estimation"
DATA_STATISTICS = "statistics of the data"
NORMS_IN_FLOAT = "norms in float"
NO_RANGES = "ranges"  # where none of the ways to find some can be tried
_BY = f"{NO_RANGES} by "


def norm_scales(method: Method | None) -> str:
    """Return what the step is called that chooses scales of norms."""
    return f"norm scales by {method}"


class Tuning:
    """An 8-bit network, the float one, and the samples that tell which changes bring them together.

    Parameters
    ----------
    quantizer : StaticQuantizer
        That made the network.
    graph : Graph
        The network, its norms in float between conversions. Not changed.
    reference : onnx.ModelProto
        The float network, as it came.
    samples : Samples
        Of its inputs.
    count : callable
        Returns the number of samples in a batch.
    progress : callable, optional
        Called with the stage, how much of it is done, and how much there is.
    as_run : callable, optional
        Makes of a graph the model that will run, where that computes other numbers: it is what is judged.

    Attributes
    ----------
    graph : Graph
        The network with the steps that are taken.
    steps : tuple of Step
        Those that were tried, in that order.
    recalibrated : tuple of RecalibratedNorm
        The norms that have scales of their own.
    in_float : dict of str to str
        By the names of the norms that are left in float, why.
    """

    def __init__(
        self,
        quantizer: StaticQuantizer,
        graph: Graph,
        reference: onnx.ModelProto,
        samples: Samples,
        count: Callable[[Batch], int],
        progress: Progress | None = None,
        as_run: Callable[[Graph], onnx.ModelProto] | None = None,
    ) -> None:
        self.graph = self._plain = graph
        self._as_run = as_run or (lambda graph: graph.model)
        self.recalibrated: tuple[RecalibratedNorm, ...] = ()
        self.in_float: dict[str, str] = {}
        self._tried: list[Step] = []
        self._count = count
        self._quantizer, self._reference, self._samples, self._progress = quantizer, reference, samples, progress
        self._judge: Judge | None = None
        self._errors: np.ndarray | None = None
        self._plain_errors: np.ndarray | None = None
        self._refusal: str | None = None  # unknown before the first step is tried

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those that were tried, in that order."""
        return tuple(self._tried)

    @property
    def ranges(self) -> str:
        """The way by which the ranges were found that are taken; empty where they are as they were."""
        taken = [step.name.removeprefix(_BY) for step in self._tried if step.taken and step.name.startswith(_BY)]
        return taken[-1] if taken else ""

    def _look(self) -> str:
        """Measure what there is; say why nothing can be judged, empty if it can."""
        samples = self._samples
        if samples.shortage:
            return samples.shortage
        self.graph.finish()
        try:
            self._judge = judging.Judge(self._reference, samples.aside, self._count)
            self._errors = self._plain_errors = self._judge.errors(self._as_run(self.graph))
            _survive(self.graph.model, samples.measured)
        except Exception as error:  # of ONNX Runtime, which has a class for each of its codes
            return f"ONNX Runtime cannot run it: {' '.join(str(error).split())}"
        if self._errors is None:
            return "no output of numbers has the shape of the float network's"
        # As where a branch is chosen by all samples of a batch together, and another one is in 8 bits.
        found = self._judge.snr_db(self._errors)
        return "" if found is not None and found > 0 else "its outputs are nothing like the float network's"

    def compare(self, made: onnx.ModelProto, most: int) -> Comparison | None:
        """Compare what was made of the network on a few samples kept aside; None if that cannot be done here."""
        if self._judge is None:
            return None
        try:
            found = self._judge.compare(made, most)
        except Exception:  # then it is compared in full, which says why
            return None
        return None if found is None or any(out.problem for out in found.outputs) else found

    def note(self) -> None:
        """Write into the model's metadata what was taken or judged, for those who ask later; nothing else."""
        if any(step.taken or step.before_db is not None for step in self._tried):
            write_note(self.graph.model, self._samples.count, self._tried)

    def leave(self, name: str) -> None:
        """Put down that a step for norms is not tried, since there are none."""
        self._tried.append(Step(name, False, _NO_NORM))

    def choose_ranges(self, ways: Sequence[Way]) -> None:
        """Try smaller ranges of activations, found in each of these ways."""
        if self._refuses(NO_RANGES):
            return
        few, float_graph = self._samples.few, self._quantizer.float_graph
        known = activations(self._plain)
        free = {name: q for name, q in known.items() if name not in self._quantizer.said}
        found: dict[str, Distribution] = {}
        for name, way in ways:

            def change(graph: Graph, _: Samples, way: Callable[[Distribution], Range] = way) -> None:
                if not found:
                    found.update(distributions(float_graph, free, map(self._quantizer.feed, few)))
                chosen = chosen_qparams(float_graph, known, found, way, self._quantizer.qparams)
                set_qparams(graph, chosen, float_graph.constant)

            self._try(f"{_BY}{name}", change, self._plain, sure=SURE_OF_RANGES)

    def choose_norm_scales(self, method: Method) -> None:
        """Try scales of norms' outputs that fit what the norms read; nobody asks for them but by name.

        So where nothing can be judged, they are taken as they are, of all samples.
        """
        name = norm_scales(method)
        if not self._quantizer.norms:
            self.leave(name)
            return
        made: list[RecalibratedNorm] = []

        def change(graph: Graph, samples: Samples) -> None:
            report = stage(self._progress, "steps: run")
            made[:] = choose_norm_scales(graph, self._quantizer, samples.measured, method, progress=report)

        if self._is_refused():
            self._take_unjudged(name, change)
        else:
            self._try(name, change, self.graph)
        if self._tried[-1].taken:
            self.recalibrated = tuple(made)

    def reestimate(self) -> None:
        """Try to correct norms and layers relative to the float network."""
        made: list[Correction] = []

        def change(graph: Graph, samples: Samples) -> None:
            report = self._progress
            made.extend(
                correct(
                    graph,
                    self._quantizer.float_graph,
                    self._quantizer.counterpart,
                    self._quantizer.feed,
                    samples.measured,
                    known=self._quantizer.moments,
                    quantized_biases=self._quantizer.quantizes_biases,
                    progress=None if report is None else lambda done, whole: report("steps: correct", done, whole),
                )
            )

        if self._refuses(REESTIMATION):
            return
        with_others = self.graph
        if not self._try(REESTIMATION, change, with_others, made) and with_others is not self._plain:
            made.clear()
            if self._try(f"{REESTIMATION} alone", change, self._plain, made):
                self.recalibrated = ()
                why = f"{REESTIMATION} without it is better"
                *before, last = self._tried
                self._tried = [replace(s, taken=False, problem=why) if s.taken else s for s in before] + [last]

    def leave_norms_in_float(self, least: float, again: Callable[[], None]) -> None:
        """Leave norms in float, first those that gain the most, until each output has so many decibels.

        Other steps hide what a norm loses: corrections are made for what is rounded. So norms are left out of the
        network as it was before these, which `again` takes anew then.
        """
        if self._is_refused() and self._errors is None:
            self._tried.append(Step(NORMS_IN_FLOAT, False, self._refusal or ""))
            return
        before = self.graph, self._errors, self._tried, self.recalibrated
        if not self._reaches(least):
            self.graph, self._errors, self._tried, self.recalibrated = self._plain, self._plain_errors, [], ()
            for norm in [] if self._reaches(least) else self._by_gain():
                if self._leave_in_float(norm) and self._reaches(least):
                    break
            self._plain, self._refusal = self.graph, None
            if self.in_float:
                again()
            if not is_better(self._errors, before[1]):
                self.graph, self._errors, self._tried, self.recalibrated = before
                self.in_float = {}
        if not self._reaches(least):
            why = f"the outputs have {self._snr_db():.2f} dB, not {least:g}: no other norm brings them nearer"
            self._tried.append(Step(NORMS_IN_FLOAT, False, why))

    def _snr_db(self) -> float:
        assert self._judge is not None
        found = self._judge.snr_db(self._errors)
        assert found is not None, "it was looked at"
        return found

    def _reaches(self, least: float) -> bool:
        return self._snr_db() >= least

    def _leave_in_float(self, norm: Candidate) -> bool:
        """Try a network without the conversions around a norm."""
        before = self._snr_db()
        taken = self._try(f"{norm.name} in float", lambda graph, _: leave_in_float(graph, norm), self.graph)
        if taken:
            self.in_float[norm.name] = f"8 bits cost the outputs {self._snr_db() - before:.1f} dB"
        return taken

    def _by_gain(self) -> list[Candidate]:
        """Return the norms that gain something in float, most gain first."""
        assert self._judge is not None
        found = candidates(self.graph, self._quantizer)
        gains: list[tuple[float, Candidate]] = []
        for done, norm in enumerate(found):
            if self._progress is not None:
                self._progress("steps: rank", done, len(found))
            graph = _copy(self.graph)
            leave_in_float(graph, norm)
            graph.finish()
            errors = self._judge.errors(self._as_run(graph))
            reached = self._judge.snr_db(errors)
            if reached is not None and is_better(errors, self._errors):
                gains.append((reached, norm))
        return [norm for _, norm in sorted(gains, key=lambda gain: -gain[0])]

    def _refuses(self, name: str) -> bool:
        """Say whether nothing can be judged, and put down that a step is not tried then."""
        if self._is_refused():
            self._tried.append(Step(name, False, self._refusal or ""))
            return True
        return False

    def _is_refused(self) -> bool:
        if self._refusal is None:
            self._refusal = self._look()
        return bool(self._refusal)

    def _take_unjudged(self, name: str, change: Callable[[Graph, Samples], object]) -> None:
        """Change the network by all samples, unless that fails."""
        graph = _copy(self.graph)
        try:
            kept = self._samples
            samples = replace(kept, measured=[*kept.measured, *kept.aside], aside=[])
            _survive(graph.model, samples.measured)
            change(graph, samples)
            graph.finish()
        except Exception as error:  # the network without it is there, and stays
            self._tried.append(Step(name, False, f"it failed: {' '.join(str(error).split())}"))
            return
        self._tried.append(Step(name, True, f"not judged: {self._refusal}"))
        self.graph = graph

    def _try(
        self,
        name: str,
        change: Callable[[Graph, Samples], object],
        start: Graph,
        made: Sequence[Correction] = (),
        sure: float = 0.0,
    ) -> bool:
        """Change a copy of a network, and take it if it is nearer to the float one than what there is."""
        assert self._judge is not None
        graph = _copy(start)
        try:
            change(graph, self._samples)
            graph.finish()
            errors = self._judge.errors(self._as_run(graph))
        except Exception as error:  # the network without it is there, and stays
            self._tried.append(Step(name, False, f"it failed: {' '.join(str(error).split())}"))
            return False
        before, after = (self._judge.snr_db(e) for e in (self._errors, errors))
        taken = is_better(errors, self._errors, sure)
        if taken:
            self.graph, self._errors = graph, errors
        nearer = before is not None and after is not None and after > before
        why = "" if taken else _BY_CHANCE if nearer else _NO_NEARER
        self._tried.append(Step(name, taken, why, before, after, tuple(made) if taken else ()))
        return taken


def _copy(graph: Graph) -> Graph:
    graph.finish()
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    return Graph(model)


def _survive(model: onnx.ModelProto, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Run a network apart, if it may end the process: parts of it will run in this one."""
    if may_be_fatal(model):
        apart = runner(model)
        for batch in batches:
            apart.run(None, dict(batch))
