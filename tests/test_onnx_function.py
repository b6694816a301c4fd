"""The model-local function: the bits of quantized_batch_norm where there is no operator of ours."""

import itertools
from fractions import Fraction
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator

import bytenorm as bn
from bytenorm import onnx as bno
from bytenorm.onnx.operators.batch_norm import add_function, batch_norm_function, batch_norm_text, operator_node
from bytenorm.onnx.operators.schema import SINGLE

CODES = (np.uint8, np.int8)
PAIRS = [pytest.param(a, b, id=f"{a.__name__}-{b.__name__}") for a, b in itertools.product(CODES, CODES)]
OPSETS = (13, 15, 17, 19, 20)
NEWEST = onnx.defs.onnx_opset_version()
EVERY_CODE = np.arange(256, dtype=np.uint8)


def parameters(rng, channels, x_type=np.uint8, y_type=np.uint8, *, per_channel=False, **changes):
    """Return the operator's inputs after X, in its order."""
    low = np.iinfo(x_type).min
    values = {
        "x_scale": rng.uniform(0.01, 0.1, channels if per_channel else None),
        "x_zero_point": low + rng.integers(0, 256, channels if per_channel else None),
        "scale": rng.normal(size=channels),
        "B": rng.normal(size=channels),
        "input_mean": rng.normal(size=channels),
        "input_var": rng.uniform(0.1, 3, channels),
        "y_scale": 0.03,
        "y_zero_point": np.iinfo(y_type).min + rng.integers(0, 256),
        **changes,
    }
    types = {"x_zero_point": x_type, "y_zero_point": y_type}
    return {name: np.asarray(value, types.get(name, np.float32)) for name, value in values.items()}


def affine(slope, intercept, x_zero_point=0, y_zero_point=0, x_type=np.uint8, y_type=np.uint8):
    """Return inputs whose fold is this slope and this intercept, to the last bit."""
    ones = np.ones(len(slope))
    return parameters(
        np.random.default_rng(0), len(slope), x_type, y_type, scale=slope, B=intercept, input_mean=0 * ones,
        input_var=ones, x_scale=1, y_scale=1, x_zero_point=x_zero_point, y_zero_point=y_zero_point,
    )  # fmt: skip


