import json
import math

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.qdq_loss_debug import compute_signal_to_quantization_noice_ratio

from bytenorm._decibels import snr_db
from bytenorm.onnx.data.dataset import open_data
from bytenorm.onnx.measurement.compare import compare
from bytenorm.onnx.measurement.comparison import Comparison, OutputComparison

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def model(nodes, outputs=(("y", ("N", None)),), inputs=(("x", ("N", 4)),), initializers=(), kind=FLOAT):
    """Return a model: nodes as (operator, inputs, outputs, attributes)."""
    graph = helper.make_graph(
        [helper.make_node(name, *arguments, **attributes) for name, *arguments, attributes in nodes],
        "graph",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in dict(initializers).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def linear(weight, output="y"):
    """Return x @ weight."""
    initializers = {"w": np.asarray(weight, np.float32)}
    return model([("MatMul", ["x", "w"], [output], {})], [(output, ("N", None))], initializers=initializers)


def plus(offset):
    """Return x + offset, of one shape."""
    return model([("Add", ["x", "b"], ["y"], {})], initializers={"b": np.asarray(offset, np.float32)})


def items(n=70, seed=0):
    return [{"x": np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)}]


WEIGHT = np.random.default_rng(1).normal(size=(4, 10)).astype(np.float32)
NOISY = WEIGHT + np.random.default_rng(2).normal(scale=0.1, size=(4, 10)).astype(np.float32)
IDENTITY = linear(np.eye(4))


def message_of(call, error=ValueError):
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert type(caught.value) is error
    assert "\n" not in text
    return text


def only(comparison):
    (output,) = comparison.outputs
    return output


# --- numbers ----------------------------------------------------------------------------------------------------


def outputs_of(weight, data):
    """Return what ONNX Runtime gives in one run."""
    session = onnxruntime.InferenceSession(linear(weight).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, data)[0]


def test_numbers_are_those_of_others():
    """SNR as ONNX Runtime's quantizer computes it, the rest as torch does: over everything at once."""
    data = items()
    comparison = compare(linear(WEIGHT), linear(NOISY), data)
    assert comparison.samples == 70
    out = only(comparison)
    wanted, got = (outputs_of(weight, data[0]).astype(np.float64) for weight in (WEIGHT, NOISY))
    first, second = torch.from_numpy(wanted), torch.from_numpy(got)
    assert out.name == "y"
    assert out.snr_db == pytest.approx(compute_signal_to_quantization_noice_ratio(wanted, got), rel=1e-6)
    cosine = torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0)
    assert out.cosine == pytest.approx(cosine.item(), rel=1e-9)
    assert out.top1_agreement == (first.argmax(1) == second.argmax(1)).double().mean().item()
    assert 0 < out.top1_agreement < 1
    assert out.max_abs_error == pytest.approx((first - second).abs().max().item(), rel=1e-6)
    each = [compute_signal_to_quantization_noice_ratio(a, b) for a, b in zip(wanted, got, strict=True)]
    assert out.worst_sample == int(np.argmin(each))
    assert out.worst_sample_snr_db == pytest.approx(min(each), rel=1e-5)
    assert out.worst_sample_snr_db < out.snr_db


@pytest.mark.parametrize("pieces", [1, 2, 7, 70])
def test_batches_do_not_matter(pieces):
    whole = only(compare(linear(WEIGHT), linear(NOISY), items()))
    data = [{"x": part} for part in np.split(items()[0]["x"], pieces)]
    out = only(compare(linear(WEIGHT), linear(NOISY), data))
    assert (out.worst_sample, out.top1_agreement) == (whole.worst_sample, whole.top1_agreement)
    for name in ("snr_db", "cosine", "max_abs_error", "worst_sample_snr_db"):
        assert getattr(out, name) == pytest.approx(getattr(whole, name), rel=1e-5)


def test_equal_models():
    out = only(compare(linear(WEIGHT), linear(WEIGHT), items()))
    assert out == OutputComparison("y", math.inf, 1.0, 1.0, 0.0, 0, math.inf)


