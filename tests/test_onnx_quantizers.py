"""Small networks as ten quantizers write them: every norm that reads and gives codes there runs in 8 bits.

The graphs have the structure of these tools' own files, made by hand: where conversions are is all that counts.
"""

import contextlib
import re

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from bytenorm import onnx as bno
from bytenorm.onnx.lowering.lower import lower_with_report

# In the texts Q(x, 1) and D(x, 1) are conversions with quantization 1, and a layer Conv(x, 8) makes 8 channels.
# Quantizations 1 to 4 are uint8 with a zero point in the middle, 5 and 6 those of numbers above 0, 7 is int8.
HEAD = "V = ReduceMean<axes = [2, 3], keepdims = 0>(u) y = Gemm(V, 5)"
TOOLS = {
    # Only what layers and sums read: a concatenation is none of that, nor the last sum.
    "NNCF": """a = Q(x, 1) b = D(a, 1) c = Conv(b, 8) d = Q(c, 2) e = D(d, 2) n0 = Norm(e) f = Relu(n0) g = Q(f, 5)
        h = D(g, 5) i = Conv(h, 4) j = Q(i, 7) k = D(j, 7) l = Concat<axis = 1>(e, k) n1 = Norm(l) m = Relu(n1)
        o = Q(m, 5) p = D(o, 5) q = Conv(p, 4) r = Q(q, 3) s = D(r, 3) t = Concat<axis = 1>(e, k, s) n2 = Norm(t)
        v = Relu(n2) w = Q(v, 6) A = D(w, 6) B = Conv(A, 6) C = Q(B, 1) E = D(C, 1) F = MaxPool<kernel_shape =
        [2, 2]>(E) n3 = Norm(F) G = Relu(n3) H = Q(G, 5) I = D(H, 5) J = Conv(I, 6) K = Q(J, 4) L = D(K, 4)
        M = Add(F, L) n4 = Norm(M) N = Relu(n4) O = Q(N, 6) P = D(O, 6) u = Conv(P, 5)""",
    "onnx-neural-compressor": """a = Q(x, 1) b = D(a, 1) c = Conv(b, 6) d = Q(c, 2) e = D(d, 2) n0 = Norm(e)
        f = Relu(n0) g = Q(f, 5) h = D(g, 5) i = Conv(h, 6) j = Q(i, 3) k = D(j, 3) l = Add(e, k) n1 = Norm(l)
        m = Relu(n1) o = Flatten(m) p = Q(o, 5) q = D(p, 5) r = Reshape(q, six) u = Conv(r, 5)""",
    # Layers alone: a norm reads the Relu of a layer.
    "ONNX Runtime, layers only": """a = Q(x, 1) b = D(a, 1) c = Conv(b, 6) d = Q(c, 2) e = D(d, 2) f = Relu(e)
        n0 = Norm(f) g = Q(n0, 3) h = D(g, 3) i = Conv(h, 6) j = Q(i, 1) k = D(j, 1) l = Clip(k, zero, two)
        n1 = Norm(l) m = Q(n1, 2) o = D(m, 2) u = Conv(o, 5)""",
    "aimet-torch": """a = Q(x, 7) b = D(a, 7) c = Conv(b, 6) d = Q(c, 7) e = D(d, 7) f = Relu(e) n0 = Norm(f)
        g = Q(n0, 7) h = D(g, 7) i = Conv(h, 6) j = Q(i, 7) k = D(j, 7) l = Relu(k)
        m = MaxPool<kernel_shape = [2, 2]>(l) n1 = Norm(m) o = Q(n1, 7) p = D(o, 7) u = Conv(p, 5)""",
    "XNNPACKQuantizer": """a = Q(x, 7) b = D(a, 7) c = Conv(b, 4) d = Q(c, 7) e = D(d, 7) f = Conv(e, 4)
        g = Q(f, 7) h = D(g, 7) i = Concat<axis = 1>(e, h) n0 = Norm(i) j = Relu(n0) k = Reshape(j, flat)
        l = Q(k, 7) m = D(l, 7) o = Reshape(m, eight) u = Conv(o, 5)""",
    "Quark": """a = Q(x, 7) b = D(a, 7) c = Conv(b, 6) d = Relu(c) e = Q(d, 7) f = D(e, 7) n0 = Norm(f)
        g = Flatten(n0) h = Q(g, 7) i = D(h, 7) j = Reshape(i, six) u = Conv(j, 5)""",
    "brevitas": """a = Q(x, 7) Z = Clip(a, least, most) b = D(Z, 7) c = Conv(b, 6) d = Relu(c) e = Q(d, 5)
        Y = Clip(e, none, many) f = D(Y, 5) n0 = Norm(f) g = Q(n0, 7) X = Clip(g, least, most) h = D(X, 7)
        u = Conv(h, 5)""",
    "a pair for each reader": """a = Q(x, 1) b = D(a, 1) c = Conv(b, 6) d = Q(c, 2) e = D(d, 2) D = Q(c, 2)
        E = D(D, 2) n0 = Norm(e) f = Relu(n0) g = Q(f, 5) h = D(g, 5) F = Q(f, 5) G = D(F, 5) i = Conv(h, 6)
        j = Conv(G, 6) k = Q(i, 3) l = D(k, 3) m = Q(j, 4) o = D(m, 4) p = Add(l, o) q = Add(E, p)
        u = Conv(q, 5)""",
}  # fmt: skip
TOOLS["ONNX Runtime, pairs of its own"] = TOOLS["Quark"]
SUMS = {"NNCF": ["n4"], "onnx-neural-compressor": ["n1"]}  # that are not rounded
QUANTIZATIONS = {
    "1": (0.03, np.uint8(120)), "2": (0.04, np.uint8(135)), "3": (0.025, np.uint8(128)),
    "4": (0.035, np.uint8(110)), "5": (0.015, np.uint8(0)), "6": (0.02, np.uint8(0)), "7": (0.035, np.int8(0)),
}  # fmt: skip


