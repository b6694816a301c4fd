"""Norms disappear into the layers behind them, and the network computes what it did."""

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from test_onnx_folding import model, norm, operators, run

from bytenorm import onnx as bno
from bytenorm.onnx.folding.forward import fold_forward, way_forward
from bytenorm.onnx.graph.graph import Graph
from bytenorm.onnx.norms.find import find_norms
from bytenorm.onnx.quantization.quantize import quantize_with_report

U = np.finfo(np.float32).eps / 2


def folded(made):
    """Return the model with its norms folded forward, and the names of those that are gone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    graph = Graph(copy)
    gone = []
    for found in reversed(find_norms(graph)):
        way = way_forward(graph, found)
        if way.layers:
            fold_forward(graph, found, way)
            gone.append(found.name)
    graph.finish()
    onnx.checker.check_model(copy, full_check=True)
    return copy, gone


def sizes(made):
    """Return the model with all that is added up of one sign: it computes how much there is to round.

    That of the mean is turned, as it is subtracted.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    means = {node.input[3] for node in copy.graph.node if node.op_type == "BatchNormalization"}
    for tensor in copy.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if value.dtype == np.float32:
            value = -np.abs(value) if tensor.name in means else np.abs(value)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    for node in copy.graph.node:
        for a in node.attribute:
            if a.type == onnx.AttributeProto.FLOAT:
                a.f = abs(a.f)
    return copy


def assert_same(result, made, feed):
    """Compare two models: sums of n products are off by n half units of the sum of their sizes at most.

    The longest sums here have some 200 terms, pools and the norm's own dozen roundings included.
    """
    bound = run(sizes(made), {name: np.abs(x) for name, x in feed.items()})
    for got, want, size in zip(run(result, feed), run(made, feed), bound, strict=True):
        assert got.shape == want.shape
        tolerance = 2 * 200 * U * np.abs(size)
        assert np.all(np.abs(got - want) <= tolerance)
        assert np.ptp(want) > 100 * np.max(tolerance)


# --- random networks ------------------------------------------------------------------------------------------


