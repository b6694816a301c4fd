"""Which norms are computed together with a concatenation or a sum, and why others are not."""

import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from bytenorm import onnx as bno
from bytenorm.onnx.fusion.concats_and_sums import Concatenation, Sum, find_patterns
from bytenorm.onnx.graph.graph import Graph
from bytenorm.onnx.norms.find import find_norms

U8, I8 = np.uint8, np.int8


def model(text, *, opset=17, **arrays):
    """Return a model: the text of its graph, and its initializers beside those that all have."""
    header = f'<ir_version: 9, opset_import: ["": {opset}, "com.microsoft": 1]> g'
    made = parser.parse_model(f"{header} {text}")
    common = {
        "s": np.float32(0.05), "z": U8(128), "s1": np.float32(0.03), "z1": U8(100), "s2": np.float32(0.02),
        "z2": U8(140), "t": np.float32(0.04), "u": U8(60), "r": np.float32(0.1), "rz": U8(120), "i8": I8(-3),
        "w": np.float32([0.5, -2, 0.25, 1]), "b": np.float32([1, 0.25, -3, 0]),
        "m": np.float32([0.3, -0.1, 2, 0]), "v": np.float32([1.5, 0.2, 4, 1]),
    }  # fmt: skip
    made.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in {**common, **arrays}.items()
    )
    return made


def patterns(made):
    """Return the pattern of each norm by its name."""
    graph = Graph(made)
    norms = find_norms(graph)
    assert not [norm.problem for norm in norms if norm.problem]
    found = find_patterns(graph, [norm.site() for norm in norms])
    return {norm.name: pattern for norm, pattern in zip(norms, found, strict=True)}


def fates(made):
    return {name: (pattern.name, pattern.reason) for name, pattern in patterns(made).items()}


SIGNATURE = "(uint8[N,2,H,W] p, uint8[N,2,H,W] q) => (uint8[N,4,H,W] y)"
SUMMED = "(uint8[N,4,H,W] p, uint8[N,4,H,W] q) => (uint8[N,4,H,W] y)"
HALVES = "a = DequantizeLinear(p, s1, z1) c = DequantizeLinear(q, s2, z2)"
NORM = "d = DequantizeLinear(j, s, z) n = BatchNormalization(d, w, b, m, v) y = QuantizeLinear(n, t, u)"
CONCAT = f"{HALVES} k = Concat<axis = 1>(a, c) j = QuantizeLinear(k, s, z)"
ADD = f"{HALVES} k = Add(a, c) j = QuantizeLinear(k, s, z)"


def of(text, signature=SIGNATURE, **arrays):
    return model(f"{signature} {{ {text} }}", **arrays)


# --- concatenations ---------------------------------------------------------------------------------------------

CONCATENATIONS = {
    "QDQ": CONCAT,
    "the axis from the end": CONCAT.replace("axis = 1", "axis = -3"),
    "QOperator": "j = com.microsoft.QLinearConcat<axis = 1>(s, z, p, s1, z1, q, s2, z2)",
}


@pytest.mark.parametrize("form", CONCATENATIONS)
def test_a_concatenation(form):
    found = patterns(of(f"{CONCATENATIONS[form]} {NORM}"))["n"]
    assert isinstance(found, Concatenation)
    assert (found.name, found.perm, found.pool) == ("concat", (0, 1, 2, 3), None)
    assert [(p.codes, p.scale_name, p.zero_point_name) for p in found.pieces] == [
        ("p", "s1", "z1"),
        ("q", "s2", "z2"),
    ]


@pytest.mark.parametrize("inner", ["QDQ", "QOperator"])
@pytest.mark.parametrize("outer", ["QDQ", "QOperator"])
def test_concatenations_of_concatenations(inner, outer):
    """The pieces of the inner one keep their scales as well."""
    text = {
        "QDQ": "o = DequantizeLinear(p, s1, z1) e = DequantizeLinear(q, s2, z2) i = Concat<axis = 1>(o, e, o) "
        "j1 = QuantizeLinear(i, s, z)",
        "QOperator": "j1 = com.microsoft.QLinearConcat<axis = 1>(s, z, p, s1, z1, q, s2, z2, p, s1, z1)",
    }[inner]
    text += {
        "QDQ": "f = DequantizeLinear(j1, s, z) g = DequantizeLinear(p, s1, z1) k = Concat<axis = 1>(f, g) "
        "j = QuantizeLinear(k, s, z)",
        "QOperator": "j = com.microsoft.QLinearConcat<axis = 1>(s, z, j1, s, z, p, s1, z1)",
    }[outer]
    signature = "(uint8[N,1,H,W] p, uint8[N,1,H,W] q) => (uint8[N,4,H,W] y)"
    found = patterns(of(f"{text} {NORM}", signature))["n"]
    assert [p.codes for p in found.pieces] == ["p", "q", "p", "p"]


