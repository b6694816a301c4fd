"""A graph while it is rewritten: constants, readers, names, order, shapes."""

import weakref

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from bytenorm.onnx.graph.graph import Graph, attribute, int_list, is_op, label, opset_of


def model(text, *, opset=17, ir=8, **arrays):
    """Return a model: the text of its graph, and its initializers."""
    header = f'<ir_version: {ir}, opset_import: ["" : {opset}, "com.microsoft" : 1]>'
    made = parser.parse_model(f"{header} g {text}")
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in arrays.items())
    return made


def session(made):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(made, **inputs):
    return session(made).run(None, inputs)


def f32(*numbers):
    return np.array(numbers, np.float32)


RELU = model("(float[N] x) => (float[N] y) { y = Relu(x) }")


# --- constants ------------------------------------------------------------------------------------------------

CODES = np.arange(-128, 128, dtype=np.int8).reshape(2, 4, 32)
REALS = np.linspace(-9, 9, 24, dtype=np.float32).reshape(2, 3, 4)

CONSTANTS = {
    "v = Identity(c)": {"c": REALS},
    "v = Constant<value = float[2] {1.5, -2.0}>()": {},
    "v = Constant<value_float = 0.1>()": {},
    "v = Constant<value_floats = [0.1, 0.3]>()": {},
    "v = Constant<value_int = 7>()": {},
    "v = Constant<value_ints = [7, -8]>()": {},
    "a = Constant<value_float = 0.1>() b = Identity(a) v = Unsqueeze(b, axes)": {"axes": np.array([0, -1])},
    "v = Unsqueeze(c, axes)": {"c": REALS, "axes": np.array([0, 2])},
    "v = Squeeze(c, axes)": {"c": REALS[None, ..., None], "axes": np.array([-1])},
    "v = Squeeze(c)": {"c": REALS[None, ..., None]},
    "v = Reshape(c, shape)": {"c": REALS, "shape": np.array([0, -1])},
    "a = Constant<value_ints = [4, 0, 2, 1]>() v = Reshape(c, a)": {"c": REALS},
    "v = Flatten(c)": {"c": REALS},
    "v = Flatten<axis = 0>(c)": {"c": REALS},
    "v = Flatten<axis = -1>(c)": {"c": REALS},
    "v = Cast<to = 1>(c)": {"c": REALS.astype(np.float16)},
    "v = Cast<to = 7>(c)": {"c": REALS},
    "v = DequantizeLinear(c, s)": {"c": CODES, "s": np.float32(0.1)},
    "v = DequantizeLinear(c, s, z)": {"c": CODES, "s": np.float32(0.1), "z": np.int8(-7)},
    "v = DequantizeLinear<axis = 1>(c, s, z)": {"c": CODES, "s": f32(1, 0.3, 7, 9), "z": np.int8([0, 1, -9, 7])},
    "v = DequantizeLinear<axis = -2>(c, s)": {"c": CODES, "s": f32(1, 0.3, 7, 1e-3)},
    # 2^24 + 1 is no float32: rounded before it is multiplied.
    "v = DequantizeLinear(c, s)  ": {"c": np.array([2**24 + 1, -(2**30) - 1], np.int32), "s": np.float32(3)},
    "v = DequantizeLinear<axis = 0>(c, s)": {"c": np.array([123456789, -3], np.int32), "s": f32(0.1, 0.7)},
    "v = QuantizeLinear(c, s)": {"c": REALS, "s": np.float32(0.05)},
    "v = QuantizeLinear(c, s, z)": {"c": REALS, "s": np.float32(0.05), "z": np.int8(5)},
    "v = QuantizeLinear<axis = 2>(c, s, z)": {"c": REALS, "s": f32(1, 0.3, 7, 0.01), "z": np.uint8([0, 1, 99, 7])},
    "q = QuantizeLinear(c, s, z) v = DequantizeLinear(q, s, z)": {
        "c": REALS, "s": np.float32(0.05), "z": np.int8(5),
    },
    # What exporters leave of the parameters of a norm
    "v = Sqrt(c)": {"c": np.abs(REALS)},
    "v = ConstantOfShape<value = float[1] {1.5}>(n)": {"n": np.array([3, 2])},
    "v = ConstantOfShape(n)": {"n": np.array([], np.int64)},
    "v = Expand(c, n)": {"c": REALS[:, :1, :1], "n": np.array([2, 3, 1])},
    "e = Expand(c, n) v = CastLike(e, like)": {
        "c": np.array([1.5]), "n": np.array([3]), "like": np.float32(0),
    },
    "u, v, w = Split<axis = -1>(c, n)": {"c": REALS, "n": np.array([1, 2, 1])},
    "u, v = Split<axis = 2>(c)": {"c": REALS},
    "a = Add(c, d) b = Sqrt(a) v = Div(e, b)": {"c": np.abs(REALS), "d": np.float32(1e-5), "e": REALS},
    "v = Concat<axis = 1>(c, d)": {"c": REALS, "d": REALS[:, 1:]},
    "v = Gather<axis = 1>(c, i)": {"c": REALS, "i": np.array([-1, 0])},
    "v = Slice(c, i, j, k)": {"c": REALS, "i": np.array([3]), "j": np.array([0]), "k": np.array([2])},
    "v = Transpose<perm = [2, 0, 1]>(c)": {"c": REALS},
    "s = Shape(c) v = Reshape(c, s)": {"c": REALS},
    "r = Range(i, j, k) v = Cast<to = 1>(r)": {"i": np.int64(5), "j": np.int64(-4), "k": np.int64(-3)},
    "v = Where(c, a, b)": {"c": REALS > 0, "a": REALS, "b": np.float32(-1)},
    "m = ReduceMean<axes = [1]>(c) v = Sub(c, m)": {"c": REALS},
    "v = Tile(c, n)": {"c": REALS, "n": np.array([1, 2, 3])},
    "v = Pow(c, p)": {"c": np.abs(REALS), "p": np.float32(2)},
    "v = ScatterND(c, i, u)": {"c": REALS, "i": np.array([[1, 2]]), "u": REALS[:1, 0]},
    "v = ScatterElements<axis = 2>(c, i, u)": {"c": REALS, "i": np.array([[[3]]]), "u": REALS[:1, :1, :1]},
    "v = OneHot(i, d, u)": {"i": np.array([0, 2]), "d": np.array(3), "u": f32(-1, 2)},
    "v = MatMul(a, b)": {"a": np.round(REALS * 8), "b": np.eye(4, dtype=np.float32)},
    "v = Gemm<transA = 1, alpha = 2.0>(a, b)": {"a": np.round(REALS[0] * 8), "b": np.eye(3, dtype=np.float32)},
    "v = Trilu(c)": {"c": REALS},
    "v = CumSum(c, i)": {"c": np.round(REALS * 8), "i": np.array(1)},
    "v = DepthToSpace<blocksize = 2>(c)": {"c": np.arange(16, dtype=np.float32).reshape(1, 4, 2, 2)},
}  # fmt: skip
# In another order of operations than the runtime's: the same but for rounding.
CURVES = [
    "Softplus",
    "Softsign",
    "Tanh",
    "Sigmoid",
    "Erf",
    "Sin",
    "Cos",
    "Atan",
    "Elu",
    "Selu",
    "LeakyRelu",
    "HardSigmoid",
]
CURVES += [
    "HardSwish",
    "Mish",
    "Celu",
    "ThresholdedRelu",
    "Softmax",
    "LogSoftmax",
    "ReduceLogSumExp",
    "LpNormalization",
]


