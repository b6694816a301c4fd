"""The float program that an 8-bit one was made of: which of its nodes compute what those of the other do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.export import Dim, ExportedProgram, ShapesCollection, export
from torch.fx import GraphModule, Node

from ..._errors import bad_type, bad_value
from ...calibration.moments import Moments
from ..pt2e.graph import arguments, label, open_program, operator_name, original
from ..pt2e.norms import find_norms
from ..pt2e.qparams import is_dequantize, is_quantize
from ..pt2e.running import Part, Runner, is_guard
from .sites import NORMS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..pt2e.graph import Program

_CONVOLUTIONS = {f"aten::conv{how}{n}d" for how in ("", "_transpose") for n in (1, 2, 3)} | {"aten::convolution"}
_LINEAR = "aten::linear"


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer: the axis of its channels, and the module that its parameters are of."""

    node: Node
    path: str
    axis: int


def find_layers(program: Program) -> list[Layer]:
    """Return the convolutions and linear layers of a program, in its order."""
    found = []
    for node in program.graph.nodes:
        name = operator_name(node)
        if name in _CONVOLUTIONS or name == _LINEAR:
            given = arguments(node)
            found.append(
                Layer(node, _path(program, node, given["weight"], given["bias"]), -1 if name == _LINEAR else 1)
            )
    return found


def in_8_bits(layer: Layer) -> bool:
    """Say whether a layer's weight has been quantized."""
    weight = arguments(layer.node)["weight"]
    return isinstance(weight, Node) and is_dequantize(original(weight))


def _path(program: Program, node: Node, *parameters: Node | None) -> str:
    for parameter in parameters:
        source = parameter
        while isinstance(source, Node) and (
            is_dequantize(source) or is_quantize(source) or source is not original(source)
        ):
            source = next(iter(source.all_input_nodes))
        path = program.name(source).rpartition(".")[0] if isinstance(source, Node) else ""
        if path:
            return path
    return label(node)


class Reference:
    """A float program.

    Parameters
    ----------
    value : GraphModule, ExportedProgram or torch.nn.Module
    item : tensor or tuple
        Of the data: what it is called with.
    """

    def __init__(self, value: Any, item: Any) -> None:
        self.module = _traced(value, item)
        if any(is_quantize(n) or is_dequantize(n) or operator_name(n) in NORMS for n in self.module.graph.nodes):
            raise bad_value("reference", "must be the program in float, got one that is quantized")
        self._program = open_program(self.module)
        self._norms = find_norms(self._program.graph)
        if any(norm.training for norm in self._norms):
            raise bad_value("reference", "must be in evaluation, got a program whose norms are in training")

    def runner(self) -> Runner:
        """Return what runs it."""
        return Runner(self.module, "reference", "reference")

    def match(self, program: Program) -> dict[Node, tuple[Node, int]]:
        """Return the nodes here that make the inputs of an 8-bit program's norms and the outputs of its layers.

        With the axis of its channels. What was traced more than once is taken in order.
        """
        theirs: dict[str, list[Node]] = {}
        kept: set[str] = {_path(program, norm.node, norm.mean) for norm in find_norms(program.graph)}
        for node in program.graph.nodes:
            if operator_name(node) in NORMS:
                theirs.setdefault(_path(program, node, arguments(node)["mean"]), []).append(node)
        kept |= theirs.keys()
        ours: dict[str, list[tuple[Node, int]]] = {}
        for norm in self._norms:
            path = _path(self._program, norm.node, norm.mean)
            if path in theirs:
                self._check(norm, program, theirs[path][0], path)
            ours.setdefault(path, []).append((norm.input, 1))
        found = _pairs(theirs, ours)

        layers: dict[str, list[Node]] = {}
        for layer in find_layers(program):
            layers.setdefault(layer.path, []).append(layer.node)
        outputs: dict[str, list[tuple[Node, int] | None]] = {}
        for layer in find_layers(self._program):
            outputs.setdefault(layer.path, []).append(self._output(layer, kept))
        found |= _pairs(layers, outputs)
        if not found:
            raise bad_value("reference", ": none of its norms and layers is called as one of the program's")
        return found

    def check(self, program: GraphModule, inputs: Sequence[Any]) -> None:
        """Refuse a reference whose outputs are not of the shapes of the program's."""
        ours = self.runner().outputs(Part(0, inputs))
        theirs = Runner(program).outputs(Part(0, inputs))
        one, other = (" and ".join(str(_shape(x)) for x in values) for values in (ours, theirs))
        if one != other:
            raise bad_value(
                "reference", f": its outputs are {one}, the program's {other}: they do not belong together"
            )

    def _output(self, layer: Layer, kept: set[str]) -> tuple[Node, int] | None:
        """Return what a layer makes, its norm folded into it if the other program has none."""
        folded = [
            norm
            for norm in self._norms
            if norm.input is layer.node and _path(self._program, norm.node, norm.mean) not in kept
        ]
        if not folded:
            return layer.node, layer.axis
        return (folded[0].output, layer.axis) if len(layer.node.users) == 1 else None

    def _check(self, norm: Any, program: Program, node: Node, path: str) -> None:
        """Refuse a norm that is another one of the same name."""
        given = arguments(node)
        for which in ("weight", "bias"):
            ours, theirs = getattr(norm, which), given[which]
            one = None if ours is None else self._program.tensor(ours)
            other = None if theirs is None else program.tensor(theirs)
            if (
                one is not None
                and other is not None
                and not (
                    one.shape == other.shape and torch.allclose(one.float(), other.float(), rtol=1e-3, atol=1e-5)
                )
            ):
                raise bad_value(
                    "reference",
                    f": its norm {path} has another {which} than the program's: they are of two networks",
                )

    def moments(self, parts: Sequence[Part], wanted: Mapping[Node, int]) -> dict[Node, Moments]:
        """Run it and return the moments of what some nodes make, of channels on some axis."""
        found = {node.name: Moments() for node in wanted}
        axes = {node.name: axis for node, axis in wanted.items()}
        runner = self.runner()
        for part in parts:
            for node, (env,) in runner.walk([part]):
                if node.name in found:
                    rows = env[node].detach().double().movedim(axes[node.name], 0).flatten(1)
                    spread = rows.var(1, correction=0)
                    found[node.name].add(rows.shape[1], rows.mean(1).numpy(), spread.numpy())
        return {node: found[node.name] for node in wanted}


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__


