"""Outputs of nodes that have no name, since nobody reads them: ONNX Runtime does not ask whether they have one.

It (1.32) ends its process where it writes to an output without. That is any of Split, as of other operators whose
outputs are not optional, and the statistics of a BatchNormalization, in opsets 8 to 13 also outside of training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from .free_names import free_name
from .soundness import parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .soundness import Part

_OPTIONAL = onnx.defs.OpSchema.FormalParameterOption.Optional


def has_unnamed_outputs(model: onnx.ModelProto) -> bool:
    """Say whether ONNX Runtime would write to an output that has no name."""
    return any(True for part in _all_parts(model) for node in part.node for _ in _unnamed(node))


def name_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give names to the outputs that ONNX Runtime writes to, in place, or take them out; return the model."""
    if not has_unnamed_outputs(model):
        return model
    used = {name for part in _all_parts(model) for name in _names(part)}
    for part in _all_parts(model):
        for node in part.node:
            unnamed = list(_unnamed(node))
            if unnamed and node.op_type == "BatchNormalization" and not any(node.output[1:]) and not _trains(node):
                del node.output[1:]
                continue
            for i in unnamed:
                node.output[i] = free_name(f"{node.name or node.op_type}/unnamed_{i}", used)
    return model


def _all_parts(model: onnx.ModelProto) -> Iterator[Part]:
    for root in (model.graph, *model.functions):
        yield from parts(root)


def _names(part: Part) -> Iterator[str]:
    for node in part.node:
        yield from (*node.input, *node.output)
    if isinstance(part, onnx.GraphProto):
        yield from (value.name for value in (*part.input, *part.initializer))
        yield from (tensor.values.name for tensor in part.sparse_initializer)
    else:
        yield from part.input


def _unnamed(node: onnx.NodeProto) -> Iterator[int]:
    """Yield which outputs of a node have no name and are written to all the same."""
    missing = [i for i, name in enumerate(node.output) if not name]
    if not missing or node.domain not in ("", "ai.onnx"):
        return
    if node.op_type == "BatchNormalization":
        yield from missing
    elif onnx.defs.has(node.op_type):
        outputs = onnx.defs.get_schema(node.op_type).outputs
        yield from (i for i in missing if outputs and outputs[min(i, len(outputs) - 1)].option != _OPTIONAL)


def _trains(node: onnx.NodeProto) -> bool:
    return any(a.name == "training_mode" and a.i for a in node.attribute)
