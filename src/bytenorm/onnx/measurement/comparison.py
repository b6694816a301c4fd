"""How far one model's outputs are from another's, on the same data."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ..._text_table import text_table
from ..data.dataset import open_data
from ..model.files import load_model
from ..run.apart import run_session, runner

if TYPE_CHECKING:
    from ..data.batch_axes import BatchAxes

_KINDS = ("float16", "float", "double", "bool", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)))
_NUMBERS = frozenset(f"tensor({kind})" for kind in _KINDS)

COLUMNS = ("output", "SNR dB", "cosine", "top-1 %", "max error", "worst sample", "its SNR dB")


@dataclass(frozen=True)
class OutputComparison:
    """How far one output of the candidate is from the reference's.

    Attributes
    ----------
    name : str
        The reference's name of the output.
    snr_db : float
        ``10 log10(sum(reference**2) / sum((reference - candidate)**2))`` over all samples; inf when they are
        equal, -inf when only the reference is 0 everywhere.
    cosine : float
        Of the angle between all samples of the one and of the other; 0 when only one is 0 everywhere.
    top1_agreement : float or None
        The share of the samples with the largest value in the same place, the first of equals; None when the
        output is no floating-point array of shape (samples, at least 2).
    max_abs_error : float
    worst_sample : int
        The number of the sample with the lowest SNR, counted from 0, the first of equals. An output whose first
        dimension is not the batch's has one SNR a batch, and this is the first sample of that batch.
    worst_sample_snr_db : float
    problem : str
        Why the output cannot be compared; empty if it can. The other numbers are nan and None then, and
        `worst_sample` is the first sample that cannot be compared.
    broken : bool
        Whether the problem is that the candidate holds NaN or an infinity where the reference has a number.

    Examples
    --------
    >>> import numpy as np
    >>> from bytenorm import onnx as bno
    >>> samples = [{"image": np.zeros((2, 1, 28, 28), np.float32)}]
    >>> compared = bno.compare(bno.digits_model(), bno.digits_model(), samples)
    >>> compared.outputs[0].snr_db, compared.outputs[0].max_abs_error
    (inf, 0.0)
    """

    name: str
    snr_db: float
    cosine: float
    top1_agreement: float | None
    max_abs_error: float
    worst_sample: int
    worst_sample_snr_db: float
    problem: str = ""
    broken: bool = False


@dataclass(frozen=True)
class Comparison:
    """How far a candidate is from its reference; ``str`` gives a table.

    Attributes
    ----------
    outputs : tuple of OutputComparison
        In the reference's order.
    samples : int
        How many samples both were run on.

    Examples
    --------
    >>> import numpy as np
    >>> from bytenorm import onnx as bno
    >>> samples = [{"image": np.zeros((2, 1, 28, 28), np.float32)}]
    >>> compared = bno.compare(bno.digits_model(), bno.digits_model(), samples)
    >>> compared.samples, [output.name for output in compared.outputs]
    (2, ['logits'])
    """

    outputs: tuple[OutputComparison, ...]
    samples: int

    def __str__(self) -> str:
        return "\n".join((text_table(COLUMNS, self.rows()), *self.remarks()))

    def remarks(self) -> list[str]:
        """Return a line for each output that cannot be compared.

        Returns
        -------
        list of str

        Examples
        --------
        >>> import numpy as np
        >>> from bytenorm import onnx as bno
        >>> samples = [{"image": np.zeros((2, 1, 28, 28), np.float32)}]
        >>> compared = bno.compare(bno.digits_model(), bno.digits_model(), samples)
        >>> compared.remarks()
        []
        """
        return [
            f"{' '.join(out.name.split())}: not comparable: {out.problem}" for out in self.outputs if out.problem
        ]

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table's rows.

        Returns
        -------
        list of tuple of str
            A text for each column of the table that ``str`` gives.

        Examples
        --------
        >>> import numpy as np
        >>> from bytenorm import onnx as bno
        >>> samples = [{"image": np.zeros((2, 1, 28, 28), np.float32)}]
        >>> compared = bno.compare(bno.digits_model(), bno.digits_model(), samples)
        >>> compared.rows()
        [('logits', 'inf', '1.000000', '100.00', '0', '0', 'inf')]
        """
        return [
            (
                " ".join(out.name.split()),
                *(
                    ["-"] * (len(COLUMNS) - 1)
                    if out.problem
                    else [
                        f"{out.snr_db:.2f}",
                        f"{out.cosine:.6f}",
                        "-" if out.top1_agreement is None else f"{100 * out.top1_agreement:.2f}",
                        f"{out.max_abs_error:.4g}",
                        str(out.worst_sample),
                        f"{out.worst_sample_snr_db:.2f}",
                    ]
                ),
            )
            for out in self.outputs
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: a number that is not finite is None there.

        Without a ``problem`` that is an SNR: with ``max_abs_error`` 0 it stands for inf, equal outputs, otherwise
        for -inf, a reference of zeros.

        Returns
        -------
        dict
            By the names of the attributes; an output is a dict, too.

        Examples
        --------
        >>> import numpy as np
        >>> from bytenorm import onnx as bno
        >>> samples = [{"image": np.zeros((2, 1, 28, 28), np.float32)}]
        >>> compared = bno.compare(bno.digits_model(), bno.digits_model(), samples)
        >>> compared.to_dict()["outputs"][0]["snr_db"] is None
        True
        """
        made = asdict(self)
        made["outputs"] = [
            {
                key: None if isinstance(value, float) and not math.isfinite(value) else value
                for key, value in out.items()
            }
            for out in made["outputs"]
        ]
        return made


def compare(
    reference: onnx.ModelProto | str | os.PathLike[str],
    candidate: onnx.ModelProto | str | os.PathLike[str],
    data: object,
    *,
    limit: int | None = None,
    batch_axes: BatchAxes | None = None,
    sess_options: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Run two models in ONNX Runtime on the same data and compare their outputs.

    Outputs belong together by name, or by position where the names differ. One batch of outputs is held at a time;
    sums are kept in float64. An output that cannot be compared is named with its problem: its shape depends on the
    numbers and differs, it holds NaN or an infinity, is always empty, or is no tensor of numbers.

    Parameters
    ----------
    reference, candidate : onnx.ModelProto or path
        With the same inputs and as many outputs.
    data : iterable of dict, path, or Dataset
        As `open_data` takes it.
    limit : int, optional
        The most samples to use.
    batch_axes : dict of str to int or None, optional
        As `open_data` takes it.
    sess_options : onnxruntime.SessionOptions, optional
        For both.
    progress : callable, optional
        Called after each batch with the number of samples that are done and the number of all.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, FileNotFoundError, ValueError
        As `load_model` and `open_data`.
    ValueError
        If inputs or the number of outputs differ, or if ONNX Runtime refuses a model or fails to run it.

    Examples
    --------
    >>> import numpy as np
    >>> from onnx import TensorProto, helper
    >>> from bytenorm.onnx.measurement.comparison import compare
    >>> def model(operator):
    ...     x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xy")
    ...     graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], operator, [x], [y])
    ...     return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    >>> data = [{"x": np.array([[1, 2], [3, -1]], np.float32)}]
    >>> print(compare(model("Identity"), model("Relu"), data))
    output  SNR dB    cosine  top-1 %  max error  worst sample  its SNR dB
    y        11.76  0.966092   100.00          1             1       10.00
    """
    proto = load_model(reference, argument="reference")
    load_model(candidate, argument="candidate")
    batches = open_data(data, proto, limit=limit, batch_axes=batch_axes, argument="data")
    del proto
    first, second = runner(reference, sess_options), runner(candidate, sess_options)
    require_same_inputs(first, second)
    names = [out.name for out in first.get_outputs()]
    order = candidate_order(names, [out.name for out in second.get_outputs()])
    others = [second.get_outputs()[position] for position in order]
    found = Differences(names)
    for position, out, other in zip(range(len(names)), first.get_outputs(), others, strict=True):
        found.require_numbers(position, out.type, other.type)
    for batch in batches:
        wanted = run_session(first, [names[i] for i in found.numbers], batch, "reference")
        got = run_session(second, [others[i].name for i in found.numbers], batch, "candidate")
        found.add(wanted, got, batches.count(batch))
        if progress is not None:
            progress(found.samples, batches.samples)
    return found.result()


def uncomparable(name: str, problem: str, sample: int = 0, *, broken: bool = False) -> OutputComparison:
    """Return what is said of an output that cannot be compared."""
    return OutputComparison(name, math.nan, math.nan, None, math.nan, sample, math.nan, problem, broken)


def require_same_inputs(reference: Any, candidate: Any) -> None:
    """Refuse sessions that are not fed the same."""
    wanted, got = ({i.name: i.type for i in made.get_inputs()} for made in (reference, candidate))
    if wanted != got:
        raise ValueError(f"candidate must have the reference's inputs {_listed(wanted)}, got {_listed(got)}")


def _listed(inputs: dict[str, str]) -> str:
    return ", ".join(f"{name!r} {kind}" for name, kind in inputs.items()) or "none"


def candidate_order(reference: list[str], candidate: list[str]) -> list[int]:
    """Return for each output of the reference the position of the candidate's."""
    if len(reference) != len(candidate):
        raise ValueError(
            f"candidate must have as many outputs as the reference, {len(reference)}, got {len(candidate)}: "
            f"{candidate} for {reference}"
        )
    if set(reference) == set(candidate):
        return [candidate.index(name) for name in reference]
    for position, name in enumerate(reference):
        if name in candidate and candidate[position] != name:
            raise ValueError(
                f"candidate's outputs {candidate} belong to {reference} neither by name nor by position"
            )
    return list(range(len(reference)))


class Differences:
    """What is kept of the outputs of two models.

    Attributes
    ----------
    numbers : list of int
        The positions of outputs that can be compared by their types.
    samples : int
        How many were added.
    """

    def __init__(self, names: list[str]) -> None:
        self._pairs = [_Difference(name) for name in names]
        self.numbers = list(range(len(names)))
        self.samples = 0

    def require_numbers(self, position: int, reference: str, candidate: str) -> None:
        """Look at the types of an output, as ONNX Runtime writes them."""
        self._pairs[position].require_numbers(reference, candidate)
        if self._pairs[position].problem:
            self.numbers.remove(position)

    def add(self, reference: Iterable[Any], candidate: Iterable[Any], samples: int) -> None:
        """Take in the outputs of :attr:`numbers` for a batch of so many samples."""
        for position, wanted, got in zip(self.numbers, reference, candidate, strict=True):
            self._pairs[position].add(wanted, got, self.samples, samples)
        self.samples += samples

    def result(self) -> Comparison:
        """Return what came out."""
        return Comparison(tuple(pair.result() for pair in self._pairs), self.samples)


class _Difference:
    """What is kept of two outputs: sums, no samples."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reference = self._candidate = self._product = self._error = 0.0  # sums of squares and of products
        self._largest = 0.0
        self._same = self._ranked = 0  # samples with the same largest value, samples with a largest value
        self._worst = (math.inf, 0)
        self._elements = 0
        self.problem, self._broken = "", False

    def require_numbers(self, reference: str, candidate: str) -> None:
        """Look at the types, as ONNX Runtime writes them."""
        for which, kind in (("reference", reference), ("candidate", candidate)):
            if kind not in _NUMBERS and not self.problem:
                self.problem = f"the {which}'s is {kind}, no tensor of numbers"

    def _give_up(self, problem: str, sample: int, *, broken: bool = False) -> None:
        self.problem, self._broken, self._worst = problem, broken, (math.nan, sample)

    def add(self, reference: Any, candidate: Any, done: int, rows: int) -> None:
        """Take in the outputs for `rows` samples, after `done` earlier ones."""
        if self.problem:
            return
        if reference.shape != candidate.shape:
            shapes = f"the candidate's has shape {candidate.shape}, the reference's {reference.shape}"
            self._give_up(f"{shapes}, for samples {done} to {done + rows - 1}", done)
            return
        by_sample = reference.ndim > 0 and len(reference) == rows
        ranked = by_sample and reference.ndim == 2 and reference.shape[1] >= 2 and reference.dtype.kind == "f"
        if not by_sample:
            reference, candidate = reference[None], candidate[None]
        self._elements += reference.size
        for row in range(len(reference)):  # one at a time: in float64 they are large
            if self.problem:
                return
            wanted, got = (np.asarray(out[row], np.float64).reshape(-1) for out in (reference, candidate))
            self._add_sample(wanted, got, done + row)
            if ranked:
                self._ranked += 1
                self._same += int(wanted.argmax() == got.argmax())

    def _add_sample(self, wanted: np.ndarray, got: np.ndarray, sample: int) -> None:
        for which, values in (("reference", wanted), ("candidate", got)):
            bad = ~np.isfinite(values)
            if bad.any():
                text = f"the {which}'s holds {values[bad][0]} for sample {sample}"
                self._give_up(text, sample, broken=which == "candidate")
                return
        with np.errstate(over="ignore"):
            error = wanted - got
            signal, noise = float(wanted @ wanted), float(error @ error)
            other, product = float(got @ got), float(wanted @ got)
        if not math.isfinite(signal + noise + other):
            self._give_up(f"it is too large to be squared in float64 for sample {sample}", sample)
            return
        self._reference += signal
        self._candidate += other
        self._product += product
        self._error += noise
        self._largest = max(self._largest, float(np.abs(error).max(initial=0.0)))
        self._worst = min(self._worst, (snr_db(signal, noise), sample))

    def result(self) -> OutputComparison:
        """Return what came out."""
        snr, sample = self._worst
        if not self.problem and not self._elements:
            self.problem = "it is empty"
        if self.problem:
            return uncomparable(self._name, self.problem, sample, broken=self._broken)
        return OutputComparison(
            name=self._name,
            snr_db=snr_db(self._reference, self._error),
            cosine=self._cosine(),
            top1_agreement=self._same / self._ranked if self._ranked else None,
            max_abs_error=self._largest,
            worst_sample=sample,
            worst_sample_snr_db=snr,
        )

    def _cosine(self) -> float:
        if self._error == 0:
            return 1.0
        length = math.sqrt(self._reference) * math.sqrt(self._candidate)
        return max(-1.0, min(1.0, self._product / length)) if length else 0.0


def snr_db(signal: float, noise: float) -> float:
    """Return the ratio of two energies in dB: inf without noise, -inf where there is nothing else."""
    if noise == 0:
        return math.inf
    return 10 * (math.log10(signal) - math.log10(noise)) if signal else -math.inf


def lowest_snr_db(outputs: Iterable[tuple[float, float]], *, default: float) -> float:
    """Return the lowest ratio of outputs' energies and their errors'; an output of zeros does not count."""
    return min((snr_db(signal, noise) for signal, noise in outputs if signal), default=default)
