"""Norms between 8-bit tensors: what belongs to them, and why one cannot run in 8 bits."""

import numpy as np
import onnx
import pytest
from written_norms import ANY, BN, BYTES, NORM, B, W, column, f32, model, only, qdq, run

from bytenorm import onnx as bno
from bytenorm.onnx.graph.graph import Graph
from bytenorm.onnx.norms.find import find_norms


def test_a_norm_between_conversions():
    inspection = bno.inspect(qdq(BN))
    assert inspection.norms == (
        bno.BatchNormInfo(
            name="n", channels=3, written="BatchNormalization", reads="input x", activation="", runs_in="float",
            folds_into="", reason="it reads 8-bit data", lowerable=True, problem="", pattern="single",
            unfused="it reads the input x",
        ),
    )  # fmt: skip
    assert inspection.quantized
    assert (inspection.opset, inspection.ir_version) == (17, 8)


@pytest.mark.parametrize(
    ("middle", "activation", "limits"),
    [
        ("r = BatchNormalization(a, w, b, m, v) n = Relu(r)", "Relu", (0, np.inf)),
        ("r = BatchNormalization(a, w, b, m, v) n = Clip(r, lo, hi)", "Clip", (-1, 6)),
        ("r = BatchNormalization(a, w, b, m, v) n = Clip(r, , hi)", "Clip", (-np.inf, 6)),
        ("r = BatchNormalization(a, w, b, m, v) n = Clip(r)", "Clip", (-np.inf, np.inf)),
        ("r = BatchNormalization(a, w, b, m, v) i = Identity(hi) n = Clip(r, lo, i)", "Clip", (-1, 6)),
        (
            """r = BatchNormalization(a, w, b, m, v) q = QuantizeLinear(r, t, u) d = DequantizeLinear(q, t, u)
               n = Relu(d)""",
            "Relu",
            (0, np.inf),
        ),
        (
            """k = Mul(a, cw) q = QuantizeLinear(k, wide, u) d = DequantizeLinear(q, wide, u) l = Add(cb, d)
               e = QuantizeLinear(l, wide, u) f = DequantizeLinear(e, wide, u) n = Relu(f)""",
            "Relu",
            (0, np.inf),
        ),
    ],
)
def test_the_activation_belongs_to_it(middle, activation, limits):
    made = qdq(middle, lo=np.float32(-1), hi=np.float32(6), cw=column(*W), cb=column(*B), wide=np.float32(4))
    norm = only(made)
    assert (norm.activation, norm.lowerable, norm.problem) == (activation, True, "")
    (found,) = find_norms(Graph(made))
    assert (found.floor, found.ceiling) == limits
    assert found.quantize.output[0] == "y"


def test_the_activation_of_an_old_opset_has_its_limits_in_attributes():
    made = qdq("r = BatchNormalization(a, w, b, m, v) n = Clip<min = -1.0, max = 6.0>(r)", s=np.float32(1))
    made.opset_import[0].version = 10
    (found,) = find_norms(Graph(made))
    assert (found.floor, found.ceiling) == (-1, 6)


@pytest.mark.parametrize(
    "middle",
    [
        "r = BatchNormalization(a, w, b, m, v) l = ReduceMax(r) n = Clip(r, l)",
        "r = BatchNormalization(a, w, b, m, v) n = Clip(r, nan)",
        "r = BatchNormalization(a, w, b, m, v) n = Sigmoid(r)",
    ],
)
def test_other_activations_do_not(middle):
    norm = only(qdq(middle, nan=np.float32(np.nan)))
    assert (norm.activation, norm.lowerable) == ("", False)


@pytest.mark.parametrize("behind", ["y = Relu(d)", "e = Relu(d) y = QuantizeLinear(e, t, w16)"])
def test_an_activation_that_stays_in_float_leaves_the_norm_its_own_conversions(behind):
    made = model(
        f"""(uint8[N, 3, H, W] x) => (uint8[N, 3, H, W] y) {{
            a = DequantizeLinear(x, s, z) n = BatchNormalization(a, w, b, m, v)
            q = QuantizeLinear(n, t, u) d = DequantizeLinear(q, t, u) {behind}
        }}""",
        **NORM, **BYTES, w16=np.int16(0),
    )  # fmt: skip
    assert (only(made).activation, only(made).lowerable) == ("", True)
    (found,) = find_norms(Graph(made))
    assert (found.floor, found.ceiling, found.between) == (-np.inf, np.inf, [])
    assert (found.target.codes, found.quantize.output[0]) == ("q", "q")


def test_limits_in_codes():
    """Behind a Clip or Relu the codes end where QuantizeLinear puts its limits."""
    largest = float(np.finfo(np.float32).max)  # what exporters write for no limit
    for limits, want in {
        (0.0, np.inf): (7, None), (-0.5, 3.0): (2, 37), (-largest, largest): (None, None), (-0.65, 30): (1, None),
        (40.0, 50.0): (255, None),
    }.items():  # fmt: skip
        made = qdq(
            "r = BatchNormalization(a, w, b, m, v) n = Clip(r, lo, hi)",
            lo=np.float32(limits[0]),
            hi=np.float32(limits[1]),
        )
        (found,) = find_norms(Graph(made))
        assert found.site().limits() == want
        x = np.tile(np.arange(256, dtype=np.uint8), (3, 1))[None, ..., None]
        codes = run(made, x=x)[0]
        assert codes.min() >= (want[0] or 0)
        assert codes.max() <= (255 if want[1] is None else want[1])


