"""What ONNX Runtime's quantizer would drop, merge, mistake or define twice, and quantize must not."""

import itertools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exact_sums import exact_session
from norm_models import Nodes
from onnx import TensorProto, helper

from bytenorm import onnx as bno
from bytenorm.onnx.graph.graph import Graph, label
from bytenorm.onnx.observation.ranges import are_samples_apart
from bytenorm.onnx.quantization.quantize import quantize_with_report
from bytenorm.onnx.quantizer.exclusion import namesakes

FORMATS = ["QDQ", "QOperator"]
CHANNELS = 4
WAYS = [("QDQ", None), ("QDQ", "mse"), ("QOperator", "mse")]


class Network(Nodes):
    """A float network with a norm, b, behind a Relu; or behind a convolution, into which it folds."""

    def __init__(self, *, folds=False, bias=-0.3, seed=1):
        super().__init__()
        self.rng = np.random.default_rng(seed)
        self.input("x", np.float32, ["N", 3, 8, 8])
        self.conv("x", "c", 3)
        self.node("Relu", ["c"], "r")
        self.norm("c" if folds else "r", "b", bias)

    def norm(self, x, y, bias=-0.3):
        values = self.rng.uniform(0.5, 1.5, 4), self.rng.normal(bias, 0.3, 4), np.zeros(4), np.ones(4)
        names = [self.constant(f"{y}/n{i}", value, np.float32) for i, value in enumerate(values)]
        return self.node("BatchNormalization", [x, *names], y, name="norm" if y == "b" else f"{y}/norm")

    def conv(self, x, y, channels=CHANNELS):
        weight = self.rng.normal(0, 0.5 / np.sqrt(channels), (CHANNELS, channels, 3, 3))
        return self.node("Conv", [x, self.constant(f"{y}/w", weight, np.float32)], y, pads=[1, 1, 1, 1])

    def limit(self, value):
        return self.constant(f"limit{value}", value, np.float32)

    def finish(self, *outputs, opset=17):
        for tensor in outputs:
            self.output(tensor, np.float32, ["N", *"abc"])
        return self.model(opset)


def samples(seed=3, sizes=(1.0, 3.0)):
    rng = np.random.default_rng(seed)
    return [{"x": (size * rng.normal(size=(4, 3, 8, 8))).astype(np.float32)} for size in sizes]


def run(model, feeds):
    return exact_session(model).run(None, feeds)


def worst(model, made, data):
    """Return the lowest SNR of any output on any batch, in decibels."""
    found = []
    for feeds in data:
        for want, got in zip(run(model, feeds), run(made, feeds), strict=True):
            found.append(10 * np.log10(np.sum(want**2) / max(np.sum((want - got) ** 2), 1e-30)))
    return min(found)


# --- activations that the quantizer drops -----------------------------------------------------------------------

BETWEEN = {
    "nothing": [],
    "Identity": [("Identity", {})],
    "Dropout": [("Dropout", {})],
    "Cast": [("Cast", {"to": TensorProto.FLOAT})],
    "Transposes": [("Transpose", {"perm": [0, 2, 3, 1]}), ("Transpose", {"perm": [0, 3, 1, 2]})],
    "Transpose": [("Transpose", {"perm": [0, 2, 3, 1]})],
    "MaxPool": [("MaxPool", {"kernel_shape": [2, 2]})],
}


@pytest.mark.thorough
@pytest.mark.parametrize(("quant_format", "method"), WAYS)
def test_an_activation_behind_something_else(quant_format, method):
    n, limits = Network(), {}
    for (between, steps), behind in itertools.product(BETWEEN.items(), ("Relu", "Clip")):
        last = n.norm("r", f"{between}/{behind}")
        for op, attributes in steps:
            last = n.node(op, [last], f"{last}/{op}", **attributes)
        ends = [] if behind == "Relu" else [n.limit(0.0), n.limit(0.7)]
        limits[n.node(behind, [last, *ends], f"{last}/{behind}")] = np.inf if behind == "Relu" else 0.7
    model, data = n.finish(*limits), samples()
    made = bno.quantize(model, data, quant_format=quant_format, method=method)
    assert worst(model, made, data) > 25
    for feeds in data:
        for y, highest in zip(run(made, feeds), limits.values(), strict=True):
            assert y.min() >= 0
            assert y.max() < highest + 0.01  # 1.5 % is more than two steps of 255


