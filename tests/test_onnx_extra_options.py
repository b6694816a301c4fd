"""The options of ONNX Runtime's quantizer: each does with `quantize` what it does without, or is refused."""

import copy
import logging

import numpy as np
import onnx
import pytest
from norm_models import Nodes
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from test_onnx_quantization import Network, batches, snr

from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.onnx.quantization.quantize import quantize_with_report
from bytenorm.onnx.quantizer.extra_options import check_extra_options

LOWERINGS = ("portable", "exact", "fused", "qdq")
TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


METHODS = {"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}


class Reader(CalibrationDataReader):
    def __init__(self, data):
        self.data, self.at, self.end = data, 0, len(data)

    def get_next(self):
        self.at += 1
        return self.data[self.at - 1] if self.at <= self.end else None

    def __len__(self):
        return len(self.data)

    def set_range(self, start_index, end_index):
        self.at, self.end = start_index, end_index


def stock(model, data, folder, extra, arguments):
    """Return what ONNX Runtime's quantizer makes of a model alone, as its users call it."""
    before, prepared, made = (str(folder / f"{name}.onnx") for name in ("before", "prepared", "made"))
    onnx.save(model, before)
    logging.disable(logging.WARNING)
    try:
        quant_pre_process(before, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            made,
            Reader(data),
            quant_format=getattr(QuantFormat, arguments["quant_format"]),
            per_channel=arguments["per_channel"],
            activation_type=TYPES[arguments["activation_type"]],
            weight_type=TYPES[arguments["weight_type"]],
            calibrate_method=METHODS[arguments["calibrate_method"]],
            nodes_to_exclude=arguments.get("nodes_to_exclude"),
            extra_options=extra,
        )
    finally:
        logging.disable(logging.NOTSET)
    return onnx.load(made)


def network(seed=0):
    """Return one with norms behind an input, a pool, a Relu and a concatenation."""
    n = Network(seed=seed).norm("first").conv(6).max_pool()
    pooled, width = n.last, n.channels
    n.norm("second").relu().conv(4).relu().norm("third").clip(-1.5, 2.5).concat(pooled, channels=width)
    return n.norm("fourth").relu().conv(5).relu().finish()


def scales(model):
    """Return the scale and the zero point of each activation by name."""
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return {
        name.removesuffix("_scale"): (float(value.item()), values[f"{name.removesuffix('_scale')}_zero_point"])
        for name, value in values.items()
        if name.endswith("_scale")
        and value.size == 1
        and values.get(f"{name.removesuffix('_scale')}_zero_point", np.zeros(1, np.int32)).dtype != np.int32
        and f"{name.removesuffix('_scale')}_quantized" not in values
    }


# What may be said beside each: other options, or arguments.
DRAWN = [
    {"ActivationSymmetric": True},
    {"ActivationRestrictedAsymmetric": True},
    {"WeightSymmetric": False},
    {"WeightSymmetric": True},
    {"ForceQuantizeNoInputCheck": True},
    {"MatMulConstBOnly": True},
    {"AddQDQPairToWeight": True},
    {"QuantizeBias": False},
    {"DedicatedQDQPair": True},
    {"UseQDQContribOps": True},
    {"QDQKeepRemovableActivations": True},
    {"QDQDisableWeightAdjustForInt32Bias": True},
    {"OpTypesToExcludeOutputQuantization": ["Conv"]},
    {"OpTypesToExcludeOutputQuantization": ["Gemm", "MaxPool", "Relu"]},
    {"QDQOpTypePerChannelSupportToAxis": {"Gemm": 0}},
    {"MinimumRealRange": 3.0},
    {"CalibTensorRangeSymmetric": True},
    {"CalibPercentile": 99.0},
    {"CalibMovingAverage": True},
    {"CalibStridedMinMax": 2},
    {"CalibMaxIntermediateOutputs": 1},
]


def draw(seed):
    """Return options, and arguments of quantize that they are valid with."""
    rng = np.random.default_rng([41, seed])
    quant_format, activations = str(rng.choice(["QDQ", "QDQ", "QOperator"])), str(rng.choice(["uint8", "int8"]))
    arguments = {
        "quant_format": quant_format,
        "activation_type": activations,
        "weight_type": "int8",
        "per_channel": bool(rng.random() < 0.6),
        "calibrate_method": str(rng.choice(["minmax", "minmax", "percentile"])),
    }
    extra = {}
    for one in rng.choice(len(DRAWN), size=3, replace=False):
        tried = {**extra, **DRAWN[one]}
        try:
            check_extra_options(
                tried,
                quant_format=quant_format,
                activation_type=activations,
                weight_type="int8",
                per_channel=arguments["per_channel"],
                calibrate_method=arguments["calibrate_method"],
                method=None,
            )
        except ValueError:
            continue
        extra = tried
    return extra, arguments


def promises(made, extra, arguments, float_model):
    """Require of an 8-bit model what its options say; where norms are lowered, too."""
    weights = {t.name for t in float_model.graph.initializer}
    zeros = {int(zero) for name, (_, zero) in scales(made).items() if name not in weights}
    ends = {"uint8": (0, 128), "int8": (0,)}[arguments["activation_type"]]
    if extra.get("ActivationSymmetric"):
        assert zeros <= {ends[-1]}
    if extra.get("ActivationRestrictedAsymmetric"):
        assert zeros <= set(ends)
    nodes = list(made.graph.node)
    if extra.get("UseQDQContribOps"):
        assert {n.domain for n in nodes if n.op_type.endswith("eLinear")} == {"com.microsoft"}
    constants = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    if extra.get("DedicatedQDQPair"):
        for node in nodes:
            readers = [n for n in nodes if node.output[0] in n.input]
            if node.op_type == "DequantizeLinear" and node.input[0] not in constants:
                assert len(readers) <= 1
            if node.op_type == "QuantizeLinear" and all(r.op_type == "DequantizeLinear" for r in readers):
                assert len(readers) <= 1
    layers = {n.name for n in float_model.graph.node if n.op_type in ("Conv", "Gemm")}
    for node in nodes:
        if node.name not in layers or arguments["quant_format"] != "QDQ":
            continue
        makers = [next((m for m in nodes if tensor in m.output), None) for tensor in node.input]
        if extra.get("AddQDQPairToWeight"):
            assert makers[1].input[0] not in constants
        if extra.get("QuantizeBias") is False and len(makers) > 2:
            assert makers[2] is None
            assert constants[node.input[2]].dtype == np.float32
    activations = [n for n in float_model.graph.node if n.op_type in ("Relu", "Clip")]
    if extra.get("QDQKeepRemovableActivations") and arguments["lowering"] == "qdq":
        assert sum(n.op_type in ("Relu", "Clip") for n in nodes) == len(activations)


def test_an_output_behind_a_clip_with_pairs_of_its_own():
    """The quantizer's own way to a pair for each reader takes the Clip away, and leaves the output in float."""
    n, rng = Nodes(), np.random.default_rng(3)
    n.input("x", np.float32, ["N", 3, 6, 6])
    conv = n.node("Conv", ["x", n.constant("w", rng.normal(size=(4, 3, 3, 3)), np.float32)], "c")
    ends = [n.constant(name, end, np.float32) for name, end in (("low", -0.7), ("high", 0.8))]
    clipped = n.node("Clip", [conv, *ends], "clipped")
    n.output(clipped, np.float32, None)
    values = rng.uniform(0.5, 1.5, 4), rng.normal(0, 0.3, 4), np.zeros(4), np.ones(4)
    names = [n.constant(f"n{i}", value, np.float32) for i, value in enumerate(values)]
    normed = n.node("BatchNormalization", [clipped, *names], "normed")
    n.output(n.node("Add", [clipped, normed], "y"), np.float32, None)
    model, data = n.model(17), [{"x": rng.normal(size=(4, 3, 6, 6)).astype(np.float32)} for _ in range(2)]
    for extra in ({"DedicatedQDQPair": True}, {"DedicatedQDQPair": True, "QuantizeBias": False}):
        made = bno.quantize(model, data, extra_options=extra)
        found = bno.compare(model, made, data)
        assert min(output.snr_db for output in found.outputs) > 30


def compared(seed, folder):
    """Require the same quantization of each tensor as ONNX Runtime's quantizer alone gives; return SNRs in dB.

    Of that quantizer alone, of `quantize` with nothing else tried, and of all that it tries.
    """
    extra, arguments = draw(seed)
    model, data = network(seed), batches(seed=seed)
    before = copy.deepcopy(extra)
    # With the one ONNX Runtime 1.32 forgets the batches that it was to count; with the other its histograms grow.
    handed = {name: value for name, value in before.items() if name != "CalibMaxIntermediateOutputs"}
    if "CalibMovingAverage" not in handed:
        handed.pop("CalibStridedMinMax", None)
    alone = stock(model, data, folder, handed, arguments)
    plain = bno.quantize(model, data, lowering="qdq", keep_int8=True, fast=True, extra_options=extra, **arguments)
    assert extra == before
    weights = {t.name for t in model.graph.initializer}
    # Alone it drops activations though the codes of symmetric ranges reach beyond them: those have another range.
    limited = {n.input[0] for n in model.graph.node if n.op_type in ("Relu", "Clip")}
    ours, theirs = scales(plain), scales(alone)
    both = (set(ours) & set(theirs)) - weights - (limited if "CalibTensorRangeSymmetric" in extra else set())
    assert len(both) >= 6
    for tensor in both:
        np.testing.assert_allclose(ours[tensor][0], theirs[tensor][0], rtol=1e-4, err_msg=tensor)
        assert abs(int(ours[tensor][1]) - int(theirs[tensor][1])) <= 1, tensor
    lowering = LOWERINGS[seed % 4]
    made, report = quantize_with_report(
        model, data, lowering=lowering, keep_int8=True, extra_options=extra, **arguments
    )
    onnx.checker.check_model(made, full_check=True)
    assert not [o.problem for o in report.outcomes if o.problem]
    assert not [step.problem for step in report.steps if step.problem.startswith("it failed")]
    promises(made, extra, {**arguments, "lowering": lowering}, model)
    more = batches(seed=seed + 1000, count=12)
    return [snr(model, one, more) for one in (alone, plain, made)]


@pytest.mark.thorough
def test_options_do_what_they_do_without_bytenorm(tmp_path):
    """Each network rounds some tensors that ONNX Runtime's leaves in float, and the other way round: on the whole
    those of bytenorm, whose norms keep their parameters, are nearer to the float ones."""
    found = np.array([compared(seed, tmp_path) for seed in range(24)])
    alone, plain, tried = found.T
    assert np.mean(plain - alone) > 0
    assert np.mean(tried - plain) > 0


@pytest.mark.parametrize(
    ("extra", "arguments", "says"),
    [
        ({"SmoothQuant": True}, {}, "SmoothQuant is not handed through: it would move scales through norms"),
        ({"EnableSubgraph": True}, {}, "EnableSubgraph is not handed through: the static quantizer leaves"),
        ({"BlockSize": 32}, {}, "BlockSize is not handed through: the quantizer takes blocks of weights with tw"),
        ({"ActivationSymmetrical": True}, {}, "'ActivationSymmetrical' is unknown: did you mean 'Activation"),
        ({"DedicatedQDQPair": True}, {"quant_format": "QOperator"}, "DedicatedQDQPair is for the format QDQ, no"),
        ({"MatMulConstBOnly": True}, {}, "MatMulConstBOnly is for the format QOperator, not QDQ"),
        ({"CalibPercentile": 99.9}, {}, "CalibPercentile must come with calibrate_method='percentile', got None"),
        ({"CalibPercentile": 0}, {"calibrate_method": "percentile"}, "CalibPercentile must be above 0"),
        (
            {"CalibMovingAverage": True},
            {"calibrate_method": "best"},
            "CalibMovingAverage must come with calibrate_method",
        ),
        ({"CalibMovingAverageConstant": 0.1}, {}, "CalibMovingAverageConstant has no effect without"),
        (
            {"ActivationRestrictedAsymmetric": True},
            {"activation_type": "int8"},
            "ActivationRestrictedAsymmetric is",
        ),
        ({"MinimumRealRange": 1}, {"method": "mse"}, "MinimumRealRange contradicts method='mse'"),
        ({"QDQOpTypePerChannelSupportToAxis": {"Gemm": 0}}, {"per_channel": False}, "QDQOpTypePerChannelSupport"),
        (
            {"OpTypesToExcludeOutputQuantization": ["BatchNormalization"]},
            {},
            "OpTypesToExcludeOutputQuantization n",
        ),
        (
            {"OpTypesToExcludeOutputQuantization": ["ConvTranspose", "Conv"]},
            {},
            "OpTypesToExcludeOutputQuantizati",
        ),
        (
            {"CalibStridedMinMax": 3, "CalibMovingAverage": True},
            {},
            "CalibStridedMinMax: 4 batches cannot be divid",
        ),
        ({"CalibStridedMinMax": 0}, {}, "CalibStridedMinMax must be at least 1, got 0"),
        ({"MinimumRealRange": -1.0}, {}, "MinimumRealRange must be a positive number"),
        (
            {"TensorQuantOverrides": {"nothing": [{"rmax": 1.0}]}},
            {},
            r"TensorQuantOverrides\['nothing'\]: there is no",
        ),
        (
            {"TensorQuantOverrides": {"relu3": [{"scale": 0.1}]}},
            {},
            r"TensorQuantOverrides\['relu3'\] must have scale a",
        ),
        (
            {"TensorQuantOverrides": {"relu3": [{"rmux": 0.1}]}},
            {},
            r"TensorQuantOverrides\['relu3'\]: the quantizer k",
        ),
        (
            {"TensorQuantOverrides": {"x": [{"scale": 1.0, "zero_point": 300}]}},
            {},
            r"TensorQuantOverrides\['x'\] must have a ",
        ),
        (
            {"TensorQuantOverrides": {"x": [{"scale": 0.0, "zero_point": 3}]}},
            {},
            r"TensorQuantOverrides\['x'\] must have a ",
        ),
        (
            {"TensorQuantOverrides": {"relu3": []}},
            {},
            r"TensorQuantOverrides\['relu3'\] must have a dict at least",
        ),
        (
            {"TensorQuantOverrides": {"relu3": [{"rmin": -1.0}]}},
            {"method": "mse"},
            r"TensorQuantOverrides\['second'\] says what the norms' method says",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(extra, arguments, says):
    with pytest.raises(ValueError, match=f"^extra_options: {says}"):
        bno.quantize(network(), batches(), extra_options=extra, **arguments)


@pytest.mark.parametrize(
    "extra",
    [
        [("ActivationSymmetric", True)],
        {"ActivationSymmetric": 1},
        {"CalibMaxIntermediateOutputs": True},
        {"MinimumRealRange": "1"},
        {"OpTypesToExcludeOutputQuantization": "Conv"},
        {"QDQOpTypePerChannelSupportToAxis": {"Gemm": 0.5}},
        {"TensorQuantOverrides": [("x", [])]},
        {"TensorQuantOverrides": {"relu3": {"rmax": 1.0}}},
        {"TensorQuantOverrides": {"relu3": [{"quant_type": "QInt8"}]}},
    ],
)
def test_types(extra):
    with pytest.raises(TypeError, match=r"^extra_options\b"):
        bno.quantize(network(), batches(), extra_options=extra)


def test_what_says_nothing_is_taken():
    nothing = {"SmoothQuant": False, "DedicatedQDQPair": False, "CalibPercentile": None, "BlockSize": 0}
    want, got = (bno.quantize(network(), batches(), fast=True, extra_options=e) for e in (None, nothing))
    assert got == want


@pytest.mark.thorough(but=2)
@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("quant_format", ["QDQ", "QOperator"])
def test_tensors_with_a_quantization_of_their_own(quant_format, lowering):
    """Of an input, of the output of a norm by any of its names, of a concatenation: no step changes it."""
    says = {"x": (0.05, 100), "second": (0.04, 10), "concat7": (0.07, 70), "conv1": (0.1, 128)}
    extra = {
        "TensorQuantOverrides": {
            name: [{"scale": scale, "zero_point": zero}] for name, (scale, zero) in says.items()
        }
    }
    made = bno.quantize(
        network(), batches(count=8, size=8), lowering=lowering, quant_format=quant_format, extra_options=extra,
        calibrate_method="best",
    )  # fmt: skip
    found = scales(made)
    for name, said in says.items():
        if name == "concat7" and lowering == "fused":
            continue  # its codes are not made
        got = found.get(name, found.get("relu3"))
        assert (np.float32(got[0]), int(got[1])) == (np.float32(said[0]), said[1]), name


def test_a_tensor_without_a_scale_of_its_own():
    extra = {"TensorQuantOverrides": {"flatten12": [{"rmax": 1.0}]}}
    with pytest.raises(ValueError, match=r"^extra_options: TensorQuantOverrides\['flatten12'\]: the quantiz"):
        bno.quantize(network(), batches(), extra_options=extra)


def test_16_bits_for_one_tensor():
    """What reads and makes it stays in float, and is told; everything else has 8 bits."""
    model = network()
    model.opset_import[0].version = 21
    extra = {"TensorQuantOverrides": {"fourth": [{"quant_type": QuantType.QUInt16}]}}
    with pytest.warns(bno.LoweringWarning, match="^fourth stays in float"):
        made = bno.quantize(model, batches(), extra_options=extra)
    assert len(bno.inspect(made).in_float) == 1
    assert snr(model, made, batches(count=8)) > 25


def test_symmetric_scales_by_a_method():
    for activations, middle in (("uint8", 128), ("int8", 0)):
        made = bno.quantize(
            network(), batches(), method="mse", activation_type=activations, keep_int8=True,
            extra_options={"ActivationSymmetric": True},
        )  # fmt: skip
        assert {int(zero) for name, (_, zero) in scales(made).items() if "/" not in name} == {middle}
        assert snr(network(), made, batches(count=8)) > 25


def test_activations_that_nothing_limits_stay():
    """A Relu whose output is not quantized is dropped by the quantizer, with nothing in its place."""
    n = Network().norm("first").conv(4).relu()
    n.layer("Sin")
    model = n.conv(5).relu().finish()
    extra = {"OpTypesToExcludeOutputQuantization": ["Relu"]}
    made = bno.quantize(model, batches(), extra_options=extra)
    assert snr(model, made, batches(count=8)) > 25


def test_a_reader_of_the_quantizer_is_data():
    """Read once, though samples are needed for ranges, for judging and for the comparison."""
    data = batches(count=8)
    assert bno.quantize(network(), Reader(data)) == bno.quantize(network(), data)


# --- which nodes -------------------------------------------------------------------------------------------------


def in_8_bits(made):
    """Return the layers and norms of a model that read codes, by name."""
    makers = {tensor: node for node in made.graph.node for tensor in node.output}
    return {
        node.name
        for node in made.graph.node
        if node.op_type.startswith("QLinear")
        or (
            node.op_type in ("Conv", "Gemm", "BatchNormalization")
            and all(t in makers and makers[t].op_type == "DequantizeLinear" for t in node.input[:2])
        )
    }


NORMS = {"first", "second", "third", "fourth"}
LAYERS = {"conv1", "conv4", "conv9"}


@pytest.mark.thorough(but=4)
@pytest.mark.parametrize("quant_format", ["QDQ", "QOperator"])
@pytest.mark.parametrize(
    ("arguments", "norms", "layers"),
    [
        ({"op_types_to_quantize": ["Conv", "BatchNormalization", "Relu", "Clip"]}, NORMS, LAYERS),
        ({"op_types_to_quantize": ["BatchNormalization"]}, NORMS, set()),
        ({"op_types_to_quantize": ["Conv", "Gemm", "Relu"]}, set(), LAYERS),
        ({"nodes_to_quantize": ["first", "conv4", "third", "clip6"]}, {"first", "third"}, {"conv4"}),
        ({"nodes_to_quantize": ["first", "conv4"], "op_types_to_quantize": ["Conv"]}, set(), {"conv4"}),
        (
            {"op_types_to_quantize": ["Conv", "BatchNormalization"], "nodes_to_exclude": ["first"]},
            NORMS - {"first"},
            LAYERS,
        ),
    ],
)
def test_only_what_is_asked_for(arguments, norms, layers, quant_format):
    model, data = network(), batches()
    made, report = quantize_with_report(model, data, lowering="exact", quant_format=quant_format, **arguments)
    onnx.checker.check_model(made, full_check=True)
    found = bno.inspect(made)
    of = {norm.name: norm.name.partition("/")[0] for norm in found.norms}
    assert set(of.values()) == NORMS
    assert NORMS - {of[norm.name] for norm in found.in_float} == norms
    assert {outcome.name for outcome in report.outcomes if outcome.problem} == NORMS - norms
    layers_made = {name.removesuffix("_quant") for name in in_8_bits(made)} & LAYERS
    assert layers_made == layers
    assert report.gone == ()
    assert snr(model, made, batches(count=8)) > 25


def test_norms_that_nobody_asks_for_are_folded():
    model = Network().conv(4).norm("folds").relu().conv(5).norm("folds, too").relu().finish()
    made, report = quantize_with_report(model, batches(), op_types_to_quantize=["Conv"])
    assert report.folded == ("folds", "folds, too")
    assert snr(model, made, batches(count=8)) > 25


def test_a_norm_that_is_written_out_is_asked_for_as_a_norm_or_by_its_nodes():
    model = Network().conv(4).relu().norm("n", written="Mul").conv(5).finish()
    for types, eight_bits in ((["BatchNormalization"], True), (["Mul", "Add"], True), (["Mul", "Conv"], False)):
        found = bno.inspect(quantize_with_report(model, batches(), op_types_to_quantize=types, fast=True)[0])
        assert (not found.in_float) is eight_bits


def test_a_softmax_that_is_asked_for():
    n = Network().conv(4).relu()
    n.layer("GlobalAveragePool").layer("Flatten").gemm(5).layer("Softmax")
    n.nodes[-1].output[0] = "y"
    n.output("y", np.float32, ["n", 5])
    for asked, weak in (({}, 1), ({"nodes_to_quantize": ["conv1", n.nodes[-1].name]}, 0)):
        assert len(quantize_with_report(n.model(), batches(), fast=True, **asked)[1].weak) == weak


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (
            {"op_types_to_quantize": ["Convolution"]},
            ValueError,
            "op_types_to_quantize: the quantizer knows no 'C",
        ),
        ({"op_types_to_quantize": []}, ValueError, "op_types_to_quantize must have one name at least, got none"),
        ({"op_types_to_quantize": "Conv"}, TypeError, "op_types_to_quantize must be a list of names, got 'Conv'"),
        ({"nodes_to_quantize": [3]}, TypeError, "nodes_to_quantize must be a list of names"),
        ({"nodes_to_quantize": ["conv7"]}, ValueError, "nodes_to_quantize: the model has no node 'conv7'"),
        (
            {"nodes_to_quantize": ["conv1"], "nodes_to_exclude": ["conv1"]},
            ValueError,
            "nodes_to_quantize: 'conv1' is in nodes_to_exclude, too",
        ),
    ],
)
def test_what_is_no_choice_of_nodes(arguments, error, says):
    with pytest.raises(error, match=f"^{says}"):
        bno.quantize(network(), batches(), **arguments)


# --- the command -------------------------------------------------------------------------------------------------


def test_from_the_command_line(tmp_path, capsys):
    model, data, made = (str(tmp_path / name) for name in ("m.onnx", "x.npz", "made.onnx"))
    onnx.save(network(), model)
    np.savez(data, **batches()[0])
    command = ["quantize", model, "--data", data, "-o", made, "--force", "--fast"]
    says = '{"x": [{"scale": 0.05, "zero_point": 100}], "fourth": [{"quant_type": "QUInt8", "rmax": 3.0}]}'
    options = [
        "--only-type=Conv", "--only-type=BatchNormalization", "--only-type=Relu",
        "--only=conv1", "--only=first", "--only=fourth", "--only=relu8",
        "--extra-option=DedicatedQDQPair=true", f"--extra-option=TensorQuantOverrides={says}",
    ]  # fmt: skip
    assert main([*command, *options]) == 0
    overrides = {"x": [{"scale": 0.05, "zero_point": 100}], "fourth": [{"rmax": 3.0}]}
    want, _ = quantize_with_report(
        model, data, fast=True,
        op_types_to_quantize=["Conv", "BatchNormalization", "Relu"],
        nodes_to_quantize=["conv1", "first", "fourth", "relu8"],
        extra_options={"DedicatedQDQPair": True, "TensorQuantOverrides": overrides},
    )  # fmt: skip
    assert onnx.load(made) == want
    capsys.readouterr()
    for wrong, says in (
        ("--extra-option=DedicatedQDQPair", "wanted NAME=VALUE with a value in JSON"),
        ("--extra-option=DedicatedQDQPair=yes", "wanted NAME=VALUE with a value in JSON"),
        ("--extra-option=Dedicated=true", "--extra-option: 'Dedicated' is unknown"),
        ("--extra-option=DedicatedQDQPair=1", "--extra-option: DedicatedQDQPair"),
        ('--extra-option=TensorQuantOverrides={"x": [{"quant_type": "Int8"}]}', "quant_type must be one of QInt8"),
        ("--only=nothing", "--only: the model has no node 'nothing'"),
        ("--only-type=Convolution", "--only-type: the quantizer knows no 'Convolution'"),
    ):
        assert main([*command, wrong]) == 2
        assert says in capsys.readouterr().err
