"""Norms that lowering leaves in float, and models that it refuses."""

import re
import warnings

import numpy as np
import onnx
import pytest
from lowered_norms import LOWERINGS, RELU, chain, ops, options
from norm_models import qdq_model, random_norm, serialized
from onnx import TensorProto, helper

from bytenorm import onnx as bno

# --- what stays in float ----------------------------------------------------------------------------------------


def node(model, name):
    return next(n for n in model.graph.node if n.name == name)


def start(rng, **changes):
    return qdq_model(random_norm(rng, **changes), real=True)[0]


def float_input(rng):
    model = start(rng)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    model.graph.node.remove(node(model, "real"))
    node(model, "norm").input[0] = "x"
    return model


def float_output(rng):
    model = start(rng)
    for name in ("quantize", "z"):
        model.graph.node.remove(node(model, name))
    model.graph.output[0].name = node(model, "norm").output[0] = "z"
    return model


def read_by_another(rng):
    model = start(rng)
    model.graph.node.append(helper.make_node("Neg", ["normalized"], ["negative"], name="neg"))
    model.graph.output.append(helper.make_tensor_value_info("negative", TensorProto.FLOAT, ["n", 6, "h", "w"]))
    return model


def read_as_output(rng):
    model = start(rng)
    model.graph.output.append(helper.make_tensor_value_info("normalized", TensorProto.FLOAT, ["n", 6, "h", "w"]))
    return model


def two_quantizations(rng):
    model = start(rng)
    other = helper.make_node("QuantizeLinear", ["normalized", "x_scale", "x_zero_point"], ["other"], name="other")
    model.graph.node.append(other)
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.UINT8, ["n", 6, "h", "w"]))
    return model


def set_constant(model, name, value, dtype):
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))


def output_per_channel(rng):
    model = start(rng)
    set_constant(model, "y_scale", rng.uniform(0.02, 0.05, 6), np.float32)
    set_constant(model, "y_zero_point", np.full(6, 90), np.uint8)
    return model


def input_along_another_axis(rng):
    model = start(rng)
    set_constant(model, "x_scale", rng.uniform(0.02, 0.05, 6), np.float32)
    set_constant(model, "x_zero_point", np.full(6, 90), np.uint8)
    node(model, "real").attribute.append(helper.make_attribute("axis", 2))
    return model


