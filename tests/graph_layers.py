"""Draws layers that a quantizer leaves in float between the codes that they read and a norm, as NNCF does."""

from __future__ import annotations

import numpy as np
from graph_numbers import Tensor
from graph_paths import Paths, Real
from onnx import TensorProto, helper

# What may be between a layer and a norm that is no limit: by operator, the opset that has it and what it does.
CURVES = {
    "LeakyRelu": (6, lambda x: np.where(x < 0, np.float32(0.01) * x, x)),
    "Sigmoid": (13, lambda x: 1 / (1 + np.exp(-x))),
    "Tanh": (13, np.tanh),
    "HardSigmoid": (6, lambda x: np.clip(np.float32(0.2) * x + 0.5, 0, 1)),
    "HardSwish": (14, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
}


def convolved(x, weight, *, strides, pads, dilations, group):
    """Return a convolution in float64."""
    spatial = range(2, x.ndim)
    half = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:half], pads[half:], strict=True)])
    extent = [(size - 1) * step + 1 for size, step in zip(weight.shape[2:], dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(x, extent, axis=tuple(spatial))
    every = [slice(None, None, step) for step in (*strides, *dilations)]
    pieces = np.split(windows[(slice(None), slice(None), *every)], group, axis=1)
    summed = [1, *range(2 + half, 2 + 2 * half)], [1, *spatial]
    made = [np.tensordot(p, w, summed) for p, w in zip(pieces, np.split(weight, group), strict=True)]
    return np.moveaxis(np.concatenate(made, axis=-1), -1, 1)


class Layers(Paths):
    """A graph with convolutions and matrix products whose outputs stay in float."""

    def __init__(self, seed):
        super().__init__(seed)
        # Drawn apart: graphs without layers are what they were before there were any.
        self.layered = bool(np.random.default_rng([seed, 10]).random() < 0.4)
        self.weights = []  # names, their shape, numbers, scales and the axis of these
        self.odd = False  # the layer that is being drawn may have what keeps a norm out of it

    def norm_of_layer(self):
        """Add a layer and, mostly behind an activation, a norm."""
        tensor = self.some(lambda t: len(t.shape) == self.rank and 0 not in t.shape[2:])
        if tensor is None or not self.batch:
            return None
        self.odd = self.one_in(2)
        real = self.layer(tensor)
        self.perhaps_read(real)
        if not self.one_in(4):
            real = self.limited_or_curved(real)
            self.perhaps_read(real)
        if self.odd and self.one_in(5):
            draw = self.pick(self.moved, self.joined, self.added)
            real = draw(real) or real
        last = self.rank > 2 and self.one_in(8)
        c = real.shape[-1 if last else 1]
        gain = self.rng.uniform(0.4, 2, c) * self.rng.choice([-1, 1], c, p=[0.3, 0.7])
        if self.one_in(8):
            gain[0] = 0
        shift = self.rng.normal(size=c) * (real.high - real.low) / 6
        return self.norm_in_float(real, gain, shift, last, between=self.odd and self.one_in(2))

    def layer(self, tensor):
        q = self.reading(tensor)
        inputs, outputs = tensor.shape[1], int(self.rng.integers(1, 6))
        if self.one_in(4):
            outputs = self.pick(tensor.shape[-1], tensor.shape[0])  # not to be taken for one another
        if self.rank == 2:
            transposed = self.one_in(2)
            given = {"transB": 1} if transposed else self.pick({}, {"transB": 0})
            if self.odd and self.one_in(6):
                given |= self.pick({"alpha": 0.5}, {"beta": 2.0})
            name, weight, steps = self.weight(
                (outputs, inputs) if transposed else (inputs, outputs), 0 if transposed else 1
            )
            product = weight.T if transposed else weight
            alpha, beta = given.get("alpha", 1.0), given.get("beta", 1.0)
            op, function = "Gemm", lambda x: alpha * (x @ product)
        else:
            group = inputs if self.one_in(4) else 1
            outputs += -outputs % group
            sizes = tensor.shape[2:]
            kernel = [self.pick(1, min(2, n), min(3, n)) for n in sizes]
            given = {
                "strides": [self.pick(1, 1, 2) for _ in sizes],
                "pads": [int(self.rng.integers(0, n)) for n in (*kernel, *kernel)],
                "dilations": [self.pick(1, 1, 2) if 2 * (n - 1) < size else 1
                              for n, size in zip(kernel, sizes, strict=True)],
                "group": group,
            }  # fmt: skip
            name, weight, steps = self.weight((outputs, inputs // group, *kernel), 0)
            product, beta = weight.reshape(outputs, -1).T, 1.0
            op, function = "Conv", lambda x: convolved(x, weight, **given)
        spread = float(np.linalg.norm(product, axis=0).max() * np.max(q.scale)) * 74 + 1e-3
        bias = self.bias(outputs, spread, steps * np.float32(np.max(q.scale)))
        names = [self.dequantize(tensor, q), name, *([] if bias is None else [bias[0]])]
        name = self.node(op, names, self.fresh("l"), **given)
        offset = 0.0 if bias is None else beta * bias[1]
        column = offset if np.ndim(offset) < 1 or self.rank == 2 else offset.reshape(-1, *[1] * (self.rank - 2))
        shape = (function(np.zeros(tensor.shape)) + column).shape
        ends = (float(np.min(offset)) - 3 * spread, float(np.max(offset)) + 3 * spread)
        part = float(np.max(steps) * np.max(q.scale))
        return Real(name, shape, [(tensor, q)], lambda _relaxed, x: [function(x) + column], *ends, 0.0, part)

    def weight(self, shape, axis):
        """Return weights: their name, their numbers and their scales, of the channels along an axis."""
        fitting = [of[:3] for of in self.weights if of[3] == (shape, axis)]
        if fitting and self.one_in(3):
            return self.pick(*fitting)
        most = self.pick(127, 127, 127, 20, 3)
        per_channel = self.opset >= 13 and not self.one_in(4)
        byte = np.uint8 if self.odd and self.one_in(8) else np.int8
        zero = self.pick(3, 128) if byte == np.uint8 else self.pick(0, 0, 0, -2) if self.odd else 0
        codes = np.clip(
            self.rng.integers(-most, most + 1, shape) + zero, *(np.iinfo(byte).min, np.iinfo(byte).max)
        )
        codes = codes.astype(byte)
        if byte == np.int8 and self.odd and self.one_in(6):
            codes.ravel()[-1] = -128
        scales = self.rng.uniform(0.3, 1, shape[axis] if per_channel else ()).astype(np.float32)
        scales *= np.float32(1 / most)
        names = [self.constant(codes), self.constant(scales)]
        zeros = np.full(np.shape(scales), zero, byte)
        if zero or byte == np.uint8 or self.one_in(2):
            names.append(self.constant(zeros))
        along = (
            {"axis": self.pick(axis, axis - len(shape))} if per_channel and (axis != 1 or self.one_in(2)) else {}
        )
        numbers = (codes.astype(np.float64) - zero) * np.moveaxis(
            np.broadcast_to(scales.astype(np.float64), (*np.delete(shape, axis), shape[axis])), -1, axis
        )
        if self.odd and self.one_in(8):  # in float
            name = self.constant(numbers.astype(np.float32))
            numbers = numbers.astype(np.float32).astype(np.float64)
        else:
            name = self.node("DequantizeLinear", names, self.fresh("w"), **along)
        self.weights.append((name, numbers, scales, (shape, axis)))
        return name, numbers, scales

    def bias(self, outputs, spread, steps):
        """Return the name and the numbers of a bias, of the ways to write one, or None."""
        if self.one_in(5):
            return None
        values = (self.rng.normal(size=outputs) * spread).astype(np.float32)
        if self.one_in(3) and self.opset >= 13:  # in 32 bits
            codes = np.rint(values / steps).astype(np.int32)
            scales = np.broadcast_to(steps, outputs).astype(np.float32)
            names = [self.constant(codes), self.constant(scales), *([self.constant(np.zeros(outputs, np.int32))]
                                                                    if self.one_in(2) else [])]  # fmt: skip
            name = self.node("DequantizeLinear", names, self.fresh("w"), axis=0)
            return name, codes * scales.astype(np.float64)
        if self.rank == 2 and self.one_in(2):
            rows = (self.batch, 1), (self.batch, outputs)
            shape = rows[0] if outputs == self.batch else self.pick((), (1,), (1, 1), (1, outputs), *rows)
            values = np.asarray(self.rng.normal(size=shape) * spread, np.float32)
        if self.odd and self.one_in(6):  # one that is not constant
            name = self.fresh("x")
            self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(values.shape)))
            self.feeds[name] = values
        else:
            name = self.constant(values)
        return name, values.astype(np.float64)

    def limited_or_curved(self, real):
        op, (opset, function) = self.pick(*CURVES.items())
        if self.odd and self.one_in(3) and self.opset >= opset:
            name = self.node(op, [real.name], self.fresh("k"))
            low, high = (function(np.float64(end)) for end in (real.low, real.high))
            return self.of_one(real, name, real.shape, lambda _, x: [function(x)], float(low), float(high))
        if self.one_in(12):  # limits that exclude one another: ONNX says the upper one holds
            low, high = np.float32(0.1 * real.high), np.float32(0.1 * real.low)
            name = self.node("Clip", [real.name, self.constant(low), self.constant(high)], self.fresh("k"))
            return self.of_one(
                real, name, real.shape, lambda _, x: [np.clip(x, low, high)], float(high), float(high)
            )
        return self.cut(real) or real

    def perhaps_read(self, real):
        """Let something else read a tensor in float, one time in so many."""
        if not (self.odd and self.one_in(4)):
            return
        way = self.pick("node", "output", "codes", "branch", "norm")
        if way == "node":
            self.other_reader(real)
        elif way == "output":
            self.outputs.append((real.name, np.float32, real.shape))
        elif way == "codes":
            q = self.quantization(real.low, real.high)
            self.add(Tensor(self.quantize(real.name, q), q, real.shape, real.parents, real.make))
        elif way == "branch":
            self.read_in_branch(real)
        else:
            gain = self.rng.uniform(0.4, 2, real.shape[1])
            self.norm_in_float(real, gain, gain - 1, last=False, between=False)

    def read_in_branch(self, real):
        """Add an If whose branches read a tensor in float of the graph around them."""
        condition = bool(self.rng.integers(2))
        branches = {}
        for which, op in (("then_branch", "Identity"), ("else_branch", "Neg")):
            out = self.fresh("o")
            value = helper.make_tensor_value_info(out, TensorProto.FLOAT, [None] * len(real.shape))
            nodes = [helper.make_node(op, [real.name], [out])]
            branches[which] = helper.make_graph(nodes, which, [], [value])
        name = self.node("If", [self.constant(np.asarray(condition))], self.fresh("f"), **branches)
        reach = max(abs(real.low), abs(real.high))
        q, sign = self.quantization(-reach, reach), 1.0 if condition else -1.0
        made = lambda _relaxed, *arrays: [sign * x for x in real.make(False, *arrays)]  # noqa: E731
        self.add(Tensor(self.quantize(name, q), q, real.shape, real.parents, made))
