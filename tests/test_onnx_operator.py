"""The operator in ONNX Runtime: the bits of quantized_batch_norm, shapes, threads, lifetimes, every refusal."""

import ctypes
import gc
import itertools
import os
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import bytenorm as bn
from bytenorm import _core

LIBRARY = os.environ.get("BYTENORM_TEST_LIBRARY", _core.__file__)  # tests/library.sh names another
CODES = [np.uint8, np.int8]
PAIRS = [pytest.param(a, b, id=f"{a.__name__}-{b.__name__}") for a, b in itertools.product(CODES, CODES)]
ERRORS = (ort.capi.onnxruntime_pybind11_state.Fail, ort.capi.onnxruntime_pybind11_state.InvalidArgument,
          ort.capi.onnxruntime_pybind11_state.RuntimeException)  # fmt: skip

ort.set_default_logger_severity(4)  # the sessions below are meant to fail; their errors are raised, too


@pytest.fixture(params=_core.isas())
def isa(request):
    """Every instruction set of this machine. A session prepares for the one it first runs with."""
    before = _core.isa()
    _core.select_isa(request.param)
    yield request.param
    _core.select_isa(before)


def parameters(rng, channels, x_type=np.uint8, y_type=np.uint8, *, per_channel=False, **changes):
    """Return the operator's inputs after X, in its order."""
    low = np.iinfo(x_type).min
    values = {
        "x_scale": rng.uniform(0.01, 0.1, channels if per_channel else None),
        "x_zero_point": low + rng.integers(60, 190, channels if per_channel else None),
        "scale": rng.normal(size=channels),
        "B": rng.normal(size=channels),
        "input_mean": rng.normal(size=channels),
        "input_var": rng.uniform(0.1, 3, channels),
        "y_scale": 0.03,
        "y_zero_point": np.iinfo(y_type).min + 101,
        **changes,
    }
    types = {"x_zero_point": x_type, "y_zero_point": y_type}
    return {name: np.asarray(value, types.get(name, np.float32)) for name, value in values.items()}


def codes(rng, shape, dtype=np.uint8):
    return rng.integers(0, 256, shape, np.uint8).view(dtype)


def tensor_type(array):
    return helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)


def model(x_type, shape, values, *, inputs=(), rank=None, node="norm", **attributes):
    """Return a serialized model of the operator alone; `inputs` come with each run, the rest is constant."""
    nodes = [
        helper.make_node(
            "QLinearBatchNormalization", ["X", *values], ["Y"], domain="bytenorm", name=node, **attributes
        )
    ]
    declared = [helper.make_tensor_value_info("X", helper.np_dtype_to_tensor_dtype(np.dtype(x_type)), shape)]
    declared += [
        helper.make_tensor_value_info(name, tensor_type(values[name]), [None] * values[name].ndim)
        for name in inputs
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in values.items() if name not in inputs]
    y = helper.make_tensor_value_info("Y", tensor_type(values["y_zero_point"]), rank and [None] * rank)
    return serialized(helper.make_graph(nodes, "norm", declared, [y], constants))


def serialized(graph):
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("bytenorm", 1)]
    return helper.make_model(graph, ir_version=9, opset_imports=opsets).SerializeToString()


def session(serialized_model, *, threads=1, optimize=True, library=LIBRARY, save=None):
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    options.register_custom_ops_library(library)
    if save:
        options.optimized_model_filepath = str(save)
    return ort.InferenceSession(serialized_model, options, providers=["CPUExecutionProvider"])


def expected(x, values, *, epsilon=1e-5, channels_last=0, relu=0):
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


def check(x, values, *, shape=None, threads=1, optimize=True, inputs=(), **attributes):
    s = session(
        model(x.dtype, shape or x.shape, values, inputs=inputs, **attributes), threads=threads, optimize=optimize
    )
    feed = {"X": x, **{name: values[name] for name in inputs}}
    want = expected(x, values, **attributes)
    for _ in range(2):
        (y,) = s.run(None, feed)
        assert y.dtype == want.dtype
        np.testing.assert_array_equal(y, want)


def message(work):
    """Return what ONNX Runtime says to a model or an input that is refused."""
    with pytest.raises(ERRORS) as caught:
        work()
    return str(caught.value)


