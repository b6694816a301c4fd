"""Norms of every kind, lowered, run and compared with what they must give."""

import itertools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from norm_models import Nodes, random_norm, serialized
from onnx import helper
from onnx.reference import ReferenceEvaluator

from bytenorm import onnx as bno

BYTES = (np.uint8, np.int8)
PAIRS = [pytest.param(a, b, id=f"{a.__name__}-{b.__name__}") for a in BYTES for b in BYTES]
RELU = (0.0, np.inf)
LOWERINGS = ["portable", "exact"]


def options(threads=1, save=None):
    made = ort.SessionOptions()
    made.intra_op_num_threads, made.inter_op_num_threads = threads, 1
    made.log_severity_level = 3
    if save is not None:
        made.optimized_model_filepath = str(save)
    return made


def run(model, x, *, threads=1, library=True, save=None):
    """Return the first output of a model, in ONNX Runtime with our library or without it."""
    if library:
        session = bno.session(model, options(threads, save))
    else:
        session = ort.InferenceSession(
            model.SerializeToString(), options(threads, save), providers=["CPUExecutionProvider"]
        )
    return session.run(None, {"x": x})[0]


def lower(model, lowering):
    """Lower a model, look that it is left as it was and that the result is valid."""
    before = serialized(model)
    lowered = bno.lower(model, lowering=lowering)
    assert serialized(model) == before
    onnx.checker.check_model(lowered, full_check=True)
    return lowered


def ops(model):
    return [node.op_type for node in model.graph.node]


def opset(model, domain=""):
    return next(entry.version for entry in model.opset_import if entry.domain == domain)


def assert_exact(model, norm, rank):
    """The bits of the library's own result, however the model is run."""
    x = norm.every_code(rank)
    want = norm.expected(x)
    assert len(np.unique(want)) > 20 or norm.limits != (-np.inf, np.inf)
    results = [
        run(model, x),
        run(model, x, threads=2),
        run(model, x, library=False),
        run(model, x, library=False, threads=2),
        ReferenceEvaluator(model).run(None, {"x": x})[0],
    ]
    for y in results:
        assert y.dtype == want.dtype
        np.testing.assert_array_equal(y, want)


def misses(got, want):
    """Return which codes differ; none by more than one step."""
    difference = got.astype(np.int32) - want.astype(np.int32)
    assert np.abs(difference).max() <= 1
    return difference != 0


def assert_portable(model, norm, rank):
    """Within a step, and in no channel more than 0.25 % times the slope of the elements that are not saturated."""
    assert {node.domain for node in model.graph.node} == {""}
    x = norm.every_code(rank)
    want = norm.expected(x)
    got = run(model, x)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(run(model, x, threads=2), got)
    info = np.iinfo(want.dtype)
    inside = (want > info.min) & (want < info.max)
    axes = tuple(axis for axis in range(rank) if axis != 1)
    missed = np.sum(misses(got, want) & inside, axis=axes) / np.maximum(inside.sum(axis=axes), 1)
    assert np.all(missed <= 0.0025 * np.maximum(1, norm.slopes()))


KINDS = {
    "alone": ({}, {}),
    "relu": ({"limits": RELU}, {}),
    "relu at the lowest code": ({"limits": RELU, "y_zero_point": "lowest"}, {}),
    "relu behind a conversion": ({"limits": RELU}, {"between": True}),
    "relu6": ({"limits": (0.0, 6.0)}, {}),
    "relu6 that is reached": ({"limits": (0.0, 1.5)}, {}),
    "hardtanh": ({"limits": (-1.0, 1.0)}, {}),
    "hardtanh behind a conversion": ({"limits": (-1.0, 1.0)}, {"between": True}),
    "only a ceiling": ({"limits": (-np.inf, 0.7)}, {}),
    "limits beyond the codes": ({"limits": (-1e9, 1e9)}, {}),
    "a clip of nothing else than 1": ({"limits": (1.0, 1.0)}, {}),
    "mul add": ({}, {"written": "Mul+Add"}),
    "add mul relu": ({"limits": RELU}, {"written": "Add+Mul"}),
    "per channel": ({"per_channel": True}, {}),
    "per channel, relu": ({"per_channel": True, "limits": RELU}, {}),
    "scales of shape [1]": ({"shape": (1,)}, {}),
    "scales of shape [1], relu": ({"shape": (1,), "limits": RELU}, {}),
}


