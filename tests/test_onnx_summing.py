"""The norm of a sum of many tensors that nobody rounds, in ONNX: the same bits everywhere, every refusal."""

import itertools
import re
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import bytenorm as bn
from bytenorm import _core
from bytenorm import onnx as bno
from bytenorm.onnx.operators.functions import add_functions
from bytenorm.onnx.operators.schema import SUM
from bytenorm.onnx.operators.sum_batch_norm import sum_node

CODES = (np.uint8, np.int8)
INFINITE = (-np.inf, np.inf)
LIMITS = [INFINITE, (0.0, np.inf), (-0.7, 1.3), (-np.inf, -0.4), (0.25, 0.25)]
EPSILON = 1e-3
SUMMANDS = (1, 2, 3, 7)

ort.set_default_logger_severity(4)  # some sessions below are meant to fail


def drawn(rng, summands, shape, channels, x_type=np.uint8, y_type=np.uint8):
    """Return summands, and the parameters of their norm: weights of both signs, and a 0."""
    values = dict(zip(("scale", "B", "input_mean"), rng.normal(size=(3, channels)), strict=True))
    values["scale"][0] = 0
    values |= {"input_var": rng.uniform(0.1, 3, channels), "y_scale": 0.03}
    values = {name: np.asarray(value, np.float32) for name, value in values.items()}
    values |= {
        "y_zero_point": np.asarray(np.iinfo(y_type).min + 101, y_type),
        "x_scales": rng.uniform(0.01, 0.05, summands).astype(np.float32),
        "x_zero_points": (np.iinfo(x_type).min + rng.integers(0, 256, summands)).astype(x_type),
    }
    return [rng.integers(0, 256, shape, np.uint8).view(x_type) for _ in range(summands)], values


def summing(x, values, *, channels_last=0, relu=0, limits=INFINITE, given=(), shapes=None, opset=17, changed=None):
    """Return a model of one node and its function; the parameters `given` come with the run."""
    feed = {f"x_{i}": codes for i, codes in enumerate(x)}
    node = sum_node(
        [*SUM.inputs, *feed], "y", "norm", epsilon=EPSILON, channels_last=bool(channels_last), relu=bool(relu),
        limits=limits,
    )  # fmt: skip
    kind = {name: helper.np_dtype_to_tensor_dtype(v.dtype) for name, v in {**feed, **values}.items()}
    inputs = [helper.make_tensor_value_info(n, kind[n], (shapes or {}).get(n, v.shape)) for n, v in feed.items()]
    inputs += [helper.make_tensor_value_info(n, kind[n], values[n].shape) for n in given]
    y = helper.make_tensor_value_info("y", kind["y_zero_point"], [None] * x[0].ndim)
    constants = [numpy_helper.from_array(v, n) for n, v in values.items() if n not in given]
    graph = helper.make_graph([node], "summing", inputs, [y], constants)
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", opset)])
    add_functions(model)
    if changed:
        del model.functions[:]
        kept = [a for a in node.attribute if a.name not in changed]
        del model.graph.node[0].attribute[:]
        model.graph.node[0].attribute.extend(kept + [helper.make_attribute(n, v) for n, v in changed.items()])
    return model, feed | {name: values[name] for name in given}


