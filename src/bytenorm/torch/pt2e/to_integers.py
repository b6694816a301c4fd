"""Writes the norms of a lowered program in torch's own operators, for devices and runtimes without ours."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from ..._errors import bad_value
from ..._norms.obstacles import of_parameter
from ..._outcomes import LoweringWarning
from ..operators import concat_and_add as _fused  # noqa: F401 - registers its operators
from ..operators import tensor_checks as checks
from ..operators.composite import NormConstants, SumConstants, in_bytes, read
from .graph import arguments, label, open_program, operator_name
from .qparams import UnusableError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from ..._norms.batch_norm import BatchNorm
    from .graph import Program

    AnyProgram = TypeVar("AnyProgram", GraphModule, ExportedProgram)

_NORM, _CONCAT, _ADD = (f"bytenorm::{name}" for name in ("batch_norm", "concat_batch_norm", "add_batch_norm"))
_REST = ("eps", "y_scale", "y_zero_point", "output_dtype", "relu")


def to_integers(program: AnyProgram) -> AnyProgram:
    """Write the norms of a lowered program in torch's own operators on integers, the same bits.

    Each becomes ``clamp((x * M + B) >> S)`` in int32, with three constants a channel that are proved for all 256
    inputs (see `bytenorm.BatchNorm.to_integers`). A channel that has none reads a table of its codes. The clamped
    result becomes bytes by way of float32, which compiles to faster code; where channels lie side by side, the
    constants are kept as the bytes of float32 for the same reason. Concatenations and sums are written out as
    well. The result runs wherever torch does, without bytenorm, and `torch.compile` fuses it with its neighbours.
    On a CPU the operators that `lower` writes are faster.

    Parameters
    ----------
    program : torch.fx.GraphModule or torch.export.ExportedProgram
        As `lower` returns it. Not changed, its tensors are not copied.

    Returns
    -------
    torch.fx.GraphModule or torch.export.ExportedProgram
        What came.

    Warns
    -----
    LoweringWarning
        For each norm that stays as it is.

    Raises
    ------
    TypeError
        If this is no such program.
    ValueError
        If it has no norms in 8 bits.

    Examples
    --------
    >>> import torch
    >>> from bytenorm.torch import to_integers
    >>> class Normalized(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.register_buffer("mean", torch.tensor([3.0]))
    ...         self.register_buffer("var", torch.tensor([4.0]))
    ...     def forward(self, x):
    ...         return torch.ops.bytenorm.batch_norm(
    ...             x, 0.9, 0, None, None, self.mean, self.var, 1e-5, 0.5, 10, torch.uint8, False
    ...         )
    >>> codes = torch.tensor([[[1, 3, 9]]], dtype=torch.uint8)
    >>> made = to_integers(torch.export.export(Normalized(), (codes,)))
    >>> [str(n.target) for n in made.graph.nodes if n.op == "call_function"][1:4]
    ['aten.mul.Tensor', 'aten.add.Tensor', 'aten.bitwise_right_shift.Tensor']
    >>> torch.equal(made.module()(codes), Normalized()(codes))
    True
    """
    copied = open_program(program)
    found = [node for node in copied.graph.nodes if operator_name(node) in (_NORM, _CONCAT, _ADD)]
    inside = [
        (name, node)
        for name, graph in copied.subgraphs()
        for node in graph.graph.nodes
        if operator_name(node) in (_NORM, _CONCAT, _ADD)
    ]
    if not found and not inside:
        raise bad_value("program", "must have norms in 8 bits, as lower returns it, got one without")
    problems = [(node, f"it is in the subgraph {name}") for name, node in inside]
    for node in found:
        try:
            _replace(copied, node)
        except UnusableError as reason:
            problems.append((node, str(reason)))
    for node, problem in problems:
        message = f"{label(node)} stays {operator_name(node).replace('::', '.')}: {problem}"
        warnings.warn(message, LoweringWarning, stacklevel=2)
    return copied.finish()  # type: ignore[no-any-return]


def _replace(program: Program, node: Node) -> None:
    """Put torch's operators in the place of one of ours."""
    given, name = arguments(node), operator_name(node)
    norm = _norm(program, given)
    write = _Writer(program, node)
    try:
        if name == _NORM:
            made = {None: _norm_of(write, norm, given)}
        elif name == _CONCAT:
            made = {None: _concatenation(write, norm, given)}
        else:
            made = _sum(write, norm, given)
    except (TypeError, ValueError) as error:  # what the operator refuses when it runs
        raise UnusableError(str(error)) from None
    for reader in list(node.users) if name == _ADD else [node]:
        replacement = made[reader.args[1] if name == _ADD else None]  # type: ignore[index]
        reader.replace_all_uses_with(replacement)
        program.replaced(reader, replacement)
        program.graph.erase_node(reader)
    if name == _ADD:
        program.graph.erase_node(node)
    for source in {id(v): v for v in given.values() if isinstance(v, Node)}.values():
        if source.op == "get_attr" and not source.users:
            program.graph.erase_node(source)


def _norm_of(write: _Writer, norm: BatchNorm, given: dict[str, Any]) -> Node:
    x = given["x"]
    source = [given["x_scale"], given["x_zero_point"]]
    for i, what in enumerate(("x_scale", "x_zero_point")):
        if isinstance(source[i], Node):
            source[i] = _constant(write.program, source[i], what).numpy()
    return write.norm(x, NormConstants.of(norm, source[0], source[1], checks.kind(_traced(x).dtype, "x")))


def _concatenation(write: _Writer, norm: BatchNorm, given: dict[str, Any]) -> Node:
    pieces = given["pieces"]
    widths = [_traced(piece).shape[1] for piece in pieces]
    if not all(isinstance(width, int) for width in widths):
        raise UnusableError("its pieces' channels are not fixed")
    scales, zero_points = ([v for v, n in zip(given[k], widths, strict=True) for _ in range(n)]
                           for k in ("scales", "zero_points"))  # fmt: skip
    constants = NormConstants.of(norm, scales, zero_points, checks.kind(_traced(pieces[0]).dtype, "pieces[0]"))
    parts, start = [], 0
    for piece, width in zip(pieces, widths, strict=True):
        parts.append(write.norm(piece, constants, start, start + width))
        start += width
    return write(torch.ops.aten.cat.default, parts, 1)


def _sum(write: _Writer, norm: BatchNorm, given: dict[str, Any]) -> dict[Any, Node]:
    a, b = given["a"], given["b"]
    kind = checks.kind(_traced(a).dtype, "a")
    first, second, total = ((given[f"{k}_scale"], given[f"{k}_zero_point"]) for k in ("a", "b", "sum"))
    made = SumConstants.of(kind, first, second, total)
    summed = made.apply(a, b, write, None if made.table is None else write.tensor("sums", made.table))
    return {0: write.norm(summed, NormConstants.of(norm, *total, kind)), 1: summed}


class _Writer:
    """Adds operators in front of the node whose place they take."""

    def __init__(self, program: Program, node: Node) -> None:
        self.program = program
        self._node = node
        self._device = _traced(node if operator_name(node) != _ADD else node.args[0]).device

    def __call__(self, target: Any, *given: Any) -> Node:
        with self.program.graph.inserting_before(self._node):
            made = self.program.graph.call_function(target, given)
        made.meta = {k: v for k, v in self._node.meta.items() if k not in ("val", "tensor_meta")}
        with torch.no_grad():
            made.meta["val"] = target(*map_arg(given, lambda node: node.meta["val"]))
        return made

    def tensor(self, name: str, value: torch.Tensor) -> Node:
        like = next(node for node in self._node.all_input_nodes if "val" in node.meta)
        own = value.to(self._device, copy=True)  # parts of one tensor would be saved as slices
        return self.program.add_tensor(f"{self._node.name}_{name}", own, like)

    def norm(self, x: Node, constants: NormConstants, start: int = 0, stop: int | None = None) -> Node:
        traced = _traced(x)
        vectors = constants.placed(traced.dim(), None, start, stop)
        apart = traced.stride(1)  # a symbol is not asked whether it is 1, which would settle it
        packed = in_bytes(vectors) if isinstance(apart, int) and apart == 1 else None
        nodes = {} if packed is None else read(self.tensor("constants", packed), self)
        nodes |= {name: self.tensor(name, v) for name, v in vectors.items() if name not in nodes}
        made: Node = constants.apply(x, nodes, self)
        return made


def _norm(program: Program, given: dict[str, Any]) -> BatchNorm:
    vectors = [None if given[name] is None else _constant(program, given[name], name) for name in checks.VECTORS]
    if any(isinstance(given[name], Node) for name in _REST):
        raise UnusableError("its numbers are computed")
    try:
        rest = [given[name] for name in _REST]
        return checks.norm(vectors[0], vectors[1], vectors[2], vectors[3], *rest)
    except (TypeError, ValueError) as error:
        raise UnusableError(str(error)) from None


def _constant(program: Program, node: Node, name: str) -> torch.Tensor:
    value = program.tensor(node)
    if value is None:
        raise UnusableError(of_parameter(name))
    return value.detach().cpu()


def _traced(node: Any) -> torch.Tensor:
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        raise UnusableError("the shape of its input was not noted: export the program again")
    return value
