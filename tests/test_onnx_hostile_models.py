"""Models that come back to themselves, grow without end, or are malformed: each is refused in words."""

import itertools
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.onnx.model import soundness
from bytenorm.onnx.model.files import load_model
from bytenorm.onnx.model.weightless import inferred_types

FLOAT = TensorProto.FLOAT
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
node = helper.make_node


def tensor(name, shape=(1, 2), kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, functions=(), outputs=("y",), inputs=None):
    constants = [numpy_helper.from_array(np.ones(2, np.float32), name) for name in "wbmv"]
    constants += [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.uint8(3), "z")]
    inputs = inputs or [tensor("x")]
    graph = helper.make_graph(nodes, "g", inputs, [tensor(name, None) for name in outputs], constants)
    return helper.make_model(graph, ir_version=9, opset_imports=OPSETS, functions=list(functions))


def function(name, *nodes):
    return helper.make_function("my", name, ["a"], ["o"], list(nodes), OPSETS)


def call(name, x, y):
    return node(name, [x], [y], domain="my")


def norm(x, y="y"):
    return node("BatchNormalization", [x, "w", "b", "m", "v"], [y])


def branch(*nodes, y="o"):
    return helper.make_graph(list(nodes), "branch", [], [tensor(y, None)])


def bomb(depth=60):
    """Return functions that are 2^59 nodes when written out."""
    functions = [function("F0", node("Relu", ["a"], ["o"]))]
    functions += [
        function(f"F{i}", call(f"F{i - 1}", "a", "t"), call(f"F{i - 1}", "t", "o")) for i in range(1, depth)
    ]
    return model([call(f"F{depth - 1}", "x", "t"), norm("t")], functions)


def nested(depth):
    graph = branch(node("Relu", ["x"], ["o"]))
    for _ in range(depth):
        graph = branch(node("If", ["c"], ["o"], then_branch=graph, else_branch=graph_of_one()))
    return model([*graph.node[:1], norm("o")], inputs=[tensor("x"), tensor("c", (), TensorProto.BOOL)])


def graph_of_one():
    return branch(node("Neg", ["x"], ["o"]))


CIRCLE = "has a cycle: its node"
WITH_CONDITION = [tensor("x"), tensor("c", (), TensorProto.BOOL)]


def choice(then_branch):
    """Return a node that runs one of two graphs."""
    return node("If", ["c"], ["a"], then_branch=then_branch, else_branch=graph_of_one())


def circle_of_moves():
    moves = [node("Transpose", ["t2"], ["t1"]), node("Transpose", ["t1"], ["t2"])]
    last = node("QuantizeLinear", ["n", "s", "z"], ["y"])
    return model([*moves, node("DequantizeLinear", ["t2", "s", "z"], ["d"]), norm("d", "n"), last])


def circle_of_conversions():
    first = node("QuantizeLinear", ["d", "s", "z"], ["q"])
    return model([first, node("DequantizeLinear", ["q", "s", "z"], ["d"]), norm("d")])


def circle_through_a_branch():
    return model([choice(branch(node("Relu", ["y"], ["o"]))), norm("a")], inputs=WITH_CONDITION)


def circle_within_a_branch():
    inner = branch(node("Relu", ["p"], ["o"]), node("Relu", ["o"], ["p"]))
    return model([choice(inner), norm("a")], inputs=WITH_CONDITION)


def with_functions(*functions):
    return model([call("F", "x", "a"), norm("a")], functions)


def circle_within_a_function():
    return with_functions(function("F", node("Add", ["a", "o"], ["t"]), node("Relu", ["t"], ["o"])))


def function_of_itself_in_a_branch():
    return with_functions(
        function(
            "F", node("If", ["a"], ["o"], then_branch=branch(call("F", "a", "o")), else_branch=graph_of_one())
        )
    )


def call_with_too_many_inputs():
    called = node("F", ["x", "x", "x"], ["a"], domain="my")
    return model([called, norm("a")], [function("F", node("Relu", ["a"], ["o"]))])