def _pairs(
    theirs: Mapping[str, Sequence[Node]], ours: Mapping[str, Sequence[tuple[Node, int] | None]]
) -> dict[Node, tuple[Node, int]]:
    return {
        node: other
        for path, nodes in theirs.items()
        if len(ours.get(path, ())) == len(nodes)
        for node, other in zip(nodes, ours[path], strict=True)
        if other is not None
    }


def _traced(value: Any, item: Any) -> GraphModule:
    if isinstance(value, ExportedProgram):
        made = value.module(check_guards=False)
        assert isinstance(made, GraphModule)
        return made
    if not isinstance(value, torch.nn.Module):
        raise bad_type(
            "reference",
            "must be the float program, a GraphModule, an ExportedProgram or a torch.nn.Module, "
            f"got {type(value).__name__}",
        )
    calls = isinstance(value, GraphModule) and not any(
        node.op == "call_module" and not is_guard(node) for node in value.graph.nodes
    )
    if isinstance(value, GraphModule) and calls:
        return value
    if any(module.training for module in value.modules()):
        raise bad_value("reference", "must be in evaluation, got a module in training: call its .eval()")
    from torch.utils._pytree import tree_leaves  # noqa: PLC0415 (no public name)

    inputs = (item,) if isinstance(item, torch.Tensor) else tuple(item)
    free = ShapesCollection()  # type: ignore[no-untyped-call]
    for x in tree_leaves(inputs):
        if isinstance(x, torch.Tensor) and x.ndim:
            free[x] = {0: Dim.AUTO}
    try:
        shapes = free.dynamic_shapes(value, inputs)  # type: ignore[no-untyped-call]
        exported = export(value, inputs, dynamic_shapes=shapes)
    except Exception as error:  # whatever a module raises
        why = " ".join(str(error).split())
        raise bad_value("reference", f": it cannot be exported with item 0 of data: {why}") from None
    made = exported.module(check_guards=False)
    assert isinstance(made, GraphModule)
    return made
