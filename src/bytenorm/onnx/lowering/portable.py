"""The portable lowering: a norm as a depthwise 1x1 convolution, in standard operators and the model's own format.

Among operators on bytes it is a QLinearConv. Among float operators between conversions it is one of these, a Conv,
with the constants of the same QLinearConv. ONNX Runtime makes that of it, and what reads conversions alone, as
OpenVINO does, can read it. The result is within one step of the exact one and, but for a few channels of ten
thousand, the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as changed
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from ..graph.graph import Graph, label, opset_of
from ..operators.formats import has_operators_on_bytes
from .depthwise import depthwise, is_possible
from .open_axes import open_axes
from .uint8_activations import reached

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..norms.norm import QuantizedNorm
    from ..norms.qparams import QParams

_OLDEST_CLIP_OF_BYTES, _OLDEST_SCALES_PER_CHANNEL = 12, 13  # opsets


@dataclass(frozen=True)
class Portable:
    """The lowering, for a model in one of the formats."""

    in_conversions: bool

    @classmethod
    def of(cls, graph: Graph) -> Portable:
        """Return the lowering that speaks a graph's format, before any of its norms is taken out."""
        old = opset_of(graph.model) < _OLDEST_SCALES_PER_CHANNEL
        return cls(in_conversions=not old and not has_operators_on_bytes(graph))

    def obstacle(self, graph: Graph, site: QuantizedNorm) -> str:
        """Say why a norm cannot be lowered this way, in a few words; empty if it can."""
        source, target = site.source, site.target
        if site.rank(graph) is None:
            return "the rank of its input is unknown"
        if opset_of(graph.model) < _OLDEST_CLIP_OF_BYTES and site.limits() != (None, None):
            return f"its {site.activation} needs opset {_OLDEST_CLIP_OF_BYTES}"
        if not is_possible(site):
            return "its numbers are too large for the scales of a QLinearConv"
        if source.signed == target.signed:
            return ""
        readers = reached(graph, target)
        if readers.leaves or readers.stubborn is not None:
            stubborn = readers.stubborn
            reader = f"{stubborn.op_type} {label(stubborn)}" if stubborn is not None else "an output of the model"
            kinds = ["int8" if q.signed else "uint8" for q in (source, target)]
            return f"{kinds[0]} in and {kinds[1]} out, which QLinearConv does not mix, read by {reader}"
        return ""

    def replace(self, graph: Graph, site: QuantizedNorm) -> QParams:
        """Put the convolution where a norm was whose nodes are gone; return how its output is quantized."""
        source, target, name = site.source, site.target, site.name
        opened = open_axes(graph, site)

        def constant(what: str, value: npt.ArrayLike) -> str:
            return graph.add_constant(f"{name}/{what}", value)

        # A norm between uint8 and int8 makes the type that it reads; who reads the codes is told.
        moved = 128 * (int(target.signed) - int(source.signed))
        byte = source.zero_point.dtype
        zero_point = np.asarray(target.scalars[1] + moved, byte)
        y_zero_point = constant("y_zero_point", zero_point)
        if moved:
            data_type = TensorProto.INT8 if source.signed else TensorProto.UINT8
            reached(graph, target).shift(graph, moved, y_zero_point, data_type)

        numbers = depthwise(site)
        assert numbers is not None  # obstacle() has looked
        if source.per_tensor:
            x_scale = source.scale_name
            x_zero_point = source.zero_point_name or constant("x_zero_point", source.zero_point)
        else:
            x_scale = constant("x_scale", numbers.x_scale)
            x_zero_point = constant("x_zero_point", np.zeros((), byte))
        channels, rank = len(numbers.bias), site.rank(graph) or 3
        spatial = [1] * max(rank - 2, 1)
        lowest, highest = site.limits()
        made = target.codes if (lowest, highest) == (None, None) else graph.new_name(f"{name}/unclipped")
        x, y = source.codes, made
        if rank == 2:
            x, y = graph.new_name(f"{name}/as_image"), graph.new_name(f"{name}/as_image/normalized")
            image = constant("image_shape", np.array([0, channels, 1], np.int64))
            vector = constant("vector_shape", np.array([0, channels], np.int64))
            graph.make("Reshape", [source.codes, image], x, f"{name}/as_image")
            graph.make("Reshape", [y, vector], made, f"{name}/as_vector")
        inputs = [
            x,
            x_scale,
            x_zero_point,
            constant("weight", numbers.weight.reshape(-1, 1, *spatial)),
            constant("weight_scale", numbers.weight_scale),
            constant("weight_zero_point", np.zeros(channels, np.int8)),
            target.scale_name,
            y_zero_point,
            constant("bias", numbers.bias),
        ]
        padding: dict[str, list[int]] = {}
        if opened:  # no axis is empty with a row more, which goes again
            padding["pads"] = [0] * len(spatial) + [int(axis in opened) for axis in range(2, 2 + len(spatial))]
            whole, y = y, graph.new_name(f"{name}/padded")
            cut = [constant(what, np.array(v, np.int64)) for what, v in
                   (("starts", [0] * len(opened)), ("ends", [-1] * len(opened)), ("axes", opened))]  # fmt: skip
            graph.make("Slice", [y, *cut], whole, f"{name}/Slice")
        if self.in_conversions:
            bias = [
                constant("bias_scale", numbers.bias_scale),
                constant("bias_zero_point", np.zeros(channels, np.int32)),
            ]
            _make_between_conversions(
                graph, name, [*inputs, *bias], y, group=channels, kernel_shape=spatial, **padding
            )
        else:
            graph.make(
                "QLinearConv", inputs, y, f"{name}/QLinearConv", group=channels, kernel_shape=spatial, **padding
            )
        if made != target.codes:
            bounds = [
                "" if code is None else constant(what, np.asarray(code + moved, byte))
                for what, code in (("lowest", lowest), ("highest", highest))
            ]
            graph.make("Clip", [made, *bounds], target.codes, f"{name}/Clip")
        return changed(target, zero_point_name=y_zero_point, zero_point=zero_point)


def _make_between_conversions(graph: Graph, name: str, inputs: list[str], y: str, **attributes: object) -> None:
    """Write the convolution in float, of a QLinearConv's inputs and the quantization of its bias."""
    x, weight, y_quantization, bias = inputs[:3], inputs[3:6], inputs[6:8], inputs[8:]
    real = {what: graph.new_name(f"{name}/{what}/real") for what in ("x", "weight", "bias", "y")}
    graph.make("DequantizeLinear", x, real["x"], f"{name}/x/DequantizeLinear")
    for what, constants in (("weight", weight), ("bias", bias)):
        graph.make("DequantizeLinear", constants, real[what], f"{name}/{what}/DequantizeLinear", axis=0)
    graph.make("Conv", [real["x"], real["weight"], real["bias"]], real["y"], f"{name}/Conv", **attributes)
    graph.make("QuantizeLinear", [real["y"], *y_quantization], y, f"{name}/y/QuantizeLinear")
