"""Norms of quantized models in 8 bits: exact to the bit, portable within a step, the rest left alone and told."""

import itertools
import re
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from norm_models import Nodes, qdq_model, qoperator_model, random_norm, serialized
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from bytenorm import onnx as bno

BYTES = (np.uint8, np.int8)
PAIRS = [pytest.param(a, b, id=f"{a.__name__}-{b.__name__}") for a in BYTES for b in BYTES]
RELU = (0.0, np.inf)
LOWERINGS = ["portable", "exact"]


def options(threads=1, save=None):
    made = ort.SessionOptions()
    made.intra_op_num_threads, made.inter_op_num_threads = threads, 1
    made.log_severity_level = 3
    if save is not None:
        made.optimized_model_filepath = str(save)
    return made


def run(model, x, *, threads=1, library=True, save=None):
    """Return the first output of a model, in ONNX Runtime with our library or without it."""
    if library:
        session = bno.session(model, options(threads, save))
    else:
        session = ort.InferenceSession(
            model.SerializeToString(), options(threads, save), providers=["CPUExecutionProvider"]
        )
    return session.run(None, {"x": x})[0]


def lower(model, lowering):
    """Lower a model, look that it is left as it was and that the result is valid."""
    before = serialized(model)
    lowered = bno.lower(model, lowering=lowering)
    assert serialized(model) == before
    onnx.checker.check_model(lowered, full_check=True)
    return lowered


def ops(model):
    return [node.op_type for node in model.graph.node]


def opset(model, domain=""):
    return next(entry.version for entry in model.opset_import if entry.domain == domain)


def assert_exact(model, norm, rank):
    """The bits of the library's own result, however the model is run."""
    x = norm.every_code(rank)
    want = norm.expected(x)
    assert len(np.unique(want)) > 20 or norm.limits != (-np.inf, np.inf)
    results = [
        run(model, x),
        run(model, x, threads=2),
        run(model, x, library=False),
        run(model, x, library=False, threads=2),
        ReferenceEvaluator(model).run(None, {"x": x})[0],
    ]
    for y in results:
        assert y.dtype == want.dtype
        np.testing.assert_array_equal(y, want)


def misses(got, want):
    """Return which codes differ; none by more than one step."""
    difference = got.astype(np.int32) - want.astype(np.int32)
    assert np.abs(difference).max() <= 1
    return difference != 0


def assert_portable(model, norm, rank):
    """Within a step, and in no channel more than 0.25 % times the slope of the elements that are not saturated."""
    assert {node.domain for node in model.graph.node} == {""}
    x = norm.every_code(rank)
    want = norm.expected(x)
    got = run(model, x)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(run(model, x, threads=2), got)
    info = np.iinfo(want.dtype)
    inside = (want > info.min) & (want < info.max)
    axes = tuple(axis for axis in range(rank) if axis != 1)
    missed = np.sum(misses(got, want) & inside, axis=axes) / np.maximum(inside.sum(axis=axes), 1)
    assert np.all(missed <= 0.0025 * np.maximum(1, norm.slopes()))


# --- both lowerings, on everything that a norm can be -----------------------------------------------------------

KINDS = {
    "alone": ({}, {}),
    "relu": ({"limits": RELU}, {}),
    "relu at the lowest code": ({"limits": RELU, "y_zero_point": "lowest"}, {}),
    "relu behind a conversion": ({"limits": RELU}, {"between": True}),
    "relu6": ({"limits": (0.0, 6.0)}, {}),
    "relu6 that is reached": ({"limits": (0.0, 1.5)}, {}),
    "hardtanh": ({"limits": (-1.0, 1.0)}, {}),
    "hardtanh behind a conversion": ({"limits": (-1.0, 1.0)}, {"between": True}),
    "only a ceiling": ({"limits": (-np.inf, 0.7)}, {}),
    "limits beyond the codes": ({"limits": (-1e9, 1e9)}, {}),
    "a clip of nothing else than 1": ({"limits": (1.0, 1.0)}, {}),
    "mul add": ({}, {"written": "Mul+Add"}),
    "add mul relu": ({"limits": RELU}, {"written": "Add+Mul"}),
    "per channel": ({"per_channel": True}, {}),
    "per channel, relu": ({"per_channel": True, "limits": RELU}, {}),
    "scales of shape [1]": ({"shape": (1,)}, {}),
    "scales of shape [1], relu": ({"shape": (1,), "limits": RELU}, {}),
}