HOSTILE = {
    "moves": (circle_of_moves, CIRCLE),
    "itself": (lambda: model([node("Identity", ["y"], ["y"])]), CIRCLE),
    "conversions": (circle_of_conversions, CIRCLE),
    "through a branch": (circle_through_a_branch, CIRCLE),
    "within a branch": (circle_within_a_branch, CIRCLE),
    "within a function": (circle_within_a_function, CIRCLE),
    "made twice": (lambda: model([norm("x"), node("Relu", ["x"], ["y"])]), "makes its tensor 'y' twice"),
    "function of itself": (
        lambda: with_functions(function("F", call("F", "a", "o"))),
        "functions that call themselves: F",
    ),
    "functions of each other": (
        lambda: with_functions(function("F", call("G", "a", "o")), function("G", call("F", "a", "o"))),
        "functions that call themselves: F and G",
    ),
    "function of itself in a branch": (function_of_itself_in_a_branch, "functions that call themselves: F"),
    "bomb": (bomb, "functions of 1000000000 nodes or more when written out: at most 1000000"),
    "deep": (lambda: nested(31), "graphs within graphs, more than 30 deep"),
    "call with too many inputs": (call_with_too_many_inputs, "its functions cannot be written out"),
    "no inputs": (lambda: model([node("BatchNormalization", [], ["y"])]), "with 0 inputs: 5 are wanted"),
    "no outputs": (lambda: model([norm("x"), node("Relu", ["x"], [])]), "with 0 outputs: 1 are wanted"),
    "many inputs": (lambda: model([norm("a"), node("Relu", ["x", "x"], ["a"])]), "with 2 inputs: 1 are wanted"),
}


def fed():
    return [{"x": np.ones((1, 2), np.float32)}]


READERS = {
    "load": load_model,
    "inspect": bno.inspect,
    "lower": bno.lower,
    "quantize": lambda made: bno.quantize(made, fed()),
    "compare": lambda made: bno.compare(made, made, fed()),
    "session": bno.session,
}
AFTER = {"call with too many inputs"}  # seen where functions are written out


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("reader", READERS)
def test_models_that_cannot_be(kind, reader):
    made, words = HOSTILE[kind][0](), HOSTILE[kind][1]
    if kind in AFTER and reader in ("load", "compare", "session"):
        words = "|".join((words, "ONNX Runtime cannot load it"))
        if reader == "load":
            return
    with pytest.raises(ValueError, match=words) as caught:
        READERS[reader](made)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [k for k in HOSTILE if k != "deep"])  # too deep for protobuf: in no file
def test_the_commands_end_with_one_line(kind, tmp_path, capsys):
    file, data, output = tmp_path / "m.onnx", tmp_path / "x.npy", tmp_path / "out"
    onnx.save(HOSTILE[kind][0](), file)
    np.save(data, np.ones((1, 2), np.float32))
    for arguments in (
        ["inspect", file], ["quantize", file, "--data", data, "-o", output], ["lower", file, "-o", output],
        ["compare", file, file, "--data", data], ["bench", file, file, "--data", data],
        ["report", file, file, "--data", data, "-o", output],
    ):  # fmt: skip
        assert main([str(a) for a in arguments]) == 2, arguments
        said = capsys.readouterr().err
        assert said.startswith("bytenorm: error: ")
        assert said.count("\n") == 1
        assert not output.exists()


def test_order_of_nodes_does_not_matter():
    made = model([norm("a"), node("Relu", ["x"], ["a"])])
    assert len(bno.inspect(made).norms) == 1


def test_functions_up_to_the_limit(monkeypatch):
    made = bomb(8)  # 2^7 nodes, and the norm
    monkeypatch.setattr(soundness, "MOST_NODES", 129)
    assert len(bno.inspect(made).norms) == 1
    monkeypatch.setattr(soundness, "MOST_NODES", 128)
    with pytest.raises(ValueError, match="functions of 129 nodes"):
        bno.inspect(made)


def test_graphs_up_to_the_limit():
    bno.inspect(nested(soundness.DEEPEST - 1))


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("operator", ["Identity", "Neg"])
def test_long_chains_are_no_recursion(operator):
    names = ["w", *(f"t{i}" for i in range(1500))]
    nodes = [node(operator, [a], [b]) for a, b in itertools.pairwise(names)]
    nodes.append(node("BatchNormalization", ["x", names[-1], "b", "m", "v"], ["y"]))
    assert len(bno.inspect(model(nodes)).norms) == 1
    data = ["x", *(f"t{i}" for i in range(1500))]
    nodes = [node(operator, [a], [b]) for a, b in itertools.pairwise(data)]
    assert len(bno.inspect(model([*nodes, norm(data[-1])])).norms) == 1


def test_names_that_are_no_text(tmp_path):
    content = model([node("Relu", ["x"], ["abcde"]), norm("abcde")]).SerializeToString()
    assert content.count(b"abcde") == 2
    (tmp_path / "m.onnx").write_bytes(content.replace(b"abcde", b"ab\xc0de"))
    with pytest.raises(ValueError, match="is damaged: it has a name that is no text in UTF-8"):
        bno.inspect(tmp_path / "m.onnx")


