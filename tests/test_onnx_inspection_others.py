"""Norms in models that ONNX Runtime's quantizer or this package wrote."""

import numpy as np
import onnx
import pytest
from onnxruntime import quantization
from written_norms import BN, BYTES, C311, NORM, QDQ, B, W, model, only

from bytenorm import onnx as bno
from bytenorm.onnx.graph.graph import Graph
from bytenorm.onnx.norms.find import find_norms


class Reader(quantization.CalibrationDataReader):
    def __init__(self):
        self.batches = iter([{"x": np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)}])

    def get_next(self):
        return next(self.batches, None)


def quantized_by_the_runtime(tmp_path, quant_format, **options):
    """Return what ONNX Runtime's own quantizer makes of a norm written as Mul and Add."""
    made = model(
        """(float[2, 3, 8, 8] x) => (float[2, 3, 8, 8] y) {
            c = Conv(x, k)
            r = Relu(c)
            p = Mul(r, w)
            n = Add(p, b)
            y = Conv(n, k)
        }""",
        **C311, k=np.random.default_rng(1).normal(size=(3, 3, 1, 1)).astype(np.float32),
    )  # fmt: skip
    onnx.save(made, tmp_path / "float.onnx")
    quantization.quantize_static(
        tmp_path / "float.onnx",
        tmp_path / "bytes.onnx",
        Reader(),
        quant_format=quant_format,
        extra_options=options,
    )
    return onnx.load(tmp_path / "bytes.onnx")


def assert_rounded_to_8_bits(parameters):
    gain, shift = parameters.gain_and_shift()
    np.testing.assert_allclose(gain, W, rtol=0, atol=np.ptp(W) / 250)
    np.testing.assert_allclose(shift, B, rtol=0, atol=np.ptp(B) / 250)
    assert not np.array_equal(shift, B)


@pytest.mark.parametrize("weights", [False, True])
def test_a_norm_that_the_quantizer_took_for_two_operators(tmp_path, weights):
    made = quantized_by_the_runtime(tmp_path, quantization.QuantFormat.QDQ, AddQDQPairToWeight=weights)
    norm = only(made)
    assert (norm.written, norm.reads, norm.runs_in, norm.lowerable) == ("Mul+Add", "Conv r", "float", True)
    (found,) = find_norms(Graph(made))
    assert [n.op_type for n in found.between] == ["QuantizeLinear", "DequantizeLinear"]
    assert_rounded_to_8_bits(found.parameters)


def test_a_norm_in_8_bits_that_is_a_poor_one(tmp_path):
    made = quantized_by_the_runtime(tmp_path, quantization.QuantFormat.QOperator)
    assert [n.op_type for n in made.graph.node[2:4]] == ["QLinearMul", "QLinearAdd"]
    norm = only(made)
    assert (norm.written, norm.runs_in, norm.reason) == ("QLinearMul+QLinearAdd", "8-bit", "it reads 8-bit data")
    assert (norm.lowerable, norm.problem, norm.channels) == (False, "codes between its steps cut off numbers", 3)
    (found,) = find_norms(Graph(made))
    assert_rounded_to_8_bits(found.parameters)
    first, second = made.graph.node[2:4]
    assert (found.source.scale_name, found.source.zero_point_name) == tuple(first.input[1:3])
    assert (found.target.scale_name, found.target.zero_point_name) == tuple(second.input[6:8])


QLINEAR = """(uint8[N, 3, H, W] x, float t2) => (uint8[N, 3, H, W] y) {
    p = com.microsoft.QLinearMul(w8, e, f, x, s, z, wide, u)
    y = com.microsoft.QLinearAdd(p, wide, u, w8, s, z, OUT)
}"""


