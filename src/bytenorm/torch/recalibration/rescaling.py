"""Scales of what a program quantizes beside its norms, by the numbers that come there in the 8-bit program."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..._outcomes import RecalibratedNorm
from ...calibration.qparams.binned import BinnedNumbers
from ...calibration.qparams.output_qparams import choose_for_numbers
from ..operators import tensor_checks as tensors
from ..pt2e.graph import arguments, open_program
from ..pt2e.running import Runner
from .activations import find_activations
from .sites import Reader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.fx import GraphModule

    from ...calibration.qparams.output_qparams import Method
    from ..pt2e.running import Part
    from .activations import Activation
    from .fitting import Progress

# Of fewer numbers nobody can tell which are rare: the network's last layers keep the range that they have.
FEWEST = 20_000


def keep(activation: Activation, problem: str = "") -> RecalibratedNorm:
    """Return that the scale of an activation stays what it is, and why."""
    given = arguments(activation.writers[0])
    scale, zero_point = given["scale"], given["zero_point"]
    known = isinstance(scale, float) and isinstance(zero_point, int)
    problem = activation.problem or problem
    return RecalibratedNorm(
        activation.name,
        None,
        False,
        scale if known else None,
        zero_point if known else None,
        problem=problem,
        kind="activation",
    )


def fit_activations(
    program: GraphModule, parts: Sequence[Part], method: Method, *, progress: Progress | None
) -> tuple[GraphModule, dict[str, RecalibratedNorm]]:
    """Return a program whose activations got scales by a method.

    Parameters
    ----------
    program : GraphModule
        Not changed.
    parts : list of Part
        Of the data.
    method : str
    progress : callable or None
        Called with the stage, how many parts are done, and how many there are.

    Returns
    -------
    GraphModule
    dict of str to RecalibratedNorm
        By the name of the first node that quantizes each.
    """
    copied = open_program(program)
    made: GraphModule = copied.finish()
    found = find_activations(copied)
    free = [one for one in found if not one.problem]
    numbers = {one.writers[0]: BinnedNumbers() for one in free}
    of = {writer: numbers[one.writers[0]] for one in free for writer in one.writers}
    runner = Runner(made)
    for done, part in enumerate(parts):
        if progress is not None:
            progress("activations: run", done, len(parts))
        for node, (env,) in runner.walk([part]):
            if node in of:
                of[node].add(runner.read(env, arguments(node)["input"]).float().numpy())
    outcomes = {one.writers[0].name: keep(one) for one in found}
    for one in free:
        outcomes[one.writers[0].name] = _fit(one, numbers[one.writers[0]], method)
    return copied.finish(), outcomes


def _fit(activation: Activation, numbers: BinnedNumbers, method: Method) -> RecalibratedNorm:
    if not numbers.is_finite:
        return keep(activation, "it is not finite on the data")
    if numbers.count < FEWEST:
        return keep(activation, f"{numbers.count} numbers on the data: {FEWEST} are needed to tell which are rare")
    if numbers.low == numbers.high == 0:
        return keep(activation, "it is zero on all of the data")
    given = arguments(activation.writers[0])
    kind = tensors.kind(given["dtype"], "dtype")
    middle = (kind.qmin + kind.qmax + 1) // 2  # a zero point there may be what a backend asks for: it stays
    best = choose_for_numbers(numbers.distribution(), kind, method, symmetric=given["zero_point"] == middle)
    for writer in activation.writers:
        Reader(writer, "scale", "zero_point", None).tell(*best)
    for reader in activation.readers:
        reader.tell(*best)
    scale, zero_point = best
    return replace(
        keep(activation), method=method, scale=scale, zero_point=zero_point, clipped=best.clipped, mse=best.mse
    )
