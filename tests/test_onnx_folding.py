"""Norms disappear into the layer before them, and the network computes what it did."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import AttributeProto, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from bytenorm.onnx.folding.backward import fold, layer_to_fold_into
from bytenorm.onnx.graph.graph import Graph
from bytenorm.onnx.norms.find import find_norms


def model(text, *, opset=17, **arrays):
    """Return a model: the text of its graph, and its initializers."""
    made = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {text}')
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in arrays.items())
    return made


def run(made, feed):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # which folds, too
    session = ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def norm(rng, channels, dtype=np.float32):
    """Return the parameters of a BatchNormalization, named w, b, m and v."""
    values = [*rng.normal(size=(3, channels)), rng.uniform(0.1, 3, channels)]
    return {name: value.astype(dtype) for name, value in zip("wbmv", values, strict=True)}


def sizes(made):
    """Return the model with all that is added up of one sign, so that it computes how much there is to round."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    for tensor in copy.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if np.issubdtype(value.dtype, np.floating):
            value = -np.abs(value) if tensor.name.startswith("m") else np.abs(value)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    for node in copy.graph.node:
        for a in node.attribute:
            if a.type == AttributeProto.FLOAT:
                a.f = abs(a.f)
    return copy


def assert_same(folded, made, feed, *, terms=64):
    """Compare two models; the tolerance is what rounding can do to sums of so many terms.

    A sum of n products in floats is off by n half units in the last place of the sum of their absolute values at
    most; there are a dozen roundings besides, in the norm and in the folded weights.
    """
    scale = run(sizes(made), {name: np.abs(x) if x.dtype != bool else x for name, x in feed.items()})
    for got, want, size in zip(run(folded, feed), run(made, feed), scale, strict=True):
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        tolerance = 2 * (terms + 12) * np.finfo(want.dtype).eps / 2 * np.abs(size)
        assert np.all(np.abs(got - want) <= tolerance)
        assert np.ptp(want) > 1000 * np.max(tolerance)