def exactly(x, values, *, channels_last=0, relu=0, limits=INFINITE):
    """Return the codes by rational arithmetic, of the float32 slopes and intercepts that the library folds."""
    low, high = np.iinfo(values["y_zero_point"].dtype).min, np.iinfo(values["y_zero_point"].dtype).max
    zero = int(values["y_zero_point"])
    f32 = np.float32
    inv = f32(1) / np.sqrt(values["input_var"] + f32(EPSILON))
    gain = (inv * values["scale"]).astype(float)
    constant = values["B"] - (values["input_mean"] * inv) * values["scale"]
    intercept = (constant.astype(float) / float(values["y_scale"])).astype(f32)

    def slope(scale):
        return (gain * (float(f32(scale)) / float(values["y_scale"]))).astype(f32)

    slopes = [slope(scale) for scale in values["x_scales"]]
    bounds = [slope(limit) if np.isfinite(limit) else None for limit in limits]
    made = np.empty(x[0].shape, values["y_zero_point"].dtype)
    for place in np.ndindex(made.shape):
        c = place[-1 if channels_last else 1]
        total = Fraction(float(intercept[c]))
        for k, codes in enumerate(x):
            total += Fraction(float(slopes[k][c])) * (int(codes[place]) - int(values["x_zero_points"][k]))
        for bound, is_floor in zip(bounds, (True, False), strict=True):
            if bound is not None:
                at = Fraction(float(bound[c])) + Fraction(float(intercept[c]))
                total = max(total, at) if is_floor != (values["scale"][c] < 0) else min(total, at)
        made[place] = min(max(round(total) + zero, zero if relu else low), high)
    return made


def session(model, *, library, threads=1, optimize=True):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    if library:
        bno.register(options)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.thorough(but=8)