@pytest.mark.parametrize("nodes", CONSTANTS)
def test_constants_are_what_the_runtime_makes_of_them(nodes):
    made = model(f"(float[N] x) => (float[N] y, float[N] v) {{ {nodes} y = Relu(x) }}", **CONSTANTS[nodes])
    made.graph.output[1].ClearField("type")
    made = onnx.shape_inference.infer_shapes(made)
    want = run(made, x=f32(1))[1]
    for _ in range(2):
        got = Graph(made).constant("v")
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("op", CURVES)
def test_curves_of_constants(op):
    made = model(
        f"(float[N] x) => (float[N] y, float[A, B, C] v) {{ v = {op}(c) y = Relu(x) }}", opset=18, c=REALS
    )
    want = run(made, x=f32(1))[1]
    np.testing.assert_allclose(Graph(made).constant("v"), want, rtol=1e-5, atol=1e-6)


NOT_CONSTANT = {
    "v = Relu(x)": {},
    "v = Identity(x)": {},
    "a = Sqrt(c) v = Add(a, x)": {"c": REALS},
    "v = RandomNormal<shape = [2]>()": {},
    "v = Add(c, d)": {"c": f32(1, 2), "d": f32(1, 2, 3)},
    "u, v = Split<axis = 0>(c, n)": {"c": REALS, "n": np.array([1, 2])},
    "v = Gather(c, i)": {"c": REALS, "i": np.array([2])},
    # More than there is room for: not even computed.
    "v = ConstantOfShape(n)": {"n": np.array([2**20, 2**20])},
    "v = Expand(c, n)": {"c": f32(1), "n": np.array([2**40])},
    "v = Tile(c, n)": {"c": f32(1, 2), "n": np.array([2**40])},
    "v = Range(i, j, k)": {"i": np.int64(0), "j": np.int64(2**40), "k": np.int64(1)},
    "v = Add(c, d) ": {"c": np.zeros((2**15, 1), np.float32), "d": np.zeros((1, 2**15), np.float32)},
    # Of little size, and more work than there is time for.
    "v = MatMul(c, d) ": {"c": np.zeros((2**13, 2**10), np.float32), "d": np.zeros((2**10, 2**13), np.float32)},
    "a = ConstantOfShape(n) v = Erf(a)": {"n": np.array([2**22])},
    "s = Shape(x) v = Reshape(c, s)": {"c": REALS},
    "v = Reshape(c, s)": {"c": REALS, "s": np.array([5, 5])},
    "v = Reshape(c, s) ": {"c": REALS, "s": np.array([-1, 2, 2, 2, 3, 0])},
    "s = Shape(x) v = Squeeze(c, s)": {"c": f32(1)},
    "v = Squeeze(c, axes)": {"c": REALS, "axes": np.array([0])},
    "v = Unsqueeze(c, axes)": {"c": REALS, "axes": np.array([0, 0])},
    "v = DequantizeLinear(c, x)": {"c": CODES},
    "v = DequantizeLinear(c, s, z)": {"c": CODES, "s": f32(1, 2), "z": np.int8([0, 0, 0])},
    "v = DequantizeLinear<block_size = 2>(c, s)": {"c": CODES, "s": np.ones((2, 2, 32), np.float32)},
    "v = QuantizeLinear(c, s, z)": {"c": REALS, "s": f32(1), "z": np.uint16([0])},
    "v = QuantizeLinear<output_dtype = 5>(c, s)": {"c": REALS, "s": f32(1)},
    'v = bytenorm.Identity(c)': {"c": REALS},
}  # fmt: skip