@pytest.mark.parametrize(("quant_format", "method"), WAYS)
def test_two_activations(quant_format, method):
    n, outputs = Network(), []
    limits = {"Relu": [[], []], "Clip": [[n.limit(-0.5), n.limit(0.6)], [n.limit(-0.2), n.limit(1.5)]]}
    for order in itertools.product(limits, limits):
        last = n.norm("r", "".join(order), 0)
        for i, op in enumerate(order):
            last = n.node(op, [last, *limits[op][i]], f"{last}/{i}")
        outputs.append(last)
    model, data = n.finish(*outputs), samples()
    made = bno.quantize(model, data, quant_format=quant_format, method=method)
    assert worst(model, made, data) > 25


@pytest.mark.parametrize("quant_format", FORMATS)
def test_limits_that_no_range_stands_for(quant_format):
    """Behind a norm that folds and one that does not, and pools of them; computed ends differ by batch."""
    n, outputs = Network(), []
    highest = n.node("ReduceMax", ["x"], "highest", keepdims=0)
    computed = n.node("Mul", [highest, n.limit(0.1)], "high")
    ends = [[n.limit(0.3), n.limit(1.2)], [n.limit(-1.5), n.limit(-0.2)], [n.limit(0.0), computed]]
    for i, (folds, pool, limits) in enumerate(
        itertools.product((True, False), ("", "MaxPool", "AveragePool"), ends)
    ):
        last = n.norm(n.conv("x", f"c{i}", 3) if folds else "r", f"b{i}", 0)
        last = n.node(pool, [last], f"p{i}", kernel_shape=[2, 2]) if pool else last
        outputs.append(n.node("Clip", [last, *limits], f"y{i}"))
    model, data = n.finish(*outputs), samples()
    made = bno.quantize(model, data, quant_format=quant_format)
    assert worst(model, made, data) > 15  # of the batch of small numbers, which uses a third of the codes


@pytest.mark.parametrize(("quant_format", "method"), WAYS)
@pytest.mark.parametrize("folds", [True, False])
@pytest.mark.parametrize("reader", ["output", "branch"])
def test_what_is_before_a_relu_is_read_elsewhere(reader, folds, quant_format, method):
    n = Network(folds=folds)
    n.node("Relu", ["b"], "y")
    if reader == "output":
        model = n.finish("y", "b")
    else:
        outs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("t", "e")]
        branches = [
            helper.make_graph([helper.make_node(op, ["b"], [out.name])], op, [], [out])
            for op, out in zip(("Identity", "Neg"), outs, strict=True)
        ]
        total = n.node("ReduceSum", ["x"], "total", keepdims=0)
        positive = n.node("Greater", [total, n.limit(0.0)], "positive")
        n.node("If", [positive], "z", then_branch=branches[0], else_branch=branches[1])
        model = n.finish("y", "z")
    data = samples()
    made, _ = quantize_with_report(model, data, quant_format=quant_format, method=method)
    assert worst(model, made, data) > 25


# --- Gemm -------------------------------------------------------------------------------------------------------

ROWS, INPUTS, UNITS = 16, 5, 6


def gemm(bias, *, alpha=1.0, beta=1.0, trans_b=0, norm=False, op="Gemm", weight="constant"):
    n, rng = Nodes(), np.random.default_rng(2)
    n.input("x", np.float32, [ROWS, INPUTS])
    w = rng.normal(0, 0.5, (INPUTS, UNITS))
    w = n.constant("w", w.T if trans_b else w, np.float32)
    if weight == "computed":
        w = n.node("Mul", [w, n.node("ReduceMean", ["x"], "mean", keepdims=0)], "w2")
    shape = {"scalar": (), "one": (1,), "N": (UNITS,), "1N": (1, UNITS), "M1": (ROWS, 1), "MN": (ROWS, UNITS)}
    k = [] if bias == "missing" else [n.constant("k", rng.normal(1, 1, shape[bias]), np.float32)]
    last = "a" if norm else "y"
    if op == "Gemm":
        n.node("Gemm", ["x", w, *k], last, alpha=alpha, beta=beta, transB=trans_b)
    else:
        n.node("Add", [n.node("MatMul", ["x", w], "product"), *k], last)
    if norm:
        values = rng.uniform(0.5, 1.5, UNITS), rng.normal(1, 1, UNITS), np.zeros(UNITS), np.ones(UNITS)
        names = [n.constant(f"n{i}", value, np.float32) for i, value in enumerate(values)]
        n.node("BatchNormalization", ["a", *names], "y")
    n.output("y", np.float32, [ROWS, UNITS])
    return n.model(), [{"x": rng.normal(0.3, 1, (ROWS, INPUTS)).astype(np.float32)} for _ in range(2)]