PROBLEMS = {
    # of the norm itself
    "its scale (x2) is not constant": {
        "middle": "n = BatchNormalization(a, x2, b, m, v)",
        "signature": "(uint8[N, 3, H, W] x, float[3] x2) => (uint8[N, 3, H, W] y)",
    },
    "its input_var (r) is not constant": {
        "middle": "r = Sqrt(x2) n = BatchNormalization(a, w, b, m, r)",
        "signature": "(uint8[N, 3, H, W] x, float[3] x2) => (uint8[N, 3, H, W] y)",
    },
    "its B () is not constant": {"middle": "n = BatchNormalization(a, w, , m, v)"},
    "its parameters have different lengths: scale 3, B 2, input_mean 3, input_var 3": {"b": f32(1, 2)},
    "its parameters are for 2 channels, its input has 3": {name: f32(1, 2) for name in "wbmv"},
    "it is in training mode": {"middle": "n, rm, rv = BatchNormalization<training_mode = 1>(a, w, b, m, v)"},
    "its running statistics are outputs": {"middle": "n, rm, rv = BatchNormalization(a, w, b, m, v)"},
    "its B has nan in channel 1": {"b": f32(0, np.nan, 2)},
    "its input_mean has -inf in channel 2": {"m": f32(0, 1, -np.inf)},
    "its input_var is -0.5 in channel 0": {"v": f32(-0.5, 1, -2)},
    "its input_var is 0.0 in channel 1": {
        "middle": "n = BatchNormalization<epsilon = 0.0>(a, w, b, m, v)", "v": f32(1, 0, 1),
    },
    # of what it reads
    "its input is not quantized": {"source": "Cast<to = 1>(x)"},
    "the scale of its input is not constant": {
        "signature": "(uint8[N, 3, H, W] x, float s2) => (uint8[N, 3, H, W] y)",
        "source": "DequantizeLinear(x, s2, z)",
    },
    "the zero point of its input is not constant": {
        "signature": "(uint8[N, 3, H, W] x, uint8 z2) => (uint8[N, 3, H, W] y)",
        "source": "DequantizeLinear(x, s, z2)",
    },
    "its input is quantized to int16": {
        "signature": "(int16[N, 3, H, W] x) => (uint8[N, 3, H, W] y)", "z": np.int16(0),
    },
    "its input is quantized to uint16": {
        "signature": "(uint16[N, 3, H, W] x) => (uint8[N, 3, H, W] y)", "source": "DequantizeLinear(x, s)",
    },
    "its input is quantized in blocks": {
        "source": "DequantizeLinear<axis = 2, block_size = 2>(x, s)", "s": np.ones((1, 3, 2, 4), np.float32),
    },
    "its input has 2 scales, it has 3 channels": {
        "signature": "(uint8[N, C, H, W] x) => (uint8[N, 3, H, W] y)", "s": f32(1, 2), "z": np.uint8([1, 2]),
    },
    "its input has 4 zero points, it has 3 channels": {
        "signature": "(uint8[N, C, H, W] x) => (uint8[N, 3, H, W] y)", "z": np.uint8([1, 2, 3, 4]),
    },
    "its input is quantized along another axis than that of the channels": {
        "signature": "(uint8[3, 3, H, W] x) => (uint8[3, 3, H, W] y)",
        "source": "DequantizeLinear<axis = 0>(x, s, z)", "s": f32(1, 2, 3), "z": np.uint8([1, 2, 3]),
    },
    "the scale of its input is float16": {"s": np.float16(0.1)},
    "the scale of its input is 0.0": {"s": np.float32(0)},
    # of what it makes
    "its output is not quantized": {"target": "Sigmoid(n)"},
    "its output is not quantized ": {"middle": BN.replace("n", "r", 1) + " n = Relu(r)", "target": "Sigmoid(n)"},
    "its output is also read in float, by Sigmoid l": {"middle": BN + " l = Sigmoid(n)"},
    "its output is also read in float, by an output of the model": {
        "signature": "(uint8[N, 3, H, W] x) => (uint8[N, 3, H, W] y, float[N, 3, H, W] n)",
    },
    "its output is also read in float, by a subgraph": {
        "signature": "(uint8[N, 3, H, W] x, bool c) => (uint8[N, 3, H, W] y, float[N, 3, H, W] o)",
        "middle": BN + """ o = If(c) <then_branch = p () => (float[N, 3, H, W] q) { q = Relu(n) },
            else_branch = r () => (float[N, 3, H, W] l) { l = Neg(n) }>""",
    },
    "its output is quantized in several ways": {"middle": BN + " o = QuantizeLinear(n, s, z)"},
    "its output is quantized per channel": {
        "target": "QuantizeLinear(n, t, u)", "t": f32(1, 2, 3), "u": np.uint8([1, 2, 3]),
    },
    "the scale of its output is not constant": {
        "middle": BN + " r = ReduceMax(a)", "target": "QuantizeLinear(n, r, u)",
    },
    "its output is quantized to int16": {"u": np.int16(0)},
    "its output is quantized to int16 ": {
        "signature": "(uint8[N, 3, H, W] x) => (int16[N, 3, H, W] y)",
        "target": "QuantizeLinear<output_dtype = 5>(n, t)", "opset": 21, "ir": 10,
    },
    "the scale of its output is inf": {"t": np.float32(np.inf)},
    "the scale of its output is -0.5": {"t": np.float32(-0.5)},
    "the scale of its output is 1e-39": {"t": np.float32(1e-39)},  # its reciprocal is infinite
}  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS)
def test_why_a_norm_cannot_run_in_8_bits(problem):
    changes = {"middle": BN, **PROBLEMS[problem]}
    norm = only(qdq(changes.pop("middle"), **changes))
    assert (norm.problem, norm.lowerable, norm.runs_in) == (problem.strip(), False, "float")