@pytest.mark.parametrize("nodes", NOT_CONSTANT)
def test_what_has_no_constant_value(nodes):
    made = model(f"(float[N] x) => (float[N] y) {{ {nodes} y = Relu(x) }}", **NOT_CONSTANT[nodes])
    assert Graph(made).constant("v") is None


def test_no_tensor_has_no_constant_value():
    graph = Graph(model("(float[N] x) => (float[N] y) { y = Clip(x, , c) }", c=np.float32(1)))
    assert [graph.constant(name) for name in ("", "nowhere", "x", "y")] == [None] * 4


def test_values_that_are_computed_have_room_together(monkeypatch):
    monkeypatch.setattr("bytenorm.onnx.graph.graph.LARGEST", 100)
    graph = Graph(model("""(float[N] x) => (float[N] y) {
        a = ConstantOfShape(n) b = ConstantOfShape(n) c = Reshape(big, n) y = Add(x, a)
    }""", n=np.array([15]), big=np.ones((3, 5), np.float32)))  # fmt: skip
    assert [graph.constant(name) is not None for name in "abc"] == [True, False, False]
    assert graph.constant("big").nbytes == 60


def test_constants_of_a_change():
    graph = Graph(model("""(float[N] x) => (float[N] y) {
        a = Add(c, d) b = Mul(a, a) y = Add(x, b)
    }""", c=np.float32(1), d=np.float32(2), e=np.float32(5)))  # fmt: skip
    assert graph.constant("b") == 9
    graph.set_input(graph.maker("a"), 1, "e")
    assert graph.constant("b") == 36
    graph.set_input(graph.maker("a"), 1, "x")
    assert graph.constant("b") is None
    graph.set_input(graph.maker("a"), 1, "d")
    assert graph.constant("b") == 9
    graph.remove(graph.maker("a"))
    assert graph.constant("b") is None
    graph.make("Neg", ["c"], "a", "a")
    assert graph.constant("b") == 1