def kind_of_norm(rng, kind, x_type=np.uint8, y_type=np.uint8):
    changes, form = KINDS[kind]
    changes = dict(changes)
    if changes.get("y_zero_point") == "lowest":
        changes["y_zero_point"] = np.iinfo(y_type).min
    return random_norm(rng, x_type=x_type, y_type=y_type, **changes), form


def chain(rng, types, *, value_info):
    """Return float x, QuantizeLinear, norms one behind the other with codes of these types, float z."""
    g = Nodes()
    dims = ["n", 6, "h", "w"]
    g.input("x", np.float32, dims)
    norms = [random_norm(rng, x_type=a, y_type=b) for a, b in itertools.pairwise(types)]
    quantization = g.quantization("q0", norms[0].x_scale, norms[0].x_zero_point)
    last, info = g.node("QuantizeLinear", ["x", *quantization], "codes0"), []
    for i, norm in enumerate(norms, 1):
        if i > 1:
            norm.x_scale, norm.x_zero_point = norms[i - 2].y_scale, norms[i - 2].y_zero_point
        last = g.node("DequantizeLinear", [last, *quantization], f"real{i}")
        names = [g.constant(f"{name}{i}", getattr(norm, name)) for name in ("weight", "bias", "mean", "var")]
        last = g.node("BatchNormalization", [last, *names], f"normal{i}", name=f"norm{i}", epsilon=norm.epsilon)
        quantization = g.quantization(f"q{i}", norm.y_scale, norm.y_zero_point)
        last = g.node("QuantizeLinear", [last, *quantization], f"codes{i}")
        element = helper.np_dtype_to_tensor_dtype(norm.y_zero_point.dtype)
        info.append(helper.make_tensor_value_info(last, element, dims))
    g.output(g.node("DequantizeLinear", [last, *quantization], "z"), np.float32, dims)
    model = g.model()
    if value_info:
        model.graph.value_info.extend(info)
    return model, norms


def convolutions(rng, size, limits):
    """Return three convolutions in QDQ format with norms between and behind them."""
    g = Nodes()
    dims = ["n", 16, *size]
    g.input("x", np.float32, dims)
    step = g.quantization("step", 0.05, np.uint8(128))
    last = g.node("DequantizeLinear", [g.node("QuantizeLinear", ["x", *step], "q"), *step], "d")
    for i in range(3):
        codes = g.constant(f"w{i}", rng.integers(-20, 20, (16, 16, 3, 3)), np.int8)
        weight = g.node("DequantizeLinear", [codes, *g.quantization(f"w{i}", 0.01, np.int8(0))], f"weight{i}")
        last = g.node("Conv", [last, weight], f"conv{i}", pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        last = g.node("QuantizeLinear", [last, *step], f"conv{i}/q")
        last = g.node("DequantizeLinear", [last, *step], f"conv{i}/d")
        names = [g.constant(f"p{i}{k}", rng.uniform(0.5, 1.5, 16), np.float32) for k in range(4)]
        last = g.node("BatchNormalization", [last, *names], f"norm{i}")
        if limits:
            bounds = [g.constant(f"limit{i}{k}", limit, np.float32) for k, limit in enumerate(limits)]
            last = g.node("Clip", [last, *bounds], f"clip{i}")
        last = g.node("QuantizeLinear", [last, *step], f"norm{i}/q")
        last = g.node("DequantizeLinear", [last, *step], f"norm{i}/d")
    g.output(last, np.float32, dims)
    return g.model()
