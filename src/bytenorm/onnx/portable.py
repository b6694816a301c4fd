"""The portable lowering: a norm as a depthwise 1x1 QLinearConv, in standard operators alone.

The convolution computes ``(sum + bias) * (x_scale * w_scale / y_scale) + y_zero_point`` with an integer bias. Its
result is within one step of the exact one: what rounding the bias takes away is half a unit of one part in W of
the slope, so the weight W of a channel is chosen, among 64 to 127, such that the bias is nearly an integer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .graph import Graph, is_op, label, opset_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from .norms import Site

_WEIGHTS = np.arange(64.0, 128.0)
_LARGEST_BIAS = 2.0**30
_OLDEST_CLIP_OF_BYTES = 12  # opset


def obstacle(graph: Graph, site: Site) -> str:
    """Say why a norm cannot be lowered this way, in a few words; empty if it can."""
    source, target = site.source, site.target
    if site.rank(graph) is None:
        return "the rank of its input is unknown"
    if opset_of(graph.model) < _OLDEST_CLIP_OF_BYTES and site.limits() != (None, None):
        return f"its {site.activation} needs opset {_OLDEST_CLIP_OF_BYTES}"
    if source.signed == target.signed:
        return ""
    readers = graph.readers(target.codes)
    stubborn = [r for r in readers if not is_op(r, "DequantizeLinear") or r.input[0] != target.codes]
    if graph.is_read_elsewhere(target.codes) or stubborn:
        reader = f"{stubborn[0].op_type} {label(stubborn[0])}" if stubborn else "an output of the model"
        kinds = ["int8" if q.signed else "uint8" for q in (source, target)]
        return f"{kinds[0]} in and {kinds[1]} out, which QLinearConv does not mix, read by {reader}"
    return ""


def replace(graph: Graph, site: Site) -> None:
    """Put the convolution in the place of a norm whose old nodes are gone."""
    source, target, name = site.source, site.target, site.name

    def constant(what: str, value: npt.ArrayLike) -> str:
        return graph.add_constant(f"{name}/{what}", value)

    # A norm between uint8 and int8 makes the type that it reads; who reads the codes is told.
    moved = 128 * (int(target.signed) - int(source.signed))
    byte = source.zero_point.dtype
    y_zero_point = constant("y_zero_point", np.asarray(int(target.zero_point.ravel()[0]) + moved, byte))
    if moved:
        for reader in graph.readers(target.codes):
            graph.remove(reader)
            del reader.input[2:]
            reader.input.append(y_zero_point)
            graph.add(reader)

    weight, weight_scale, bias, common_scale = depthwise(site)
    if source.per_tensor:
        x_scale = source.scale_name
        x_zero_point = source.zero_point_name or constant("x_zero_point", source.zero_point)
    else:
        x_scale = constant("x_scale", np.float32(common_scale))
        x_zero_point = constant("x_zero_point", np.zeros((), byte))
    channels, rank = len(bias), site.rank(graph) or 3
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
        constant("weight", weight.reshape(-1, 1, *spatial)),
        constant("weight_scale", weight_scale),
        constant("weight_zero_point", np.zeros(channels, np.int8)),
        target.scale_name,
        y_zero_point,
        constant("bias", bias),
    ]
    graph.make("QLinearConv", inputs, y, f"{name}/QLinearConv", group=channels, kernel_shape=spatial)
    if made != target.codes:
        bounds = [
            "" if code is None else constant(what, np.asarray(code + moved, byte))
            for what, code in (("lowest", lowest), ("highest", highest))
        ]
        graph.make("Clip", [made, *bounds], target.codes, f"{name}/Clip")


def depthwise(
    site: Site,
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32], npt.NDArray[np.int32], float]:
    """Return weight, weight scale and bias of the convolution, and the scale of its input.

    A slope of 0, or one so small that the bias would not fit, gets a weight scale that the bias decides.
    """
    source = site.source
    gain, shift = site.parameters.gain_and_shift()
    x_scale = float(source.scale.max())
    if not source.per_tensor:  # scales go into the gains, zero points into the shifts
        scale = source.scale.astype(np.float64).ravel()
        shift = shift - gain * scale * source.zero_point.astype(np.float64).ravel()
        gain = gain * scale / x_scale
    # One row a channel, one column a candidate for the weight.
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        scales = (np.abs(gain)[:, None] / _WEIGHTS).astype(np.float32)
        biases = shift[:, None] / (x_scale * scales.astype(np.float64))
        off = np.abs(biases - np.rint(biases)) / _WEIGHTS
        usable = np.all((np.abs(biases) <= _LARGEST_BIAS) & (scales > 0), axis=1)
    best = np.argmin(np.where(usable[:, None], off, 0), axis=1)
    rows = np.arange(len(gain))

    smallest = np.maximum(np.abs(shift) / (x_scale * _LARGEST_BIAS), float(np.finfo(np.float32).tiny))
    bounded = np.maximum(np.abs(gain) / _WEIGHTS[-1], smallest).astype(np.float32)
    weight_scale = np.where(usable, scales[rows, best], bounded)
    weight = np.where(usable, np.sign(gain) * _WEIGHTS[best], np.rint(gain / bounded))
    bias = np.where(usable, biases[rows, best], shift / (x_scale * bounded.astype(np.float64)))
    return weight.astype(np.int8), weight_scale.astype(np.float32), np.rint(bias).astype(np.int32), x_scale
