"""Batch norms are found however they are written, with what surrounds them; what is none is not."""

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper, parser
from onnxruntime import quantization

from bytenorm import onnx as bno
from bytenorm.onnx.graph import Graph
from bytenorm.onnx.norms import find_norms


def model(text, *, opset=17, ir=8, **arrays):
    """Return a model: the text of its graph, and its initializers."""
    header = f'<ir_version: {ir}, opset_import: ["" : {opset}, "com.microsoft" : 1]>'
    made = parser.parse_model(f"{header} g {text}")
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in arrays.items())
    return made


def run(made, **inputs):
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def f32(*numbers):
    return np.array(numbers, np.float32)


def column(*numbers, rank=4):
    return f32(*numbers).reshape(1, -1, *[1] * (rank - 2))


W, B, M, V = f32(0.5, -2, 0), f32(1, 0.25, -3), f32(0.3, -0.1, 2), f32(1.5, 0.2, 4)
NORM = {"w": W, "b": B, "m": M, "v": V}
IMAGE, ANY = (2, 3, 4, 5), "(float[N, 3, H, W] x) => (float[N, 3, H, W] y)"


# --- every way to write one -----------------------------------------------------------------------------------

C311 = {"w": W.reshape(3, 1, 1), "b": B.reshape(3, 1, 1)}
C1311 = {"w": column(*W), "b": column(*B), "d": column(0.5, -2, 7)}

WRITTEN = {
    "y = BatchNormalization<epsilon = 0.01>(x, w, b, m, v)": ("BatchNormalization", IMAGE, NORM),
    "y = BatchNormalization(x, w, b, m, v)": ("BatchNormalization", (4, 3), NORM),
    "i = Identity(w) c = Cast<to = 1>(h) y = BatchNormalization(x, i, b, c, v)": (
        "BatchNormalization", (2, 3, 4), {**NORM, "h": M.astype(np.float16)},
    ),
    "s = DequantizeLinear(q, e) y = BatchNormalization(x, s, b, m, v)": (
        "BatchNormalization", (2, 3, 4), {**NORM, "q": np.int8([7, -100, 0]), "e": np.float32(0.02)},
    ),
    "a = Mul(x, w) y = Add(a, b)": ("Mul+Add", IMAGE, C311),
    "a = Mul(w, x) y = Add(b, a)": ("Mul+Add", IMAGE, C1311),
    "a = Add(x, b) y = Mul(w, a)": ("Add+Mul", IMAGE, C311),
    "a = Sub(x, b) y = Div(a, d)": ("Sub+Div", IMAGE, C1311),
    "a = Sub(x, b) y = Mul(a, w)": ("Sub+Mul", IMAGE, C1311),
    "a = Div(x, d) y = Add(a, b)": ("Div+Add", IMAGE, C1311),
    "a = Div(x, d) y = Sub(a, b)": ("Div+Sub", IMAGE, C1311),
    "a = Mul(x, w) y = Sub(a, b)": ("Mul+Sub", IMAGE, C1311),
    "a = Mul(x, w) y = Add(a, b) ": ("Mul+Add", (4, 3), {"w": W, "b": B}),
    "a = Mul(x, w) y = Add(a, b)  ": ("Mul+Add", (2, 3, 4), {"w": W[:, None], "b": B[None, :, None]}),
    "a = Mul(x, w) y = Add(a, b)   ": (
        "Mul+Add", (1, 3, 2, 1, 2), {"w": column(*W, rank=5), "b": B.reshape(3, 1, 1, 1)},
    ),
    "a = Mul(x, w) y = Add(a, b)    ": ("Mul+Add", IMAGE, {"w": np.float32(3), "b": column(*B)}),
    "a = Mul(x, w) y = Add(a, b)     ": ("Mul+Add", IMAGE, {"w": column(*W), "b": f32(3).reshape(1, 1, 1)}),
    "s = Unsqueeze(w, axes) a = Mul(x, s) y = Add(a, b)": (
        "Mul+Add", IMAGE, {"w": W, "axes": np.array([1, 2]), "b": column(*B)},
    ),
    "s = Reshape(w, shape) i = Identity(b) a = Mul(x, s) y = Add(a, i)": (
        "Mul+Add", IMAGE, {"w": W, "shape": np.array([1, -1, 1, 1]), "b": column(*B)},
    ),
    "s = Constant<value_floats = [2.0, -3.0, 1.0]>() t = Constant<value_int = 5>() u = Cast<to = 1>(t) "
    "a = Mul(x, s) y = Add(a, u)": (
        "Mul+Add", (4, 3), {},
    ),
    "n = Div(x, k) a = Sub(n, b) y = Div(a, d)": ("Div+Sub+Div", IMAGE, {**C1311, "k": np.float32(255)}),
    "n = Sub(x, b) a = Div(n, d) s = Mul(a, w) y = Add(s, b)": ("Sub+Div+Mul+Add", IMAGE, C1311),
}  # fmt: skip