def assert_says(said, words):
    assert re.search(words, said), said


# --- the same bits --------------------------------------------------------------------------------------------

SHAPES = [(70, 9), (3, 17, 21), (2, 5, 13, 11), (2, 64, 9, 8), (1, 1, 40, 7), (2, 3, 4, 5, 6), (2, 130, 3)]


@pytest.mark.parametrize(("x_type", "y_type"), PAIRS)
@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bits(rng, isa, x_type, y_type, shape, channels_last):
    x = codes(rng, shape, x_type)
    channels = shape[-1 if channels_last else 1]
    for per_channel, relu in itertools.product([False, True], [0, 1]):
        values = parameters(rng, channels, x_type, y_type, per_channel=per_channel)
        check(x, values, channels_last=channels_last, relu=relu)


@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("name", ["x_scale", "x_zero_point"])
def test_one_of_the_two_per_channel(rng, name, channels_last):
    x = codes(rng, (3, 6, 5, 6))
    every = parameters(rng, 6, per_channel=True)
    check(x, parameters(rng, 6, **{name: every[name]}), channels_last=channels_last)


@pytest.mark.parametrize("name", ["x_scale", "x_zero_point", "y_scale", "y_zero_point"])
def test_one_value_may_be_an_array(rng, name):
    values = parameters(rng, 4)
    values[name] = values[name].reshape(1)
    check(codes(rng, (2, 4, 9)), values)


@pytest.mark.parametrize("epsilon", [0.0, 1e-5, 1e-3, 2.5])
def test_epsilon(rng, epsilon):
    check(codes(rng, (2, 9, 30)), parameters(rng, 9), epsilon=epsilon)


def test_attributes_by_default(rng):
    values = parameters(rng, 9, input_var=np.full(9, 1e-6))
    x = codes(rng, (2, 9, 30))
    (y,) = session(model(np.uint8, x.shape, values)).run(None, {"X": x})
    np.testing.assert_array_equal(y, expected(x, values, epsilon=1e-5, channels_last=0, relu=0))


@pytest.mark.parametrize("channels_last", [0, 1])
def test_hostile_parameters(rng, isa, channels_last):
    """Slopes that are huge, zero, negative or tie, intercepts far away: some have no integers."""
    gains = np.float32([0, -0.0, 1e-30, 0.5, -0.5, 1, -1, 3, 100, -240, 260, 3e4, -1e9, 1e30])
    values = parameters(
        rng, 14, scale=gains, B=rng.permutation(np.float32([0, 0.5, -7, 1e4, -1e4, 1e9, -1e30] * 2)),
        input_mean=np.zeros(14), input_var=np.ones(14), x_scale=0.5, y_scale=0.5,
    )  # fmt: skip
    x = np.broadcast_to(np.arange(256, dtype=np.uint8), (14, 256))[np.newaxis]
    x = np.ascontiguousarray(x.swapaxes(1, 2) if channels_last else x)
    for relu in (0, 1):
        check(x, values, channels_last=channels_last, relu=relu, epsilon=0.0)


@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 64, 60, 60), (1, 3, 300, 400), (40000, 3, 1), (1, 1, 500000, 1)], ids=str)
def test_threads_and_optimization(rng, threads, shape, channels_last):
    x = codes(rng, shape)
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if channels_last else x
    values = parameters(rng, shape[1])
    for optimize in (False, True):
        check(x, values, threads=threads, optimize=optimize, channels_last=channels_last)


NAMES = ["x_scale", "x_zero_point", "scale", "B", "input_mean", "input_var", "y_scale", "y_zero_point"]


@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("inputs", [NAMES, *([name] for name in NAMES)], ids=lambda names: names[-1])
def test_parameters_that_come_with_the_run(rng, inputs, channels_last):
    x = codes(rng, (3, 20, 11, 20), np.int8)
    for per_channel in (False, True):
        values = parameters(rng, 20, np.int8, per_channel=per_channel)
        check(x, values, inputs=inputs, channels_last=channels_last)


