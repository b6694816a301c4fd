"""A norm has the same bits whatever ONNX Runtime's optimizations make of the nodes around it and of its own."""

import itertools

import numpy as np
import onnxruntime
import pytest
from norm_models import qdq_model, qoperator_model, random_norm
from test_onnx_code_paths import feeds, model_of

from bytenorm import onnx as bno
from bytenorm.onnx.lowering.lower import lower_with_report

LOWERINGS = ("portable", "exact", "fused", "qdq")
LEVELS = tuple(onnxruntime.GraphOptimizationLevel.__members__.values())  # disabled, basic, extended, layout, all
BYTES = (np.uint8, np.int8)
PATHS = (
    "i = Relu(a) m = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(i)",
    "i = Transpose<perm = [0, 2, 3, 1]>(a) j = Clip(i, low, high) m = Transpose<perm = [0, 3, 1, 2]>(j)",
    "i = Relu(b) m = Concat<axis = 1>(a, i)",
    "m = Add(a, b)",
)


def assert_same_at_every_level(model, x):
    """As the operators of the library, and as the functions in standard operators."""
    lowered = [lower_with_report(model, lowering=lowering)[0] for lowering in LOWERINGS]
    for made, library in itertools.product(lowered, (True, False)):
        results = []
        for level in LEVELS:
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = level
            options.intra_op_num_threads = 1
            if library:
                bno.register(options)
            session = onnxruntime.InferenceSession(made.SerializeToString(), options)
            results.append(session.run(None, x)[0])
        assert len(np.unique(results[0])) > 20
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])


@pytest.mark.thorough(but=1)
@pytest.mark.parametrize(
    "limits", [(-np.inf, np.inf), (0.0, np.inf), (-0.31, 1.23)], ids=["plain", "relu", "clip"]
)
def test_a_norm_between_conversions(limits, rng):
    for x_type, y_type, per_channel in itertools.product(BYTES, BYTES, (False, True)):
        norm = random_norm(rng, x_type=x_type, y_type=y_type, per_channel=per_channel, limits=limits)
        model, norm = qdq_model(norm, real=True)
        assert_same_at_every_level(model, {"x": norm.every_code(4)})


def test_a_norm_of_operators_on_bytes(rng):
    for kind in BYTES:
        model, norm = qoperator_model(random_norm(rng, x_type=kind, y_type=kind))
        assert_same_at_every_level(model, {"x": norm.every_code(4)})


@pytest.mark.thorough(but=2)
@pytest.mark.parametrize("text", PATHS)
def test_what_stands_before_a_norm(text):
    """Relu, Clip, MaxPool, a concatenation, a sum, on codes or in an operator with the norm."""
    for behind in (None, "r = Relu(n) y = QuantizeLinear(r, sy, zy)"):
        assert_same_at_every_level(model_of(text, behind=behind), feeds())
