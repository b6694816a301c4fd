"""Norms that fit the 8-bit program they are in: their own output scales and statistics, level by level.

What a norm reads depends on the norms before it. So norms are taken by level: those that depend on no other norm
first, then those that depend on these, each measured behind norms that are what they will be. A new scale is
written wherever the codes are read.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node
from torch.utils._pytree import arg_tree_leaves

from .. import _checks
from ..batch_norm import BatchNorm
from ..calibration import ChannelStatistics, choose_output_qparams
from ..calibration import arguments as calibration_arguments
from ..calibration.reestimation import reestimate as reestimated
from ..tensor import QuantizedTensor
from . import arguments as tensors
from .graph import arguments, changes_in_place, label, open_program, operator_name, original
from .qparams import UnusableError

if TYPE_CHECKING:
    from ..calibration.output_qparams import Method
    from .graph import Program

Progress = Callable[[str, int, int], None]

_BATCH_NORM = "bytenorm::batch_norm"
_CONCAT = "bytenorm::concat_batch_norm"
_ADD = "bytenorm::add_batch_norm"
_NORMS = {_BATCH_NORM, _CONCAT, _ADD}
_QUANTIZE = "quantized_decomposed::quantize_per_tensor"
_DEQUANTIZE = "quantized_decomposed::dequantize_per_tensor"

# What reads codes: the arguments that are the codes, their scale and their zero point.
_READERS = {
    _DEQUANTIZE: (("input", "scale", "zero_point"),),
    _BATCH_NORM: (("x", "x_scale", "x_zero_point"),),
    _CONCAT: (("pieces", "scales", "zero_points"),),
    _ADD: (("a", "a_scale", "a_zero_point"), ("b", "b_scale", "b_zero_point")),
}
# What gives only codes, or numbers, that it was given; a pool takes the largest, which is the largest of both.
_MOVERS = {
    "aten::" + name
    for name in (
        "alias", "clone", "contiguous", "detach", "expand", "flatten", "max_pool1d", "max_pool2d", "max_pool3d",
        "permute", "reshape", "select", "slice", "squeeze", "t", "transpose", "unflatten", "unsqueeze", "view",
    )
}  # fmt: skip


@dataclass(frozen=True)
class RecalibratedNorm:
    """What a norm got from the data.

    Attributes
    ----------
    name : str
    method : str or None
        How the scale and the zero point of its output were chosen; None: they are what they were.
    reestimated : bool
        Whether it has the mean and the variance of its input now.
    scale : float
        Of its output, in real units.
    zero_point : int
    clipped : float or None
        The share of its outputs on the data that lie more than half a step beyond the last code; None where
        nothing was chosen.
    mse : float or None
        The mean squared error of its quantized output, in real units squared; None where nothing was chosen.
    problem : str
        Why its scale, or all of it, had to stay what it was; empty if nothing had to.
    """

    name: str
    method: str | None
    reestimated: bool
    scale: float
    zero_point: int
    clipped: float | None = None
    mse: float | None = None
    problem: str = ""


def recalibrate(
    program: GraphModule,
    data: Iterable[Any],
    *,
    method: Method | None = "mse",
    reestimate: bool = False,
    progress: Progress | None = None,
) -> tuple[GraphModule, tuple[RecalibratedNorm, ...]]:
    """Choose the norms' output scales and statistics anew, by what comes to them in the 8-bit program.

    Calibration of the export flow observes a program in float. This runs the lowered one, counts the codes that
    come to each norm exactly, and takes the best scale and zero point for what the norm makes of them. They are
    written into the norm and into everything that reads its codes.

    Parameters
    ----------
    program : torch.fx.GraphModule
        As `lower` returns it. Not changed; tensors that stay the same are not copied.
    data : list of inputs
        Each a tensor, or a tuple or list of what the program is called with. Gone through once for each level of
        norms, so no iterator.
    method : {"mse", "minmax", "percentile", "entropy"}, optional
        As in `bytenorm.calibration.choose_output_qparams`. None keeps scales and zero points.
    reestimate : bool, optional
        Whether norms get the mean and the variance of their inputs (`bytenorm.calibration.reestimate`).
    progress : callable, optional
        Called with the stage, how many batches of it are done, and how many there are.

    Returns
    -------
    program : torch.fx.GraphModule
    recalibrated : tuple of RecalibratedNorm
        One for each norm that runs in 8 bits, in the order of the program. One whose codes are clamped, are an
        output of the program or are read by what knows no scale keeps its scale, and has a `problem`.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If no norm of the program runs in 8 bits, there is no data or the program cannot run it, `method` is
        unknown, nothing is to be done, or the data tells no variance of a norm's input.

    Examples
    --------
    >>> import torch
    >>> from torch.ao.quantization.fx import _decomposed  # what convert_pt2e writes
    >>> from bytenorm.torch import lower, recalibrate
    >>> class Normalized(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.norm = torch.nn.BatchNorm2d(3)
    ...     def forward(self, codes):
    ...         q = torch.ops.quantized_decomposed
    ...         x = q.dequantize_per_tensor(codes, 0.02, 128, 0, 255, torch.uint8)
    ...         y = q.quantize_per_tensor(self.norm(x), 1.0, 0, 0, 255, torch.uint8)
    ...         return q.dequantize_per_tensor(y, 1.0, 0, 0, 255, torch.uint8)
    >>> codes = torch.arange(96, dtype=torch.uint8).reshape(2, 3, 4, 4)
    >>> lowered = lower(torch.export.export(Normalized().eval(), (codes,)).module())
    >>> better, (norm,) = recalibrate(lowered, [codes])
    >>> norm.name, round(norm.scale, 3), norm.clipped  # the codes of the input came from one of 0.02
    ('norm', 0.02, 0.0)
    """
    if isinstance(program, ExportedProgram):
        raise TypeError(
            "program must be a torch.fx.GraphModule, got an ExportedProgram: give its .module(), "
            "or recalibrate before exporting"
        )
    if not isinstance(program, GraphModule):
        raise TypeError(
            f"program must be a torch.fx.GraphModule, as lower returns it, got {type(program).__name__}"
        )
    if method is not None:
        calibration_arguments.method(method)
    fresh = _checks.flag(reestimate, "reestimate")
    if method is None and not fresh:
        raise ValueError("method must be given where reestimate is False, got None: there is nothing to do")
    batches = _batches(data)

    copied = open_program(program)
    made: GraphModule = copied.finish()
    inside = [
        (label(node), f"it is in the subgraph {name}", node)
        for name, module in copied.subgraphs()
        for node in module.graph.nodes
        if operator_name(node) in _NORMS
    ]
    order = _levels(copied.graph)
    if not order and not inside:
        raise ValueError("program: wanted one with norms in 8 bits, got one without (lower makes them)")
    outcomes: dict[Node, RecalibratedNorm] = {}
    for number, level in enumerate(order, 1):
        sites = [site for node in level if (site := _site(copied, node, outcomes)) is not None]
        chosen = [site for site in sites if fresh or not site.problem]
        counted = _gather(made, chosen, batches, f"norms {number}/{len(order)}: run", progress)
        for site, statistics in zip(chosen, counted, strict=True):
            outcomes[site.node] = _fit(made, copied, site, statistics, method, fresh=fresh)
        made = copied.finish()
    found = [outcomes[node] for node in copied.graph.nodes if node in outcomes]
    found += [_unchanged(name, node, why) for name, why, node in inside]
    return made, tuple(found)


def _batches(data: Any) -> Any:
    """Refuse what cannot be gone through more than once."""
    if isinstance(data, torch.Tensor | str | bytes | dict):
        raise TypeError(f"data must be a list of inputs, got {type(data).__name__}")
    if not isinstance(data, Iterable) or not isinstance(data, Sized) or iter(data) is data:
        raise TypeError(
            "data must be a list, or what else has a length and can be gone through more than once, "
            f"got {type(data).__name__}"
        )
    if len(data) == 0:
        raise ValueError("data must hold at least one input, got none")
    return data


def _levels(graph: Graph) -> list[list[Node]]:
    """Return norms by how many norms, one behind the other, come before them."""
    depths: dict[Node, int] = {}
    levels: dict[int, list[Node]] = {}
    for node in graph.nodes:
        depth = max((depths[before] for before in node.all_input_nodes), default=0)
        if operator_name(node) in _NORMS:
            levels.setdefault(depth, []).append(node)
            depth += 1
        depths[node] = depth
    return [levels[depth] for depth in sorted(levels)]


# What surrounds a norm


@dataclass(frozen=True)
class _Reader:
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
            _set(self.node, name, value if self.at is None else entries)


@dataclass(frozen=True)
class _Site:
    """A norm in 8 bits, and who reads its codes; empty `problem` if all of them can be told another scale."""

    name: str
    node: Node
    norm: BatchNorm
    readers: tuple[_Reader, ...]
    problem: str


def _site(program: Program, node: Node, outcomes: dict[Node, RecalibratedNorm]) -> _Site | None:
    """Return what surrounds a norm, and put down that it stays what it is; None if no more can be done."""
    given = arguments(node)
    path = program.name(original(given["mean"])).rpartition(".")[0]
    name = path or label(node)
    try:
        vectors = [_constant(program, given[which], which) for which in tensors.VECTORS]
    except UnusableError as reason:
        outcomes[node] = _unchanged(name, node, str(reason))
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
    outcomes[node] = _unchanged(name, node, problem)
    return _Site(name, node, norm, readers, problem)


def _unchanged(name: str, node: Node, problem: str) -> RecalibratedNorm:
    given = arguments(node)
    return RecalibratedNorm(name, None, False, given["y_scale"], given["y_zero_point"], problem=problem)


def _constant(program: Program, node: Node | None, name: str) -> Any:
    if node is None:
        return None
    value = program.tensor(node)
    if value is None:
        raise UnusableError(f"its {name} is not constant")
    return tensors.array(value, name)


def _readers(norm: Node) -> tuple[_Reader, ...]:
    """Return everything that is told the scale of a norm's codes; raise the reason if something else reads them.

    Where the numbers of the codes go to nothing but a maximum or another shape and are quantized as the codes
    were, as quantizers write pools, they are codes again, of the same scale.
    """
    given = arguments(norm)
    dtype, now = given["output_dtype"], (given["y_scale"], given["y_zero_point"])
    found: dict[_Reader, None] = {}
    pending = [(codes, True) for codes in _codes(norm)]
    while pending:
        value, coded = pending.pop()
        for reader in value.users:
            name = operator_name(reader)
            if name in _MOVERS:
                pending.append((reader, coded))
            elif coded:
                for one in _told(reader, value):
                    if one.has() != now:
                        raise UnusableError(f"its codes are read with another scale, by {label(reader)}")
                    found[one] = None
                if name == _DEQUANTIZE:
                    _require_all_codes(reader, dtype)
                    pending.append((reader, False))
            elif name == _QUANTIZE:
                again = _Reader(reader, "scale", "zero_point", None)
                if again.has() == now and arguments(reader)["dtype"] == dtype:
                    _require_all_codes(reader, dtype)
                    found[again] = None
                    pending.append((reader, True))
    return tuple(found)


def _codes(norm: Node) -> list[Node]:
    """Return the nodes that have the codes that a norm makes."""
    if operator_name(norm) != _ADD:
        return [norm]
    for user in norm.users:
        if user.target is not operator.getitem:
            raise UnusableError(f"what it makes is read by {label(user)}")
    return [user for user in norm.users if user.args[1] == 0]


def _told(reader: Node, codes: Node) -> list[_Reader]:
    """Return in which arguments a node is told the scale of codes that it reads."""
    name, given = operator_name(reader), arguments(reader)
    if reader.op == "output":
        raise UnusableError("its codes are an output of the program")
    if name == "aten::clamp":
        raise UnusableError("its codes are clamped")
    if name not in _READERS:
        raise UnusableError(f"its codes are read by {name or label(reader)}, which knows no scale")
    found = []
    for which, scale, zero_point in _READERS[name]:
        if name == _CONCAT:
            found += [_Reader(reader, scale, zero_point, i) for i, x in enumerate(given[which]) if x is codes]
        elif given[which] is codes:
            if isinstance(given[scale], Node) or isinstance(given[zero_point], Node):
                raise UnusableError(f"{label(reader)} has its scale in a tensor")
            found.append(_Reader(reader, scale, zero_point, None))
    return found


def _require_all_codes(node: Node, dtype: torch.dtype) -> None:
    given, limits = arguments(node), torch.iinfo(dtype)
    lowest, highest = given["quant_min"], given["quant_max"]
    if (lowest, highest) != (limits.min, limits.max):
        raise UnusableError(f"it is quantized to a part of the codes, {lowest} to {highest}")


# Counting


def _gather(
    module: GraphModule, sites: list[_Site], data: Any, stage: str, progress: Progress | None
) -> list[ChannelStatistics]:
    """Run a program on all data, up to some norms, and count what comes to them."""
    if not sites:
        return []
    runner = _cut(module, [site.node for site in sites])
    wanted = sum(node.op == "placeholder" for node in runner.graph.nodes)
    gathered: list[list[ChannelStatistics]] = [[] for _ in sites]
    for done, batch in enumerate(data):
        if progress is not None:
            progress(stage, done, len(data))
        inputs = _inputs(batch, done, wanted)
        try:
            with torch.no_grad():
                read = runner(*inputs)
        except Exception as error:  # whatever the operators of a program raise
            why = " ".join(str(error).split())
            raise ValueError(f"data: the program cannot run item {done}: {why}") from None
        for pieces, counts in zip(read, gathered, strict=True):
            if not counts:
                counts += [ChannelStatistics(codes.shape[1]) for codes, *_ in pieces]
            for (codes, *qparams), statistics in zip(pieces, counts, strict=True):
                scale, zero_point = (tensors.array(value, "x_scale") for value in qparams)
                axis = 1 if isinstance(scale, np.ndarray) else None
                statistics.update(QuantizedTensor(codes.numpy(), scale, zero_point, axis), axis=1)
    return [ChannelStatistics.concatenate(counts) for counts in gathered]


def _inputs(batch: Any, number: int, wanted: int) -> list[Any]:
    if not isinstance(batch, torch.Tensor | tuple | list):
        raise TypeError(f"data must hold tensors or tuples of inputs, got {type(batch).__name__} as item {number}")
    inputs = [batch] if isinstance(batch, torch.Tensor) else arg_tree_leaves(*batch)
    if len(inputs) != wanted:
        raise ValueError(f"data: the program takes {wanted} inputs, item {number} has {len(inputs)}")
    return inputs


def _cut(module: GraphModule, norms: list[Node]) -> GraphModule:
    """Return a program that gives what norms read: for each, codes, scale and zero point of each piece."""
    graph, copies = Graph(), dict[Node, Node]()
    graph.graph_copy(module.graph, copies)
    graph.output([_read(graph, copies[norm]) for norm in norms])
    made = GraphModule(module, graph)
    made.graph.eliminate_dead_code()
    made.recompile()
    constants = (node for node in made.graph.nodes if node.op == "get_attr")
    if any(changes_in_place(user, node) for node in constants for user in node.users):
        return copy.deepcopy(made)  # a run must not change what the given program has
    return made


def _read(graph: Graph, norm: Node) -> list[Any]:
    given, name = arguments(norm), operator_name(norm)
    if name == _BATCH_NORM:
        return [(given["x"], given["x_scale"], given["x_zero_point"])]
    if name == _CONCAT:
        return list(zip(given["pieces"], given["scales"], given["zero_points"], strict=True))
    total = graph.call_function(operator.getitem, (norm, 1))
    return [(total, given["sum_scale"], given["sum_zero_point"])]


# Writing


def _fit(
    module: GraphModule,
    program: Program,
    site: _Site,
    statistics: ChannelStatistics,
    method: Method | None,
    *,
    fresh: bool,
) -> RecalibratedNorm:
    """Give a norm what its statistics say."""
    norm, made = site.norm, _unchanged(site.name, site.node, site.problem)
    if fresh:
        try:
            norm = reestimated(norm, statistics)
        except ValueError as error:
            raise ValueError(f"reestimate: the norm {site.name}: {error}") from None
        for which in ("mean", "var"):
            _give(module, program, site.node, which, torch.from_numpy(getattr(norm, which).copy()))
        made = replace(made, reestimated=True)
    if method is None or site.problem:
        return made if method is not None else replace(made, problem="")
    try:
        best = choose_output_qparams(norm, statistics, method=method)
    except ValueError as error:
        raise ValueError(f"method: the norm {site.name}: {error}") from None
    scale, zero_point = best
    for reader in (_Reader(site.node, "y_scale", "y_zero_point", None), *site.readers):
        reader.tell(scale, zero_point)
    return replace(made, method=method, scale=scale, zero_point=zero_point, clipped=best.clipped, mse=best.mse)


def _give(module: GraphModule, program: Program, norm: Node, which: str, value: torch.Tensor) -> None:
    """Let a norm have another vector; whoever else reads the old one keeps it."""
    graph, old = program.graph, arguments(norm)[which]
    source = original(old)
    shared = program.tensor(source)
    names = [str(node.target) for node in graph.nodes if node.op == "get_attr" and program.tensor(node) is shared]
    alone = len(names) == 1 and len(source.users) == 1 and len(old.users) == 1
    name = str(source.target) if alone else _free_name(module, f"{norm.name}_{which}")
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    if alone:
        delattr(owner, leaf)
    owner.register_buffer(leaf, value)
    with graph.inserting_before(norm):
        node = graph.get_attr(name)
    node.meta = dict(source.meta)
    _set(norm, which, node)
    while not old.users:  # and what handed it on
        before = old.all_input_nodes
        graph.erase_node(old)
        if not before:
            break
        old = before[0]


def _free_name(module: GraphModule, name: str) -> str:
    free, number = name, 0
    while hasattr(module, free):
        number += 1
        free = f"{name}_{number}"
    return free


def _set(node: Node, name: str, value: Any) -> None:
    at = list(arguments(node)).index(name)
    if at < len(node.args):
        node.update_arg(at, value)
    else:
        node.update_kwarg(name, value)
