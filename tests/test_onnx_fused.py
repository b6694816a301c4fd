"""The operators for concatenations and sums in ONNX: the library's bits everywhere, shapes, every refusal."""

import itertools
import re

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from onnx.inliner import inline_local_functions
from onnx.reference import ReferenceEvaluator

import bytenorm as bn
from bytenorm import _core, reference
from bytenorm import onnx as bno
from bytenorm.onnx.operators.add_batch_norm import add_node, sum_function
from bytenorm.onnx.operators.concat_batch_norm import concat_function, concat_node
from bytenorm.onnx.operators.functions import add_functions
from bytenorm.onnx.operators.schema import ADD, NORMS, ON_CODES

CODES = (np.uint8, np.int8)
PAIRS = [pytest.param(a, b, id=f"{a.__name__}-{b.__name__}") for a, b in itertools.product(CODES, CODES)]
ERRORS = (ort.capi.onnxruntime_pybind11_state.Fail, ort.capi.onnxruntime_pybind11_state.InvalidArgument,
          ort.capi.onnxruntime_pybind11_state.RuntimeException,
          ort.capi.onnxruntime_pybind11_state.InvalidGraph)  # fmt: skip
EPSILON = 1e-3

ort.set_default_logger_severity(4)  # some sessions below are meant to fail


@pytest.fixture(params=_core.isas())
def isa(request):
    """Every instruction set of this machine."""
    before = _core.isa()
    _core.select_isa(request.param)
    yield
    _core.select_isa(before)


def kind_of(array):
    return helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)


def codes(rng, shape, dtype=np.uint8):
    return rng.integers(0, 256, shape, np.uint8).view(dtype)


def norm_values(rng, channels, y_type):
    vectors = rng.normal(size=(3, channels))
    values = dict(zip(("scale", "B", "input_mean"), vectors, strict=True))
    values |= {"input_var": rng.uniform(0.1, 3, channels), "y_scale": 0.03}
    values = {name: np.asarray(value, np.float32) for name, value in values.items()}
    return {**values, "y_zero_point": np.asarray(np.iinfo(y_type).min + 101, y_type)}


def zero_points(rng, dtype, size=None):
    return np.asarray(np.iinfo(dtype).min + rng.integers(0, 256, size), dtype)


def concat_values(rng, counts, x_type=np.uint8, y_type=np.uint8):
    scales = rng.uniform(0.01, 0.1, len(counts)).astype(np.float32)
    values = norm_values(rng, sum(counts), y_type)
    return {**values, "x_scales": scales, "x_zero_points": zero_points(rng, x_type, len(counts))}


def add_values(rng, channels, x_type=np.uint8, y_type=np.uint8, scales=(0.03, 0.05, 0.08)):
    values = norm_values(rng, channels, y_type)
    for name, scale in zip("abs", scales, strict=True):
        values |= {f"{name}_scale": np.asarray(scale, np.float32), f"{name}_zero_point": zero_points(rng, x_type)}
    return values


def model(nodes, feed, values, outputs, *, shapes=None, inputs=(), ir=9, opset=17):
    """Return a model with its functions; `inputs` are parameters that come with the run."""
    shapes = shapes or {}
    declared = [
        helper.make_tensor_value_info(name, kind_of(x), shapes.get(name, x.shape)) for name, x in feed.items()
    ]
    declared += [helper.make_tensor_value_info(n, kind_of(values[n]), [None] * values[n].ndim) for n in inputs]
    made = [helper.make_tensor_value_info(name, kind, [None] * rank) for name, kind, rank in outputs]
    constants = [numpy_helper.from_array(np.asarray(v), n) for n, v in values.items() if n not in inputs]
    graph = helper.make_graph(nodes, "fused", declared, made, constants)
    whole = helper.make_model(graph, ir_version=ir, opset_imports=[helper.make_opsetid("", opset)])
    add_functions(whole)
    return whole


def concat_model(pieces, values, *, channels_last=0, relu=0, pool=0, **kind):
    feed = {f"x_{i}": x for i, x in enumerate(pieces)}
    names = ["scale", "B", "input_mean", "input_var", "y_scale", "y_zero_point", "x_scales", "x_zero_points"]
    node = concat_node(
        [*names, *feed], "y", "norm", epsilon=EPSILON, channels_last=bool(channels_last), relu=bool(relu),
        pool=pool,
    )  # fmt: skip
    outputs = [("y", kind_of(values["y_zero_point"]), pieces[0].ndim)]
    return model([node], feed, values, outputs, **kind), feed