@pytest.mark.parametrize("nodes", WRITTEN)
def test_every_way_to_write_a_norm(rng, nodes):
    written, shape, arrays = WRITTEN[nodes]
    made = model(f"(float[{','.join(map(str, shape))}] x) => (float[] y) {{ {nodes} }}", **arrays)
    made.graph.output[0].type.tensor_type.ClearField("shape")
    (norm,) = bno.inspect(made).norms
    assert (norm.name, norm.channels, norm.written, norm.reads) == ("y", 3, written, "input x")
    assert (norm.runs_in, norm.lowerable, norm.problem) == ("float", False, "its input is not quantized")
    (found,) = find_norms(Graph(made))
    assert (found.input, found.output) == ("x", "y")
    gain, shift = (p.reshape(-1, *[1] * (len(shape) - 2)) for p in found.parameters.gain_and_shift())
    x = rng.normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(gain * x + shift, run(made, x=x)[0], rtol=1e-5, atol=1e-5)


X = "(float[2, 3, 4, 5] x) => (float[2, 3, 4, 5] y)"
LAYER_NORM = (
    "m = ReduceMean<axes = [-1]>(x) c = Sub(x, m) q = Mul(c, c) v = ReduceMean<axes = [-1]>(q) d = Sqrt(v)"
    " n = Div(c, d)"
)
TOKENS = "(float[2, 4, 3] x) => (float[2, 4, 3] y)"

