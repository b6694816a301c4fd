"""Conversions as other quantizers write them: ONNX Runtime's own, one for each reader, with a pool between."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from bytenorm import onnx as bno
from bytenorm.onnx.lowering.lower import lower_with_report

LOWERINGS = ["portable", "exact", "fused"]
NORM = (
    ", float[4] w = {1.0, -0.5, 0.7, 1.2}, float[4] b = {0.0, 1.0, 0.2, -0.3}"
    ", float[4] m = {0.1, 0.2, 0.3, 0.0}, float[4] v = {1.0, 1.1, 1.2, 0.9}"
)
BN = "n = BatchNormalization (d, w, b, m, v)"


def parsed(nodes, outputs="uint8[N, 4, 8, 8] y", *, byte="uint8", opset=17, constants=""):
    zero = {"uint8": 128, "int8": 0}[byte]
    return onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["": {opset}, "com.microsoft": 1]>
        g ({byte}[N, 4, 8, 8] a) => ({outputs})
        <float s = {{0.05}}, {byte} z = {{{zero}}} {NORM} {constants}> {{ {nodes} }}""")


def run(model, feeds, *, optimize):
    options = ort.SessionOptions()
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return bno.session(model, options).run(None, feeds)


def assert_lowered(model, lowering, *, norms=1, problems=None, **options):
    """Every norm is lowered, and each output is within a code of that of the untouched model."""
    before = model.SerializeToString()
    made, outcomes = lower_with_report(model, lowering=lowering, **options)
    assert model.SerializeToString() == before
    onnx.checker.check_model(made, full_check=True)
    assert [o.problem for o in outcomes] == (problems or [""] * norms)
    byte = np.uint8 if model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8 else np.int8
    x = (np.arange(256).reshape(4, 1, 8, 8) + np.iinfo(byte).min + np.zeros((1, 4, 1, 1), int)).astype(byte)
    want = run(model, {"a": x}, optimize=False)
    for got, codes in zip(run(made, {"a": x}, optimize=True), want, strict=True):
        assert got.dtype == codes.dtype
        step = 0.05 if codes.dtype == np.float32 else 1
        assert np.abs(got.astype(float) - codes).max() <= 1.001 * step
        assert len(np.unique(codes)) > 20
    return made


# --- ONNX Runtime's own conversions -----------------------------------------------------------------------------


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("byte", ["uint8", "int8"])
@pytest.mark.parametrize("zero_point", [True, False])
def test_conversions_of_another_domain(lowering, byte, zero_point):
    if byte == "int8" and not zero_point:
        return  # its own QuantizeLinear makes uint8 then
    z = ", z" if zero_point else ""
    model = parsed(
        f"d = com.microsoft.DequantizeLinear (a, s{z}) {BN} y = com.microsoft.QuantizeLinear (n, s{z})",
        f"{byte}[N, 4, 8, 8] y", byte=byte,
    )  # fmt: skip
    made = assert_lowered(model, lowering)
    assert "BatchNormalization" not in [node.op_type for node in made.graph.node]
    assert [n.problem for n in bno.inspect(model).norms] == [""]


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_16_bits_beside_8(lowering):
    """A norm of 16 bits stays, for that reason; the one behind it, between 8 bits, does not."""
    model = parsed(
        "d16 = com.microsoft.DequantizeLinear (a, s, z) e = Neg (d16)"
        "q16 = com.microsoft.QuantizeLinear (e, s16, z16) f = com.microsoft.DequantizeLinear (q16, s16, z16)"
        "k = BatchNormalization (f, w, b, m, v) q = com.microsoft.QuantizeLinear (k, s, z)"
        f"d = com.microsoft.DequantizeLinear (q, s, z) {BN} y = com.microsoft.QuantizeLinear (n, s, z)",
        constants=", float s16 = {0.0002}, uint16 z16 = {30000}",
    )
    assert_lowered(model, lowering, problems=["its input is quantized to uint16", ""])


# --- several equal ones -----------------------------------------------------------------------------------------