def test_parameters_may_change_between_runs(rng):
    x, values = codes(rng, (2, 7, 300)), parameters(rng, 7)
    s = session(model(np.uint8, x.shape, values, inputs=["scale", "x_scale"]))
    for _ in range(3):
        changed = {name: parameters(rng, 7)[name] for name in ("scale", "x_scale")}
        np.testing.assert_array_equal(s.run(None, {"X": x, **changed})[0], expected(x, {**values, **changed}))


# --- shapes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 6, 4, 6), (0, 6), (2, 6, 0, 6), (0, 6, 0, 6)], ids=str)
@pytest.mark.parametrize("channels_last", [0, 1])
def test_nothing_in_nothing_out(rng, shape, channels_last):
    values = parameters(rng, 6)
    for inputs in ((), NAMES):
        check(np.empty(shape, np.uint8), values, inputs=inputs, channels_last=channels_last)


def test_no_channels(rng):
    check(np.empty((3, 0, 5), np.uint8), parameters(rng, 0))
    check(np.empty((3, 0, 5), np.uint8), parameters(rng, 0, per_channel=True))


@pytest.mark.parametrize("declared", [None, [None] * 4, ["n", 5, "h", "w"], ["n", "c", "h", "w"]], ids=str)
def test_any_size_in_one_session(rng, declared):
    values = parameters(rng, 5)
    s = session(model(np.uint8, declared, values))
    for shape in [(1, 5, 8, 8), (4, 5, 3, 2), (0, 5, 8, 8), (2, 5, 40, 40), (1, 5, 8, 8)]:
        x = codes(rng, shape)
        np.testing.assert_array_equal(s.run(None, {"X": x})[0], expected(x, values))
    if declared is None:
        x = codes(rng, (7, 5))
        np.testing.assert_array_equal(s.run(None, {"X": x})[0], expected(x, values))


def output_shape(declared, rng):
    return session(model(np.uint8, declared, parameters(rng, 5))).get_outputs()[0].shape


def test_the_output_has_the_shape_of_the_input(rng):
    assert output_shape([2, 5, 8, 9], rng) == [2, 5, 8, 9]
    assert output_shape(["n", 5, "h", "w"], rng) == ["n", 5, "h", "w"]
    assert output_shape(["n", 5], rng) == ["n", 5]
    assert output_shape(["n", 5, "n", "n"], rng) == ["n", 5, "n", "n"]


def test_dimensions_without_a_name_are_not_taken_for_each_other(rng):
    """ONNX Runtime makes the number -1 of a dimension that has neither size nor name; one name means one size."""
    first, second = (output_shape([None, 5, None, None], rng) for _ in range(2))
    assert first[1] == second[1] == 5
    names = [size for shape in (first, second) for at, size in enumerate(shape) if at != 1]
    assert -1 not in names
    named = [name for name in names if name is not None]
    assert len(set(named)) == len(named)


def chain(dims, blocks=5):
    """Return convolutions with a norm between, each in channels-last between two transposes."""
    rng = np.random.default_rng(5)
    constants, nodes = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    step = [constant("s", np.float32(0.05)), constant("z", np.uint8(128))]
    weight_step = [constant("ws", np.float32(0.01)), constant("wz", np.int8(0))]
    last = "X"
    for i in range(blocks):
        weights = constant(f"w{i}", rng.integers(-20, 20, (16, 16, 3, 3)).astype(np.int8))
        norm = [constant(f"p{i}{k}", rng.uniform(0.5, 1.5, 16).astype(np.float32)) for k in range(4)]
        nodes += [
            helper.make_node(
                "QLinearConv", [last, *step, weights, *weight_step, *step], [f"c{i}"], pads=[1, 1, 1, 1]
            ),
            helper.make_node("Transpose", [f"c{i}"], [f"t{i}"], perm=[0, 2, 3, 1]),
            helper.make_node(
                "QLinearBatchNormalization", [f"t{i}", *step, *norm, *step], [f"n{i}"], domain="bytenorm",
                channels_last=1,
            ),
            helper.make_node("Transpose", [f"n{i}"], [f"u{i}"], perm=[0, 3, 1, 2]),
        ]  # fmt: skip
        last = f"u{i}"
    weights = constant("w", rng.integers(-20, 20, (16, 16, 3, 3)).astype(np.int8))
    nodes.append(helper.make_node("QLinearConv", [last, *step, weights, *weight_step, *step], ["Y"]))
    x = helper.make_tensor_value_info("X", TensorProto.UINT8, dims)
    y = helper.make_tensor_value_info("Y", TensorProto.UINT8, None)
    return serialized(helper.make_graph(nodes, "chain", [x], [y], constants))


