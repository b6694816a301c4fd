"""Conversions around norms: int8 tensors that become uint8, and those between two nodes of a norm."""

import numpy as np
import onnx
import pytest

from bytenorm import onnx as bno

TEXT = """
<ir_version: 9, opset_import: ["": 17]>
g (float[N, 3, 4, 4] x) => (float[N, 3, 4, 4] y)
<float s = {{0.02}}, {byte} z = {{{zero}}}, float t = {{0.05}}, {byte} u = {{{other}}},
 float[3] weight = {{1.5, -0.5, 0.7}}, float[3] bias = {{0.1, 0.0, -0.2}}, float[3] var = {{1.0, 0.5, 2.0}}> {{
    a = QuantizeLinear (x, s, z)
    b = DequantizeLinear (a, s, z)
    c = BatchNormalization (b, weight, bias, bias, var)
    d = QuantizeLinear (c, t, u)
    e = DequantizeLinear (d, t, u)
    y = Sigmoid (e)
}}
"""


def norm_in_float(byte, zero, other):
    return onnx.parser.parse_model(TEXT.format(byte=byte, zero=zero, other=other))


def values(rng):
    return rng.normal(size=(2, 3, 4, 4)).astype(np.float32)


def run(model, x):
    return bno.session(model).run(None, {"x": x})[0]


def types(model):
    """Return the types of all 8-bit zero points that nodes read."""
    kinds = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.INT8: "int8"}
    return {kinds[t.data_type] for t in model.graph.initializer if t.data_type in kinds and not t.dims}


@pytest.mark.parametrize("lowering", ["portable", "exact"])
def test_int8_becomes_uint8_with_the_same_numbers(rng, lowering):
    model, x = norm_in_float("int8", -5, 7), values(rng)
    unsigned = bno.lower(model, lowering=lowering)
    kept = bno.lower(model, lowering=lowering, keep_int8=True)
    assert types(unsigned) == {"uint8"}
    assert types(kept) == {"int8"}
    assert np.array_equal(run(unsigned, x), run(kept, x))
    onnx.checker.check_model(unsigned, full_check=True)


def test_uint8_stays_as_it_is():
    model = norm_in_float("uint8", 120, 130)
    assert types(bno.lower(model)) == {"uint8"}
    zero_points = sorted(t.int32_data[0] for t in bno.lower(model).graph.initializer if t.name in "zu")
    assert zero_points == [120, 130]


def test_codes_that_leave_the_model_stay_int8(rng):
    model, x = norm_in_float("int8", -5, 7), values(rng)
    model.graph.output.append(onnx.helper.make_tensor_value_info("d", onnx.TensorProto.INT8, ["N", 3, 4, 4]))
    before = bno.session(model).run(["d"], {"x": x})[0]
    made = bno.lower(model, lowering="exact")
    after = bno.session(made).run(["d"], {"x": x})[0]
    assert after.dtype == np.int8
    assert np.abs(after.astype(int) - before).max() <= 1


def test_keep_int8_must_be_a_flag():
    with pytest.raises(TypeError, match="keep_int8"):
        bno.lower(norm_in_float("int8", 0, 0), keep_int8=1)


# A conversion between the nodes of a norm is needless, unless it saturates where numbers do come.

MUL_ADD = """
<ir_version: 9, opset_import: ["": 17]>
g (uint8[N, 3, 4, 4] a) => (uint8[N, 3, 4, 4] y)
<float s = {{0.02}}, uint8 z = {{128}}, float t = {{0.03}}, uint8 u = {{{zero}}},
 float[3, 1, 1] weight = {{1.5, 0.5, 0.7}}, float[3, 1, 1] bias = {{0.1, 0.0, -0.2}}> {{
    b = DequantizeLinear (a, s, z)
    c = Mul (b, weight)
    d = QuantizeLinear (c, t, u)
    e = DequantizeLinear (d, t, u)
    f = Add (e, bias)
    y = QuantizeLinear (f, t, z)
}}
"""


def test_a_conversion_inside_a_norm_is_dropped():
    found = bno.inspect(onnx.parser.parse_model(MUL_ADD.format(zero=128)))
    assert [n.written for n in found.norms] == ["Mul+Add"]


def test_a_conversion_that_stands_for_a_relu_stays(rng):
    """A zero point of the lowest code cuts off all negative numbers: the quantizer writes a Relu like this."""
    model = onnx.parser.parse_model(MUL_ADD.format(zero=0))
    assert not bno.inspect(model).norms
    x = rng.integers(0, 256, (2, 3, 4, 4)).astype(np.uint8)
    with pytest.warns(bno.LoweringWarning, match="no batch norm"):
        made = bno.lower(model)
    want, got = (bno.session(m).run(None, {"a": x})[0] for m in (model, made))
    assert np.array_equal(want, got)


NORM_RELU = """
<ir_version: 9, opset_import: ["": 17]>
g (uint8[N, 3, 4, 4] a) => (uint8[N, 3, 4, 4] y)
<float s = {{0.02}}, uint8 z = {{128}}, float t = {{{before}}}, uint8 u = {{128}}, uint8 w = {{0}},
 float[3] weight = {{1.5, -0.5, 0.7}}, float[3] bias = {{0.1, 0.0, -0.2}}, float[3] var = {{1.0, 0.5, 2.0}}> {{
    b = DequantizeLinear (a, s, z)
    c = BatchNormalization (b, weight, bias, bias, var)
    d = QuantizeLinear (c, t, u)
    e = DequantizeLinear (d, t, u)
    f = Relu (e)
    y = QuantizeLinear (f, s, w)
}}
"""


@pytest.mark.parametrize(("before", "fused"), [(0.05, True), (0.002, False)])
def test_a_relu_behind_a_conversion(rng, before, fused):
    model = onnx.parser.parse_model(NORM_RELU.format(before=before))
    made = bno.lower(model, lowering="exact")
    assert ("Relu" not in {node.op_type for node in made.graph.node}) == fused
    x = rng.integers(0, 256, (2, 3, 4, 4)).astype(np.uint8)
    want, got = (bno.session(m).run(None, {"a": x})[0].astype(int) for m in (model, made))
    # Fused, one rounding less: half a step of the conversion that is gone, and the last rounding.
    assert np.abs(want - got).max() <= (np.ceil(before / 2 / 0.02) + 1 if fused else before / 0.02 + 1)