def test_numbers_that_can_be_told_by_hand():
    """A reference of (3, 4) against (3, 3): signal 25, noise 1."""
    data = [{"x": np.array([[3, 4, 0, 0]], np.float32)}, {"x": np.array([[3, 4, 0, 0]], np.float32)}]
    out = only(compare(IDENTITY, linear(np.diag([1, 0.75, 1, 1])), data))
    assert out.snr_db == pytest.approx(10 * math.log10(25))
    assert out.cosine == pytest.approx(21 / (5 * math.sqrt(18)))
    assert (out.max_abs_error, out.worst_sample) == (1.0, 0)
    assert out.top1_agreement == 0.0  # 3 and 3: the first counts


def test_the_worst_sample():
    data = [{"x": np.array([[1, 1, 1, 1]] * n, np.float32)} for n in (40, 3, 1)]
    data[1]["x"][1] = 0.01  # the same error, less signal
    out = only(compare(IDENTITY, plus([0, 0, 0, 0.001]), data))
    assert out.worst_sample == 41
    assert out.worst_sample_snr_db == pytest.approx(10 * math.log10(4 * 0.01**2 / 0.001**2), abs=0.01)


def test_zeros():
    zeros = [{"x": np.zeros((3, 4), np.float32)}]
    out = only(compare(IDENTITY, IDENTITY, zeros))
    assert (out.snr_db, out.cosine, out.max_abs_error) == (math.inf, 1.0, 0.0)
    out = only(compare(IDENTITY, plus(np.ones(4)), zeros))
    assert (out.snr_db, out.cosine, out.max_abs_error) == (-math.inf, 0.0, 1.0)
    assert (out.worst_sample, out.worst_sample_snr_db) == (0, -math.inf)
    ones = [{"x": np.ones((3, 4), np.float32)}]
    out = only(compare(IDENTITY, linear(np.zeros((4, 4))), ones))
    assert (out.snr_db, out.cosine) == (0.0, 0.0)
    out = only(compare(IDENTITY, linear(-np.eye(4)), ones))
    assert out.cosine == -1.0


def test_the_sign_of_the_error_does_not_matter():
    ones = [{"x": np.ones((3, 4), np.float32)}]
    assert only(compare(IDENTITY, plus(np.full(4, 3)), ones)).max_abs_error == 3
    assert only(compare(IDENTITY, plus(np.full(4, -3)), ones)).max_abs_error == 3


# --- kinds of outputs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(-1, 2, 2), (-1, 4, 1), (-1,), (-1, 1), (1, -1), (-1, 2)])
def test_outputs_without_a_largest_value(shape):
    """Of rank 2 with at least 2 columns, a row a sample: only there one place is the largest."""
    if shape == (-1, 1):
        inputs = {"inputs": [("x", ("N", 1))]}
        data = [{"x": np.ones((5, 1), np.float32)}]
    else:
        inputs, data = {}, items(5)
    nodes = [("Reshape", ["x", "s"], ["y"], {})]
    made = model(nodes, [("y", None)], initializers={"s": np.array(shape, np.int64)}, **inputs)
    assert only(compare(made, made, data)).top1_agreement is None


def test_outputs_of_integers():
    largest = [("ArgMax", ["x"], ["y"], {"axis": 1, "keepdims": 1})]
    made = model(largest, kind=INT64)
    shifted = model(
        [("ArgMax", ["x"], ["a"], {"axis": 1, "keepdims": 1}), ("Add", ["a", "one"], ["y"], {})],
        kind=INT64,
        initializers={"one": np.array([1])},
    )
    out = only(compare(made, shifted, items()))
    assert (out.max_abs_error, out.top1_agreement) == (1.0, None)
    both = model([("Shape", ["x"], ["y"], {})], [("y", (2,))], kind=INT64)
    assert only(compare(both, both, items(2))).top1_agreement is None  # as many as samples, but of rank 1