@pytest.mark.parametrize("dims", [[2, 16, 9, 9], ["n", 16, "h", "w"], [None, 16, None, None]], ids=str)
def test_transposes_around_the_operator_cancel(rng, tmp_path, dims):
    """They do only where the operator hands on rank, sizes and names; the first and the last stay."""
    x = codes(rng, (2, 16, 9, 9))
    (want,) = session(chain(dims), optimize=False).run(None, {"X": x})
    optimized = session(chain(dims), save=tmp_path / "optimized.onnx")
    np.testing.assert_array_equal(optimized.run(None, {"X": x})[0], want)
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    assert sum(node.op_type == "Transpose" for node in nodes) == 2
    assert sum(node.op_type == "QLinearBatchNormalization" for node in nodes) == 5


def test_names_in_a_saved_model_are_not_used_again(rng, tmp_path):
    """A model saved by one session and loaded by another must not make two dimensions one by their name."""
    x = codes(rng, (2, 16, 9, 9))
    first = session(chain([None, 16, None, None]), save=tmp_path / "saved.onnx")
    again = session((tmp_path / "saved.onnx").read_bytes())
    np.testing.assert_array_equal(again.run(None, {"X": x})[0], first.run(None, {"X": x})[0])


# --- refusals -------------------------------------------------------------------------------------------------

NORM = ["scale", "B", "input_mean", "input_var"]
WRONG = [
    *((name, [1, 2, np.nan, 4, 5], rf"{name}\[2\] must be finite, got nan") for name in NORM),
    *((name, [1, 2, 3, 4, np.inf], rf"{name}\[4\] must be finite, got inf") for name in NORM),
    *((name, [[1, 2, 3, 4, 5]], rf"{name} must be one-dimensional, one value a channel, got shape \[1, 5\]")
      for name in NORM),
    *((name, 1.0, rf"{name} must be one-dimensional, one value a channel, got shape \[\]") for name in NORM),
    ("input_var", [1, 2, 3, -0.5, 5], r"input_var\[3\] must not be negative, got -0\.5"),
    ("input_var", [1, 0, 3, 4, 5], r"input_var\[1\] \+ epsilon must be positive, got 0 and epsilon 0"),
    ("x_scale", 0.0, r"x_scale must be positive and finite, and so must its reciprocal, got 0\b"),
    ("x_scale", -1.0, r"x_scale must be positive .* got -1"),
    ("x_scale", np.nan, r"x_scale must be positive .* got nan"),
    ("x_scale", 1e-40, r"x_scale must be positive .* got 9\.999\d*e-41"),
    ("x_scale", [1, 1, 0, 1, 1], r"x_scale\[2\] must be positive .* got 0"),
    ("x_scale", [1, 1, 1], r"x_scale has 3 values, but "),
    ("x_scale", [[1]], r"x_scale must be one value, or one a channel, got shape \[1, 1\]"),
    ("x_zero_point", [1, 1, 1], r"x_zero_point has 3 values, but "),
    ("y_scale", np.inf, r"y_scale must be positive .* got inf"),
    ("y_scale", [1, 1, 1, 1, 1], r"y_scale must be one value, got shape \[5\]"),
    ("y_zero_point", [1, 1, 1, 1, 1], r"y_zero_point must be one value, got shape \[5\]"),
    ("y_scale", [], r"y_scale must be one value, got shape \[0\]"),
    ("scale", [1, 2, 3, 4, 3e38], r"the slope of channel 4, .* overflows float32"),
    ("B", [1, 2, 3e38, 4, 5], r"the intercept of channel 2, .* overflows float32"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "words"), WRONG, ids=[f"{w[0]}-{i}" for i, w in enumerate(WRONG)])