def test_a_concatenation_within_that_cannot_be_flattened_is_a_piece():
    """Here it is one of the batch, and a piece as any other."""
    text = """o = DequantizeLinear(p, s1, z1) i = Concat<axis = 0>(o, o) j1 = QuantizeLinear(i, s1, z1)
        f = DequantizeLinear(j1, s1, z1) g = DequantizeLinear(q, s2, z2) k = Concat<axis = 1>(f, g)
        j = QuantizeLinear(k, s, z)"""
    found = patterns(of(f"{text} {NORM}", "(uint8[1,2,H,W] p, uint8[2,2,H,W] q) => (uint8[2,4,H,W] y)"))["n"]
    assert [p.codes for p in found.pieces] == ["j1", "q"]


def test_several_norms_of_one_concatenation():
    second = NORM.replace("d =", "d2 =").replace("(d,", "(d2,").replace("n =", "n2 =").replace("(n,", "(n2,")
    text = f"{CONCAT} {NORM} {second.replace('y =', 'y2 =')}"
    made = of(text, "(uint8[N,2,H,W] p, uint8[N,2,H,W] q) => (uint8[N,4,H,W] y, uint8[N,4,H,W] y2)")
    assert fates(made) == {"n": ("concat", ""), "n2": ("concat", "")}


@pytest.mark.parametrize(
    ("signature", "axis"),
    [
        ("(uint8[N,2] p, uint8[N,2] q) => (uint8[N,4] y)", 1),
        ("(uint8[N,2] p, uint8[N,2] q) => (uint8[N,4] y)", -1),
        ("(uint8[N,2,L] p, uint8[N,2,L] q) => (uint8[N,4,L] y)", 1),
        ("(uint8[N,2,D,H,W] p, uint8[N,2,D,H,W] q) => (uint8[N,4,D,H,W] y)", -4),
    ],
)
def test_any_rank(signature, axis):
    made = of(f"{CONCAT.replace('axis = 1', f'axis = {axis}')} {NORM}", signature)
    rank = signature.split("]")[0].count(",") + 1
    assert patterns(made)["n"].perm == tuple(range(rank))


CHANNELS_LAST = "(uint8[N,H,W,2] p, uint8[N,H,W,2] q) => (uint8[N,4,H,W] y)"
TRANSPOSED = {
    "in float": "e = Transpose<perm = [0, 3, 1, 2]>(x) i = QuantizeLinear(e, s, z)",
    "of bytes": "i = Transpose<perm = [0, 3, 1, 2]>(j)",
    "three times": "i1 = Transpose<perm = [0, 2, 1, 3]>(j) i2 = Transpose<perm = [0, 2, 1, 3]>(i1) "
    "i = Transpose<perm = [0, 3, 1, 2]>(i2)",
}


@pytest.mark.parametrize("way", TRANSPOSED)
@pytest.mark.parametrize("axis", [3, -1])
def test_channels_last(way, axis):
    """As converters from TensorFlow write it: a Transpose before each norm."""
    text = f"""{CONCAT.replace("axis = 1", f"axis = {axis}")} x = DequantizeLinear(j, s, z) {TRANSPOSED[way]}
        {NORM.replace("(j,", "(i,")}"""
    found = patterns(of(text, CHANNELS_LAST))["n"]
    assert [p.codes for p in found.pieces] == ["p", "q"]
    assert found.perm == (0, 3, 1, 2)


# --- averages behind a convolution ------------------------------------------------------------------------------

POOLED = "(uint8[N,2,8,8] p, uint8[N,2,8,8] q) => (uint8[N,3,4,4] out)"
POOL = "<kernel_shape = [2, 2], strides = [2, 2]>"
BEHIND = f"""{NORM.replace("n =", "n1 =").replace("QuantizeLinear(n,", "QuantizeLinear(n,")} n = Relu(n1)
    y1 = DequantizeLinear(y, t, u) g = Conv(y1, weight, bias) h = QuantizeLinear(g, r, rz)
    l = DequantizeLinear(h, r, rz) o = AveragePool{POOL}(l) out = QuantizeLinear(o, s1, z1)"""
IN_BYTES = f"""{NORM} h = QLinearConv(y, t, u, weight8, s1, i8, r, rz)
    out = com.microsoft.QLinearAveragePool{POOL}(h, r, rz, s1, z1)"""