def kind_of_norm(rng, kind, x_type=np.uint8, y_type=np.uint8):
    changes, form = KINDS[kind]
    changes = dict(changes)
    if changes.get("y_zero_point") == "lowest":
        changes["y_zero_point"] = np.iinfo(y_type).min
    return random_norm(rng, x_type=x_type, y_type=y_type, **changes), form


@pytest.mark.thorough
@pytest.mark.parametrize(("x_type", "y_type"), PAIRS)
@pytest.mark.parametrize("kind", KINDS)
def test_exact(rng, kind, x_type, y_type):
    for rank in (2, 3, 4, 5):
        norm, form = kind_of_norm(rng, kind, x_type, y_type)
        model, norm = qdq_model(norm, rank, **form)
        lowered = lower(model, "exact")
        assert ops(lowered).count("QLinearBatchNormalization") == 1
        assert not {"BatchNormalization", "Mul", "Relu", "QuantizeLinear", "DequantizeLinear"} & set(ops(lowered))
        assert_exact(lowered, norm, rank)


@pytest.mark.parametrize("kind", KINDS)
def test_fused_without_anything_to_fuse_is_exact(rng, kind):
    for rank in (2, 4):
        norm, form = kind_of_norm(rng, kind)
        model, _ = qdq_model(norm, rank, **form)
        made = lower(model, "fused")
        made.metadata_props[0].value = "exact"
        assert made == lower(model, "exact")