@pytest.mark.parametrize("when", ["creation", "run"])
def test_a_parameter_that_is_wrong(rng, name, value, words, when):
    """Constant: the session is not created. With the run: the run fails, and the next one works."""
    good = parameters(rng, 5, x_scale=0.5)
    values = {**good, name: np.asarray(value, good[name].dtype)}
    attributes = {"epsilon": 0.0}
    x = codes(rng, (2, 5, 3))
    if when == "creation":
        said = message(lambda: session(model(np.uint8, x.shape, values, node="stage1/bn", **attributes)))
        assert "QLinearBatchNormalization node 'stage1/bn': " in said
    else:
        declared = {n: np.zeros((1,) * v.ndim, v.dtype) for n, v in values.items()}
        nodes = model(np.uint8, x.shape, declared, inputs=NAMES, node="stage1/bn", **attributes)
        s = session(nodes)
        said = message(lambda: s.run(None, {"X": x, **values}))
        assert "stage1/bn" in said
        if values[name].ndim == good[name].ndim:
            (y,) = s.run(None, {"X": x, **good})
            np.testing.assert_array_equal(y, expected(x, good, **attributes))
    assert_says(said, words)


@pytest.mark.parametrize("name", NORM)
def test_lengths_that_disagree(rng, name):
    values = parameters(rng, 5)
    values[name] = values[name][:4]
    said = message(lambda: session(model(np.uint8, [None] * 3, values)))
    if name == "scale":  # the first is believed
        assert_says(said, "B has 5 values, but scale has 4: one a channel is wanted")
    else:
        assert_says(said, f"{name} has 4 values, but scale has 5: one a channel is wanted")


@pytest.mark.parametrize(("channels_last", "axis"), [(0, 1), (1, 2)])
def test_another_number_of_channels(rng, channels_last, axis):
    values = parameters(rng, 5)
    wrong = {0: (2, 6, 5), 1: (2, 5, 6)}[channels_last]
    shown = str(list(wrong)).replace("[", r"\[").replace("]", r"\]")
    attributes = {"channels_last": channels_last}
    said = message(lambda: session(model(np.uint8, wrong, values, **attributes)))
    assert_says(said, rf"scale has 5 values, but X of shape {shown} has 6 channels on axis {axis}: one a channel")
    x = codes(rng, wrong)
    s = session(model(np.uint8, ["a", "b", "c"], values, **attributes))
    said = message(lambda: s.run(None, {"X": x}))
    assert_says(said, rf"X must have 5 channels on axis {axis}, as many as scale has values, got shape {shown}")
    s = session(model(np.uint8, ["a", "b", "c"], values, inputs=NAMES, **attributes))
    said = message(lambda: s.run(None, {"X": x, **values}))
    assert_says(said, rf"scale has 5 values, but X of shape {shown} has 6 channels on axis {axis}: one a channel")


def test_too_few_dimensions(rng):
    values = parameters(rng, 5)
    said = message(lambda: session(model(np.uint8, [5], values)))
    assert_says(said, r"X must have at least 2 dimensions, got shape \[5\]")
    for inputs in ([], NAMES):
        s = session(model(np.uint8, None, values, inputs=inputs))
        feed = {name: values[name] for name in inputs}
        for x, shape in ((codes(rng, 5), r"\[5\]"), (codes(rng, ()), r"\[\]")):
            said = message(lambda s=s, x=x, feed=feed: s.run(None, {"X": x, **feed}))
            assert_says(said, rf"X must have at least 2 dimensions, got shape {shape}")