def add_model(a, b, values, *, channels_last=0, relu=0, with_sum=1, exact_sum=0, **kind):
    node = add_node(
        ADD.inputs, "y", "norm", sum_output="s" if with_sum else "", epsilon=EPSILON,
        channels_last=bool(channels_last), relu=bool(relu), exact_sum=bool(exact_sum),
    )  # fmt: skip
    outputs = [("y", kind_of(values["y_zero_point"]), a.ndim), ("s", kind_of(a), a.ndim)][: 1 + with_sum]
    feed = {"a": a, "b": b}
    return model([node], feed, values, outputs, **kind), feed


def norm_of(values, channels_last, relu):
    return bn.BatchNorm(
        values["scale"], values["B"], values["input_mean"], values["input_var"], eps=float(np.float32(EPSILON)),
        output_scale=float(values["y_scale"]), output_zero_point=int(values["y_zero_point"]), relu=bool(relu),
        axis=-1 if channels_last else 1,
        output_dtype=bn.quint8 if values["y_zero_point"].dtype == np.uint8 else bn.qint8,
    )  # fmt: skip


def tensor(data, scale, zero_point):
    return bn.QuantizedTensor(data, float(scale), int(zero_point))


def want_concat(pieces, values, *, channels_last=0, relu=0, pool=0):
    quantized = map(tensor, pieces, values["x_scales"], values["x_zero_points"])
    y = bn.concat_batch_norm(list(quantized), norm_of(values, channels_last, relu))
    axes = (1, 2) if channels_last else (2, 3)
    return [reference.average_pool(y.data, axes, y.dtype) if pool else y.data]


def want_add(a, b, values, *, channels_last=0, relu=0, with_sum=1, exact_sum=0):
    first, second = (tensor(x, values[f"{n}_scale"], values[f"{n}_zero_point"]) for n, x in (("a", a), ("b", b)))
    y, s = bn.add_batch_norm(
        first, second, norm_of(values, channels_last, relu), sum_scale=float(values["s_scale"]),
        sum_zero_point=int(values["s_zero_point"]), exact_sum=bool(exact_sum),
    )  # fmt: skip
    return [y.data, s.data][: 1 + with_sum]


def assert_same(got, want):
    for y, w in zip(got, want, strict=True):
        assert y.dtype == w.dtype
        np.testing.assert_array_equal(y, w)


def options(*, threads=1, optimize=True):
    made = ort.SessionOptions()
    made.intra_op_num_threads = threads
    levels = ort.GraphOptimizationLevel
    made.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    return made


def stock(made, **kind):
    return ort.InferenceSession(made.SerializeToString(), options(**kind), providers=["CPUExecutionProvider"])


def check_library(made, feed, want, threads=(1, 2)):
    for n, optimize in itertools.product(threads, (True, False)):
        session = bno.session(made, options(threads=n, optimize=optimize))
        for _ in range(2):
            assert_same(session.run(None, feed), want)


def check_everywhere(made, feed, want):
    onnx.checker.check_model(made, full_check=True)
    check_library(made, feed, want, threads=(1,))
    for optimize in (True, False):
        assert_same(stock(made, optimize=optimize).run(None, feed), want)
    assert_same(ReferenceEvaluator(made).run(None, feed), want)


def shape_of(rank, channels, channels_last):
    spatial = [7, 4, 3][: rank - 2]
    return (3, *spatial, channels) if channels_last else (3, channels, *spatial)


# --- the same bits --------------------------------------------------------------------------------------------

COUNTS = [(3,), (64,), (5, 1, 7), (64, 32, 32), (16,) * 60, (300, 20)]


@pytest.mark.thorough
@pytest.mark.parametrize(("x_type", "y_type"), PAIRS)
@pytest.mark.parametrize("counts", COUNTS, ids=lambda counts: f"{len(counts)}x{counts[0]}")
def test_concat_in_onnx_runtime(rng, isa, counts, x_type, y_type):
    for rank, channels_last, relu in itertools.product((2, 4), (0, 1), (0, 1)):
        attributes = {"channels_last": channels_last, "relu": relu}
        pieces = [codes(rng, shape_of(rank, n, channels_last), x_type) for n in counts]
        values = concat_values(rng, counts, x_type, y_type)
        made, feed = concat_model(pieces, values, **attributes)
        check_library(made, feed, want_concat(pieces, values, **attributes), threads=(1,))