def scale_from_outside(rng):
    model = start(rng)
    kept = [t for t in model.graph.initializer if t.name != "y_scale"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    node(model, "quantize").input[1] = node(model, "z").input[1] = "scale"
    model.graph.node.insert(0, helper.make_node("ReduceMax", ["real"], ["scale"], name="s", keepdims=0))
    model.graph.node.insert(0, model.graph.node.pop(1))
    return model


def of_16_bits(rng):
    model = start(rng)
    model.opset_import[0].version, model.ir_version = 21, 10
    set_constant(model, "y_zero_point", 3000, np.uint16)
    return model


def overflowing(rng):
    """In float, what is far out saturates; a folded slope does not exist."""
    return start(rng, y_scale=1e-3, weight=np.full(6, 3e37), bias=np.zeros(6))


def within_a_branch(rng):
    model = start(rng)
    inner = helper.make_graph(
        [helper.make_node("BatchNormalization", ["z", "weight", "bias", "mean", "var"], ["inside"], name="inner")],
        "then", [], [helper.make_tensor_value_info("inside", TensorProto.FLOAT, None)],
    )  # fmt: skip
    other = helper.make_graph(
        [helper.make_node("Identity", ["z"], ["outside"])],
        "else", [], [helper.make_tensor_value_info("outside", TensorProto.FLOAT, None)],
    )  # fmt: skip
    condition = onnx.numpy_helper.from_array(np.array(True), "condition")
    model.graph.initializer.append(condition)
    model.graph.node.append(
        helper.make_node("If", ["condition"], ["chosen"], name="branch", then_branch=inner, else_branch=other)
    )
    model.graph.output.append(helper.make_tensor_value_info("chosen", TensorProto.FLOAT, ["n", 6, "h", "w"]))
    return model


def in_training(rng):
    model = start(rng)
    node(model, "norm").attribute.append(helper.make_attribute("training_mode", 1))
    return model


def without_constant(rng):
    model = start(rng)
    kept = [t for t in model.graph.initializer if t.name != "bias"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.input.append(helper.make_tensor_value_info("bias", TensorProto.FLOAT, [6]))
    return model


def with_other(name, value):
    def make(rng):
        model = start(rng)
        set_constant(model, name, value, np.float32)
        return model

    return make


NAN_IN_2, NEGATIVE_3 = [1, 1, np.nan, 1, 1, 1], [1, 1, 1, -1, 1, 1]
LEFT = {
    "its input is not quantized": (float_input, "norm", LOWERINGS),
    "its output is not quantized": (float_output, "norm", LOWERINGS),
    "its output is also read in float, by Neg neg": (read_by_another, "norm", LOWERINGS),
    "its output is also read in float, by an output of the model": (read_as_output, "norm", LOWERINGS),
    "its output is quantized in several ways": (two_quantizations, "norm", LOWERINGS),
    "its output is quantized per channel": (output_per_channel, "norm", LOWERINGS),
    "its input is quantized along another axis than that of the channels": (
        input_along_another_axis, "norm", LOWERINGS,
    ),
    "the scale of its output is not constant": (scale_from_outside, "norm", LOWERINGS),
    "its output is quantized to uint16": (of_16_bits, "norm", LOWERINGS),
    "the slope of channel 0, .* overflows float32": (overflowing, "norm", LOWERINGS),
    r"its B \(bias\) is not constant": (without_constant, "norm", LOWERINGS),
    "its parameters have different lengths: scale 6, B 5, input_mean 6, input_var 6": (
        with_other("bias", np.zeros(5)), "norm", LOWERINGS,
    ),
    "its input_var has nan in channel 2": (with_other("var", NAN_IN_2), "norm", LOWERINGS),
    "its input_var is -1.0 in channel 3": (with_other("var", NEGATIVE_3), "norm", LOWERINGS),
    "it is in training mode": (in_training, "norm", LOWERINGS),
    "it is in a subgraph of the If branch": (within_a_branch, "inner", LOWERINGS),
    r"the model has opset 12, the operator's function needs 13 \(portable does not\)": (
        lambda rng: qdq_model(random_norm(rng), opset=12, ir=7)[0], "norm", ["exact"],
    ),
    "its Relu needs opset 12": (
        lambda rng: qdq_model(random_norm(rng, limits=RELU), opset=11, ir=6)[0], "norm", ["portable"],
    ),
    "uint8 in and int8 out, which QLinearConv does not mix, read by an output of the model": (
        lambda rng: qdq_model(random_norm(rng, y_type=np.int8))[0], "norm", ["portable"],
    ),
    "int8 in and uint8 out, which QLinearConv does not mix, read by Cast cast": (
        lambda rng: mixed_with_reader(rng, "Cast"), "norm", ["portable"],
    ),
    "int8 in and uint8 out, which QLinearConv does not mix, read by DequantizeLinear other": (
        lambda rng: mixed_with_reader(rng, "DequantizeLinear"), "norm", ["portable"],
    ),
    "its numbers are too large for the scales of a QLinearConv": (
        lambda rng: start(rng, x_scale=1e-25, y_scale=1e25), "norm", ["portable"],
    ),
}  # fmt: skip

# No runtime takes these.
UNUSABLE = (
    "its parameters have different lengths: scale 6, B 5, input_mean 6, input_var 6",
    "it is in training mode",
)


def mixed_with_reader(rng, op):
    model = start(rng, x_type=np.int8)
    if op == "Cast":
        reader = helper.make_node(op, ["y"], ["other"], name="cast", to=TensorProto.FLOAT)
    else:  # with another scale than that of the QuantizeLinear before it
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1), "one"))
        reader = helper.make_node(op, ["y", "one", "y_zero_point"], ["other"], name="other")
    model.graph.node.append(reader)
    model.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["n", 6, "h", "w"]))
    return model


@pytest.mark.parametrize(
    ("reason", "lowering"), [(reason, lowering) for reason, (*_, which) in LEFT.items() for lowering in which]
)
def test_what_is_left_in_float(rng, reason, lowering):
    make, name, _ = LEFT[reason]
    model = make(rng)
    before = serialized(model)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lowered = bno.lower(model, lowering=lowering)
    others = [w for w in caught if f"{name} stays" not in str(w.message)]
    assert not others
    assert len(caught) == 1
    assert caught[0].category is bno.LoweringWarning
    assert caught[0].filename == __file__  # where lower() was called
    assert re.fullmatch(f"{name} stays in float: {reason}", str(caught[0].message))
    assert serialized(model) == before
    if name == "norm":
        assert node(lowered, "norm") == node(model, "norm")
        assert lowered.graph.node == model.graph.node
        assert not lowered.metadata_props
    else:
        assert node(lowered, "branch") == node(model, "branch")
    if reason in UNUSABLE:
        return
    onnx.checker.check_model(lowered, full_check=True)
    element = model.graph.input[0].type.tensor_type.elem_type
    x = rng.integers(0, 256, (2, 6, 6, 6)).astype(helper.tensor_dtype_to_np_dtype(element))
    sessions = [bno.session(m, options()) for m in (model, lowered)]
    feeds = {"x": x, "bias": np.zeros(6, np.float32)}
    feeds = {v.name: feeds[v.name] for v in model.graph.input}
    for want, got in zip(*(s.run(None, feeds) for s in sessions), strict=True):
        if name == "norm":
            np.testing.assert_array_equal(got, want)
        else:
            assert np.mean(np.abs(got - want) > 0.001) <= 0.001