NO_NORM = {
    "the end of a layer norm": (f"{TOKENS} {{ {LAYER_NORM} a = Mul(n, w) y = Add(a, b) }}", {"w": W, "b": B}),
    "the end of one that multiplies": (
        f"{TOKENS} {{ {LAYER_NORM} k = Reciprocal(d) p = Mul(k, c) a = Mul(p, w) y = Add(a, b) }}",
        {"w": W.reshape(1, 1, 3), "b": B.reshape(1, 1, 3)},
    ),
    "several axes": (f"{TOKENS} {{ a = Mul(x, w) y = Add(a, b) }}", {"w": W, "b": f32(1, 2, 3, 4).reshape(4, 1)}),
    "the batch": (f"{X} {{ a = Mul(x, w) y = Add(a, b) }}", {"w": column(2, 3).T[..., None], "b": column(*B)}),
    "all of a map": (f"{X} {{ a = Mul(x, w) y = Add(a, b) }}", {"w": np.ones((3, 4, 5), "f"), "b": column(*B)}),
    "two numbers": (f"{X} {{ a = Mul(x, w) y = Add(a, b) }}", {"w": np.float32(2), "b": f32(3)}),
    "only a Mul": (f"{X} {{ y = Mul(x, w) }}", C1311),
    "two Muls": (f"{X} {{ a = Mul(x, w) y = Div(a, d) }}", C1311),
    "two Adds": (f"{X} {{ a = Add(x, w) y = Sub(a, b) }}", C1311),
    "nothing constant": ("(float[2, 3] x, float[3] s) => (float[2, 3] y) { a = Mul(x, s) y = Add(a, s) }", {}),
    "only constants": ("(float[1, 3] x) => (float[1, 3] y) { a = Mul(w, w) b = Add(a, w) y = Relu(x) }", {"w": W}),
    "something between": (f"{X} {{ a = Mul(x, w) r = Relu(a) y = Add(r, b) }}", C1311),
    "a product that is read twice": (f"{X} {{ a = Mul(x, w) s = Add(a, b) y = Max(s, a) }}", C1311),
    "a product that is an output": (
        "(float[2, 3] x) => (float[2, 3] y, float[2, 3] a) { a = Mul(x, w) y = Add(a, b) }", {"w": W, "b": B},
    ),
    "a constant less the data": (f"{X} {{ a = Sub(w, x) y = Mul(a, b) }}", C1311),
    "a constant by the data": (f"{X} {{ a = Div(w, x) y = Add(a, b) }}", C1311),
    "a division by 0": (f"{X} {{ a = Div(x, w) y = Add(a, b) }}", C1311),
    "a gain that is no float32": (
        f"{X} {{ a = Div(x, w) y = Add(a, b) }}", {"w": column(1, 1e-40, 1), "b": column(*B)},
    ),
    "infinity": (f"{X} {{ a = Mul(x, w) y = Add(a, b) }}", {"w": column(1, np.inf, 2), "b": column(*B)}),
    "NaN": (f"{X} {{ a = Mul(x, w) y = Add(a, b) }}", {"w": column(1, 2, 3), "b": column(1, np.nan, 2)}),
    "integers": (
        "(int64[2, 3] x) => (int64[2, 3] y) { a = Mul(x, w) y = Add(a, b) }",
        {"w": np.array([1, 2, 3]), "b": np.array([1, 2, 4])},
    ),
    "more axes than the data": (
        "(float[2, 3] x) => (float[1, 2, 3] y) { a = Mul(x, w) y = Add(a, b) }", {"w": W, "b": column(2, rank=3)},
    ),
    "channels that only come with it": (
        "(float[2, 1] x) => (float[2, 3] y) { a = Mul(x, w) y = Add(a, b) }", {"w": W, "b": B},
    ),
    "numbers of channels that differ": (
        "(float[N, C] x) => (float[N, C] y) { a = Mul(x, w) y = Add(a, b) }", {"w": W, "b": f32(1, 2)},
    ),
    "an axis that nobody knows": (
        "(float[N, 3] x) => (float[N, 3] y) { o = Odd(x) a = Mul(o, w) y = Add(a, b) }", {"w": W, "b": B},
    ),
    "operators of somebody else": (
        f"{X} {{ a = com.microsoft.Mul(x, w) y = com.microsoft.Add(a, b) }}", C1311,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NO_NORM)
def test_what_is_no_norm(what):
    text, arrays = NO_NORM[what]
    found = bno.inspect(model(text, **arrays))
    assert found.norms == ()
    assert str(found) == found.summary() == "no batch norm found"


def test_a_constant_of_all_axes_tells_where_the_channels_are():
    made = model("(float[N, 3] x) => (float[N, 3] y) { o = Odd(x) a = Mul(o, w) y = Add(a, b) }", **C1311)
    assert [(n.written, n.channels, n.reads) for n in bno.inspect(made).norms] == [("Mul+Add", 3, "Odd o")]


def test_the_rest_of_a_chain_is_a_norm_of_its_own():
    """The first Mul is read twice; what comes behind it is a norm nevertheless."""
    made = model(f"{X} {{ k = Mul(x, w) a = Add(k, b) s = Mul(a, w) y = Max(s, k) }}", **C1311)
    assert [(n.name, n.written, n.reads) for n in bno.inspect(made).norms] == [("s", "Add+Mul", "Mul k")]


WRITTEN_IN_PARTS = {
    "n = BatchNormalization(x, w, b, m, v) s = Mul(n, cw) y = Add(s, cb)": "BatchNormalization+Mul+Add",
    "n = BatchNormalization(x, w, b, m, v) y = Mul(cw, n)": "BatchNormalization+Mul",
    "n = BatchNormalization(x, w, b, m, v) y = Sub(n, half)": "BatchNormalization+Sub",
    "a = Add(x, cb) n = BatchNormalization(a, w, b, m, v) y = Div(n, cd)": "Add+BatchNormalization+Div",
    "n = BatchNormalization(x, w, b, m, v) y = BatchNormalization(n, w, b, m, v)": "2",
    "s = Mul(x, half) t = Sub(s, cb) n = BatchNormalization(t, w, b, m, v) y = Add(n, half)": "4",
    "n = BatchNormalization(x, w, b, m, v) s = Unsqueeze(n, axes) q = Squeeze(s, axes) y = Mul(q, cw)": "1",
}


@pytest.mark.parametrize("nodes", WRITTEN_IN_PARTS)
def test_a_norm_written_in_parts_is_one(nodes):
    """Caffe normalizes in one node, scales and shifts in others."""
    made = model(
        f"{ANY} {{ {nodes} }}", **NORM, cw=column(*W), cb=column(*B), cd=column(0.5, -2, 7), half=np.float32(0.5),
        axes=np.array([0]),
    )  # fmt: skip
    x = np.random.default_rng(1).normal(size=IMAGE).astype(np.float32)
    want = run(made, x=x)[0]
    graph = Graph(made)
    (norm,) = find_norms(graph)
    written = WRITTEN_IN_PARTS[nodes]
    assert norm.written == written or len(norm.nodes) == int(written)
    assert norm.name == "n"
    if len(norm.nodes) > 1:  # the parameters are those of all nodes together
        for node in norm.nodes:
            graph.remove(node)
        names = [
            graph.add_constant(n, getattr(norm.parameters, n)) for n in ("scale", "B", "input_mean", "input_var")
        ]
        graph.make("BatchNormalization", [norm.input, *names], norm.output, "n", epsilon=norm.parameters.epsilon)
        graph.finish()
        np.testing.assert_allclose(run(made, x=x)[0], want, rtol=1e-5, atol=1e-5)


def test_parts_with_something_between_are_norms_of_their_own():
    made = model(
        f"{ANY} {{ n = BatchNormalization(x, w, b, m, v) r = Relu(n) s = Mul(r, cw) y = Add(s, cb) }}",
        **NORM, cw=column(*W), cb=column(*B),
    )  # fmt: skip
    assert [n.written for n in bno.inspect(made).norms] == ["BatchNormalization", "Mul+Add"]
    # In 8 bits each has an output of its own.
    text = "g = BatchNormalization(a, w, b, m, v) h = QuantizeLinear(g, s, z) i = DequantizeLinear(h, s, z) "
    made = qdq(text + "n = BatchNormalization(i, w, b, m, v)")
    assert [n.written for n in bno.inspect(made).norms] == ["BatchNormalization"] * 2


def test_all_norms_in_the_order_of_the_graph():
    made = model(
        f"""{ANY} {{
            c = Mul(x, cw)
            d = Add(c, cb)
            e = Relu(d)
            y = BatchNormalization(e, w, b, m, v)
        }}""",
        **NORM, cw=column(*W), cb=column(*B),
    )  # fmt: skip
    norms = bno.inspect(made).norms
    assert [(n.name, n.written, n.reads, n.activation) for n in norms] == [
        ("d", "Mul+Add", "input x", "Relu"),
        ("y", "BatchNormalization", "Relu e", ""),
    ]


# --- quantized ------------------------------------------------------------------------------------------------

BYTES = {"s": np.float32(0.05), "z": np.uint8(100), "t": np.float32(0.1), "u": np.uint8(7)}
QDQ = "(uint8[N, 3, H, W] x) => (uint8[N, 3, H, W] y)"


def qdq(middle, signature=QDQ, *, source="DequantizeLinear(x, s, z)", target="QuantizeLinear(n, t, u)", **options):
    """Return a model with a norm from `a` to `n`, in float between conversions."""
    return model(f"{signature} {{ a = {source} {middle} y = {target} }}", **{**NORM, **BYTES, **options})


BN = "n = BatchNormalization(a, w, b, m, v)"


def only(made):
    (norm,) = bno.inspect(made).norms
    return norm


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
            """k = Mul(a, cw) q = QuantizeLinear(k, t, u) d = DequantizeLinear(q, t, u) l = Add(cb, d)
               e = QuantizeLinear(l, t, u) f = DequantizeLinear(e, t, u) n = Relu(f)""",
            "Relu",
            (0, np.inf),
        ),
    ],
)
def test_the_activation_belongs_to_it(middle, activation, limits):
    made = qdq(middle, lo=np.float32(-1), hi=np.float32(6), cw=column(*W), cb=column(*B))
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


