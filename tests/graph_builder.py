"""Draws random quantized graphs with norms."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from graph_drawing import CONTRIBUTED
from graph_layers import Layers
from graph_numbers import Q, Tensor, stepwise
from graph_paths import Real
from onnx import TensorProto, helper


@dataclass
class _Norm:
    """A norm in the making, and what it does to numbers; `inner` are conversions behind so many steps."""

    real: str
    rank: int
    gain: np.ndarray
    shift: np.ndarray
    low: float
    high: float
    last: bool  # the channels are the last axis
    arithmetic: bool = False
    steps: list = field(default_factory=list)
    inner: list = field(default_factory=list)

    @property
    def column(self):
        return _column(self.rank, self.last)

    def affine(self, gain, shift):
        self.steps.append(("affine", *(np.asarray(v, np.float64).reshape(self.column) for v in (gain, shift))))
        ends = [gain * end + shift for end in (self.low, self.high)]
        self.low, self.high = float(np.min(ends)), float(np.max(ends))


def _column(rank, last, *, full=False):
    """Return the shape of a constant along axis 1, or the last one; `full` has all axes."""
    ones = [1] * (rank - 2)
    return (*[1] * (rank - 1) * full, -1) if last else (*[1] * full, -1, *ones)


class RandomGraph(Layers):
    """A whole graph: what there is to read, then norms, sums, concatenations, moves and branches."""

    def norm(self, tensor=None):
        tensor = tensor or self.some()
        real = self.path() if self.one_in(3) else None
        if real is not None:
            return self.norm_of_path(real)
        q = self.reading(tensor)
        last = len(tensor.shape) > 2 and q.per_tensor and not self.empty and self.one_in(6)
        c = tensor.shape[-1 if last else 1]
        gain = self.rng.uniform(0.4, 2, c) * self.rng.choice([-1, 1], c, p=[0.2, 0.8])
        if self.one_in(12):
            gain[0] = 0
        low, high = self.span(tensor, q)
        shift = self.rng.normal(size=c) * (high - low) / 4
        if self.form == "QOperator" and self.one_in(2) and q.per_tensor and not self.mixed:
            return self.norm_of_bytes(tensor, q, gain, shift, last=last)
        leaf = Real(
            self.dequantize(tensor, q), tensor.shape, [(tensor, q)], lambda _, x: [x], low, high, np.max(q.scale)
        )
        return self.norm_in_float(leaf, gain, shift, last, between=q.per_tensor)

    def norm_of_path(self, real):
        """Add a norm behind what is left in float, and perhaps another one."""
        for _ in range(2 if self.one_in(4) else 1):
            c = real.shape[1]
            gain = self.rng.uniform(0.4, 2, c) * self.rng.choice([-1, 1], c, p=[0.2, 0.8])
            shift = self.rng.normal(size=c) * (real.high - real.low) / 4
            made = self.norm_in_float(real, gain, shift, last=False, between=False)
        return made

    def norm_in_float(self, real, gain, shift, last, *, between):
        n = _Norm(real.name, len(real.shape), gain, shift, real.low, real.high, last)
        may_pool = n.rank == 4 and self.opset >= 12 and not self.empty
        if may_pool and self.one_in(16):
            self.pool(n)
        if self.one_in(2) and not last:
            self.batch_normalization(n)
        else:
            self.mul_and_add(n, between=self.form == "QDQ" and between)
        if self.one_in(8):  # its own output is one of the model, too
            self.outputs.append((n.real, np.float32, real.shape))
        elif self.one_in(10):
            self.outputs.append((self.node("Neg", [n.real], self.fresh("f")), np.float32, real.shape))
        if self.one_in(3):
            self.activation(n)
        if may_pool and self.one_in(16):
            self.pool(n)
        low, high = (end * self.rng.uniform(0.6, 1.1) for end in (n.low, n.high))
        out = self.quantization(low, high, relu=self.one_in(4))
        most = float(np.max(np.abs(n.gain))) / out.step
        said = {"slope": most * real.step, "part": most * real.part, "norm": True, "arithmetic": n.arithmetic}

        def make(relaxed, *arrays):
            return [y for x in real.make(relaxed, *arrays) for y in stepwise(x, n.steps, n.inner, relaxed)]

        first = ""
        for _ in range(2 if self.one_in(6) else 1):  # another reader may have a QuantizeLinear of its own
            made = Tensor(self.quantize(n.real, out), out, real.shape, real.parents, make, twin=first, **said)
            first = made.name
            self.add(made)
        if self.one_in(8) and 0 not in real.shape:  # and another one picks of it first
            name, shape, function = self.picked(n.real, real.shape)
            steps_picked = [*n.steps, ("picked", function)]

            def picked(relaxed, *arrays):
                return [
                    y for x in real.make(relaxed, *arrays) for y in stepwise(x, steps_picked, n.inner, relaxed)
                ]

            self.add(Tensor(self.quantize(name, out), out, shape, real.parents, picked, **said))
        if self.one_in(6):  # and another one moves it first
            pools = may_pool and self.one_in(2)
            window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]} if pools else {}
            name = self.node("MaxPool" if pools else "Identity", [n.real], self.fresh("m"), **window)
            steps = [*n.steps, ("pool",)] if pools else n.steps

            def moved(relaxed, *arrays):
                return [y for x in real.make(relaxed, *arrays) for y in stepwise(x, steps, n.inner, relaxed)]

            self.add(Tensor(self.quantize(name, out), out, real.shape, real.parents, moved, **said))
        return made

    def pool(self, n):
        n.real = self.node("MaxPool", [n.real], self.fresh("m"), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        n.steps.append(("pool",))

    def batch_normalization(self, n):
        c, epsilon = len(n.gain), 1e-3
        var, mean = self.rng.uniform(0.2, 2, c), self.rng.normal(size=c)
        weight = n.gain * np.sqrt(var + epsilon)
        values = [np.asarray(v, np.float32) for v in (weight, n.shift + mean * n.gain, mean, var)]
        weight, bias, mean, var = (v.astype(np.float64) for v in values)
        gain = weight / np.sqrt(var + np.float32(epsilon))
        names = [self.constant(v) for v in values]
        if self.one_in(12):  # it stays in float: one of its parameters is computed of an input
            given = self.fresh("x")
            self.inputs.append(helper.make_tensor_value_info(given, TensorProto.FLOAT, [c]))
            self.feeds[given] = -values[1]
            names[1] = self.node("Neg", [given], self.fresh("f"))
        n.real = self.node("BatchNormalization", [n.real, *names], self.fresh("b"), epsilon=epsilon)
        n.affine(gain, bias - mean * gain)

    def mul_and_add(self, n, *, between):
        gain, shift = (np.asarray(v, np.float32) for v in (n.gain, n.shift))
        ways = [("Mul", gain), ("Add", shift)]
        n.arithmetic = True
        for i, (op, value) in enumerate(ways[::-1] if self.one_in(3) else ways):
            column = value.reshape(n.column if self.one_in(3) else _column(n.rank, n.last, full=True))
            operands = [n.real, self.constant(column)]
            n.real = self.node(op, operands if self.one_in(2) else operands[::-1], self.fresh("b"))
            n.affine(value if op == "Mul" else np.ones_like(value), value if op == "Add" else np.zeros_like(value))
            if i == 0 and between and self.one_in(2):
                self.between(n, self.inner(n.low, n.high, relu=self.one_in(3)))

    def activation(self, n):
        limits = self.pick((0.0, np.inf), (0.0, n.high / 3), (-0.5, 0.5), (0.1 * n.high, np.inf))
        if self.form == "QDQ" and self.one_in(3):
            self.between(n, self.inner(n.low, n.high, relu=self.one_in(4)))
        if limits == (0.0, np.inf):
            n.real = self.node("Relu", [n.real], self.fresh("a"))
        else:
            bounds = ["" if np.isinf(v) else self.constant(np.float32(v)) for v in limits]
            n.real = self.node("Clip", [n.real, *bounds], self.fresh("a"))
        n.steps.append(("clip", *(np.float64(np.float32(v)) for v in limits)))
        n.low, n.high = (float(np.clip(v, *limits)) for v in (n.low, n.high))

    def inner(self, low, high, **form):
        """Return a quantization between two steps, whose codes may saturate."""
        ends = [end * (self.rng.uniform(0.3, 1) if self.one_in(3) else 1) for end in (low, high)]
        return self.quantization(*ends, **form)

    def between(self, n, q):
        """Add a QuantizeLinear and a DequantizeLinear, mostly of one quantization."""
        name = self.quantize(n.real, q)
        read = Q(np.asarray(q.scale * np.float32(2)), q.zero_point) if self.one_in(3) else q
        n.inner.append((len(n.steps), q, read))
        n.real = self.node("DequantizeLinear", [name, *self.names_of(read)], self.fresh("r"))
        n.low, n.high = (float(np.clip(end, *q.range())) * read.step / q.step for end in (n.low, n.high))

    def norm_of_bytes(self, tensor, q, gain, shift, *, last):
        """Add QLinearMul and QLinearAdd."""
        c, byte = len(gain), tensor.q.dtype
        column = _column(len(tensor.shape), last)
        held = []
        values = []
        for value in (gain, shift):
            wanted = self.quantization(float(np.min(value)), float(np.max(value)), byte=byte)
            codes = wanted.codes(np.asarray(value).reshape(1, c)).reshape(column)
            scale, zero = wanted.step, wanted.zero
            values.append((codes.astype(np.float64) - zero) * scale)
            held.append([self.constant(codes), self.constant(wanted.scale), self.constant(wanted.zero_point)])
        gain, shift = values
        low, high = self.span(tensor, q)
        ends = [gain * end for end in (low, high)]
        q1 = self.inner(float(np.min(ends)), float(np.max(ends)), byte=byte, relu=self.one_in(3))
        read = Q(np.asarray(q1.scale * np.float32(2)), q1.zero_point) if self.one_in(3) else q1
        ends = [gain * end * read.step / q1.step + shift for end in (low, high)]
        out = self.quantization(float(np.min(ends)), float(np.max(ends)), byte=byte, relu=self.one_in(4))
        names = lambda p: [self.constant(p.scale), self.constant(p.zero_point)]  # noqa: E731
        mid = self.node("QLinearMul", [tensor.name, *names(q), *held[0], *names(q1)], self.fresh("p"), CONTRIBUTED)
        name = self.node("QLinearAdd", [mid, *names(read), *held[1], *names(out)], self.fresh("q"), CONTRIBUTED)
        steps, inner = [("affine", gain, 0.0), ("affine", 1.0, shift)], [(1, q1, read)]
        slope = float(np.max(np.abs(gain))) * q.step / out.step
        make = lambda relaxed, x: stepwise(x, steps, inner, relaxed)  # noqa: E731
        return self.add(
            Tensor(name, out, tensor.shape, [(tensor, q)], make, slope=slope, norm=True, arithmetic=True)
        )

    def averages(self):
        """Add averages of 2x2 behind a convolution of one pixel, as DenseNet has them behind its norms."""
        joined = self.concat()
        if joined is None:
            return None
        norm = self.norm(joined)
        if (
            len(norm.shape) != 4
            or any(n % 2 for n in norm.shape[2:])
            or 0 in norm.shape
            or norm.q.dtype != self.byte
        ):
            return norm
        outputs = int(self.rng.integers(1, 4))
        codes = self.rng.integers(-60, 61, (outputs, norm.shape[1], 1, 1)).astype(np.int8)
        scale = np.float32(0.4 / 60)
        weight = codes.astype(np.float64).reshape(outputs, -1) * float(scale)
        gain = float(np.abs(weight).sum(axis=1).max())
        low, high = (gain * end for end in (-1, 1))
        reach = max(map(abs, self.span(norm, norm.q)))
        mid, out = (self.quantization(low * reach * f, high * reach * f, byte=self.byte, relu=self.one_in(4))
                    for f in (0.8, 0.6))  # fmt: skip
        shape = (norm.shape[0], outputs, *(size // 2 for size in norm.shape[2:]))
        names = [self.constant(codes), self.constant(scale), self.constant(np.int8(0))]
        window = {"kernel_shape": [2, 2], "strides": [2, 2]}
        pair = lambda p: [self.constant(p.scale), self.constant(p.zero_point)]  # noqa: E731
        if self.form == "QDQ":
            weights = self.node("DequantizeLinear", names, self.fresh("r"))
            real = self.node("Conv", [self.dequantize(norm), weights], self.fresh("v"))
            holder = Tensor(self.quantize(real, mid), mid, shape)
            real = self.node("AveragePool", [self.dequantize(holder)], self.fresh("v"), **window)
            name = self.quantize(real, out)
        else:
            inputs = [norm.name, *pair(norm.q), *names, *pair(mid)]
            holder = Tensor(self.node("QLinearConv", inputs, self.fresh("q")), mid, shape)
            inputs = [holder.name, *pair(mid), self.constant(out.scale)]
            inputs += [self.constant(out.zero_point)] if out.zero or out.dtype == np.int8 or self.one_in(2) else []
            name = self.node("QLinearAveragePool", inputs, self.fresh("q"), CONTRIBUTED, **window)
        conv = lambda _relaxed, x: [np.einsum("oc,nchw->nohw", weight, x)]  # noqa: E731
        halves = [(slice(None), slice(None), slice(i, None, 2), slice(j, None, 2)) for i in (0, 1) for j in (0, 1)]
        mean = lambda _relaxed, x: [sum(x[half] for half in halves) / 4]  # noqa: E731
        between = Tensor(holder.name, mid, (*shape[:2], *norm.shape[2:]), [(norm, norm.q)], conv)
        # A code of the norm is rounded, and its average again; then the convolution, as before its averages.
        slack = (gain * norm.q.step + mid.step / 2) / out.step
        self.hidden.append(between)
        if not self.one_in(3):  # nothing else reads it
            self.tensors.remove(norm)
            self.hidden.append(norm)
        return self.add(Tensor(name, out, shape, [(between, mid)], mean, slack=slack))

    def sum(self):
        a = self.some(lambda t: t.q.per_tensor)
        b = a and self.some(lambda t: t.shape == a.shape and t.q.per_tensor and t.q.dtype == a.q.dtype)
        if b is None:
            return None
        ends = [sum(pair) for pair in zip(self.span(a, a.q), self.span(b, b.q), strict=True)]
        byte = None if self.form == "QDQ" else a.q.dtype
        tight = self.rng.uniform(0.7, 1)
        q = self.quantization(ends[0] * tight, ends[1] * tight, byte=byte, relu=self.one_in(4))
        return self.join("Add", [a, b], q, lambda _relaxed, x, y: [x + y])

    def concat(self):
        axis = 1 if self.rank == 2 or not self.one_in(8) else 2
        first = self.some(lambda t: t.q.per_tensor)
        if first is None:
            return None
        parts = [first]
        for _ in range(int(self.rng.integers(1, 4))):
            part = self.some(
                lambda t: t.q.per_tensor and t.q.dtype == first.q.dtype and len(t.shape) == len(first.shape)
                and all(m == n for i, (m, n) in enumerate(zip(t.shape, first.shape, strict=True)) if i != axis)
            )  # fmt: skip
            parts.append(part)
        lows, highs = zip(*(self.span(p, p.q) for p in parts), strict=True)
        byte = None if self.form == "QDQ" else first.q.dtype
        q = self.quantization(min(lows), max(highs), byte=byte, relu=self.one_in(5))
        made = lambda _relaxed, *arrays: [np.concatenate(arrays, axis)]  # noqa: E731
        return self.join("Concat", parts, q, made, axis=axis)

    def join(self, op, parts, q, make, **attributes):
        shape = make(False, *(np.zeros(p.shape) for p in parts))[0].shape
        if self.form == "QDQ" or self.batch == 0 or len({p.q.dtype for p in parts} | {q.dtype}) > 1:
            real = self.node(op, [self.dequantize(p) for p in parts], self.fresh("j"), **attributes)
            name = self.quantize(real, q)
            if self.one_in(6):
                other = self.quantize(real, q)
                self.add(
                    Tensor(
                        other,
                        q,
                        shape,
                        [(p, p.q) for p in parts],
                        make,
                        twin=name,
                        joined=True,
                        apart=op == "Concat",
                    )
                )
        else:
            quantized = lambda p: [self.constant(p.scale), self.constant(p.zero_point)]  # noqa: E731
            triples = [text for p in parts for text in (p.name, *quantized(p.q))]
            inputs = [*quantized(q), *triples] if op == "Concat" else [*triples, *quantized(q)]
            name = self.node(f"QLinear{op}", inputs, self.fresh("q"), CONTRIBUTED, **attributes)
        return self.add(Tensor(name, q, shape, [(p, p.q) for p in parts], make, joined=True, apart=op == "Concat"))

    def transposed(self):
        """Add a tensor with its axes moved, and moved back: where converters keep channels last."""
        tensor = self.some(lambda t: len(t.shape) == 4 and t.q.per_tensor)
        if tensor is None:
            return None
        perm, name = [0, 2, 3, 1], tensor.name
        for order in (perm, [0, 3, 1, 2]):
            if self.form == "QDQ":
                holder = Tensor(name, tensor.q, tensor.shape)
                real = self.node("Transpose", [self.dequantize(holder)], self.fresh("m"), perm=order)
                name = self.quantize(real, tensor.q)
            else:
                name = self.node("Transpose", [name], self.fresh("m"), perm=order)
        return self.add(
            Tensor(
                name, tensor.q, tensor.shape, [(tensor, tensor.q)], lambda _relaxed, x: [x], joined=tensor.joined
            )
        )

    def branch(self):
        """Add an If whose branches read numbers or codes of the graph around them."""
        tensor = self.some(lambda t: t.q.per_tensor)
        if tensor is None:
            return None
        condition = bool(self.rng.integers(2))
        codes = self.one_in(2)
        read = tensor.name if codes else self.dequantize(tensor)
        branches = {}
        for which, op in (("then_branch", "Identity"), ("else_branch", "Neg")):
            nodes, out = [], self.fresh("o")
            if codes:
                nodes = [helper.make_node("DequantizeLinear", [read, *self.names_of(tensor.q)], [out + "r"])]
            nodes.append(helper.make_node(op, [out + "r" if codes else read], [out]))
            value = helper.make_tensor_value_info(out, TensorProto.FLOAT, [None] * len(tensor.shape))
            branches[which] = helper.make_graph(nodes, which, [], [value])
        real = self.node("If", [self.constant(np.asarray(condition))], self.fresh("f"), **branches)
        low, high = self.span(tensor, tensor.q)
        q = self.quantization(-max(-low, high), max(-low, high))
        sign = 1.0 if condition else -1.0
        return self.add(
            Tensor(self.quantize(real, q), q, tensor.shape, [(tensor, tensor.q)], lambda _relaxed, x: [sign * x])
        )

    # The whole

    def build(self):
        self.input()
        for _ in range(int(self.rng.integers(0, 3))):
            self.input(self.tensors[0].shape[1] if self.one_in(2) else None)
        for _ in range(int(self.rng.integers(2, 7))):
            others = [self.sum, self.concat, self.transposed, self.branch, self.averages, self.narrowed]
            self.pick(*[self.norm] * 3, *others, *[self.norm_of_layer] * 4 * self.layered)()
        self.norm()
        read = {name for node in self.nodes for name in node.input}
        fed = {v.name for v in self.inputs}
        for tensor in self.tensors:
            if tensor.name not in fed and (tensor.name not in read or self.one_in(6)):
                self.outputs.append((tensor.name, tensor.q.dtype, tensor.shape))
        values = []
        for name, dtype, shape in dict.fromkeys(self.outputs):
            dims = ["N", *(None if self.open and axis else size for axis, size in enumerate(shape[1:]))]
            values.append(
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), dims)
            )
        graph = helper.make_graph(self.nodes, "random", self.inputs, values, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(CONTRIBUTED, 1)]
        ir = 10 if self.opset >= 21 else 9 if self.opset >= 19 else 8
        return helper.make_model(graph, ir_version=ir, opset_imports=opsets)