def test_outputs_of_booleans():
    nodes = [("Greater", ["x", "zero"], ["y"], {})]
    made = model(nodes, kind=TensorProto.BOOL, initializers={"zero": np.zeros(1, np.float32)})
    other = model(nodes, kind=TensorProto.BOOL, initializers={"zero": np.full(1, 9, np.float32)})
    out = only(compare(made, other, items()))
    assert (out.max_abs_error, out.snr_db, out.top1_agreement) == (1.0, 0.0, None)


def test_outputs_that_are_one_a_batch():
    """The mean of everything: a batch counts as one, under the number of its first sample."""
    mean = model([("ReduceMean", ["x"], ["y"], {"keepdims": 0})], [("y", ())])
    other = model(
        [("Sign", ["x"], ["s"], {}), ("ReduceMean", ["s"], ["y"], {"keepdims": 0})],
        [("y", ())],
    )
    data = [{"x": np.ones((5, 4), np.float32)}, {"x": np.full((3, 4), 2, np.float32)}]
    out = only(compare(mean, other, data))
    assert (out.max_abs_error, out.worst_sample, out.top1_agreement) == (1.0, 5, None)
    assert out.snr_db == pytest.approx(10 * math.log10(5))
    keeping = model([("ReduceMean", ["x"], ["y"], {"axes": [0], "keepdims": 1})])
    assert only(compare(keeping, keeping, data)).top1_agreement is None
    flat = model([("ReduceMean", ["x"], ["y"], {"axes": [0], "keepdims": 0})], [("y", (4,))])
    assert only(compare(flat, flat, items(3))).top1_agreement is None


def test_empty_outputs():
    nodes = [("NonZero", ["x"], ["y"], {})]
    made = model(nodes, [("y", (2, None))], kind=INT64)
    zeros, ones = np.zeros((3, 4), np.float32), np.ones((3, 4), np.float32)
    assert problem(made, made, [{"x": zeros}]) == "it is empty"
    assert only(compare(made, made, [{"x": zeros}, {"x": ones}])).snr_db == math.inf


def test_other_types_of_one_output():
    """What is compared are numbers: the candidate may be float16."""
    cast = [("Cast", ["x"], ["y"], {"to": TensorProto.FLOAT16})]
    half = model(cast, kind=TensorProto.FLOAT16)
    assert 50 < only(compare(IDENTITY, half, items())).snr_db < 100
    assert only(compare(half, half, items())).top1_agreement == 1.0


# --- which outputs belong together ------------------------------------------------------------------------------


def two(first, second, *, swap=False, factor=1.0):
    """Return x and 2 x under two names."""
    nodes = [("Mul", ["x", "one"], [first], {}), ("Mul", ["x", "two"], [second], {})]
    outputs = [(first, ("N", 4)), (second, ("N", 4))]
    initializers = {"one": np.full(1, 1 * factor, np.float32), "two": np.full(1, 2 * factor, np.float32)}
    return model(nodes, outputs[::-1] if swap else outputs, initializers=initializers)


def test_by_name():
    comparison = compare(two("a", "b"), two("a", "b", swap=True), items())
    assert [(out.name, out.snr_db) for out in comparison.outputs] == [("a", math.inf), ("b", math.inf)]


def test_by_position():
    comparison = compare(two("a", "b"), two("c", "d"), items())
    assert [(out.name, out.snr_db) for out in comparison.outputs] == [("a", math.inf), ("b", math.inf)]
    assert [out.name for out in compare(two("a", "b"), two("a", "d"), items()).outputs] == ["a", "b"]
    assert only(compare(linear(WEIGHT), linear(WEIGHT, "z"), items())).name == "y"


def test_neither_by_name_nor_by_position():
    text = message_of(lambda: compare(two("a", "b"), two("b", "c"), items()))
    assert (
        text == "candidate must have the outputs of reference by name or by position, ['a', 'b'], got ['b', 'c']"
    )