WEIGHTS = {
    "weight": np.ones((3, 4, 1, 1), np.float32),
    "bias": np.ones(3, np.float32),
    "weight8": np.ones((3, 4, 1, 1), I8),
}


@pytest.mark.parametrize("behind", [BEHIND, BEHIND.replace(", bias", ""), IN_BYTES], ids=["QDQ", "no bias", "QOp"])
def test_a_pool_behind_a_convolution(behind):
    (found,) = patterns(of(f"{CONCAT} {behind}", POOLED, **WEIGHTS)).values()
    assert found.name == "concat + pool"


NO_POOL = {
    "a larger convolution": ({"weight": np.ones((3, 4, 3, 3), np.float32)}, ("Conv(", "Conv<pads = [1,1,1,1]>(")),
    "a convolution with steps": ({}, ("Conv(", "Conv<strides = [2, 2]>(")),
    "a convolution of groups": ({"weight": np.ones((2, 2, 1, 1), np.float32)}, ("Conv(", "Conv<group = 2>(")),
    "a convolution that pads": ({}, ("Conv(", "Conv<pads = [1, 1, 1, 1]>(")),
    "a convolution that pads by itself": ({}, ("Conv(", 'Conv<auto_pad = "SAME_UPPER">(')),
    "weights that are not constant": ({}, ("weight,", "out2,")),
    "a larger pool": ({}, ("kernel_shape = [2, 2]", "kernel_shape = [3, 3]")),
    "a pool that overlaps": ({}, ("strides = [2, 2]>", "strides = [1, 1]>")),
    "a pool that rounds up": ({}, ("strides = [2, 2]>", "strides = [2, 2], ceil_mode = 1>")),
    "a pool that pads": ({}, ("strides = [2, 2]>", "strides = [2, 2], pads = [1, 1, 1, 1]>")),
    "a pool of maxima": ({}, ("AveragePool", "MaxPool")),
    "a Relu that was dropped": ({"rz": U8(0)}, ()),
    "what was negated and a Relu that was dropped": ({"rz": U8(255)}, ()),
    "codes of another type": ({"z1": U8(100)}, ("QuantizeLinear(o, s1, z1)", "QuantizeLinear(o, s1, i8)")),
    "a quantization that changes": ({}, ("DequantizeLinear(h, r, rz)", "DequantizeLinear(h, s, rz)")),
    "a Relu": ({}, ("g = Conv(y1, weight, bias)", "g1 = Conv(y1, weight, bias) g = Relu(g1)")),
    "an activation with a ceiling": (
        {"lo": np.float32(0), "hi": np.float32(0.5)}, ("Relu(n1)", "Clip(n1, lo, hi)"),
    ),
    "another reader of the norm": ({}, ("=> (", "=> (uint8[N,4,8,8] y, ")),
    "another reader of the convolution": ({}, ("=> (", "=> (float[N,3,8,8] g, ")),
    "another reader of its codes": ({}, ("=> (", "=> (uint8[N,3,8,8] h, ")),
    "another reader of the averages": ({}, ("=> (", "=> (float[N,3,4,4] o, ")),
    "averages that stay in float": ({}, ("out = QuantizeLinear(o, s1, z1)", "out = Neg(o)")),
}  # fmt: skip


@pytest.mark.parametrize("why", NO_POOL)
def test_what_is_no_pool(why):
    arrays, change = NO_POOL[why]
    text = f"{POOLED} {{ {CONCAT} {BEHIND} }}"
    if change:
        assert change[0] in text
        text = text.replace(*change)
    (found,) = patterns(model(text, **{**WEIGHTS, **arrays})).values()
    assert (found.name, found.reason) == ("concat", "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("AveragePool<", "AveragePool<channels_last = 1, "),
        ("QLinearConv(", "QLinearConv<strides = [2, 2]>("),
        ("QLinearAveragePool", "QLinearGlobalAveragePool"),
        ("(h, r, rz,", "(h, s, rz,"),
        ("i8, r, rz)", "i8, r, zero)"),
        ("QLinearConv(y, t, u", "QLinearConv(p, t, u"),
    ],
)
def test_what_is_no_pool_of_bytes(old, new):
    text = f"{POOLED} {{ {CONCAT} {IN_BYTES} }}"
    assert old in text
    (found,) = patterns(model(text.replace(old, new), **WEIGHTS, zero=U8(0))).values()
    assert found.name in ("concat", "single")


# --- sums -------------------------------------------------------------------------------------------------------

SUMS = {"QDQ": ADD, "QOperator": "j = com.microsoft.QLinearAdd(p, s1, z1, q, s2, z2, s, z)"}


