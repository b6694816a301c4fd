"""Draws what quantizers leave in float between codes and a norm: cuts, pools, moves, concatenations and sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from graph_drawing import Drawing
from graph_numbers import Tensor, maximum_of_windows


@dataclass
class Real:
    """A tensor in float over tensors of codes.

    `make` returns what it may be, of the numbers of these: limits as they are or, `relaxed`, at the nearest codes.
    """

    name: str
    shape: tuple[int, ...]
    parents: list
    make: object
    low: float
    high: float
    step: float  # the largest of a code
    part: float = 0.0  # the largest step of a layer's bias in 32 bits


class Paths(Drawing):
    """Tensors in float that are made of codes without rounding."""

    def path(self):
        """Return a tensor in float, mostly of several nodes; None where there is nothing to make it of."""
        start = self.some(lambda t: len(t.shape) == self.rank and 0 not in t.shape[2:])
        if start is None:
            return None
        real = self.leaf(start)
        for _ in range(int(self.rng.integers(1, 4))):
            draw = self.pick(self.cut, self.cut, self.moved, self.moved, self.joined, self.joined, self.added)
            real = draw(real) or real
            if self.one_in(8):  # another reader
                self.other_reader(real)
        return real

    def other_reader(self, real):
        q = self.quantization(-real.high, -real.low)
        name = self.quantize(self.node("Neg", [real.name], self.fresh("f")), q)
        made = lambda _relaxed, *arrays: [-x for x in real.make(False, *arrays)]  # noqa: E731
        self.hidden.append(Tensor(name, q, real.shape, real.parents, made))
        self.outputs.append((name, q.dtype, real.shape))

    def narrowed(self):
        """Add codes cut off at both ends, as 7 and 4 bits are written, and perhaps moved."""
        tensor = self.some(lambda t: t.q.per_tensor)
        if tensor is None or self.opset < 13 or 0 in tensor.shape:
            return None
        info = np.iinfo(tensor.q.dtype)
        limits = [np.asarray(end, tensor.q.dtype) for end in (info.min + 31, info.max - 47)]
        names = [self.constant(limit) if self.one_in(2) else "" for limit in limits]
        low, high = (tensor.q.real(limit) if name else sign * np.inf
                     for limit, name, sign in zip(limits, names, (-1, 1), strict=True))  # fmt: skip
        name = self.node("Clip", [tensor.name, *names], self.fresh("q"))
        if self.one_in(3):
            name = self.node("Identity", [name], self.fresh("q"))
        made = lambda _relaxed, x: [np.clip(x, low, high)]  # noqa: E731
        return self.add(Tensor(name, tensor.q, tensor.shape, [(tensor, tensor.q)], made))

    def leaf(self, tensor):
        q = self.reading(tensor)
        low, high = self.span(tensor, q)
        step = float(np.max(q.scale))
        return Real(
            self.dequantize(tensor, q), tensor.shape, [(tensor, q)], lambda _relaxed, x: [x], low, high, step
        )

    def like(self, real, axis=None):
        """Return a leaf of the same shape but for one axis, cut or not, of the same type mostly."""
        dtype = real.parents[0][0].q.dtype
        other = self.some(
            lambda t: (t.q.dtype == dtype or self.mixed) and len(t.shape) == len(real.shape)
            and all(m == n or i == axis for i, (m, n) in enumerate(zip(t.shape, real.shape, strict=True)))
        )  # fmt: skip
        if other is None:
            return None
        found = self.leaf(other)
        return self.cut(found) if self.one_in(3) else found

    def of_one(self, real, name, shape, function, low, high):
        def make(relaxed, *arrays):
            return [y for x in real.make(relaxed, *arrays) for y in function(relaxed, x)]

        return Real(name, shape, real.parents, make, low, high, real.step, real.part)

    def of_two(self, a, b, name, shape, function, ends):
        first = len(a.parents)

        def make(relaxed, *arrays):
            xs, ys = a.make(relaxed, *arrays[:first]), b.make(relaxed, *arrays[first:])
            return [function(x, y) for x in xs for y in ys]

        return Real(name, shape, a.parents + b.parents, make, *ends, max(a.step, b.step))

    def cut(self, real):
        """Add a Relu, or a Clip whose limits are between codes, if not by chance."""
        if self.one_in(2):
            low, high = 0.0, np.inf
            name = self.node("Relu", [real.name], self.fresh("k"))
        else:
            middle = (real.low + real.high) / 2
            low, high = self.pick((0.0, 0.7 * real.high), (0.8 * real.low, middle), (middle, np.inf))
            low, high = (float(np.float32(v)) for v in (low, high))
            if self.opset < 11:
                return None
            bounds = ["" if np.isinf(v) else self.constant(np.float32(v)) for v in (low, high)]
            name = self.node("Clip", [real.name, *bounds], self.fresh("k"))

        def function(relaxed, x):
            """Try limits half a code lower and higher; 0 is a code. What they are lies between."""
            off = 0.5 * real.step if relaxed else 0.0
            ways = {(low + nudge if low else low, high + nudge) for nudge in (-off, off)}
            return [np.clip(x, *limits) for limits in ways]

        return self.of_one(real, name, real.shape, function, max(real.low, low), min(real.high, high))

    def moved(self, real):
        """Add a pool, moves that cancel one another, or a Flatten of what has no extent behind the channels."""
        if self.one_in(3) and real.shape[0]:
            name, shape, function = self.picked(real.name, real.shape)
            low, high = min(real.low, 0.0), max(real.high, 0.0)  # a Pad adds zeros
            return self.of_one(real, name, shape, lambda _, x: [function(x)], low, high)
        way = self.pick("MaxPool", "Identity", "Transpose", "Squeeze", "Reshape")
        if way == "MaxPool":
            if len(real.shape) != 4 or not real.shape[0]:
                return None
            name = self.node("MaxPool", [real.name], self.fresh("k"), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            return self.of_one(real, name, real.shape, lambda _, x: [maximum_of_windows(x)], real.low, real.high)
        name = real.name
        if way == "Transpose":
            order = [0, *range(2, len(real.shape)), 1]
            back = [0, len(real.shape) - 1, *range(1, len(real.shape) - 1)]
            for perm in (order, back):
                name = self.node("Transpose", [name], self.fresh("k"), perm=perm)
        elif way == "Reshape":
            shape = [0, real.shape[1], *real.shape[2:]]
            name = self.node("Reshape", [name, self.constant(np.int64(shape))], self.fresh("k"))
        elif way == "Squeeze" and self.opset >= 13:
            axes = self.constant(np.int64([len(real.shape)]))
            name = self.node("Unsqueeze", [name, axes], self.fresh("k"))
            name = self.node("Squeeze", [name, axes], self.fresh("k"))
        else:
            name = self.node("Identity", [name], self.fresh("k"))
        return self.of_one(real, name, real.shape, lambda _, x: [x], real.low, real.high)

    def picked(self, name, shape):
        """Add a node that picks numbers; return what it makes, of which shape, and the same for arrays."""
        rank = len(shape)
        axis = int(self.rng.integers(1, rank))
        written = self.constant(np.int64([axis - rank if self.one_in(2) else axis]))
        way = self.pick("Slice", "Slice", "Split", "Pad", "Pad", "Resize", "Gather", "Tile", "ReduceMax")
        if way == "Slice":
            step = self.pick(1, 2, -1)
            bounds = [shape[axis] - 1, -(2**31)] if step < 0 else [0, max(1, shape[axis] - 1)]
            inputs = [*(self.constant(np.int64([n])) for n in bounds), written, self.constant(np.int64([step]))]
            function = lambda x: np.moveaxis(np.moveaxis(x, axis, 0)[slice(None if step < 0 else 0,  # noqa: E731
                                             None if step < 0 else bounds[1], step)], 0, axis)  # fmt: skip
            name = self.node("Slice", [name, *inputs], self.fresh("k"))
        elif way == "Split" and shape[axis] > 1:
            sizes, outputs = [1, shape[axis] - 1], [self.fresh("k"), self.fresh("k")]
            sized = {"split": sizes} if self.opset < 13 else {}
            inputs = [name, *([] if sized else [self.constant(np.int64(sizes))])]
            self.node("Split", inputs, outputs[0], axis=axis, **sized)
            self.nodes[-1].output.append(outputs[1])
            at = int(self.rng.integers(2))
            name, function = outputs[at], lambda x: np.split(x, [1], axis)[at]
        elif way == "Pad":
            ends = [(0, 0)] * rank
            ends[axis] = self.pick((1, 0), (1, 2), (0, 1))
            pads = np.int64([n for i in (0, 1) for n in (end[i] for end in ends)])
            mode = self.pick("constant", "constant", "edge")
            zero = [self.constant(np.float32(0))] if mode == "constant" and self.one_in(2) else []
            name = self.node("Pad", [name, self.constant(pads), *zero], self.fresh("k"), mode=mode)
            function = lambda x: np.pad(x, ends, mode)  # noqa: E731
        elif way == "Resize" and rank == 4:
            repeats = self.pick((2, 2), (1, 2))
            named = self.one_in(2)
            sizes = np.int64([*shape[:2], *(n * k for n, k in zip(shape[2:], repeats, strict=True))])
            inputs = ["", self.constant(sizes)] if named else [self.constant(np.float32([1, 1, *repeats]))]
            none = [self.constant(np.float32([]))] * 2 if self.opset < 13 else ["", ""]
            inputs = [none[0], *(none[1:] if named else []), inputs[-1]]
            name = self.node("Resize", [name, *inputs], self.fresh("k"), mode="nearest", nearest_mode="floor",
                             coordinate_transformation_mode="asymmetric")  # fmt: skip
            function = lambda x: x.repeat(repeats[0], 2).repeat(repeats[1], 3)  # noqa: E731
        elif way == "Gather":
            order = np.int64(self.rng.integers(0, shape[axis], int(self.rng.integers(1, 4))))
            name = self.node("Gather", [name, self.constant(order)], self.fresh("k"), axis=axis)
            function = lambda x: x.take(order, axis)  # noqa: E731
        elif way == "ReduceMax" and axis > 1 and self.opset >= 12:
            if self.opset < 18:
                name = self.node("ReduceMax", [name], self.fresh("k"), axes=[axis])
            else:
                name = self.node("ReduceMax", [name, written], self.fresh("k"))
            function = lambda x: x.max(axis, keepdims=True)  # noqa: E731
        else:
            repeats = [2 if i == axis else 1 for i in range(rank)]
            name = self.node("Tile", [name, self.constant(np.int64(repeats))], self.fresh("k"))
            function = lambda x: np.tile(x, repeats)  # noqa: E731
        return name, function(np.empty(shape)).shape, function

    def joined(self, real):
        axis = 1 if self.rank == 2 or not self.one_in(6) else 2
        other = self.like(real, axis)
        if other is None:
            return None
        a, b = (real, other) if self.one_in(2) else (other, real)
        written = axis - len(real.shape) if self.one_in(4) else axis
        name = self.node("Concat", [a.name, b.name], self.fresh("k"), axis=written)
        shape = tuple(m + n if i == axis else m for i, (m, n) in enumerate(zip(a.shape, b.shape, strict=True)))
        ends = min(a.low, b.low), max(a.high, b.high)
        return self.of_two(a, b, name, shape, lambda x, y: np.concatenate([x, y], axis), ends)

    def added(self, real):
        other = self.like(real)
        if other is None:
            return None
        if self.one_in(6) and self.opset >= 12:  # the larger ones, of one scale perhaps
            name = self.node("Max", [real.name, other.name], self.fresh("k"))
            ends = max(real.low, other.low), max(real.high, other.high)
            return self.of_two(real, other, name, real.shape, np.maximum, ends)
        name = self.node(self.pick("Add", "Add", "Sum"), [real.name, other.name], self.fresh("k"))
        ends = real.low + other.low, real.high + other.high
        return self.of_two(real, other, name, real.shape, np.add, ends)