@pytest.mark.parametrize("byte", BYTES, ids=lambda t: t.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_portable(rng, kind, byte):
    for rank in (2, 3, 4, 5):
        norm, form = kind_of_norm(rng, kind, byte, byte)
        model, norm = qdq_model(norm, rank, **form)
        lowered = lower(model, "portable")
        conv = ["DequantizeLinear"] * 3 + ["Conv", "QuantizeLinear"]
        assert [op for op in ops(lowered) if op not in ("Reshape", "Slice", "Clip")] == conv
        assert_portable(lowered, norm, rank)


@pytest.mark.parametrize("kind", KINDS)
def test_portable_is_what_runtimes_make_a_qlinear_conv_of(rng, kind, tmp_path):
    """The constants are those of a QLinearConv, with the same bits."""
    for rank in (2, 3, 4, 5):
        norm, form = kind_of_norm(rng, kind)
        model, norm = qdq_model(norm, rank, **form)
        between = lower(model, "portable")
        operator, x = with_qlinear_conv(between), norm.every_code(rank)
        np.testing.assert_array_equal(run(between, x, save=tmp_path / "made.onnx"), run(operator, x))
        executed = ops(onnx.load(tmp_path / "made.onnx"))
        assert "QLinearConv" in executed
        assert not {"Conv", "FusedConv", "QuantizeLinear", "DequantizeLinear"} & set(executed)


@pytest.mark.parametrize("kind", ["alone", "per channel, relu"])
def test_portable_speaks_the_models_format(rng, kind):
    """Beside operators on codes a norm becomes one, and so it does where conversions have one scale alone."""
    norm, form = kind_of_norm(rng, kind)
    mixed, norm = qdq_model(norm, 4, **form)
    g = Nodes()
    step = g.quantization("step", 0.05, np.uint8(128))
    weight = [g.constant("ones", np.ones((6, 6, 1, 1)), np.int8), *g.quantization("ones", 0.01, np.int8(0))]
    g.node("QLinearConv", ["y", *step, *weight, *step], "behind")
    mixed.graph.node.extend(g.nodes)
    mixed.graph.output.append(helper.make_tensor_value_info("behind", TensorProto.UINT8, ["n", 6, "h", "w"]))
    mixed.graph.initializer.extend(g.constants)
    old, _ = qdq_model(random_norm(rng), 4, opset=12, ir=7)
    for model, convolutions in ((mixed, 2), (old, 1)):
        lowered = lower(model, "portable")
        assert ops(lowered).count("QLinearConv") == convolutions
        assert not {"Conv", "QuantizeLinear", "DequantizeLinear"} & set(ops(lowered))


def with_qlinear_conv(model):
    """Return a model whose one convolution between conversions is an operator on codes."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    (conv,) = (n for n in made.graph.node if n.op_type == "Conv")
    values = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
    maker = {n.output[0]: n for n in made.graph.node}
    x, weight, bias = (maker[tensor] for tensor in conv.input)
    (behind,) = (n for n in made.graph.node if n.input[0] == conv.output[0])
    # The bias must have the scale of the sums in float32, as whoever fuses takes it to have.
    np.testing.assert_array_equal(values[bias.input[1]], values[x.input[1]] * values[weight.input[1]])
    assert not values[bias.input[2]].any()
    inputs = [*x.input, *weight.input, *behind.input[1:], bias.input[0]]
    operator = helper.make_node("QLinearConv", inputs, behind.output)
    operator.attribute.extend(conv.attribute)
    kept = [n for n in made.graph.node if n not in (x, weight, bias, behind)]
    kept[kept.index(conv)] = operator
    del made.graph.node[:]
    made.graph.node.extend(kept)
    onnx.checker.check_model(made, full_check=True)
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("x_type", "y_type"), [(np.uint8, np.int8), (np.int8, np.uint8)])
def test_portable_makes_the_type_that_it_reads(rng, kind, x_type, y_type):
    """ONNX Runtime makes no QLinearConv of mixed types; the conversion behind it is told."""
    for rank in (2, 3, 4, 5):
        norm, form = kind_of_norm(rng, kind, x_type, y_type)
        model, norm = qdq_model(norm, rank, real=True, **form)
        lowered = lower(model, "portable")
        assert "BatchNormalization" not in ops(lowered)
        x = norm.every_code(rank)
        want = norm.dequantized(norm.expected(x))
        steps = (run(lowered, x) - want) / norm.y_scale
        assert np.abs(steps).max() <= 1.001
        assert np.mean(np.abs(steps) > 0.5) <= 0.001


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("x_type", BYTES, ids=lambda t: t.__name__)
@pytest.mark.parametrize("rank", [2, 4])
def test_without_zero_points(rng, lowering, x_type, rank):
    """They are 0 then, and codes without one are uint8."""
    norm = random_norm(rng, x_type=x_type, x_zero_point=0, y_zero_point=0)
    model, norm = qdq_model(norm, rank, zero_points=False, real=lowering == "portable")
    lowered = lower(model, lowering)
    x = norm.every_code(rank)
    if lowering == "exact":
        assert_exact(lowered, norm, rank)
    else:
        want = norm.dequantized(norm.expected(x))
        assert np.abs(run(lowered, x) - want).max() <= 1.001 * norm.y_scale


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("byte", BYTES, ids=lambda t: t.__name__)
def test_operators_of_8_bits(rng, lowering, byte):
    """QLinearMul and QLinearAdd, as the QOperator format has a norm written with Mul and Add."""
    for rank in (2, 3, 4, 5):
        model, norm = qoperator_model(random_norm(rng, x_type=byte, y_type=byte), rank)
        lowered = lower(model, lowering)
        assert not {"QLinearMul", "QLinearAdd"} & set(ops(lowered))
        assert ops(lowered).count("QLinearConv") == (lowering == "portable")
        (assert_exact if lowering == "exact" else assert_portable)(lowered, norm, rank)


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_the_float_norm_agrees(rng, lowering):
    """What was there before, in float, is at most one step away."""
    for kind in ("alone", "relu", "relu6", "hardtanh", "mul add", "per channel"):
        norm, form = kind_of_norm(rng, kind)
        model, norm = qdq_model(norm, 4, **form)
        x = norm.every_code(4)
        assert misses(run(lower(model, lowering), x), run(model, x)).mean() <= 0.001


GAINS = np.float32([0, -0.0, 0, 0, 1e-30, -1e-20, 1e-8, 3e-6, -2e-5, 7e-4, 30, -200, 4e4, 1])


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("limits", [(-np.inf, np.inf), RELU, (-0.3, 0.4)])
def test_gains_that_degenerate(rng, lowering, per_channel, limits):
    """Channels that are constant, on a tie too, nearly constant, or steps."""
    step = 2.0**-5
    bias = np.float32([0, 2.5, -3.5, 1e6, -1e9, 0.5, 7, 40.5, 1e4, 2.4999, 0, 3, 0.5, -100]) * step
    zeros, ones = np.zeros_like(bias), np.ones_like(bias)
    norm = random_norm(
        rng, len(GAINS), per_channel=per_channel, limits=limits, y_scale=step,
        weight=GAINS, bias=bias, mean=zeros, var=ones, epsilon=0.0,
    )  # fmt: skip
    for rank in (2, 4):
        model, norm = qdq_model(norm, rank)
        lowered = lower(model, lowering)
        x = norm.every_code(rank)
        np.testing.assert_array_equal(run(lowered, x), norm.expected(x))


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_all_gains_zero(rng, lowering):
    norm = random_norm(rng, weight=np.zeros(6), mean=np.zeros(6))
    model, norm = qdq_model(norm)
    x = norm.every_code(4)
    np.testing.assert_array_equal(run(lower(model, lowering), x), norm.expected(x))


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize(("x_scale", "y_scale"), [(1e-30, 1e3), (1e3, 1e-30), (3e-39, 3e-39), (1e30, 1e30)])
def test_scales_far_from_1(rng, lowering, x_scale, y_scale):
    gain = min(y_scale / x_scale, 1e33)
    norm = random_norm(
        rng, 3, x_scale=x_scale, y_scale=y_scale, weight=[gain, -gain / 3, 0], bias=np.zeros(3), mean=np.zeros(3),
        var=np.ones(3), epsilon=0.0,
    )  # fmt: skip
    model, norm = qdq_model(norm)
    x = norm.every_code(4)
    assert misses(run(lower(model, lowering), x), norm.expected(x)).mean() <= 0.001


# --- how far portable is from exact -----------------------------------------------------------------------------


def many_norms(rng, channels, x_type, per_channel):
    return random_norm(
        rng, channels, x_type=x_type, y_type=x_type, per_channel=per_channel,
        x_zero_point=np.iinfo(x_type).min + rng.integers(0, 256, channels if per_channel else None),
        weight=rng.normal(size=channels) * np.exp(rng.normal(size=channels)), y_scale=rng.uniform(0.01, 0.1),
    )  # fmt: skip


def test_portable_on_many_channels():
    """6,400 channels, all of their inputs, equally often and normally distributed.

    Of 64,000 random channels 16 had a code, of 256, that no weight, bias and scale of a convolution get right.
    """
    rng = np.random.default_rng(7)
    beyond, missed = 0, 0
    for round_number in range(10):
        norm = many_norms(rng, 640, BYTES[round_number % 2], per_channel=round_number % 5 == 0)
        model, norm = qdq_model(norm, 2)
        x = norm.every_code(2)
        want = norm.expected(x)
        wrong = misses(run(lower(model, "portable"), x), want)
        inside = (want > np.iinfo(want.dtype).min) & (want < np.iinfo(want.dtype).max)
        normal = np.exp(-0.5 * ((x.astype(np.float64) - norm.x_zero_point) / 40) ** 2)
        uniform = np.ones_like(normal)
        share = [np.sum(wrong * inside * w, axis=0) / np.maximum(np.sum(inside * w, axis=0), 1e-300)
                 for w in (uniform, normal)]  # fmt: skip
        bound = 0.0025 * np.maximum(1, norm.slopes())
        beyond += int(np.count_nonzero(np.max(share, axis=0) > bound))
        missed += int(np.count_nonzero(wrong))
    assert beyond <= 4
    assert missed <= 8


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


def chain(rng, types, *, value_info):
    """Return float x, QuantizeLinear, norms one behind the other with codes of these types, float z."""
    g = Nodes()
    dims = ["n", 6, "h", "w"]
    g.input("x", np.float32, dims)
    norms = [random_norm(rng, x_type=a, y_type=b) for a, b in itertools.pairwise(types)]
    quantization = g.quantization("q0", norms[0].x_scale, norms[0].x_zero_point)
    last, info = g.node("QuantizeLinear", ["x", *quantization], "codes0"), []
    for i, norm in enumerate(norms, 1):
        if i > 1:
            norm.x_scale, norm.x_zero_point = norms[i - 2].y_scale, norms[i - 2].y_zero_point
        last = g.node("DequantizeLinear", [last, *quantization], f"real{i}")
        names = [g.constant(f"{name}{i}", getattr(norm, name)) for name in ("weight", "bias", "mean", "var")]
        last = g.node("BatchNormalization", [last, *names], f"normal{i}", name=f"norm{i}", epsilon=norm.epsilon)
        quantization = g.quantization(f"q{i}", norm.y_scale, norm.y_zero_point)
        last = g.node("QuantizeLinear", [last, *quantization], f"codes{i}")
        element = helper.np_dtype_to_tensor_dtype(norm.y_zero_point.dtype)
        info.append(helper.make_tensor_value_info(last, element, dims))
    g.output(g.node("DequantizeLinear", [last, *quantization], "z"), np.float32, dims)
    model = g.model()
    if value_info:
        model.graph.value_info.extend(info)
    return model, norms


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


def convolutions(rng, size, limits):
    """Return three convolutions in QDQ format with norms between and behind them."""
    g = Nodes()
    dims = ["n", 16, *size]
    g.input("x", np.float32, dims)
    step = g.quantization("step", 0.05, np.uint8(128))
    last = g.node("DequantizeLinear", [g.node("QuantizeLinear", ["x", *step], "q"), *step], "d")
    for i in range(3):
        codes = g.constant(f"w{i}", rng.integers(-20, 20, (16, 16, 3, 3)), np.int8)
        weight = g.node("DequantizeLinear", [codes, *g.quantization(f"w{i}", 0.01, np.int8(0))], f"weight{i}")
        last = g.node("Conv", [last, weight], f"conv{i}", pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        last = g.node("QuantizeLinear", [last, *step], f"conv{i}/q")
        last = g.node("DequantizeLinear", [last, *step], f"conv{i}/d")
        names = [g.constant(f"p{i}{k}", rng.uniform(0.5, 1.5, 16), np.float32) for k in range(4)]
        last = g.node("BatchNormalization", [last, *names], f"norm{i}")
        if limits:
            bounds = [g.constant(f"limit{i}{k}", limit, np.float32) for k, limit in enumerate(limits)]
            last = g.node("Clip", [last, *bounds], f"clip{i}")
        last = g.node("QuantizeLinear", [last, *step], f"norm{i}/q")
        last = g.node("DequantizeLinear", [last, *step], f"norm{i}/d")
    g.output(last, np.float32, dims)
    return g.model()


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
    "model: wanted a quantized model, got one in float (quantize() takes those)": lambda _: onnx.load(
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
        ValueError,
        match=f"^lowering: wanted 'portable' or 'exact' or 'fused' or 'qdq', got {re.escape(repr(lowering))}$",
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
    lowered = lower(model, "exact")
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