@pytest.mark.parametrize("quant_format", FORMATS)
@pytest.mark.parametrize("bias", ["missing", "scalar", "one", "N", "1N", "M1", "MN"])
def test_gemm(bias, quant_format):
    for norm, alpha, beta, trans_b in ((True, 0.5, 1.0, 0), (False, 0.25, 3.0, 1)):
        model, data = gemm(bias, alpha=alpha, beta=beta, trans_b=trans_b, norm=norm)
        made = bno.quantize(model, data, quant_format=quant_format)
        assert worst(model, made, data) > 30, (norm, alpha, beta, trans_b)


@pytest.mark.parametrize("quant_format", FORMATS)
def test_gemm_with_a_computed_weight(quant_format):
    for bias in ("missing", "N", "MN"):
        model, data = gemm(bias, alpha=0.25, beta=2.0, weight="computed")
        assert worst(model, bno.quantize(model, data, quant_format=quant_format), data) > 25


@pytest.mark.parametrize("quant_format", FORMATS)
@pytest.mark.parametrize("bias", ["one", "N", "1N", "M1", "MN"])
def test_matmul_and_add(bias, quant_format):
    model, data = gemm(bias, op="MatMul")
    assert worst(model, bno.quantize(model, data, quant_format=quant_format), data) > 30


# --- names ------------------------------------------------------------------------------------------------------

ENDS = [
    "_scale", "_zero_point", "_quantized", "_QuantizeLinear_Input", "_QuantizeLinear_Output", "_QuantizeLinear",
    "_DequantizeLinear", "_DequantizeLinear_Output", "_quantized_scale", "_quantized_zero_point", "_quant",
]  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("quant_format", FORMATS)
@pytest.mark.parametrize("end", ENDS)
def test_names_that_the_quantizer_makes(end, quant_format):
    """Of tensors inside, of inputs, outputs and weights, and of nodes."""
    n = Network()
    for tensor in ("b", "x", "c", "r", "y", "z/w"):
        n.input(f"{tensor}{end}", np.float32, ["N", CHANNELS, 8, 8]) if tensor == "x" else None
    n.node("Mul", ["b", n.constant(f"b{end}", np.full((1, 4, 1, 1), 0.7), np.float32)], f"c{end}", name=f"b{end}")
    n.conv(f"c{end}", "z")
    n.node("Add", ["z", f"x{end}"], f"r{end}", name=f"x{end}")
    n.node("Relu", [f"r{end}"], "y", name=f"z{end}")
    n.node("Sub", ["y", "b"], f"y{end}", name=f"c{end}")
    model = n.finish("y", f"y{end}")
    rng = np.random.default_rng(5)
    data = [{**feeds, f"x{end}": rng.normal(size=(4, 4, 8, 8)).astype(np.float32)} for feeds in samples()]
    made = bno.quantize(model, data, quant_format=quant_format)
    assert [v.name for v in made.graph.output] == ["y", f"y{end}"]
    assert [v.name for v in made.graph.input] == ["x", f"x{end}"]
    onnx.checker.check_model(made, full_check=True)
    assert worst(model, made, data) > 25


def test_names_of_nodes_are_told_apart():
    n = Network()
    for _ in range(2):
        n.nodes.append(helper.make_node("Relu", ["b"], [f"y{len(n.nodes)}"], name="norm"))
    n.nodes.append(helper.make_node("Relu", ["b"], ["norm_2"]))
    graph = Graph(n.finish("y3"))
    labels = [label(node) for node in graph.nodes]
    assert len(set(labels)) == len(labels)
    assert labels[:3] == ["c", "r", "norm"]