def model(x_type, shape, values, *, opset=17, inputs=(), epsilon=1e-5, channels_last=0, relu=0):
    """Return a model of the operator alone with its function; `inputs` come with each run, the rest is fixed."""
    node = operator_node(
        SINGLE.inputs, "Y", "norm", epsilon=epsilon, channels_last=bool(channels_last), relu=bool(relu)
    )
    declared = [helper.make_tensor_value_info("X", helper.np_dtype_to_tensor_dtype(np.dtype(x_type)), shape)]
    declared += [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(values[name].dtype), [None] * values[name].ndim
        )
        for name in inputs
    ]
    y_type = helper.np_dtype_to_tensor_dtype(values["y_zero_point"].dtype)
    y = helper.make_tensor_value_info("Y", y_type, [None] * len(shape))
    constants = [numpy_helper.from_array(value, name) for name, value in values.items() if name not in inputs]
    graph = helper.make_graph([node], "norm", declared, [y], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    add_function(made)
    return made


def stock(made, *, optimize=True):
    """Return a session of ONNX Runtime as it is, without our library."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    return ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])


def library(x, values, *, epsilon=1e-5, channels_last=0, relu=0):
    """Return what quantized_batch_norm makes of the float32 scales and parameters of a model."""
    axis = -1 if channels_last else 1
    scale, zero_point = values["x_scale"].astype(np.float64), values["x_zero_point"].astype(np.int64)
    if max(scale.size, zero_point.size) == 1:
        q = bn.QuantizedTensor(x, float(scale.item()), int(zero_point.item()))
    else:
        channels = np.zeros(x.shape[axis])
        q = bn.QuantizedTensor(x, channels + scale, channels.astype(np.int64) + zero_point, axis)
    return bn.quantized_batch_norm(
        q, values["scale"], values["B"], values["input_mean"], values["input_var"], float(np.float32(epsilon)),
        float(values["y_scale"].item()), int(values["y_zero_point"].item()), axis=axis, relu=bool(relu),
        output_dtype=bn.quint8 if values["y_zero_point"].dtype == np.uint8 else bn.qint8,
    ).data  # fmt: skip


def assert_same(got, want):
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


def check(x, values, *, shape=None, opset=17, **attributes):
    """Hold the function to the library: optimized, as written, and in ONNX's own evaluator."""
    made = model(x.dtype, shape or x.shape, values, opset=opset, **attributes)
    want = library(x, values, **attributes)
    for optimize in (True, False):
        assert_same(stock(made, optimize=optimize).run(None, {"X": x})[0], want)
    assert_same(ReferenceEvaluator(made).run(None, {"X": x})[0], want)


def codes(rng, shape, dtype=np.uint8):
    return rng.integers(0, 256, shape, np.uint8).view(dtype)


# --- the same bits --------------------------------------------------------------------------------------------


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize(("x_type", "y_type"), PAIRS)
def test_the_same_bits(rng, x_type, y_type):
    choices = itertools.product((2, 3, 4, 5), (0, 1), (False, True), (0, 1))
    for i, (rank, channels_last, per_channel, relu) in enumerate(choices):
        spatial = [5, 4, 3][: rank - 2]
        shape = (3, *spatial, 7) if channels_last else (3, 7, *spatial)
        values = parameters(rng, 7, x_type, y_type, per_channel=per_channel)
        values["scale"][i % 7] = 0
        check(
            codes(rng, shape, x_type), values, shape=[None] * rank if i % 2 else None, opset=OPSETS[i % 5],
            epsilon=(0.0, 1e-5, 1e-3, 0.5)[i % 4], channels_last=channels_last, relu=relu,
        )  # fmt: skip


def near_halves(rng, channels, y_scale, epsilon):
    """Return parameters of which a last bit of the fold moves a code: one input of a channel ends at k + 0.5."""
    values = parameters(rng, channels, np.int8, per_channel=True, y_scale=y_scale, y_zero_point=128)
    values["scale"] = np.abs(values["scale"])
    inv = 1 / np.sqrt(values["input_var"] + np.float32(epsilon))
    half = rng.integers(-100, 100, channels) + 0.5
    product = values["input_mean"] * inv * values["scale"]
    values["B"] = (half * y_scale + product).astype(np.float32)  # for the input that is the zero point
    flat = np.arange(0, channels, 2)  # there the slope decides, at some other input
    values["B"][flat] = values["input_mean"][flat] = 0
    centred = rng.integers(1, 128, channels)
    values["x_scale"][flat] = (np.abs(half) / centred * y_scale / (inv * values["scale"])).astype(np.float32)[flat]
    return values


def test_the_fold_is_right_to_the_last_bit(rng):
    channels, y_scale, epsilon = 4000, np.float64(np.float32(0.03)), 1e-3
    values = near_halves(rng, channels, y_scale, epsilon)
    x = np.tile(EVERY_CODE.view(np.int8)[:, None], (1, channels))
    # The same, folded in doubles and rounded at the end.
    gain = values["scale"] / np.sqrt(values["input_var"].astype(np.float64) + np.float32(epsilon))
    slope = (gain * (values["x_scale"].astype(np.float64) / y_scale)).astype(np.float32)
    intercept = ((values["B"] - values["input_mean"] * gain) / y_scale).astype(np.float32)
    other = np.rint((x.astype(float) - values["x_zero_point"]) * slope + intercept) + 128
    differs = library(x, values, epsilon=epsilon) != np.clip(other, 0, 255)
    assert np.count_nonzero(differs[:, 0::2]) > 100
    assert np.count_nonzero(differs[:, 1::2]) > 100
    check(x, values, epsilon=epsilon)


@pytest.mark.parametrize("opset", [14, 16, 18, *range(21, NEWEST + 1)])
def test_every_other_opset(rng, opset):
    values = parameters(rng, 5, per_channel=True)
    x = codes(rng, (2, 5, 6))
    made = model(x.dtype, x.shape, values, opset=opset, relu=1)
    assert_same(ReferenceEvaluator(made).run(None, {"X": x})[0], library(x, values, relu=1))


def test_scales_and_zero_points_of_every_shape(rng):
    """A number, a vector of one, and a vector of all channels, the scale's shape apart from the zero point's."""
    x = codes(rng, (4, 6, 5))
    whole = parameters(rng, 6, per_channel=True)
    first = {name: whole[name][0] for name in ("x_scale", "x_zero_point")}
    shapes = [lambda _, one: np.asarray(one), lambda _, one: one.reshape(1), lambda all_channels, _: all_channels]
    for (of_scale, of_zero_point), y_shape in itertools.product(itertools.product(shapes, shapes), ((), (1,))):
        values = {
            **whole,
            "x_scale": of_scale(whole["x_scale"], first["x_scale"]),
            "x_zero_point": of_zero_point(whole["x_zero_point"], first["x_zero_point"]),
            "y_scale": whole["y_scale"].reshape(y_shape),
            "y_zero_point": whole["y_zero_point"].reshape(y_shape),
        }
        check(x, values)


@pytest.mark.parametrize("channels_last", [0, 1])
def test_one_channel(rng, channels_last):
    check(codes(rng, (2, 1, 9, 1)), parameters(rng, 1, per_channel=True), channels_last=channels_last)


@pytest.mark.parametrize("shape", [(0, 3), (0, 3, 4), (2, 3, 0), (0, 3, 4, 5)])
def test_nothing_at_all(rng, shape):
    check(np.zeros(shape, np.uint8), parameters(rng, 3), shape=[None, 3, *[None] * (len(shape) - 2)])


def test_parameters_that_come_with_the_run(rng):
    values = parameters(rng, 6, np.int8, per_channel=True)
    x = codes(rng, (2, 6, 5), np.int8)
    session = stock(model(x.dtype, x.shape, values, inputs=tuple(values)))
    for _ in range(2):
        assert_same(session.run(None, {"X": x, **values})[0], library(x, values))
        values = parameters(rng, 6, np.int8, per_channel=True)


def test_inlined_and_registered_it_is_the_same(rng):
    values = parameters(rng, 6, per_channel=True)
    x = codes(rng, (2, 5, 4, 6))
    made = model(x.dtype, x.shape, values, channels_last=1, relu=1)
    want = library(x, values, channels_last=1, relu=1)
    inlined = inline_local_functions(made)
    assert {node.domain for node in inlined.graph.node} == {""}
    assert_same(stock(inlined).run(None, {"X": x})[0], want)
    assert_same(bno.session(made).run(None, {"X": x})[0], want)


# --- where rounding twice would show --------------------------------------------------------------------------


def threshold(k):
    """Return where the code turns from k to k + 1: half way from k + 0.5 to the float above it, or below.

    k + 0.5 itself goes to the even one of the two.
    """
    half = np.float32(k) + np.float32(0.5)
    towards = np.where(k % 2 == 0, np.float32(np.inf), np.float32(-np.inf))
    return (np.float64(half) + np.float64(np.nextafter(half, towards))) / 2


def steps_away(floats, steps):
    return (floats.view(np.int32) + steps.astype(np.int32)).view(np.float32)


def near_thresholds(rng, channels):
    """Return slopes and intercepts that bring one input nearer to a threshold than doubles tell.

    Either the product is the threshold and the intercept next to nothing; or the intercept is a float beside the
    threshold, and the product is what is missing, up to the rounding of the slope.
    """
    k = np.where(rng.random(channels) < 0.3, rng.integers(-3, 3, channels), rng.integers(-256, 256, channels))
    centred = rng.choice([-1, 1], channels) * rng.integers(1, 256, channels)
    at = threshold(k)
    nearly = np.where(rng.random(channels) < 0.6, 0, rng.integers(-1, 2, channels))
    steep = steps_away((at / centred).astype(np.float32), nearly)
    rest = (at - steep.astype(np.float64) * centred).astype(np.float32)
    tiny = (rng.choice([-1, 1], channels) * 2.0 ** rng.uniform(-140, -20, channels)).astype(np.float32)
    rest = np.where(rest == 0, tiny, steps_away(rest, rng.integers(-2, 3, channels)))
    beside = steps_away(at.astype(np.float32), rng.choice([-1, 1], channels) * rng.integers(0, 3, channels))
    flat = ((at - beside.astype(np.float64)) / centred).astype(np.float32)
    is_steep = rng.random(channels) < 0.5
    return np.where(is_steep, steep, flat), np.where(is_steep, rest, beside)


def in_doubles(slope, intercept, centred):
    """Return the sums as doubles have them, one row an input. The products are exact."""
    return slope.astype(np.float64) * np.asarray(centred)[:, None] + intercept.astype(np.float64)


def rounded_twice(slope, intercept, centred):
    """Return what the function would without its care."""
    total = in_doubles(slope, intercept, centred)
    return np.rint(np.clip(total, -512, 512).astype(np.float32)).astype(np.int64)


@pytest.mark.parametrize(
    ("slope", "intercept", "centred", "code"),
    [
        (7 / 6, -1e-20, 3, 3),
        (-7 / 6, 1e-20, 3, -3),
        (5237765 * 2.0**-55, 0.5, 205, 1),  # 5237765 * 205 = 2^30 + 1: the flattest slope of all
    ],
)
def test_witnesses(slope, intercept, centred, code):
    slope, intercept = np.float32([slope]), np.float32([intercept])
    values = affine(slope, intercept, 0, 0, y_type=np.int8)
    exact = centred * Fraction(float(slope[0])) + Fraction(float(intercept[0]))
    assert exact_code(exact) == code
    assert rounded_twice(slope, intercept, [centred]) != code
    x = np.uint8([[centred]])
    assert library(x, values, epsilon=0.0) == code
    check(x, values, epsilon=0.0)


@pytest.mark.parametrize("zero_point", [0, 100])
def test_channels_where_rounding_twice_shows(rng, zero_point):
    slope, intercept = near_thresholds(rng, 2000)
    x = np.tile(EVERY_CODE[:, None], (1, len(slope)))
    values = affine(slope, intercept, zero_point, 128)
    naive = np.clip(rounded_twice(slope, intercept, EVERY_CODE.astype(int) - zero_point) + 128, 0, 255)
    assert np.count_nonzero(naive != library(x, values, epsilon=0.0)) >= 5
    check(x, values, epsilon=0.0)


@pytest.mark.parametrize("what", ["fold", "sum"])
def test_no_option_of_the_optimizer_takes_a_rounding_away(rng, what):
    if what == "fold":
        values = near_halves(rng, 2000, np.float64(np.float32(0.03)), 0.0)
    else:
        values = affine(*near_thresholds(rng, 2000), 0, 128, np.int8)
    x = np.tile(EVERY_CODE.view(np.int8)[:, None], (1, 2000))
    options = ort.SessionOptions()
    options.add_session_config_entry("optimization.enable_cast_chain_elimination", "1")
    made = model(x.dtype, x.shape, values, epsilon=0.0).SerializeToString()
    session = ort.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    assert_same(session.run(None, {"X": x})[0], library(x, values, epsilon=0.0))


FOLDED = ("scale", "B", "input_mean", "input_var", "x_zero_point", "y_zero_point")


@pytest.fixture(scope="module")
def session_of_any_channels():
    """A session whose slopes and intercepts come with each run."""
    values = affine(np.ones(1), np.zeros(1))
    return stock(model(np.uint8, [None, None], values, inputs=FOLDED, epsilon=0.0))


def test_many_channels_near_thresholds(rng, session_of_any_channels):
    shifted = 0
    for zero_point in (0, 1, 128, 255):
        slope, intercept = near_thresholds(rng, 10_000)
        values = affine(slope, intercept, zero_point, 0)
        x = np.tile(EVERY_CODE[:, None], (1, len(slope)))
        want = library(x, values, epsilon=0.0)
        naive = np.clip(rounded_twice(slope, intercept, EVERY_CODE.astype(int) - zero_point), 0, 255)
        shifted += np.count_nonzero(np.any(naive != want, axis=0))
        got = session_of_any_channels.run(None, {"X": x, **{name: values[name] for name in FOLDED}})[0]
        assert_same(got, want)
    assert shifted >= 100


def numbers(smallest_exponent, largest_exponent):
    """Return float32 numbers of all sizes: huge, tiny, zero, of either sign, of few bits and of many."""
    mantissas = st.one_of(st.integers(1, 63), st.integers(2**23, 2**24 - 1))
    return st.one_of(
        st.just(0.0),
        st.builds(
            lambda sign, mantissa, exponent: sign * mantissa / 2 ** (mantissa.bit_length() - 1) * 2.0**exponent,
            st.sampled_from([-1, 1]),
            mantissas,
            st.integers(smallest_exponent, largest_exponent),
        ),
    )


@hypothesis.settings(max_examples=200, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    pairs=st.lists(
        st.one_of(
            st.tuples(numbers(-149, 127), numbers(-149, 127)),
            st.tuples(numbers(-20, 8), numbers(-30, 8)),
        ),
        min_size=1,
        max_size=40,
    ),
    zero_points=st.tuples(st.integers(0, 255), st.integers(0, 255)),
)
def test_any_slope_and_intercept(session_of_any_channels, pairs, zero_points):
    slope, intercept = np.float32(pairs).T
    values = affine(slope, intercept, *zero_points)
    x = np.tile(EVERY_CODE[:, None], (1, len(slope)))
    got = session_of_any_channels.run(None, {"X": x, **{name: values[name] for name in FOLDED}})[0]
    assert_same(got, library(x, values, epsilon=0.0))


@pytest.mark.parametrize("relu", [0, 1])
def test_slopes_beyond_float32_saturate(relu):
    slope = np.float32([3e38, -3e38, 1e36, 2e36, -1e37, 0, 1e-45, -1e-45])
    intercept = np.float32([0, 0, 5, 3e38, -3e38, 0.5, 1.5, 2.5])
    values = affine(slope, intercept, 100, 7)
    check(np.tile(EVERY_CODE[:, None], (1, len(slope))), values, epsilon=0.0, relu=relu)


# --- what docs/numerics-onnx.md proves ---------------------------------------------------------------------------


def exact_code(total):
    """Round a rational number to float32 and then to an integer, half to even both times."""
    k = total.__floor__()
    at = Fraction(float(threshold(np.int64(k))))
    if total == at:  # a tie of two floats
        return int(np.rint(np.float32(float(at))))
    return k if total < at else k + 1


@pytest.mark.thorough
def test_what_the_proof_says(rng):
    """In rational numbers, for every input of many channels that double arithmetic gets wrong."""
    slope, intercept = near_thresholds(rng, 6000)
    centred = np.arange(-255, 256)
    total = in_doubles(slope, intercept, centred)
    product = slope.astype(np.float64) * centred[:, None]
    part = total - product
    lost = (product - (total - part)) + (intercept.astype(np.float64) - part)
    at = threshold(np.floor(np.clip(total, -512, 511)).astype(np.int64))
    channels = np.flatnonzero(np.any((np.abs(total) < 512) & (total == at) & (lost != 0), axis=0))
    kinds = {True: 0, False: 0}
    for channel in channels[:120]:
        exact = [Fraction(float(slope[channel])) * int(n) + Fraction(float(intercept[channel])) for n in centred]
        inside = [n for n, e in enumerate(exact) if abs(e) < 512]
        rests = {n: exact[n] - Fraction(float(threshold(np.int64(exact[n].__floor__())))) for n in inside}
        near = {n: rest for n, rest in rests.items() if abs(rest) < Fraction(1, 2**42)}
        steep = abs(slope[channel]) >= 2.0**-18
        kinds[bool(steep)] += 1
        # One rest for all that are near a threshold, or one input; it is no tie, and small beside the shift.
        assert len(set(near.values())) == 1
        assert steep or len(near) == 1
        rest = next(iter(near.values()))
        assert 0 < abs(rest) <= Fraction(1, 2**45)
        assert abs(slope[channel]) > 2.0**-34
        # The shift puts every sum on the side where its code is right.
        shift = 2.0**-43 if rest > 0 else -(2.0**-43)
        addend = np.float64(intercept[channel]) + shift
        assert abs(Fraction(addend) - Fraction(float(intercept[channel])) - Fraction(shift)) < Fraction(1, 2**72)
        shifted = np.rint((product[inside, channel] + addend).astype(np.float32))
        np.testing.assert_array_equal(shifted, [exact_code(exact[n]) for n in inside])
    assert min(kinds.values()) >= 20


# --- the model around it --------------------------------------------------------------------------------------


def empty(opset=17, ir_version=9):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


@pytest.mark.parametrize("opset", [13, 20])
def test_a_model_with_it_is_valid(rng, opset):
    values = parameters(rng, 4, np.int8)
    made = model(np.int8, [None, 4, None], values, opset=opset, relu=1)
    onnx.checker.check_model(made, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(made, strict_mode=True)
    assert inferred.graph.output[0].type.tensor_type.elem_type == TensorProto.UINT8


def test_every_attribute_is_written():
    node = operator_node(SINGLE.inputs, "Y", "norm", epsilon=1e-5, channels_last=False, relu=False)
    written = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert written == {"epsilon": np.float32(1e-5), "channels_last": 0, "relu": 0}
    assert sorted(batch_norm_function(13).attribute) == sorted(written)


def test_a_model_gets_what_the_function_needs():
    made = empty(ir_version=4)
    add_function(made)
    assert made.ir_version == 8
    assert {o.domain: o.version for o in made.opset_import} == {"": 17, "bytenorm": 1}
    assert [(f.domain, f.name) for f in made.functions] == [("bytenorm", "QLinearBatchNormalization")]
    assert [(o.domain, o.version) for o in made.functions[0].opset_import] == [("", 17)]


def test_added_twice_it_is_there_once():
    made = empty(ir_version=10)
    add_function(made)
    before = made.SerializeToString()
    add_function(made)
    assert made.SerializeToString() == before
    assert made.ir_version == 10


def test_an_old_opset_is_refused():
    made = empty(12)
    with pytest.raises(
        ValueError, match=r"^model: it has opset 12; bytenorm::QLinearBatchNormalization needs 13 "
    ):
        add_function(made)
    assert made == empty(12)


def test_the_page_shows_its_text():
    page = Path(__file__).parents[1] / "docs" / "operator-function.md"
    assert f"```text\n{batch_norm_text(17)}```" in page.read_text("utf-8")
