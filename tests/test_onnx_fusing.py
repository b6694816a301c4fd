"""Norms in one operator with the concatenation or the sum that they read: the library's bits, and what is left."""

import itertools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from norm_models import Nodes, random_norm, serialized
from onnx.reference import ReferenceEvaluator

import bytenorm as bn
from bytenorm import onnx as bno
from bytenorm.onnx.lowering.lower import lower_with_report

FORMATS = ["QDQ", "QOperator"]
BYTES = (np.uint8, np.int8)
PAIRS = [pytest.param(a, b, id=f"{a.__name__}-{b.__name__}") for a in BYTES for b in BYTES]
NO_LIMITS, RELU = (-np.inf, np.inf), (0.0, np.inf)
PLANES = {2: (), 3: (9,), 4: (5, 6), 5: (3, 4, 5)}


def options(threads=1, save=None):
    made = ort.SessionOptions()
    made.intra_op_num_threads, made.inter_op_num_threads = threads, 1
    made.log_severity_level = 3
    if save is not None:
        made.optimized_model_filepath = str(save)
    return made


def results(model, feeds):
    """Return the outputs of a model in ONNX Runtime with our library and without, and in ONNX's evaluator."""
    for threads in (1, 2):
        yield bno.session(model, options(threads)).run(None, feeds)
    yield ort.InferenceSession(model.SerializeToString(), options(), providers=["CPUExecutionProvider"]).run(
        None, feeds
    )
    # The evaluator knows neither the runtime's own operators nor overloads of functions.
    if not any(node.domain == "com.microsoft" or node.overload for node in model.graph.node):
        yield ReferenceEvaluator(model).run(None, feeds)


def fuse(model, want):
    """Lower a model and look that it is left as it was, that the result is valid, and what was fused."""
    before = serialized(model)
    made, outcomes = lower_with_report(model, lowering="fused")
    assert serialized(model) == before
    assert [o.pattern for o in outcomes] == want
    assert not [o.problem for o in outcomes if o.problem]
    onnx.checker.check_model(made, full_check=True)
    return made


def ops(model):
    return [node.op_type for node in model.graph.node]


