"""Subgraphs that read what is around them, through quantize(): an If gets what it got in float."""

import numpy as np
import onnx
import pytest

from bytenorm.onnx.quantization.quantize import quantize_with_report


def branch(op, tensor, name):
    value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 4, 6, 6])
    return onnx.helper.make_graph([onnx.helper.make_node(op, [tensor], [name])], name, [], [value])


@pytest.mark.parametrize("quant_format", ["QDQ", "QOperator"])
@pytest.mark.parametrize("captured", ["r", "c", "k", "n"])
def test_what_a_branch_reads(rng, quant_format, captured):
    """The output of a Relu, what comes before it, a norm's Relu, and the norm itself."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["": 17]> g (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y) {
            all = ReduceSum <keepdims = 0> (x) yes = Greater (all, none) c = Conv (x, f) r = Relu (c)
            n = BatchNormalization (r, w, b, m, v) k = Relu (n) y = Add (k, i) }"""
    )
    nodes = model.graph.node
    chosen = onnx.helper.make_node("If", ["yes"], ["i"], then_branch=branch("Identity", captured, "t"),
                                   else_branch=branch("Neg", captured, "e"))  # fmt: skip
    nodes.insert(len(nodes) - 1, chosen)
    # A condition that is known would be folded, and the If with it.
    constants = {"f": rng.normal(size=(4, 3, 3, 3)) * 0.3, "w": rng.uniform(0.5, 2, 4), "b": rng.normal(size=4),
                 "m": rng.normal(size=4) * 0.3, "v": rng.uniform(0.5, 2, 4)}  # fmt: skip
    for name, value in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0), "none"))
    # Both branches run: no range of what comes behind them begins at 0, and does a Relu's work.
    x = rng.normal(size=(8, 3, 8, 8)).astype(np.float32)
    _, report = quantize_with_report(model, [{"x": x}, {"x": -x}], quant_format=quant_format, compare=True)
    (output,) = report.comparison.outputs
    assert output.snr_db > 25