def pair(x, y, scale="s"):
    return f"{y}q = QuantizeLinear ({x}, {scale}, z) {y} = DequantizeLinear ({y}q, {scale}, z)"


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("outputs", ["", ", uint8[N, 4, 8, 8] pq", ", uint8[N, 4, 8, 8] pq, uint8[N, 4, 8, 8] qq"])
def test_one_for_each_reader(lowering, outputs):
    model = parsed(
        f"d = DequantizeLinear (a, s, z) {BN} {pair('n', 'p')} {pair('n', 'q')} t = Neg (q)"
        "y = Concat <axis = 1> (p, t)",
        f"float[N, 8, 8, 8] y {outputs}",
    )  # fmt: skip
    assert_lowered(model, lowering)


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_a_sum_with_one_for_each_reader(lowering):
    model = parsed(
        f"d0 = DequantizeLinear (a, s, z) t = Add (d0, d0) {pair('t', 'd', 's2')} {pair('t', 'e', 's2')}"
        f"{BN} {pair('n', 'p')} y = Concat <axis = 1> (p, e)",
        "float[N, 8, 8, 8] y",
        constants=", float s2 = {0.1}",
    )
    made = assert_lowered(model, lowering)
    assert "Add" in [n.op_type for n in made.graph.node] or lowering == "fused"


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_different_ones_stay(lowering):
    model = parsed(
        f"d = DequantizeLinear (a, s, z) {BN} {pair('n', 'p')} {pair('n', 'q', 's2')}y = Concat <axis = 1> (p, q)",
        "float[N, 8, 8, 8] y",
        constants=", float s2 = {0.1}",
    )
    assert_lowered(model, lowering, problems=["its output is quantized in several ways"])


# --- what moves numbers between a norm and its conversion -------------------------------------------------------

POOL = "MaxPool <kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1]>"


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("byte", ["uint8", "int8"])
@pytest.mark.parametrize(
    "behind",
    [
        f"t = {POOL} (n)",
        f"r = Relu (n) t = {POOL} (r)",
        f"p = {POOL} (n) t = Relu (p)",
        f"p = Transpose <perm = [0, 2, 3, 1]> (n) r = Clip (p, , six) t0 = {POOL} (r)"
        "t = Transpose <perm = [0, 3, 1, 2]> (t0)",
        "t0 = Flatten (n) t = Reshape (t0, shape)",
    ],
)
def test_moves_behind_a_norm(lowering, byte, behind):
    model = parsed(
        f"d = DequantizeLinear (a, s, z) {BN} {behind} y = QuantizeLinear (t, s, z)",
        f"{byte}[N, 4, 8, 8] y",
        byte=byte,
        constants=", float six = {2.0}, int64[4] shape = {-1, 4, 8, 8}",
    )
    assert_lowered(model, lowering)


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("byte", ["uint8", "int8"])
@pytest.mark.parametrize(
    "before",
    [f"d = {POOL} (x)", "t0 = Flatten (x) d = Reshape (t0, shape)", f"t = {POOL} (x) d = Identity (t)"],
)
def test_moves_before_a_norm(lowering, byte, before):
    model = parsed(
        f"x = DequantizeLinear (a, s, z) {before} {BN} y = QuantizeLinear (n, s, z)",
        f"{byte}[N, 4, 8, 8] y, float[N, 4, 8, 8] d",
        byte=byte,
        constants=", int64[4] shape = {-1, 4, 8, 8}",
    )
    assert_lowered(model, lowering)


@pytest.mark.parametrize("opset", [11, 12])
def test_a_pool_of_bytes_needs_opset_12(opset):
    model = parsed(f"d = DequantizeLinear (a, s, z) {BN} t = {POOL} (n) y = QuantizeLinear (t, s, z)", opset=opset)
    assert_lowered(model, "portable", problems=[""] if opset == 12 else ["its output is not quantized"])


