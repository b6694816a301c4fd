"""Norms behind what quantizers leave in float between codes and a norm: the codes take the same way."""

import itertools
import re

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from bytenorm import onnx as bno
from bytenorm.onnx.lowering.lower import lower_with_report

LOWERINGS = ("portable", "exact", "fused")
STEP = 0.04  # of the norm's output

# What a norm reads, of the numbers a, b and e of codes with scales and zero points of their own, and f, which has
# those of a; what the fused lowering makes of it, and how many of its nodes are left in float by the other two.
READ = {
    "m = Relu(a)": "single",
    "m = Clip(a, low, high)": "single",
    "i = Clip(a, , high) m = Relu(i)": "single",
    "m = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a)": "single",
    "i = Relu(a) j = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(i) m = Identity(j)": "single",
    "i = Relu(a) j = Flatten(i) m = Reshape(j, shape)": "single",
    "i = Transpose<perm = [0, 2, 3, 1]>(a) j = Relu(i) m = Transpose<perm = [0, 3, 1, 2]>(j)": "single",
    "m = Concat<axis = 1>(a, b)": "concat",
    "m = Concat<axis = -3>(a, f)": "concat",
    "m = Concat<axis = 2>(a, f)": "single",
    "i = Concat<axis = 1>(a, b) m = Concat<axis = 1>(i, e)": "concat",
    "i = Concat<axis = 2>(a, f) j = Concat<axis = 2>(b, b) m = Concat<axis = 1>(i, j)": "concat",
    "i = Relu(b) m = Concat<axis = 1>(a, i)": "concat",
    "i = Concat<axis = 1>(a, b, e) m = Relu(i)": "concat",
    "i = Concat<axis = 1>(a, b) j = Relu(i) m = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(j)": "concat",
    "i = Concat<axis = 2>(a, f) j = Concat<axis = 2>(b, b) k = Concat<axis = 1>(i, j)"
    " m = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(k)": "concat",
    "i = Concat<axis = 1>(a, b) j = Unsqueeze(i, four) m = Squeeze(j, four)": "single",
    "i = Transpose<perm = [0, 2, 3, 1]>(a) j = Transpose<perm = [0, 2, 3, 1]>(b) k = Concat<axis = 3>(i, j)"
    " m = Transpose<perm = [0, 3, 1, 2]>(k)": "concat",
    "m = Add(a, b)": "add",
    "m = Sum(a, e)": "add",
    "i = Relu(a) m = Add(i, b)": "add",
    "i = Relu(a) m = Add(i, a)": "add",
    "m = Add(b, b)": "add",
    "i = Relu(a) j = Concat<axis = 1>(i, a) m = Concat<axis = 1>(j, j)": "concat",
    "i = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a) j = Concat<axis = 2>(b, b)"
    " k = Concat<axis = 2>(i, i) m = Add(j, k)": "add",
    "i = Add(a, b) j = Flatten(i) m = Reshape(j, shape)": "add",
    "i = Add(a, b) j = Transpose<perm = [0, 2, 3, 1]>(i) m = Transpose<perm = [0, 3, 1, 2]>(j)": "add",
    "i = Add(a, b) m = Add(i, e)": "add",
    "m = Sum(a, b, e, f)": "add",
    "m = Sum(a)": "add",
    "i = Add(a, b) j = Add(e, f) k = Relu(a) l = Sum(k, i, j) m = Relu(l)": "add",
    "i = Add(a, b) m = Relu(i)": "add",
    "i = Add(a, b) j = Clip(i, low, high) k = Flatten(j) l = Relu(k) m = Reshape(l, shape)": "add",
    "i = Sum(a, b, f) j = Transpose<perm = [0, 2, 3, 1]>(i) k = Clip(j, , high)"
    " m = Transpose<perm = [0, 3, 1, 2]>(k)": "add",
    "m = Slice(a, one, five, two)": "single",
    "i, j = Split<axis = 1>(a, halves) m = Relu(j)": "single",
    "i = Concat<axis = 1>(a, b) j = Slice(i, one, five, two) m, k = Split<axis = -1>(j, threes)": "concat",
    "m = Pad(a, pads)": "single",
    'i = Concat<axis = 1>(a, b) j = Pad(i, pads, nothing) m = Pad<mode = "reflect">(j, pads)': "concat",
    "i = Resize(a, , scales) j = Resize(b, , , sizes) m = Concat<axis = 1>(i, j)": "concat",
    "i = Concat<axis = 1>(a, b) j = Resize(i, , scales) m = Expand(j, twos)": "single",
    "i = Concat<axis = 1>(a, b) j = Gather<axis = 2>(i, backwards) m = Tile(j, twos)": "concat",
    "i = SpaceToDepth<blocksize = 2>(a) j = Gather(i, zeros) m = DepthToSpace<blocksize = 2>(j)": "single",
    "i = Concat<axis = 1>(a, b) m = GlobalMaxPool(i)": "concat",
    "i = ReduceMax<axes = [2], keepdims = 0>(a) j = Unsqueeze(i, two) m = ReduceMin<axes = [3]>(j)": "single",
    "i = Relu(a) m = Max(i, f)": "single",
    "m = Min(a, f)": "single",
    "i = Add(a, b) j = Pad(i, pads) k = Slice(j, one, five, two) m = Relu(k)": "add",
    "i = Sum(a, b, e) j = Resize(i, , scales) k, m = Split<axis = 2>(j, sixes)": "add",
}