@pytest.mark.thorough
@pytest.mark.parametrize("channels_last", [0, 1])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (9, 7), (5, 130), (1, 8)], ids=str)
def test_concat_pooled(rng, isa, channels_last, size):
    for counts, dtype in itertools.product(((3,), (5, 1, 7), (64, 32, 300)), CODES):
        shapes = [(2, *size, n) if channels_last else (2, n, *size) for n in counts]
        pieces, values = [codes(rng, shape, dtype) for shape in shapes], concat_values(rng, counts, dtype, dtype)
        made, feed = concat_model(pieces, values, channels_last=channels_last, pool=2)
        want = want_concat(pieces, values, channels_last=channels_last, pool=2)
        check_library(made, feed, want, threads=(1,))


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize(("x_type", "y_type"), PAIRS)
def test_concat_everywhere(rng, x_type, y_type):
    choices = itertools.product((2, 3, 4, 5), (0, 1))
    for i, (rank, channels_last) in enumerate(choices):
        counts = [(7,), (3, 4), (5, 1, 8)][i % 3]
        pieces = [codes(rng, shape_of(rank, n, channels_last), x_type) for n in counts]
        values = concat_values(rng, counts, x_type, y_type)
        for pool in (0, 2) if rank == 4 else (0,):
            attributes = {"channels_last": channels_last, "relu": i % 2, "pool": pool}
            made, feed = concat_model(pieces, values, opset=(13, 17, 20)[i % 3], **attributes)
            check_everywhere(made, feed, want_concat(pieces, values, **attributes))


SCALES = [(0.03, 0.05, 0.08), (1, 1, 1), (0.5, 1, 1), (1, 1e-30, 2), (300, 0.1, 1)]


@pytest.mark.thorough
@pytest.mark.parametrize(("x_type", "y_type"), PAIRS)
def test_add_in_onnx_runtime(rng, isa, x_type, y_type):
    flags = itertools.product((0, 1), repeat=4)
    for i, (channels_last, relu, with_sum, exact_sum) in enumerate(flags):
        attributes = {
            "channels_last": channels_last, "relu": relu, "with_sum": with_sum, "exact_sum": exact_sum
        }  # fmt: skip
        for shape in ((70, 9), (2, 64, 9, 64)):
            a, b = (codes(rng, shape, x_type) for _ in range(2))
            values = add_values(rng, shape[-1 if channels_last else 1], x_type, y_type, SCALES[i % 5])
            made, feed = add_model(a, b, values, **attributes)
            check_library(made, feed, want_add(a, b, values, **attributes), threads=(1,))


