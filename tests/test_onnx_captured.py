"""Branches and loops that read what was moved behind codes: ONNX Runtime would end this process."""

import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper

import bytenorm.onnx as bno
from bytenorm.onnx.graph.captured import captured_behind_codes
from bytenorm.onnx.run.apart import may_be_fatal

MOVES = {
    "Reshape": (["shape"], {}),
    "Transpose": ([], {"perm": [0, 2, 3, 1]}),
    "Squeeze": ([], {}),
    "Unsqueeze": (["axis"], {}),
    "Slice": (["start", "stop"], {}),
    "MaxPool": ([], {"kernel_shape": [2, 2]}),
}
CONSTANTS = {
    "shape": np.array([-1, 4], np.int64), "axis": np.array([0], np.int64), "start": np.array([0, 1], np.int64),
    "stop": np.array([9, 3], np.int64), "one": np.int64(1), "true": np.array(True),
    "s": np.float32(0.1), "z": np.uint8(3),
}  # fmt: skip


def branching(before, moves, taken, *, loop=False):
    """Return a model whose If or Loop reads what a chain of moves makes of the tensor that `before` ends with."""
    nodes, tensor = list(before), before[-1].output[0]
    for i, op in enumerate(moves):
        inputs, attributes = MOVES.get(op, ([], {}))
        nodes.append(helper.make_node(op, [tensor, *inputs], [f"moved{i}"], name=f"move{i}", **attributes))
        tensor = f"moved{i}"
    float_of = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("a", "b")]
    if loop:
        ends = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "on")]
        number = helper.make_tensor_value_info("i", TensorProto.INT64, [])
        body = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Abs", [tensor], ["a"])]
        inner = helper.make_graph(body, "body", [number, ends[0]], [ends[1], float_of[0]])
        nodes.append(helper.make_node("Loop", ["one", "true"], ["y"], name="branch", body=inner))
    else:
        branches = {
            f"{name}_branch": helper.make_graph([helper.make_node(op, [tensor], [made.name])], name, [], [made])
            for name, op, made in zip(("then", "else"), ("Abs", "Neg"), float_of, strict=True)
        }
        nodes.append(helper.make_node("If", ["c"], ["y"], name="branch", **branches))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 6, 6])
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    if taken:  # something else reads what was moved, too
        nodes.append(helper.make_node("Relu", [tensor], ["also"]))
        outputs.append(helper.make_tensor_value_info("also", TensorProto.FLOAT, None))
    values = {**CONSTANTS, "w": np.random.default_rng(1).normal(0, 0.3, (4, 4, 3, 3)).astype(np.float32)}
    values |= {name: np.linspace(0.5, 1.5, 4, dtype=np.float32) for name in ("g", "t", "m", "v")}
    inputs = [x] if loop else [x, condition]
    graph = helper.make_graph(
        nodes, "g", inputs, outputs, [numpy_helper.from_array(value, name) for name, value in values.items()]
    )
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 19)])


def float_nodes():
    return [
        helper.make_node("Conv", ["x", "w"], ["c0"], name="first"),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu"),
        helper.make_node("BatchNormalization", ["r0", "g", "t", "m", "v"], ["n0"], name="norm"),
        helper.make_node("Conv", ["n0", "w"], ["c1"], name="second", pads=[1, 1, 1, 1]),
    ]


def code_nodes():
    return [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
    ]


@pytest.mark.thorough(but=4)
@pytest.mark.parametrize("quant_format", ["QDQ", "QOperator"])
@pytest.mark.parametrize("moves", [*((op,) for op in MOVES), ("MaxPool", "Identity", "Reshape"), ("Identity",)])
def test_quantize(moves, quant_format, rng):
    """What is written survives in every lowering, and the branch reads the numbers that it did."""
    loop = len(moves[0]) % 2 == 0
    model = branching(float_nodes(), moves, taken=moves[0] < "S", loop=loop)
    feeds = [
        {"x": x, **({} if loop else {"c": np.array(i % 2 == 0)})}
        for i, x in enumerate(rng.normal(0, 1, (6, 1, 4, 6, 6)).astype(np.float32))
    ]
    quantized = bno.quantize(model, feeds, quant_format=quant_format, fast=True, lowering="qdq")
    for lowering in ("qdq", "portable", "exact", "fused"):
        made = bno.lower(quantized, lowering=lowering) if lowering != "qdq" else quantized
        assert not list(captured_behind_codes(made.graph))
        wanted, found = bno.session(model), bno.session(made)
        for feed in feeds:
            for one, other in zip(wanted.run(None, feed), found.run(None, feed), strict=True):
                assert one.shape == other.shape
                noise = np.square(one - other).sum()
                assert noise < 0.01 * np.square(one).sum()


@pytest.mark.thorough(but=4)
@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("moves", [(op,) for op in MOVES])
def test_somebody_elses_model(moves, loop, rng):
    """A model that ends ONNX Runtime is an error with words, and runs when it is lowered."""
    model = branching(code_nodes(), moves, taken=True, loop=loop)
    assert may_be_fatal(model)
    feed = {"x": rng.normal(0, 1, (1, 4, 6, 6)).astype(np.float32), **({} if loop else {"c": np.array(True)})}
    with pytest.raises(ValueError, match=r"ended its process \(SIG\w+\): .* a Reshape or the like makes of codes"):
        bno.compare(model, model, [feed])
    with pytest.warns(bno.LoweringWarning, match="no batch norm"):
        made = bno.lower(model)
    assert not may_be_fatal(made)
    moved = onnx.reference.ReferenceEvaluator(made).run(None, feed)
    for one, other in zip(bno.session(made).run(None, feed), moved, strict=True):
        np.testing.assert_array_equal(one.ravel(), other.ravel())  # the evaluator joins what a loop stacks