# --- by others and by us --------------------------------------------------------------------------------------


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
    assert (norm.lowerable, norm.problem, norm.channels) == (True, "", 3)
    (found,) = find_norms(Graph(made))
    assert_rounded_to_8_bits(found.parameters)
    first, second = made.graph.node[2:4]
    assert (found.source.scale_name, found.source.zero_point_name) == tuple(first.input[1:3])
    assert (found.target.scale_name, found.target.zero_point_name) == tuple(second.input[6:8])


QLINEAR = """(uint8[N, 3, H, W] x, float t2) => (uint8[N, 3, H, W] y) {
    p = com.microsoft.QLinearMul(w8, e, f, x, s, z, t, u)
    y = com.microsoft.QLinearAdd(p, t, u, w8, s, z, OUT)
}"""


@pytest.mark.parametrize(
    ("out", "changes", "problem"),
    [
        ("t, u", {}, ""),
        ("t", {}, ""),
        ("t2, u", {}, "the scale of its output is not constant"),
        ("t3, u", {"t3": np.float32(0)}, "the scale of its output is 0.0"),
        ("t, u", {"t": np.float32(0)}, None),
        ("t, u", {"s": np.float32(np.inf)}, None),
        ("t, u", {"w8": np.uint8([1, 2, 3])}, ""),  # along the last axis
        ("t, u", {"w8": np.uint8([[1], [2], [3]])}, None),  # along the third
    ],
)
def test_qlinear_mul_and_add(out, changes, problem):
    constants = {"w8": np.uint8([[[1]], [[200]], [[100]]]), "e": np.float32(0.01), "f": np.uint8(99)}
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
        for name in ("j", "q")
    )


