"""Norms in float: every way to write one, and what is none."""

import numpy as np
import pytest
from written_norms import ANY, C311, IMAGE, NORM, B, M, W, column, f32, model, qdq, run

from bytenorm import onnx as bno
from bytenorm.onnx.graph.graph import Graph
from bytenorm.onnx.norms.find import find_norms

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
