"""Models around lowered norms: versions, shapes, several norms, and what ONNX Runtime makes of them."""

import numpy as np
import onnx
import pytest
from lowered_norms import (
    BYTES,
    LOWERINGS,
    RELU,
    assert_exact,
    assert_portable,
    chain,
    convolutions,
    lower,
    misses,
    ops,
    opset,
    options,
    run,
)
from norm_models import Nodes, qdq_model, random_norm
from onnx import TensorProto, helper

from bytenorm import onnx as bno

# --- types, versions, shapes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opset_in", "ir_in", "ir_out"), [(13, 7, 9), (15, 8, 9), (17, 8, 9), (19, 9, 9), (20, 9, 9), (21, 10, 10)]
)
@pytest.mark.parametrize("lowering", LOWERINGS)
def test_versions(rng, lowering, opset_in, ir_in, ir_out):
    model, norm = qdq_model(random_norm(rng, limits=(0.0, 1.0)), opset=opset_in, ir=ir_in)
    lowered = lower(model, lowering)
    assert (lowered.ir_version, opset(lowered)) == (ir_out, opset_in)
    assert {entry.domain for entry in lowered.opset_import} == ({"", "bytenorm"} if lowering == "exact" else {""})
    (assert_exact if lowering == "exact" else assert_portable)(lowered, norm, 4)


@pytest.mark.parametrize("opset_in", [10, 11, 12])
@pytest.mark.parametrize("limits", [(-np.inf, np.inf), RELU], ids=["alone", "relu"])
def test_portable_in_old_models(rng, opset_in, limits):
    norm = random_norm(rng, limits=limits, y_zero_point=0)  # the type itself is the floor of the relu
    for rank in (2, 4):
        model, norm = qdq_model(norm, rank, opset=opset_in, ir=5)
        lowered = lower(model, "portable")
        assert (lowered.ir_version, opset(lowered)) == (9, opset_in)
        assert_portable(lowered, norm, rank)


def test_initializers_of_old_models_are_no_inputs(rng):
    """Up to IR 3 they had to be; in a newer model they would be defaults that no runtime can prepare."""
    model, norm = qdq_model(random_norm(rng), opset=10, ir=3)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    lowered = lower(model, "portable")
    assert [value.name for value in lowered.graph.input] == ["x"]
    assert_portable(lowered, norm, 4)


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_any_batch_and_size(rng, lowering, rank):
    norm = random_norm(rng)
    model, _ = qdq_model(norm, rank)
    session = bno.session(lower(model, lowering), options())
    for shape in ((1, 6, 4, 4, 4), (3, 6, 2, 9, 1), (0, 6, 4, 4, 4), (1, 6, 1, 1, 1)):
        x = rng.integers(0, 256, shape[:rank]).astype(np.uint8)
        misses_none = session.run(None, {"x": x})[0]
        assert misses_none.shape == x.shape
        if x.size:
            assert misses(misses_none, norm.expected(x)).mean() <= 0.001


def test_unknown_rank(rng):
    """exact takes the channels from axis 1; a convolution has to know its rank."""
    model, norm = qdq_model(random_norm(rng))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    unknown = "^norm stays in float: the rank of its input is unknown$"
    with pytest.warns(bno.LoweringWarning, match=unknown):
        bno.lower(model, lowering="portable")
    x = norm.every_code(4)
    got = bno.session(bno.lower(model, lowering="exact"), options()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(got, norm.expected(x))
    model, norm = with_shape_from_input(norm)
    x = norm.every_code(4)
    feed = {"x": x.reshape(-1), "shape": np.array(x.shape, np.int64)}
    lowered = lower(model, "exact")
    assert "Transpose" not in ops(lowered)
    got = bno.session(lowered, options()).run(None, feed)[0]
    np.testing.assert_array_equal(got, norm.expected(x).reshape(-1))
    with pytest.warns(bno.LoweringWarning, match=unknown):
        bno.lower(model, lowering="portable")


def with_shape_from_input(norm):
    g = Nodes()
    g.input("x", np.uint8, ["k"])
    g.input("shape", np.int64, ["rank"])
    x_q = g.quantization("x", norm.x_scale, norm.x_zero_point)
    y_q = g.quantization("y", norm.y_scale, norm.y_zero_point)
    last = g.node("Reshape", ["x", "shape"], "shaped")
    last = g.node("DequantizeLinear", [last, *x_q], "real")
    names = [g.constant(name, getattr(norm, name)) for name in ("weight", "bias", "mean", "var")]
    last = g.node("BatchNormalization", [last, *names], "normalized", name="norm", epsilon=norm.epsilon)
    last = g.node("QuantizeLinear", [last, *y_q], "codes")
    g.output(g.node("Reshape", [last, g.constant("flat", [-1], np.int64)], "y"), np.uint8, ["k"])
    return g.model(), norm


# --- several norms ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("value_info", [False, True])
@pytest.mark.parametrize("bits", range(16), ids=lambda n: f"{n:04b}")
def test_chains_of_types(rng, lowering, bits, value_info):
    """A portable norm that makes another type changes what the next one reads."""
    model, norms = chain(rng, [BYTES[bits >> i & 1] for i in range(4)], value_info=value_info)
    lowered = lower(model, lowering)
    assert "BatchNormalization" not in ops(lowered)
    x = rng.normal(size=(2, 6, 16, 16)).astype(np.float32) * 4
    codes = np.rint(x / norms[0].x_scale) + norms[0].x_zero_point
    info = np.iinfo(norms[0].x_zero_point.dtype)
    codes = np.clip(codes, info.min, info.max).astype(info.dtype)
    for norm in norms:
        codes = norm.expected(codes)
    np.testing.assert_allclose(
        run(lowered, x), norms[-1].dequantized(codes), atol=1.001 * float(norms[-1].y_scale)
    )


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_two_norms_on_one_tensor_and_two_readers_of_one_norm(rng, lowering):
    g = Nodes()
    dims = ["n", 6, "h", "w"]
    norms = [random_norm(rng), random_norm(rng, limits=RELU)]
    norms[1].x_scale, norms[1].x_zero_point = norms[0].x_scale, norms[0].x_zero_point
    g.input("x", np.uint8, dims)
    real = g.node("DequantizeLinear", ["x", *g.quantization("x", norms[0].x_scale, norms[0].x_zero_point)], "real")
    for i, norm in enumerate(norms):
        names = [g.constant(f"{name}{i}", getattr(norm, name)) for name in ("weight", "bias", "mean", "var")]
        last = g.node("BatchNormalization", [real, *names], f"normal{i}", name=f"norm{i}", epsilon=norm.epsilon)
        last = g.node("Relu", [last], "relu") if i else last
        y_q = g.quantization(f"y{i}", norm.y_scale, norm.y_zero_point)
        g.node("QuantizeLinear", [last, *y_q], f"y{i}")
        g.output(f"y{i}", np.uint8, dims)
        g.output(g.node("DequantizeLinear", [f"y{i}", *y_q], f"z{i}"), np.float32, dims)
        g.output(g.node("MaxPool", [f"y{i}"], f"m{i}", kernel_shape=[2, 2]), np.uint8, None)
    model = g.model()
    for value in model.graph.output:
        if not value.type.tensor_type.HasField("shape"):
            value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.UINT8, ["n", 6, "h2", "w2"]))
    lowered = lower(model, lowering)
    assert "BatchNormalization" not in ops(lowered)
    x = norms[0].every_code(4)
    results = bno.session(lowered, options()).run(None, {"x": x})
    for i, norm in enumerate(norms):
        y, z, m = results[3 * i : 3 * i + 3]
        want = norm.expected(x)
        wrong = misses(y, want)
        assert wrong.mean() <= (0 if lowering == "exact" else 0.001)
        np.testing.assert_array_equal(z, norm.dequantized(y))
        np.testing.assert_array_equal(m, run_max_pool(y))