def quantization(byte):
    """Return scales and zero points of the inputs, by name."""
    lowest = np.iinfo(byte).min
    zeros = {"za": 120, "zb": 90, "ze": 60, "zy": 60}
    scales = {"sa": 0.03, "sb": 0.02, "se": 0.05, "sy": STEP}
    arrays = {name: np.float32(value) for name, value in scales.items()}
    return arrays | {name: byte(value + lowest) for name, value in zeros.items()}


def with_arrays(text, arrays):
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), n) for n, value in arrays.items())
    return model


def model_of(text, byte=np.uint8, opset=17, outputs=(), behind="", out="A,B,C,D", **more):
    """Return a model of a norm `n` of what a text makes: `m` of the numbers a, b, e and f."""
    arrays = quantization(byte) | {
        "low": np.float32(-0.06), "high": np.float32(2.4), "shape": np.int64([0, 4, 6, 6]),
        "four": np.int64([4]), "one": np.int64([1]), "two": np.int64([2]), "five": np.int64([5]),
        "halves": np.int64([2, 2]), "threes": np.int64([3, 3]), "sixes": np.int64([6, 6]), "zeros": np.int64([0]),
        "pads": np.int64([0, 0, 0, 1, 0, 0, 2, 0]), "nothing": np.float32(0),
        "scales": np.float32([1, 1, 2, 2]), "sizes": np.int64([2, 4, 12, 12]), "twos": np.int64([1, 1, 1, 1]),
        "backwards": np.int64([3, 2, 1, 0]), "crop": np.float32([0, 0, 0.1, 0, 1, 1, 0.9, 1]),
    } | more  # fmt: skip
    kind = "uint8" if byte == np.uint8 else "int8"
    dims = f"{kind}[N,4,6,6]"
    start = f"""<ir_version: 8, opset_import: ["": {opset}]>
        g ({dims} qa, {dims} qb, {dims} qe, {dims} qf) => ({{}}) {{{{
        a = DequantizeLinear(qa, sa, za) b = DequantizeLinear(qb, sb, zb) e = DequantizeLinear(qe, se, ze)
        f = DequantizeLinear(qf, sa, za) {text} {{}} }}}}"""
    before = with_arrays(start.format("float[A,B,C,D] m", ""), arrays)
    inferred = onnx.shape_inference.infer_shapes(before, data_prop=True)
    channels = inferred.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    rng = np.random.default_rng(5)
    for name in ("gain", "shift", "mean", "var"):
        arrays[name] = rng.uniform(0.5, 1.5, channels).astype(np.float32)
    arrays["gain"][1] *= -1
    norm = "n = BatchNormalization(m, gain, shift, mean, var)"
    model = with_arrays(
        start.format(f"{kind}[{out}] y", f"{norm} {behind or 'y = QuantizeLinear(n, sy, zy)'}"), arrays
    )
    for name in outputs:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4))
    return model


def feeds(byte=np.uint8):
    rng, info = np.random.default_rng(7), np.iinfo(byte)
    return {f"q{name}": rng.integers(info.min, info.max + 1, (2, 4, 6, 6)).astype(byte) for name in "abef"}


def run(model, stock=False):
    byte = helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    session = onnxruntime.InferenceSession(model.SerializeToString()) if stock else bno.session(model)
    return session.run(None, feeds(byte))


def norms_in_float(model):
    return [node.op_type for node in model.graph.node].count("BatchNormalization")