@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("summands", SUMMANDS)
def test_everywhere(rng, summands, limits):
    """The library, ONNX Runtime without it, ONNX's evaluator and rational arithmetic.

    Double rounds a sum of exact products: a code would be another one only within 2^-40 of a tie.
    """
    for i, (x_type, y_type) in enumerate(itertools.product(CODES, CODES)):
        channels_last, shape = i % 2, [(2, 3, 5, 4), (3, 4, 3), (4, 3), (2, 3, 2, 2, 2)][i]
        x, values = drawn(rng, summands, shape, shape[-1 if channels_last else 1], x_type, y_type)
        how = {"channels_last": channels_last, "relu": i // 2, "limits": limits}
        model, feed = summing(x, values, **how, opset=(13, 17, 20, 21)[i])
        onnx.checker.check_model(model, full_check=True)
        want = exactly(x, values, **how)
        runs = [session(model, library=library, optimize=optimize).run(None, feed) for library, optimize in
                itertools.product((True, False), (True, False))]  # fmt: skip
        for (got,) in [*runs, ReferenceEvaluator(model).run(None, feed)]:
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
        assert i > 0 or len(np.unique(want)) > 5 or limits[0] == limits[1]  # of 120 numbers


@pytest.mark.parametrize("isa", _core.isas())
def test_sizes_and_threads(rng, isa):
    """Runs shorter than a vector, as long, with a rest, on every instruction set; in parts of planes, of rows."""
    before = _core.isa()
    _core.select_isa(isa)
    try:
        for x_type, (shape, channels_last) in itertools.product(
            CODES,
            [((2, 3, 1, 5), 0), ((1, 2, 4, 4), 0), ((2, 3, 33), 0), ((3, 5), 1), ((7, 16), 1), ((2, 9, 37), 1),
             ((1, 2, 200, 300), 0), ((2, 40, 40, 33), 1), ((0, 3, 4), 0)],
        ):  # fmt: skip
            x, values = drawn(rng, 3, shape, shape[-1 if channels_last else 1], x_type, x_type)
            how = {"channels_last": channels_last, "relu": 1, "limits": (-0.5, 2.0)}
            model, feed = summing(x, values, **how)
            (want,) = session(model, library=False).run(None, feed)
            for threads in (1, 2):
                opened = session(model, library=True, threads=threads)
                for _ in range(2):
                    np.testing.assert_array_equal(opened.run(None, feed)[0], want)
    finally:
        _core.select_isa(before)


def test_of_two_it_is_the_operator_that_adds(rng):
    x, values = drawn(rng, 2, (3, 8, 5, 5), 8)
    norm = bn.BatchNorm(
        values["scale"], values["B"], values["input_mean"], values["input_var"], eps=float(np.float32(EPSILON)),
        output_scale=float(values["y_scale"]), output_zero_point=int(values["y_zero_point"]),
    )  # fmt: skip
    a, b = (
        bn.QuantizedTensor(codes, float(scale), int(zero))
        for codes, scale, zero in zip(x, values["x_scales"], values["x_zero_points"], strict=True)
    )
    want, _ = bn.add_batch_norm(a, b, norm, sum_scale=0.1, sum_zero_point=0, exact_sum=True)
    model, feed = summing(x, values)
    np.testing.assert_array_equal(session(model, library=True).run(None, feed)[0], want.data)


def test_parameters_that_come_with_the_run_and_shapes_that_nobody_knows(rng):
    x, values = drawn(rng, 3, (2, 4, 5), 4)
    want = exactly(x, values, limits=(0.0, 1.0))
    shapes = {"x_0": None, "x_1": ["n", 4, "m"], "x_2": None}
    model, feed = summing(x, values, limits=(0.0, 1.0), given=[*values][:7], shapes=shapes)
    np.testing.assert_array_equal(session(model, library=True).run(None, feed)[0], want)


def said(model, feed=None):
    with pytest.raises(Exception, match=r"(?s).") as caught:  # ONNX Runtime has several classes
        opened = session(model, library=True)
        opened.run(None, feed or {})
    return str(caught.value)


WRONG = [
    ("x_scales", [0.1], r"x_scales must have one value for each of the 3 summands, got shape \[1\]"),
    (
        "x_zero_points",
        [[1, 2, 3]],
        r"x_zero_points must have one value for each of the 3 summands, got .*\[1, 3\]",
    ),
    ("x_scales", [0.1, 0, 1], r"x_scales\[1\] must be positive and finite, and so must its reciprocal, got 0"),
    ("B", [1, 2], r"B has 2 values, but x_0 of shape \[2, 4, 5\] has 4 channels on axis 1"),
    ("scale", [1, 1, 1, 3e38], r"the slope of channel 3, .* overflows float32"),
    ("y_scale", 0.0, r"y_scale must be positive and finite"),
]


@pytest.mark.parametrize(("name", "value", "words"), WRONG, ids=lambda v: str(v)[:20])
def test_parameters_that_are_wrong(rng, name, value, words):
    x, values = drawn(rng, 3, (2, 4, 5), 4)
    values["x_scales"][:], values["input_var"][:] = 2, 1
    values[name] = np.asarray(value, values[name].dtype)
    model, _ = summing(x, values)
    del model.functions[:]
    got = said(model)
    assert "QLinearSumBatchNormalization node 'norm': " in got
    assert re.search(words, got), got


def test_attributes_and_shapes_that_are_wrong(rng):
    x, values = drawn(rng, 2, (2, 4, 5), 4)
    for changed, words in (
        ({"floor": 1.0, "ceiling": 0.5}, "attribute floor must be a number and no larger than attribute ceiling"),
        ({"floor": float("nan")}, "attribute floor must be a number"),
        ({"ceiling": float("nan")}, "attribute floor must be a number"),
        ({"ceiling": 1}, "attribute ceiling must be a float"),
        ({"relu": 2}, "attribute relu must be 0 or 1, got 2"),
        ({"channels_last": 1}, "has 4 values, but x_0 of shape [2, 4, 5] has 5 channels on axis 2"),
    ):
        assert words in said(summing(x, values, changed=changed)[0])
    model, feed = summing(x, values, shapes={"x_0": None, "x_1": None})
    feed["x_1"] = feed["x_1"][..., :4]
    assert "x_1 must have the shape of x_0, [2, 4, 5], got [2, 4, 4]" in said(model, feed)
    model, feed = summing(x, values, shapes={"x_1": [2, 4, 4]})
    del model.functions[:]
    assert "x_1 must have the shape of x_0, [2, 4, 5], got [2, 4, 4]" in said(model, feed)
    model, _ = summing(x, values)
    del model.graph.node[0].input[len(SUM.inputs) :], model.functions[:]
    assert "QLinearSumBatchNormalization" in said(model)