@pytest.mark.parametrize("form", SUMS)
def test_a_sum(form):
    found = patterns(of(f"{SUMS[form]} {NORM}", SUMMED))["n"]
    assert isinstance(found, Sum)
    assert (found.name, found.perm, found.total.codes) == ("add", (0, 1, 2, 3), "j")
    assert [(q.codes, q.scale_name, q.zero_point_name) for q in found.summands] == [
        ("p", "s1", "z1"),
        ("q", "s2", "z2"),
    ]


@pytest.mark.parametrize("way", TRANSPOSED)
def test_a_sum_with_channels_last(way):
    text = f"{ADD} x = DequantizeLinear(j, s, z) {TRANSPOSED[way]} {NORM.replace('(j,', '(i,')}"
    signature = "(uint8[N,H,W,4] p, uint8[N,H,W,4] q) => (uint8[N,4,H,W] y)"
    found = patterns(of(text, signature))["n"]
    assert (found.name, found.perm, found.total.codes) == ("add", (0, 3, 1, 2), "j")


def test_one_norm_of_several_makes_the_sum():
    second = NORM.replace("n =", "n2 =").replace("(n,", "(n2,").replace("d =", "d2 =").replace("(d,", "(d2,")
    text = f"{ADD} {NORM} {second.replace('y =', 'y2 =')}"
    made = of(text, "(uint8[N,4,H,W] p, uint8[N,4,H,W] q) => (uint8[N,4,H,W] y, uint8[N,4,H,W] y2)")
    assert fates(made) == {"n": ("add", ""), "n2": ("single", "the norm n makes its sum")}


# --- neither ----------------------------------------------------------------------------------------------------

