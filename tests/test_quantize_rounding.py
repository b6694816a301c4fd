"""Rules that add the zero point behind the rounding: torch from 2.14 on, exported graphs, ONNX."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from quantize_oracle import RULE, codes_of_torch
from test_quantize import SIZES, SPECIAL, both, isa, near_ties  # noqa: F401 - a fixture
from torch.ao.quantization.fx import _decomposed  # noqa: F401 - registers the operators

import bytenorm as bn
from bytenorm import reference

pytestmark = pytest.mark.thorough

RULES = ("torch-2.14", "quantized_decomposed", "onnx")
PLAIN = {bn.quint8: torch.uint8, bn.qint8: torch.int8}
ONNX = {bn.quint8: TensorProto.UINT8, bn.qint8: TensorProto.INT8}


def decomposed(x, scale, zero_point, dtype, axis=None):
    """Return the codes of torch's operator in exported graphs."""
    limits, q = (dtype.qmin, dtype.qmax, PLAIN[dtype]), torch.ops.quantized_decomposed
    if axis is None:
        return q.quantize_per_tensor(torch.from_numpy(x), scale, zero_point, *limits).numpy()
    scales, zero_points = torch.from_numpy(scale), torch.tensor(zero_point)
    return q.quantize_per_channel(torch.from_numpy(x), scales, zero_points, axis, *limits).numpy()