def made_by(tool):
    """Return a tool's network; shapes are of images of 3 x 6 x 6."""
    rng = np.random.default_rng(3)
    arrays = {
        "zero": np.float32(0), "two": np.float32(2.005), "six": np.int64([0, 6, 6, 6]), "flat": np.int64([0, -1]),
        "eight": np.int64([0, 8, 6, 6]), "least": np.int8(-64), "most": np.int8(63), "none": np.uint8(0),
        "many": np.uint8(127),
    }  # fmt: skip
    for name, (scale, zero_point) in QUANTIZATIONS.items():
        arrays |= {f"s{name}": np.float32(scale), f"z{name}": zero_point}
    channels = {"x": 3}
    lines = []
    for made, op, rest in re.findall(r"(\w+) = (\w+(?:<[^>]*>)?)\(([^)]*)\)", f"{TOOLS[tool]} {HEAD}"):
        of = [part.strip() for part in rest.split(",")]
        name = "layer" + made if op in ("Conv", "Gemm") else made
        c = channels.get(of[0], 0)
        if op in ("Q", "D"):
            text = f"{'QuantizeLinear' if op == 'Q' else 'DequantizeLinear'}({of[0]}, s{of[1]}, z{of[1]})"
        elif op in ("Conv", "Gemm"):
            outputs = int(of[1])
            shape = (outputs, c, 3, 3) if op == "Conv" else (5, outputs)
            arrays[f"{name}w"] = rng.integers(-60, 61, shape).astype(np.int8)
            arrays |= {f"{name}s": np.float32(0.05 / np.sqrt(shape[1] * 9)), f"{name}z": np.int8(0)}
            lines.append(f"{name}r = DequantizeLinear({name}w, {name}s, {name}z)")
            how = "<pads = [1, 1, 1, 1]>" if op == "Conv" else "<transB = 1>"
            text, c = f"{op}{how}({of[0]}, {name}r)", outputs
        elif op == "Norm":
            for what, (low, high) in {
                "g": (0.6, 1.2),
                "b": (-0.4, 0.4),
                "m": (-0.3, 0.3),
                "v": (0.6, 1.2),
            }.items():
                arrays[f"{name}{what}"] = rng.uniform(low, high, c).astype(np.float32)
            text = f"BatchNormalization({of[0]}, {', '.join(name + what for what in 'gbmv')})"
        else:
            text = f"{op}({rest})"
            c = sum(channels.get(part, 0) for part in of) if op.startswith("Concat") else c
            c = {"six": 6, "eight": 8}.get(of[-1], c)
        channels[made] = c
        lines.append(f"{made} = {text}")
    body = "\n".join(lines)
    domains = '"": 17, "com.microsoft": 1'
    model = onnx.parser.parse_model(
        f"<ir_version: 8, opset_import: [{domains}]> g (float[N, 3, 6, 6] x) => (float[N, 5] y) {{ {body} }}"
    )
    used = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), n) for n, v in arrays.items() if n in used
    )
    if tool == "brevitas":  # every initializer is an input as well
        for tensor in model.graph.initializer:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    if tool == "ONNX Runtime, pairs of its own":
        for node in model.graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                node.domain = "com.microsoft"
    return model


def run(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    x = np.random.default_rng(9).normal(size=(4, 3, 6, 6)).astype(np.float32)
    return bno.session(model, options).run(None, {"x": x})[0]


@pytest.mark.parametrize("lowering", ["portable", "exact", "fused"])
@pytest.mark.parametrize("tool", TOOLS)
def test_what_a_quantizer_writes(tool, lowering):
    model = made_by(tool)
    onnx.checker.check_model(model, full_check=True)
    with pytest.warns(UserWarning, match="read as constants") if tool == "brevitas" else contextlib.nullcontext():
        made, outcomes = lower_with_report(model, lowering=lowering)
    left = [] if lowering == "fused" else SUMS.get(tool, [])
    assert {o.name: o.problem for o in outcomes if o.problem} == dict.fromkeys(
        left, 'it reads a sum that is not rounded to codes, which lowering="fused" takes'
    )
    assert len(outcomes) == TOOLS[tool].count("Norm(")
    onnx.checker.check_model(made, full_check=True)
    want, got = run(model), run(made)
    assert want.std() > 0.05  # it computes something
    noise = 10 * np.log10(np.mean(want**2) / max(np.mean((want - got) ** 2), 1e-20))
    assert noise > 35  # single codes are a step off; a wrong scale or channel is below 20
