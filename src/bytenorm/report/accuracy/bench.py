"""A quantized network run on from a tensor whose numbers are others, and what its outputs gain by that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper

from ...onnx.graph.cutting import bytes_in, cut
from ...onnx.graph.graph import Graph
from ...onnx.measurement.compare import candidate_order
from ...onnx.measurement.differences import lowest_snr_db
from ...onnx.run.apart import run_session
from ...onnx.run.session import session_for_a_pass
from .in_float import NotPossible, in_float

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from .accumulation import Accumulation

    Arrays = dict[str, np.ndarray]
    # Of what the float step makes of 8-bit numbers, and of what the 8-bit network makes of them.
    Change = Callable[[np.ndarray, np.ndarray], np.ndarray]


_ROOM = 64 << 20  # bytes of what the 8-bit network makes that are kept
_KEPT = 1 << 22  # numbers of a tensor that are kept to choose by, of all batches


@dataclass(frozen=True)
class Seen:
    """What was seen of a tensor on the samples to choose by.

    Attributes
    ----------
    numbers : numpy.ndarray of float32
        What the float step makes of 8-bit numbers: every k-th, where there are many.
    mean : numpy.ndarray of float64
        Of the own error of each channel; it broadcasts to the tensor.
    """

    numbers: np.ndarray
    mean: np.ndarray


class Bench:
    """Runs both networks on some samples, and the 8-bit one from single tensors on.

    Every other batch is there to choose by, and those between to measure what was chosen.

    Parameters
    ----------
    model, reference : onnx.ModelProto
        In 8 bits and in float.
    beside : Accumulation
        Of the two.
    batches : list of dict
        Of their inputs, which `beside` has run the networks on.

    Attributes
    ----------
    tried : tuple of str
        The tensors that can be put in float, of those that were to be.
    problems : dict of str to str
        The others, each with the reason.
    snr_db : float
        The lowest SNR of the outputs as the model stands; nan if no output can be compared.
    can_choose : bool
        Whether there are batches to choose by and others to measure.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        reference: onnx.ModelProto,
        beside: Accumulation,
        batches: Sequence[Arrays],
    ) -> None:
        self.beside, self._batches = beside, batches
        self._model, self._graph = model, Graph(model)
        self._wanted = [value.name for value in reference.graph.output]
        made = [value.name for value in model.graph.output]
        self._outputs = [made[i] for i in candidate_order(self._wanted, made)]
        self._float = _Part(cut(Graph(reference), self._wanted))
        self._real: list[list[np.ndarray]] = []
        self.problems: dict[str, str] = {}
        self.tried: tuple[str, ...] = ()
        self._tails: dict[str, _Part] = {}
        self._steps: dict[str, _Part] = {}
        self._read: dict[str, dict[str, str]] = {}
        self._kinds: dict[str, Any] = {}
        self._before: _Part | None = None
        self._kept: dict[int, Arrays] = {}  # what it makes of some batches
        self.snr_db = math.nan
        self._apart_db = math.nan  # the same of the batches that are not chosen by

    @property
    def can_choose(self) -> bool:
        """Whether there are batches to choose by and others to measure."""
        return len(self._batches) > 1

    def made_last(self) -> set[str]:
        """Return the 8-bit tensors behind which there are no others."""
        codes = {one.tensor: name for name, one in self.beside.codes.items()}
        found, seen, waiting = set(), set(), list(self._outputs)
        while waiting:
            tensor = waiting.pop()
            if tensor in codes:
                found.add(codes[tensor])
                continue
            maker = self._graph.maker(tensor)
            if maker is not None and id(maker) not in seen:
                seen.add(id(maker))
                waiting += [name for name in maker.input if name]
        return found

    def prepare(self, names: Iterable[str]) -> None:
        """Make ready what puts these tensors in float, where that can be done; measure the outputs as they are."""
        needed: dict[str, None] = {}
        for name in names:
            copy = onnx.ModelProto()
            copy.CopyFrom(self._model)
            graph = Graph(copy)
            try:
                given = in_float(graph, self.beside.codes[name])
                like = np.empty((0,) * self.beside.sums(name).rank, np.float32)
                tail = _Part(cut(graph, self._outputs, {given: like}), given)
            except NotPossible as why:
                self.problems[name] = str(why)
                continue
            except Exception as error:  # of ONNX Runtime, which has a class for each of its codes
                self.problems[name] = f"ONNX Runtime cannot run it: {' '.join(str(error).split())}"
                continue
            step, self._read[name] = self.beside.step(name)
            self._tails[name], self._steps[name] = tail, _Part(step)
            needed.update(dict.fromkeys([*self._read[name].values(), name]))
        self.tried = tuple(self._tails)
        tensors = [self.beside.codes[name].tensor for name in needed]
        self._before = _Part(cut(self._graph, dict.fromkeys([*tensors, *self._outputs])))
        plain, apart = _Errors(), _Errors()
        for k, there in self._runs(range(len(self._batches))):
            self._real.append(self._float.run(self._wanted, self._batches[k], "reference"))
            for errors in (plain, apart) if k in self._others() else (plain,):
                errors.add(self._real[-1], [there[name] for name in self._outputs])
        self.snr_db, self._apart_db = plain.snr_db(), apart.snr_db()

    def _others(self) -> range:
        """Return the places of the batches that nothing is chosen by."""
        return range(1, len(self._batches), 2)

    def kind(self, name: str) -> Any:
        """Return the limits of a tensor's codes, as np.iinfo says them."""
        return self._kinds[name]

    def look(self, names: Iterable[str]) -> dict[str, Seen]:
        """Return what is seen of tensors on the batches to choose by."""
        chosen = list(names)
        batches = range(0, len(self._batches), 2)
        numbers: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
        sums: dict[str, np.ndarray] = {}
        counts = dict.fromkeys(chosen, 0)
        for _, made in self._numbers(chosen, batches):
            for name, (own, got) in made.items():
                axis = self.beside.sums(name).axis % max(own.ndim, 1)
                others = tuple(i for i in range(own.ndim) if i != axis or own.ndim < 2)
                error = got - own
                sums[name] = sums.get(name, 0) + error.sum(axis=others, keepdims=True)
                counts[name] += error.size // max(sums[name].size, 1)
                every = max(1, own.size * len(batches) // _KEPT)
                numbers[name].append(own.ravel()[::every].astype(np.float32))
        return {name: Seen(np.concatenate(numbers[name]), sums[name] / max(counts[name], 1)) for name in sums}

    def _numbers(
        self, names: Iterable[str], batches: Iterable[int]
    ) -> Iterator[tuple[int, dict[str, tuple[np.ndarray, np.ndarray]]]]:
        """Yield for some batches what the float steps make of 8-bit numbers, and what the 8-bit network makes."""
        chosen = list(names)
        for k, there in self._runs(batches):
            made = {}
            for name in chosen:
                codes = self.beside.codes
                step = self._steps[name]
                read = {
                    n: codes[t].numbers(there[codes[t].tensor], step.kind(n)) for n, t in self._read[name].items()
                }
                (own,) = step.run([name], self._batches[k] | read, "reference")
                self._kinds[name] = np.iinfo(there[codes[name].tensor].dtype)
                made[name] = own, codes[name].numbers(there[codes[name].tensor])
            yield k, made

    def gains(self, changes: Mapping[str, Change | None], *, apart: bool = False) -> dict[str, float]:
        """Return what the outputs gain, in dB, if a tensor's numbers are others; None: those of its float step.

        On all batches, or `apart` from those that changes were chosen by. A network that cannot be run so is put
        among the problems.
        """
        errors = {name: _Errors() for name in changes}
        batches, before = (self._others(), self._apart_db) if apart else (range(len(self._batches)), self.snr_db)
        for k, made in self._numbers(changes, batches):
            for name, change in changes.items():
                if name in self.problems:
                    continue
                own, got = made[name]
                numbers = own if change is None else change(own, got).astype(np.float32)
                try:
                    outputs = self._tails[name].run(self._outputs, self._batches[k], "model", numbers)
                except ValueError as error:
                    self.problems[name] = str(error)
                    continue
                errors[name].add(self._real[k], outputs)
        return {
            name: gain
            for name, one in errors.items()
            if name not in self.problems and not math.isnan(gain := one.snr_db() - before)
        }

    def _runs(self, batches: Iterable[int]) -> Iterator[tuple[int, Arrays]]:
        assert self._before is not None, "it is prepared"
        names = self._before.makes
        for k in batches:
            batch, made = self._batches[k], self._kept.get(k)
            if made is None:
                made = dict(zip(names, self._before.run(names, batch, "model"), strict=True))
                if bytes_in(made.values()) * (len(self._kept) + 1) <= _ROOM:
                    self._kept[k] = made
            yield k, batch | made


class _Part:
    """A model and its session."""

    def __init__(self, model: onnx.ModelProto, given: str = "") -> None:
        self._given = given
        self._read = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
        self.makes = [value.name for value in model.graph.output]
        self._session = session_for_a_pass(model)

    def kind(self, name: str) -> np.dtype[np.generic]:
        """Return the type of an input."""
        return helper.tensor_dtype_to_np_dtype(self._read[name])

    def run(
        self, names: Sequence[str], there: Mapping[str, np.ndarray], what: str, numbers: np.ndarray | None = None
    ) -> list[np.ndarray]:
        """Return outputs; `numbers` are those of the tensor that is given."""
        fed = {name: numbers if name == self._given else there[name] for name in self._read}
        return run_session(self._session, names, fed, what)


class _Errors:
    """Sums of squares over samples, an output each."""

    def __init__(self) -> None:
        self._sums: dict[int, np.ndarray] = {}

    def add(self, wanted: Sequence[np.ndarray], made: Sequence[np.ndarray]) -> None:
        """Take in the outputs of a batch, of numbers and of the same shape."""
        for i, (real, got) in enumerate(zip(wanted, made, strict=True)):
            if isinstance(real, np.ndarray) and real.dtype.kind == "f" and real.shape == np.shape(got):
                x, error = real.astype(np.float64), got.astype(np.float64) - real
                sums = np.array([np.sum(x * x), np.sum(error * error)])
                self._sums[i] = self._sums.get(i, 0) + sums

    def snr_db(self) -> float:
        """Return the lowest SNR of the outputs; nan if there are none, or they are not finite."""
        finite = [(float(x), float(e)) for x, e in self._sums.values() if np.isfinite(x + e)]
        return lowest_snr_db(finite, default=math.nan)
