"""Lets the batch norms of a program that was quantized by export run in 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ..._errors import bad_value
from ..._outcomes import Outcome, warn_of, warn_of_none
from .graph import label, open_program, operator_name
from .norms import BATCH_NORM, find_norms
from .qparams import UnusableError, is_dequantize, is_quantize
from .surroundings import surroundings
from .write import write

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

    from .graph import Program
    from .norms import Norm

    AnyProgram = TypeVar("AnyProgram", GraphModule, ExportedProgram)


def lower(program: AnyProgram) -> AnyProgram:
    """Let the batch norms of a quantized program run in 8 bits.

    Every norm, with the relu, relu6, hardtanh or clamp behind it, that reads a dequantized tensor and is quantized
    itself becomes ``torch.ops.bytenorm.batch_norm`` on the codes. Where it reads the quantized concatenation or
    sum of quantized tensors, ``concat_batch_norm`` or ``add_batch_norm`` does both; the pieces of a concatenation
    are then not quantized once more to a common scale.

    Parameters
    ----------
    program : torch.fx.GraphModule or torch.export.ExportedProgram
        As ``convert_pt2e`` returns it, or exported from that. Not changed, its tensors are not copied. A program
        that was trained is moved to evaluation before (``move_exported_model_to_eval``).

    Returns
    -------
    torch.fx.GraphModule or torch.export.ExportedProgram
        What came. The parameters of norms that were lowered require no gradient any more.

    Warns
    -----
    LoweringWarning
        For each norm that stays as it is, and if there is none at all.

    Raises
    ------
    TypeError
        If this is no such program.
    ValueError
        If nothing in it is quantized.

    Examples
    --------
    >>> import torch
    >>> from torch.ao.quantization.fx import _decomposed  # what convert_pt2e writes
    >>> from bytenorm.torch import lower
    >>> class Normalized(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.norm = torch.nn.BatchNorm2d(3)
    ...     def forward(self, codes):
    ...         q = torch.ops.quantized_decomposed
    ...         x = q.dequantize_per_tensor(codes, 0.02, 128, 0, 255, torch.uint8)
    ...         return q.quantize_per_tensor(self.norm(x).relu(), 0.01, 0, 0, 255, torch.uint8)
    >>> codes = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    >>> made = lower(torch.export.export(Normalized().eval(), (codes,)))
    >>> [str(node.target) for node in made.graph.nodes if node.op == "call_function"]
    ['bytenorm.batch_norm.default']
    """
    made, outcomes = lower_with_report(program)
    warn_of(outcomes)
    if not outcomes and not any(operator_name(node) == BATCH_NORM for node in made.graph.nodes):
        warn_of_none("program")
    return made


def lower_with_report(program: AnyProgram) -> tuple[AnyProgram, tuple[Outcome, ...]]:
    """Do as :func:`lower`, and say what became of each norm instead of warning.

    Parameters
    ----------
    program : torch.fx.GraphModule or torch.export.ExportedProgram

    Returns
    -------
    program : torch.fx.GraphModule or torch.export.ExportedProgram
    outcomes : tuple of Outcome
        One for each batch norm, in the order of the program.

    Raises
    ------
    TypeError, ValueError
        As `lower`.

    Examples
    --------
    >>> import torch
    >>> from torch.ao.quantization.fx import _decomposed  # what convert_pt2e writes
    >>> from bytenorm.torch import lower_with_report
    >>> class Normalized(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.norm = torch.nn.BatchNorm2d(3)
    ...     def forward(self, codes):
    ...         q = torch.ops.quantized_decomposed
    ...         return self.norm(q.dequantize_per_tensor(codes, 0.02, 128, 0, 255, torch.uint8))
    >>> codes = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    >>> made, outcomes = lower_with_report(torch.export.export(Normalized().eval(), (codes,)))
    >>> outcomes[0].name, outcomes[0].problem
    ('norm', 'its output is not quantized')
    """
    copied = open_program(program)
    nodes = list(copied.graph.nodes)
    if not any(is_quantize(n) or is_dequantize(n) or operator_name(n) == BATCH_NORM for n in nodes):
        prepared = any(n.op == "call_module" and "activation_post_process" in str(n.target) for n in nodes)
        got = "one that is prepared (convert_pt2e" if prepared else "one in float (prepare_pt2e and convert_pt2e"
        raise bad_value("program", f"must be quantized, got {got} quantize{'s' * prepared})")
    outcomes = []
    for norm in find_norms(copied.graph):
        name, problem = norm_name(copied, norm), ""
        try:
            site = surroundings(copied, norm)
        except UnusableError as reason:
            problem = str(reason)
        else:
            write(copied, site)
        outcomes.append(Outcome(name, problem))
    for name, inside in copied.subgraphs():
        outcomes += [
            Outcome(label(norm.node), f"it is in the subgraph {name}") for norm in find_norms(inside.graph)
        ]
    return copied.finish(), tuple(outcomes)


def norm_name(program: Program, norm: Norm) -> str:
    """Return how messages call a norm: by the module that has its statistics, or by where it comes from."""
    path = program.name(norm.mean).rpartition(".")[0] if norm.mean is not None else ""
    return path or label(norm.node)
