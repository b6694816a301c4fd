"""Float models that ONNX Runtime runs, and its quantizer, or itself, trips over."""

import numpy as np
import onnx
import pytest
from exact_sums import exact_session
from norm_models import Nodes
from onnx import helper, numpy_helper

from bytenorm import onnx as bno
from bytenorm.onnx.model.files import load_model, without_functions
from bytenorm.report import gather

FORMATS = ["QDQ", "QOperator"]
rng = np.random.default_rng(5)
DATA = [{"x": (size * rng.normal(size=(8, 4, 6, 6))).astype(np.float32)} for size in (1, 2)]


class Network(Nodes):
    """A Relu, r, in front of whatever there is."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(3)
        self.input("x", np.float32, ["N", 4, 6, 6])
        self.node("Relu", ["x"], "r")

    def parameters(self, y, channels=4):
        draw = self.rng
        values = (
            draw.uniform(0.5, 1.5, channels),
            draw.normal(0, 0.3, channels),
            np.zeros(channels),
            np.ones(channels),
        )
        return [self.constant(f"{y}/{i}", value, np.float32) for i, value in enumerate(values)]

    def norm(self, x, y):
        return self.node("BatchNormalization", [x, *self.parameters(y)], y)

    def conv(self, x, y, weight=None):
        if weight is None:
            weight = self.constant(f"{y}/w", self.rng.normal(0, 0.3, (4, 4, 3, 3)), np.float32)
        return self.node("Conv", [x, weight], y, pads=[1, 1, 1, 1])

    def finish(self, *outputs, opset=17):
        for name in outputs:
            self.output(name, np.float32, ["N", *"abc"])
        return self.model(opset)


def outputs(model, feeds):
    return exact_session(model).run(None, feeds)


def decibels(model, made):
    """Return the lowest SNR of any output."""
    found = []
    for feeds in DATA:
        for want, got in zip(outputs(model, feeds), outputs(made, feeds), strict=True):
            noise = np.sum((want - got) ** 2)
            found.append(np.inf if noise == 0 else 10 * np.log10(np.sum(want**2) / noise))
    return min(found)


# --- outputs without a name, of which ONNX Runtime dies ---------------------------------------------------------


def unnamed(kind):
    """Return a model with a node that has outputs without a name, and the same one where each has one."""
    both = []
    for names in (["", "", "", ""], ["o1", "o2", "o3", "o4"]):
        n = Network()
        n.norm(n.conv("r", "c"), "b")
        n.node("Relu", ["b"], "br")
        opset = {"old": 9, "training": 15, "split": 13}[kind]
        if kind == "split":
            n.nodes.append(helper.make_node("Split", ["br"], [names[0], "half"], axis=1))
            n.node("Neg", ["half"], "y")
        else:
            # Without any of the others it is not in training: so said the operator before training_mode.
            statistics = {"": names, "o1": []}[names[0]] if kind == "old" else names[:2]
            attributes = {} if kind == "old" else {"training_mode": 1}
            made = ["s", *statistics]
            n.nodes.append(helper.make_node("BatchNormalization", ["br", *n.parameters("s")], made, **attributes))
            n.node("Relu", ["s"], "y")
        both.append(n.finish("y", opset=opset))
    return both


@pytest.mark.parametrize("kind", ["old", "training", "split"])
def test_outputs_without_a_name(kind, tmp_path):
    model, named = unnamed(kind)
    before = model.SerializeToString()
    opened = load_model(model)  # first, since a session would end this process
    assert all(name for node in opened.graph.node for name in node.output)
    assert [len(node.output) for node in opened.graph.node][-2] == {"old": 1, "training": 3, "split": 2}[kind]
    onnx.save(model, tmp_path / "model.onnx")
    assert load_model(tmp_path / "model.onnx") == opened
    want = outputs(named, DATA[0])
    for given in (model, tmp_path / "model.onnx"):
        assert np.array_equal(bno.session(given).run(None, DATA[0])[0], want[0])
    assert decibels(named, bno.quantize_with_report(model, DATA)[0]) > 20
    assert np.isinf(bno.compare(model, named, DATA).outputs[0].snr_db)
    assert model.SerializeToString() == before


def test_outputs_that_nobody_need_write_stay_without_a_name():
    n = Network()
    n.nodes.append(helper.make_node("Dropout", ["r"], ["d", ""]))
    assert list(load_model(n.finish("d")).graph.node[-1].output) == ["d", ""]


# --- what the quantizer does not know ------------------------------------------------------------------------


@pytest.mark.parametrize("quant_format", FORMATS)
def test_an_input_is_an_output(quant_format):
    n = Network()
    n.norm("r", "b")
    n.conv("b", "y")
    n.output("r2", np.float32, None)
    n.node("Neg", ["b"], "r2")
    model = n.finish("x", "y")
    made = bno.quantize(model, DATA * 2, quant_format=quant_format)
    assert [value.name for value in made.graph.output] == ["r2", "x", "y"]
    assert np.array_equal(outputs(made, DATA[0])[1], DATA[0]["x"])
    assert decibels(model, made) > 20


@pytest.mark.parametrize("quant_format", FORMATS)
def test_sparse_weights(quant_format):
    n = Network()
    weight = n.rng.normal(size=(4, 4, 3, 3)) * (n.rng.random((4, 4, 3, 3)) < 0.3)
    where = np.flatnonzero(weight)
    n.conv(n.norm("r", "b"), "y", "w")
    model = n.finish("y")
    values = numpy_helper.from_array(weight.ravel()[where].astype(np.float32), "w")
    indices = numpy_helper.from_array(where.astype(np.int64), "where")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, weight.shape))
    made = bno.quantize(model, DATA, quant_format=quant_format)
    assert {node.op_type for node in made.graph.node} & {"QLinearConv", "QuantizeLinear"}
    assert decibels(model, made) > 20


def test_a_function_of_another_opset():
    """Squeeze's axes became an input in opset 13; ONNX Runtime itself does not convert. bytenorm's own stay."""
    n = Network()
    n.node("Norm", ["r", *n.parameters("b")], "b", domain="own")
    n.node("Twice", ["b"], "y", domain="bytenorm")
    model = n.finish("y")
    body = [helper.make_node("BatchNormalization", list("xwbmv"), ["t"]), helper.make_node("Relu", ["t"], ["y"])]
    opset = [helper.make_opsetid("", 11)]
    model.functions.append(helper.make_function("own", "Norm", list("xwbmv"), ["y"], body, opset))
    twice = [helper.make_node("Add", ["x", "x"], ["y"])]
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("bytenorm", "Twice", ["x"], ["y"], twice, opset))
    written = without_functions(model, "bytenorm")
    assert [f.name for f in written.functions] == ["Twice"]
    assert decibels(model, bno.quantize(model, DATA)) > 20
    before = outputs(model, DATA[0])[0]
    body[1:] = [
        helper.make_node("Unsqueeze", ["t"], ["u"], axes=[0]),
        helper.make_node("Squeeze", ["u"], ["y"], axes=[0]),
    ]
    model.functions[0].ClearField("node")
    model.functions[0].node.extend(body)
    after = outputs(without_functions(model, "bytenorm"), DATA[0])[0]
    assert np.array_equal(np.maximum(after, 0), before)


def test_a_norm_without_channels():
    """Depthwise convolutions of none end ONNX Runtime's process in QOperator format."""
    n = Network()
    starts, ends, axes = (n.constant(f"k{v}", [v], np.int64) for v in (0, -9, 1))
    n.node("Slice", ["r", starts, ends, axes], "none")
    n.node("BatchNormalization", ["none", *n.parameters("empty", 0)], "empty")
    n.node("Concat", [n.norm("r", "b"), "empty"], "y", axis=1)
    model = n.finish("y")
    for quant_format in FORMATS:
        made, report = bno.quantize_with_report(model, DATA, quant_format=quant_format)
        assert [(one.name, one.problem) for one in report.outcomes if one.problem] == [
            ("empty", "it has no channels")
        ]
        assert decibels(model, made) > 20