class Graph(Nodes):
    """A graph of codes in either format; `codes` knows the quantization of each tensor of codes."""

    def __init__(self, rng, form="QDQ", rank=4, byte=np.uint8, plane=None):
        super().__init__()
        self.rng, self.form, self.rank, self.byte = rng, form, rank, byte
        self.plane = list(PLANES[rank] if plane is None else plane)
        self.codes = {}
        self.feeds = {}

    def quantized(self, name, scale, zero_point, byte=None):
        byte = self.byte if byte is None else byte
        self.codes[name] = (np.float32(scale), np.asarray(zero_point, byte))
        return self.quantization(f"{name}/q", *self.codes[name])

    def names(self, name):
        return [f"{name}/q_scale", f"{name}/q_zero_point"]

    def piece(self, name, channels, *, scale=None, last=False):
        """Add an input of codes."""
        lowest = np.iinfo(self.byte).min
        self.quantized(name, scale or self.rng.uniform(0.01, 0.05), lowest + int(self.rng.integers(90, 160)))
        shape = [channels, *self.plane] if not last else [*self.plane, channels]
        self.input(name, self.byte, ["n", *shape])
        self.feeds[name] = self.rng.integers(lowest, lowest + 256, (16, *shape)).astype(self.byte)
        return name

    def real(self, name):
        made = f"{name}/real"
        if made not in {output for node in self.nodes for output in node.output}:
            self.node("DequantizeLinear", [name, *self.names(name)], made)
        return made

    def joined(self, op, parts, name, *, scale=None, zero=125, **attributes):
        """Add a concatenation or a sum with a quantization of its own: `zero` of the 255 steps are below 0."""
        scales = [float(self.codes[part][0]) for part in parts]
        wide = max(scales) * 1.7 if op == "Concat" else sum(scales)
        self.quantized(name, scale or wide, np.iinfo(self.byte).min + zero)
        if self.form == "QDQ":
            made = self.node(op, [self.real(part) for part in parts], f"{name}/float", **attributes)
            return self.node("QuantizeLinear", [made, *self.names(name)], name)
        triples = [text for part in parts for text in (part, *self.names(part))]
        inputs = [*self.names(name), *triples] if op == "Concat" else [*triples, *self.names(name)]
        return self.node(f"QLinear{op}", inputs, name, domain="com.microsoft", **attributes)

    def norm(self, source, name, norm, *, transposed=None):
        """Add a norm with its activation, as `y`."""
        last = self.real(source)
        if transposed:
            last = self.node("Transpose", [last], f"{name}/transposed", perm=transposed)
            quantization = self.quantization(f"{name}/moved", *self.codes[source])
            last = self.node("QuantizeLinear", [last, *quantization], f"{name}/moved")
            last = self.node("DequantizeLinear", [last, *quantization], f"{name}/moved/real")
        parameters = [self.constant(f"{name}/{p}", getattr(norm, p)) for p in ("weight", "bias", "mean", "var")]
        last = self.node("BatchNormalization", [last, *parameters], f"{name}/n", name=name, epsilon=norm.epsilon)
        if norm.limits == RELU:
            last = self.node("Relu", [last], f"{name}/relu")
        elif norm.limits != NO_LIMITS:
            limits = [self.constant(f"{name}/{i}", limit, np.float32) for i, limit in enumerate(norm.limits)]
            last = self.node("Clip", [last, *limits], f"{name}/clip")
        made = f"{name}/y"
        names = self.quantized(made, norm.y_scale, norm.y_zero_point, norm.y_zero_point.dtype)
        self.node("QuantizeLinear", [last, *names], made)
        return made

    def model(self, opset=19, ir=9):  # the first opset whose conversions ONNX's evaluator has
        return super().model(opset, ir)

    def result(self, name, channels, *, plane=None, byte=None, last=False):
        plane = self.plane if plane is None else list(plane)
        shape = [channels, *plane] if not last else [*plane, channels]
        self.output(name, self.byte if byte is None else byte, ["n", *shape])

    def tensor(self, name, values=None):
        scale, zero_point = self.codes[name]
        return bn.QuantizedTensor(self.feeds[name] if values is None else values, float(scale), int(zero_point))


def batch_norm(norm, axis=1):
    """Return the norm as the library has it, without its activation."""
    dtype = {np.dtype(np.uint8): bn.quint8, np.dtype(np.int8): bn.qint8}[norm.y_zero_point.dtype]
    return bn.BatchNorm(
        norm.weight, norm.bias, norm.mean, norm.var, eps=float(np.float32(norm.epsilon)), axis=axis,
        output_scale=float(norm.y_scale), output_zero_point=int(norm.y_zero_point), output_dtype=dtype,
    )  # fmt: skip


def activated(norm, codes):
    info = np.iinfo(codes.dtype)
    low, high = (np.rint(np.float64(x) / norm.y_scale) + norm.y_zero_point for x in norm.limits)
    return np.clip(codes, max(low, info.min), min(high, info.max)).astype(codes.dtype)


# --- concatenations ---------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize(("x_type", "y_type"), PAIRS)
@pytest.mark.parametrize("limits", [NO_LIMITS, RELU, (-1.5, 0.7)], ids=["alone", "relu", "hardtanh"])
@pytest.mark.parametrize("form", FORMATS)
def test_concatenation(rng, form, limits, x_type, y_type):
    for rank in (2, 3, 4, 5):
        g = Graph(rng, form, rank, x_type)
        parts = [g.piece(f"p{i}", channels) for i, channels in enumerate((3, 1, 4))]
        norm = random_norm(rng, 8, y_type=y_type, limits=limits)
        g.result(g.norm(g.joined("Concat", parts, "j", axis=1), "norm", norm), 8, byte=y_type)
        made = fuse(g.model(), ["concat"])
        assert ops(made).count("QLinearConcatBatchNormalization") == 1
        assert not {"QuantizeLinear", "DequantizeLinear", "Concat", "QLinearConcat", "Relu"} & set(ops(made))
        assert ops(made).count("Transpose") == (4 if rank > 2 else 0)
        want = activated(norm, bn.concat_batch_norm([g.tensor(p) for p in parts], batch_norm(norm)).data)
        assert len(np.unique(want)) > 15
        for (got,) in results(made, g.feeds):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("form", FORMATS)