@pytest.mark.parametrize("lowering", ["portable", "exact", "fused"])
def test_norms_of_one_name(lowering):
    """One with a Relu and one without: each keeps its own range, and is told of apart."""
    n = Network()
    n.node("BatchNormalization", ["r", "b/n0", "b/n1", "b/n2", "b/n3"], "b2", name="norm")
    n.node("Relu", ["b2"], "y")
    n.conv("b", "z")
    model, data = n.finish("y", "z"), samples()
    before = model.SerializeToString()
    made, report = quantize_with_report(model, data, method="mse", lowering=lowering)
    assert model.SerializeToString() == before
    assert [norm.name for norm in bno.inspect(model).norms] == ["norm", "norm_2"]
    assert [outcome.name for outcome in report.outcomes] == ["norm", "norm_2"]
    assert {norm.name: norm.zero_point == 0 for norm in report.recalibrated} == {"norm": False, "norm_2": True}
    assert worst(model, made, data) > 25


# --- what is excluded -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quant_format", FORMATS)
@pytest.mark.parametrize("excluded", ["product", "y", "k/scaled", "both"])
def test_matmul_and_add_are_excluded_by_name(excluded, quant_format):
    """ONNX Runtime merges them into a Gemm of another name, and what is made of constants goes altogether."""
    model, data = gemm("N", op="MatMul")
    names = ["product", "y"] if excluded == "both" else [excluded]
    if excluded == "k/scaled":
        model.graph.node.insert(0, helper.make_node("Neg", ["k"], ["k/scaled"], name="k/scaled"))
        model.graph.node[-1].input[1] = "k/scaled"
    made, report = quantize_with_report(model, data, quant_format=quant_format, nodes_to_exclude=names)
    assert report.gone == (("k/scaled",) if excluded == "k/scaled" else ())
    weights = [t.data_type for t in made.graph.initializer if t.name in ("w", "w_quantized")]
    assert (TensorProto.INT8 in weights) == (excluded not in ("product", "both"))
    assert worst(model, made, data) > 30


@pytest.mark.parametrize("named", [True, False])
def test_nodes_are_excluded_by_the_names_that_are_shown(named):
    """A node without a name is shown by what it makes; of several with one name all stay."""
    n = Network()
    n.conv("b", "z")
    for node in n.nodes:
        node.name = "same" if named and node.op_type == "Conv" else ""
    model, data = n.finish("z"), samples()
    made = bno.quantize(model, data, nodes_to_exclude=["same"] if named else ["c", "z"])
    assert not any(t.name.endswith("/w_quantized") for t in made.graph.initializer)
    assert not bno.inspect(made).in_float
    with pytest.raises(ValueError, match="nodes_to_exclude: the model has no node 'b2'"):
        bno.quantize(model, data, nodes_to_exclude=["b2"])


# --- nothing but 0, and what subgraphs read --------------------------------------------------------------------


@pytest.mark.parametrize("activation_type", ["uint8", "int8"])
@pytest.mark.parametrize("quant_format", FORMATS)
def test_nothing_but_0_behind_an_activation(quant_format, activation_type):
    """The quantizer takes the scale 1 and the zero point 0 then: int8 codes stand for -128 to 127."""
    for folds, op in itertools.product((False, True), ("Relu", "Clip")):
        n = Network(folds=folds, bias=-30)
        n.node(op, ["b"] if op == "Relu" else ["b", n.limit(0.0), n.limit(1.5)], "y")
        model, data = n.finish("y"), samples()
        assert not any(run(model, feeds)[0].any() for feeds in data)
        made, _ = quantize_with_report(model, data, quant_format=quant_format, activation_type=activation_type)
        for feeds in samples(sizes=(30.0, 60.0)):
            (y,) = run(made, feeds)
            assert y.min() >= 0
            assert y.max() <= 255 if op == "Relu" else 1.51


@pytest.mark.parametrize("quant_format", FORMATS)
def test_a_branch_reads_what_is_quantized(quant_format):
    n = Network()
    out = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    branches = [
        helper.make_graph([helper.make_node(op, ["z"], ["t"])], op, [], [out]) for op in ("Identity", "Neg")
    ]
    n.conv("b", "z")
    n.conv("z", "y")
    total = n.node("ReduceSum", ["x"], "total", keepdims=0)
    positive = n.node("Greater", [total, n.limit(0.0)], "positive")
    n.node("If", [positive], "q", then_branch=branches[0], else_branch=branches[1])
    model, data = n.finish("y", "q"), samples(sizes=(1.0, 1.5))
    made = bno.quantize(model, data, quant_format=quant_format)
    assert [v.name for v in made.graph.output] == ["y", "q"]
    assert worst(model, made, data) > 25