@pytest.mark.parametrize("inside", [False, True])
def test_sequences(inside):
    n = Network()
    n.norm("r", "b")
    n.node("SequenceConstruct", ["b", "r"], "s")
    n.node("SequenceAt", ["s", n.constant("k0", 0, np.int64)], "first")
    n.conv("first" if inside else "b", "y")
    model = n.finish("y")
    if not inside:
        kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, None))
        model.graph.output.append(helper.make_value_info("s", kind))
    made, report = bno.quantize_with_report(model, DATA)
    assert [step.before_db is None for step in report.steps] == [False, False]
    measured = gather(made, DATA, reference=model)
    assert measured.findings.snr_db > 20


def with_unknown_rank(rank):
    """Return a network with a norm behind a Reshape to a shape that nobody can tell: its sizes above 0."""
    n = Network()
    x = n.node("Flatten", [n.node("GlobalAveragePool", ["r"], "p")], "f") if rank == 2 else "r"
    if rank == 3:
        x = n.node("Reshape", ["r", n.constant("lines", [0, 4, 36], np.int64)], "l")
    n.node("Greater", [n.node("Shape", [x], "s"), n.constant("k0", 0, np.int64)], "any")
    n.node("Reshape", [x, n.node("Compress", ["s", "any"], "sizes")], "u")
    return n, n.node("Relu", [n.norm("u", "b")], "y")


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_a_rank_that_only_a_run_tells(rank):
    n, y = with_unknown_rank(rank)
    model = n.finish(y)
    del model.graph.output[0].type.tensor_type.shape.dim[rank:]
    for quant_format in FORMATS:
        made, report = bno.quantize_with_report(model, DATA, quant_format=quant_format)
        assert [one.problem for one in report.outcomes] == [
            "the rank of its input is unknown" if rank == 2 else ""
        ]
        assert decibels(model, made) > 20