@pytest.mark.parametrize("where", ["graph", "producer", "metadata", "dimension", "function"])
def test_other_text_that_is_no_text(tmp_path, where):
    made = model([node("Relu", ["x"], ["r"]), norm("r")])
    made.graph.name = "abcde" if where == "graph" else "g"
    made.producer_name = "abcde" if where == "producer" else ""
    if where == "metadata":
        made.metadata_props.add(key="abcde", value="1")
    if where == "dimension":
        made.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "abcde"
    if where == "function":
        opset = helper.make_opsetid("", 17)
        made.functions.append(
            helper.make_function("my", "abcde", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [opset])
        )
    content = made.SerializeToString()
    assert content.count(b"abcde") == 1
    (tmp_path / "m.onnx").write_bytes(content.replace(b"abcde", b"ab\xc0de"))
    with pytest.raises(ValueError, match="is damaged: it has a name that is no text in UTF-8"):
        bno.inspect(tmp_path / "m.onnx")


def test_documentation_may_be_no_text(tmp_path):
    made = model([norm("x")])
    made.doc_string = made.graph.doc_string = made.graph.node[0].doc_string = "abcde"
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString().replace(b"abcde", b"ab\xc0de"))
    assert len(bno.inspect(tmp_path / "m.onnx").norms) == 1


@pytest.mark.parametrize(
    ("raw", "dims", "kind", "words"),
    [
        (b"\0" * 7, [2], TensorProto.FLOAT, r"'w' do not make float \[2\]"),
        (b"\0" * 8, [31], TensorProto.FLOAT, r"'w' do not make float \[31\]"),
        (b"\0" * 8, [2**40, 2], TensorProto.FLOAT, r"'w' do not make float \[1099511627776, 2\]"),
        (b"\0" * 8, [2], TensorProto.UNDEFINED, r"'w' do not make undefined \[2\]"),
    ],
)
@pytest.mark.parametrize("constant", [False, True])
def test_data_that_do_not_fit_their_shape(raw, dims, kind, words, constant):
    made = model([norm("x")])
    tensor = next(tensor for tensor in made.graph.initializer if tensor.name == "w")
    tensor.ClearField("float_data")
    tensor.raw_data, tensor.data_type = raw, kind
    tensor.dims[:] = dims
    if constant:
        made.graph.node.insert(0, node("Constant", [], ["w"]))
        made.graph.node[0].attribute.append(helper.make_attribute("value", tensor))
        made.graph.initializer.remove(tensor)
    with pytest.raises(ValueError, match=words):
        bno.inspect(made)


STATED = {  # lengths below 0, stated: not believed
    "input": ("float[-5] b", ""),
    "type": ("float[3] a", "b = my.Foo(a)"),
}
K, L = (f"{name} = Slice(d, f, t)" for name in "kl")
ELSE = "else_branch = g () => (j) { j = Identity(a) }"
COMPUTED = {  # and computed, at once or behind another Slice: nothing runs such a model
    "pad": "b = Pad(a, s)",
    "pool": "u = Unsqueeze(a, f) v = Unsqueeze(u, f) c = MaxPool<kernel_shape = [7]>(v) b = Squeeze(c)",
    "expand": "b = Expand(w, o)",
    "split": "c = Slice(a, f, w) d, e, b = Split<num_outputs = 3>(c)",
    "behind a Slice": "c = Slice(a, f, t) b = Pad(c, s)",
    "behind two": "c = Slice(a, f, t) d = Pad(c, p) e = Slice(d, f, t) b = Pad(e, s)",
    "through other nodes": "c = Slice(a, f, t) d = Pad(c, s) e = Relu(d) h = Neg(e) b = Add(h, h)",
    "in a branch": "b = If<then_branch = g () => (k) { u = Constant<value_ints = [-8, 0]>() "
    "v = Constant<value_ints = [0]>() c = Constant<value_ints = [1, 2]>() d = Pad(c, u) k = Slice(d, v, v) }, "
    "else_branch = g () => (j) { j = Identity(f) }>(q)",
    # What only ONNX Runtime finds out: it computes constants, and branches see those of the graph around them.
    "in a branch, by numbers around it": f"b = If<then_branch = g () => (k) {{ d = Pad(a, s) {K} }}, {ELSE}>(q)",
    "in two": f"b = If<then_branch = g () => (k) {{ k = If<then_branch = h () => (l) {{ d = Pad(a, s) {L} }}, "
    f"else_branch = h () => (m) {{ m = Identity(a) }}>(q) }}, {ELSE}>(q)",
    "by computed ones": f"u = Neg(z) b = If<then_branch = g () => (k) {{ d = Pad(a, u) {K} }}, {ELSE}>(q)",
    "in a loop": f"b = Loop<body = g (int64 i, bool m) => (j, k) {{ j = Identity(m) d = Pad(a, s) {K} }}>(n, q)",
    "of a loop": "b = Loop<body = g (int64 i, bool go, float[4] d) => (on, k) { on = Identity(go) c = Pad(d, s) "
    "k = Slice(c, f, t) }>(n, q, a)",
    "computed": "u = Add(s, p) b = Pad(a, u)",
    "two of one node": "h, i = Split<num_outputs = 2>(z) j = Neg(h) u = Concat<axis = 0>(j, j) b = Pad(a, u)",
    "of known lengths": "c = Slice(a, f, t) h = Shape(c) i = Neg(h) u = Concat<axis = 0>(i, i) b = Pad(c, u)",
    "of a known branch": "u = If<then_branch = g () => (k) { k = Identity(s) }, else_branch = g () => (j) "
    "{ j = Identity(p) }>(q) b = Pad(a, u)",
    "beside another": "c = Pad(a, s) d = Slice(a, f, t) e = Pad(d, p) h = Slice(e, f, t) b = Pad(h, s)",
    "in another order": "c = Slice(b, f, t) b = Pad(a, s)",
}