@pytest.mark.thorough
@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("exact_sum", [0, 1])
def test_add_everywhere(rng, scales, exact_sum):
    for i, rank in enumerate((2, 3, 4, 5)):
        attributes = {
            "channels_last": i % 2, "relu": i // 2, "with_sum": int(i < 3), "exact_sum": exact_sum
        }  # fmt: skip
        x_type, y_type = CODES[i % 2], CODES[i // 2]
        a, b = (codes(rng, shape_of(rank, 9, i % 2), x_type) for _ in range(2))
        values = add_values(rng, 9, x_type, y_type, scales)
        made, feed = add_model(a, b, values, opset=(13, 17, 20)[i % 3], **attributes)
        check_everywhere(made, feed, want_add(a, b, values, **attributes))


def test_large_tensors_on_several_threads(rng):
    for channels_last in (0, 1):
        shape = (2, 60, 60, 64) if channels_last else (2, 64, 60, 60)
        a, b = (codes(rng, shape) for _ in range(2))
        values = add_values(rng, 64)
        for exact_sum in (0, 1):
            attributes = {"channels_last": channels_last, "exact_sum": exact_sum}
            made, feed = add_model(a, b, values, **attributes)
            check_library(made, feed, want_add(a, b, values, **attributes))
        values = concat_values(rng, (64, 64))
        for pool in (0, 2):
            attributes = {"channels_last": channels_last, "pool": pool}
            made, feed = concat_model([a, b], values, **attributes)
            check_library(made, feed, want_concat([a, b], values, **attributes))


def test_parameters_that_come_with_the_run(rng):
    pieces = [codes(rng, (2, n, 5, 6)) for n in (3, 4)]
    values = concat_values(rng, (3, 4))
    made, feed = concat_model(pieces, values, inputs=tuple(values))
    assert_same(bno.session(made).run(None, {**feed, **values}), want_concat(pieces, values))
    a, b = pieces[0], codes(rng, (2, 3, 5, 6))
    values = add_values(rng, 3)
    made, feed = add_model(a, b, values, inputs=tuple(values))
    assert_same(bno.session(made).run(None, {**feed, **values}), want_add(a, b, values))


def test_sizes_that_change(rng):
    values = concat_values(rng, (3, 4))
    pieces = [codes(rng, (2, n, 5, 6)) for n in (3, 4)]
    made, _ = concat_model(pieces, values, shapes={"x_0": [None] * 4, "x_1": ["n", None, "h", "w"]})
    session = bno.session(made)
    for counts in ((3, 4), (5, 2), (7, 0), (3, 4)):  # the quantization goes with the piece
        for size in ((2, 3), (0, 4), (9, 8)):
            pieces = [codes(rng, (2, n, *size)) for n in counts]
            feed = {f"x_{i}": x for i, x in enumerate(pieces)}
            assert_same(session.run(None, feed), want_concat(pieces, values))


# --- several kinds of nodes -----------------------------------------------------------------------------------


def two_kinds(rng, **kind):
    values = {f"{n}{i}": v for i, counts in enumerate(((3, 4), (3, 4, 5))) for n, v in
              concat_values(rng, counts).items()}  # fmt: skip
    feed = {f"x_{i}": codes(rng, (2, n, 4, 4)) for i, n in enumerate((3, 4, 5))}
    nodes, want = [], []
    for i, used in enumerate((2, 3)):
        own = {n[:-1]: v for n, v in values.items() if n.endswith(str(i))}
        names = list(feed)[:used]
        inputs = [*(f"{n}{i}" for n in own), *names]
        nodes.append(concat_node(inputs, f"y{i}", f"n{i}", epsilon=EPSILON, channels_last=False, relu=False))
        want += want_concat([feed[n] for n in names], own)
    return model(nodes, feed, values, [(f"y{i}", 2, 4) for i in range(2)], **kind), feed, want


def test_overloads(rng):
    made, feed, want = two_kinds(rng)
    assert made.ir_version == 10
    assert [node.overload for node in made.graph.node] == ["2", "3"]
    onnx.checker.check_model(made, full_check=True)
    check_library(made, feed, want)
    assert_same(stock(made).run(None, feed), want)
    # The evaluator knows no overloads (onnx 1.23); inlined it needs none.
    assert_same(ReferenceEvaluator(inline_local_functions(made)).run(None, feed), want)


def test_one_kind_needs_no_overload(rng):
    pieces = [codes(rng, (2, 3, 4)) for _ in range(2)]
    made, _ = concat_model(pieces, concat_values(rng, (3, 3)), ir=8)
    assert (made.ir_version, [f.overload for f in made.functions]) == (8, ["", ""])
    before = made.SerializeToString()
    add_functions(made)
    assert made.SerializeToString() == before


def test_an_old_opset_is_refused(rng):
    pieces = [codes(rng, (2, 3, 4))]
    with pytest.raises(ValueError, match=r"^model: it has opset 12; bytenorm::QLinearConcatBatchNormalization"):
        concat_model(pieces, concat_values(rng, (3,)), opset=12)


# --- shapes ---------------------------------------------------------------------------------------------------


def test_shapes_are_known_before_the_run(rng):
    pieces = [codes(rng, (2, 9, 7, n)) for n in (3, 4)]
    shapes = {f"x_{i}": ["n", 9, "w", n] for i, n in enumerate((3, 4))}
    made, _ = concat_model(pieces, concat_values(rng, (3, 4)), channels_last=1, pool=2, shapes=shapes)
    n, height, width, channels = bno.session(made).get_outputs()[0].shape
    assert (n, height, channels) == ("n", 4, 7)
    assert width != "w"
    made, _ = concat_model(pieces, concat_values(rng, (3, 4)), channels_last=1, shapes=shapes)
    assert bno.session(made).get_outputs()[0].shape == ["n", 9, "w", 7]
    a, b = (codes(rng, (2, 3, 4)) for _ in range(2))
    made, _ = add_model(a, b, add_values(rng, 3), shapes={"a": ["n", 3, "w"]})
    assert [o.shape for o in bno.session(made).get_outputs()] == [["n", 3, "w"]] * 2


# --- refusals -------------------------------------------------------------------------------------------------


def said_by(work):
    with pytest.raises((*ERRORS, ValueError)) as caught:
        work()
    return str(caught.value)


def native(made, **attributes):
    """Return the model without functions, its node with other attributes."""
    del made.functions[:]
    for name, value in attributes.items():
        for old in [a for a in made.graph.node[0].attribute if a.name == name]:
            made.graph.node[0].attribute.remove(old)
        made.graph.node[0].attribute.append(helper.make_attribute(name, value))
    return made


WRONG_PIECES = [
    (
        [(2, 3, 5), (3, 4, 5)],
        {},
        r"x_1 must have the shape of x_0 but for its channels on axis 1, \[2, 3, 5\]",
    ),
    ([(2, 3, 5), (2, 4, 6)], {}, r"x_1 must have the shape of x_0"),
    ([(2, 3, 5), (2, 4)], {}, r"x_1 must have the shape of x_0"),
    ([(2, 3, 5), (2, 5, 5)], {}, r"scale has 7 values, but x_0 to x_1 have 8 channels together"),
    ([(2, 3, 5), (2, 4, 5)], {"pool": 2}, r"x_0 must have 4 dimensions where attribute pool is 2, got shape"),
    ([(3,), (4,)], {}, r"x_0 must have at least 2 dimensions, got shape \[3\]"),
]


@pytest.mark.parametrize(("shapes", "attributes", "words"), WRONG_PIECES, ids=lambda v: str(v)[:30])
@pytest.mark.parametrize("when", ["creation", "run"])
def test_pieces_that_do_not_fit(rng, shapes, attributes, words, when):
    values = concat_values(rng, (3, 4))
    pieces = [codes(rng, shape) for shape in shapes]
    unknown = {f"x_{i}": None for i in range(2)} if when == "run" else {}
    made, feed = concat_model(pieces, values, shapes=unknown, **attributes)
    if when == "run":
        session = bno.session(native(made))
        said = said_by(lambda: session.run(None, feed))
    else:
        said = said_by(lambda: bno.session(native(made)))
        assert "QLinearConcatBatchNormalization node 'norm': " in said
    assert re.search(words, said), said


def test_pieces_that_are_none_or_of_two_types(rng):
    pieces = [codes(rng, (2, 3, 4)) for _ in range(2)]
    made, _ = concat_model(pieces, concat_values(rng, (3, 3)))
    del made.graph.node[0].input[8:]
    assert "QLinearConcatBatchNormalization" in said_by(lambda: bno.session(native(made)))
    made, _ = concat_model([pieces[0], pieces[1].view(np.int8)], concat_values(rng, (3, 3)))
    assert "QLinearConcatBatchNormalization" in said_by(lambda: bno.session(native(made)))


CONCAT_VALUES = [
    ("x_scales", [0.1], r"x_scales must have one value for each of the 2 pieces, got shape \[1\]"),
    ("x_zero_points", [[1, 2]], r"x_zero_points must have one value for each of the 2 pieces, got shape \[1, 2\]"),
    ("x_scales", [0.1, 0], r"x_scales\[1\] must be positive and finite, and so must its reciprocal, got 0"),
    ("B", [1, 2, 3], r"B has 3 values, but x_0 to x_1 have 6 channels together: one a channel is wanted"),
    ("scale", [1, 2, 3, 4, 5, 3e38], r"the slope of channel 5, .* x_scales / y_scale, overflows float32"),
]


@pytest.mark.parametrize(("name", "value", "words"), CONCAT_VALUES, ids=lambda v: str(v)[:20])
def test_concat_parameters_that_are_wrong(rng, name, value, words):
    values = concat_values(rng, (3, 3))
    values["x_scales"][:], values["input_var"][:] = 2, 1
    values[name] = np.asarray(value, values[name].dtype)
    made, _ = concat_model([codes(rng, (2, 3, 4)) for _ in range(2)], values)
    said = said_by(lambda: bno.session(native(made)))
    assert re.search(words, said), said


ADD_VALUES = [
    ("s_scale", [0.1, 0.2], r"s_scale must be one value, got shape \[2\]"),
    ("s_scale", 0.0, r"s_scale must be positive and finite"),
    ("s_zero_point", [], r"s_zero_point must be one value, got shape \[0\]"),
    ("a_scale", [0.1, 0.2, 0.3], r"a_scale must be one value, got shape \[3\]"),
    ("B", [1, 2], r"B has 2 values, but a of shape \[2, 3, 4\] has 3 channels on axis 1"),
    ("b_scale", 3e38, r"b_scale / s_scale overflows float32"),
]


@pytest.mark.parametrize(("name", "value", "words"), ADD_VALUES, ids=lambda v: str(v)[:20])
def test_add_parameters_that_are_wrong(rng, name, value, words):
    values = add_values(rng, 3)
    values[name] = np.asarray(value, values[name].dtype)
    made, _ = add_model(*(codes(rng, (2, 3, 4)) for _ in range(2)), values)
    said = said_by(lambda: bno.session(native(made)))
    assert "QLinearAddBatchNormalization node 'norm': " in said
    assert re.search(words, said), said


def test_summands_that_differ(rng):
    a, b, values = codes(rng, (2, 3, 4)), codes(rng, (2, 3, 5)), add_values(rng, 3)
    made, feed = add_model(a, b, values)
    assert "b must have the shape of a, [2, 3, 4], got [2, 3, 5]" in said_by(lambda: bno.session(native(made)))
    made, feed = add_model(a, b, values, shapes={"a": None, "b": None})
    session = bno.session(native(made))
    assert "b must have the shape of a, [2, 3, 4], got [2, 3, 5]" in said_by(lambda: session.run(None, feed))
    assert "a must have 3 channels on axis 1" in said_by(lambda: session.run(None, {"a": b[:, :2], "b": b[:, :2]}))


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"pool": 3}, "attribute pool must be 0 or 2, got 3"),
        ({"pool": 2.0}, "attribute pool must be an integer, 0 or 2, got another type"),
        ({"channels_last": 2}, "attribute channels_last must be 0 or 1, got 2"),
        ({"epsilon": -1.0}, "attribute epsilon must not be negative and must be finite, got -1"),
    ],
    ids=str,
)
def test_concat_attributes_that_are_wrong(rng, attributes, words):
    made, _ = concat_model([codes(rng, (2, 3, 4, 4))], concat_values(rng, (3,)))
    assert words in said_by(lambda: bno.session(native(made, **attributes)))