def test_large_constants_are_not_kept(monkeypatch):
    """Nor what conversions make of them: a large model would be there twice. What is made of them follows."""
    monkeypatch.setattr("bytenorm.onnx.graph.graph.KEPT", 1000)
    made = model(
        """(float[N] x) => (float[N] y) {
            w = DequantizeLinear (c, s, z)
            m = ReduceMean <axes = [0], keepdims = 0> (w)
            y = Mul (x, m)
        }""",
        c=np.full(2000, 3, np.int8), s=np.float32(0.5), z=np.int8(1),
    )  # fmt: skip
    graph = Graph(made)
    for name, value in (("c", 3), ("w", 1)):
        found = graph.constant(name)
        assert graph.constant(name) is found and set(found.tolist()) == {value}
        seen = weakref.ref(found)
        del found
        assert seen() is None
        assert graph.constant(name)[0] == value
    small = graph.constant("m")
    assert small == 1 and graph.constant("m") is small
    graph.set_constant("c", np.full(2000, 5, np.int8))
    assert (graph.constant("m"), graph.constant("w")[0], graph.constant("c")[0]) == (2, 2, 5)
    graph.remove(graph.maker("w"))
    assert graph.constant("w") is None and graph.constant("m") is None


def test_constants_that_are_read_twice_and_cycles():
    """Each is looked at once: 2^60 looks would not end. A cycle has no value."""
    nodes = [helper.make_node("Add", [f"t{i}", f"t{i}"], [f"t{i + 1}"]) for i in range(60)]
    made = model("(float[N] x) => (float[N] y) { y = Add(x, t60) }", t0=np.float32(1))
    made.graph.node.extend(nodes)
    assert Graph(made).constant("t60") == 2.0**60
    made.graph.initializer[0].name = "other"
    assert Graph(made).constant("t60") is None
    nodes = [helper.make_node("Add", ["a", "c"], ["b"]), helper.make_node("Add", ["b", "c"], ["a"])]
    made = model("(float[N] x) => (float[N] y) { y = Add(x, a) }", c=np.float32(1))
    made.graph.node.extend(nodes)
    graph = Graph(made)
    assert [graph.constant(name) for name in "abab"] == [None] * 4


def test_deep_constants_are_no_trouble():
    made = model("(float[N] x) => (float[N] y) { y = Add(x, t2000) }", t0=np.float32(1.5))
    made.graph.node.extend(helper.make_node("Identity", [f"t{i}"], [f"t{i + 1}"]) for i in range(2000))
    assert Graph(made).constant("t2000") == 1.5