class Forward:
    """A network in the making: a norm, moves and pools behind it, and layers that read them.

    `folds` says what must become of the norm.
    """

    def __init__(self, seed):
        self.rng = r = np.random.default_rng([41, seed])
        self.nodes, self.values, self.folds = [], {}, True
        self.count = itertools.count()
        self.opset = int(r.choice([13, 14, 17, 18, 20]))
        rank = int(r.choice([2, 2, 3, 4, 4, 5]))
        self.channels = c = int(r.choice([2, 4, 6]))
        self.shape = (3, c, *(int(n) for n in r.choice([4, 5, 6], rank - 2)))
        self.positive, self.centred = bool(r.random() < 0.5), bool(r.random() < 0.15)
        self.tensor, self.dims, self.axis = "x", [int(n) for n in self.shape], 1
        if r.random() < 0.5:
            self.op("Relu", [self.tensor])
        self.norm()
        start = self.tensor, list(self.dims), self.axis
        ends = []
        for _ in range(int(r.choice([1, 1, 2, 3]))):
            self.tensor, self.dims, self.axis = start[0], list(start[1]), start[2]
            for _ in range(int(r.choice([0, 0, 1, 2]))):
                self.move()
            ends.append(self.layer())
        self.ends = ends
        if r.random() < 0.1:
            ends.append(start[0])
            self.folds = False

    def value(self, value, dtype=np.float32):
        name = f"k{next(self.count)}"
        self.values[name] = np.asarray(value, dtype)
        return name

    def op(self, op, inputs, **attributes):
        self.tensor = f"t{next(self.count)}"
        self.nodes.append(helper.make_node(op, inputs, [self.tensor], name=self.tensor, **attributes))
        return self.tensor

    def norm(self):
        r, c = self.rng, self.channels
        gain = r.uniform(0.5, 2, c) * (1 if self.positive else r.choice([-1, 1], c))
        if not self.positive:
            gain[0] = -abs(gain[0])
        if self.centred:
            self.op(
                "BatchNormalization", [self.tensor, *(self.value(v) for v in (gain, 0 * gain, 0 * gain, gain**2))]
            )
            return
        shift = r.normal(0, 1, c)
        if r.random() < 0.6:
            names = [self.value(v) for v in (gain, shift, r.normal(0, 0.5, c), r.uniform(0.3, 2, c))]
            self.op("BatchNormalization", [self.tensor, *names])
            return
        column = (c, *[1] * (len(self.dims) - 2))
        self.op("Mul", [self.tensor, self.value(gain.reshape(column))])
        self.op("Add", [self.tensor, self.value(shift.reshape(column))])

    def move(self):
        """Go past a node that leaves each channel what it is; the norm's channels are on `axis`."""
        r = self.rng
        image = len(self.dims) > 2 and self.axis == 1
        ways = [self.nothing, self.transpose, self.unsqueeze]
        ways += [self.pool, self.pool, self.everywhere, self.mean, self.flatten, self.flatten] if image else []
        ways[int(r.integers(len(ways)))]()

    def nothing(self):
        self.op(str(self.rng.choice(["Identity", "Dropout"])), [self.tensor])

    def transpose(self):
        perm = [0, *(1 + self.rng.permutation(len(self.dims) - 1))]
        self.op("Transpose", [self.tensor], perm=[int(i) for i in perm])
        self.dims, self.axis = [self.dims[i] for i in perm], perm.index(self.axis)

    def unsqueeze(self):
        if len(self.dims) > 4:
            return
        self.op("Unsqueeze", [self.tensor, self.value([len(self.dims)], np.int64)])
        self.dims.append(1)

    def pool(self):
        spatial = len(self.dims) - 2
        if min(self.dims[2:]) < 2 or spatial > 3:
            return
        kind = str(self.rng.choice(["AveragePool", "MaxPool"]))
        pad, counts = int(self.rng.integers(2)), int(self.rng.integers(2))
        attributes = {"count_include_pad": counts} if kind == "AveragePool" else {}
        self.op(kind, [self.tensor], kernel_shape=[2] * spatial, pads=[pad] * 2 * spatial, **attributes)
        self.dims[2:] = [n - 1 + 2 * pad for n in self.dims[2:]]
        self.folds &= self.positive if kind == "MaxPool" else not (pad and counts) or self.centred

    def everywhere(self):
        kind = str(self.rng.choice(["GlobalAveragePool", "GlobalMaxPool"]))
        self.op(kind, [self.tensor])
        self.dims[2:] = [1] * len(self.dims[2:])
        self.folds &= self.positive or kind == "GlobalAveragePool"

    def mean(self):
        axes, keep = list(range(2, len(self.dims))), int(self.rng.integers(2))
        if self.opset < 18:
            self.op("ReduceMean", [self.tensor], axes=axes, keepdims=keep)
        else:
            self.op("ReduceMean", [self.tensor, self.value(axes, np.int64)], keepdims=keep)
        self.dims[2:] = [1] * len(axes) if keep else []

    def flatten(self):
        long = int(np.prod(self.dims[1:]))
        if self.rng.random() < 0.5:
            self.op("Flatten", [self.tensor])
        else:
            self.op("Reshape", [self.tensor, self.value(self.rng.choice([[0, -1], [-1, long]]), np.int64)])
        self.dims = [self.dims[0], long]

    def layer(self):
        r, dims = self.rng, self.dims
        bias = r.random() < 0.6
        if len(dims) == 2 and self.axis == 1 and r.random() < 0.6:
            weight, turned = r.normal(size=(dims[1], 5)), int(r.integers(2))
            factors = {"alpha": 0.5, "beta": 3.0} if r.random() < 0.4 else {}
            addend = r.normal(size=[(5,), (1, 5), (1,), ()][int(r.integers(4))])
            inputs = [self.value(weight.T if turned else weight), *([self.value(addend)] if bias else [])]
            return self.op("Gemm", [self.tensor, *inputs], transB=turned, **factors)
        if len(dims) > 2 and self.axis == 1 and dims[1] % 2 == 0 and r.random() < 0.8:
            group, spatial = int(r.choice([1, 2])), dims[2:]
            pad, kind = int(r.random() < 0.2), str(r.choice(["Conv", "Conv", "Conv", "ConvTranspose"]))
            kernel = [int(r.integers(1, min(3, n) + 1)) for n in spatial]
            shape = (4, dims[1] // group) if kind == "Conv" else (dims[1], 4 // group)
            more = [self.value(r.normal(size=4))] if bias else []
            if kind == "ConvTranspose":
                pad = 0
                self.folds &= self.centred or max(kernel) == 1
            self.folds &= not pad or self.centred
            return self.op(
                kind, [self.tensor, self.value(r.normal(size=(*shape, *kernel))), *more],
                group=group, pads=[pad] * 2 * len(spatial),
            )  # fmt: skip
        self.folds &= self.axis == len(dims) - 1
        product = self.op("MatMul", [self.tensor, self.value(r.normal(size=(dims[-1], 3)))])
        return self.op("Add", [product, self.value(r.normal(size=3))]) if bias else product

    def model(self):
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *self.shape[1:]])]
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self.ends]
        values = [onnx.numpy_helper.from_array(v, name) for name, v in self.values.items()]
        graph = helper.make_graph(self.nodes, "forward", inputs, outputs, values)
        made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", self.opset)])
        for output in made.graph.output:
            output.ClearField("type")
        return onnx.shape_inference.infer_shapes(made)


