"""What importers that read conversions alone demand of a model, by their own documents and sources.

None of them runs here. So their rules are written down, and the models that docs/onnx-runtimes.md names for them
keep these.
"""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from test_onnx_disguise import dense

from bytenorm import onnx as bno

SYMMETRIC = {"ActivationSymmetric": True, "QuantizeBias": False}
# What docs/onnx-runtimes.md names for each.
TENSORRT = {"lowering": "qdq", "activation_type": "int8", "keep_int8": True, "extra_options": SYMMETRIC}
QNN = {"lowering": "portable"}
BYTES = (np.int8, np.uint8)


@pytest.fixture(scope="module")
def floats():
    return {"digits": onnx.load(bno.digits_model()), "dense": dense()}


def quantized(model, options):
    shape = [d.dim_value or 1 for d in model.graph.input[0].type.tensor_type.shape.dim]
    rng = np.random.default_rng(3)
    data = [{model.graph.input[0].name: rng.uniform(0, 1, shape).astype(np.float32)} for _ in range(12)]
    return bno.quantize(model, data, fast=True, compare=False, **options)


class Conversions:
    """A model's nodes, constants and conversions."""

    def __init__(self, model):
        self.nodes = model.graph.node
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.readers = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def of_type(self, *kinds):
        return [node for node in self.nodes if node.op_type in kinds]

    def quantization(self, node):
        """Return the scale and the zero point of a conversion, which are constants, and its axis."""
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        return self.constants[node.input[1]], self.constants[node.input[2]], axis

    def codes_type(self, name):
        if name in self.constants:
            return self.constants[name].dtype
        maker = self.makers.get(name)
        if maker is not None and maker.op_type == "QuantizeLinear":
            return self.constants[maker.input[2]].dtype
        return np.dtype(np.float32)


def outputs_axis(layer):
    """The axis of a layer's weights along which its outputs are."""
    turned = any(a.name == "transB" and a.i for a in layer.attribute)
    return 0 if layer.op_type == "Conv" or turned else 1


@pytest.mark.parametrize("name", ["digits", "dense"])
def test_tensorrt(floats, name):
    """int8 and fp32 alone, zero points of 0 that are there, constant scales, no conversion of int32."""
    model = quantized(floats[name], TENSORRT)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    c = Conversions(model)
    assert c.of_type("BatchNormalization")
    for node in c.of_type("QuantizeLinear", "DequantizeLinear"):
        scale, zero_point, axis = c.quantization(node)
        assert zero_point.dtype == np.int8
        assert not zero_point.any()
        assert np.all(scale > 0)
        if scale.ndim:  # a scale a channel: weights only
            (layer,) = c.readers[node.output[0]]
            assert axis == outputs_axis(layer)
            assert node.input[0] in c.constants
        if node.op_type == "DequantizeLinear":
            assert c.codes_type(node.input[0]) == np.int8 or c.makers[node.input[0]].op_type == "Concat"
    for node in c.nodes:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear", "Concat"):
            assert not [name for name in node.input if c.codes_type(name) in BYTES], node


@pytest.mark.parametrize("name", ["digits", "dense"])
def test_groups_of_onnx_runtime(floats, name):
    """ONNX Runtime's providers take a convolution in 8 bits if all that it reads and makes is converted so."""
    model = quantized(floats[name], QNN)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    c = Conversions(model)
    assert not c.of_type("BatchNormalization")
    norms = 0
    for conv in c.of_type("Conv"):
        x, weight, *biases = (c.makers[tensor] for tensor in conv.input)
        assert {node.op_type for node in (x, weight, *biases)} == {"DequantizeLinear"}
        (quantize,) = c.readers[conv.output[0]]
        assert quantize.op_type == "QuantizeLinear"
        assert c.quantization(quantize)[1].dtype == c.quantization(x)[1].dtype == np.uint8
        weight_scale, weight_zeros, axis = c.quantization(weight)
        assert (weight_zeros.dtype, axis) == (np.int8, 0)
        assert not weight_zeros.any()
        for bias in biases:
            assert c.constants[bias.input[0]].dtype == np.int32
            assert not (len(bias.input) > 2 and c.constants[bias.input[2]].any())
            bias_scale = c.constants[bias.input[1]]
            np.testing.assert_allclose(bias_scale, c.quantization(x)[0] * weight_scale, rtol=1e-6)
        norms += any(a.name == "group" and a.i == weight_scale.size > 1 for a in conv.attribute)
    assert norms > 3