@pytest.mark.parametrize(
    ("out", "changes", "problem"),
    [
        ("t, u", {}, ""),
        ("t", {}, ""),
        ("t2, u", {}, "the scale of its output is not constant"),
        ("t3, u", {"t3": np.float32(0)}, "the scale of its output is 0.0"),
        ("t, u", {"wide": np.float32(0)}, None),
        ("t, u", {"s": np.float32(np.inf)}, None),
        ("t, u", {"w8": np.uint8([1, 2, 3])}, ""),  # along the last axis
        ("t, u", {"w8": np.uint8([[1], [2], [3]])}, None),  # along the third
    ],
)
def test_qlinear_mul_and_add(out, changes, problem):
    constants = {
        "w8": np.uint8([[[1]], [[200]], [[100]]]),
        "e": np.float32(0.01),
        "f": np.uint8(99),
        "wide": np.float32(4),
    }
    made = model(QLINEAR.replace("OUT", out), **{**constants, **BYTES, **changes})
    assert [n.problem for n in bno.inspect(made).norms] == ([] if problem is None else [problem])
    for norm in find_norms(Graph(made)):
        assert (norm.source.scale_name, norm.source.zero_point_name) == ("s", "z")


@pytest.mark.parametrize(
    ("lowering", "name", "written", "pattern"),
    [
        ("portable", "n/Conv", "depthwise Conv", ""),
        ("exact", "n/QLinearBatchNormalization", "QLinearBatchNormalization", "single"),
        ("fused", "n/QLinearBatchNormalization", "QLinearBatchNormalization", "single"),
    ],
)
def test_lowered_models(lowering, name, written, pattern):
    made = model(
        f"""{QDQ} {{
            p = MaxPool<kernel_shape = [1, 1]>(x) a = DequantizeLinear(p, s, z) {BN} y = QuantizeLinear(n, t, u)
        }}""",
        **NORM, **BYTES,
    )  # fmt: skip
    inspection = bno.inspect(bno.lower(made, lowering=lowering))
    assert inspection.norms == (
        bno.BatchNormInfo(
            name=name, channels=3, written=written, reads="MaxPool p", activation="", runs_in="8-bit",
            folds_into="", reason="it reads 8-bit data", lowerable=False, problem="", pattern=pattern,
        ),
    )  # fmt: skip
    assert inspection.in_float == ()
    assert inspection.summary() == "1 batch norm: 0 in float, 1 in 8 bits; 0 can be folded"


@pytest.mark.parametrize(
    ("attributes", "weight", "norms"),
    [
        ("group = 3", np.ones((3, 1, 1, 1), np.int8), 1),
        ("group = 3, strides = [1, 1], pads = [0, 0, 0, 0]", np.ones((3, 1, 1, 1), np.int8), 1),
        ("group = 3, strides = [2, 2]", np.ones((3, 1, 1, 1), np.int8), 0),
        ("group = 3, pads = [1, 1, 1, 1]", np.ones((3, 1, 1, 1), np.int8), 0),
        ("group = 3", np.ones((3, 1, 3, 1), np.int8), 0),
        ("group = 1", np.ones((3, 3, 1, 1), np.int8), 0),
        ("group = 1", np.ones((1, 1, 1, 1), np.int8), 0),
    ],
)
def test_which_convolutions_are_norms(attributes, weight, norms):
    made = model(
        f"{QDQ} {{ y = QLinearConv<{attributes}>(x, s, z, k, t, zk, t, u) }}", **BYTES, k=weight, zk=np.int8(0)
    )
    assert len(bno.inspect(made).norms) == norms


def test_a_norm_in_a_subgraph():
    made = model(
        """(bool c, float[N, 3] x) => (float[N, 3] y) {
            y = If (c) <
                then_branch = p () => (float[N, 3] q) {
                    a = If (c) <
                        then_branch = i () => (float[N, 3] j) { j = BatchNormalization(x, w, b, m, v) },
                        else_branch = k () => (float[N, 3] l) { l = Neg(x) }
                    >
                    q = BatchNormalization(a, w, b, m, v)
                },
                else_branch = r () => (float[N, 3] s) { s = Relu(x) }
            >
        }""",
        **NORM,
    )
    where = "in a subgraph of the If y"
    assert bno.inspect(made).norms == tuple(
        bno.BatchNormInfo(name, None, "BatchNormalization", where, "", "float", "", where, False, where)
        for name in ("q", "j")
    )