def folded(made):
    """Return the model with its norms folded, and the names of those that are gone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    graph = Graph(copy)
    gone = [n.name for n in fold(graph, find_norms(graph))]
    graph.finish()
    onnx.checker.check_model(copy, full_check=True)
    return copy, gone


def operators(made):
    return [n.op_type for n in made.graph.node]


# --- every layer ----------------------------------------------------------------------------------------------

CONVOLUTIONS = {
    "Conv, 1-D": ("Conv", (2, 3, 9), (4, 3, 2), "group = 1"),
    "Conv, 2-D": ("Conv", (2, 3, 9, 7), (4, 3, 2, 3), "strides = [2, 1], pads = [1, 0, 0, 1]"),
    "Conv, 3-D": ("Conv", (1, 3, 4, 5, 3), (4, 3, 1, 2, 2), "dilations = [1, 2, 1]"),
    "Conv in groups": ("Conv", (2, 6, 5, 5), (4, 3, 2, 2), "group = 2"),
    "Conv, depthwise": ("Conv", (2, 4, 5, 5), (4, 1, 3, 3), "group = 4"),
    "ConvTranspose, 1-D": ("ConvTranspose", (2, 3, 9), (3, 4, 2), "dilations = [2]"),
    "ConvTranspose, 2-D": ("ConvTranspose", (2, 3, 5, 4), (3, 4, 2, 3), "strides = [2, 2]"),
    "ConvTranspose in groups": ("ConvTranspose", (2, 6, 5, 4), (6, 2, 2, 2), "group = 2"),
    "ConvTranspose, depthwise": ("ConvTranspose", (2, 4, 5, 4), (4, 1, 2, 2), "group = 4"),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("what", CONVOLUTIONS)
def test_convolutions(rng, what, bias):
    op, shape, weight, attributes = CONVOLUTIONS[what]
    dims = ",".join(map(str, shape))
    made = model(
        f"(float[{dims}] x) => (float y) {{ c = {op}<{attributes}>(x, k, {'l' if bias else ''}) {NORM_OF_C} }}",
        **norm(rng, 4), k=rng.normal(size=weight).astype(np.float32), l=rng.normal(size=4).astype(np.float32),
    )  # fmt: skip
    made = with_output_types(made)
    result, gone = folded(made)
    assert gone == ["y"]
    assert operators(result) == [op]
    assert_same(result, made, {"x": rng.normal(size=shape).astype(np.float32)})


NORM_OF_C = "y = BatchNormalization(c, w, b, m, v)"


def with_output_types(made):
    for output in made.graph.output:
        output.ClearField("type")
    return onnx.shape_inference.infer_shapes(made)


@pytest.mark.parametrize("weight_of_rows", [False, True])
@pytest.mark.parametrize(
    ("attributes", "addend"),
    [
        ("", None),
        ("", (4,)),
        ("", (1, 4)),
        ("", (5, 4)),
        ("", (5, 1)),
        ("", (1,)),
        ("", ()),
        ("alpha = 0.5", (4,)),
        ("beta = -3.0", (4,)),
        ("alpha = -2.0, beta = 0.25", (5, 4)),
        ("alpha = -2.0, beta = 0.25", None),
        ("beta = 0.0", (4,)),
        ("transA = 1", (4,)),
    ],
)
def test_gemm(rng, attributes, addend, weight_of_rows):
    shape = (3, 5) if "transA" in attributes else (5, 3)
    transposed = ", ".join(filter(None, [attributes, f"transB = {int(weight_of_rows)}"]))
    made = model(
        f"""(float[{shape[0]}, {shape[1]}] x) => (float[5, 4] y) {{
            c = Gemm<{transposed}>(x, k{'' if addend is None else ', l'}) {NORM_OF_C}
        }}""",
        **norm(rng, 4), k=rng.normal(size=(4, 3) if weight_of_rows else (3, 4)).astype(np.float32),
        l=np.asarray(rng.normal(size=addend or ()), np.float32),
    )  # fmt: skip
    result, gone = folded(made)
    assert gone == ["y"]
    assert operators(result) == ["Gemm"]
    assert_same(result, made, {"x": rng.normal(size=shape).astype(np.float32)})


def test_matmul(rng):
    made = model(
        f"(float[N, 3] x) => (float[N, 4] y) {{ c = MatMul(x, k) {NORM_OF_C} }}",
        **norm(rng, 4), k=rng.normal(size=(3, 4)).astype(np.float32),
    )  # fmt: skip
    result, gone = folded(made)
    assert gone == ["y"]
    assert operators(result) == ["MatMul", "Add"]
    assert_same(result, made, {"x": rng.normal(size=(5, 3)).astype(np.float32)})


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
@pytest.mark.parametrize("layer", ["Conv", "Gemm", "MatMul"])
def test_other_floats_stay_what_they_are(rng, layer, dtype):
    kind = {np.float64: "double", np.float16: "float16"}[dtype]
    rest, weight = (", 2, 3", (4, 3, 1, 1)) if layer == "Conv" else ("", (3, 4))
    made = model(
        f"({kind}[5, 3{rest}] x) => ({kind}[5, 4{rest}] y) {{ c = {layer}(x, k) {NORM_OF_C} }}",
        **norm(rng, 4, dtype), k=rng.normal(size=weight).astype(dtype),
    )  # fmt: skip
    result, gone = folded(made)
    assert gone == ["y"]
    assert all(t.data_type == made.graph.initializer[0].data_type for t in result.graph.initializer)
    x = rng.normal(size=(5, 3, 2, 3) if rest else (5, 3)).astype(dtype)
    got, want = (ReferenceEvaluator(m).run(None, {"x": x})[0] for m in (result, made))
    # Sums of four numbers below 16; parameters of norms are float32 here.
    np.testing.assert_allclose(got, want, rtol=0, atol=64 * max(np.finfo(dtype).eps, np.finfo(np.float32).eps))


# --- the norm -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "kinds"),
    [
        ("a = Mul(c, g) y = Add(a, s)", ["Conv"]),
        ("a = Sub(c, m1) y = Div(a, g)", ["Conv"]),
        ("n = BatchNormalization(c, w, b, m, v) a = Mul(n, g) y = Add(s, a)", ["Conv"]),
        ("n = BatchNormalization(c, w, b, m, v) y = BatchNormalization(n, w, b, m, v)", ["Conv"]),
        ("n = BatchNormalization(c, w, b, m, v) r = Relu(n) y = BatchNormalization(r, w, b, m, v)",
         ["Conv", "Relu", "BatchNormalization"]),
    ],
)  # fmt: skip
def test_norms_in_a_row_and_written_out(rng, nodes, kinds):
    made = model(
        f"(float[2, 3, 4, 4] x) => (float[2, 4, 4, 4] y) {{ c = Conv(x, k) {nodes} }}",
        **norm(rng, 4), k=rng.normal(size=(4, 3, 1, 1)).astype(np.float32),
        g=rng.uniform(1, 2, (1, 4, 1, 1)).astype(np.float32), s=rng.normal(size=(4, 1, 1)).astype(np.float32),
        m1=rng.normal(size=(4, 1)).astype(np.float32)[..., None],
    )  # fmt: skip
    result, _ = folded(made)
    assert operators(result) == kinds
    assert_same(result, made, {"x": rng.normal(size=(2, 3, 4, 4)).astype(np.float32)})


BN = "y = BatchNormalization(q, w, b, m, v)"
WAYS = {  # from a layer of 5 channels to its norm
    "Keras, one dimension": ("[N, 3, 9]", "u = Unsqueeze(x, two) c = Conv(u, k1) q = Squeeze(c, two)", BN),
    "Keras, written out": (
        "[N, 3, 9]", "u = Unsqueeze(x, two) c = Conv(u, k1) q = Squeeze(c, two)",
        "a = Add(q, bias3) s = Mul(a, bias3) y = Add(s, bias3)",
    ),
    "Paddle, its bias inside": (
        "[N, 3, 9]", "u = Unsqueeze(x, two) c = Conv(u, k1) a = Add(c, bias4) q = Squeeze(a, two)", BN,
    ),
    "a bias of a scalar in front": (
        "[N, 3, 1, 9]", "c = Conv(x, k1) a = Add(half, c) i = Identity(a) q = Identity(i)", BN,
    ),
    "a Squeeze in front of the channels": (
        "[1, 3, 1, 9]", "c = Conv(x, k1) s = Squeeze(c, zero) q = Unsqueeze(s, zero)", BN,
    ),
    "a Squeeze of all": ("[2, 3, 1, 9]", "c = Conv(x, k1) q = Squeeze(c)", BN),
    "Reshape": ("[N, 3, 1, 9]", "c = Conv(x, k1) q = Reshape(c, shape)", BN),
    "Flatten": ("[N, 3, 1, 3]", "c = Conv(x, k1) q = Flatten(c)", BN),
    "two Transposes": (
        "[N, 3, 1, 9]", "c = Conv(x, k1) t = Transpose<perm = [0, 2, 3, 1]>(c) a = Add(t, bias1) "
        "q = Transpose<perm = [0, 3, 1, 2]>(a)", BN,
    ),
    "vectors of a sequence": (
        "[N, 7, 3]", "c = MatMul(x, dense) a = Add(c, bias1) q = Transpose<perm = [0, 2, 1]>(a)", BN,
    ),
    "a Gemm": ("[N, 3]", "c = Gemm(x, dense) u = Unsqueeze(c, two) q = Identity(u)", BN),
}  # fmt: skip


@pytest.mark.parametrize("what", WAYS)
def test_norms_behind_moves_of_axes(rng, what):
    shape, way, nodes = WAYS[what]
    made = model(
        f"(float{shape} x) => (float[] y) {{ {way} {nodes} }}", **norm(rng, 5),
        k1=rng.normal(size=(5, 3, 1, 3)).astype(np.float32), dense=rng.normal(size=(3, 5)).astype(np.float32),
        two=np.array([2]), zero=np.array([0]), shape=np.array([0, 5, -1]), half=np.float32(0.5),
        **{f"bias{n}": rng.normal(size=(5, *[1] * (n - 2))).astype(np.float32) for n in (2, 3, 4)},
        bias1=rng.normal(size=5).astype(np.float32),
    )  # fmt: skip
    made.graph.output[0].type.tensor_type.ClearField("shape")
    size = [int(n) if n.isdigit() else 2 for n in shape[1:-1].split(", ")]
    feed = {"x": rng.normal(size=size).astype(np.float32)}
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    graph = Graph(copy)
    norms = find_norms(graph)
    assert len(fold(graph, norms)) == len(norms) == 1
    graph.finish()
    assert not find_norms(Graph(copy))
    assert_same(copy, made, feed)


NOT_THE_CHANNELS = {
    "another axis": "c = Conv(x, k) q = Transpose<perm = [0, 2, 1, 3]>(c)",
    "axes that are joined": "c = Conv(x, k) q = Reshape(c, joined)",
    "axes that are split": "c = Conv(x, k) q = Reshape(c, split)",
    "a way that is read elsewhere": "c = Conv(x, k) q = Identity(c) z = Relu(q)",
    "a layer that is read elsewhere": "c = Conv(x, k) z = Relu(c) q = Identity(c)",
    "something that computes": "c = Conv(x, k) z = Relu(c) q = Identity(z)",
    "a bias for each position": "c = Conv(x, k) z = Add(c, places) q = Identity(z)",
}  # fmt: skip


@pytest.mark.parametrize("what", NOT_THE_CHANNELS)
def test_ways_that_a_norm_does_not_go_back(rng, what):
    made = model(
        f"(float[2, 5, 5, 5] x) => (float[] y, float[] z) {{ {NOT_THE_CHANNELS[what]} {BN} }}", **norm(rng, 5),
        k=rng.normal(size=(5, 5, 1, 1)).astype(np.float32), joined=np.array([2, 25, 5]),
        split=np.array([10, 5, 1, 5]), places=rng.normal(size=(5, 5, 5)).astype(np.float32),
    )  # fmt: skip
    if "z =" not in NOT_THE_CHANNELS[what]:
        del made.graph.output[1]
    (found,) = find_norms(Graph(made))
    layer, reason = layer_to_fold_into(Graph(made), found)
    assert layer is None
    assert reason


def test_what_reads_the_norm_reads_the_layer(rng):
    """Other nodes, a subgraph, an output of the model, all at once."""
    made = model(
        """(bool q, float[2, 3, 4] x) => (float[2, 4, 4] y, float[2, 4, 4] n, float[2, 4, 4] z)
        <float[2, 4, 4] c> {
            c = Conv(x, k)
            n = BatchNormalization(c, w, b, m, v)
            y = Relu(n)
            z = If (q) <
                then_branch = one () => (float[2, 4, 4] p) { p = Neg(n) },
                else_branch = two () => (float[2, 4, 4] r) { r = Abs(n) }
            >
        }""",
        **norm(rng, 4), k=rng.normal(size=(4, 3, 1)).astype(np.float32),
    )  # fmt: skip
    result, gone = folded(made)
    assert gone == ["n"]
    assert operators(result) == ["Conv", "Relu", "If"]
    assert not result.graph.value_info
    for q in (True, False):
        feed = {"q": np.array(q), "x": rng.normal(size=(2, 3, 4)).astype(np.float32)}
        assert_same(result, made, feed)


def test_weights_that_layers_share(rng):
    """Two layers with a norm each, and one without, of one weight and one bias."""
    made = model(
        """(float[2, 3, 5] x) => (float[2, 3, 5] y, float[2, 3, 5] z, float[2, 3, 5] o) {
            c = Conv(x, k, l)
            y = BatchNormalization(c, w, b, m, v)
            r = Relu(x)
            d = Conv(r, k, l)
            z = BatchNormalization(d, w2, b, m, v)
            o = Conv(x, k, l)
        }""",
        **norm(rng, 3), w2=rng.normal(size=3).astype(np.float32),
        k=rng.normal(size=(3, 3, 1)).astype(np.float32), l=rng.normal(size=3).astype(np.float32),
    )  # fmt: skip
    result, gone = folded(made)
    assert gone == ["y", "z"]
    assert sorted(operators(result)) == ["Conv", "Conv", "Conv", "Relu"]
    kept = {t.name: numpy_helper.to_array(t) for t in result.graph.initializer}
    assert len(kept) == 6
    np.testing.assert_array_equal(kept["k"], numpy_helper.to_array(made.graph.initializer[5]))
    assert_same(result, made, {"x": rng.normal(size=(2, 3, 5)).astype(np.float32)})


def test_weights_from_constant_nodes(rng):
    made = model(
        f"""(float[5, 3] x) => (float[5, 2] y) {{
            f = Constant<value_floats = [0.5, -1.0, 2.0, 0.25, 3.0, -0.5]>()
            s = Constant<value_ints = [3, 2]>()
            k = Reshape(f, s)
            c = Gemm(x, k, l) {NORM_OF_C}
        }}""",
        **norm(rng, 2), l=rng.normal(size=2).astype(np.float32),
    )  # fmt: skip
    result, gone = folded(made)
    assert gone == ["y"]
    assert operators(result) == ["Gemm"]
    assert_same(result, made, {"x": rng.normal(size=(5, 3)).astype(np.float32)})


def test_only_the_norms_it_is_given(rng):
    made = model(
        """(float[2, 3, 5] x) => (float[2, 3, 5] y) {
            c = Conv(x, k) a = BatchNormalization(c, w, b, m, v) r = Relu(a)
            d = Conv(r, k) y = BatchNormalization(d, w, b, m, v)
        }""",
        **norm(rng, 3), k=rng.normal(size=(3, 3, 1)).astype(np.float32),
    )  # fmt: skip
    graph = Graph(made)
    first, second = find_norms(graph)
    assert fold(graph, [second]) == [second]
    graph.finish()
    assert operators(made) == ["Conv", "BatchNormalization", "Relu", "Conv"]
    assert first.nodes[0] in graph.nodes


# --- what is not folded ---------------------------------------------------------------------------------------

X = "(float[2, 4, 4] x) => (float[2, 4, 4] y)"
REASONS = {
    "it reads an input of the model": (X, "y = BatchNormalization(x, w, b, m, v)", {}),
    "it reads the Relu c": (X, f"c = Relu(x) {NORM_OF_C}", {}),
    "it reads 8-bit data": (X, f"q = QuantizeLinear(x, s) c = DequantizeLinear(q, s) {NORM_OF_C}", {}),
    "its input_var is -1.0 in channel 0": (X, f"c = Conv(x, k) {NORM_OF_C}", {"v": -np.ones(4, np.float32)}),
    "the Conv c has other readers too": (
        X, "c = Conv(x, k) n = BatchNormalization(c, w, b, m, v) y = Add(n, c)", {},
    ),
    "the Conv c has other readers too ": (f"{X[:-1]}, float[2, 4, 4] c)", f"c = Conv(x, k) {NORM_OF_C}", {}),
    "the weight of the Conv c is not constant": (
        X, f"f = Constant<value_ints = [4, 8, 1]>() r = Reshape(x, f) c = Conv(x, r) {NORM_OF_C}", {},
    ),
    "the weight of the MatMul c is not constant": (X, f"c = MatMul(k2, x) {NORM_OF_C}", {}),
    "the weight of the Conv c is quantized": (X, f"d = DequantizeLinear(k8, s) c = Conv(x, d) {NORM_OF_C}", {}),
    "the bias of the Conv c is not constant": (
        X, f"l = ReduceMax<keepdims = 0, axes = [0, 2]>(x) c = Conv(x, k, l) {NORM_OF_C}", {},
    ),
    "the MatMul c does not make 4 channels on axis 1": (X, f"c = MatMul(x, k2) {NORM_OF_C}", {}),
    "the MatMul c does not make 4 channels on axis 1 ": (X, f"o = Odd(x) c = MatMul(o, k2) {NORM_OF_C}", {}),
    "the Conv c does not make 4 channels on axis 1": (X, f"o = Odd(x) c = Conv(o, k3) {NORM_OF_C}", {}),
}  # fmt: skip


@pytest.mark.parametrize("reason", REASONS)
def test_what_is_not_folded(rng, reason):
    signature, nodes, changes = REASONS[reason]
    made = model(
        f"{signature} {{ {nodes} }}",
        **{
            **norm(rng, 4), "s": np.float32(0.1), "k": rng.normal(size=(4, 4, 1)).astype(np.float32),
            "k2": rng.normal(size=(4, 4)).astype(np.float32), "k3": rng.normal(size=(5, 4, 1)).astype(np.float32),
            "k8": np.ones((4, 4, 1), np.uint8), **changes,
        },
    )  # fmt: skip
    graph = Graph(made)
    (found,) = find_norms(graph)
    assert layer_to_fold_into(graph, found) == (None, reason.strip())
    assert fold(graph, [found]) == []
    assert list(graph.nodes) == list(made.graph.node)
