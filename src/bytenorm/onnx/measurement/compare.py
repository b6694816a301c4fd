"""Runs two models on the same data and compares their outputs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import onnx

from ..._errors import Argument, bad_value
from ..data.dataset import open_data
from ..model.files import load_model
from ..run.apart import run_session, runner
from .differences import Differences

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..data.batch_axes import BatchAxes
    from .comparison import Comparison


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
    >>> from bytenorm.onnx import compare
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


def require_same_inputs(reference: Any, candidate: Any) -> None:
    """Refuse sessions that are not fed the same."""
    wanted, got = ({i.name: i.type for i in made.get_inputs()} for made in (reference, candidate))
    if wanted != got:
        came = f", {_listed(wanted)}, got {_listed(got)}"
        raise bad_value("candidate", "must have the inputs of ", Argument("reference"), came)


def _listed(inputs: dict[str, str]) -> str:
    return ", ".join(f"{name!r} {kind}" for name, kind in inputs.items()) or "none"


def candidate_order(reference: list[str], candidate: list[str]) -> list[int]:
    """Return for each output of the reference the position of the candidate's."""
    if len(reference) != len(candidate):
        raise bad_value(
            "candidate",
            "must have as many outputs as ",
            Argument("reference"),
            f", {len(reference)}, got {len(candidate)}: {candidate} for {reference}",
        )
    if set(reference) == set(candidate):
        return [candidate.index(name) for name in reference]
    for position, name in enumerate(reference):
        if name in candidate and candidate[position] != name:
            raise bad_value(
                "candidate",
                "must have the outputs of ",
                Argument("reference"),
                f" by name or by position, {reference}, got {candidate}",
            )
    return list(range(len(reference)))
