"""How far a quantized network has drifted from the float one, and what each step of it adds.

The float network is cut at every tensor that the quantized one has in 8 bits. A step is what lies between: a layer
with the norm that was folded into it and its activation, a norm, a sum. Its own error is that of the 8-bit step on
what it reads in the quantized network, against the float step on the very same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx

from ..._decibels import snr_db
from ..._errors import bad_value
from ...onnx.data.batch_axes import part_of
from ...onnx.graph.cutting import cut
from ...onnx.graph.graph import LAYERS, Graph, captured_by, is_op, label
from .belonging import ASKED, require_same_ends
from .matching import Codes, match
from .parts import Parts
from .tensor_sums import TensorSums
from .weights import require_same_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import NodeProto

    from ...onnx.data.dataset import Dataset

    Arrays = dict[str, np.ndarray]

EXACT = 100.0  # dB; beyond is the rounding of float32
_AT_ONCE = 16  # tensors of a part
_ROOM = 32 << 20  # bytes of codes that a run may make
_INPUT = "input"
_COMPUTING = {*LAYERS, "BatchNormalization"}  # what has parameters
_LIKE = 3.0  # dB; a step with other parameters has about 0: each output is an error as large as itself


@dataclass(frozen=True)
class Drift:
    """How far one 8-bit tensor is from the float network's, with all errors before it, and what its own share is.

    Attributes
    ----------
    name : str
        Of the tensor in the float network.
    kind : str
        The operators of its step there: what makes it of the 8-bit tensors before it.
    nodes : tuple of str
        The nodes of the step in the float network, as ``quantize`` takes them to be left out.
    snr_db : float
        ``10 log10(sum(float**2) / sum(error**2))`` over all samples; nan if it cannot be compared.
    own_snr_db : float
        The same of the step alone: both networks' steps read the 8-bit tensors; nan if it cannot be measured.
    clipped, rounded, moved, computed : float
        What the own error is made of, shares from 0 to 1: numbers beyond the range of the codes, rounding to the
        codes, means of channels that are moved, and the rest. The rest is the step's own 8-bit weights and
        arithmetic.
    problem : str
        Why something cannot be compared; empty if all can.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    snr_db: float
    own_snr_db: float
    clipped: float = 0.0
    rounded: float = 0.0
    moved: float = 0.0
    computed: float = 0.0
    problem: str = ""