def check(model, lowering, pattern, *, keep=True):
    made, (outcome,) = lower_with_report(model, lowering=lowering, keep_int8=keep)
    if pattern == "add" and lowering != "fused":
        assert outcome.problem == 'it reads a sum that is not rounded to codes, which lowering="fused" takes'
        assert norms_in_float(made) == 1
        return
    assert (outcome.problem, outcome.pattern) == ("", pattern if lowering == "fused" else "")
    assert not norms_in_float(made)
    onnx.checker.check_model(made, full_check=True)
    (want, *others), (got, *same) = run(model, stock=True), run(made)
    off = np.abs(want.astype(int) - got)
    assert off.max() <= 1
    assert np.mean(off != 0) < 0.01  # ties, and a code of a portable channel; a shifted limit may move more
    for one, other in zip(others, same, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("text", READ, ids=lambda text: "-".join(re.findall(r"= (\w+)[<(]", text)))
def test_a_norm_reads_codes_through_what_is_in_float(text, lowering):
    check(model_of(text), lowering, READ[text])


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("lowering", LOWERINGS)
def test_int8(lowering, keep):
    for text in (
        "i = Relu(a) m = Concat<axis = 1>(i, b)",
        "i = Clip(a, low, high) m = Identity(i)",
        "m = Add(a, b)",
    ):
        check(
            model_of(text, np.int8),
            lowering,
            READ.get(text, "concat" if "Concat" in text else "single"),
            keep=keep,
        )


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize(
    "text",
    [
        "i = Relu(a) m = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(i) o = Neg(i) p = Neg(m)",
        "i = Relu(a) j = Relu(b) m = Concat<axis = 1>(i, j) o = Neg(i) p = Neg(m)",
        "m = Clip(a, low, high) o = Neg(m) p = Identity(m)",
        "i = Relu(a) m = Add(i, b) o = Neg(i) p = Neg(m)",
    ],
)
def test_other_readers_read_the_same_numbers(text, lowering):
    """To the bit, in float: also those of a limit that lies between two codes."""
    check(
        model_of(text, outputs=("o", "p")),
        lowering,
        {"Add": "add", "Con": "concat"}.get(re.findall(r"m = (\w{3})", text)[0], "single"),
    )


def test_two_norms_share_what_they_read():
    again = "y = QuantizeLinear(n, sy, zy) k = BatchNormalization(m, gain, gain, mean, var) l = Relu(k)"
    model = model_of(
        "i = Relu(a) m = MaxPool<kernel_shape = [2, 2]>(i)", behind=f"{again} w = QuantizeLinear(l, sy, zy)"
    )
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.UINT8, ["A", "B", "C", "D"]))
    for lowering in LOWERINGS:
        made = bno.lower(model, lowering=lowering)
        assert [node.op_type for node in made.graph.node].count("MaxPool") == 1
        for want, got in zip(run(model, stock=True), run(made), strict=True):
            assert np.abs(want.astype(int) - got).max() <= 1


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_what_a_norm_makes_goes_several_ways(lowering):
    """To codes at once, in another shape, and the largest of some: one conversion is enough."""
    ways = """r = Relu(n) y = QuantizeLinear(r, sy, zy) h = Flatten(r) g = Reshape(h, shape)
        p = MaxPool<kernel_shape = [2, 2]>(g) v = QuantizeLinear(p, sy, zy) w = QuantizeLinear(h, sy, zy)"""
    model = model_of("m = Identity(a)", behind=ways)
    for name, rank in (("v", 4), ("w", 2)):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.UINT8, [None] * rank))
    made, (outcome,) = lower_with_report(model, lowering=lowering)
    assert outcome.problem == ""
    assert [node.op_type for node in made.graph.node].count("QuantizeLinear") == (lowering == "portable")
    for want, got in zip(run(model, stock=True), run(made), strict=True):
        assert want.shape == got.shape
        assert np.abs(want.astype(int) - got).max() <= 1


def test_ways_to_codes_of_several_quantizations():
    ways = "y = QuantizeLinear(n, sy, zy) h = Flatten(n) w = QuantizeLinear(h, sa, zy)"
    model = model_of("m = Identity(a)", behind=ways)
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.UINT8, [None, None]))
    (norm,) = bno.inspect(model).norms
    assert norm.problem == "its output is also read in float, by Flatten h"