def test_a_norm_of_unknown_rank_gets_no_disguise():
    n, y = with_unknown_rank(3)
    n.node("Relu", [n.norm("r", "other")], "z")
    model = n.finish(y, "z")
    del model.graph.output[0].type.tensor_type.shape.dim[3:]
    prepared = bno.prepare(model)
    assert [node.op_type for node in prepared.graph.node].count("BatchNormalization") == 1
    assert decibels(model, prepared) > 100


def test_ranks_that_onnx_runtime_knows():
    n = Network()
    n.node("Flatten", [n.node("GlobalAveragePool", ["r"], "p")], "f")
    weight = n.constant("w", n.rng.normal(size=(4, 4)), np.float32)
    n.norm(n.node("FusedMatMul", ["f", weight], "u", domain="com.microsoft", transB=1), "y")
    n.output("y", np.float32, ["N", 4])
    model = n.finish()
    prepared = bno.prepare(model)
    assert "BatchNormalization" not in {node.op_type for node in prepared.graph.node}
    assert decibels(model, prepared) > 100


# --- initializers that are no inputs, in a file of a version that wanted them to be --------------------------


@pytest.mark.parametrize("opset", [7, 8, 10, 13])
def test_constants_apart_before_their_time(opset):
    """ONNX Runtime runs such models; onnx infers no types of them and converts none."""
    n = Network()
    n.norm("r", "b")
    n.node("Mul", ["b", n.constant("gain", np.full((4, 1, 1), 1.5), np.float32)], "m")
    n.node("Add", ["m", n.constant("shift", np.full((4, 1, 1), 0.1), np.float32)], "y")
    n.output("y", np.float32, ["N", 4, 6, 6])
    old, newer = n.model(opset, ir=3), n.model(opset, ir=8)
    assert [norm.name for norm in bno.inspect(old).norms] == [norm.name for norm in bno.inspect(newer).norms]
    made, report = bno.quantize_with_report(old, DATA)
    assert not any(outcome.problem for outcome in report.outcomes)
    assert decibels(old, made) > 25


def test_a_batch_that_becomes_channels():
    """Such a model runs with the batches that came, and with no others."""
    n = Network()
    n.node("Reshape", ["r", n.constant("merged", [1, 32, 6, 6], np.int64)], "m")
    n.nodes.append(helper.make_node("BatchNormalization", ["m", *n.parameters("b", 32)], ["b"]))
    n.node("Reshape", ["b", n.constant("apart", [-1, 4, 6, 6], np.int64)], "y")
    model = n.finish("y")
    with pytest.raises(ValueError, match=r"Reshape.*None for each input in batch_axes leaves them as they came"):
        bno.quantize(model, DATA)
    assert decibels(model, bno.quantize(model, DATA, batch_axes={"x": None})) > 25