@pytest.mark.parametrize("linear", [False, True])
def test_sparse_constants(linear):
    indices = np.array([1, 5]) if linear else np.array([[0, 1], [1, 2]])
    values = numpy_helper.from_array(f32(3, -2), "v")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(indices), [2, 3])
    made = model("(float[N] x) => (float[N] y) { y = Relu(x) }")
    made.graph.sparse_initializer.append(sparse)
    node = helper.make_node("Constant", [], ["c"], sparse_value=sparse)
    made.graph.node.append(node)
    want = np.array([[0, 3, 0], [0, 0, -2]], np.float32)
    for name in "vc":
        np.testing.assert_array_equal(Graph(made).constant(name), want)
    for dims in ([2, 2], [2**30, 2**30], [-2, -3]):
        sparse.dims[:] = dims
        made.graph.sparse_initializer[0].CopyFrom(sparse)
        assert Graph(made).constant("v") is None


@pytest.mark.parametrize(("ir", "constant"), [(3, True), (8, False)])
def test_a_default_that_a_caller_may_replace_is_no_constant(ir, constant):
    """Before IR 4 an initializer had to be an input."""
    graph = Graph(model("(float[N] x, float[1] c) => (float[N] y) { y = Add(x, c) }", ir=ir, c=f32(2)))
    assert (graph.constant("c") is not None) == constant
    assert graph.inputs == {"x"}


def test_deep_graphs_are_no_trouble():
    nodes = [helper.make_node("Relu", [f"t{i}"], [f"t{i + 1}"]) for i in range(3000)]
    made = model("(float[N] t0) => (float[N] y) { y = Relu(t0) }")
    del made.graph.node[:]
    made.graph.node.extend([*reversed(nodes), helper.make_node("Relu", ["t3000"], ["y"])])
    graph = Graph(made)
    assert graph.constant("t3000") is None
    graph.finish()
    assert [n.input[0] for n in made.graph.node] == [f"t{i}" for i in range(3001)]


# --- makers and readers ---------------------------------------------------------------------------------------

DIAMOND = """(float[N] x) => (float[N] y) {
    a = Relu(x)
    b = Neg(a)
    c = Mul(a, a)
    y = Add(b, c)
}"""


def test_makers_and_readers():
    graph = Graph(model(DIAMOND))
    assert label(graph.maker("c")) == "c"
    assert graph.maker("x") is graph.maker("") is graph.maker("nowhere") is None
    assert [label(n) for n in graph.readers("a")] == ["b", "c"]  # c once, though it reads a twice
    assert graph.readers("y") == graph.readers("nowhere") == []


def test_only_reader():
    graph = Graph(model(DIAMOND))
    assert graph.only_reader("b") is graph.maker("y")
    assert graph.only_reader("a") is None
    assert graph.only_reader("y") is None
    out = Graph(model("(float[N] x) => (float[N] y, float[N] a) { a = Relu(x) y = Neg(a) }"))
    assert out.only_reader("a") is None
    assert out.is_read_elsewhere("a")


INNER = """(bool c, float[N] x) => (float[N] y) {
    a = Relu(x)
    b = Neg(x)
    y = If (c) <
        then_branch = one () => (float[N] p) { inner = Abs(a) p = Add(inner, k) },
        else_branch = two () => (float[N] q) { q = Identity(b) }
    >
}"""


def test_what_subgraphs_read_has_other_readers():
    made = model(INNER, k=f32(3))
    graph = Graph(made)
    assert [name for name in "abxypq" if graph.is_read_elsewhere(name)] == ["a", "b", "y"]
    assert not graph.is_read_elsewhere("inner")
    branch = made.graph.node[2].attribute[1].g
    assert branch.name == "two"
    del branch.node[:]
    branch.output[0].name = "b"  # as ONNX has it; ONNX Runtime wants an Identity
    assert Graph(made).is_read_elsewhere("b")