def run_max_pool(y):
    return np.max(
        [y[:, :, i : y.shape[2] - 1 + i, j : y.shape[3] - 1 + j] for i in (0, 1) for j in (0, 1)], axis=0
    )


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_behind_operators_of_8_bits(rng, lowering):
    """In QOperator format a norm is in float between conversions that follow QLinear operators."""
    norm = random_norm(rng, limits=RELU)
    g = Nodes()
    g.input("x", np.uint8, ["n", 6, "h", "w"])
    x_q = g.quantization("x", norm.x_scale, norm.x_zero_point)
    y_q = g.quantization("y", norm.y_scale, norm.y_zero_point)
    in_q = g.quantization("in", 0.05, np.uint8(120))
    weights = [g.constant("w", rng.integers(-60, 60, (6, 6, 1, 1)), np.int8)]
    weights += g.quantization("w", 0.02, np.int8(0))
    g.node("QLinearConv", ["x", *in_q, *weights, *x_q], "conv")
    g.node("QLinearAdd", ["conv", *x_q, "conv", *x_q, *x_q], "sum", domain="com.microsoft")
    last = g.node("DequantizeLinear", ["sum", *x_q], "real")
    names = [g.constant(name, getattr(norm, name)) for name in ("weight", "bias", "mean", "var")]
    last = g.node("BatchNormalization", [last, *names], "normalized", name="norm", epsilon=norm.epsilon)
    last = g.node("Relu", [last], "activated")
    g.node("QuantizeLinear", [last, *y_q], "y")
    g.node("QLinearConv", ["y", *y_q, *weights, *in_q], "z")
    for name in ("y", "sum", "z"):
        g.output(name, np.uint8, ["n", 6, "h", "w"])
    model = g.model()
    lowered = lower(model, lowering)
    assert not {"BatchNormalization", "Relu", "DequantizeLinear", "QuantizeLinear"} & set(ops(lowered))
    y, read, _ = bno.session(lowered, options()).run(None, {"x": norm.every_code(4)})
    assert misses(y, norm.expected(read)).mean() <= (0 if lowering == "exact" else 0.001)


# --- ONNX Runtime keeps its channels-last chain -----------------------------------------------------------------


@pytest.mark.parametrize("size", [[9, 9], ["h", "w"]], ids=["static", "dynamic"])
@pytest.mark.parametrize("limits", [None, (0.0, 6.0), (-1.0, 1.0)], ids=["alone", "relu6", "hardtanh"])
@pytest.mark.parametrize("lowering", LOWERINGS)
def test_few_transposes_are_executed(rng, tmp_path, lowering, size, limits):
    model = convolutions(rng, size, limits)
    x = rng.normal(size=(2, 16, 9, 9)).astype(np.float32)
    lowered = lower(model, lowering)
    y = run(lowered, x, save=tmp_path / "optimized.onnx")
    executed = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert executed.count("Transpose") <= 2
    assert executed.count("QLinearConv") == (6 if lowering == "portable" else 3)
    assert executed.count("QLinearBatchNormalization") == (0 if lowering == "portable" else 3)
    steps = np.abs(y - run(model, x)) / 0.05
    assert np.mean(steps > 1.5) <= 0.001  # of three layers, each at most a step from the one in float