@pytest.mark.thorough
def test_random_networks():
    """The oracle is ONNX Runtime on the network as it was; what must fold is known from how it was made."""
    counts = {True: 0, False: 0}
    for seed in range(400):
        network = Forward(seed)
        made = network.model()
        result, gone = folded(made)
        assert bool(gone) == network.folds, f"seed {seed}"
        counts[bool(gone)] += 1
        x = network.rng.normal(size=network.shape).astype(np.float32)
        assert_same(result, made, {"x": x})
    assert min(counts.values()) > 80


# --- by hand --------------------------------------------------------------------------------------------------

X = "(float[2, 4, 6, 6] x) => (float[] y)"
NORM = "n = BatchNormalization(x, w, b, m, v)"
REASONS = {
    "the Relu r reads it": f"{NORM} r = Relu(n) y = Conv(r, k)",
    "the Conv y pads it with zeros": f"{NORM} y = Conv<pads = [1, 1, 1, 1]>(n, k)",
    "the Conv y pads it with zeros ": f'{NORM} y = Conv<auto_pad = "SAME_UPPER">(n, k)',
    "the ConvTranspose y spreads it out": f"{NORM} y = ConvTranspose(n, k)",
    "the Sigmoid z reads it": f"{NORM} z = Sigmoid(n) y = Conv(n, k)",
    "the Add y reads it": f"{NORM} y = Add(n, x)",
    "the weight of the Conv y is not constant": f"{NORM} y = Conv(n, x)",
    "the bias of the Conv y is not constant": (
        f"{NORM} l = ReduceMax<axes = [0, 2, 3], keepdims = 0>(x) y = Conv(n, k, l)"
    ),
    "the weight of the Conv y is quantized": f"{NORM} d = DequantizeLinear(k8, s) y = Conv(n, d)",
    "the MatMul y does not sum over its channels": f"{NORM} y = MatMul(n, k3)",
    "the MatMul y reads it": f"{NORM} y = MatMul(k3, n)",
    "the MaxPool p reads it, and not all of its gains are positive": (
        f"{NORM} p = MaxPool<kernel_shape = [2, 2]>(n) y = Conv(p, k)"
    ),
    "the AveragePool p counts the zeros around it": (
        f"{NORM} p = AveragePool<kernel_shape = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(n) "
        "y = Conv(p, k)"
    ),
    "the Dropout p may drop some of it": f"{NORM} p = Dropout(n, s, t) y = Conv(p, k)",
    "the MaxPool p reads it": f"{NORM} p, i = MaxPool<kernel_shape = [2, 2]>(n) y = Conv(p, k)",
    "the Reshape p does not leave its channels on one axis": f"{NORM} p = Reshape(n, split) y = MatMul(p, k3)",
    "an output of the model needs it": "y = BatchNormalization(x, w, b, m, v) z = Conv(y, k)",
    "a subgraph reads it": (
        f"{NORM} c = Conv(n, k) y = If(t)<then_branch = a () => (float[] p) {{ p = Identity(n) }}, "
        "else_branch = b () => (float[] q) { q = Identity(c) }>"
    ),
    "its input_var is -1.0 in channel 0": "n = BatchNormalization(x, w, b, m, w) y = Conv(n, k)",
}  # fmt: skip