def test_many_dimensions(rng):
    """NumPy 2 has arrays of 64; an operator has no more."""
    values, x = parameters(rng, 2), codes(rng, (3, 2) + (1,) * 30)
    (y,) = session(model(np.uint8, None, values)).run(None, {"X": x})
    np.testing.assert_array_equal(y, expected(x, values))
    more = [3, 2] + [1] * 63
    said = message(lambda: session(model(np.uint8, more, values)))
    assert_says(said, "X must have at most 64 dimensions, got 65")


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"relu": 2}, "attribute relu must be 0 or 1, got 2"),
        ({"channels_last": -1}, "attribute channels_last must be 0 or 1, got -1"),
        ({"relu": 1.0}, "attribute relu must be an integer, 0 or 1, got another type"),
        ({"channels_last": "yes"}, "attribute channels_last must be an integer, 0 or 1, got another type"),
        ({"channels_last": [1]}, "attribute channels_last must be an integer, 0 or 1, got another type"),
        ({"epsilon": 1}, "attribute epsilon must be a float, got another type"),
        ({"epsilon": [1.0]}, "attribute epsilon must be a float, got another type"),
        ({"epsilon": -1e-5}, "attribute epsilon must not be negative and must be finite, got -9.99999975e-06"),
        ({"epsilon": float("nan")}, "attribute epsilon must not be negative and must be finite, got nan"),
        ({"epsilon": float("inf")}, "attribute epsilon must not be negative and must be finite, got inf"),
    ],
    ids=str,
)
def test_attributes_that_are_wrong(rng, attributes, words):
    for inputs in ((), NAMES):
        said = message(
            lambda inputs=inputs: session(
                model(np.uint8, (2, 5), parameters(rng, 5), inputs=inputs, node="bn7", **attributes)
            )
        )
        assert f"node 'bn7': {words}" in said


def test_a_node_without_a_name(rng):
    said = message(lambda: session(model(np.uint8, (2, 5), parameters(rng, 5), node="", relu=3)))
    assert_says(said, "QLinearBatchNormalization: attribute relu must be 0 or 1, got 3")


@pytest.mark.parametrize("name", ["x_zero_point", "y_zero_point", "x_scale", "scale"])
def test_types_that_are_not_the_operators(rng, name):
    """ONNX Runtime refuses these itself."""
    values = parameters(rng, 5)
    values[name] = values[name].astype(np.int8 if name == "x_zero_point" else np.float64)
    serialized_model = model(np.uint8, (2, 5), values)
    with pytest.raises(Exception, match="QLinearBatchNormalization"):
        session(serialized_model)


# --- sessions -------------------------------------------------------------------------------------------------


def test_registered_twice():
    options = ort.SessionOptions()
    options.register_custom_ops_library(LIBRARY)
    said = message(lambda: options.register_custom_ops_library(LIBRARY))
    assert_says(said, "bytenorm: its operators are registered in these SessionOptions already; once is enough")


def test_two_copies_of_the_library(rng, tmp_path):
    """Each serves the options it is registered in; one domain cannot be registered by both."""
    copy = shutil.copy(LIBRARY, tmp_path / "copy.so")
    x, values = codes(rng, (2, 5, 400)), parameters(rng, 5)
    both = [session(model(np.uint8, x.shape, values), library=library) for library in (LIBRARY, str(copy))]
    for s in both * 2:
        np.testing.assert_array_equal(s.run(None, {"X": x})[0], expected(x, values))
    options = ort.SessionOptions()
    options.register_custom_ops_library(LIBRARY)
    assert "already" in message(lambda: options.register_custom_ops_library(str(copy)))


def test_a_session_outlives_everything_python_holds(rng, tmp_path):
    x, values = codes(rng, (2, 5, 4000)), parameters(rng, 5)
    copy = Path(shutil.copy(LIBRARY, tmp_path / "copy.so"))
    s = session(model(np.uint8, x.shape, values), library=str(copy))
    copy.unlink()
    gc.collect()
    np.testing.assert_array_equal(s.run(None, {"X": x})[0], expected(x, values))


def test_one_session_in_many_threads(rng):
    shapes = [(1, 24, 5, 24), (2, 24, 70, 24), (1, 24, 1, 24)]
    values = parameters(rng, 24)
    inputs = [codes(rng, shape) for shape in shapes]
    for last in (0, 1):
        wants = [expected(x, values, channels_last=last) for x in inputs]
        for threads in (1, 2):
            s = session(model(np.uint8, [None] * 4, values, channels_last=last), threads=threads)
            wrong = []

            def work(first, s=s, wants=wants, wrong=wrong):
                for i in range(first, first + 40):
                    (y,) = s.run(None, {"X": inputs[i % 3]})
                    if not np.array_equal(y, wants[i % 3]):
                        wrong.append(i)

            workers = [threading.Thread(target=work, args=(n,)) for n in range(8)]
            for w in workers:
                w.start()
            for w in workers:
                w.join()
            assert not wrong