# --- constants of several layers, and layers that the quantizer cannot write ------------------------------------


@pytest.mark.parametrize("quant_format", FORMATS)
@pytest.mark.parametrize("kind", ["Conv", "Gemm", "Gemm, transposed", "MatMul", "Pad"])
def test_constants_of_two_layers(kind, quant_format):
    """Their inputs differ by a factor of 20, and with them the units of the bias."""
    n, rng = Nodes(), np.random.default_rng(1)
    shape = [4, 6, 6] if kind in ("Conv", "Pad") else [6]
    n.input("x", np.float32, ["N", *shape])
    w = n.constant("w", rng.normal(0, 0.4, (4, 4, 1, 1) if kind in ("Conv", "Pad") else (6, 6)), np.float32)
    k = n.constant("k", rng.normal(1, 1, shape[0]), np.float32)
    value = n.constant("v", 0.7, np.float32)
    for i, x in enumerate(["x", n.node("Mul", ["x", n.constant("t", 20.0, np.float32)], "large")]):
        if kind == "MatMul":
            n.node("Add", [n.node("MatMul", [x, w], f"product{i}"), k], f"y{i}")
        elif kind.startswith("Gemm"):
            n.node("Gemm", [x, w, k], f"y{i}", transB=int(i and kind != "Gemm"))
        else:
            pads = n.constant(f"pads{i}", [0, 0, 1, 1, 0, 0, 1, 1], np.int64)
            read = n.node("Pad", [x, pads, value], f"padded{i}") if kind == "Pad" else x
            n.node("Conv", [read, w, k], f"y{i}")
        n.output(f"y{i}", np.float32, ["N", *"abc"[: len(shape)]])
    model, data = n.model(), [{"x": rng.normal(size=(8, *shape)).astype(np.float32)} for _ in range(2)]
    assert worst(model, bno.quantize(model, data, quant_format=quant_format), data) > 30


@pytest.mark.parametrize("quant_format", FORMATS)
def test_a_transposed_convolution_in_groups(quant_format):
    n = Network()
    weight, bias = n.rng.normal(0, 0.5, (4, 2, 3, 3)), n.rng.normal(0, 0.5, 4)
    names = [n.constant(f"t{i}", value, np.float32) for i, value in enumerate((weight, bias))]
    for i, inputs in enumerate((["b", *names], ["b", names[0]])):
        n.norm(n.node("ConvTranspose", inputs, f"t{i}/y", group=2, pads=[1, 1, 1, 1]), f"y{i}")
    model, data = n.finish("y0", "y1"), samples(sizes=(1.0, 1.5))
    assert worst(model, bno.quantize(model, data, quant_format=quant_format), data) > 25


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("kind", ["ConvTranspose", "Gemm"])
def test_a_bias_is_no_whole_number_of_steps(kind, per_channel):
    """An Add of what was rounded with the same step would take away 0.49 steps of this one, of each number."""
    shape = (64, 2, 16, 16) if kind == "ConvTranspose" else (64, 8)
    rng = np.random.default_rng(5)
    weight = rng.normal(0, 1, (2, 1, 3, 3) if kind == "ConvTranspose" else (8, 4))
    data = [{"x": rng.normal(size=shape).astype(np.float32)} for _ in range(2)]

    def network(bias):
        n = Nodes()
        n.input("x", np.float32, shape)
        names = ["x", n.constant("w", weight, np.float32), n.constant("b", bias, np.float32)]
        n.node(kind, names, "y", **({"group": 2, "pads": [1] * 4} if kind == "ConvTranspose" else {}))
        n.output("y", np.float32, None)
        return n.model(17)

    zero = np.zeros(2 if kind == "ConvTranspose" else (64, 4))
    step = np.ptp([run(network(zero), feeds) for feeds in data]) / 255
    model = network(zero + 1.49 * step)
    made = bno.quantize(model, data, per_channel=per_channel, fast=True, lowering="qdq", quant_format="QDQ")
    for feeds in data:
        assert abs(np.mean(np.subtract(run(made, feeds), run(model, feeds)))) < 0.1 * step


