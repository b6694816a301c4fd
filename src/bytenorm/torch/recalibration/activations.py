"""Which numbers a program quantizes beside those of its norms, and who has to know their scale.

Numbers that an operator hands on as they are (another shape, a maximum, a concatenation) and that are quantized as
they were before are the same codes: they keep one scale together. What computes new numbers, as an average does,
does not tie its output's scale to its input's, even where the quantizer gave both the same.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.fx import Node

from ..pt2e.graph import arguments, label, operator_name, original
from ..pt2e.qparams import UnusableError, is_dequantize
from .sites import (
    DEQUANTIZE,
    MOVERS,
    NORMS,
    QUANTIZE,
    Reader,
    find_site,
    require_all_codes,
    told_alike,
)

if TYPE_CHECKING:
    from ..pt2e.graph import Program

# What else gives only numbers that it was given, or zeros: of several tensors, or as several.
_JOINING = {
    "aten::" + name
    for name in (
        "cat", "channel_shuffle", "chunk", "concat", "constant_pad_nd", "flip", "index_select", "narrow", "pad",
        "pixel_shuffle", "pixel_unshuffle", "repeat", "roll", "split", "split_with_sizes", "stack", "tile",
        "unbind", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    )
}  # fmt: skip
# What makes numbers of a known range: quantizers give it a scale that backends rely on.
_OF_KNOWN_RANGE = {f"aten::{name}" for name in ("sigmoid", "hardsigmoid", "softmax", "_softmax", "tanh")}


@dataclass(frozen=True)
class Activation:
    """Numbers that are quantized with one scale: the nodes that do it, and all that is told the scale.

    Empty `problem` if they can get another one.
    """

    name: str
    writers: tuple[Node, ...]
    readers: tuple[Reader, ...]
    problem: str


def find_activations(program: Program) -> list[Activation]:
    """Return what a program quantizes per tensor to 8 bits, in its order.

    But for constants, and for what keeps the scale of a norm's codes.
    """
    fed = _depend_on_inputs(program)
    norms = (find_site(program, node, {}) for node in program.graph.nodes if operator_name(node) in NORMS)
    of_norms = {reader.node for site in norms if site is not None for reader in site.readers}
    writers = [
        node
        for node in program.graph.nodes
        if operator_name(node) == QUANTIZE
        and node in fed
        and node not in of_norms
        and arguments(node)["dtype"] in (torch.uint8, torch.int8)
    ]
    # Of each another one of the same codes, nearer to the first.
    same: dict[Node, Node] = {writer: writer for writer in writers}

    def first(writer: Node) -> Node:
        while same[writer] is not writer:
            writer = same[writer]
        return writer

    readers: dict[Node, list[Reader]] = {}
    problems: dict[Node, str] = {}
    order = {writer: at for at, writer in enumerate(writers)}
    for writer in writers:
        try:
            readers[writer], again = _read(writer)
        except UnusableError as reason:
            problems[writer], again = str(reason), []
        for other in filter(same.__contains__, again):
            one, two = sorted((first(writer), first(other)), key=order.__getitem__)
            same[two] = one
    groups: dict[Node, list[Node]] = {}
    for writer in writers:
        groups.setdefault(first(writer), []).append(writer)
    return [
        Activation(
            label(arguments(group[0])["input"]),
            tuple(group),
            tuple(dict.fromkeys(reader for writer in group for reader in readers.get(writer, ()))),
            next((problems[writer] for writer in group if writer in problems), ""),
        )
        for group in groups.values()
    ]


def _depend_on_inputs(program: Program) -> set[Node]:
    fed: set[Node] = set()
    for node in program.graph.nodes:
        if (node.op == "placeholder" and program.tensor(node) is None) or any(
            source in fed for source in node.all_input_nodes
        ):
            fed.add(node)
    return fed


def _read(writer: Node) -> tuple[list[Reader], list[Node]]:
    """Return all that is told the scale of a node's codes, and the nodes that make the same codes again."""
    given = arguments(writer)
    now = (given["scale"], given["zero_point"])
    if any(isinstance(value, Node) for value in now):
        raise UnusableError("its scale is in a tensor")
    require_all_codes(writer, given["dtype"])
    source = _source(given["input"])
    if source.op == "placeholder":
        raise UnusableError("it is an input of the program")
    if operator_name(source) in _OF_KNOWN_RANGE:
        raise UnusableError("its range is known without data")
    found: list[Reader] = []
    again: list[Node] = []
    pending: list[tuple[Node, bool]] = [(writer, True)]
    seen: set[Node] = set()
    while pending:
        value, coded = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        for reader in value.users:
            name = operator_name(reader)
            if name in MOVERS or (not coded and (name in _JOINING or reader.target is operator.getitem)):
                pending.append((reader, coded))
            elif coded:
                found += told_alike(reader, value, now, given["dtype"])
                if name == DEQUANTIZE:
                    pending.append((reader, False))
            elif reader.op == "output":
                raise UnusableError("it is an output of the program")
            elif name == QUANTIZE:
                other = arguments(reader)
                if (other["scale"], other["zero_point"], other["dtype"]) == (*now, given["dtype"]):
                    again.append(reader)
            elif _has_bias_in_codes(reader):
                raise UnusableError(f"the bias of {label(reader)} is in codes of its scale")
    return found, again


def _source(node: Node) -> Node:
    while operator_name(node) in MOVERS or original(node) is not node:
        node = node.all_input_nodes[0]
    return node


def _has_bias_in_codes(node: Node) -> bool:
    bias = arguments(node).get("bias")
    return isinstance(bias, Node) and is_dequantize(original(bias))