def test_changes_are_followed():
    graph = Graph(model(DIAMOND))
    a, c = graph.maker("a"), graph.maker("c")
    graph.set_input(c, 0, "x")
    assert list(c.input) == ["x", "a"]
    assert graph.readers("x") == [a, c]
    assert c in graph.readers("a")
    graph.set_input(c, 1, "x")
    assert [label(n) for n in graph.readers("a")] == ["b"]
    graph.redirect("x", "b")
    assert list(c.input) == ["b", "b"]
    assert graph.readers("x") == []
    graph.remove(c)
    assert graph.maker("c") is None
    assert c not in graph.readers("b")
    assert c not in list(graph.nodes)


def test_a_node_without_some_of_its_inputs_can_be_removed():
    graph = Graph(model("(float[N] x) => (float[N] y) { y = Clip(x, , c) }", c=np.float32(1)))
    graph.remove(graph.maker("y"))
    assert list(graph.nodes) == graph.readers("x") == graph.readers("c") == []


def test_a_removed_constant_is_forgotten():
    graph = Graph(model("(float[N] x) => (float[N] y) { k = Identity(c) y = Add(x, k) }", c=f32(2)))
    assert graph.constant("k") == 2
    graph.remove(graph.maker("k"))
    assert graph.constant("k") is None


# --- names ----------------------------------------------------------------------------------------------------


def test_new_names_are_new_everywhere():
    graph = Graph(model(INNER, k=f32(3)))
    taken = ["c", "x", "y", "a", "k", "inner", "p", "q"]
    assert [graph.new_name(name) for name in taken] == [f"{name}_2" for name in taken]
    assert [graph.new_name(name) for name in ("new", "new", "new")] == ["new", "new_2", "new_3"]
    assert graph.new_name("a") == "a_3"


def test_added_things_keep_their_names_to_themselves():
    made = model(DIAMOND)
    made.graph.node[0].name = "first"
    graph = Graph(made)
    assert [graph.make("Relu", ["x"], f"o{i}", "first").name for i in range(2)] == ["first_2", "first_3"]
    constants = [graph.add_constant(name, f32(1)) for name in ("o0", "k", "k")]
    assert constants == ["o0_2", "k", "k_2"]
    assert graph.new_name("o1") == "o1_2"
    graph.remove(graph.maker("o0"))
    assert graph.new_node_name("first_2") == "first_2"


def test_constants_have_the_type_of_the_array():
    graph = Graph(model(DIAMOND))
    for value in (f32(1, 2), np.int8(3), np.zeros((0, 2), np.int64)):
        back = graph.constant(graph.add_constant("k", value))
        assert (back.dtype, back.shape) == (value.dtype, value.shape)


def test_made_nodes_have_their_attributes():
    graph = Graph(model(DIAMOND))
    node = graph.make("Transpose", ["x"], "t", "turn", perm=[0])
    assert (node.op_type, node.domain, list(node.input), list(node.output)) == ("Transpose", "", ["x"], ["t"])
    assert helper.get_attribute_value(node.attribute[0]) == [0]
    assert graph.maker("t") is node


# --- finish ---------------------------------------------------------------------------------------------------


def test_a_graph_in_order_stays_in_order():
    made = model(INNER, k=f32(3))
    before = made.SerializeToString()
    Graph(made).finish()
    assert made.SerializeToString() == before


def test_nodes_run_after_what_they_read():
    made = model(DIAMOND)
    graph = Graph(made)
    want = run(made, x=f32(-1, 2))
    graph.remove(a := graph.maker("a"))
    a.output[0] = "raw"
    graph.add(a)
    graph.make("Identity", ["middle"], "a", "last")
    graph.make("Identity", ["raw"], "middle", "middle")
    graph.finish()
    assert [n.output[0] for n in made.graph.node] == ["raw", "middle", "a", "b", "c", "y"]
    onnx.checker.check_model(made)
    np.testing.assert_array_equal(run(made, x=f32(-1, 2)), want)