@pytest.mark.parametrize("quant_format", FORMATS)
def test_where(quant_format):
    n = Network()
    positive = n.node("Greater", [n.conv("b", "z"), n.limit(0.0)], "positive")
    n.node("Where", [n.node("Not", [positive], "negative"), n.limit(0.5), n.conv("b", "q")], "w")
    n.conv("w", "y")
    model, data = n.finish("w"), samples(sizes=(1.0, 1.2))
    assert worst(model, bno.quantize(model, data, quant_format=quant_format), data) > 15  # signs flip


def test_domains_that_branches_use_are_kept():
    n = Network()
    out = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    nodes = [helper.make_node("Gelu", ["z"], ["t"], domain="com.microsoft"), helper.make_node("Neg", ["z"], ["t"])]
    branches = [helper.make_graph([node], node.op_type, [], [out]) for node in nodes]
    total = n.node("ReduceSum", [n.conv("b", "z")], "total", keepdims=0)
    positive = n.node("Greater", [total, n.limit(0.0)], "positive")
    n.node("If", [positive], "y", then_branch=branches[0], else_branch=branches[1])
    model, data = n.finish("y"), samples()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    made = bno.quantize(model, data)
    onnx.checker.check_model(made)
    assert "com.microsoft" in [entry.domain for entry in made.opset_import]


@pytest.mark.parametrize("limits", [(None, 0.6), (-0.7, 0.8), (0.3, 2)])
@pytest.mark.parametrize(("quant_format", "method"), WAYS)
def test_a_clip_behind_a_norm_of_vectors(quant_format, method, limits):
    network = Nodes()
    rng = np.random.default_rng(4)
    network.input("x", np.float32, ["N", 4])
    values = rng.uniform(0.5, 1.5, 4), rng.normal(0, 0.3, 4), np.zeros(4), np.ones(4)
    names = [network.constant(f"n{i}", value, np.float32) for i, value in enumerate(values)]
    network.node("BatchNormalization", ["x", *names], "b", name="norm")
    ends = ["" if v is None else network.constant(f"limit{v}", v, np.float32) for v in limits]
    network.node("Clip", ["b", *ends], "k")
    network.node("Gemm", ["k", network.constant("w", rng.normal(size=(4, 3)), np.float32)], "y")
    network.output("y", np.float32, ["N", 3])
    model, data = network.model(17), [{"x": rng.normal(size=(64, 4)).astype(np.float32)}]
    made = bno.quantize(model, data, quant_format=quant_format, method=method)
    assert worst(model, made, data) > 30  # three roundings to 8 bits leave some 36


def test_norms_of_vectors_behind_one_another():
    """No shape with the third axis that carried the first through the quantizer is left for the second."""
    n, rng = Nodes(), np.random.default_rng(1)
    last = n.input("x", np.float32, ["N", 6])
    for i in range(2):
        values = rng.uniform(0.5, 1.5, 6), rng.normal(0, 0.3, 6), np.zeros(6), np.ones(6)
        names = [n.constant(f"n{i}{k}", value, np.float32) for k, value in enumerate(values)]
        last = n.node("BatchNormalization", [last, *names], f"y{i}")
        n.output(last, np.float32, ["N", 6])
    model, data = n.model(), [{"x": rng.normal(size=(8, 6)).astype(np.float32)} for _ in range(2)]
    for quant_format in FORMATS:
        assert worst(model, bno.quantize(model, data, quant_format=quant_format), data) > 30


def optimized(model, folder):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx")