REFUSED = {
    "the Sigmoid m is in float": "m = Sigmoid(a)",
    "the Sigmoid i is in float": "i = Sigmoid(a) m = Relu(i)",
    "the Concat m joins codes of several scales along another axis than that of the channels": (
        "m = Concat<axis = 2>(a, b)"
    ),
    "the limits of the Clip m are not constant, or in no order": "m = Clip(a, high, low)",
    "the Add i is in float": "i = Add(a, b) m = Concat<axis = 1>(i, a)",
    "the Sigmoid j is in float": "i = Add(a, b) j = Sigmoid(e) m = Add(i, j)",
    "the Sum m is of more than 100 tensors": "m = Sum(" + ", ".join(["a"] * 101) + ")",
    "the limits of the Clip j are not constant, or in no order": (
        "i = Add(a, b) j = Clip(i, high, low) m = Relu(j)"
    ),
    "the Add m reads tensors of different shapes": "i = MaxPool<kernel_shape = [6, 6]>(b) m = Add(a, i)",
    "the Resize m makes other numbers than it reads": 'm = Resize<mode = "linear">(a, , scales)',
    "the Resize i makes other numbers than it reads": (
        'i = Resize<coordinate_transformation_mode = "tf_crop_and_resize">(a, crop, scales) m = Relu(i)'
    ),
    "the Pad m adds numbers that are not 0": "m = Pad(a, pads, high)",
    "the Max m reads codes of several scales": "m = Max(a, b)",
    "too many nodes are between it and its codes": "r0 = Relu(a)" + "".join(
        f" r{i + 1} = Relu(r{i})" for i in range(150)
    ) + " m = Relu(r150)",
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_in_between(why):
    model = model_of(REFUSED[why])
    reason = "its input is not quantized" + f": {why}" * (" m is in float" not in why)
    assert [(norm.lowerable, norm.problem) for norm in bno.inspect(model).norms] == [(False, reason)]
    for lowering in LOWERINGS:
        with pytest.warns(bno.LoweringWarning, match=reason):
            made = bno.lower(model, lowering=lowering)
        assert norms_in_float(made) == 1
        assert np.array_equal(run(model, stock=True)[0], run(made)[0])


def test_zeros_of_several_codes():
    """A padding by zeros: of codes of several zero points there is no such number."""
    scales = np.float32([0.03, 0.02, 0.04, 0.03])
    for zeros, problem in (([120, 120, 120, 120], ""), ([120, 90, 60, 120], "zeros of several codes")):
        model = model_of("m = Pad(a, pads)", sa=scales, za=np.uint8(zeros))
        (norm,) = bno.inspect(model).norms
        assert norm.problem.endswith(problem)
        assert norm.lowerable == (not problem)
        if not problem:
            for lowering in LOWERINGS:
                check(model, lowering, "single")


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_the_largest_of_all_since_axes_are_an_input(lowering):
    check(model_of("i = Concat<axis = 1>(a, b) m = GlobalMaxPool(i)", opset=18), lowering, "concat")


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("byte", [np.uint8, np.int8])
def test_what_a_norm_makes_is_picked_and_quantized(byte, lowering):
    """Behind it as before it: one conversion is enough, and zeros are its zero point, 128 higher in uint8."""
    ways = """i, j = Split<axis = 1>(n, halves) k = Pad(i, pads) y = QuantizeLinear(k, sy, zy)
        l = Resize(j, , scales) v = QuantizeLinear(l, sy, zy)
        p = DequantizeLinear(y, sy, zy) q = DequantizeLinear(v, sy, zy)"""
    model = model_of("m = Identity(a)", byte, behind=ways)
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * 4) for n in "pq")
    for keep in (False, True):
        made, (outcome,) = lower_with_report(model, lowering=lowering, keep_int8=keep)
        assert outcome.problem == ""
        assert [node.op_type for node in made.graph.node].count("QuantizeLinear") == (lowering == "portable")
        for want, got in zip(run(model, stock=True), run(made), strict=True):
            assert want.shape == got.shape
            assert np.abs(want - got).max() < 1.01 * STEP


def test_uint8_and_int8_meet_as_uint8():
    for text in ("Concat<axis = 1>", "Add"):
        model = model_of(f"i = QuantizeLinear(b, sb, zi) j = DequantizeLinear(i, sb, zi) m = {text}(a, j)")
        model.graph.initializer.append(numpy_helper.from_array(np.int8(3), "zi"))
        for lowering in LOWERINGS:  # int8 becomes uint8: then they do
            check(model, lowering, "add" if text == "Add" else "concat", keep=False)
            with pytest.warns(bno.LoweringWarning, match="s uint8 and int8"):
                made = bno.lower(model, lowering=lowering, keep_int8=True)
            assert norms_in_float(made) == 1
        assert bno.inspect(model).norms[0].lowerable