def by_onnx(x, scale, zero_point, dtype, axis=None):
    """Return the codes of ONNX's reference evaluator, and those of ONNX Runtime."""
    names = ("x", "scale", "zero_point")
    feeds = (x, np.array(scale, np.float32), np.array(zero_point, dtype.numpy))
    types = (TensorProto.FLOAT, TensorProto.FLOAT, ONNX[dtype])
    node = helper.make_node("QuantizeLinear", names, ["y"], axis=1 if axis is None else axis)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, t, f.shape) for n, t, f in zip(names, types, feeds, strict=True)],
        [helper.make_tensor_value_info("y", ONNX[dtype], x.shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    feeds = dict(zip(names, feeds, strict=True))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return ReferenceEvaluator(model).run(None, feeds)[0], session.run(None, feeds)[0]


@both
def test_the_torch_at_hand(dtype, isa):  # noqa: F811
    """Its own rounding is the rule of its name, whichever version it is."""
    rng = np.random.default_rng(8)
    for _ in range(20):
        scale, zero_point = float(np.exp(rng.uniform(-9, 9))), int(rng.integers(dtype.qmin, dtype.qmax + 1))
        x = near_ties(rng, 999, scale, zero_point, dtype)
        ours = bn.quantize_per_tensor(x, scale, zero_point, dtype, rounding=RULE)
        np.testing.assert_array_equal(ours.data, codes_of_torch(x, scale, zero_point, dtype))
        scales = np.exp(rng.uniform(-9, 9, 3)).astype(np.float32).astype(float)
        zero_points = rng.integers(dtype.qmin, dtype.qmax + 1, 3)
        x = near_ties(rng, (333, 3), scales, zero_points, dtype)
        ours = bn.quantize_per_channel(x, scales, zero_points, 1, dtype, rounding=RULE)
        np.testing.assert_array_equal(ours.data, codes_of_torch(x, scales, zero_points, dtype, 1))


@both
def test_per_tensor(dtype, isa):  # noqa: F811
    rng = np.random.default_rng(5)
    differ = dict.fromkeys(RULES, 0)
    for _ in range(40):
        scale = float(np.exp(rng.uniform(-20, 20)))
        zero_point = int(rng.integers(dtype.qmin, dtype.qmax + 1))
        x = near_ties(rng, 999, scale, zero_point, dtype)
        usual = bn.quantize_per_tensor(x, scale, zero_point, dtype).data
        for rule in RULES:
            codes = bn.quantize_per_tensor(x, scale, zero_point, dtype, rounding=rule).data
            differ[rule] += (codes != usual).sum()
            np.testing.assert_array_equal(
                codes, reference.quantize_behind(x, scale, zero_point, dtype, rule), strict=True
            )
            if rule == "torch-2.14":  # the two are one where a scale is a float32 number
                wanted = [decomposed(x, float(np.float32(scale)), zero_point, dtype)]
            elif rule == "quantized_decomposed":
                wanted = [decomposed(x, scale, zero_point, dtype)]
            else:
                wanted = by_onnx(x, scale, zero_point, dtype)
            for other in wanted:
                np.testing.assert_array_equal(codes, other)
    assert min(differ.values()) > 1000  # what the rule is about was met


@both
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_per_channel(axis, dtype, isa):  # noqa: F811
    rng = np.random.default_rng(6)
    shape = (6, 5, 37)
    for _ in range(8):
        wide = np.exp(rng.uniform(-9, 3, shape[axis]))
        zero_points = rng.integers(dtype.qmin, dtype.qmax + 1, shape[axis])
        along = [-1 if d == axis else 1 for d in range(3)]
        x = near_ties(rng, shape, wide.reshape(along), zero_points.reshape(along), dtype)
        for scales in (wide, wide.astype(np.float32)):
            for rule in RULES:
                q = bn.quantize_per_channel(x, scales, zero_points, axis, dtype, rounding=rule)
                rows = reference.quantize_behind(x, scales.reshape(along), zero_points.reshape(along), dtype, rule)
                np.testing.assert_array_equal(q.data, rows, strict=True)
                if rule == "torch-2.14":
                    wanted = [decomposed(x, scales.astype(np.float32), zero_points, dtype, axis)]
                elif rule == "quantized_decomposed":
                    wanted = [decomposed(x, scales, zero_points, dtype, axis)]
                else:
                    wanted = by_onnx(x, scales, zero_points, dtype, axis)
                for other in wanted:
                    np.testing.assert_array_equal(q.data, other)


@both
@pytest.mark.parametrize("rule", RULES)
def test_every_size_and_numbers_far_away(rule, dtype, isa):  # noqa: F811
    """What leaves the range of every integer saturates on its side, where torch's own conversion may wrap."""
    for n in SIZES:
        x = np.resize(np.roll(SPECIAL, n), n)
        for axis in (None, 0, 1):
            rows = x if axis is None else np.stack([x, -x])
            channels = 1 if axis is None else rows.shape[axis]
            scale = 0.3 if axis is None else np.linspace(0.1, 4, channels)
            zero_point = 7 if axis is None else dtype.qmin + np.arange(channels) % 256
            call = (rows, scale, zero_point, *([] if axis is None else [axis]), dtype)
            made = bn.quantize_per_tensor if axis is None else bn.quantize_per_channel
            broadcast = [np.reshape(v, (-1, 1)) if axis == 0 else v for v in (scale, zero_point)]
            with np.errstate(over="ignore"):
                wanted = reference.quantize_behind(rows, *broadcast, dtype, rule)
            np.testing.assert_array_equal(made(*call, rounding=rule).data, wanted)


@both
def test_dynamic(dtype):
    """Scale and zero point stay; the codes are those of quantizing by the rule."""
    rng = np.random.default_rng(7)
    differ = 0
    for _ in range(20):
        x = rng.normal(size=2000).astype(np.float32)
        q = bn.quantize_per_tensor_dynamic(x, dtype)
        ends = x.min(), x.max()
        x[2:] = np.clip(near_ties(rng, 1998, q.scale, q.zero_point, dtype), *ends)
        x[:2] = ends
        old = bn.quantize_per_tensor_dynamic(x, dtype)
        new = bn.quantize_per_tensor_dynamic(x, dtype, rounding="torch-2.14")
        assert (new.scale, new.zero_point) == (old.scale, old.zero_point)
        np.testing.assert_array_equal(
            new.data, reference.quantize_behind(x, new.scale, new.zero_point, dtype, "torch-2.14")
        )
        differ += (new.data != old.data).sum()
    assert differ > 100


def test_bad_roundings():
    x = np.ones((2, 3), np.float32)
    for call in (
        lambda rounding: bn.quantize_per_tensor(x, 0.1, 0, bn.qint8, rounding=rounding),
        lambda rounding: bn.quantize_per_channel(x, [0.1, 0.2], [0, 0], 0, bn.qint8, rounding=rounding),
        lambda rounding: bn.quantize_per_tensor_dynamic(x, bn.qint8, rounding=rounding),
    ):
        for bad, error in (("torch", ValueError), ("", ValueError), (None, TypeError), (214, TypeError)):
            with pytest.raises(error, match=r"^rounding must be one of 'torch-2.13', 'torch-2.14'.*, got "):
                call(bad)
    with pytest.raises(ValueError, match=r"^rounding must be one of 'torch-2.13', 'torch-2.14', got 'onnx'$"):
        bn.quantize_per_tensor_dynamic(x, bn.qint8, rounding="onnx")
    with pytest.raises(TypeError, match=r"^scales must be float32 or float64 where rounding is .*, got float16$"):
        bn.quantize_per_channel(x, np.float16([1, 1]), [0, 0], 0, bn.qint8, rounding="quantized_decomposed")
    for rule in RULES:
        with pytest.raises(ValueError, match=r"^input must not hold NaN"):
            bn.quantize_per_tensor(x * np.nan, 0.1, 0, bn.qint8, rounding=rule)