# --- types ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("keep_int8", [True, False])
@pytest.mark.parametrize("zero_point", [True, False])
def test_a_type_that_is_an_attribute(lowering, keep_int8, zero_point):
    z, typed = ", z" if zero_point else "", "QuantizeLinear <output_dtype = 3>"
    model = parsed(
        f"x = DequantizeLinear (a, s{z}) t = Neg (x) q = {typed} (t, s{z}) d = DequantizeLinear (q, s{z})"
        f"{BN} p = {typed} (n, s{z}) y = DequantizeLinear (p, s{z})",
        "float[N, 4, 8, 8] y", byte="int8", opset=21,
    )  # fmt: skip
    made = assert_lowered(model, lowering, keep_int8=keep_int8)
    kinds = {t.name: t.data_type for t in made.graph.initializer}
    zeros = [kinds[n.input[2]] for n in made.graph.node if n.op_type == "QuantizeLinear" and len(n.input) > 2]
    own = lowering == "portable"  # a norm between conversions has one with a zero point
    kind = onnx.TensorProto.INT8 if keep_int8 else onnx.TensorProto.UINT8
    assert zeros == [kind] * (own + (zero_point or not keep_int8))


def test_weights_quantized_in_the_graph_stay_int8():
    model = parsed(
        f"x = DequantizeLinear (a, s, z) wq = QuantizeLinear (wf, s, z) wd = DequantizeLinear (wq, s, z)"
        f"c = Conv (x, wd) q = QuantizeLinear (c, s, z) d = DequantizeLinear (q, s, z) {BN}"
        "p = QuantizeLinear (n, s, z) y = DequantizeLinear (p, s, z)",
        "float[N, 4, 8, 8] y",
        byte="int8",
    )
    weight = np.random.default_rng(0).normal(size=(4, 4, 1, 1)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "wf"))
    made = bno.lower(model)
    (quantize,) = [n for n in made.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "wf"]
    kinds = {t.name: t.data_type for t in made.graph.initializer}
    assert kinds[quantize.input[2]] == onnx.TensorProto.INT8


def test_two_norms_that_read_int8_and_make_uint8():
    """The first one's type changes; the second still knows its rank."""
    model = parsed(
        f"d = DequantizeLinear (a, s, z) {BN} q = QuantizeLinear (n, s, u) e = DequantizeLinear (q, s, u)"
        "k = BatchNormalization (e, w, b, m, v) r = QuantizeLinear (k, s, u) y = DequantizeLinear (r, s, u)",
        "float[N, 4, 8, 8] y",
        byte="int8",
        constants=", uint8 u = {128}",
    )
    assert_lowered(model, "portable", norms=2, keep_int8=True)


# --- what is known of a norm ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_constants_of_full_rank_for_data_of_unknown_rank(lowering):
    """(1, 4, 1, 1) is along axis 2 of a tensor of five axes."""
    model = parsed(
        "f = my.Unknown (a) d = DequantizeLinear (f, s, z) t = Mul (d, k) n = Add (t, k)"
        "y = QuantizeLinear (n, s, z)",
        constants=", float[1, 4, 1, 1] k = {1.0, 2.0, 3.0, 4.0}",
    )
    model.opset_import.append(onnx.helper.make_opsetid("my", 1))
    made, outcomes = lower_with_report(model, lowering=lowering)
    assert [o.problem for o in outcomes] == ["the rank of its input is unknown"]
    assert made.ir_version == model.ir_version
    assert not made.metadata_props


def test_a_norm_that_was_left_can_be_lowered_later():
    model = parsed(
        f"d = DequantizeLinear (a, s, z) {BN} q = QuantizeLinear (n, s, z) e = DequantizeLinear (q, s, z)"
        "k = BatchNormalization (e, w, b, m, v) y = QuantizeLinear (k, s, z)",
        "uint8[N, 4, 8, 8] y, float[N, 4, 8, 8] k",
    )
    once, outcomes = lower_with_report(model)
    assert [bool(o.problem) for o in outcomes] == [False, True]
    once.graph.output.pop()
    twice, outcomes = lower_with_report(once, lowering="exact")
    assert [bool(o.problem) for o in outcomes] == [False]
    assert {p.key: p.value for p in twice.metadata_props} == {"bytenorm.lowering": "portable, exact"}
    with pytest.raises(ValueError, match=r"^model: its norms are lowered already"):
        bno.lower(twice)
