"""Models that come back to themselves, grow without end, or are malformed: each is refused in words."""

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.onnx.model import soundness
from bytenorm.onnx.model.files import load_model

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


NEGATIVE = {  # lengths below 0, stated and computed
    "input": ("float[-5] b", "", ""),
    "type": ("float[3] a", "float[-5] b", "b = Foo(a)"),
    "pad": ("float[4] a", "int64[2] s = {-8, 0}", "b = Pad(a, s)"),
    "pool": ("float[1, 1, 2, 2] a", "", "c = MaxPool<kernel_shape = [5, 5]>(a) b = Squeeze(c)"),
    "expand": ("float[1] a", "int64[1] s = {-5}", "b = Expand(a, s)"),
}


@pytest.mark.parametrize("kind", NEGATIVE)
def test_slices_of_negative_lengths(kind, run_python):
    """onnx's type inference ends the process at one."""
    given, more, nodes = NEGATIVE[kind]
    text = (
        f'<ir_version: 8, opset_import: ["": 17]> g ({given}) => (float[2] y) '
        f"<int64[1] f = {{0}}, int64[1] t = {{2}}{', ' + more if more else ''}> {{ {nodes} y = Slice(b, f, t) }}"
    )
    done = run_python(
        "from onnx import parser\n"
        "from bytenorm.onnx.model.weightless import inferred_types\n"
        f"print(inferred_types(parser.parse_model({text!r}))['y'])"
    )
    assert (done.returncode, done.stdout) == (0, "(1, (2,))\n"), done.stderr[-500:]


def test_tensors_of_negative_lengths():
    made = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) <float[-5] b = {1}>'
        "{ y = Add(x, b) }"
    )
    with pytest.raises(ValueError, match=r"model has a tensor 'b' of the impossible shape \(-5,\)"):
        load_model(made)