def test_a_bias_whose_scale_is_no_float32(rng):
    """Weights have scales of 1e15, sums and biases would have some of 1e40."""
    model = start(rng, x_scale=1e25, y_scale=1e25, weight=np.full(6, 1e17))
    with pytest.warns(bno.LoweringWarning, match="its numbers are too large for the scales of a QLinearConv"):
        bno.lower(model)


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_one_may_stay_where_another_is_lowered(rng, lowering):
    model, _ = chain(rng, [np.uint8] * 4, value_info=False)
    model.graph.output.append(helper.make_tensor_value_info("normal2", TensorProto.FLOAT, ["n", 6, "h", "w"]))
    with pytest.warns(bno.LoweringWarning, match="^norm2 stays in float: its output is also read") as caught:
        lowered = bno.lower(model, lowering=lowering)
    assert len(caught) == 1
    assert ops(lowered).count("BatchNormalization") == 1
    assert ops(lowered).count("Conv" if lowering == "portable" else "QLinearBatchNormalization") == 2


# --- refusals ---------------------------------------------------------------------------------------------------


REFUSED = {
    "model must be quantized, got a model in float (quantize() takes those)": lambda _: onnx.load(
        bno.digits_model()
    ),
    "model: its norms are lowered already ('portable')": lambda rng: bno.lower(start(rng)),
    "model: its norms are lowered already ('exact')": lambda rng: bno.lower(start(rng), lowering="exact"),
}


@pytest.mark.parametrize("says", REFUSED)
def test_refusals(rng, says):
    model = REFUSED[says](rng)
    before = serialized(model)
    for lowering in LOWERINGS:
        with pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
            bno.lower(model, lowering=lowering)
    assert serialized(model) == before


@pytest.mark.parametrize("lowering", ["", "Exact", "fast", None, 1, ["exact"]])
def test_unknown_lowering(rng, lowering):
    with pytest.raises(
        ValueError if isinstance(lowering, str) else TypeError,
        match=f"^lowering must be one of 'portable', 'exact', 'fused', 'qdq', got {re.escape(repr(lowering))}$",
    ):
        bno.lower(start(rng), lowering=lowering)


def test_no_model(tmp_path):
    for thing in (None, 5, b"onnx", onnx.GraphProto()):
        with pytest.raises(TypeError, match=r"^model must be an onnx\.ModelProto or a path, got "):
            bno.lower(thing)
    (tmp_path / "text.onnx").write_text("no model at all, but a text of some length")
    with pytest.raises(ValueError, match=r"^model '.*text\.onnx' is no ONNX model"):
        bno.lower(tmp_path / "text.onnx")
    with pytest.raises(FileNotFoundError, match=r"^model '.*none\.onnx' does not exist$"):
        bno.lower(str(tmp_path / "none.onnx"))


def test_from_a_file(rng, tmp_path):
    model = start(rng)
    onnx.save(model, tmp_path / "model.onnx")
    for path in (tmp_path / "model.onnx", str(tmp_path / "model.onnx")):
        assert bno.lower(path) == bno.lower(model)
    assert onnx.load(tmp_path / "model.onnx") == model


def test_a_quantized_model_without_norms(rng):
    model = start(rng)
    model.graph.node.remove(node(model, "norm"))
    node(model, "quantize").input[0] = "real"
    with pytest.warns(bno.LoweringWarning, match="the model has no batch norm in float") as caught:
        lowered = bno.lower(model, lowering="exact")
    assert [w.filename for w in caught] == [__file__]
    assert lowered.graph.node == model.graph.node
    assert not lowered.metadata_props
    assert not lowered.functions


def test_a_model_quantized_while_it_runs_is_no_float_model():
    text = """
    <ir_version: 8, opset_import: ["": 17]>
    g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
    <float[2] w = {1.0, 2.0}, int8[2, 2, 1, 1] k = {1, 2, 3, 4}, float s = {0.1}> {
        c, scale, zero_point = DynamicQuantizeLinear (x)
        i = ConvInteger (c, k, zero_point)
        f = Cast <to = 1> (i)
        g = Mul (f, scale)
        y = BatchNormalization (g, w, w, w, w)
    }"""
    model = onnx.parser.parse_model(text)
    assert bno.inspect(model).quantized
    with pytest.warns(bno.LoweringWarning, match="its input is not quantized"):
        bno.lower(model)


def test_an_input_without_a_shape_is_no_fault_of_the_result(rng):
    """ONNX's checker refuses such a model, ONNX Runtime runs it."""
    text = """
    <ir_version: 9, opset_import: ["": 17]>
    g (uint8[N, 2, 4, 4] x) => (uint8[N, 2, 4, 4] y)
    <float s = {0.1}, uint8 z = {128}, float[2] w = {1.0, 0.5}> {
        a = DequantizeLinear (x, s, z)
        b = BatchNormalization (a, w, w, w, w)
        y = QuantizeLinear (b, s, z)
    }"""
    model = onnx.parser.parse_model(text)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    x = rng.integers(0, 256, (3, 2, 4, 4)).astype(np.uint8)
    want = bno.session(model).run(None, {"x": x})[0].astype(int)
    got = bno.session(bno.lower(model, lowering="exact")).run(None, {"x": x})[0].astype(int)
    assert np.abs(want - got).max() <= 1