def test_add_attributes_that_are_wrong(rng):
    a, b, values = codes(rng, (2, 3, 4)), codes(rng, (2, 3, 4)), add_values(rng, 3)
    for with_sum, attributes, words in (
        (1, {"with_sum": 0}, "the node has an output s, but attribute with_sum is 0"),
        (1, {"exact_sum": 2}, "attribute exact_sum must be 0 or 1, got 2"),
        (0, {"relu": 1.0}, "attribute relu must be an integer, 0 or 1, got another type"),
    ):
        made, _ = add_model(a, b, values, with_sum=with_sum)
        assert words in said_by(lambda made=made, attributes=attributes: bno.session(native(made, **attributes)))


FUNCTIONS = [
    *(concat_function(13, 3, channels_last=last, pool=pool) for last in (False, True) for pool in (0, 2)),
    *(sum_function(13, with_sum=given, exact_sum=exact) for given in (False, True) for exact in (False, True)),
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f"{f.name}-{len(f.node)}")
def test_functions_make_each_tensor_once_and_read_it(function):
    made = [*function.input, *(name for node in function.node for name in node.output)]
    assert len(set(made)) == len(made)
    read = {name for node in function.node for name in node.input} | set(function.output)
    assert set(made) - read <= set(function.input)


def test_operators_read_what_onnx_runtime_says():
    """Scales and zero points are where the operators of ONNX and ONNX Runtime have them."""
    schemas = ort.capi.onnxruntime_pybind11_state.get_all_operator_schema()
    there = {schema.name: schema for schema in schemas if schema.name in ON_CODES}
    assert set(there) == set(ON_CODES) - set(NORMS)
    for name, schema in there.items():
        theirs = [given.name.lower() for given in schema.inputs if given.name != "inputs"]
        for end in ("_scale", "_zero_point"):
            assert [n.endswith(end) for n in theirs] == [n.endswith(end) for n in ON_CODES[name].inputs]
