"""The norms and layers of an 8-bit program: what surrounds them, who is told a scale, and how they are changed."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from ..._norms.batch_norm import BatchNorm
from ..._norms.obstacles import of_parameter
from ..._outcomes import RecalibratedNorm
from ..operators import tensor_checks as tensors
from ..pt2e.graph import arguments, free_name, label, operator_name, original
from ..pt2e.norms import BATCH_NORM
from ..pt2e.qparams import UnusableError

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from ..pt2e.graph import Program

CONCAT = "bytenorm::concat_batch_norm"
ADD = "bytenorm::add_batch_norm"
NORMS = {BATCH_NORM, CONCAT, ADD}
QUANTIZE = "quantized_decomposed::quantize_per_tensor"
DEQUANTIZE = "quantized_decomposed::dequantize_per_tensor"

# What reads codes: the arguments that are the codes, their scale and their zero point.
READERS = {
    DEQUANTIZE: (("input", "scale", "zero_point"),),
    BATCH_NORM: (("x", "x_scale", "x_zero_point"),),
    CONCAT: (("pieces", "scales", "zero_points"),),
    ADD: (("a", "a_scale", "a_zero_point"), ("b", "b_scale", "b_zero_point")),
}
# What gives only codes, or numbers, that it was given; a pool takes the largest, which is the largest of both.
MOVERS = {
    "aten::" + name
    for name in (
        "alias", "clone", "contiguous", "detach", "expand", "flatten", "max_pool1d", "max_pool2d", "max_pool3d",
        "permute", "reshape", "select", "slice", "squeeze", "t", "transpose", "unflatten", "unsqueeze", "view",
    )
}  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A node that is told the scale and zero point of a norm's codes: in these arguments, or entries of them."""

    node: Node
    scale: str
    zero_point: str
    at: int | None

    def has(self) -> tuple[Any, Any]:
        """Return what it is told now."""
        given = arguments(self.node)
        scale, zero_point = given[self.scale], given[self.zero_point]
        return (scale, zero_point) if self.at is None else (scale[self.at], zero_point[self.at])

    def tell(self, scale: float, zero_point: int) -> None:
        """Tell it something else."""
        given = arguments(self.node)
        for name, value in ((self.scale, scale), (self.zero_point, zero_point)):
            entries = given[name]
            if self.at is not None:
                entries = [*entries[: self.at], value, *entries[self.at + 1 :]]
            put(self.node, name, value if self.at is None else entries)


@dataclass(frozen=True)
class Site:
    """A norm in 8 bits, and who reads its codes; empty `problem` if all of them can be told another scale."""

    name: str
    node: Node
    norm: BatchNorm
    readers: tuple[Reader, ...]
    problem: str


def find_site(program: Program, node: Node, outcomes: dict[Node, RecalibratedNorm]) -> Site | None:
    """Return what surrounds a norm, and put down that it stays what it is; None if no more can be done."""
    given = arguments(node)
    path = program.name(original(given["mean"])).rpartition(".")[0]
    name = path or label(node)
    try:
        vectors = [_constant(program, given[which], which) for which in tensors.VECTORS]
    except UnusableError as reason:
        outcomes[node] = unchanged(name, node, str(reason))
        return None
    norm = BatchNorm(
        *vectors,
        eps=given["eps"],
        output_scale=given["y_scale"],
        output_zero_point=given["y_zero_point"],
        output_dtype=tensors.kind(given["output_dtype"], "output_dtype"),
        relu=given["relu"],
    )
    try:
        readers, problem = _readers(node), ""
    except UnusableError as reason:
        readers, problem = (), str(reason)
    outcomes[node] = unchanged(name, node, problem)
    return Site(name, node, norm, readers, problem)


def unchanged(name: str, node: Node, problem: str) -> RecalibratedNorm:
    """Return that a norm stays what it is, and why."""
    given = arguments(node)
    return RecalibratedNorm(name, None, False, given["y_scale"], given["y_zero_point"], problem=problem)


def _constant(program: Program, node: Node | None, name: str) -> Any:
    if node is None:
        return None
    value = program.tensor(node)
    if value is None:
        raise UnusableError(of_parameter(name))
    return tensors.array(value, name)