@pytest.mark.parametrize(
    "changes",
    [
        {"s": f32(0.05), "z": np.uint8([100]), "t": f32(0.1), "u": np.uint8([7])},
        {"s": f32(0.1, 0.2, 0.3), "z": np.uint8([1, 2, 3])},
        {"s": f32(0.1, 0.2, 0.3), "z": np.uint8(3)},
        {"source": "DequantizeLinear<axis = -3>(x, s, z)", "s": f32(0.1, 0.2, 0.3), "z": np.uint8([1, 2, 3])},
        {"source": "DequantizeLinear(x, s)", "target": "QuantizeLinear(n, t)"},
        {"signature": "(int8[N, 3, H, W] x) => (uint8[N, 3, H, W] y)", "z": np.int8(-3)},
        {"signature": "(int8[N, 3, H, W] x) => (uint8[N, 3, H, W] y)", "source": "DequantizeLinear(x, s)"},
    ],
)
def test_every_quantization_that_can_run_in_8_bits(changes):
    made = qdq(BN, **changes)
    assert (only(made).problem, only(made).lowerable) == ("", True)
    (found,) = find_norms(Graph(made))
    signed = made.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.INT8
    assert (found.source.signed, found.target.signed) == (signed, False)


def test_a_problem_of_the_parameters_comes_first():
    norm = only(qdq(BN, source="Cast<to = 1>(x)", b=f32(0, np.nan, 2)))
    assert norm.problem == "its B has nan in channel 1"
    made = model(
        f"{ANY} {{ c = Conv(x, k) y = BatchNormalization(c, w, b, m, v) }}",
        **{**NORM, "v": f32(1, -1, 1)}, k=np.ones((3, 3, 1, 1), np.float32),
    )  # fmt: skip
    assert only(made).reason == "its input_var is -1.0 in channel 1"


def test_parameters_of_different_lengths_have_no_number_of_channels():
    assert only(qdq(BN, b=f32(1, 2))).channels is None


@pytest.mark.parametrize(
    ("before", "reads"),
    [
        ("i = DequantizeLinear(x, s, z)", "input x"),
        ("i = DequantizeLinear(x, s, z) i2 = Identity(i)", "input x"),
        (
            "d = DequantizeLinear(x, s, z) r = Relu(d) q = QuantizeLinear(r, s, z) i = DequantizeLinear(q, s, z)",
            "Relu r",
        ),
        ("p = Transpose<perm = [0, 3, 1, 2]>(x) i = DequantizeLinear(p, s, z)", "input x"),
        ("d = DequantizeLinear(x, s, z) r = MaxPool<kernel_shape = [1, 1]>(d) i = Identity(r)", "MaxPool r"),
    ],
)
def test_what_feeds_a_norm(before, reads):
    last = "i2" if "i2" in before else "i"
    made = model(
        f"(uint8[N, 3, 3, 3] x) => (float y) {{ {before} y = BatchNormalization({last}, w, b, m, v) }}",
        **NORM, **BYTES,
    )  # fmt: skip
    assert only(made).reads == reads


def test_nodes_go_by_their_names():
    made = qdq(BN.replace("n =", "[norm7] n ="), "(uint8[N, 3, 4] x) => (uint8[N, 3, 4] y)", source="Relu(x)")
    made.graph.node[0].name = "before"
    assert (only(made).name, only(made).reads) == ("norm7", "Relu before")


def test_a_fused_norm_names_all_that_it_reads():
    x = np.random.default_rng(0).random((8, 1, 28, 28), np.float32)
    made = bno.quantize(bno.digits_model(), [{"image": x}], lowering="fused", fast=True, compare=False)
    reads = {norm.name.partition("/QLinear")[0]: norm.reads for norm in bno.inspect(made).norms}
    assert reads["residual1/norm1"] == "MaxPool stem/pool"
    assert reads["residual2/norm1"] == "MaxPool stem/pool and Conv residual1/conv2"
    assert reads["head/norm"] == "Conv transition/conv and Conv dense2/conv1 and Conv dense2/conv2"