def sliced(nodes, given="float[4] a", stated=""):
    """Return a model whose last node is a Slice of what others make."""
    constants = "int64[1] f = {0}, int64[1] t = {2}, int64[1] w = {1}, int64[1] o = {-5}"
    constants += ", int64[2] s = {-8, 0}, int64[2] z = {8, 0}, int64[2] p = {-1, 0}, bool q = {1}, int64 n = {1}"
    return parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18, "my": 1]> g ({given}) => (y) <{constants}{stated}> '
        f"{{ {nodes} y = Slice(b, f, t) }}"
    )


def run_apart(run_python, made, code):
    return run_python(
        "import onnx\nfrom bytenorm import onnx as bno\n"
        "from bytenorm.onnx.model.weightless import inferred_types\n"
        f"model = onnx.load_model_from_string({made.SerializeToString()!r})\n{code}"
    )


@pytest.mark.parametrize("kind", STATED)
def test_slices_of_a_length_that_is_stated_below_0(kind, run_python):
    """onnx's type inference ends the process at one."""
    given, nodes = STATED[kind]
    made = sliced(nodes, given, ", float[-5] b" if kind == "type" else "")
    done = run_apart(run_python, made, "print(inferred_types(model)['f'])")
    assert (done.returncode, done.stdout) == (0, "(7, (1,))\n"), done.stderr[-500:]


def test_slices_of_a_length_that_is_below_0(run_python):
    """onnx and ONNX Runtime end the process at one."""
    code = "import onnx\nfrom bytenorm import onnx as bno\n"
    code += "from bytenorm.onnx.model.weightless import inferred_types\nmodels = ["
    code += ", ".join(repr(sliced(nodes).SerializeToString()) for nodes in COMPUTED.values())
    done = run_python(
        f"{code}]\nfor model in map(onnx.load_model_from_string, models):\n"
        "    for read in (inferred_types, bno.session):\n"
        "        try:\n            read(model)\n"
        "        except ValueError as error:\n            print(error)\n"
    )
    assert done.returncode == 0, done.stderr[-500:]
    said = done.stdout.splitlines()
    assert len(said) == 2 * len(COMPUTED)
    assert all("has a Slice of its tensor" in line and "of the impossible shape (-" in line for line in said), said


def test_slices_that_can_be_in_branches():
    """A length of 4, less one, and of that the first two; nothing is changed in what is run."""
    nodes = f"u = Abs(p) v = Neg(u) b = If<then_branch = g () => (k) {{ d = Pad(a, v) {K} }}, {ELSE}>(q)"
    made = sliced(nodes)
    before = made.SerializeToString()
    assert inferred_types(made)["u"] == (TensorProto.INT64, (2,))
    np.testing.assert_array_equal(bno.session(made).run(None, {"a": np.arange(4, dtype=np.float32)})[0], [1, 2])
    assert made.SerializeToString() == before