# --- how it is told -------------------------------------------------------------------------------------------

DIGITS = """\
norm             channels  written as                 reads                        runs in  folds into
input/norm              1  BatchNormalization         input image                  float    no: it reads an input of the model; forward: the Conv stem/conv pads it with zeros
stem/norm              24  BatchNormalization + Relu  Conv stem/conv               float    Conv stem/conv
residual1/norm1        24  BatchNormalization + Relu  MaxPool stem/pool            float    no: it reads the MaxPool stem/pool
residual1/norm2        24  BatchNormalization + Relu  Conv residual1/conv1         float    Conv residual1/conv1
residual2/norm1        24  BatchNormalization + Relu  Add residual1/add            float    no: it reads the Add residual1/add
residual2/norm2        24  BatchNormalization + Relu  Conv residual2/conv1         float    Conv residual2/conv1
dense1/norm1           24  BatchNormalization + Relu  Add residual2/add            float    no: it reads the Add residual2/add
dense1/norm2           40  BatchNormalization + Relu  Concat dense1/concat1        float    no: it reads the Concat dense1/concat1
transition/norm        56  BatchNormalization + Clip  Concat dense1/concat2        float    no: it reads the Concat dense1/concat2
dense2/norm1           40  BatchNormalization + Relu  AveragePool transition/pool  float    no: it reads the AveragePool transition/pool
dense2/norm2           72  BatchNormalization + Relu  Concat dense2/concat1        float    no: it reads the Concat dense2/concat1
head/norm             104  BatchNormalization + Relu  Concat dense2/concat2        float    no: it reads the Concat dense2/concat2
12 batch norms: 12 in float, 0 in 8 bits; 3 can be folded"""  # noqa: E501