MANY = """
import sys
import numpy as np, onnxruntime as ort
data = open({path!r}, "rb").read()
x = np.arange(2 * 512 * 49, dtype=np.int64).astype(np.uint8).reshape(2, 512, 7, 7)
def once():
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.register_custom_ops_library({library!r})
    s = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return s.run(None, {{"X": x}})[0].tobytes()
def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096
want = once()
for _ in range(50):
    assert once() == want
before = resident()
for _ in range(200):
    assert once() == want
print(resident() - before, "bytenorm" in sys.modules)
"""


def test_sessions_leave_nothing_behind(rng, tmp_path, run_python):
    """Two hundred sessions, the library loaded and unloaded for each. One fold would be 150 kB."""
    path = tmp_path / "model.onnx"
    path.write_bytes(model(np.uint8, (2, 512, 7, 7), parameters(rng, 512)))
    done = run_python(MANY.format(path=str(path), library=LIBRARY))
    assert done.returncode == 0, done.stderr
    grown, imported = done.stdout.split()
    assert int(grown) < 6_000_000
    assert imported == "False"


# --- without the package --------------------------------------------------------------------------------------

BARE = """
import sys
import numpy as np, onnxruntime as ort
ort.set_default_logger_severity(4)
options = ort.SessionOptions()
options.register_custom_ops_library({library!r})
s = ort.InferenceSession({model!r}, options, providers=["CPUExecutionProvider"])
x = np.load({x!r})
assert "bytenorm" not in sys.modules
np.save({y!r}, s.run(None, {{"X": x}})[0])
{after}
"""


def bare(rng, tmp_path, run_python, after="", **environment):
    x, values = codes(rng, (3, 70, 15)), parameters(rng, 70)
    paths = {name: str(tmp_path / name) for name in ("m.onnx", "x.npy", "y.npy")}
    Path(paths["m.onnx"]).write_bytes(model(np.uint8, x.shape, values))
    np.save(paths["x.npy"], x)
    code = BARE.format(library=LIBRARY, model=paths["m.onnx"], x=paths["x.npy"], y=paths["y.npy"], after=after)
    done = run_python(code, **environment)
    if done.returncode == 0:
        np.testing.assert_array_equal(np.load(paths["y.npy"]), expected(x, values))
    return done


@pytest.mark.parametrize("chosen", [None, *_core.isas()])
def test_the_library_needs_no_import(rng, tmp_path, run_python, chosen):
    """It chooses its kernels itself; the package, imported later, agrees."""
    after = "import bytenorm; s.run(None, {'X': x}); print(bytenorm.show_config()['isa'])"
    done = bare(rng, tmp_path, run_python, after, BYTENORM_ISA=chosen)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [chosen or _core.isas()[-1]]


@pytest.mark.parametrize("value", ["", "avx", "AVX2", "neon"])
def test_an_instruction_set_that_is_not_there(rng, tmp_path, run_python, value):
    done = bare(rng, tmp_path, run_python, BYTENORM_ISA=value)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert f"BYTENORM_ISA='{value}' is not available: this machine has {', '.join(_core.isas())}" in last


def test_an_onnx_runtime_that_is_too_old():
    """One before 1.17 hands out no interface of version 17, but can make a status since version 1."""
    said, asked = [], []
    create = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p)
    get = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)
    version = ctypes.CFUNCTYPE(ctypes.c_void_p)
    number = ctypes.create_string_buffer(b"1.16.3")

    def create_status(code, text):
        said.append((code, text.decode()))
        return 4711

    functions = (ctypes.c_void_p * 101)(ctypes.cast(keep := create(create_status), ctypes.c_void_p))

    def get_api(wanted):
        asked.append(wanted)
        return ctypes.addressof(functions) if wanted <= 16 else None

    callbacks = get(get_api), version(lambda: ctypes.addressof(number))
    base = (ctypes.c_void_p * 2)(*(ctypes.cast(callback, ctypes.c_void_p) for callback in callbacks))
    register = ctypes.CDLL(LIBRARY).RegisterCustomOps
    register.restype, register.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_void_p]
    assert register(None, ctypes.addressof(base)) == 4711
    assert said == [(1, "bytenorm: ONNX Runtime 1.17 or newer is needed for its operators, this is 1.16.3")]
    assert asked == [1]  # asking for 17 would print to the standard error
    assert keep