def test_another_number_of_outputs():
    text = message_of(lambda: compare(two("a", "b"), IDENTITY, items()))
    assert text == "candidate must have as many outputs as reference, 2, got 1: ['y'] for ['a', 'b']"


# --- what cannot be compared ------------------------------------------------------------------------------------


def problem(reference, candidate, data, *, sample=0, broken=False):
    """Return why the only output cannot be compared; everything else that is said of it says nothing."""
    found = compare(reference, candidate, data)
    out = only(found)
    assert out.top1_agreement is None
    numbers = (out.snr_db, out.cosine, out.max_abs_error, out.worst_sample_snr_db)
    assert all(math.isnan(number) for number in numbers)
    assert (out.worst_sample, out.broken) == (sample, broken)
    assert str(found).splitlines()[1].split() == [out.name, *"------"]
    assert str(found).splitlines()[2] == f"{out.name}: not comparable: {out.problem}"
    (said,) = json.loads(json.dumps(found.to_dict(), allow_nan=False))["outputs"]
    assert said["snr_db"] is said["cosine"] is said["max_abs_error"] is said["worst_sample_snr_db"] is None
    assert said["problem"] == out.problem
    return out.problem


def test_other_shapes():
    text = problem(IDENTITY, linear(WEIGHT), items(33))
    assert text == "the candidate's has shape (32, 10), the reference's (32, 4), for samples 0 to 31"
    flat = model([("Reshape", ["x", "s"], ["y"], {})], [("y", None)], initializers={"s": np.array([-1])})
    assert "shape (128,)" in problem(IDENTITY, flat, items(33))


def test_a_size_that_depends_on_the_data():
    """What is there besides is compared, on all samples."""
    nodes = [("Greater", ["x", "t"], ["g"], {}), ("NonZero", ["g"], ["z"], {}), ("Identity", ["x"], ["y"], {})]
    some, more = (
        model(nodes, [("z", (2, None)), ("y", ("N", 4))], initializers={"t": np.array(t, np.float32)})
        for t in (0.5, 0.6)
    )
    for made in (some, more):
        made.graph.output[0].type.tensor_type.elem_type = INT64
    data = [{"x": np.full((2, 4), value, np.float32)} for value in (0.2, 0.55, 0.7)]
    found = compare(some, more, data)
    sizes, whole = found.outputs
    assert sizes.problem == "the candidate's has shape (2, 0), the reference's (2, 8), for samples 2 to 3"
    assert sizes.worst_sample == 2
    assert (whole.problem, whole.snr_db, found.samples) == ("", math.inf, 6)


# --- what is refused --------------------------------------------------------------------------------------------


def test_other_inputs():
    other = model([("Relu", ["z"], ["y"], {})], inputs=[("z", ("N", 4))])
    text = message_of(lambda: compare(IDENTITY, other, items()))
    assert text == "candidate must have the inputs of reference, 'x' tensor(float), got 'z' tensor(float)"
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=FLOAT)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ("N", 4))],
        [helper.make_tensor_value_info("y", FLOAT, ("N", 4))],
    )
    bytes_ = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    assert "got 'x' tensor(uint8)" in message_of(lambda: compare(IDENTITY, bytes_, items()))


def test_another_shape_of_the_input():
    other = model([("Relu", ["x"], ["y"], {})], inputs=[("x", ("N", 5))])
    text = message_of(lambda: compare(IDENTITY, other, items()))
    assert text.startswith("candidate: ONNX Runtime cannot run it: ")


def logarithm(offset=0.0):
    return model(
        [("Add", ["x", "b"], ["a"], {}), ("Log", ["a"], ["y"], {})],
        initializers={"b": np.full(4, offset, np.float32)},
    )


@pytest.mark.parametrize(("value", "shown"), [(-1, "nan"), (0, "-inf")])
def test_outputs_that_are_no_numbers(value, shown):
    data = [{"x": np.ones((40, 4), np.float32)}]
    data[0]["x"][35, 2] = value
    text = problem(logarithm(), logarithm(), data, sample=35)
    assert text == f"the reference's holds {shown} for sample 35"
    text = problem(logarithm(5), logarithm(), data, sample=35, broken=True)
    assert text == f"the candidate's holds {shown} for sample 35"