def _readers(norm: Node) -> tuple[Reader, ...]:
    """Return everything that is told the scale of a norm's codes; raise the reason if something else reads them.

    Where the numbers of the codes go to nothing but a maximum or another shape and are quantized as the codes
    were, as quantizers write pools, they are codes again, of the same scale.
    """
    given = arguments(norm)
    dtype, now = given["output_dtype"], (given["y_scale"], given["y_zero_point"])
    found: dict[Reader, None] = {}
    pending = [(codes, True) for codes in _codes(norm)]
    while pending:
        value, coded = pending.pop()
        for reader in value.users:
            name = operator_name(reader)
            if name in MOVERS:
                pending.append((reader, coded))
            elif coded:
                found.update(dict.fromkeys(told_alike(reader, value, now, dtype)))
                if name == DEQUANTIZE:
                    pending.append((reader, False))
            elif name == QUANTIZE:
                again = Reader(reader, "scale", "zero_point", None)
                if again.has() == now and arguments(reader)["dtype"] == dtype:
                    require_all_codes(reader, dtype)
                    found[again] = None
                    pending.append((reader, True))
    return tuple(found)


def _codes(norm: Node) -> list[Node]:
    """Return the nodes that have the codes that a norm makes."""
    if operator_name(norm) != ADD:
        return [norm]
    for user in norm.users:
        if user.target is not operator.getitem:
            raise UnusableError(f"what it makes is read by {label(user)}")
    return [user for user in norm.users if user.args[1] == 0]


def told_alike(reader: Node, codes: Node, now: tuple[Any, Any], dtype: torch.dtype) -> list[Reader]:
    """Return in which arguments a node is told the scale of codes; raise the reason if it is told another one."""
    found = _told(reader, codes)
    if any(one.has() != now for one in found):
        raise UnusableError(f"its codes are read with another scale, by {label(reader)}")
    if operator_name(reader) == DEQUANTIZE:
        require_all_codes(reader, dtype)
    return found


def _told(reader: Node, codes: Node) -> list[Reader]:
    """Return in which arguments a node is told the scale of codes that it reads."""
    name, given = operator_name(reader), arguments(reader)
    if reader.op == "output":
        raise UnusableError("its codes are an output of the program")
    if name == "aten::clamp":
        raise UnusableError("its codes are clamped")
    if name not in READERS:
        raise UnusableError(f"its codes are read by {name or label(reader)}, which knows no scale")
    found = []
    for which, scale, zero_point in READERS[name]:
        if name == CONCAT:
            found += [Reader(reader, scale, zero_point, i) for i, x in enumerate(given[which]) if x is codes]
        elif given[which] is codes:
            if isinstance(given[scale], Node) or isinstance(given[zero_point], Node):
                raise UnusableError(f"{label(reader)} has its scale in a tensor")
            found.append(Reader(reader, scale, zero_point, None))
    return found


def require_all_codes(node: Node, dtype: torch.dtype) -> None:
    """Raise the reason if a node quantizes, or dequantizes, to a part of the codes alone."""
    given, limits = arguments(node), torch.iinfo(dtype)
    lowest, highest = given["quant_min"], given["quant_max"]
    if (lowest, highest) != (limits.min, limits.max):
        raise UnusableError(f"it is quantized to a part of the codes, {lowest} to {highest}")


def give(module: GraphModule, program: Program, norm: Node, which: str, value: torch.Tensor) -> None:
    """Let a norm or layer have another vector; whoever else reads the old one keeps it."""
    graph, old = program.graph, arguments(norm)[which]
    if old is None:
        put(norm, which, program.add_tensor(f"{norm.name}_{which}", value, norm))
        return
    source = original(old)
    shared = program.tensor(source)
    names = [str(node.target) for node in graph.nodes if node.op == "get_attr" and program.tensor(node) is shared]
    alone = len(names) == 1 and len(source.users) == 1 and len(old.users) == 1
    name = str(source.target) if alone else free_name(f"{norm.name}_{which}", lambda n: hasattr(module, n))
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    parameter = isinstance(shared, torch.nn.Parameter)
    if alone:
        delattr(owner, leaf)
    if parameter:
        owner.register_parameter(leaf, torch.nn.Parameter(value, requires_grad=False))
    else:
        owner.register_buffer(leaf, value)
    with graph.inserting_before(norm):
        node = graph.get_attr(name)
    node.meta = dict(source.meta)
    put(norm, which, node)
    while not old.users:  # and what handed it on
        before = old.all_input_nodes
        graph.erase_node(old)
        if not before:
            break
        old = before[0]


def put(node: Node, name: str, value: Any) -> None:
    """Give a node another argument."""
    at = list(arguments(node)).index(name)
    if at < len(node.args):
        node.update_arg(at, value)
    else:
        node.update_kwarg(name, value)
