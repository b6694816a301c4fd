"""Which steps are tried on an 8-bit network, and which are taken: those that bring it nearer to the float one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import onnx

from ...calibration.judging import FEWEST, is_better, too_few
from ..apart import may_be_fatal, runner
from ..graph import Graph
from . import judging
from .correction import Correction, correct

if TYPE_CHECKING:
    import numpy as np

    from ..data import Dataset
    from ..static_quantizer import Progress, StaticQuantizer
    from .judging import Judge, Samples

REESTIMATION = "re-estimation"


@dataclass(frozen=True)
class Step:
    """What was tried to bring the 8-bit network nearer to the float one.

    Attributes
    ----------
    name : str
    taken : bool
        Whether the network has it.
    problem : str
        Why it was not tried, or is not taken; empty for one that is.
    before_db, after_db : float or None
        The lowest SNR of the outputs on the samples kept aside, without and with it; None where it was not tried.
    corrections : tuple of Correction
        What a re-estimation that is taken changed.
    """

    name: str
    taken: bool
    problem: str = ""
    before_db: float | None = None
    after_db: float | None = None
    corrections: tuple[Correction, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


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
    data : Dataset
        Of its inputs.
    progress : callable, optional
        Called with the stage, how much of it is done, and how much there is.

    Attributes
    ----------
    graph : Graph
        The network with the steps that are taken.
    steps : tuple of Step
        Those that were tried, in that order.
    """

    def __init__(
        self,
        quantizer: StaticQuantizer,
        graph: Graph,
        reference: onnx.ModelProto,
        data: Dataset,
        progress: Progress | None = None,
    ) -> None:
        self.graph = graph
        self._tried: list[Step] = []
        self._quantizer, self._reference, self._data, self._progress = quantizer, reference, data, progress
        self._samples: Samples | None = None
        self._judge: Judge | None = None
        self._errors: np.ndarray | None = None
        self._refusal: str | None = None  # unknown before the first step is tried

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those that were tried, in that order."""
        return tuple(self._tried)

    def _look(self) -> str:
        """Measure what there is; say why nothing can be judged, empty if it can."""
        data = self._data
        if data.samples < FEWEST:
            return too_few(data.samples)
        self.graph.finish()
        self._samples = samples = judging.pick(data)
        if not samples.enough:
            return too_few(samples.count)
        try:
            self._judge = judging.Judge(self._reference, samples.aside)
            self._errors = self._judge.errors(self.graph.model)
            if may_be_fatal(self.graph.model):  # parts of it run in this process: what it dies of is found apart
                apart = runner(self.graph.model)
                for batch in samples.measured:
                    apart.run(None, batch)
        except Exception as error:  # of ONNX Runtime, which has a class for each of its codes
            return f"ONNX Runtime cannot run it: {' '.join(str(error).split())}"
        return "" if self._errors is not None else "no output of numbers has the shape of the float network's"

    def reestimate(self) -> None:
        """Try to correct norms and layers relative to the float network."""
        made: list[Correction] = []

        def change(graph: Graph, samples: Samples) -> None:
            report = self._progress
            made.extend(
                correct(
                    graph,
                    self._quantizer.float_model,
                    self._quantizer.counterpart,
                    samples.measured,
                    progress=None if report is None else lambda done, whole: report("steps: correct", done, whole),
                )
            )

        self._try(REESTIMATION, change, made)

    def _try(self, name: str, change: Callable[[Graph, Samples], None], made: list[Correction]) -> None:
        """Change a copy of the network, and take it if it is nearer to the float one."""
        if self._refusal is None:
            self._refusal = self._look()
        if self._refusal:
            self._tried.append(Step(name, False, self._refusal))
            return
        assert self._samples is not None
        assert self._judge is not None
        model = onnx.ModelProto()
        model.CopyFrom(self.graph.model)
        graph = Graph(model)
        try:
            change(graph, self._samples)
            graph.finish()
            errors = self._judge.errors(graph.model)
        except Exception as error:  # the network without it is there, and stays
            self._tried.append(Step(name, False, f"it failed: {' '.join(str(error).split())}"))
            return
        before, after = (self._judge.snr_db(e) for e in (self._errors, errors))
        if not is_better(errors, self._errors):
            why = "it does not bring the outputs nearer to the float network's"
            self._tried.append(Step(name, False, why, before, after))
            return
        self._tried.append(Step(name, True, "", before, after, tuple(made)))
        self.graph, self._errors = graph, errors
