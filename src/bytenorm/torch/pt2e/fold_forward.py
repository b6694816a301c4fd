"""Folds batch norms of a traced float program into the layers behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

from .graph import arguments, open_program, operator_name
from .norms import find_norms

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node

    from .graph import Program
    from .norms import Norm

P = TypeVar("P", GraphModule, ExportedProgram)

_CONVOLUTIONS = {f"aten::conv{n}d": n for n in (1, 2, 3)}
_MERGED = {"aten::conv1d", "aten::conv2d", "aten::conv_transpose1d", "aten::conv_transpose2d"}
_SAME = {"aten::clone", "aten::contiguous", "aten::alias", "aten::detach", "aten::lift_fresh_copy"}
_VIEWS = {"aten::flatten", "aten::view", "aten::reshape", "aten::_unsafe_view"}
_AVERAGES = {f"aten::{kind}avg_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3)}
_MAXIMA = {f"aten::{kind}max_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3)}


def fold_forward(program: P) -> P:
    """Fold batch norms into the linear layers and convolutions behind them, before a float program is quantized.

    A norm folds where no activation is behind it and all that reads it are ``linear``, ``conv1d`` to ``conv3d``
    without padding, or what hands on to them. That is ``flatten``, dropout, average pools, and ``max_pool`` where
    all gains are positive. ``prepare_pt2e`` folds norms into the convolution before them; those are left to it.
    Nothing is judged by samples here: where a channel's variance is next to 0, its gain may leave the other
    weights few 8-bit steps.

    Parameters
    ----------
    program : torch.export.ExportedProgram or torch.fx.GraphModule
        In eval mode, as ``torch.export.export`` makes it of a module, or its ``.module()``. It is not changed.

    Returns
    -------
    The same kind
        A copy; tensors that did not change are shared.

    Raises
    ------
    TypeError
        If `program` is neither.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from bytenorm.torch import fold_forward
    >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Linear(16, 4)).eval()
    >>> program = torch.export.export(net, (torch.zeros(2, 8),)).module()
    >>> any("batch_norm" in str(node.target) for node in fold_forward(program).graph.nodes)
    False
    """
    opened = open_program(program)
    for norm in reversed(find_norms(opened.graph)):
        parameters = _gain_and_shift(opened, norm)
        layers = _layers(opened, norm, *parameters) if parameters is not None else None
        if layers:
            _fold(opened, norm, layers)
    made: P = opened.finish()
    return made


@dataclass(frozen=True)
class _Layer:
    node: Node
    weight: Tensor
    bias: Tensor


def _gain_and_shift(program: Program, norm: Norm) -> tuple[Tensor, Tensor] | None:
    """Return what a norm does in float64; None if it is none that folds."""
    merged = norm.weight is not None and norm.bias is not None and len(norm.input.users) == 1
    if norm.training or (merged and operator_name(norm.input) in _MERGED):
        return None
    if any(user is not norm.output for user in norm.node.users) and norm.node is not norm.output:
        return None
    values = [None if n is None else program.tensor(n) for n in (norm.weight, norm.bias, norm.mean, norm.var)]
    given = [n is not None for n in (norm.weight, norm.bias, norm.mean, norm.var)]
    if any(value is None for value, has in zip(values, given, strict=True) if has):
        return None
    weight, bias, mean, var = (None if v is None else v.detach().double() for v in values)
    if mean is None or var is None:
        return None
    gain = (torch.ones_like(mean) if weight is None else weight) / torch.sqrt(var + norm.eps)
    shift = (torch.zeros_like(mean) if bias is None else bias) - mean * gain
    return (gain, shift) if bool(torch.isfinite(gain).all() and torch.isfinite(shift).all()) else None


def _layers(program: Program, norm: Norm, gain: Tensor, shift: Tensor) -> list[_Layer] | None:
    """Return the layers behind a norm as they are when they have taken it up; None if a reader cannot."""
    found: list[_Layer] = []
    waiting = [(norm.output, gain, shift)]
    while waiting:
        tensor, gain, shift = waiting.pop()
        if tensor.name in program.kept or not tensor.users:
            return None
        for node in tensor.users:
            if (
                [n for n in node.all_input_nodes if n is tensor] != [tensor]
                or not node.args
                or node.args[0] is not tensor
            ):
                return None
            name = operator_name(node)
            if name in _CONVOLUTIONS or name == "aten::linear":
                layer = _layer(program, node, gain, shift)
                if layer is None:
                    return None
                found.append(layer)
                continue
            repeats = _repeats(node, name, tensor, gain, shift)
            if repeats is None:
                return None
            waiting.append((node, gain.repeat_interleave(repeats), shift.repeat_interleave(repeats)))
    return found


def _shape(node: Node) -> tuple[Any, ...] | None:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None


def _repeats(node: Node, name: str, tensor: Node, gain: Tensor, shift: Tensor) -> int | None:
    """Return how often each channel stands behind a node that hands a norm on; None if it does not."""
    a, before = arguments(node), _shape(tensor)
    behind = _shape(node)
    if name in _SAME:
        return 1
    if name == "aten::dropout":
        return None if a["train"] else 1
    if before is None or behind is None or len(before) < 2 or before[1] != len(gain):
        return None
    if name in _VIEWS:
        sizes = before[2:]
        if len(behind) != 2 or not all(isinstance(n, int) for n in sizes) or before[0] != behind[0]:
            return None
        repeats = math.prod(sizes)
        return repeats if behind[1] == len(gain) * repeats else None
    pooled = len(before) - len([*filter(str.isdigit, name.rpartition("pool")[2])])
    if pooled < 2 or (name in _AVERAGES | _MAXIMA and len(before) != int(name[-2]) + 2):
        return None
    if name in _MAXIMA:
        return 1 if bool((gain > 0).all()) else None
    if name in _AVERAGES:
        padding = a.get("padding", 0)
        padded = any(padding) if isinstance(padding, list | tuple) else bool(padding)
        zeros = (padded or a.get("ceil_mode")) and a.get("count_include_pad", True)
        return None if zeros and bool(shift.any()) else 1
    if name == "aten::mean" and a.get("dim") is not None and a.get("dtype") is None:
        axes = {axis % len(before) for axis in a["dim"]}
        return 1 if axes and axes == set(range(2, len(before))) else None
    return None


def _layer(program: Program, node: Node, gain: Tensor, shift: Tensor) -> _Layer | None:
    a = arguments(node)
    weight = program.tensor(a["weight"])
    bias = None if a["bias"] is None else program.tensor(a["bias"])
    shape = _shape(a["input"])
    if weight is None or (bias is None and a["bias"] is not None) or shape is None:
        return None
    wide = weight.detach().double()
    if operator_name(node) == "aten::linear":
        if len(shape) != 2 or wide.dim() != 2 or wide.shape[1] != len(gain):
            return None
        scaled, added = wide * gain, wide @ shift
    else:
        groups, padding = a["groups"], a["padding"]
        padded = padding != "valid" if isinstance(padding, str) else any(padding)
        if len(shape) != wide.dim() or wide.shape[1] * groups != len(gain) or (padded and bool(shift.any())):
            return None
        grouped = wide.reshape(groups, wide.shape[0] // groups, wide.shape[1], -1)
        gains, shifts = (v.reshape(groups, 1, -1, 1) for v in (gain, shift))
        scaled, added = (grouped * gains).reshape(wide.shape), (grouped * shifts).sum((2, 3)).reshape(-1)
    if bias is not None:
        added = added + bias.detach().double()
    made = _Layer(node, scaled.to(weight.dtype).contiguous(), added.to(weight.dtype))
    return made if bool(torch.isfinite(made.weight).all() and torch.isfinite(made.bias).all()) else None


def _fold(program: Program, norm: Norm, layers: list[_Layer]) -> None:
    norm.output.replace_all_uses_with(norm.input)
    if norm.output is not norm.node:
        program.graph.erase_node(norm.output)
    program.graph.erase_node(norm.node)
    for layer in layers:
        given = dict(enumerate(layer.node.args))
        kwargs = {key: value for key, value in layer.node.kwargs.items() if key not in ("weight", "bias")}
        weight = program.add_tensor(f"{layer.node.name}_folded_weight", layer.weight, layer.node)
        bias = program.add_tensor(f"{layer.node.name}_folded_bias", layer.bias, layer.node)
        layer.node.args = (given[0], weight, bias, *layer.node.args[3:])
        layer.node.kwargs = kwargs