def test_the_digits_network():
    inspection = bno.inspect(bno.digits_model())
    assert str(inspection) == DIGITS
    assert len(inspection.in_float) == 12
    assert [n.name for n in inspection.foldable] == ["stem/norm", "residual1/norm2", "residual2/norm2"]
    assert not inspection.quantized


def test_as_plain_data():
    inspection = bno.inspect(qdq(BN, b=f32(1, 2)))
    back = json.loads(json.dumps(inspection.to_dict()))
    assert back == {
        "norms": [
            {
                "name": "n", "channels": None, "written": "BatchNormalization", "reads": "input x",
                "activation": "", "runs_in": "float", "folds_into": "",
                "reason": "it reads 8-bit data", "lowerable": False,
                "problem": "its parameters have different lengths: scale 3, B 2, input_mean 3, input_var 3",
                "pattern": "", "unfused": "", "forward": False, "reason_forward": "",
            }
        ],
        "opset": 17,
        "ir_version": 8,
        "quantized": True,
        "note": "",
    }  # fmt: skip
    assert inspection.rows() == [
        ("n", "?", "BatchNormalization", "input x", "float", "no: it reads 8-bit data"),
    ]


@pytest.mark.parametrize(
    ("made", "quantized"),
    [
        (qdq(BN), True),
        (
            model(
                f"{QDQ} {{ y = QLinearConv(x, s, z, k, s, z, s, z) }}", **BYTES, k=np.ones((3, 3, 1, 1), np.uint8)
            ),
            True,
        ),
        (model(f"{ANY} {{ y = Relu(x) }}"), False),
    ],
)
def test_whether_anything_is_quantized(made, quantized):
    assert bno.inspect(made).quantized == quantized


def test_a_model_is_not_changed(tmp_path):
    made = qdq(BN)
    before = made.SerializeToString()
    inspection = bno.inspect(made)
    assert made.SerializeToString() == before
    onnx.save(made, tmp_path / "m.onnx")
    assert bno.inspect(tmp_path / "m.onnx") == bno.inspect(str(tmp_path / "m.onnx")) == inspection


def test_what_is_no_model():
    with pytest.raises(TypeError, match=r"^model must be an onnx.ModelProto or a path, got bytes$"):
        bno.inspect(b"model")
    with pytest.raises(FileNotFoundError, match=r"^model 'nowhere.onnx' does not exist$"):
        bno.inspect("nowhere.onnx")


def test_norms_inside_functions_of_the_model():
    """Exporters wrap modules into functions; the digits of such a model say nothing else than written out."""
    digits = onnx.load(bno.digits_model())
    inner = next(n for n in digits.graph.node if n.name == "head/norm")
    names = [f"in{i}" for i in range(5)]
    body = helper.make_node("BatchNormalization", names, ["out"], name="norm", epsilon=inner.attribute[0].f)
    function = helper.make_function("user", "Head", names, ["out"], [body], [helper.make_opsetid("", 17)])
    digits.functions.append(function)
    digits.opset_import.append(helper.make_opsetid("user", 1))
    call = helper.make_node("Head", list(inner.input), list(inner.output), name="head", domain="user")
    inner.CopyFrom(call)
    assert len(bno.inspect(digits).norms) == 12
    images = {"image": np.random.default_rng(0).random((8, 1, 28, 28), dtype=np.float32)}
    for lowering in ("portable", "exact"):
        made = bno.quantize(digits, [images], lowering=lowering)
        assert len(bno.inspect(made).norms) == 9
        assert not bno.inspect(made).in_float
        assert [f.name for f in made.functions] == (["QLinearBatchNormalization"] if lowering == "exact" else [])