def test_nodes_with_subgraphs_run_after_what_those_read():
    made = model(INNER, k=f32(3))
    made.graph.node.insert(0, made.graph.node.pop())
    assert made.graph.node[0].op_type == "If"
    Graph(made).finish()
    assert [n.op_type for n in made.graph.node] == ["Relu", "Neg", "If"]
    assert run(made, c=np.array(True), x=f32(2))[0] == 5
    assert run(made, c=np.array(False), x=f32(2))[0] == -2


def test_a_subgraph_may_use_a_name_that_comes_later():
    """As ONNX's checker and ONNX Runtime have it."""
    made = model("""(bool c, float[N] x) => (float[N] z) {
        y = If (c) <then_branch = one () => (float[N] y) { y = Relu(x) }, else_branch = two () => (float[N] y) {
            i = Constant<value_int = 1>() s = Cast<to = 7>(i) t = Identity(c)
            y = Loop (s, t, x) <body = three (int64 i, bool t, float[N] x0) => (bool t2, float[N] x1) {
                t2 = Identity(t) x1 = Neg(x0)
            }>
        }>
        z = Abs(y)
    }""")
    onnx.checker.check_model(made)
    before, want = made.SerializeToString(), run(made, c=np.array(True), x=f32(-1, 3))
    Graph(made).finish()
    assert made.SerializeToString() == before
    np.testing.assert_array_equal(run(made, c=np.array(True), x=f32(-1, 3)), want)


def test_a_cycle_is_an_error():
    graph = Graph(model(DIAMOND))
    graph.set_input(graph.maker("a"), 0, "c")
    with pytest.raises(ValueError, match=r"^the graph has a cycle at node (a|c)$"):
        graph.finish()


def test_what_nothing_needs_is_dropped():
    made = model(
        """(bool c, float[N] x, float[1] d) => (float[N] y) <float[N] a, float[N] b, float[N] dead, float[1] k> {
            a = Relu(x)
            dead = Neg(a)
            dead2 = Add(dead, u)
            b = Identity(a)
            y = If (c) <
                then_branch = one () => (float[N] p) { p = Add(b, k) },
                else_branch = two () => (float[N] q) { l = Add(b, k2) q = Abs(l) }
            >
        }""",
        k=f32(3), k2=f32(4), u=f32(5), d=f32(6),
    )  # fmt: skip
    for name in ("a", "dead", "k", "u"):
        made.graph.quantization_annotation.add().tensor_name = name
    Graph(made).finish()
    assert [n.output[0] for n in made.graph.node] == ["a", "b", "y"]
    assert [t.name for t in made.graph.initializer] == ["k", "k2", "d"]
    assert [v.name for v in made.graph.value_info] == ["a", "b", "k"]
    assert [q.tensor_name for q in made.graph.quantization_annotation] == ["a", "k"]
    onnx.checker.check_model(made)
    assert run(made, c=np.array(True), x=f32(2), d=f32(0))[0] == 5


def test_what_a_needless_subgraph_reads_is_needless():
    made = model(INNER, k=f32(3))
    made.graph.node.append(helper.make_node("Relu", ["x"], ["z"]))
    made.graph.output[0].name = "z"
    Graph(made).finish()
    assert [n.output[0] for n in made.graph.node] == ["z"]
    assert not made.graph.initializer


def test_an_output_that_is_an_input_stays():
    made = model("(float[N] x) => (float[N] x, float[1] k) { unused = Relu(x) }", k=f32(3))
    Graph(made).finish()
    assert not made.graph.node
    assert [t.name for t in made.graph.initializer] == ["k"]


# --- types and shapes -----------------------------------------------------------------------------------------


def test_types_and_shapes():
    text = (
        "(float[N, 3, 4] x, float y) => (float[N, 3, 4] z) { a = Relu(x) b = Shape(a) c = Odd(a) z = Add(x, k) }"
    )
    graph = Graph(model(text, k=np.ones((3, 1), np.float32)))
    real = TensorProto.FLOAT
    assert graph.type_of("a") == graph.type_of("x") == graph.type_of("z") == (real, (None, 3, 4))
    assert graph.type_of("y") == (real, ())
    assert graph.type_of("b") == (TensorProto.INT64, (3,))
    assert graph.type_of("k") == (real, (3, 1))
    assert graph.type_of("c") == graph.type_of("nowhere") == (0, None)