REFUSED = {
    "it reads the input p": (f"j = Identity(p) {NORM}", SUMMED, {}),
    "it reads the MaxPool j": (f"j = MaxPool<kernel_shape = [1, 1]>(p) {NORM}", SUMMED, {}),
    "the Concat k: it reads the Neg a in float": (
        f"{CONCAT.replace('a = Dequ', 'a0 = Dequ').replace('c =', 'a = Neg(a0) c =')} {NORM}",
        SIGNATURE, {},
    ),
    "the Concat k: it reads the input p in float": (
        f"{CONCAT.replace('a = DequantizeLinear(p, s1, z1)', '').replace('(a,', '(p,')} {NORM}",
        "(float[N,2,H,W] p, uint8[N,2,H,W] q) => (uint8[N,4,H,W] y)", {},
    ),
    "the Concat k: a part is quantized to int32": (
        f"{CONCAT} {NORM}", SIGNATURE.replace("uint8[N,2,H,W] p", "int32[N,2,H,W] p"), {"z1": np.int32(0)},
    ),
    "the Concat k reads what is quantized per channel": (
        f"{CONCAT} {NORM}", SIGNATURE, {"s1": np.float32([0.1, 0.2]), "z1": U8([1, 2])},
    ),
    "the Concat k joins uint8 and int8": (
        f"{CONCAT} {NORM}", SIGNATURE.replace("uint8[N,2,H,W] q", "int8[N,2,H,W] q"), {"z2": I8(4)},
    ),
    "the Concat k is along axis 2, not that of the channels": (
        f"{CONCAT.replace('axis = 1', 'axis = 2')} {NORM}", SUMMED, {},
    ),
    "the Concat k is quantized in another way than it is read": (
        f"{CONCAT} {NORM.replace('(j, s,', '(j, r,')}", SIGNATURE, {},
    ),
    "the Concat k cuts off numbers of p, as an activation does": (f"{CONCAT} {NORM}", SIGNATURE, {"z": U8(0)}),
    "the Concat k cuts off numbers of q, as an activation does": (
        f"{CONCAT} {NORM}", SIGNATURE, {"s2": np.float32(0.06)},
    ),
    "the QLinearConcat j cuts off numbers of p, as an activation does": (
        f"{CONCATENATIONS['QOperator']} {NORM}", SIGNATURE, {"z": U8(0)},
    ),
    "the Add k mixes uint8 and int8": (
        f"{ADD} {NORM}", SUMMED.replace("uint8[N,4,H,W] q", "int8[N,4,H,W] q"), {"z2": I8(4)},
    ),
    "the Add k reads tensors of different shapes": (f"{ADD} {NORM}", SUMMED.replace("H,W] q", "1,1] q"), {}),
    "the Add k reads tensors of different shapes ": (
        f"{ADD} {NORM}", SUMMED.replace("N,4,H,W] q", "4,H,W] q"), {},
    ),
    "the Add k reads tensors of unknown shapes": (f"{ADD} {NORM}", SUMMED.replace("[N,4,H,W] q", " q"), {}),
    "the Add k: it reads the Constant a in float": (
        f"{ADD.replace('a = DequantizeLinear(p, s1, z1)', 'a = Constant<value_floats = [1.0, 2.0]>()')} {NORM}",
        SUMMED, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_why_a_norm_is_single(reason):
    text, signature, arrays = REFUSED[reason]
    made = of(text, signature, **arrays)
    for value in made.graph.input:
        if not value.type.tensor_type.shape.dim:
            value.type.tensor_type.ClearField("shape")
    assert fates(made) == {"n": ("single", reason.strip())}
    (norm,) = bno.inspect(made).norms
    assert (norm.pattern, norm.unfused) == ("single", reason.strip())


def test_a_norm_of_channels_with_scales_of_their_own():
    arrays = {"s": np.float32([0.1, 0.2, 0.3, 0.4]), "z": U8([1, 2, 3, 4])}
    made = of(NORM, "(uint8[N,4,H,W] j) => (uint8[N,4,H,W] y)", **arrays)
    assert fates(made) == {"n": ("single", "its input is quantized per channel")}


def test_a_sum_whose_scales_are_too_far_apart():
    made = of(f"{ADD} {NORM}", SUMMED, s1=np.float32(1e30), s=np.float32(1e-30))
    ((name, reason),) = fates(made).values()
    assert name == "single"
    assert reason.startswith("the Add k: ")


POOLED_PIECE = f"""x = DequantizeLinear(p, r, rz) o = AveragePool<kernel_shape = [2, 2]>(x)
    i = QuantizeLinear(o, r, rz) {CONCAT.replace("(p, s1, z1)", "(i, r, rz)")} {NORM}"""
POOLED_FIRST = "(uint8[N,2,9,9] p, uint8[N,2,8,8] q) => (uint8[N,4,8,8] y)"


def test_a_pool_has_the_range_of_what_it_reads():
    """Its own numbers may reach less far, and so the concatenation's; that is no activation."""
    assert fates(of(POOLED_PIECE, POOLED_FIRST)) == {"n": ("concat", "")}
    cut = of(POOLED_PIECE, POOLED_FIRST, z=U8(0), z2=U8(0))
    assert fates(cut) == {"n": ("single", "the Concat k cuts off numbers of i, as an activation does")}
    other = of(POOLED_PIECE.replace("(o, r, rz)", "(o, r, z)").replace("(i, r, rz)", "(i, r, z)"), POOLED_FIRST)
    assert fates(other) == {"n": ("single", "the Concat k cuts off numbers of i, as an activation does")}


def test_a_piece_whose_scale_makes_a_slope_too_large():
    made = of(POOLED_PIECE, POOLED_FIRST, r=np.float32(1e30), t=np.float32(1e-9))
    ((name, reason),) = fates(made).values()
    assert name == "single"
    assert re.fullmatch("the Concat k: the slope of channel 0.* overflows float32", reason)


def test_bytes_that_move_have_the_range_of_what_they_were():
    text = f"""i = MaxPool<kernel_shape = [2, 2]>(p) {CONCAT.replace("(p, s1, z1)", "(i, r, rz)")} {NORM}"""
    assert fates(of(text, POOLED_FIRST)) == {"n": ("concat", "")}
    pool = f"i = com.microsoft.QLinearAveragePool<kernel_shape = [2, 2]>(p, r, rz, r, rz) {text.split(')', 1)[1]}"
    assert fates(of(pool, POOLED_FIRST)) == {"n": ("concat", "")}
    other = pool.replace("(p, r, rz, r, rz)", "(p, t, rz, r, rz)")
    assert fates(of(other, POOLED_FIRST))["n"][0] == "single"


# --- what inspect says ------------------------------------------------------------------------------------------


def test_inspect_says_which_pattern():
    (norm,) = bno.inspect(of(f"{CONCAT} {NORM}")).norms
    assert (norm.reads, norm.pattern, norm.unfused) == ("Concat k", "concat", "")
    (norm,) = bno.inspect(of(f"{CONCAT} {BEHIND}", POOLED, **WEIGHTS)).norms
    assert norm.pattern == "concat + pool"
    (norm,) = bno.inspect(of(f"{ADD} {NORM}", SUMMED)).norms
    assert norm.pattern == "add"


def test_float_models_have_no_patterns_yet():
    assert {(n.pattern, n.unfused) for n in bno.inspect(bno.digits_model()).norms} == {("", "")}


def test_nothing_is_changed():
    made = of(f"{CONCAT} {BEHIND}", POOLED, **WEIGHTS)
    before = onnx.ModelProto()
    before.CopyFrom(made)
    patterns(made)
    assert made == before