def test_slices_that_can_be():
    made = sliced("c = Slice(a, f, t) d = Pad(c, p) e = Slice(d, f, t) b = Relu(e)")
    assert inferred_types(made)["b"] == (FLOAT, (1,))
    assert bno.session(made).run(None, {"a": np.ones(4, np.float32)})[0].shape == (1,)


@pytest.mark.parametrize("outputs", [["p", "q", "y"], ["y"]])
def test_splits_that_tell_another_number(outputs):
    """Of too many onnx's type inference and ONNX Runtime end the process."""
    made = model([node("Split", ["x"], outputs, num_outputs=2, axis=1)])
    made.opset_import[0].version = 18
    words = f"has a node Split '' with {len(outputs)} outputs: its num_outputs is 2"
    for read in (load_model, bno.session):
        with pytest.raises(ValueError, match=words):
            read(made)


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize("op", ["EyeLike", "RegexFullMatch"])
def test_inputs_of_unknown_types(op, run_python):
    """onnx's type inference ends the process at one."""
    attributes = {"dtype": FLOAT} if op == "EyeLike" else {"pattern": "a"}
    made = model(
        [node("Foo", ["x"], ["t"], domain="my"), node(op, ["t"], ["y"], **attributes), norm("x", "n")],
        outputs=("y", "n"),
    )
    made.opset_import[0].version = 20
    done = run_apart(
        run_python,
        made,
        "print(len(bno.inspect(model).norms))\nimport numpy\n"
        "try:\n    bno.quantize(model, [{'x': numpy.ones((1, 2), 'f4')}])\n"
        "except ValueError as error:\n    print(error)",
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stdout == f"1\nmodel has a node {op} '' that reads 't', whose type is not known\n"


def test_tensors_of_negative_lengths():
    made = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) <float[-5] b = {1}>'
        "{ y = Add(x, b) }"
    )
    with pytest.raises(ValueError, match=r"model has a tensor 'b' of the impossible shape \(-5,\)"):
        load_model(made)


def chain(seed):
    """Return a model of a few nodes that change a length, Slices among them; one in two has them in a branch.

    There they read numbers of the graph around them, some of which are computed there.
    """
    draw = random.Random(seed)
    nodes = [
        "Slice(a, zero, two)", "Slice(a, one, far, zero, back)", "Pad(a, less)", "Pad(a, more)", "Relu(a)",
        "Split<num_outputs = 3>(a)", "Concat<axis = 0>(a, a)", "Expand(one, below)", "Tile(a, below)",
        "Reshape(a, below)", "ConstantOfShape(below)", "Slice(a, zero, far)", "Range(first, last, first)",
    ]  # fmt: skip
    body, name = "", "x"
    for i in range(draw.randrange(2, 7)):
        drawn = draw.choice(nodes)
        text = drawn.replace("(a", f"({name}").replace(", a)", f", {name})")
        made = f"t{i}, u{i}, v{i}" if "Split" in text else f"v{i}"
        body, name = f"{body} {made} = {text}", f"v{i}"
    constants = "int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] far = {99}"
    constants += ", int64[1] back = {-1}, int64[1] below = {-2}, int64[2] less = {-3, 0}, int64[2] more = {1, 1}"
    constants += ", int64 first = {1}, int64 last = {-4}, bool yes = {1}"
    given, body = draw.choice("0124"), f"{body} last_one = Slice({name}, zero, two)"
    if draw.random() < 0.5:
        before = "neg = Neg(less) some = Neg(neg) " if draw.random() < 0.5 else ""
        body = body.replace(", less", ", some") if before else body
        branches = (
            f"then_branch = h () => (last_one) {{ {body} }}, else_branch = h () => (z) {{ z = Identity(x) }}"
        )
        body = f"{before}last_one = If<{branches}>(yes)"
    return parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> g (int64[{given}] x) => (y) <{constants}> '
        f"{{ {body} y = Identity(last_one) }}"
    )


def test_random_chains_of_slices(run_python):
    """Of 100 such models onnx's type inference ends the process at some, ONNX Runtime at more."""
    done = run_python(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_onnx_hostile_models import bno, chain, inferred_types\n"
        "refused = 0\n"
        "for seed in range(100):\n"
        "    try:\n        inferred_types(chain(seed))\n        bno.session(chain(seed))\n"
        "    except ValueError:\n        refused += 1\n"
        "print(refused)"
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert 10 < int(done.stdout) < 90