QOPERATOR = {
    "y = com.microsoft.QLinearAdd(x, s, z, k, s, z, s, z)": (2, 6, 8, 8),
    "y = com.microsoft.QLinearMul(k, s, z, x, s, z, s, z)": (2, 6, 8, 8),
    "y = com.microsoft.QLinearConcat<axis = 1>(s, z, x, s, z, x, s, z)": (2, 12, 8, 8),
    "y = com.microsoft.QLinearAveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x, s, z, s, z)": (2, 6, 4, 4),
    "y = com.microsoft.QLinearGlobalAveragePool<channels_last = 0>(x, s, z, s, z)": (2, 6, 1, 1),
    "y = com.microsoft.QLinearLeakyRelu<alpha = 0.1>(x, s, z, s, z)": (2, 6, 8, 8),
    "y = com.microsoft.QLinearSigmoid(x, s, z, s, z)": (2, 6, 8, 8),
    "y = com.microsoft.QLinearSoftmax<axis = 1, opset = 13>(x, s, z, s, z)": (2, 6, 8, 8),
    "f = Flatten(x) y = com.microsoft.QGemm<transB = 1>(f, s, z, w, s, z, , s, z)": (2, 5),
}


@pytest.mark.parametrize("nodes", QOPERATOR)
def test_shapes_behind_operators_of_qoperator_models(nodes):
    made = model(
        f"(uint8[2, 6, 8, 8] x) => (uint8[] y) {{ {nodes} a = MaxPool<kernel_shape = [1, 1]>(y) }}",
        s=np.float32(0.1), z=np.uint8(3), k=np.full((6, 1, 1), 9, np.uint8), w=np.ones((5, 384), np.uint8),
    )  # fmt: skip
    made.graph.output[0].type.tensor_type.ClearField("shape")
    before = made.SerializeToString()
    graph = Graph(made)
    assert graph.type_of("y") == (TensorProto.UINT8, QOPERATOR[nodes])
    assert (graph.type_of("a")[1] is not None) == (len(QOPERATOR[nodes]) > 2)
    assert made.SerializeToString() == before
    del made.graph.node[-1]
    assert run(made, x=np.zeros((2, 6, 8, 8), np.uint8))[0].shape == QOPERATOR[nodes]


# --- the small ones -------------------------------------------------------------------------------------------


def test_questions_to_nodes():
    node = helper.make_node("Softmax", ["x"], ["y"], axis=-1, alpha=0.5)
    assert attribute(node, "axis", 1) == -1
    assert attribute(node, "alpha", 1.0) == 0.5
    assert attribute(node, "beta", 2.5) == 2.5
    assert is_op(node, "Relu", "Softmax")
    assert not is_op(None, "Softmax")
    assert not is_op(helper.make_node("Softmax", ["x"], ["y"], domain="elsewhere"), "Softmax")
    assert label(node) == "y"
    assert label(helper.make_node("Softmax", ["x"], ["y"], name="called")) == "called"
    assert label(helper.make_node("Softmax", ["x"], [])) == "Softmax"


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0, "1", [1]], ids=str)
def test_attributes_of_another_type(value):
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=value)
    with pytest.raises(ValueError, match=r"the attribute group of Conv y is of type [A-Z]+: INT is wanted"):
        attribute(node, "group", 1)
    with pytest.raises(ValueError, match="the attribute pads of Conv y is of type INT: INTS is wanted"):
        int_list(helper.make_node("Conv", ["x", "w"], ["y"], pads=1), "pads")


def test_opset():
    made = model("(float[N] x) => (float[N] y) { y = Relu(x) }", opset=15)
    assert opset_of(made) == 15
    made.opset_import[0].domain = "ai.onnx"
    assert opset_of(made) == 15
    del made.opset_import[0]
    assert opset_of(made) == 0
