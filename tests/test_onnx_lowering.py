"""Lowered norms of every kind: what they compute, and how far portable is from exact."""

import numpy as np
import onnx
import pytest
from lowered_norms import (
    BYTES,
    KINDS,
    LOWERINGS,
    PAIRS,
    RELU,
    assert_exact,
    assert_portable,
    kind_of_norm,
    lower,
    misses,
    ops,
    run,
)
from norm_models import Nodes, qdq_model, qoperator_model, random_norm
from onnx import TensorProto, helper

from bytenorm import onnx as bno

# --- both lowerings, on everything that a norm can be -----------------------------------------------------------


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


@pytest.mark.parametrize("lowering", ["portable", "exact", "fused", "qdq"])
def test_norms_that_are_to_stay(lowering):
    text = """
        <ir_version: 8, opset_import: ["": 17]>
        net (uint8[N, 2, 4] x) => (uint8[N, 2, 4] y)
        <float s = {0.1}, uint8 z = {128}, float[2] w = {1.0, 0.5}, float[2] b = {0.0, 1.0}> {
            a = DequantizeLinear (x, s, z)
            first = BatchNormalization (a, w, b, b, w)
            c = QuantizeLinear (first, s, z)
            d = DequantizeLinear (c, s, z)
            second = BatchNormalization (d, w, b, b, w)
            y = QuantizeLinear (second, s, z)
        }"""
    model = onnx.parser.parse_model(text)
    made, outcomes = bno.lower_with_report(model, lowering=lowering, nodes_to_exclude=["second"])
    assert [(one.name, one.problem) for one in outcomes] == [("first", ""), ("second", "it is excluded")]
    assert [norm.name for norm in bno.inspect(made).norms if norm.written == "BatchNormalization"][-1] == "second"
    with pytest.warns(bno.LoweringWarning, match="^second stays in float: it is excluded$"):
        bno.lower(model, lowering=lowering, nodes_to_exclude=("second",))
    for wrong, kind, words in (
        (["secnd"], ValueError, "nodes_to_exclude: the model has no batch norm 'secnd': did you mean 'second'"),
        (["a"], ValueError, "nodes_to_exclude: the model has no batch norm 'a'"),
        ("second", TypeError, "nodes_to_exclude must be names of nodes, got str"),
    ):
        with pytest.raises(kind, match=f"^{words}"):
            bno.lower(model, lowering=lowering, nodes_to_exclude=wrong)