def test_concatenations_in_concatenations(rng, form):
    """Each layer of a dense block joins what the layer before joined: all of it is read from the pieces."""
    g = Graph(rng, form)
    first, second, third = (g.piece(f"p{i}", c) for i, c in enumerate((4, 2, 2)))
    inner = g.joined("Concat", [first, second], "inner", axis=1)
    outer = g.joined("Concat", [inner, third], "outer", axis=1)
    norms = [random_norm(rng, 6, limits=RELU), random_norm(rng, 8)]
    for source, norm in zip((inner, outer), norms, strict=True):
        g.result(g.norm(source, f"norm of {source}", norm), len(norm.weight))
    made = fuse(g.model(), ["concat", "concat"])
    assert not {"Concat", "QLinearConcat"} & set(ops(made))
    assert ops(made).count("Transpose") == 5  # one for each piece, whoever reads it, and for each norm
    assert (made.ir_version, [len(n.input) for n in made.graph.node if "Concat" in n.op_type]) == (10, [10, 11])
    for got in results(made, g.feeds):
        for y, norm, parts in zip(got, norms, ((first, second), (first, second, third)), strict=True):
            want = bn.concat_batch_norm([g.tensor(p) for p in parts], batch_norm(norm)).data
            np.testing.assert_array_equal(y, activated(norm, want))


@pytest.mark.parametrize("form", FORMATS)
def test_a_concatenation_that_others_read_stays(rng, form):
    g = Graph(rng, form)
    parts = [g.piece("p", 3), g.piece("q", 5)]
    norm = random_norm(rng, 8)
    joined = g.joined("Concat", parts, "j", axis=1)
    g.result(g.norm(joined, "norm", norm), 8)
    g.result(joined, 8)
    model = g.model()
    made = fuse(model, ["concat"])
    kept = bno.session(model, options()).run(["j"], g.feeds)[0]
    want = bn.concat_batch_norm([g.tensor(p) for p in parts], batch_norm(norm)).data
    for y, j in results(made, g.feeds):
        np.testing.assert_array_equal(y, want)
        assert np.abs(j.astype(int) - kept).max() <= (form == "QOperator")


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_concatenation_with_channels_last(rng, rank):
    """As converters from TensorFlow write it: the axes move before and behind the norm. Here nothing moves."""
    g = Graph(rng, "QDQ", rank)
    parts = [g.piece(f"p{i}", channels, last=True) for i, channels in enumerate((3, 5))]
    norm = random_norm(rng, 8, limits=RELU)
    to_first, to_last = [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1]
    made = g.norm(g.joined("Concat", parts, "j", axis=-1), "norm", norm, transposed=to_first)
    g.node("Transpose", [made], "y", perm=to_last)
    g.result("y", 8, last=True)
    made = fuse(g.model(), ["concat"])
    assert ops(made).count("Transpose") == 2  # which undo one another
    joined = next(node.output[0] for node in made.graph.node if node.op_type == "QLinearConcatBatchNormalization")
    told = {value.name: value.type.tensor_type.elem_type for value in made.graph.value_info}
    assert told[joined] == onnx.TensorProto.UINT8  # ONNX Runtime 1.17 finds no type there
    want = activated(norm, bn.concat_batch_norm([g.tensor(p) for p in parts], batch_norm(norm, -1)).data)
    for (got,) in results(made, g.feeds):
        np.testing.assert_array_equal(got, want)


