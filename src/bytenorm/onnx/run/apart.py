"""Models that ONNX Runtime may die of run in a process of their own, so that this one gets an error instead.

ONNX Runtime 1.32 with two threads or more ends its process in an 8-bit Add or Mul (QLinearAdd, QLinearMul) of an
empty tensor. No other of its operators did, 8-bit or float: some thirty were tried with empty tensors of every
axis. A model that has such a node, whose result may be empty as far as can be told, runs apart; so does one with
what :mod:`bytenorm.onnx.graph.captured` is about. All others run here: a process takes half a second to start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime

from ..._errors import bad_value
from ..graph.captured import captured_behind_codes
from ..graph.graph import is_op
from ..model.soundness import Part, parts
from ..model.weightless import inferred_graph
from .other_process import OtherProcess, ProcessEndedError
from .session import custom_op_library, ready, session, session_for_a_pass

if TYPE_CHECKING:
    Model = onnx.ModelProto | str | os.PathLike[str]

_PASSED = (
    "intra_op_num_threads", "inter_op_num_threads", "graph_optimization_level", "execution_mode",
    "enable_cpu_mem_arena", "enable_mem_pattern", "enable_mem_reuse", "use_deterministic_compute",
)  # fmt: skip


@dataclass(frozen=True)
class End:
    """An input or output of a session."""

    name: str
    type: str
    shape: list[Any]


class Apart:
    """A session in another process: its ends, and what it makes of a feed.

    Parameters
    ----------
    model_or_path : onnx.ModelProto or path
    sess_options : onnxruntime.SessionOptions, optional
        Their numbers of threads, level of optimization and use of memory are taken over.

    Raises
    ------
    ValueError
        If ONNX Runtime cannot load the model, or dies of it.
    """

    def __init__(self, model_or_path: Model, sess_options: onnxruntime.SessionOptions | None = None) -> None:
        options = {} if sess_options is None else {name: _plain(getattr(sess_options, name)) for name in _PASSED}
        self._process = OtherProcess("onnxruntime")
        with ready(model_or_path, sess_options) as source:
            inputs, outputs = self._ask((sys.path, custom_op_library(), source, options))
        self._inputs, self._outputs = [End(*end) for end in inputs], [End(*end) for end in outputs]

    def get_inputs(self) -> list[End]:
        """Return what it is fed."""
        return self._inputs

    def get_outputs(self) -> list[End]:
        """Return what it makes."""
        return self._outputs

    def run(self, names: Sequence[str] | None, feed: Mapping[str, Any]) -> list[Any]:
        """Return outputs, as a session does."""
        made: list[Any] = self._ask((names, feed))
        return made

    def _ask(self, question: object) -> Any:
        try:
            return self._process.ask(question)
        except ProcessEndedError as end:
            raise ValueError(
                f"ONNX Runtime {onnxruntime.__version__} ended its process ({end}): "
                "it is known to do so in an 8-bit Add or Mul of an empty tensor, and where a branch or a loop "
                "reads what a Reshape or the like makes of codes"
            ) from None


def _plain(value: Any) -> Any:
    """Return a value that another process can read: of an enumeration its name and its value's."""
    return value if isinstance(value, bool | int) else (type(value).__name__, value.name)


def runner(
    model_or_path: Model, sess_options: onnxruntime.SessionOptions | None = None
) -> onnxruntime.InferenceSession | Apart:
    """Return a session, in another process if ONNX Runtime may die of the model."""
    if may_be_fatal(model_or_path):
        return Apart(model_or_path, sess_options)
    return session(model_or_path, sess_options)


def runner_for_a_pass(model: onnx.ModelProto) -> onnxruntime.InferenceSession | Apart:
    """Return what runs a model a few times, in another process if ONNX Runtime may die of it."""
    return Apart(model, None) if may_be_fatal(model) else session_for_a_pass(model, arena=True)


def run_session(
    made: onnxruntime.InferenceSession | Apart, names: Sequence[str] | None, batch: Mapping[str, Any], what: str
) -> list[Any]:
    """Return outputs of a session, all of them for None; `what` is what a ValueError calls the model."""
    if names is not None and not names:  # ONNX Runtime would return all
        return []
    try:
        outputs: list[Any] = made.run(names, batch)
    except Exception as error:  # ONNX Runtime has a class for each of its codes, without a common parent
        raise bad_value(what, f": ONNX Runtime cannot run it: {' '.join(str(error).split())}") from None
    return outputs


def require_survival(model_or_path: Model, feed: dict[str, Any], sess_options: onnxruntime.SessionOptions) -> None:
    """Raise ValueError if ONNX Runtime dies of a model, or of running it once; it runs apart if it may."""
    if may_be_fatal(model_or_path):
        Apart(model_or_path, sess_options).run(None, feed)


def may_be_fatal(model_or_path: Model) -> bool:
    """Say whether an 8-bit Add or Mul may make an empty tensor, or a branch or loop reads what was moved."""
    try:
        if isinstance(model_or_path, onnx.ModelProto):
            model = model_or_path
        else:
            model = onnx.load(model_or_path, load_external_data=False)
    except Exception:  # what is no model is refused by the session
        return False
    everything = [part for root in (model.graph, *model.functions) for part in parts(root)]
    if any(True for part in everything for _ in captured_behind_codes(part)):
        return True
    inner = everything[1:]
    if any(True for part in inner for _ in _sums(part)):
        return True  # what comes into a graph within a node is not known
    results = list(_sums(model.graph))
    return bool(results) and not set(results) <= _never_empty(model)


def _sums(part: Part) -> Iterator[str]:
    """Yield what the 8-bit Add and Mul nodes of a graph make, written out or as ONNX Runtime will join them."""
    makers = {output: node for node in part.node for output in node.output if output}
    codes = {node.input[0] for node in part.node if is_op(node, "QuantizeLinear") and node.input}
    for node in part.node:
        if node.op_type in ("QLinearAdd", "QLinearMul") or (
            is_op(node, "Add", "Mul")
            and codes.intersection(node.output)
            and any(is_op(makers.get(name), "DequantizeLinear") for name in node.input)
        ):
            yield from node.output


def _never_empty(model: onnx.ModelProto) -> set[str]:
    """Return the tensors whose dimensions are all above 0, or open ones of the inputs, for which there is data."""
    graph = inferred_graph(model)
    named = {dim.dim_param for value in graph.input for dim in value.type.tensor_type.shape.dim} - {""}
    found = set()
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(d.dim_value > 0 or d.dim_param in named for d in tensor.shape.dim):
            found.add(value.name)
    return found
