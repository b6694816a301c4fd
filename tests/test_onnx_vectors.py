"""Norms of vectors in quantize(): what carries them through the quantizer is gone behind it."""

import numpy as np
import onnx
import pytest

from bytenorm.onnx.quantization.quantize import quantize_with_report


def network(rng, *, relu, ends):
    """Return Gemm, Gemm, sum, norm, Gemm; or a norm at both `ends`. None folds into the next layer."""
    layers = {
        "middle": "a = Gemm (x, wa) b = Gemm (a, wb) t = Add (a, b) n = BatchNormalization (t, g, h, m, v) ACT"
        "y = Gemm (r, wc)",
        "ends": "n = BatchNormalization (x, g, h, m, v) ACT a = Gemm (r, wa) c = Relu (a)"
        "y = BatchNormalization (c, g, h, m, v)",
    }[ends]
    layers = layers.replace("ACT", " r = Relu (n) " if relu else " r = LeakyRelu (n) ")
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 17]> g (float[N, 8] x) => (float[N, 8] y) {{ {layers} }}'
    )
    for name in {"middle": ("wa", "wb", "wc"), "ends": ("wa",)}[ends]:
        value = rng.normal(size=(8, 8)).astype(np.float32) * 0.3
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    for name, low, high in (("g", 0.5, 2), ("h", -1, 1), ("m", -0.5, 0.5), ("v", 0.3, 1)):
        value = rng.uniform(low, high, 8).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return model


@pytest.mark.thorough
@pytest.mark.parametrize("ends", ["middle", "ends"])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation_type": "int8"},
        {"activation_type": "int8", "keep_int8": True},
        {"quant_format": "QOperator"},
        {"quant_format": "QOperator", "activation_type": "int8"},
        {"method": "mse"},
        {"method": "mse", "data_statistics": True, "quant_format": "QOperator"},
    ],
    ids=str,
)
def test_no_reshape_is_left(rng, ends, relu, options):
    model = network(rng, relu=relu, ends=ends)
    data = rng.normal(size=(64, 8)).astype(np.float32)
    made, report = quantize_with_report(model, [{"x": data}], lowering="fused", compare=True, **options)
    assert [o.problem for o in report.outcomes] == [""] * len(report.outcomes)
    assert [o.pattern for o in report.outcomes] == (["add"] if ends == "middle" else ["single"] * 2)
    assert "Reshape" not in [node.op_type for node in made.graph.node]
    onnx.checker.check_model(made, full_check=True)
    if not options.get("data_statistics"):  # its statistics are not those of the model
        (output,) = report.comparison.outputs
        assert output.snr_db > 20