def test_a_size_that_nobody_knows(rng):
    """Without a rank there is no way to move axes: the operator takes the channels from axis 1."""
    g = Graph(rng)
    parts = [g.piece(f"p{i}", channels) for i, channels in enumerate((3, 5))]
    norm = random_norm(rng, 8)
    g.result(g.norm(g.joined("Concat", parts, "j", axis=1), "norm", norm), 8)
    model = g.model()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    made, outcomes = lower_with_report(model, lowering="fused")
    assert [(o.problem, o.pattern) for o in outcomes] == [("", "concat")]
    assert ops(made) == ["QLinearConcatBatchNormalization"]
    want = bn.concat_batch_norm([g.tensor(p) for p in parts], batch_norm(norm)).data
    np.testing.assert_array_equal(bno.session(made, options()).run(None, g.feeds)[0], want)


# --- averages behind a convolution ------------------------------------------------------------------------------


def transition(rng, form, *, bias=True, limits=RELU, plane=(8, 8)):
    """Return a graph that ends as a dense block of a DenseNet does, the norm, and the weights in real numbers."""
    g = Graph(rng, form, plane=plane)
    parts = [g.piece(f"p{i}", channels) for i, channels in enumerate((6, 2))]
    norm = random_norm(rng, 8, limits=limits)
    y = g.norm(g.joined("Concat", parts, "j", axis=1), "norm", norm)
    codes = rng.integers(-60, 61, (4, 8, 1, 1)).astype(np.int8)
    x_scale, w_scale = np.float32(norm.y_scale), np.float32(0.01)
    addend = rng.integers(-900, 900, 4).astype(np.int32) * bias
    names = [*g.quantization("w", w_scale, np.int8(0))]
    weight = g.constant("w", codes)
    b = [g.constant("b", addend, np.int32)] * bias
    c, out = g.quantized("c", 0.05, 130), g.quantized("out", 0.04, 120)
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    if form == "QDQ":
        inputs = [g.real(y), g.node("DequantizeLinear", [weight, *names], "w/real")]
        if bias:
            q = g.quantization("b/q", x_scale * w_scale, np.int32(0))
            inputs.append(g.node("DequantizeLinear", [*b, *q], "b/real"))
        g.node("QuantizeLinear", [g.node("Conv", inputs, "conv", kernel_shape=[1, 1]), *c], "c")
        averaged = g.node("AveragePool", [g.real("c")], "pool", **pool)
        g.node("QuantizeLinear", [averaged, *out], "out")
    else:
        g.node("QLinearConv", [y, *g.names(y), weight, *names, *c, *b], "c", kernel_shape=[1, 1])
        g.node("QLinearAveragePool", ["c", *c, *out], "out", domain="com.microsoft", **pool)
    g.result("out", 4, plane=[n // 2 for n in plane])
    real = codes[:, :, 0, 0] * np.float64(w_scale), addend * np.float64(x_scale * w_scale)
    return g, parts, norm, real


@pytest.mark.parametrize("limits", [NO_LIMITS, RELU], ids=["alone", "relu"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("form", FORMATS)
def test_averages_change_places_with_a_convolution(rng, form, bias, limits):
    for plane in ((8, 8), (7, 9)):
        g, parts, norm, (weight, addend) = transition(rng, form, bias=bias, limits=limits, plane=plane)
        made = fuse(g.model(), ["concat + pool"])
        assert not {"AveragePool", "QLinearAveragePool"} & set(ops(made))
        codes = activated(norm, bn.concat_batch_norm([g.tensor(p) for p in parts], batch_norm(norm)).data)
        codes = codes[:, :, : plane[0] // 2 * 2, : plane[1] // 2 * 2].astype(np.float64)
        mean = sum(codes[:, :, i::2, j::2] for i, j in itertools.product((0, 1), repeat=2)) / 4
        read = (np.rint(mean) - float(norm.y_zero_point)) * float(norm.y_scale)
        real = np.einsum("oi,nihw->nohw", weight, read) + addend.reshape(-1, 1, 1)
        want = np.clip(np.rint(real / np.float32(0.04)) + 120, 0, 255)
        for (got,) in results(made, g.feeds):
            assert np.abs(got - want).max() <= 1  # the runtime's own rounding of a convolution
            assert np.mean(got != want) < 0.01


@pytest.mark.parametrize("form", FORMATS)
def test_averages_are_as_close_to_float_as_before(rng, form):
    g, parts, norm, (weight, addend) = transition(rng, form)
    gain, shift = norm.weight / np.sqrt(norm.var + norm.epsilon), norm.bias
    x = np.concatenate([np.asarray(g.tensor(p)) for p in parts], 1).astype(np.float64)
    axes = (-1, 1, 1)
    y = np.maximum((x - norm.mean.reshape(axes)) * gain.reshape(axes) + shift.reshape(axes), 0)
    y = np.minimum(y, (255 - float(norm.y_zero_point)) * float(norm.y_scale))  # all saturate here
    conv = np.einsum("oi,nihw->nohw", weight, y) + addend.reshape(axes)
    want = sum(conv[:, :, i::2, j::2] for i, j in itertools.product((0, 1), repeat=2)) / 4
    noise = {}
    for lowering in ("exact", "fused"):
        (codes,) = bno.session(bno.lower(g.model(), lowering=lowering), options()).run(None, g.feeds)
        inside = (codes > 0) & (codes < 255)
        noise[lowering] = np.std(((codes - 120.0) * np.float32(0.04) - want)[inside])
    assert noise["fused"] < noise["exact"]


# --- sums -------------------------------------------------------------------------------------------------------


def summed(g, norm, a="a", b="b", total="s", *, exact=True):
    """Return what the library makes of two tensors: the norm of their sum, and the sum."""
    scale, zero_point = g.codes[total]
    y, s = bn.add_batch_norm(
        g.tensor(a), g.tensor(b), batch_norm(norm), sum_scale=float(scale), sum_zero_point=int(zero_point),
        exact_sum=exact,
    )  # fmt: skip
    return activated(norm, y.data), s.data


@pytest.mark.thorough
@pytest.mark.parametrize(("x_type", "y_type"), PAIRS)
@pytest.mark.parametrize("limits", [NO_LIMITS, RELU, (-1.5, 0.7)], ids=["alone", "relu", "hardtanh"])
@pytest.mark.parametrize("form", FORMATS)
def test_sum(rng, form, limits, x_type, y_type):
    """Of int8, conversions of the sum alone become uint8: in QDQ format such a model mixes types, and is not."""
    for rank, needed in itertools.product((2, 3, 4, 5), (False, True)):
        g = Graph(rng, form, rank, x_type)
        parts = [g.piece("a", 8), g.piece("b", 8)]
        norm = random_norm(rng, 8, y_type=y_type, limits=limits)
        g.result(g.norm(g.joined("Add", parts, "s"), "norm", norm), 8, byte=y_type)
        if needed:
            g.result("s", 8)
        model = g.model()
        before = serialized(model)
        made, outcomes = lower_with_report(model, lowering="fused", keep_int8=True)
        assert serialized(model) == before
        assert [(o.pattern, o.unfused, o.problem) for o in outcomes] == [("add", "", "")]
        onnx.checker.check_model(made, full_check=True)
        assert ops(made).count("QLinearAddBatchNormalization") == 1
        assert not {"QuantizeLinear", "DequantizeLinear", "Add", "QLinearAdd", "Relu"} & set(ops(made))
        assert ops(made).count("Transpose") == (3 + needed if rank > 2 else 0)
        assert made.ir_version == 9
        want = summed(g, norm)[: 1 + needed]
        assert len(np.unique(want[0])) > 15
        for got in results(made, g.feeds):
            for one, other in zip(got, want, strict=True):
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("byte", BYTES)
@pytest.mark.parametrize("zero", [0, 255])
def test_a_norm_of_a_sum_that_is_cut_reads_its_codes(rng, form, byte, zero):
    """Rounding may do the work of a Relu that a quantizer dropped: the real sum has numbers of both signs."""
    g = Graph(rng, form, byte=byte)
    norm = random_norm(rng, 8, y_type=byte)
    g.result(g.norm(g.joined("Add", [g.piece("a", 8), g.piece("b", 8)], "s", zero=zero), "norm", norm), 8)
    g.result("s", 8)
    made, outcomes = lower_with_report(g.model(), lowering="fused", keep_int8=True)
    assert [(o.pattern, o.unfused, o.problem) for o in outcomes] == [("add", "", "")]
    want = summed(g, norm, exact=False)
    assert np.mean(want[0] != summed(g, norm)[0]) > 0.2
    for got in results(made, g.feeds):
        for one, other in zip(got, want, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("most", "cuts"), [(2.0, True), (5.0, False)])
@pytest.mark.parametrize("joint", ["Add", "Concat"])
def test_codes_inside_a_norm_cut_what_is_not_rounded(joint, most, cuts):
    """Between its steps codes hold twice what the rounded one may be, and perhaps not what is not rounded."""
    whole, channels = {"Add": ("Add(a, b)", 2), "Concat": ("Concat<axis = 1>(e, e)", 4)}[joint]
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
        g (uint8[1, 2, 256, 256] x, uint8[1, 2, 256, 256] z) => (uint8[1, C, H, W] y)
        <float s = {{{2 / 127}}}, float half = {{{1 / 127}}}, uint8 zero = {{128}},
         float middle = {{{most / 127}}}, float out = {{{4 / 127}}}> {{
            a = DequantizeLinear(x, s, zero) b = DequantizeLinear(z, s, zero)
            q = QuantizeLinear(b, s, zero) p = MaxPool<kernel_shape = [1, 1]>(q) e = DequantizeLinear(p, s, zero)
            m = {whole} c = QuantizeLinear(m, half, zero) r = DequantizeLinear(c, half, zero)
            t = Mul(r, two) u = QuantizeLinear(t, middle, zero) v = DequantizeLinear(u, middle, zero)
            w = Add(v, shift) y = QuantizeLinear(w, out, zero) }}""")
    for name, value in (("two", 2.0), ("shift", -0.5)):
        vector = np.full((channels, 1, 1), value, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(vector, name))
    x, z = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    feeds = {"x": np.stack([x, x])[None], "z": np.stack([z, z])[None]}
    made, (outcome,) = lower_with_report(model, lowering="fused")
    want = ort.InferenceSession(model.SerializeToString()).run(None, feeds)[0].astype(int)
    off = np.abs(bno.session(made).run(None, feeds)[0] - want)
    assert outcome.problem == ""
    assert (off.max() <= 1) == cuts  # else it passes on what the codes of the whole cut off


def test_a_norm_reads_codes_where_a_summand_would_overflow_its_slope(rng):
    """Of the sum's scale the slope is a float32, of a summand's it is not."""
    g = Graph(rng, plane=(3, 3))
    norm = random_norm(rng, 8)
    norm.weight[:] = 1e20
    parts = [g.piece("a", 8, scale=1e20), g.piece("b", 8, scale=1.0)]
    g.result(g.norm(g.joined("Add", parts, "s", scale=1.0), "norm", norm), 8)
    made = fuse(g.model(), ["add"])
    (node,) = [n for n in made.graph.node if n.op_type == "QLinearAddBatchNormalization"]
    assert [a.i for a in node.attribute if a.name == "exact_sum"] == [0]
    want, _ = summed(g, norm, exact=False)
    for (got,) in results(made, g.feeds):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("form", FORMATS)
def test_a_sum_is_that_of_the_runtime(rng, form):
    """The exact lowering leaves it there: at most a step in some elements of ten thousand, from roundings."""
    g = Graph(rng, form, plane=(24, 24))
    norm = random_norm(rng, 8, limits=RELU)
    g.result(g.norm(g.joined("Add", [g.piece("a", 8), g.piece("b", 8)], "s", zero=0), "norm", norm), 8)
    g.result("s", 8)
    y, s = (
        [o.astype(int) for o in bno.session(bno.lower(g.model(), lowering=way), options()).run(None, g.feeds)]
        for way in ("exact", "fused")
    )
    for one, other, most in zip(y, s, (0.002, 0.001), strict=True):
        assert np.mean(one != other) <= most
    assert np.abs(y[1] - s[1]).max() <= 1


@pytest.mark.parametrize("form", FORMATS)
def test_the_norm_of_a_sum_is_closer_to_float(rng, form):
    """It takes the sum before it is rounded to codes."""
    g = Graph(rng, form, plane=(24, 24))
    norm = random_norm(rng, 8)
    g.result(g.norm(g.joined("Add", [g.piece("a", 8), g.piece("b", 8)], "s"), "norm", norm), 8)
    axes = (-1, 1, 1)
    gain = norm.weight / np.sqrt(norm.var.astype(np.float64) + norm.epsilon)
    real = sum(np.asarray(g.tensor(part)).astype(np.float64) for part in "ab")
    want = (real - norm.mean.reshape(axes)) * gain.reshape(axes) + norm.bias.reshape(axes)
    error = {}
    for lowering in ("exact", "fused"):
        (codes,) = bno.session(bno.lower(g.model(), lowering=lowering), options()).run(None, g.feeds)
        got = (codes - float(norm.y_zero_point)) * float(norm.y_scale)
        error[lowering] = np.abs(got - want)[(codes > 0) & (codes < 255)].max() / float(norm.y_scale)
    assert error["fused"] < 0.501
    assert error["exact"] > 0.55


@pytest.mark.parametrize("form", FORMATS)
def test_a_chain_of_sums(rng, form):
    """As in a residual network: a sum goes on to the next one, the last one to its norm alone."""
    g = Graph(rng, form)
    a, b, c = (g.piece(name, 8) for name in "abc")
    norms = [random_norm(rng, 8, limits=RELU) for _ in range(2)]
    first = g.joined("Add", [a, b], "s")
    g.result(g.norm(first, "first", norms[0]), 8)
    g.result(g.norm(g.joined("Add", [first, c], "t"), "second", norms[1]), 8)
    made = fuse(g.model(), ["add", "add"])
    outputs = {n.name: len(n.output) for n in made.graph.node if n.op_type == "QLinearAddBatchNormalization"}
    assert sorted(outputs.values()) == [1, 2]
    assert not {"QuantizeLinear", "DequantizeLinear", "Add", "QLinearAdd"} & set(ops(made))
    y, s = summed(g, norms[0])
    scale, zero_point = g.codes["t"]
    z, _ = bn.add_batch_norm(
        g.tensor("s", s),
        g.tensor("c"),
        batch_norm(norms[1]),
        sum_scale=float(scale),
        sum_zero_point=int(zero_point),
        exact_sum=True,
    )
    for got in results(made, g.feeds):
        np.testing.assert_array_equal(got[0], y)
        np.testing.assert_array_equal(got[1], activated(norms[1], z.data))


def test_two_norms_of_one_sum(rng):
    """One makes it, the other reads it."""
    g = Graph(rng)
    s = g.joined("Add", [g.piece("a", 8), g.piece("b", 8)], "s")
    norms = [random_norm(rng, 8, limits=RELU), random_norm(rng, 8)]
    for i, norm in enumerate(norms):
        g.result(g.norm(s, f"norm{i}", norm), 8)
    made = fuse(g.model(), ["add", "single"])
    want = [summed(g, norm, exact=norm is norms[0])[0] for norm in norms]
    for got in results(made, g.feeds):
        for one, other in zip(got, want, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_sum_in_a_concatenation(rng):
    """A piece that another operator has to give out."""
    g = Graph(rng)
    s = g.joined("Add", [g.piece("a", 5), g.piece("b", 5)], "s")
    norms = [random_norm(rng, 5, limits=RELU), random_norm(rng, 8)]
    g.result(g.norm(s, "sum", norms[0]), 5)
    g.result(g.norm(g.joined("Concat", [s, g.piece("c", 3)], "j", axis=1), "concat", norms[1]), 8)
    made = fuse(g.model(), ["add", "concat"])
    y, total = summed(g, norms[0])
    z = bn.concat_batch_norm([g.tensor("s", total), g.tensor("c")], batch_norm(norms[1]))
    for got in results(made, g.feeds):
        np.testing.assert_array_equal(got[0], y)
        np.testing.assert_array_equal(got[1], z.data)


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_sum_with_channels_last(rng, rank):
    g = Graph(rng, "QDQ", rank)
    parts = [g.piece(name, 8, last=True) for name in "ab"]
    norm = random_norm(rng, 8, limits=RELU)
    to_first, to_last = [0, rank - 1, *range(1, rank - 1)], [0, *range(2, rank), 1]
    y = g.norm(g.joined("Add", parts, "s"), "norm", norm, transposed=to_first)
    g.node("Transpose", [y], "y", perm=to_last)
    g.result("y", 8, last=True)
    g.result("s", 8, last=True)
    made = fuse(g.model(), ["add"])
    assert ops(made).count("Transpose") == 2  # which undo one another
    scale, zero_point = g.codes["s"]
    want = bn.add_batch_norm(
        *map(g.tensor, parts), batch_norm(norm, -1), sum_scale=float(scale), sum_zero_point=int(zero_point),
        exact_sum=True,
    )  # fmt: skip
    for y, s in results(made, g.feeds):
        np.testing.assert_array_equal(y, activated(norm, want[0].data))
        np.testing.assert_array_equal(s, want[1].data)


# --- what the model needs then ----------------------------------------------------------------------------------


def test_the_ir_version_rises_only_where_it_must(rng):
    """Overloads of a function, for several numbers of pieces, came with IR version 10."""
    g = Graph(rng)
    parts = [g.piece("p", 3), g.piece("q", 5)]
    joined = g.joined("Concat", parts, "j", axis=1)
    g.result(g.norm(joined, "first", random_norm(rng, 8)), 8)
    assert fuse(g.model(), ["concat"]).ir_version == 9
    g.result(g.norm(g.joined("Concat", [*parts, "p"], "k", axis=1), "second", random_norm(rng, 11)), 11)
    made = fuse(g.model(), ["concat", "concat"])
    assert made.ir_version == 10
    assert [entry.version for entry in made.opset_import if not entry.domain] == [19]


def test_an_old_opset_is_refused(rng):
    g = Graph(rng)
    joined = g.joined("Concat", [g.piece("p", 3), g.piece("q", 5)], "j", axis=1)
    g.result(g.norm(joined, "norm", random_norm(rng, 8)), 8)
    with pytest.warns(bno.LoweringWarning, match="opset 12, the operator's function needs 13"):
        bno.lower(g.model(opset=12, ir=7), lowering="fused")


def test_a_fused_model_is_inspected(rng):
    g, *_ = transition(rng, "QDQ")
    (norm,) = bno.inspect(fuse(g.model(), ["concat + pool"])).norms
    assert (norm.name, norm.written) == ("norm/QLinearConcatBatchNormalization", "QLinearConcatBatchNormalization")
    assert (norm.channels, norm.reads, norm.runs_in) == (8, "input p0 and input p1", "8-bit")
    assert (norm.pattern, norm.unfused, norm.lowerable) == ("concat + pool", "", False)


def test_a_fused_model_is_not_lowered_again(rng):
    g, *_ = transition(rng, "QDQ")
    with pytest.raises(ValueError, match=r"^model: its norms are lowered already \('fused'\)$"):
        bno.lower(fuse(g.model(), ["concat + pool"]), lowering="exact")
