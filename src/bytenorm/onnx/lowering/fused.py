"""The fused lowering: a norm and the concatenation or the sum that it reads as one operator.

Norms that read neither become the operator of the exact lowering.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx.helper import np_dtype_to_tensor_dtype

from ..fusion.concats_and_sums import Concatenation, Single
from ..graph.graph import Graph
from ..graph.transposes import read_in_order, to_last, write_in_order
from ..norms.qparams import qparams
from ..operators.add_batch_norm import add_node
from ..operators.concat_batch_norm import concat_node
from ..operators.functions import add_functions
from ..operators.schema import ADD, CONCAT, SUM, norm_schema
from ..operators.sum_batch_norm import sum_node
from . import exact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..fusion.concats_and_sums import Pattern, Sum
    from ..norms.norm import QuantizedNorm
    from ..norms.qparams import QParams

obstacle = exact.obstacle


def replace(graph: Graph, site: QuantizedNorm, pattern: Pattern) -> QParams:
    """Put the operator in the place of a norm whose old nodes are gone; return how its output is quantized."""
    if isinstance(pattern, Single):
        return exact.replace(graph, site)
    if isinstance(pattern, Concatenation):
        _replace_concatenation(graph, site, pattern)
    elif pattern.plain:
        _replace_sum(graph, site, pattern)
    else:
        _replace_sums(graph, site, pattern)
    return site.target


def finish(graph: Graph) -> None:
    """Give a finished graph the functions of its operators, and the types of what those of many inputs make.

    ONNX Runtime 1.17 finds no type where an operator takes any number of tensors: their codes may be of another
    type than the ones that it makes.
    """
    add_functions(graph.model)
    told = {value.name for value in (*graph.proto.value_info, *graph.proto.output)}
    for node in graph.proto.node:
        if norm_schema(node) in (CONCAT, SUM) and node.output[0] not in told:
            zero_point = graph.constant(node.input[CONCAT.inputs.index("y_zero_point")])
            assert zero_point is not None
            value = graph.proto.value_info.add(name=node.output[0])
            value.type.tensor_type.elem_type = np_dtype_to_tensor_dtype(zero_point.dtype)


def _replace_concatenation(graph: Graph, site: QuantizedNorm, found: Concatenation) -> None:
    relu, made = exact.activate(graph, site)
    order = _order(len(found.perm))
    read = [found.perm[axis] for axis in order]
    inputs = _of_many(graph, site, found.pieces, read)
    output = write_in_order(graph, made, order, site.name)
    if found.pool is not None:
        _swap(graph, site, found)
    node = concat_node(
        inputs,
        output,
        graph.new_node_name(f"{site.name}/{CONCAT.operator}"),
        epsilon=site.parameters.epsilon,
        channels_last=len(order) > 2,
        relu=relu,
        pool=2 if found.pool is not None else 0,
    )
    graph.add(node)


def _of_many(graph: Graph, site: QuantizedNorm, parts: Sequence[QParams], read: list[int]) -> list[str]:
    """Return the inputs of an operator that takes any number of tensors."""
    return [
        *exact.parameters(graph, site),
        *exact.output_quantization(graph, site),
        graph.add_constant(f"{site.name}/x_scales", np.array([part.scale.ravel()[0] for part in parts])),
        graph.add_constant(f"{site.name}/x_zero_points", np.array([part.zero_point.ravel()[0] for part in parts])),
        *(read_in_order(graph, part.codes, read, part.codes) for part in parts),
    ]


def _replace_sums(graph: Graph, site: QuantizedNorm, found: Sum) -> None:
    """Write the norm of a sum of any number of tensors, which nobody rounds."""
    relu, made = exact.activate(graph, site)
    order = _order(len(found.perm))
    output = write_in_order(graph, made, order, site.name)
    node = sum_node(
        _of_many(graph, site, found.summands, [found.perm[axis] for axis in order]),
        output,
        graph.new_node_name(f"{site.name}/{SUM.operator}"),
        epsilon=site.parameters.epsilon,
        channels_last=len(order) > 2,
        relu=relu,
        limits=found.limits,
    )
    graph.add(node)


def _swap(graph: Graph, site: QuantizedNorm, found: Concatenation) -> None:
    """Let a convolution make what the averages behind it made: they are taken before it."""
    pool = found.pool
    assert pool is not None
    graph.remove(pool.pool)
    for node in pool.conversions:
        graph.remove(node)
    if pool.quantize is not None:
        graph.set_input(pool.quantize, 0, pool.conv.output[0])
    else:
        graph.remove(pool.conv)
        behind, _ = qparams(graph, pool.pool, 3, pool.pool.output[0], "")
        assert behind is not None  # concats_and_sums.py has looked
        zero_point = behind.zero_point_name  # optional there: 0
        pool.conv.input[6] = behind.scale_name
        pool.conv.input[7] = zero_point or graph.add_constant(f"{site.name}/pool_zero_point", behind.zero_point)
        pool.conv.output[0] = pool.pool.output[0]
        graph.add(pool.conv)
    averaged = [site.target.codes, pool.conv.input[0], *(pool.conv.output if pool.quantize is not None else ())]
    for tensor in dict.fromkeys(averaged):  # whoever looks for one by its name finds no averages instead
        maker = graph.maker(tensor)
        assert maker is not None
        graph.remove(maker)
        maker.output[0] = graph.new_name(f"{tensor}/pooled")
        graph.add(maker)
        graph.redirect(tensor, maker.output[0])


def _replace_sum(graph: Graph, site: QuantizedNorm, found: Sum) -> None:
    relu, made = exact.activate(graph, site)
    order = _order(len(found.perm))
    read = [found.perm[axis] for axis in order]
    inputs = []
    for what, part in zip("ab", found.summands, strict=True):
        zero_point = part.zero_point_name or graph.add_constant(f"{site.name}/{what}_zero_point", part.zero_point)
        inputs += [read_in_order(graph, part.codes, read, part.codes), part.scale_name, zero_point]
    total = found.total
    inputs += [
        *exact.parameters(graph, site),
        total.scale_name or graph.add_constant(f"{site.name}/s_scale", total.scale),
        total.zero_point_name or graph.add_constant(f"{site.name}/s_zero_point", total.zero_point),
        *exact.output_quantization(graph, site),
    ]
    output = write_in_order(graph, made, order, site.name)
    sum_output = ""
    if total.codes and graph.is_needed(total.codes):
        maker = graph.maker(total.codes)
        assert maker is not None
        graph.remove(maker)
        sum_output = write_in_order(graph, total.codes, read, total.codes)
    node = add_node(
        inputs,
        output,
        graph.new_node_name(f"{site.name}/{ADD.operator}"),
        sum_output=sum_output,
        epsilon=site.parameters.epsilon,
        channels_last=len(order) > 2,
        relu=relu,
        exact_sum=found.exact,
    )
    graph.add(node)


def _order(rank: int) -> list[int]:
    return to_last(rank) if rank > 2 else list(range(rank))