def test_outputs_that_are_too_large():
    nodes = [("Cast", ["x"], ["d"], {"to": TensorProto.DOUBLE}), ("Mul", ["d", "b"], ["y"], {})]
    made = model(nodes, kind=TensorProto.DOUBLE, initializers={"b": np.full(4, 1e200)})
    assert problem(made, made, items()) == "it is too large to be squared in float64 for sample 0"


def test_outputs_that_are_no_tensors_of_numbers():
    words = model([("Cast", ["x"], ["y"], {"to": TensorProto.STRING})], kind=TensorProto.STRING)
    assert problem(words, words, items()) == "the reference's is tensor(string), no tensor of numbers"
    assert problem(IDENTITY, words, items()) == "the candidate's is tensor(string), no tensor of numbers"
    sequence = model([("SequenceConstruct", ["x"], ["y"], {})])
    sequence.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", FLOAT, None))
    assert problem(sequence, sequence, items()) == "the reference's is seq(tensor(float)), no tensor of numbers"
    maybe = model([("Optional", ["x"], ["y"], {})])
    maybe.opset_import[0].version = 16
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, None))
    maybe.graph.output[0].CopyFrom(helper.make_value_info("y", kind))
    assert problem(maybe, maybe, items()) == "the reference's is optional(tensor(float)), no tensor of numbers"


def test_models_are_called_by_their_place(tmp_path):
    gone = tmp_path / "m.onnx"
    text = message_of(lambda: compare(gone, IDENTITY, items()), FileNotFoundError)
    assert text == f"reference {str(gone)!r} does not exist"
    text = message_of(lambda: compare(IDENTITY, gone, items()), FileNotFoundError)
    assert text == f"candidate {str(gone)!r} does not exist"
    text = message_of(lambda: compare(IDENTITY, 3, items()), TypeError)
    assert text == "candidate must be an onnx.ModelProto or a path, got int"
    unknown = model([("NoSuchOperator", ["x"], ["y"], {})])
    assert "NoSuchOperator" in message_of(lambda: compare(unknown, unknown, items()))


def test_data_is_checked():
    text = message_of(lambda: compare(IDENTITY, IDENTITY, [{"z": np.ones(3)}]))
    assert text.startswith("data[0]: 'x' is missing, 'z' is unknown")
    assert message_of(lambda: compare(IDENTITY, IDENTITY, [])) == "data holds no samples"
    assert "data must be" in message_of(lambda: compare(IDENTITY, IDENTITY, None), TypeError)
    assert "limit must be" in message_of(lambda: compare(IDENTITY, IDENTITY, items(), limit=0))


# --- the call ---------------------------------------------------------------------------------------------------


def test_models_and_data_from_files(tmp_path):
    onnx.save(linear(WEIGHT), tmp_path / "a.onnx")
    onnx.save(linear(NOISY), tmp_path / "b.onnx")
    np.save(tmp_path / "x.npy", items()[0]["x"])
    wanted = compare(linear(WEIGHT), linear(NOISY), items())
    assert compare(tmp_path / "a.onnx", str(tmp_path / "b.onnx"), tmp_path / "x.npy") == wanted
    assert compare(linear(WEIGHT), linear(NOISY), open_data(items(), linear(WEIGHT))) == wanted
    assert compare(linear(WEIGHT), linear(NOISY), iter(items())) == wanted


def test_models_with_external_data(tmp_path):
    onnx.save(linear(WEIGHT), tmp_path / "a.onnx", save_as_external_data=True, location="w", size_threshold=10)
    assert only(compare(tmp_path / "a.onnx", linear(WEIGHT), items())).snr_db == math.inf