class Accumulation:
    """Runs two networks side by side and keeps sums, no samples.

    Parameters
    ----------
    model, reference : onnx.ModelProto
        In 8 bits and in float.
    data : Dataset
        Of their inputs.

    Attributes
    ----------
    data : Dataset
    codes : dict of str to Codes
        The 8-bit tensors, by the name of the float one, in the float network's order.
    unmatched : tuple of (str, str)
        The tensors of either network that have no partner, each with the reason.
    bytes_of_a_sample : int
        Of all codes.
    """

    def __init__(self, model: onnx.ModelProto, reference: onnx.ModelProto, data: Dataset) -> None:
        graph, wanted = Graph(model), Graph(reference)
        require_same_ends(model, reference)
        self.codes, self.unmatched = match(graph, wanted)
        if not self.codes.keys() - wanted.inputs:
            raise bad_value(
                "reference", f": no 8-bit tensor of the model has the name of one of the float model's: {ASKED}"
            )
        require_same_weights(graph, wanted, self.codes)
        copy = onnx.ModelProto()
        copy.CopyFrom(reference)
        self.data, self._steps = data, Graph(copy)
        names = list(self.codes)
        self._chunks = [names[i : i + _AT_ONCE] for i in range(0, len(names), _AT_ONCE)]
        self._float = Parts(wanted, self._chunks, "reference")
        self._made = Parts(graph, [[self.codes[n].tensor for n in chunk] for chunk in self._chunks], "model")
        made = [[n for n in chunk if n not in wanted.inputs] for chunk in self._chunks]
        self._alone = Parts(self._steps, made, "reference")
        self._place = {id(node): i for i, node in enumerate(self._steps.in_order())}
        self._names: dict[str, str] = {}  # what the steps call the 8-bit network's tensors
        self._nodes: dict[str, list[NodeProto]] = {}  # of each step, once the tensors before it have been seen
        self._sums: dict[str, TensorSums] = {}
        self._problems: dict[str, str] = {}
        self._likes: Arrays = {}  # empty arrays, of the types and ranks of what steps read
        self._at_once = 1  # samples, until one has told how large its tensors are
        self.bytes_of_a_sample = 0

    def add(self, batch: Arrays) -> None:
        """Take in a batch."""
        count, start = self.data.count(batch), 0
        whole = not self.data.takes_any_number
        while start < count:
            stop = count if whole else min(count, start + self._at_once)
            part = {name: part_of(a, self.data.batch_axes[name], start, stop) for name, a in batch.items()}
            size = self._run(batch if whole else part)
            self.bytes_of_a_sample = size // (stop - start)
            self._at_once = max(1, _ROOM // max(self.bytes_of_a_sample, 1))
            start = stop

    def _run(self, batch: Arrays) -> int:
        """Take in a batch at once; return how many bytes its codes have."""
        float_there, made_there = dict(batch), dict(batch)
        read = _Read(batch, self._names, self.codes)
        for k, names in enumerate(self._chunks):
            real, made = self._float.next(k, float_there), self._made.next(k, made_there)
            for name in names:
                codes = made[self.codes[name].tensor]
                problem = _problem(real[name], codes)
                self._problems.setdefault(name, problem)
                if problem:
                    self._problems[name] = problem
                if name not in self._nodes:
                    self._nodes[name] = self._step(name)
                    if not problem:
                        self._names[name] = self._steps.new_name(f"{name}/8bit")
                        self._steps.redirect(name, self._names[name])
                        self._likes[self._names[name]] = np.empty((0,) * real[name].ndim, real[name].dtype)
                read.add(name, real[name], codes)
            alone = self._alone.make(k, read)
            for name in names:
                if not self._problems[name]:
                    self._add(name, real[name], made[self.codes[name].tensor], alone.get(name, real[name]))
        return read.size

    def _add(self, name: str, real: np.ndarray, codes: np.ndarray, alone: np.ndarray) -> None:
        if alone.shape != real.shape or not np.isfinite(alone).all():
            self._problems[name] = (
                "the float network makes NaN, an infinity or another shape of the 8-bit one's input"
            )
            return
        if name not in self._sums:
            rows = real.ndim == 3 and not any(is_op(n, "Conv", "BatchNormalization") for n in self._nodes[name])
            self._sums[name] = TensorSums(self.codes[name], -1 if rows else 1)
        self._sums[name].add(real, codes, alone)

    def _step(self, name: str) -> list[NodeProto]:
        """Return the nodes of the float network that make a tensor of 8-bit ones before it, in order."""
        made: dict[int, NodeProto] = {}
        stack = [name]
        while stack:
            node = self._steps.maker(stack.pop())
            if node is not None and id(node) not in made and self._steps.constant(node.output[0]) is None:
                made[id(node)] = node
                stack += [tensor for tensor in (*node.input, *captured_by(node)) if tensor]
        return sorted(made.values(), key=lambda node: self._place[id(node)])

    def step(self, name: str) -> tuple[onnx.ModelProto, dict[str, str]]:
        """Return the float step that makes a tensor, as a model; and by its inputs the 8-bit tensors they are."""
        part = cut(self._steps, [name], self._likes)
        read = {value.name for value in part.graph.input}
        return part, {there: tensor for tensor, there in self._names.items() if there in read}

    def sums(self, name: str) -> TensorSums:
        """Return the sums over a tensor that can be compared."""
        return self._sums[name]

    def readers(self, name: str) -> list[str]:
        """Return the nodes of the float network that read a tensor."""
        return [label(node) for node in self._steps.readers(self._names.get(name, name))]

    def result(self) -> tuple[Drift, ...]:
        """Return what came out, in the order of the float network. Nothing is added after that.

        Raises
        ------
        ValueError
            If most tensors are nothing like the float network's.
        """
        for parts in (self._float, self._made, self._alone):
            parts.forget()
        found = tuple(self._drift(name) for name in self.codes)
        computing = [one for one in found if not one.problem and _COMPUTING & set(self._operators(one.name))]
        unlike = [one for one in computing if one.own_snr_db < _LIKE]
        if 2 * len(unlike) > len(computing) > 1:
            raise bad_value(
                "reference",
                f": {len(unlike)} of {len(computing)} layers and norms of the model, that of "
                f"{unlike[0].name!r} the first, are nothing like its own: {ASKED}",
            )
        if all(one.problem for one in found):
            raise bad_value(
                "reference", f": no tensor can be compared, as {found[0].name!r}: {found[0].problem}: {ASKED}"
            )
        return found

    def _operators(self, name: str) -> list[str]:
        return [node.op_type for node in self._nodes[name]]

    def _drift(self, name: str) -> Drift:
        nodes = self._nodes[name]
        operators = self._operators(name) or [_INPUT]
        kind = " + ".join(operators if len(operators) < 5 else [*operators[:2], "...", operators[-1]])
        named = tuple(label(node) for node in nodes)
        problem, sums = self._problems[name], self._sums.get(name)
        if problem or sums is None:
            return Drift(name, kind, named, math.nan, math.nan, problem=problem)
        return Drift(
            name,
            kind,
            named,
            snr_db(sums.energy, sums.accumulated),
            snr_db(sums.own_energy, sums.own),
            *sums.shares(),
        )


class _Read(Mapping[str, "np.ndarray"]):
    """What the float network's steps read: the 8-bit network's numbers, made of codes when they are asked for."""

    def __init__(self, batch: Arrays, names: Mapping[str, str], quantizations: Mapping[str, Codes]) -> None:
        self._batch, self._names, self._quantizations = batch, names, quantizations
        self._there: dict[str, tuple[np.ndarray, Codes | None, np.dtype[np.generic]]] = {}
        self.size = 0

    def add(self, name: str, real: np.ndarray, codes: np.ndarray) -> None:
        """Take in a tensor; where its codes have another shape, the float network's numbers have to do."""
        read = self._names.get(name)
        if read is not None:
            same = codes.shape == real.shape
            self._there[read] = (
                (codes, self._quantizations[name], real.dtype) if same else (real, None, real.dtype)
            )
        self.size += codes.nbytes

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._there:
            return self._batch[name]
        array, quantization, kind = self._there[name]
        return array if quantization is None else quantization.numbers(array, kind)

    def __contains__(self, name: object) -> bool:
        return name in self._there or name in self._batch

    def __iter__(self) -> Iterator[str]:
        return iter((*self._there, *self._batch))

    def __len__(self) -> int:
        return len(self._there) + len(self._batch)


def _problem(real: np.ndarray, codes: np.ndarray) -> str:
    """Say why codes cannot be compared with the float network's numbers."""
    if real.shape != codes.shape:
        return f"its shape is {codes.shape}, the float network's {real.shape}"
    return "" if np.isfinite(real).all() else "the float network's holds NaN or an infinity"