def test_a_limit_too_far_from_a_code_stays():
    model = model_of("m = Clip(a, low, high)")
    for tensor in model.graph.initializer:
        if tensor.name == "gain":  # a step of the input is now ten of the output
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(14), "gain"))
        if tensor.name == "low":
            tensor.CopyFrom(numpy_helper.from_array(np.float32(-0.074), "low"))
    (norm,) = bno.inspect(model).norms
    assert norm.problem == "a limit in front of it lies between two codes, too far from either"


def test_cuts_on_bytes_need_opset_12():
    nothing = model_of("m = Relu(a)", opset=11, za=np.uint8(0))  # is cut off
    check(nothing, "portable", "single")
    (norm,) = bno.inspect(model_of("m = Relu(a)", opset=11)).norms
    assert norm.problem == "its input is not quantized: the Relu m works on bytes from opset 12 on"


def test_channels_that_nobody_counts():
    """Which channel is of which piece is not known then."""
    model = model_of("m = Concat<axis = 1>(a, b)")
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[1].dim_param = f"C{value.name}"
    (norm,) = bno.inspect(model).norms
    assert norm.problem == "its input is not quantized: the Concat m joins unknown numbers of channels"


@pytest.mark.parametrize("other", ["a", "b"])
@pytest.mark.parametrize("channels", [4, 0, None])
def test_concatenations_that_double(channels, other):
    """Two pieces, four, eight, of no extent perhaps: not written out one by one."""
    model = model_of("m = Relu(a)")
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[1].Clear()
        if channels is not None:
            value.type.tensor_type.shape.dim[1].dim_value = channels
    names = ["a", *(f"c{i}" for i in range(60))]
    joints = [helper.make_node("Concat", [a, a], [b], axis=1) for a, b in itertools.pairwise(names)]
    joints[0].input[1] = other
    nodes = [*model.graph.node[:4], *joints, *model.graph.node[4:]]
    nodes[len(joints) + 4].input[0] = names[-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert len(bno.inspect(model).norms) == 1


def test_channels_last():
    """Arithmetic along the last axis, behind a Relu."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["": 17]>
        g (uint8[N,6,6,4] qa) => (uint8[N,6,6,4] y) {
        a = DequantizeLinear(qa, s, z) i = Relu(a)
        j = Mul(i, gain) n = Add(j, shift) y = QuantizeLinear(n, t, z) }""")
    arrays = {
        "s": np.float32(0.03), "z": np.uint8(90), "t": np.float32(0.04),
        "gain": np.float32([0.7, -1.2, 1.1, 0.4]), "shift": np.float32([0.1, -0.3, 0.0, 0.8]),
    }  # fmt: skip
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in arrays.items())
    x = {"qa": feeds()["qa"].transpose(0, 2, 3, 1)}
    want = onnxruntime.InferenceSession(model.SerializeToString()).run(None, x)[0].astype(int)
    for lowering in LOWERINGS:
        made, (outcome,) = lower_with_report(model, lowering=lowering)
        assert outcome.problem == ""
        assert np.abs(bno.session(made).run(None, x)[0] - want).max() <= 1


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_codes_that_are_cut_off(lowering):
    """As brevitas writes 7 and 4 bits: a Clip of codes. They become uint8 with all the rest."""
    ways = """r = Relu(n) y = QuantizeLinear(r, sy, zy) c = Clip(y, none, most) t = Transpose(c)
        v = DequantizeLinear(t, sy, zy)"""
    text = """g = DequantizeLinear(qa, sa, za) q = QuantizeLinear(g, sa, zi) i = Clip(q, least)
        m = DequantizeLinear(i, sa, zi)"""
    arrays = {"none": np.uint8(60), "most": np.uint8(180), "zi": np.int8(-8), "least": np.int8(-64)}
    model = model_of(text, behind=ways, **arrays)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("v", TensorProto.FLOAT, [None] * 4))
    (want,) = run(model, stock=True)
    for keep in (False, True):
        made, (outcome,) = lower_with_report(model, lowering=lowering, keep_int8=keep)
        assert outcome.problem == ""
        assert not norms_in_float(made)
        assert np.abs(run(made)[0] - want).max() < 1.01 * STEP