@pytest.mark.parametrize("reason", REASONS)
def test_what_is_not_folded(rng, reason):
    values = norm(rng, 4) | {
        "w": np.float32([-1, 1, 2, 1]), "s": np.float32(0.1), "k": np.float32(rng.normal(size=(4, 4, 2, 2))),
        "k3": rng.normal(size=(6, 6)).astype(np.float32),
        "k8": np.ones((4, 4, 2, 2), np.uint8), "t": np.array(True), "split": np.int64([2, 2, 12, 6]),
    }  # fmt: skip
    made = model(f"{X} {{ {REASONS[reason]} }}", **values)
    graph = Graph(made)
    (found,) = find_norms(graph)
    assert way_forward(graph, found).layers == ()
    assert way_forward(graph, found).reason == reason.strip()


def test_shared_weights_and_chains(rng):
    """Each layer gets its own weight, also where another one, without a norm, has the same; two norms go."""
    made = model(
        """(float[2, 4, 6, 6] x) => (float[2, 4, 5, 5] y, float[2, 4, 5, 5] z, float[2, 4, 5, 5] u) {
            n = BatchNormalization(x, w, b, m, v) p = AveragePool<kernel_shape = [1, 1]>(n)
            o = BatchNormalization(p, w, b, m, v)
            y = Conv(o, k, l) z = Conv(o, k) u = Conv(x, k, l)
        }""",
        **norm(rng, 4), k=np.float32(rng.normal(size=(4, 4, 2, 2))), l=np.float32(rng.normal(size=4)),
    )  # fmt: skip
    result, gone = folded(made)
    assert sorted(gone) == ["n", "o"]
    assert sorted(operators(result)) == ["AveragePool", "Conv", "Conv", "Conv"]
    assert_same(result, made, {"x": rng.normal(size=(2, 4, 6, 6)).astype(np.float32)})


def test_inspection_says_where_it_folds(rng):
    made = model(
        f"""{X} {{ {NORM} c = Conv(n, k) d = Conv(n, k) y = Add(c, d) }}""",
        **norm(rng, 4), k=rng.normal(size=(4, 4, 2, 2)).astype(np.float32),
    )  # fmt: skip
    (found,) = bno.inspect(made).norms
    assert (found.folds_into, found.forward, found.reason_forward) == ("Conv c and Conv d", True, "")
    assert found.folds() == "the next layers Conv c and Conv d"
    assert found.reason == "it reads an input of the model"


# --- what 8-bit weights hold ----------------------------------------------------------------------------------


def linear(rng, gain):
    """Return Linear, Relu, norm, Linear; the first channel is always 0."""
    first, bias = rng.normal(0, 0.4, (8, 16)), rng.normal(0, 0.1, 16)
    first[:, 0], bias[0] = 0, -1
    gains = rng.uniform(0.5, 1.5, 16)
    gains[0] = gain
    return model(
        """(float[N, 8] x) => (float[N, 12] y) {
            a = Gemm(x, k0, l0) r = Relu(a) n = BatchNormalization(r, w, b, m, v) y = Gemm(n, k1, l1)
        }""",
        k0=np.float32(first), l0=np.float32(bias), k1=rng.normal(0, 0.3, (16, 12)).astype(np.float32),
        l1=np.zeros(12, np.float32), w=np.float32(gains), b=rng.normal(0, 0.2, 16).astype(np.float32),
        m=np.zeros(16, np.float32), v=np.ones(16, np.float32),
    )  # fmt: skip


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("quant_format", ["QDQ", "QOperator"])
@pytest.mark.parametrize(("gain", "folds"), [(1, True), (1e4, False)])
def test_a_norm_stays_where_weights_cannot_hold_its_gains(rng, gain, folds, quant_format, per_channel):
    """A channel that is always 0 has a variance of 0 and a large gain: beside it other weights have no step."""
    made, data = linear(rng, gain), [{"x": rng.normal(size=(64, 8)).astype(np.float32)}]
    options = {"quant_format": quant_format, "per_channel": per_channel, "compare": True}
    result, report = quantize_with_report(made, data, **options)
    assert (report.folded, report.stayed) == ((("n",), ()) if folds else ((), ("n",)))
    assert len(bno.inspect(result).norms) == (not folds)
    assert report.comparison.outputs[0].snr_db > 25
