"""Draws the small parts of random graphs: names, constants, quantizations, conversions, inputs."""

from __future__ import annotations

import itertools

import numpy as np
from graph_numbers import Q, Tensor
from onnx import TensorProto, helper, numpy_helper

CONTRIBUTED = "com.microsoft"


class Drawing:
    """A graph in the making; `tensors` are those of codes that may be read."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []
        self.tensors: list[Tensor] = []
        self.feeds = {}
        self.hidden = []  # tensors that nothing more is to read
        self.opset = int(self.rng.choice([11, 12, 13, 14, 15, 17, 19, 21, 21, 21]))
        self.form = self.pick("QDQ", "QOperator")
        self.byte = self.pick(np.uint8, np.uint8, np.int8)
        self.mixed = self.one_in(6)
        self.contributed = self.one_in(5)
        self.rank = int(self.rng.choice([2, 3, 4, 4, 4, 5]))
        self.batch = int(self.rng.choice([0, 1, 2, 3], p=[0.05, 0.2, 0.5, 0.25]))
        self.open = self.one_in(3)  # sizes that only the data tell
        self.empty = 2 if self.rank > 2 and self.one_in(12) else 0  # an axis without anything along it
        if self.empty or not self.batch:  # ONNX Runtime's operators on bytes end the process on such data
            self.form = "QDQ"
        self.named = self.pick("unique", "unique", "same", "none")
        self.counter = itertools.count()
        self.shared_reals = {}

    # Drawing

    def pick(self, *things):
        return things[int(self.rng.integers(len(things)))]

    def one_in(self, n):
        return bool(self.rng.random() < 1 / n)

    def fresh(self, stem="t"):
        return f"{stem}{next(self.counter)}"

    def constant(self, value, stem="c"):
        name = self.fresh(stem)
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op, inputs, output, domain="", **attributes):
        name = {"unique": self.fresh("n"), "same": self.pick("norm", "node"), "none": ""}[self.named]
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, domain=domain, **attributes))
        return output

    def quantization(self, low, high, *, byte=None, relu=False):
        """Return a quantization of about this range; with `relu`, of its part above 0."""
        byte = byte or (self.pick(np.uint8, np.int8) if self.mixed else self.byte)
        info = np.iinfo(byte)
        low, high = (0.0 if relu else min(low, 0.0)), max(high, 1e-3)
        if low == 0 and not relu:
            low = -0.1 * high
        scale = np.float32((high - low) / 255)
        zero = info.min if relu else int(np.clip(np.rint(info.min - low / scale), info.min + 1, info.max - 1))
        return Q(np.asarray(scale), np.asarray(zero, byte))

    def span(self, tensor, q):
        """Return the range of what a tensor holds, read in a quantization."""
        info = np.iinfo(tensor.q.dtype)
        scale, zero_point = q.scale.astype(np.float64), q.zero_point.astype(np.float64)
        return float(np.min((info.min - zero_point) * scale)), float(np.max((info.max - zero_point) * scale))

    # Conversions

    def names_of(self, q):
        zero = [self.constant(q.zero_point)]
        if q.dtype == np.uint8 and q.zero_point.size == 1 and q.zero == 0 and self.one_in(2):
            zero = []
        return [self.constant(q.scale.astype(np.float32)), *zero]

    def domain_of_conversion(self):
        return CONTRIBUTED if self.contributed and self.one_in(2) else ""

    def dequantize(self, tensor, q=None):
        """Return the name of a tensor's numbers, the one that is there or a new one."""
        q = q or tensor.q
        key = (tensor.name, q.scale.tobytes(), q.zero_point.tobytes())
        if key in self.shared_reals and self.one_in(2):
            return self.shared_reals[key]
        domain = self.domain_of_conversion()
        axis = {"axis": 1} if q.scale.size > 1 else {}
        made = self.node("DequantizeLinear", [tensor.name, *self.names_of(q)], self.fresh("r"), domain, **axis)
        self.shared_reals[key] = made
        return made

    def quantize(self, real, q, name=None):
        name = name or self.fresh("q")
        names, extra = self.names_of(q), {}
        if self.opset >= 21 and len(names) > 1 and self.one_in(2):
            extra = {"output_dtype": helper.np_dtype_to_tensor_dtype(q.dtype)}
            if q.zero == 0 and self.one_in(2):
                names.pop()
        domain = "" if extra or len(names) < 2 else self.domain_of_conversion()
        return self.node("QuantizeLinear", [real, *names], name, domain, **extra)

    def reading(self, tensor):
        """Return the quantization that a tensor is read in: mostly its own."""
        if self.form == "QDQ" and tensor.q.per_tensor and self.one_in(12):
            other = int(np.clip(tensor.q.zero + self.rng.integers(-9, 9), 1, 100))
            return Q(
                np.asarray(tensor.q.scale * np.float32(self.rng.uniform(0.5, 2))),
                np.asarray(other, tensor.q.dtype),
            )
        return tensor.q

    def add(self, tensor):
        self.tensors.append(tensor)
        return tensor

    # Tensors

    def input(self, channels=None):
        c = channels or int(self.rng.integers(1, 6))
        shape = (self.batch, c, *(int(n) for n in self.rng.choice([2, 4], self.rank - 2)))
        if self.tensors:
            shape = (*shape[:2], *self.tensors[0].shape[2:])
        elif self.empty:
            shape = (*shape[:2], 0, *shape[3:])
        name = self.fresh("x")
        q = self.quantization(-self.rng.uniform(0.5, 4), self.rng.uniform(0.5, 4))
        dims = ["N", c, *(f"D{axis}" if self.open or not size else size for axis, size in enumerate(shape[2:]))]
        if self.one_in(3):
            q0, codes = q, self.fresh("q")
            self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
            self.feeds[name] = self.rng.uniform(*q0.range(), shape).astype(np.float32)
            fed = self.feeds[name].astype(np.float64)
            self.quantize(name, q0, codes)
            return self.add(Tensor(codes, q0, shape, [], lambda _relaxed: [fed]))
        if self.opset >= 13 and c > 1 and self.one_in(5):  # per channel
            spread = self.rng.uniform(0.5, 2, c).astype(np.float32)
            shift = self.rng.integers(-9, 9, c)
            info = np.iinfo(q.dtype)
            zeros = np.clip(q.zero + shift, info.min, info.max).astype(q.dtype)
            q = Q(np.asarray(q.scale * spread, np.float32), zeros)
        kind = helper.np_dtype_to_tensor_dtype(q.dtype)
        self.inputs.append(helper.make_tensor_value_info(name, kind, dims))
        info = np.iinfo(q.dtype)
        self.feeds[name] = self.rng.integers(info.min, info.max + 1, shape).astype(q.dtype)
        return self.add(Tensor(name, q, shape))

    def some(self, condition=lambda tensor: True):
        """Return one of the tensors, late ones rather."""
        fitting = [t for t in self.tensors if condition(t)]
        return fitting[-1 - int(self.rng.integers(min(3, len(fitting))))] if fitting else None