@pytest.mark.parametrize("quant_format", FORMATS)
def test_what_reads_the_blocks_of_an_optimized_model(quant_format, tmp_path):
    """With 8 bits around a Conv that has its numbers in blocks no session loads the model."""
    n = Nodes()
    rng = np.random.default_rng(6)
    values = rng.uniform(0.5, 1.5, 4), rng.normal(0, 0.3, 4), np.zeros(4), np.ones(4)
    names = [n.constant(f"n{i}", value, np.float32) for i, value in enumerate(values)]
    twice = n.node("Add", [n.input("x", np.float32, ["N", 4, 8, 8])] * 2, "twice")
    normed = n.node("BatchNormalization", [twice, *names], "normed")
    n.node("Conv", [normed, n.constant("w", rng.normal(size=(8, 4, 3, 3)), np.float32)], "d")
    n.output(n.node("Mul", ["d", "d"], "y"), np.float32, ["N", *"abc"])
    model, data = n.model(17), [{"x": rng.normal(size=(4, 4, 8, 8)).astype(np.float32)} for _ in range(2)]
    blocked = optimized(model, tmp_path)
    (conv,) = [node for node in blocked.graph.node if node.op_type == "Conv"]
    if conv.domain:  # a processor that has blocks
        assert "Mul" in [node.op_type for node in blocked.graph.node if conv.output[0] in node.input]
    assert worst(model, bno.quantize(blocked, data, quant_format=quant_format), data) > 25


@pytest.mark.parametrize("quant_format", FORMATS)
def test_a_model_that_onnx_runtime_optimized_for_this_processor(quant_format, tmp_path):
    """Its Conv has its weights in blocks and its activation with it; the quantizer asks for no domain."""
    n = Network(folds=True)
    n.node("Relu", ["b"], "br")
    n.conv("br", "d")
    n.node("Relu", ["d"], "dr")
    n.norm("dr", "y")
    model, data = n.finish("y"), samples(sizes=(1.0, 1.2))
    made = bno.quantize(optimized(model, tmp_path), data, quant_format=quant_format)
    onnx.checker.check_model(made)
    assert worst(model, made, data) > 25
    same = onnx.parser.parse_model(_CONVOLUTION_OF_ANOTHER)
    assert [label(node) for node in namesakes(Graph(same))] == ["own"]


_CONVOLUTION_OF_ANOTHER = """<ir_version: 8, opset_import: ["": 17, "own": 1, "com.microsoft": 1]>
g (float[1, 2] x, float[2, 2] w) => (float[1, 2] y) {
    [own] a = own.MatMul (x, w)
    [ours] y = MatMul (a, w)
    [e] e = com.microsoft.EmbedLayerNormalization (x)
}"""


@pytest.mark.parametrize("at", [0, 3])
def test_ranges_are_those_of_the_batches_that_came(at):
    """A limit comes of another sample of the batch: in batches that are cut for re-estimation it is lower."""
    n = Network(folds=True)
    n.node("ReduceMax", [n.node("Neg", ["x"], "neg")], "highest", keepdims=0)
    n.node("Clip", ["x", n.limit(0.0), n.node("Mul", ["highest", n.limit(0.5)], "high")], "e")
    n.node("Add", [n.conv("e", "d", 3), "b"], "y")
    model, data = n.finish("y"), samples(sizes=(1.0, 1.1, 1.2, 1.3))
    for feeds in data:
        feeds["x"] = np.abs(feeds["x"])
        feeds["x"][at] *= -1
    scales = [
        next(onnx.numpy_helper.to_array(t) for t in made.graph.initializer if t.name == "e_scale")
        for made in (
            bno.quantize(model, data, weight_type="uint8", **how)
            for how in ({"fast": True}, {}, {"calibrate_method": "percentile"})
        )
    ]
    assert scales[0] == scales[1]
    assert 0.7 < scales[2] / scales[0] < 1.01


@pytest.mark.parametrize(
    ("reduced", "apart"),
    [
        ("ReduceMax <axes = [1, 2]> (x)", True),
        ("ReduceMax <axes = [-1]> (x)", True),
        ("ReduceSum (x, last)", True),
        ("ReduceMax <axes = [0]> (x)", False),
        ("ReduceMax <axes = [-3]> (x)", False),
        ("ReduceSum (x, first)", False),
        ("ReduceSum (x, which)", False),
        ("ReduceMean <keepdims = 0> (x)", False),
    ],
)
def test_whether_samples_are_apart(reduced, apart):
    text = """<ir_version: 8, opset_import: ["": 13]>
g (float[N, 3, 4] x, int64[1] which) => (y) <int64[1] last = {-1}, int64[1] first = {0}> { y = REDUCED }"""
    assert are_samples_apart(Graph(onnx.parser.parse_model(text.replace("REDUCED", reduced)))) is apart