def test_limit():
    comparison = compare(linear(WEIGHT), linear(NOISY), items(), limit=40)
    assert comparison.samples == 40
    assert comparison == compare(linear(WEIGHT), linear(NOISY), [{"x": items()[0]["x"][:40]}])


def test_a_fixed_batch():
    fixed = linear(WEIGHT)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7
    out = only(compare(fixed, linear(NOISY), items()))
    assert out.worst_sample == only(compare(linear(WEIGHT), linear(NOISY), items())).worst_sample


def test_progress():
    seen = []
    compare(IDENTITY, IDENTITY, items(70), progress=lambda done, of: seen.append((done, of)))
    assert seen == [(32, 70), (64, 70), (70, 70)]

    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(IDENTITY, IDENTITY, items(), progress=stop)


def test_session_options():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for _ in range(2):
        assert only(compare(IDENTITY, IDENTITY, items(), sess_options=options)).snr_db == math.inf


def test_models_are_left_alone():
    first, second = linear(WEIGHT), linear(NOISY)
    before = first.SerializeToString(), second.SerializeToString()
    compare(first, second, items())
    assert (first.SerializeToString(), second.SerializeToString()) == before


# --- what comes out ---------------------------------------------------------------------------------------------

MADE = Comparison(
    (
        OutputComparison("logits", 31.234, 0.99987654, 0.98765, 0.123456, 17, 12.5),
        OutputComparison("a longer name", math.inf, 1.0, None, 0.0, 0, math.inf),
        OutputComparison("zeros\nand more", -math.inf, 0.0, 1.0, 1e-12, 123456, -3.0),
    ),
    1000,
)


def test_the_table():
    lines = str(MADE).split("\n")
    assert len(lines) == 4
    assert [line.split() for line in lines[1:]] == [
        ["logits", "31.23", "0.999877", "98.77", "0.1235", "17", "12.50"],
        ["a", "longer", "name", "inf", "1.000000", "-", "0", "0", "inf"],
        ["zeros", "and", "more", "-inf", "0.000000", "100.00", "1e-12", "123456", "-3.00"],
    ]
    for column in ("SNR dB", "cosine", "top-1 %", "max error", "worst sample", "its SNR dB"):
        assert column in lines[0]
    cosines = ("cosine", "0.999877", "1.000000", "0.000000")
    ends = {line.find(text) + len(text) for line, text in zip(lines, cosines, strict=True)}
    assert len(ends) == 1
    assert all(line == line.rstrip() for line in lines)


def test_for_json():
    made = MADE.to_dict()
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made["samples"] == 1000
    assert made["outputs"][0] == {
        "name": "logits",
        "snr_db": 31.234,
        "cosine": 0.99987654,
        "top1_agreement": 0.98765,
        "max_abs_error": 0.123456,
        "worst_sample": 17,
        "worst_sample_snr_db": 12.5,
        "problem": "",
        "broken": False,
    }
    assert made["outputs"][1]["snr_db"] is made["outputs"][1]["worst_sample_snr_db"] is None
    assert made["outputs"][2]["snr_db"] is None


def test_what_comes_out_has_plain_types():
    comparison = compare(linear(WEIGHT), linear(NOISY), items())
    types = {name: type(value) for name, value in vars(only(comparison)).items()}
    assert types == {
        "name": str,
        "snr_db": float,
        "cosine": float,
        "top1_agreement": float,
        "max_abs_error": float,
        "worst_sample": int,
        "worst_sample_snr_db": float,
        "problem": str,
        "broken": bool,
    }
    assert type(comparison.samples) is int
    json.dumps(comparison.to_dict(), allow_nan=False)
    with pytest.raises(AttributeError):
        comparison.samples = 3
    with pytest.raises(AttributeError):
        only(comparison).snr_db = 3


def test_noise_alone_is_as_far_off_as_can_be():
    assert [snr_db(0.0, 1.0), snr_db(0.0, 0.0), snr_db(1.0, 0.0)] == [-np.inf, np.inf, np.inf]
    assert snr_db(100.0, 1.0) == 20
